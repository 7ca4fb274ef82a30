//! The merged view of the layers of a case, from their description alone: each layer is made in memory by its own steps, and
//! then merged name by name (the kernel's documentation, "Overlay Filesystem").

use std::collections::{BTreeMap, BTreeSet};

use super::super::case::Case;
use super::super::ops::{Op, Step};
use super::super::vfs::{Caller, Node, Stamp, Vfs};
use super::{Body, Inode, Model};

const PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The time that the layers' builder gives to everything (`stack::build_layers`).
pub fn stamp(salt: usize) -> Stamp {
    Stamp::At(1_500_000_000 + salt as i64, 123_456_789)
}

/// What an empty directory over the layers of a case shows. `only`: one user owns everything.
pub fn merged(case: &Case, owner: Caller, only: Option<Caller>) -> Model {
    let layers: Vec<_> = case.layers.iter().map(|steps| layer(steps, owner, only)).collect();
    let mut merging = Merging { layers: &layers, merged: Model::new(owner), known: BTreeMap::new() };
    let roots: Vec<_> = (0..layers.len()).map(|layer| (layer, 0)).collect();
    merging.directory(0, &roots);
    merging.merged
}

/// What is made on disk, made in memory: steps that fail are left out there as here, and those that set times come last.
fn layer(steps: &[Step], owner: Caller, only: Option<Caller>) -> Model {
    let mut bare = Vfs::new(Model::new(owner), 0, only);
    let (times, others): (Vec<_>, Vec<_>) = steps.iter().partition(|step| matches!(step.op, Op::Utimens { .. }));
    others.iter().for_each(|step| drop(bare.run(step)));
    // Of several names of a file the first is stamped last.
    for (path, node) in bare.tree().numbers.iter().rev() {
        bare.files.at_mut(*node).mtime = stamp(path.len());
    }
    times.iter().for_each(|step| drop(bare.run(step)));
    bare.files
}

struct Merging<'a> {
    /// Topmost first.
    layers: &'a [Model],
    merged: Model,
    /// What objects of layers that are no directories have become: the names of a hard link stay one object.
    known: BTreeMap<(usize, Node), Node>,
}

impl Merging<'_> {
    /// Fills a directory from those of the layers that it is made of.
    fn directory(&mut self, into: Node, parts: &[(usize, Node)]) {
        let entries = |part: &(usize, Node)| self.layers[part.0].entries(part.1).cloned().unwrap_or_default();
        let listings: Vec<_> = parts.iter().map(entries).collect();
        let names: BTreeSet<_> = listings.iter().flat_map(|entries| entries.keys()).collect();
        for name in names {
            let mut found = Vec::new();
            for ((layer, above), entries) in parts.iter().zip(&listings) {
                let Some(&node) = entries.get(name) else { continue };
                let layers = self.layers;
                let inode = layers[*layer].at(node);
                let ends = !inode.is_dir() || marker(inode, b"opaque") == Some(b"y");
                if !is_whiteout(inode, layers[*layer].at(*above)) && (found.is_empty() || inode.is_dir()) {
                    found.push((*layer, node));
                }
                if ends {
                    break;
                }
            }
            if let Some(&top) = found.first() {
                self.object(into, name, top, &found);
            }
        }
    }

    fn object(&mut self, into: Node, name: &[u8], top: (usize, Node), parts: &[(usize, Node)]) {
        let inode = self.layers[top.0].at(top.1);
        let node = match self.known.get(&top) {
            Some(&node) => node,
            None => self.merged.add(shown(inode)),
        };
        let keep = self.merged.at(into).mtime;
        self.merged.put(into, name, Some(node));
        self.merged.at_mut(into).mtime = keep;
        if inode.is_dir() {
            self.directory(node, parts);
        } else {
            self.known.insert(top, node);
        }
    }
}

/// An object of a layer without what only the layer is concerned with.
fn shown(inode: &Inode) -> Inode {
    let mut inode = inode.clone();
    if let Body::Directory { entries, .. } = &mut inode.body {
        entries.clear();
    }
    inode.xattrs.retain(|name, _| !PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    inode
}

/// The value of a marker.
fn marker<'a>(inode: &'a Inode, name: &[u8]) -> Option<&'a [u8]> {
    PREFIXES.iter().find_map(|prefix| inode.xattrs.get(&[prefix, name].concat())).map(Vec::as_slice)
}

/// The device 0:0, or an empty file that is marked, in a directory that is marked as having such.
fn is_whiteout(inode: &Inode, above: &Inode) -> bool {
    match &inode.body {
        Body::Special(libc::S_IFCHR, 0, 0) => true,
        Body::File(data) => {
            data.is_empty() && marker(inode, b"whiteout").is_some() && marker(above, b"opaque") == Some(b"x")
        }
        _ => false,
    }
}
