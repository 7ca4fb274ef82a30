//! `laminafs tree`: a merged view as a tree, with the sizes of directories.

use super::context::Context;
use super::entries::{EntryObject, name_text};
use super::ls::{Sort, ViewArgs, find};
use super::output::{self, Pieces, SCHEMA, Stream};
use super::target::{TARGETS, TargetArgs};
use crate::image::format::size3;
use crate::provenance::{Kind, Merged, NodeId, Occurrence, View};
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Arguments of `laminafs tree`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs tree [OPTIONS] TARGET[@N] [PATH]\n       laminafs tree [OPTIONS] --lower DIR[:DIR...] [PATH]",
    after_help = format!("{TARGETS}\n\n\
    Behind each name stand the bytes of all files at and below it and, in brackets, the layer that gives it.\n\n\
    Examples:\n  \
    laminafs tree --depth 2 --sort size debian:12\n  \
    laminafs tree --layer 3 docker-archive:web.tar /usr")
)]
pub struct TreeArgs {
    /// Go down only so many directories
    #[arg(short, long, value_name = "N")]
    depth: Option<usize>,
    /// Directories only
    #[arg(long)]
    directories: bool,
    /// The largest first
    #[arg(long, value_name = "size|name", value_enum, default_value_t, hide_possible_values = true)]
    sort: Sort,
    #[command(flatten)]
    view: ViewArgs,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// TARGET, then a path in it; without one, the root
    #[arg(value_name = "TARGET PATH")]
    words: Vec<OsString>,
}

struct Printer<'a> {
    args: &'a TreeArgs,
    merged: &'a Merged,
    view: View,
    sizes: Vec<u64>,
}

/// An entry with what is in it, made when it is printed.
#[derive(Serialize)]
struct Branch<'a> {
    name: String,
    cumulative: u64,
    #[serde(flatten)]
    entry: EntryObject,
    /// Left out of what is no directory, and below [`MAX_DEPTH`].
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<Stream<Box<dyn Iterator<Item = Branch<'a>> + 'a>>>,
}

/// Deeper than this JSON is not nested: readers refuse it.
const MAX_DEPTH: usize = 100;

/// Prints the tree.
pub fn run(args: &TreeArgs, context: &Context) -> anyhow::Result<()> {
    let (target, paths) = args.target.open_partly(&args.words, 0..=1, context)?;
    let (merged, view) = (&target.merged, args.view.view(&target)?);
    let top = paths.first().map_or(Ok(NodeId::ROOT), |path| find(merged, path.as_bytes(), view, true))?;
    merged.check_read(top, view, None)?;
    let printer = Printer { args, merged, view, sizes: merged.sizes(view) };
    target.check()?;
    if args.json {
        let depth = args.depth.unwrap_or(MAX_DEPTH).min(MAX_DEPTH);
        let tree = merged.seen(top, view).map(|found| printer.branch(top, found, depth));
        #[derive(Serialize)]
        struct Document<'a> {
            schema: u32,
            target: &'a str,
            tree: Option<Branch<'a>>,
        }
        return output::document(&Document { schema: SCHEMA, target: &merged.name, tree });
    }
    printer.print(top)
}

impl Printer<'_> {
    /// What is printed below a directory, in order.
    fn children(&self, node: NodeId) -> Vec<(NodeId, &Occurrence)> {
        let wanted = |found: &Occurrence| !self.args.directories || self.merged.entry(found).is_dir();
        let mut all: Vec<_> = self.merged.seen_children(node, self.view).filter(|(_, found)| wanted(found)).collect();
        if self.args.sort == Sort::Size {
            all.sort_by_key(|(node, _)| std::cmp::Reverse(self.sizes[node.index()]));
        }
        all
    }

    fn print(&self, top: NodeId) -> anyhow::Result<()> {
        let mut out = Pieces::default();
        let most = self.args.depth.unwrap_or(usize::MAX);
        let path = [b"/", self.merged.path(top).as_slice()].concat();
        match self.merged.seen(top, self.view) {
            Some(found) => out.line(&self.line("", &path, top, found))?,
            // Only where there are no layers.
            None => out.line(&format!("/  {}", size3(0)))?,
        }
        // Each with the branches before it; directories with what is in them come apart from the end.
        let mut work: Vec<(NodeId, String, bool, usize)> = Vec::new();
        let push = |work: &mut Vec<_>, node, indent: &str, depth| {
            let children = if depth < most { self.children(node) } else { Vec::new() };
            let last = children.last().map(|(node, _)| *node);
            let items = children.iter().rev();
            work.extend(items.map(|(child, _)| (*child, indent.to_owned(), last == Some(*child), depth + 1)));
        };
        push(&mut work, top, "", 0);
        while let Some((node, indent, is_last, depth)) = work.pop() {
            let Some(found) = self.merged.seen(node, self.view) else { continue };
            let branch = if is_last { "└── " } else { "├── " };
            out.line(&self.line(&format!("{indent}{branch}"), self.merged.name(node), node, found))?;
            if self.merged.entry(found).is_dir() {
                let indent = format!("{indent}{}", if is_last { "    " } else { "│   " });
                push(&mut work, node, &indent, depth);
            }
        }
        out.end()
    }

    fn line(&self, indent: &str, name: &[u8], node: NodeId, found: &Occurrence) -> String {
        let name = name_text(self.merged, name, found);
        let whiteout = if self.merged.entry(found).is_whiteout() { " (deleted)" } else { "" };
        let entry = self.merged.entry(found);
        let size = match entry.kind {
            // Of further names of a file too, which count in the directories once.
            Kind::File => entry.size,
            _ => self.sizes[node.index()],
        };
        format!("{indent}{name}{whiteout}  {} [{}]", size3(size), found.layer())
    }

    fn branch(&self, node: NodeId, found: &Occurrence, depth: usize) -> Branch<'_> {
        let is_dir = self.merged.entry(found).is_dir() && depth > 0;
        let children = is_dir.then(|| {
            let children = self.children(node).into_iter();
            let branches = children.map(move |(node, found)| self.branch(node, found, depth - 1));
            Stream::new(Box::new(branches) as Box<dyn Iterator<Item = Branch<'_>>>)
        });
        Branch {
            name: String::from_utf8_lossy(self.merged.name(node)).into_owned(),
            cumulative: self.sizes[node.index()],
            entry: EntryObject::new(self.merged, node, found),
            children,
        }
    }
}
