//! From a path as a user writes it to what it leads to.

use super::entry::Kind;
use super::merged::Merged;
use super::tree::{NodeId, Number};
use crate::archive::MAX_LINKS;
use std::collections::VecDeque;

/// Why a path leads nowhere in the merged view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No layer has it.
    Never,
    /// Layers have something there, which is not seen in this view; and what of the path is left below it.
    Hidden(NodeId, Vec<u8>),
    /// Something on the way is no directory.
    NotADirectory(NodeId),
    /// Something on the way may not be read.
    Denied(NodeId),
    /// More symbolic links than the kernel follows.
    TooManyLinks,
}

impl Merged {
    /// The path that names this, whatever the views show; no link is followed, `.` and `..` go by the text, behind what some
    /// layer has as a directory.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<NodeId> {
        self.find_from(NodeId::ROOT, path)
    }

    /// The same from a directory on.
    fn find_from(&self, dir: NodeId, path: &[u8]) -> Option<NodeId> {
        let mut at = dir;
        if path.is_empty() {
            return Some(at);
        }
        for part in path.split(|b| *b == b'/') {
            at = match part {
                b"" | b"." | b".." if !self.occurrences(at).iter().any(|found| self.entry(found).is_dir()) => {
                    return None;
                }
                b"" | b"." => at,
                b".." => self.parent(at),
                name => self.child(at, name)?,
            };
        }
        Some(at)
    }

    /// Where [`Merged::resolve`] leads, or would lead if what is hidden could be seen; and what has this path itself in any
    /// layer, if that is another one, which the view does not show: a link has taken the place of a directory. Where links
    /// lead nowhere, the second alone comes first.
    #[must_use]
    pub fn trace(&self, path: &[u8], at: Number, follow: bool) -> Option<(NodeId, Option<NodeId>)> {
        let reached = match self.resolve(path, at, follow) {
            Ok(node) => Some(node),
            // Nothing there is seen, so that no link is followed.
            Err(Lost::Hidden(node, rest)) => self.find_from(node, &rest),
            Err(Lost::Denied(_)) => return None,
            Err(_) => None,
        };
        let itself = self.find(path);
        let node = reached.or(itself)?;
        Some((node, itself.filter(|itself| *itself != node && self.visible(*itself, at).is_none())))
    }

    /// The path that one would reach in the view up to a layer, symbolic links on the way followed inside of it, as in a
    /// mount that is the root; the last one too if `follow`, or if a slash is behind it.
    ///
    /// # Errors
    /// [`Lost`] when there is nothing to reach.
    pub fn resolve(&self, path: &[u8], at: Number, follow: bool) -> std::result::Result<NodeId, Lost> {
        let split = |path: &[u8]| path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut todo: VecDeque<Vec<u8>> = split(path).into();
        let (mut node, mut links) = (NodeId::ROOT, 0);
        while let Some(part) = todo.pop_front() {
            // Also for what has only a slash, or a dot, behind it.
            if !self.visible(node, at).is_none_or(|found| self.entry(found).is_dir()) {
                return Err(Lost::NotADirectory(node));
            }
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    node = self.parent(node);
                    continue;
                }
                _ => {}
            }
            if self.check_directory(node, Some(at.into())).is_err() {
                return Err(Lost::Denied(node));
            }
            let child = self.child(node, &part).ok_or(Lost::Never)?;
            let Some(found) = self.visible(child, at) else {
                return Err(Lost::Hidden(child, Vec::from(todo).join(&b'/')));
            };
            if self.entry(found).kind != Kind::Symlink || (todo.is_empty() && !follow) {
                node = child;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Lost::TooManyLinks);
            }
            let target = self.layer(found.layer()).target(found.entry);
            if target.starts_with(b"/") {
                node = NodeId::ROOT;
            }
            for part in split(target).into_iter().rev() {
                todo.push_front(part);
            }
        }
        Ok(node)
    }
}
