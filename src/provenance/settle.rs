//! What layers of archives say of those below: settled from the lowest up, as `crate::archive::complete` does it.

use super::entry::{Entry, Kind, NONE, Text};
use super::error::{Error, Result};
use super::follow;
use super::layer::{EntryId, Layer, add_text};
use crate::archive;
use crate::sys::Time;
use rustc_hash::FxHashMap;

/// Settles the topmost of `layers`: its hard links to files below, by first name and target, and its directories that no
/// entry describes.
pub(super) fn settle(layers: &mut [Layer], links: Vec<(EntryId, Vec<u8>)>) -> Result<()> {
    let Some((layer, below)) = layers.split_last_mut() else { return Ok(()) };
    if !links.is_empty() {
        copy_links(layer, below, links)?;
    }
    for id in layer.ids() {
        if layer.entry(id).implied {
            describe(layer, below, id);
        }
    }
    Ok(())
}

/// Turns hard links into copies of what is below. Links to one file become one file again.
fn copy_links(layer: &mut Layer, below: &[Layer], links: Vec<(EntryId, Vec<u8>)>) -> Result<()> {
    let mut files: FxHashMap<u32, Vec<EntryId>> = FxHashMap::default();
    for id in layer.ids().filter(|id| layer.has_names(*id)) {
        files.entry(layer.entry(id).first).or_default().push(id);
    }
    let mut copies: FxHashMap<(usize, EntryId), Vec<EntryId>> = FxHashMap::default();
    for (id, target) in links {
        let fail = |layer: &Layer, what: String| {
            let source = archive::Error::entry(&layer.path(id), what);
            Err(Error::Layer { what: format!("layer {}", below.len() + 1), source })
        };
        let Some((at, source)) = follow::visible(below, &target) else {
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
        let first = copy(layer, &below[at], source, &names)?;
        layer.sources.insert(first, (at, source));
    }
    Ok(())
}

fn copy(layer: &mut Layer, from: &Layer, source: EntryId, names: &[EntryId]) -> Result<EntryId> {
    let original = *from.entry(source);
    let target = if original.kind == Kind::Symlink { from.target(source).to_vec() } else { Vec::new() };
    let target = add_text(&mut layer.text, &target)?;
    let (content, xattrs) = (copy_digest(layer, from, original.content), copy_digest(layer, from, original.xattrs));
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

fn copy_digest(layer: &mut Layer, from: &Layer, index: u32) -> u32 {
    let Some(digest) = from.digest(index) else { return NONE };
    layer.digests.push(digest);
    u32::try_from(layer.digests.len() - 1).unwrap_or(NONE)
}

/// Gives a directory the attributes of the one below; without one it is 0755 of root from 1970.
fn describe(layer: &mut Layer, below: &[Layer], id: EntryId) {
    let found = follow::directories(below, &layer.path(id)).first().copied();
    let (mode, uid, gid, mtime, xattrs) = match found {
        Some((at, lower)) => {
            let entry = *below[at].entry(lower);
            let xattrs = copy_digest(layer, &below[at], entry.xattrs);
            (entry.mode, entry.uid, entry.gid, entry.mtime, xattrs)
        }
        None => (0o755, 0, 0, Time::default(), NONE),
    };
    let own = &mut layer.entries[id.index()];
    (own.mode, own.uid, own.gid, own.mtime, own.xattrs) = (mode, uid, gid, mtime, xattrs);
    own.target = Text::default();
}
