//! Directories of layers that whoever asks may not read: what an answer needs of them is an error, the rest is told.

use super::error::{Error, Result};
use super::layer::EntryId;
use super::merged::{Merged, View};
use super::tree::{NodeId, Number};
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
        walk.try_for_each(|(node, ..)| self.check_directory(node, view))
    }

    /// Whether all was read that lies on the way to a path, as it is written.
    ///
    /// # Errors
    /// [`Error::Read`] for the first directory that was not.
    pub fn check_way(&self, path: &[u8], view: impl Into<View>) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let view = view.into();
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut directories = std::iter::once(0).chain(ends).filter_map(|end| self.find(&path[..end]));
        directories.try_for_each(|node| self.check_directory(node, view))
    }

    /// Whether a directory was read in all layers of a view.
    pub(super) fn check_directory(&self, node: NodeId, view: View) -> Result<()> {
        let looks_at = |number: Number| match view {
            View::UpTo(top) => number <= top,
            View::Alone(only) => number == only,
        };
        let unread = self.unread.get(&node).into_iter().flatten().find(|(number, ..)| looks_at(*number));
        unread.map_or(Ok(()), |unread| Err(self.denied(unread)))
    }

    fn denied(&self, (number, entry, source): &(Number, EntryId, sys::Error)) -> Error {
        self.layer(*number).failed(*entry, *source)
    }
}
