//! Names of files that have several.
//!
//! A lower file with several names that was copied up through one of them shows its new contents under all, although upper
//! has only that one; and of a lower file of which only one name moved, the others would lose it when only that one came
//! into a new layer. So when fewer names of a file are among the changes than it has, the others are looked for everywhere.

use super::compare::Rule;
use super::error::{Error, Result};
use super::same::kind;
use super::union::{Tree, Union};
use crate::overlay::{Ino, OnDisk};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::ops::Bound;

/// Paths that are looked at wherever they are.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<Vec<u8>>);

impl Names {
    pub fn has(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }

    /// Whether any is in the directory `dir` or further down.
    pub fn any_below(&self, dir: &[u8]) -> bool {
        self.next_below(dir).next().is_some()
    }

    /// The names in `dir` that are, or lead to, one of the paths; one name may come several times.
    pub fn next_below<'a>(&'a self, dir: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let prefix = if dir.is_empty() { Vec::new() } else { [dir, b"/"].concat() };
        let length = prefix.len();
        let from = self.0.range((Bound::Included(prefix.clone()), Bound::Unbounded));
        let below = from.take_while(move |path| path.starts_with(&prefix));
        below.filter_map(move |path| path[length..].split(|b| *b == b'/').next())
    }
}

/// How many names of each file are still to be found.
type Wanted = FxHashMap<OnDisk, u32>;

/// A directory that is searched.
struct Frame {
    dir: Ino,
    path: usize,
    names: std::vec::IntoIter<Box<[u8]>>,
}

impl Union {
    /// All names of the changed files that have more than are seen among the changes.
    pub(super) fn other_names(&self, rule: Rule) -> Result<Names> {
        if self.base.is_none() {
            return Ok(Names::default());
        }
        let mut seen: FxHashMap<OnDisk, (u32, u32)> = FxHashMap::default();
        self.walk(rule, &Names::default(), false, &mut |change| {
            let Some(attr) = change.attr.filter(|a| kind(a) != libc::S_IFDIR && a.nlink > 1) else { return Ok(()) };
            let place = self.top.on_disk(attr.ino).map_err(Error::read(change.path))?;
            // For Docker a name is not changed because another one moved.
            if rule == Rule::Exact || place.upper {
                seen.entry(place).or_insert((attr.nlink, 0)).1 += 1;
            }
            Ok(())
        })?;
        // Of some no name is left in upper: what they became shows under names of lower layers only.
        let indexed = self.top.indexed_files(&mut |place, names| {
            seen.entry(place).or_insert((names, 0));
        });
        indexed.map_err(Error::read(b""))?;
        let wanted: Wanted =
            seen.into_iter().filter(|(_, (all, seen))| seen < all).map(|(place, (all, _))| (place, all)).collect();
        if wanted.is_empty() { Ok(Names::default()) } else { self.search(wanted, rule) }
    }

    /// Walks the whole tree until all names are found. For Docker a directory that is gone meanwhile has none.
    fn search(&self, mut wanted: Wanted, rule: Rule) -> Result<Names> {
        let (tree, mut found, mut path) = (Tree(&self.top), Names::default(), Vec::new());
        let root = tree.root()?.ino;
        let mut frames = vec![Frame { dir: root, path: 0, names: tree.names(root, b"")?.into_iter() }];
        while let Some(frame) = frames.last_mut() {
            path.truncate(frame.path);
            let Some(name) = frame.names.next().filter(|_| !wanted.is_empty()) else {
                tree.forget(frame.dir);
                frames.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let Some(attr) = tree.lookup(frame.dir, &name, &path)? else { continue };
            if kind(&attr) == libc::S_IFDIR {
                match tree.names(attr.ino, &path) {
                    Err(Error::Gone { .. }) if rule == Rule::Docker => tree.forget(attr.ino),
                    names => frames.push(Frame { dir: attr.ino, path: path.len(), names: names?.into_iter() }),
                }
                continue;
            }
            // Also where this is the last name: the one through which the file was changed can be gone.
            let place = self.top.on_disk(attr.ino).map_err(Error::read(&path))?;
            if let Some(left) = wanted.get_mut(&place) {
                found.0.insert(path.clone());
                *left -= 1;
                if *left == 0 {
                    wanted.remove(&place);
                }
            }
            tree.forget(attr.ino);
        }
        Ok(found)
    }
}
