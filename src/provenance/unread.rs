//! Directories of layers that whoever asks may not read: what an answer needs of them is an error, the rest is told.

use super::error::{Error, Result};
use super::layer::EntryId;
use super::merged::{Merged, View};
use super::tree::{End, NodeId, Number};
use crate::sys;
use rustc_hash::FxHashMap;

/// By path: the layers with such a directory there.
pub(super) type Unread = FxHashMap<NodeId, Vec<(Number, EntryId, sys::Error)>>;

impl Merged {
    /// The same without what is in these directories, which could not be read.
    ///
    /// # Errors
    /// [`Error::Read`] for one of them where directories were moved: what is in them may belong elsewhere.
    pub(super) fn without(mut self, unread: Vec<(Number, EntryId, sys::Error)>) -> Result<Self> {
        if let (Some(first), true) = (unread.first(), self.tree().has_moves()) {
            return Err(self.denied(first));
        }
        let unread: FxHashMap<(Number, EntryId), sys::Error> =
            unread.into_iter().map(|(number, entry, error)| ((number, entry), error)).collect();
        for node in self.nodes().take_while(|_| !unread.is_empty()) {
            let denied = |found: &super::Occurrence| {
                let error = unread.get(&(found.layer(), found.entry))?;
                Some((found.layer(), found.entry, *error))
            };
            let all: Vec<_> = self.occurrences(node).iter().filter_map(denied).collect();
            if !all.is_empty() {
                self.unread.insert(node, all);
            }
        }
        Ok(self)
    }

    /// Whether all of every layer was read.
    ///
    /// # Errors
    /// [`Error::Read`] for a directory that was not.
    pub fn check_all(&self) -> Result<()> {
        let unread = self.unread.values().flatten().min_by_key(|(number, entry, _)| (*number, *entry));
        unread.map_or(Ok(()), |unread| Err(self.denied(unread)))
    }

    /// Whether all was read that a view shows in a directory, and in those below it down to `depth` (all for `None`).
    ///
    /// # Errors
    /// [`Error::Read`] for the first that was not.
    pub fn check_read(&self, top: NodeId, view: impl Into<View>, depth: Option<usize>) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let (view, most) = (view.into(), depth.unwrap_or(usize::MAX));
        let mut walk = self.walk(top, view, depth).filter(|(_, _, depth)| *depth < most);
        walk.try_for_each(|(node, ..)| self.check_directory(node, Some(view)))
    }

    /// Whether all was read that a view shows on the way to a path, as it is written; without a view, whether all was that
    /// any layer has there.
    ///
    /// # Errors
    /// [`Error::Read`] for the first directory that was not.
    pub fn check_way(&self, path: &[u8], view: Option<View>) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut directories = std::iter::once(0).chain(ends).filter_map(|end| self.find(&path[..end]));
        directories.try_for_each(|node| self.check_directory(node, view))
    }

    /// Whether a directory was read in all layers that it consists of in a view; without a view, in all layers.
    pub(super) fn check_directory(&self, node: NodeId, view: Option<View>) -> Result<()> {
        let looks_at = |number: Number| match view {
            Some(View::UpTo(top)) => number <= top && self.is_merged(node, number, top),
            Some(View::Alone(only)) => number == only,
            None => true,
        };
        let unread = self.unread.get(&node).into_iter().flatten().find(|(number, ..)| looks_at(*number));
        unread.map_or(Ok(()), |unread| Err(self.denied(unread)))
    }

    /// Whether what a layer has in a directory is part of it in the view up to `top`: up to there other layers only have
    /// directories that merge with it. (Where directories were moved there is nothing unread.)
    fn is_merged(&self, node: NodeId, number: Number, top: Number) -> bool {
        let of = |layer: Number| self.occurrences(node).iter().find(|found| found.layer() == layer);
        let mut at = of(number);
        while let Some(found) = at.filter(|found| found.until().is_some_and(|until| until <= top)) {
            if found.end != End::Merged {
                return false;
            }
            at = found.hidden_by().and_then(of);
        }
        true
    }

    fn denied(&self, (number, entry, source): &(Number, EntryId, sys::Error)) -> Error {
        self.layer(*number).failed(*entry, *source)
    }
}
