//! Looking a path up in a stack of layers, before there is a merged tree.
//!
//! Archives need it: what a hard link into a layer below is, and which attributes a directory has that no entry describes
//! (`crate::archive::complete` asks the same of layer directories). And redirects need it, as in `crate::overlay`.

use super::layer::{EntryId, Layer};
use super::tree::Part;
use crate::archive::{join, parts, split};
use crate::layer::redirect::Redirect;

/// The directories that merge somewhere, topmost first: layer, counted from 0, and entry.
pub(super) type Directories = Vec<(usize, EntryId)>;

/// Those that merge at the root. `layers` has the lowest first.
pub(super) fn roots(layers: &[Layer]) -> Directories {
    let mut found = Vec::new();
    for at in (0..layers.len()).rev() {
        found.push((at, EntryId::ROOT));
        if layers[at].entry(EntryId::ROOT).opaque {
            break;
        }
    }
    found
}

#[cfg(test)]
thread_local! {
    /// How many names were looked up in directories of layers.
    pub(super) static LOOKED_UP: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Those that merge at the name `part` in the merged directory `dirs`; none when it is no directory.
pub(super) fn enter(layers: &[Layer], dirs: &[(usize, EntryId)], part: &[u8]) -> Directories {
    #[cfg(test)]
    LOOKED_UP.set(LOOKED_UP.get() + dirs.len());
    let mut found = Vec::new();
    for (at, dir) in dirs {
        let Some(child) = layers[*at].child(*dir, part) else { continue };
        let entry = layers[*at].entry(child);
        if !entry.is_dir() {
            break;
        }
        found.push((*at, child));
        if entry.opaque {
            break;
        }
    }
    found
}

/// Looks paths up one after the other. What a path has in common with the one before it is not walked again, so that paths
/// in the order of a walk cost no more than the directories that they lead through.
pub(super) struct Lookups<'a> {
    layers: &'a [Layer],
    /// The way to the last directory; the root has the empty name.
    way: Vec<(Vec<u8>, Directories)>,
}

impl<'a> Lookups<'a> {
    /// In these layers, the lowest first.
    pub fn new(layers: &'a [Layer]) -> Self {
        Self { layers, way: vec![(Vec::new(), roots(layers))] }
    }

    fn directories(&mut self, path: &[u8]) -> &[(usize, EntryId)] {
        let same = self.way[1..].iter().zip(parts(path)).take_while(|((name, _), part)| name == part).count();
        self.way.truncate(same + 1);
        for part in parts(path).skip(same) {
            let found = self.way.last().map(|(_, dirs)| enter(self.layers, dirs, part)).unwrap_or_default();
            self.way.push((part.to_vec(), found));
        }
        self.way.last().map_or(&[], |(_, dirs)| dirs)
    }

    /// What is visible at `path`, which is not the root.
    pub fn visible(&mut self, path: &[u8]) -> Option<(usize, EntryId)> {
        let (parent, name) = split(path)?;
        let layers = self.layers;
        let mut found = self.directories(parent).iter();
        let (at, entry) = found.find_map(|(at, dir)| Some((*at, layers[*at].child(*dir, name)?)))?;
        (!layers[at].entry(entry).is_whiteout()).then_some((at, entry))
    }
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
