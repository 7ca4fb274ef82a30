//! `laminafs ls`: what a merged view shows, and which layer gives it.

use super::context::Context;
use super::entries::{EntryObject, mode_letters, name_text, short_time, shown, size_text};
use super::output::{self, Pieces, SCHEMA, Stream};
use super::target::{STACK, TARGETS, Target, TargetArgs};
use super::{Failure, for_each};
use crate::provenance::{Lost, Merged, NodeId, Number, Occurrence, View};
use anyhow::bail;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// Arguments of `laminafs ls`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs ls [OPTIONS] TARGET[@N] [PATH]...\n       laminafs ls [OPTIONS] --lower DIR[:DIR...] [PATH]...",
    after_help = format!("{TARGETS}\n\n\
    LAYER is the number of the layer that gives the entry; of a directory, the one that gives its attributes. A PATH that is a symbolic link \
    is followed; stat shows the link itself.\n\n\
    Examples:\n  \
    laminafs ls debian:12 /etc\n  \
    laminafs ls -R --sort size docker-archive:web.tar /usr/lib\n  \
    laminafs ls --layer 2 debian:12\n  \
    laminafs ls -R --json web@2")
)]
pub struct LsArgs {
    /// List directories with all that is in them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// With -R, go down only so many directories
    #[arg(long, value_name = "N", requires = "recursive")]
    depth: Option<usize>,
    #[command(flatten)]
    view: ViewArgs,
    /// The largest first, with --cumulative
    #[arg(long, value_name = "size|name", value_enum, default_value_t, hide_possible_values = true)]
    sort: Sort,
    /// Show for directories the bytes of all files in them
    #[arg(long)]
    cumulative: bool,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// TARGET, then paths in it; without one, the root
    #[arg(value_name = "TARGET PATH")]
    words: Vec<OsString>,
}

/// The order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Sort {
    /// By name.
    #[default]
    Name,
    /// The largest first.
    Size,
}

/// `--layer`.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// Show layer N alone, with its whiteouts, instead of the merged view
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
}

impl ViewArgs {
    /// What is to be shown of a target.
    pub fn view(&self, target: &Target) -> anyhow::Result<View> {
        match self.layer {
            Some(number) => Ok(View::Alone(target.merged.number(number)?)),
            None => Ok(View::UpTo(target.merged.top())),
        }
    }
}

/// Finds a path in a view. A symbolic link is followed on the way, and at the end if `follow`.
pub fn find(merged: &Merged, path: &[u8], view: View, follow: bool) -> anyhow::Result<NodeId> {
    let asked = shown(path.strip_prefix(b"/").unwrap_or(path));
    let lost = match view {
        View::UpTo(number) => match merged.resolve(path, number, follow) {
            Ok(node) => return Ok(node),
            Err(lost) => lost,
        },
        View::Alone(number) => match merged.check_way(path, Some(view)).map(|()| merged.find(path))? {
            Some(node) if merged.seen(node, view).is_some() => return Ok(node),
            _ => bail!("layer {number} of {} has no {asked}", merged.name),
        },
    };
    let name = &merged.name;
    // Behind what is a link now there may be something that cannot be reached any more.
    let itself = merged.find(path).filter(|node| merged.seen(*node, view).is_none());
    let lost = match (lost, itself) {
        (Lost::Never, Some(node)) => Lost::Hidden(node, Vec::new()),
        (lost, _) => lost,
    };
    match lost {
        Lost::Never => {
            merged.check_way(path, None)?;
            bail!("no layer of {name} has {asked}")
        }
        Lost::Hidden(node, _) => {
            let hidden = shown(&merged.path(node));
            let by = merged.occurrences(node).iter().filter_map(Occurrence::hidden_by).max();
            let by = by.map_or(String::new(), |by: Number| format!(" since layer {by}"));
            let target = if name == STACK { "--lower DIR[:DIR...]" } else { name };
            bail!("{asked} is not seen in {name}: {hidden} is hidden{by}; try: laminafs whence {target} {hidden}")
        }
        Lost::NotADirectory(node) => bail!("{asked}: {} is not a directory", shown(&merged.path(node))),
        Lost::Denied(node) => {
            merged.check_read(node, view, Some(1))?;
            bail!("{asked}: {} may not be read", shown(&merged.path(node)))
        }
        Lost::TooManyLinks => bail!("{asked}: too many symbolic links"),
    }
}

/// An entry, and the bytes in it if they were asked for.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    entry: EntryObject,
    cumulative: Option<u64>,
}

