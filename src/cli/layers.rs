//! `laminafs layers`: what each layer adds, changes, deletes, and what is hidden of it.

use super::complain;
use super::context::Context;
use super::output::{self, SCHEMA, Table};
use super::target::{TARGETS, TargetArgs};
use crate::image::format::{ellipsis, name, one_line, size3};
use crate::provenance::{Facts, Merged, Number, Summary};
use crate::store::Image;
use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The width of the column with the commands.
const COMMAND_WIDTH: usize = 45;

/// Arguments of `laminafs layers`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs layers [OPTIONS] TARGET[@N]\n       laminafs layers [OPTIONS] --lower DIR[:DIR...]",
    after_help = format!("{TARGETS}\n\n\
    The lowest layer comes first. SIZE is what a layer takes unpacked, HIDDEN the part of it that layers above replace or \
    delete. +, ~ and - are the paths that the layer adds, changes and deletes: of a directory that is gone it alone, of one that \
    was moved all that is in it as added, as diff lists them. IMAGES are the others in the store that have \
    the layer too.\n\n\
    Examples:\n  \
    laminafs layers debian:12\n  \
    laminafs layers --no-trunc oci:layout:web\n  \
    laminafs layers --json docker-archive:web.tar | jq '.layers[].hidden'")
)]
pub struct LayersArgs {
    /// Do not shorten ids and texts
    #[arg(long)]
    no_trunc: bool,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// The target
    #[arg(value_name = "TARGET")]
    words: Vec<OsString>,
}

/// Lists the layers.
pub fn run(args: &LayersArgs, context: &Context) -> anyhow::Result<()> {
    let target = args.target.open_alone(&args.words, context)?;
    let merged = &target.merged;
    let sharing = Sharing::of(context, merged)?;
    let summaries = merged.summaries();
    target.check()?;
    let rows = merged.numbers().zip(&summaries);
    if args.json {
        let layers: Vec<Value> = rows.map(|(number, summary)| object(merged, number, summary, &sharing)).collect();
        let image = merged.image;
        return output::document(&json!({ "schema": SCHEMA, "target": merged.name, "image": image, "layers": layers }));
    }
    let mut table = Table::new(&[
        "LAYER",
        "DIGEST",
        "COMPRESSED",
        "SIZE",
        "HIDDEN",
        "FILES",
        "DIRS",
        "+",
        "~",
        "-",
        "IMAGES",
        "COMMAND",
    ]);
    for (number, summary) in rows {
        let facts = &merged.layer(number).facts;
        let digest = match facts.diff_id {
            Some(id) if args.no_trunc => id.to_string(),
            Some(id) => id.0.short(),
            None => "-".to_owned(),
        };
        let made_by = made_by(facts);
        let command = if args.no_trunc { made_by } else { ellipsis(&made_by, COMMAND_WIDTH) };
        let counts = &summary.counts;
        table.row([
            number.to_string(),
            digest,
            facts.compressed.map_or_else(|| "-".to_owned(), size3),
            size3(counts.bytes),
            size3(summary.hidden),
            counts.files.to_string(),
            counts.directories.to_string(),
            summary.added.to_string(),
            summary.changed.to_string(),
            summary.deleted.to_string(),
            sharing.with(number).iter().map(Image::display).collect::<Vec<_>>().join(","),
            command,
        ]);
    }
    table.print()
}

/// What the last column says of a layer.
pub fn made_by(facts: &Facts) -> String {
    match (&facts.command, &facts.directory) {
        (Some(command), _) => one_line(command),
        (None, _) if facts.writable => "(writable)".to_owned(),
        (None, Some(directory)) if facts.diff_id.is_none() => name(directory.as_os_str().as_bytes()).into_owned(),
        (None, _) => "<missing>".to_owned(),
    }
}

/// What an image is called in documents: its first name, or its id.
fn whole_name(image: &Image) -> String {
    image.tags.first().map_or_else(|| image.record.id.to_string(), |tag| tag.name.to_string())
}

fn object(merged: &Merged, number: Number, summary: &Summary, sharing: &Sharing) -> Value {
    let (facts, counts) = (&merged.layer(number).facts, &summary.counts);
    json!({
        "layer": number.get(),
        "diff_id": facts.diff_id,
        "chain_id": facts.chain_id,
        "blob": facts.blob,
        "compressed": facts.compressed,
        "directory": facts.directory.as_ref().map(|path| path.to_string_lossy()),
        "writable": facts.writable,
        "command": facts.command,
        "size": counts.bytes,
        "hidden": summary.hidden,
        "files": counts.files,
        "directories": counts.directories,
        "symlinks": counts.symlinks,
        "others": counts.others,
        "hard_links": counts.hard_links,
        "whiteouts": counts.whiteouts,
        "opaque": counts.opaque,
        "added": summary.added,
        "changed": summary.changed,
        "deleted": summary.deleted,
        "images": sharing.with(number).iter().map(whole_name).collect::<Vec<_>>(),
    })
}

/// Which images of the store have the layers of a target, other than itself.
#[derive(Debug)]
struct Sharing(Vec<Vec<Image>>);

impl Sharing {
    /// Looks into the store, if there is one. Images with damaged records are left out, and told of.
    fn of(context: &Context, merged: &Merged) -> anyhow::Result<Self> {
        let mut sharing = vec![Vec::new(); merged.layers().len()];
        let (images, damaged) = match context.store_if_there()? {
            Some(store) => store.sound_images()?,
            None => Default::default(),
        };
        damaged.iter().for_each(|error| complain(&format!("note: {error}")));
        // A writable layer is not the image that it stands on.
        let writable = merged.layers().last().is_some_and(|layer| layer.facts.writable);
        let own = merged.image.filter(|_| !writable);
        for image in images.iter().filter(|image| Some(image.record.id) != own) {
            for (layer, sharing) in merged.layers().iter().zip(&mut sharing) {
                let chain = layer.facts.chain_id;
                if chain.is_some() && image.record.layers.iter().any(|known| Some(known.chain_id) == chain) {
                    sharing.push(image.clone());
                }
            }
        }
        Ok(Self(sharing))
    }

    /// The images that have a layer too.
    fn with(&self, number: Number) -> &[Image] {
        self.0.get(number.index()).map_or(&[], Vec::as_slice)
    }
}
