//! Looking a path up in a stack of layers, before there is a merged tree.
//!
//! Archives need it: what a hard link into a layer below is, and which attributes a directory has that no entry describes
//! (`crate::archive::complete` asks the same of layer directories). And redirects need it, and files that hold metadata only,
//! as in `crate::overlay`.

use super::entry::Kind;
use super::layer::{EntryId, Layer};
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

/// Those that merge at a path.
pub(super) fn directories(layers: &[Layer], path: &[u8]) -> Directories {
    parts(path).fold(roots(layers), |dirs, part| enter(layers, &dirs, part))
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
        if let Some(first) = layers[*at].redirect(child) {
            found.extend(redirect(layers, *at, &first, &|number| in_layer(dirs, number)));
            break;
        }
    }
    found
}

/// The directory of a layer among those that merge.
fn in_layer(dirs: &[(usize, EntryId)], number: usize) -> Option<EntryId> {
    dirs.iter().find(|(at, _)| *at == number).map(|(_, entry)| *entry)
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

/// The directories of other layers that a directory of the layer `top` with a redirect continues in; `parent` gives the one of
/// a layer that is part of its parent.
pub(super) fn redirect(
    layers: &[Layer],
    top: usize,
    first: &Redirect,
    parent: &dyn Fn(usize) -> Option<EntryId>,
) -> Directories {
    let mut found = Vec::new();
    let mut next = Next::of(first.clone());
    for number in (0..top).rev() {
        let layer = &layers[number];
        let path = match &next {
            Next::Path(path) => path.clone(),
            Next::Name(name) => {
                let Some(dir) = parent(number) else { continue };
                join(&layer.path(dir), name)
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

/// The file with the data of a metacopy file of the layer `top` in the merged directory `dirs`: its layer and entry. Where no
/// layer has it, the path at which layers that only hold data are asked, if they are.
pub(super) fn data(
    layers: &[Layer],
    dirs: &[(usize, EntryId)],
    top: usize,
    metacopy: EntryId,
) -> Result<(usize, EntryId), Option<Vec<u8>>> {
    let mut next = match layers[top].redirect(metacopy) {
        Some(redirect) => Next::of(redirect),
        None => Next::Name(layers[top].name(metacopy).to_vec()),
    };
    for (number, layer) in layers[..top].iter().enumerate().rev() {
        let found = match &mut next {
            Next::Name(name) => in_layer(dirs, number).and_then(|dir| layer.child(dir, name)),
            Next::Path(path) => {
                let (dir, name) = split(path).ok_or(None)?;
                match probe(layer, dir) {
                    Probe::Stop => return Err(None),
                    Probe::Nothing { next } => {
                        *path = join(&next, name);
                        None
                    }
                    Probe::Directory { entry, covered, next, .. } => match layer.child(entry, name) {
                        None if covered => return Err(None),
                        found => {
                            *path = join(&next, name);
                            found
                        }
                    },
                }
            }
        };
        let Some(found) = found else { continue };
        match layer.entry(found) {
            entry if entry.kind != Kind::File => return Err(None),
            entry if !entry.metacopy => return Ok((number, found)),
            _ => {}
        }
        next = match (next, layer.redirect(found)) {
            (next, None) => next,
            // Another name in the directory where it was found.
            (Next::Path(path), Some(Redirect::Name(name))) => {
                Next::Path(join(split(&path).map_or(&[], |(dir, _)| dir), &name))
            }
            (_, Some(redirect)) => Next::of(redirect),
        };
    }
    match next {
        Next::Path(path) => Err(Some(path)),
        Next::Name(_) => Err(None),
    }
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
