//! `laminafs whence`: which layer gives a path, and what all the others do to it.

use super::context::Context;
use super::entries::{EntryObject, absolute, mode_text, short_time, shown, size_text};
use super::ls::find;
use super::output::{self, SCHEMA, Table};
use super::target::{TARGETS, TargetArgs};
use super::{Failure, complain};
use crate::image::Digest;
use crate::image::format::{name, printable};
use crate::provenance::{self, Action, End, Merged, NodeId, Number, Occurrence, Touch};
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Arguments of `laminafs whence`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs whence [OPTIONS] TARGET[@N] PATH...\n       laminafs whence [OPTIONS] --lower DIR[:DIR...] PATH...",
    after_help = format!("{TARGETS}\n\n\
    The topmost layer comes first; the one that is seen is marked with an asterisk. Contents are compared where two \
    layers have a file of the same length. Symbolic links on the way are followed as in a mount; what layers have at the \
    path itself, behind a directory whose place a link has taken, is told of too.\n\n\
    Examples:\n  \
    laminafs whence debian:12 /etc/os-release\n  \
    laminafs whence -L web /bin/sh\n  \
    laminafs whence --json oci:layout:web /etc/passwd /etc/shadow | jq '.paths[].layer'\n\n\
    Exit codes: 0 done, 1 failed or no layer has one of the paths, 2 the command line was not understood")
)]
pub struct WhenceArgs {
    /// Follow a symbolic link at the end of a path too; those on the way are followed as in a mount in any case
    #[arg(short = 'L', long)]
    dereference: bool,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// TARGET, then the paths
    #[arg(value_name = "TARGET PATH", required = true)]
    words: Vec<OsString>,
}

/// A path in the document.
#[derive(Serialize)]
struct PathObject {
    asked: String,
    path: Option<String>,
    layer: Option<u16>,
    layers: Vec<TouchObject>,
    literal: Option<LiteralObject>,
}

/// The path as it is written, where links lead elsewhere.
#[derive(Serialize)]
struct LiteralObject {
    path: String,
    layers: Vec<TouchObject>,
}

/// What one layer does.
#[derive(Serialize)]
struct TouchObject {
    layer: u16,
    action: &'static str,
    was: Option<&'static str>,
    changed: Vec<&'static str>,
    at: String,
    moved_from: Option<String>,
    moved_to: Option<String>,
    by_index: bool,
    visible: bool,
    hidden_by: Option<u16>,
    hidden_how: Option<&'static str>,
    hidden_at: Option<String>,
    digest: Option<String>,
    command: Option<String>,
    entry: Option<EntryObject>,
}

/// Tells where the paths come from.
pub fn run(args: &WhenceArgs, context: &Context) -> Result<(), Failure> {
    let (target, paths) = args.target.open_partly(&args.words, 1..=usize::MAX, context)?;
    let (merged, top) = (&target.merged, target.merged.top());
    let (mut objects, mut text, mut result) = (Vec::new(), Vec::new(), Ok(()));
    for asked in paths {
        let bare = asked.as_bytes().strip_prefix(b"/").unwrap_or(asked.as_bytes());
        let (node, itself) = match trace(merged, asked.as_bytes(), top, args.dereference) {
            Ok(traced) => traced,
            Err(why) => {
                complain(&why.to_string());
                result = Err(Failure::Told);
                let asked = absolute(bare);
                objects.push(PathObject { asked, path: None, layer: None, layers: Vec::new(), literal: None });
                continue;
            }
        };
        if args.json {
            objects.push(object(merged, (node, itself), top, absolute(bare))?);
        } else {
            text.push(table(merged, node, top, "")?);
            text.extend(itself.map(|node| table(merged, node, top, " itself, without following links")).transpose()?);
        }
    }
    target.check()?;
    if args.json {
        #[derive(Serialize)]
        struct Document<'a> {
            schema: u32,
            target: &'a str,
            paths: Vec<PathObject>,
        }
        output::document(&Document { schema: SCHEMA, target: &merged.name, paths: objects })?;
    } else {
        output::print(&text.join("\n"))?;
    }
    result
}