/// Lists what was asked for.
pub fn run(args: &LsArgs, context: &Context) -> Result<(), Failure> {
    let (target, paths) = args.target.open_partly(&args.words, 0..=usize::MAX, context)?;
    let merged = &target.merged;
    let view = args.view.view(&target)?;
    let whole = args.cumulative || args.sort == Sort::Size;
    let depth = if args.recursive { args.depth } else { Some(1) };
    let check = |top| merged.check_read(top, view, depth.filter(|_| !whole));
    let mut tops = Vec::new();
    let found_all = for_each(paths, |path| {
        let top = find(merged, path.as_bytes(), view, true)?;
        check(top)?;
        tops.push(top);
        Ok(())
    });
    match paths {
        [] => {
            check(NodeId::ROOT)?;
            tops.push(NodeId::ROOT);
        }
        _ if tops.is_empty() => return found_all,
        _ => {}
    }
    let sizes = whole.then(|| merged.sizes(view));
    target.check()?;
    Listing { args, merged, view, sizes }.print(&tops)?;
    found_all
}

struct Listing<'a> {
    args: &'a LsArgs,
    merged: &'a Merged,
    view: View,
    sizes: Option<Vec<u64>>,
}

impl Listing<'_> {
    fn print(&self, tops: &[NodeId]) -> anyhow::Result<()> {
        if self.args.json {
            return self.document(tops);
        }
        let mut out = Pieces::default();
        out.line("MODE       LAYER OWNER              SIZE MODIFIED         NAME")?;
        for top in tops {
            for (node, found, name) in self.entries(*top) {
                out.add(|text| self.line(text, node, found, &name))?;
            }
        }
        out.end()
    }

    /// What is listed for an argument, with the names to print: what is in a directory, else the entry itself.
    fn entries(&self, top: NodeId) -> Box<dyn Iterator<Item = (NodeId, &Occurrence, Vec<u8>)> + '_> {
        let merged = self.merged;
        let is_dir = merged.seen(top, self.view).is_some_and(|found| merged.entry(found).is_dir());
        let depth = if self.args.recursive { self.args.depth } else { Some(1) };
        let skip = usize::from(is_dir && !(self.args.recursive && self.args.json));
        let walk = merged.walk(top, self.view, depth).skip(skip);
        let short = !self.args.recursive && is_dir && !self.args.json;
        // A walk goes depth first: of each directory on the way, how long its path is.
        let mut path = [b"/", merged.path(top).as_slice()].concat();
        let mut ends = vec![if top == NodeId::ROOT { 0 } else { path.len() }];
        let named = walk.map(move |(node, found, depth)| {
            if short {
                return (node, found, merged.name(node).to_vec());
            }
            if depth > 0 {
                ends.truncate(depth);
                path.truncate(ends[depth - 1]);
                path.push(b'/');
                path.extend_from_slice(merged.name(node));
                ends.push(path.len());
            }
            (node, found, path.clone())
        });
        match &self.sizes {
            Some(sizes) if self.args.sort == Sort::Size => {
                let mut all: Vec<_> = named.collect();
                all.sort_by_key(|(node, ..)| std::cmp::Reverse(sizes[node.index()]));
                Box::new(all.into_iter())
            }
            _ => Box::new(named),
        }
    }

    fn size(&self, node: NodeId) -> Option<u64> {
        self.sizes.as_ref().map(|sizes| sizes[node.index()])
    }

    fn line(&self, text: &mut String, node: NodeId, found: &Occurrence, name: &[u8]) -> fmt::Result {
        let entry = self.merged.entry(found);
        text.extend(mode_letters(entry));
        write!(text, " {:>5} ", found.layer().get())?;
        let start = text.len();
        write!(text, "{}:{}", entry.uid, entry.gid)?;
        let owner = text.len() - start;
        match self.size(node).filter(|_| entry.is_dir()) {
            Some(size) => write!(text, "{:pad$} {size:>11}", "", pad = 11usize.saturating_sub(owner))?,
            None => write!(text, "{:pad$} {:>11}", "", size_text(entry), pad = 11usize.saturating_sub(owner))?,
        }
        write!(text, " {} {}", short_time(entry.mtime), name_text(self.merged, name, found))
    }

    fn document(&self, tops: &[NodeId]) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Document<'a, E> {
            schema: u32,
            target: &'a str,
            entries: E,
        }
        let listed = tops.iter().flat_map(|top| self.entries(*top)).map(|(node, found, path)| Listed {
            entry: EntryObject::at(self.merged, String::from_utf8_lossy(&path).into_owned(), found),
            cumulative: self.size(node),
        });
        output::document(&Document { schema: SCHEMA, target: &self.merged.name, entries: Stream::new(listed) })
    }
}
