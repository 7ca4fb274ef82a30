//! What layers of archives say of those below: settled from the lowest up, as `crate::archive::complete` does it.

use super::entry::{Entry, Kind, NONE, Text};
use super::error::{Error, Result};
use super::follow::{self, Directories, Lookups};
use super::layer::{EntryId, Layer, add_text};
use super::tar::{Budget, DIGEST};
use crate::archive;
use crate::sys::Time;
use rustc_hash::FxHashMap;

/// Settles the topmost of `layers`: its hard links to files below, by first name and target, and its directories that no
/// entry describes.
pub(super) fn settle(layers: &mut [Layer], links: Vec<(EntryId, Vec<u8>)>, budget: &Budget) -> Result<()> {
    let Some((layer, below)) = layers.split_last_mut() else { return Ok(()) };
    if !links.is_empty() {
        copy_links(layer, below, links, budget)?;
    }
    describe_all(layer, below, budget)
}

fn failed(below: &[Layer], source: archive::Error) -> Error {
    Error::Layer { what: format!("layer {}", below.len() + 1), source }
}

/// Turns hard links into copies of what is below. Links to one file become one file again.
fn copy_links(layer: &mut Layer, below: &[Layer], mut links: Vec<(EntryId, Vec<u8>)>, budget: &Budget) -> Result<()> {
    let mut files: FxHashMap<u32, Vec<EntryId>> = FxHashMap::default();
    for id in layer.ids().filter(|id| layer.has_names(*id)) {
        files.entry(layer.entry(id).first).or_default().push(id);
    }
    let mut copies: FxHashMap<(usize, EntryId), Vec<EntryId>> = FxHashMap::default();
    links.sort_unstable_by(|(_, a), (_, b)| a.split(|b| *b == b'/').cmp(b.split(|b| *b == b'/')));
    let mut lookups = Lookups::new(below);
    for (id, target) in links {
        let fail = |layer: &Layer, what: String| Err(failed(below, archive::Error::entry(&layer.path(id), what)));
        let Some((at, source)) = lookups.visible(&target) else {
            let target = archive::shown(&target);
            return fail(layer, format!("is a hard link to '{target}', which is neither in this layer nor below it"));
        };
        if below[at].entry(source).is_dir() {
            return fail(layer, "is a hard link to a directory".to_owned());
        }
        let names = files.remove(&layer.entry(id).first).unwrap_or_else(|| vec![id]);
        copies.entry((at, below[at].first_name(source))).or_default().extend(names);
    }
    for ((at, source), names) in copies {
        // Text that is written once more.
        budget.take(below[at].target(source).len()).map_err(|source| failed(below, source))?;
        let (content, xattrs) = (below[at].entry(source).content, below[at].entry(source).xattrs);
        let content = copy_digest(layer, below, at, content, budget)?;
        let xattrs = copy_digest(layer, below, at, xattrs, budget)?;
        let first = copy(layer, &below[at], source, &names, (content, xattrs))?;
        layer.sources.insert(first, (at, source));
    }
    Ok(())
}

fn copy(
    layer: &mut Layer,
    from: &Layer,
    source: EntryId,
    names: &[EntryId],
    (content, xattrs): (u32, u32),
) -> Result<EntryId> {
    let original = *from.entry(source);
    let target = if original.kind == Kind::Symlink { from.target(source).to_vec() } else { Vec::new() };
    let target = add_text(&mut layer.text, &target)?;
    let first = names.iter().copied().min_by_key(|id| layer.path(*id)).unwrap_or(EntryId::ROOT);
    let shared = if names.len() > 1 { first.0 } else { NONE };
    for id in names {
        let own = &mut layer.entries[id.index()];
        let (name, parent) = (own.name, own.parent);
        *own = Entry { name, parent, target, content, xattrs, first: shared, ordinal: NONE, ..original };
        own.copied = true;
    }
    Ok(first)
}

/// Writes a digest of the layer `at` once more.
fn copy_digest(layer: &mut Layer, below: &[Layer], at: usize, index: u32, budget: &Budget) -> Result<u32> {
    let Some(digest) = below[at].digest(index) else { return Ok(NONE) };
    budget.take(DIGEST).map_err(|source| failed(below, source))?;
    layer.digests.push(digest);
    Ok(u32::try_from(layer.digests.len() - 1).unwrap_or(NONE))
}

/// Describes all directories that no entry describes, on one walk through those that lead to them: so much as the walk of a
/// merged tree costs, however deep they are.
fn describe_all(layer: &mut Layer, below: &[Layer], budget: &Budget) -> Result<()> {
    let mut leads = vec![false; layer.len()];
    for id in layer.ids().rev() {
        if layer.entry(id).implied || leads[id.index()] {
            leads[id.index()] = true;
            leads[layer.parent(id).index()] = true;
        }
    }
    // The directories below at each depth of the way.
    let mut way: Vec<Directories> = Vec::new();
    let mut work = vec![(EntryId::ROOT, 0)];
    while let Some((id, depth)) = work.pop() {
        way.truncate(depth);
        let found = match way.last() {
            Some(dirs) => follow::enter(below, dirs, layer.name(id)),
            None => follow::roots(below),
        };
        if layer.entry(id).implied {
            describe(layer, below, id, found.first().copied(), budget)?;
        }
        way.push(found);
        work.extend(layer.children(id).filter(|child| leads[child.index()]).map(|child| (child, depth + 1)));
    }
    Ok(())
}

/// Gives a directory the attributes of the one below; without one it is 0755 of root from 1970.
fn describe(
    layer: &mut Layer,
    below: &[Layer],
    id: EntryId,
    found: Option<(usize, EntryId)>,
    budget: &Budget,
) -> Result<()> {
    let (mode, uid, gid, mtime, xattrs) = match found {
        Some((at, lower)) => {
            let entry = *below[at].entry(lower);
            let xattrs = copy_digest(layer, below, at, entry.xattrs, budget)?;
            (entry.mode, entry.uid, entry.gid, entry.mtime, xattrs)
        }
        None => (0o755, 0, 0, Time::default(), NONE),
    };
    let own = &mut layer.entries[id.index()];
    (own.mode, own.uid, own.gid, own.mtime, own.xattrs) = (mode, uid, gid, mtime, xattrs);
    own.target = Text::default();
    Ok(())
}
