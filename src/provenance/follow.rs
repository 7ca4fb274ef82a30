//! Looking a path up in a stack of layers, before there is a merged tree.
//!
//! Archives need it: what a hard link into a layer below is, and which attributes a directory has that no entry describes
//! (`crate::archive::complete` asks the same of layer directories). And redirects need it, as in `crate::overlay`.

use super::layer::{EntryId, Layer};
use super::tree::Part;
use crate::layer::redirect::Redirect;

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty())
}

/// The directories that merge at `path`, topmost first; none when it is no directory. `layers` has the lowest first.
pub(super) fn directories(layers: &[Layer], path: &[u8]) -> Vec<(usize, EntryId)> {
    let mut found: Vec<(usize, EntryId)> = Vec::new();
    for at in (0..layers.len()).rev() {
        found.push((at, EntryId::ROOT));
        if layers[at].entry(EntryId::ROOT).opaque {
            break;
        }
    }
    for part in parts(path) {
        let mut inner = Vec::new();
        for (at, dir) in found {
            let Some(child) = layers[at].child(dir, part) else { continue };
            let entry = layers[at].entry(child);
            if !entry.is_dir() {
                break;
            }
            inner.push((at, child));
            if entry.opaque {
                break;
            }
        }
        found = inner;
    }
    found
}

/// What is visible at `path`, which is not the root.
pub(super) fn visible(layers: &[Layer], path: &[u8]) -> Option<(usize, EntryId)> {
    let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[][..], path),
    };
    let mut found = directories(layers, parent).into_iter();
    let (at, entry) = found.find_map(|(at, dir)| Some((at, layers[at].child(dir, name)?)))?;
    (!layers[at].entry(entry).is_whiteout()).then_some((at, entry))
}

/// Where to look in the next layer.
enum Next {
    /// In the parent's directories.
    Name(Vec<u8>),
    /// From the root of the layer.
    Path(Vec<u8>),
}

impl Next {
    fn of(redirect: Redirect) -> Self {
        match redirect {
            Redirect::Absolute(path) => Self::Path(path),
            Redirect::Name(name) => Self::Name(name),
        }
    }
}

/// What a layer has at a path.
enum Probe {
    /// Nothing; the layers below are asked for `next`.
    Nothing { next: Vec<u8> },
    /// Something that ends the search.
    Stop,
    /// A directory; `covered` when nothing below shows through it.
    Directory { entry: EntryId, covered: bool, next: Vec<u8>, redirect: Option<Redirect> },
}

/// The directories of other layers that the directory `top` with a redirect continues in; `parent` are those that its
/// parent consists of.
pub(super) fn redirect(layers: &[Layer], top: Part, first: &Redirect, parent: &[Part]) -> Vec<(u16, EntryId)> {
    let mut found = Vec::new();
    let mut next = Next::of(first.clone());
    for number in (0..top.layer).rev() {
        let layer = &layers[usize::from(number)];
        let path = match &next {
            Next::Path(path) => path.clone(),
            Next::Name(name) => {
                let in_parent = |part: &&Part| part.layer == number && part.from <= top.from && top.from < part.until;
                let Some(dir) = parent.iter().find(in_parent) else { continue };
                join(&layer.path(dir.entry), name)
            }
        };
        match probe(layer, &path) {
            Probe::Stop => break,
            Probe::Nothing { next: path } => {
                if let Next::Path(_) = next {
                    next = Next::Path(path);
                }
            }
            Probe::Directory { entry, covered, next: below, redirect } => {
                found.push((number, entry));
                if covered {
                    break;
                }
                next = match (next, redirect) {
                    (Next::Path(_), _) => Next::Path(below),
                    (Next::Name(_), Some(redirect)) => Next::of(redirect),
                    (next, None) => next,
                };
            }
        }
    }
    found
}

fn probe(layer: &Layer, path: &[u8]) -> Probe {
    let (mut entry, mut covered, mut redirect) = (EntryId::ROOT, false, None);
    // Where the layers below have what was passed so far.
    let mut below = Vec::new();
    let mut todo = parts(path);
    while let Some(part) = todo.next() {
        let Some(child) = layer.child(entry, part) else {
            let next = todo.fold(join(&below, part), |path, part| join(&path, part));
            return if covered { Probe::Stop } else { Probe::Nothing { next } };
        };
        if !layer.entry(child).is_dir() {
            return Probe::Stop;
        }
        entry = child;
        covered |= layer.entry(child).opaque;
        redirect = layer.redirect(child);
        below = match &redirect {
            Some(Redirect::Absolute(path)) => path.clone(),
            Some(Redirect::Name(other)) => join(&below, other),
            None => join(&below, part),
        };
    }
    Probe::Directory { entry, covered, next: below, redirect }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}
