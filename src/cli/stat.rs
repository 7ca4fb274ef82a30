//! `laminafs stat`: everything about a path in a merged view.

use super::context::Context;
use super::entries::{EntryObject, mode_text, shown, time};
use super::layers::made_by;
use super::ls::{ViewArgs, find};
use super::output::{self, SCHEMA};
use super::target::{TARGETS, TargetArgs};
use super::{Failure, for_each, whence};
use crate::image::format::name;
use crate::provenance::{self, Kind, Merged, NodeId, Number, Occurrence};
use anyhow::bail;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Arguments of `laminafs stat`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs stat [OPTIONS] TARGET[@N] PATH...\n       laminafs stat [OPTIONS] --lower DIR[:DIR...] PATH...",
    after_help = format!("{TARGETS}\n\n\
    Examples:\n  \
    laminafs stat debian:12 /etc/os-release\n  \
    laminafs stat -L debian:12@1 /bin/sh")
)]
pub struct StatArgs {
    /// Follow a symbolic link
    #[arg(short = 'L', long)]
    dereference: bool,
    #[command(flatten)]
    view: ViewArgs,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// TARGET, then the paths
    #[arg(value_name = "TARGET PATH", required = true)]
    words: Vec<OsString>,
}

/// Of an image without layers, which `ls` shows as an empty directory.
const ROOT_OF_NOTHING: [&str; 7] = [
    "  File: /",
    "  Type: directory",
    "  Size: 0",
    "  Mode: 0755 drwxr-xr-x",
    " Owner: 0:0",
    " Links: 1",
    " Layer: none: there are no layers, and so nothing but an empty root",
];

/// An entry, and what has to be read for it.
#[derive(Serialize)]
struct StatObject {
    #[serde(flatten)]
    entry: EntryObject,
    links: usize,
    digest: Option<String>,
    command: Option<String>,
    data: Option<DataObject>,
}

/// Where the data of a file of metadata are.
#[derive(Serialize)]
struct DataObject {
    layer: Option<u16>,
    path: String,
}

impl DataObject {
    fn new(merged: &Merged, node: NodeId, found: &Occurrence) -> anyhow::Result<Option<Self>> {
        let object = |(layer, path): (Option<Number>, Vec<u8>)| Self {
            layer: layer.map(Number::get),
            path: String::from_utf8_lossy(&path).into_owned(),
        };
        match merged.data_of_metacopy(node, found) {
            Err(provenance::Error::NoData { .. }) => Ok(None),
            data => Ok(data?.map(object)),
        }
    }
}

/// Prints what is known.
pub fn run(args: &StatArgs, context: &Context) -> Result<(), Failure> {
    let (target, paths) = args.target.open_partly(&args.words, 1..=usize::MAX, context)?;
    let (merged, view) = (&target.merged, args.view.view(&target)?);
    let (mut objects, mut text) = (Vec::new(), Vec::new());
    let found_all = for_each(paths, |path| {
        let node = find(merged, path.as_bytes(), view, args.dereference)?;
        let Some(found) = merged.seen(node, view) else {
            if merged.layers().is_empty() && node == NodeId::ROOT {
                let entry = EntryObject::of_no_layers();
                objects.push(StatObject { entry, links: 1, digest: None, command: None, data: None });
                text.extend(ROOT_OF_NOTHING.map(str::to_owned));
                return Ok(());
            }
            bail!("no layer of {} has {}", merged.name, shown(&merged.path(node)))
        };
        let digest = whence::digest(merged, node, found)?.map(|digest| digest.to_string());
        let layer = merged.layer(found.layer());
        let (links, data) = (merged.links(found), DataObject::new(merged, node, found)?);
        if args.json {
            let (entry, command) = (EntryObject::new(merged, node, found), layer.facts.command.clone());
            objects.push(StatObject { entry, links, digest, command, data });
        } else {
            text.extend(lines(merged, node, found, links, digest));
            text.extend(data.map(|data| match data.layer {
                Some(layer) => format!("  Data: layer {layer}, {}", data.path),
                None => format!("  Data: {}", data.path),
            }));
        }
        Ok(())
    });
    if objects.is_empty() && text.is_empty() {
        return found_all;
    }
    target.check()?;
    if args.json {
        #[derive(Serialize)]
        struct Document<'a> {
            schema: u32,
            target: &'a str,
            entries: Vec<StatObject>,
        }
        output::document(&Document { schema: SCHEMA, target: &merged.name, entries: objects })?;
    } else {
        output::lines(text)?;
    }
    found_all
}

fn lines(merged: &Merged, node: NodeId, found: &Occurrence, links: usize, digest: Option<String>) -> Vec<String> {
    let (entry, layer) = (merged.entry(found), merged.layer(found.layer()));
    let mut lines = vec![format!("  File: {}", shown(&merged.path(node)))];
    if entry.kind == Kind::Symlink {
        lines.push(format!("    To: {}", name(layer.target(found.entry))));
    }
    lines.push(format!("  Type: {}{}", entry.kind.word(), if entry.opaque { ", opaque" } else { "" }));
    if matches!(entry.kind, Kind::Char | Kind::Block) {
        lines.push(format!("Device: {},{}", entry.device.0, entry.device.1));
    }
    lines.push(format!("  Size: {}", entry.size));
    lines.push(format!("  Mode: {:04o} {}", entry.mode, mode_text(entry)));
    lines.push(format!(" Owner: {}:{}", entry.uid, entry.gid));
    lines.push(format!("Modify: {}", time(entry.mtime)));
    lines.push(format!(" Links: {links}"));
    lines.extend(digest.map(|digest| format!("Digest: {digest}")));
    let id = merged.short_digest(found.layer()).map_or_else(String::new, |id| format!(" ({id})"));
    lines.push(format!(" Layer: {}{id}: {}", found.layer(), made_by(&layer.facts)));
    lines
}