/// Where a path leads, and what has it itself if that is another one ([`Merged::trace`]). All layers are told of, so that
/// all must have been read there.
fn trace(merged: &Merged, path: &[u8], top: Number, follow: bool) -> anyhow::Result<(NodeId, Option<NodeId>)> {
    merged.check_way(path, None)?;
    let traced = match merged.trace(path, top, follow) {
        Some(traced) => traced,
        // That it is not there, and why.
        None => (find(merged, path, top.into(), follow)?, None),
    };
    merged.check_way(&merged.path(traced.0), None)?;
    Ok(traced)
}

fn object(
    merged: &Merged,
    (node, itself): (NodeId, Option<NodeId>),
    top: Number,
    asked: String,
) -> anyhow::Result<PathObject> {
    let path = |node| absolute(&merged.path(node));
    let layer = merged.visible(node, top).map(|found| found.layer().get());
    let literal = match itself {
        Some(node) => Some(LiteralObject { path: path(node), layers: touch_objects(merged, node, top)? }),
        None => None,
    };
    Ok(PathObject { asked, path: Some(path(node)), layer, layers: touch_objects(merged, node, top)?, literal })
}

fn touch_objects(merged: &Merged, node: NodeId, top: Number) -> anyhow::Result<Vec<TouchObject>> {
    merged.touches(node)?.iter().map(|touch| touch_object(merged, node, top, touch)).collect()
}

fn touch_object(merged: &Merged, node: NodeId, top: Number, touch: &Touch<'_>) -> anyhow::Result<TouchObject> {
    let found = touch.found;
    let was = match touch.action {
        Action::ChangesType(kind) => Some(kind.word()),
        _ => None,
    };
    Ok(TouchObject {
        layer: touch.layer.get(),
        action: word(touch.action),
        was,
        changed: touch.difference.words().into_iter().filter(|word| *word != "type").collect(),
        at: absolute(&touch.at),
        moved_from: touch.moved_from.as_deref().map(absolute),
        moved_to: touch.moved_to.as_deref().map(absolute),
        by_index: found.is_some_and(Occurrence::is_by_index),
        visible: found.is_some_and(|found| merged.visible(node, top) == Some(found)),
        hidden_by: found.and_then(|found| found.hidden_by()).map(Number::get),
        hidden_how: found.filter(|found| found.hidden_by().is_some()).map(|found| how(found.end)),
        hidden_at: found
            .and_then(|found| merged.culprit(node, found))
            .map(|(node, by)| absolute(&merged.path_in_layer(node, by))),
        digest: found.map(|found| digest(merged, node, found)).transpose()?.flatten().map(|digest| digest.to_string()),
        command: merged.layer(touch.layer).facts.command.clone(),
        entry: found.map(|found| EntryObject::new(merged, node, found)),
    })
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Adds => "adds",
        Action::ChangesType(_) => "changes_type",
        Action::ChangesContent => "changes_content",
        Action::ChangesAttributes => "changes_attributes",
        Action::Repeats => "repeats",
        Action::Replaces => "replaces",
        Action::Deletes => "deletes",
        Action::DeletesNothing => "deletes_nothing",
        Action::HidesParent(_) => "hides_parent",
        Action::MovesParent => "moves_parent",
    }
}

fn how(end: End) -> &'static str {
    match end {
        End::Never => "never",
        End::Superseded => "superseded",
        End::Merged => "merged",
        End::Deleted => "deleted",
        End::ParentOpaque => "parent_opaque",
        End::ParentDeleted => "parent_deleted",
        End::ParentReplaced => "parent_replaced",
    }
}

/// The digest of what is in a file; none where that is in no layer, which is told beside it.
pub fn digest(merged: &Merged, node: NodeId, found: &Occurrence) -> provenance::Result<Option<Digest>> {
    match merged.content(node, found) {
        Err(provenance::Error::NoData { .. }) => Ok(None),
        read => read,
    }
}

/// A line that says where the path comes from, with `which` behind it, and a table of all layers.
fn table(merged: &Merged, node: NodeId, top: Number, which: &str) -> anyhow::Result<String> {
    let path = shown(&merged.path(node)) + which;
    let visible = merged.visible(node, top);
    let head = match visible {
        Some(found) if merged.entry(found).is_dir() => {
            format!("{path}: a directory, its attributes from layer {}", found.layer())
        }
        Some(found) => format!("{path}: from layer {}", found.layer()),
        None => format!("{path}: not seen in {}", printable(&merged.name)),
    };
    let mut table = Table::new(&["LAYER", "MODE", "OWNER", "SIZE", "MODIFIED", "DIGEST", "WHAT IT DOES"]);
    for touch in &merged.touches(node)? {
        let mark = if touch.found.is_some() && touch.found == visible { "*" } else { "" };
        let number = format!("{}{mark}", touch.layer);
        let what = sentence(merged, node, touch);
        match touch.found.map(|found| (found, merged.entry(found))).filter(|(_, entry)| !entry.is_whiteout()) {
            None => table.row([&number, "", "", "", "", "", &what]),
            Some((found, entry)) => {
                let digest = digest(merged, node, found)?.map_or_else(String::new, |digest| digest.short());
                let owner = format!("{}:{}", entry.uid, entry.gid);
                let size = if entry.is_dir() { String::new() } else { size_text(entry) };
                table.row([&number, &mode_text(entry), &owner, &size, &short_time(entry.mtime), &digest, &what]);
            }
        }
    }
    Ok(format!("{head}\n{}", table.render()))
}

/// What a layer does at the path itself, in words.
pub fn words(touch: &Touch<'_>) -> String {
    let attributes = || touch.difference.attributes().join(", ");
    let mut text = match touch.action {
        Action::Adds => "added".to_owned(),
        Action::ChangesType(was) => format!("replaces a {}", was.word()),
        Action::ChangesContent if touch.difference.changing => "is being changed".to_owned(),
        Action::ChangesContent if touch.difference.attributes().is_empty() => "content changed".to_owned(),
        Action::ChangesContent => format!("content changed, and {}", attributes()),
        Action::ChangesAttributes => format!("only {} changed", attributes()),
        Action::Repeats => "the same again".to_owned(),
        Action::Replaces if touch.moved_from.is_some() => "hides all that was in it".to_owned(),
        Action::Replaces => "opaque: hides all that was in it".to_owned(),
        Action::Deletes => "deleted".to_owned(),
        Action::DeletesNothing => "whiteout of nothing".to_owned(),
        Action::HidesParent(_) | Action::MovesParent => "does something to a directory above".to_owned(),
    };
    if let Some(from) = &touch.moved_from {
        text += &format!(", directory moved from {}", shown(from));
    }
    if let Some(to) = &touch.moved_to {
        text += &format!(", moved to {}", shown(to));
    }
    text
}

/// What a layer does, and what becomes of it, in words.
pub fn sentence(merged: &Merged, node: NodeId, touch: &Touch<'_>) -> String {
    let at = shown(&touch.at);
    let Some(found) = touch.found else {
        return match (touch.action, &touch.moved_from, &touch.moved_to) {
            (Action::HidesParent(End::ParentOpaque), ..) => format!("makes {at} opaque"),
            (_, Some(from), _) => format!("moves {} to {at}", shown(from)),
            (_, _, Some(to)) => format!("moves {at} to {}", shown(to)),
            (Action::HidesParent(End::ParentDeleted), ..) => format!("deletes {at}"),
            _ => format!("replaces {at}"),
        };
    };
    let mut text = words(touch);
    if touch.at != merged.path(node) {
        text += &format!(", at {at}");
    }
    let entry = merged.entry(found);
    if let Some(path) = merged.hard_link(found) {
        text += &format!(", hard link to {}", shown(&path));
    }
    if found.is_by_index() {
        text += ", by the index of hard links";
    }
    if entry.copied {
        text += ", as a hard link to a layer below";
    }
    if entry.metacopy {
        text += ", attributes only";
        text += &match merged.data_of_metacopy(node, found) {
            Ok(Some((Some(number), _))) => format!(", data of layer {number}"),
            Ok(Some((None, path))) => format!(", data of {}", name(&path)),
            _ => ", its data are in no layer".to_owned(),
        };
    }
    let (Some(by), Some((above, culprit))) = (found.hidden_by(), merged.culprit(node, found)) else { return text };
    let culprit = shown(&merged.path_in_layer(above, culprit));
    match found.end {
        End::ParentDeleted => text + &format!("; hidden: layer {by} deletes {culprit}"),
        End::ParentOpaque => text + &format!("; hidden: {culprit} is opaque in layer {by}"),
        End::ParentReplaced => text + &format!("; hidden: layer {by} replaces {culprit}"),
        End::Deleted => text + &format!("; deleted by layer {by}"),
        End::Superseded => text + &format!("; superseded by layer {by}"),
        End::Merged | End::Never => text,
    }
}
