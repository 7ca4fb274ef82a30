//! Two merged views side by side: two images, two moments of one, or a mount and what it was made from.

use super::compare::{Difference, Place, compare};
use super::entry::Kind;
use super::error::Result;
use super::merged::{Merged, View};
use super::tree::{NodeId, Occurrence};

/// One of the two.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The stack.
    pub merged: &'a Merged,
    /// Which layers of it.
    pub view: View,
}

/// What a side has at a path.
pub type Seen<'a> = (NodeId, &'a Occurrence);

/// A path at which the two differ.
#[derive(Clone, Copy, Debug)]
pub struct Delta<'a> {
    /// What the first has; `None` when it was added.
    pub before: Option<Seen<'a>>,
    /// What the second has; `None` when it was deleted.
    pub after: Option<Seen<'a>>,
    /// In what the two differ, where both are there. In nothing for a directory in which something differs.
    pub difference: Difference,
}

impl Delta<'_> {
    /// The path, without a slash at either end. `a` and `b` are the sides that were compared.
    #[must_use]
    pub fn path(&self, a: Side<'_>, b: Side<'_>) -> Vec<u8> {
        match (self.before, self.after) {
            (_, Some((node, _))) => b.merged.path(node),
            (Some((node, _)), None) => a.merged.path(node),
            (None, None) => Vec::new(),
        }
    }
}

/// What two sides have under one name.
type Pair<'a> = (Option<Seen<'a>>, Option<Seen<'a>>);

/// A directory on the way.
struct Frame<'a> {
    /// Told if something in it differs; `None` when it was told already.
    untold: Option<Delta<'a>>,
    rest: std::vec::IntoIter<Pair<'a>>,
}

impl<'a> Side<'a> {
    fn place(self, (node, found): Seen<'a>) -> Place<'a> {
        Place { merged: self.merged, node, found }
    }

    fn is_dir(self, seen: Option<Seen<'_>>) -> bool {
        seen.is_some_and(|(_, found)| self.merged.entry(found).kind == Kind::Directory)
    }

    fn children(self, seen: Option<Seen<'a>>) -> Vec<(&'a [u8], Seen<'a>)> {
        let Some((node, _)) = seen.filter(|seen| self.is_dir(Some(*seen))) else { return Vec::new() };
        let merged = self.merged;
        merged.seen_children(node, self.view).map(|(child, found)| (merged.name(child), (child, found))).collect()
    }
}

/// Calls `each` for every path at which two views differ, in the order of a walk by byte order. A directory in which
/// something differs is told before it, as `docker diff` does, but the root only where it differs itself; what was in a directory that was deleted is not told.
/// Times of directories are not compared. Where two files have one length their contents are read, unless they are known.
///
/// # Errors
/// Those of reading, and of `each`.
pub fn differences<'a>(a: Side<'a>, b: Side<'a>, each: &mut dyn FnMut(Delta<'a>) -> Result<()>) -> Result<()> {
    let root = |side: Side<'a>| side.merged.seen(NodeId::ROOT, side.view).map(|found| (NodeId::ROOT, found));
    let (before, after) = (root(a), root(b));
    if let (Some(old), Some(new)) = (before, after) {
        let difference = Difference { mtime: false, ..compare(a.place(old), b.place(new))? };
        if difference.any() {
            each(Delta { before, after, difference })?;
        }
    }
    // In two moments of one stack, what both show from one layer differs in nothing; and nothing in it does, as a layer has
    // the directories of what it has.
    let moments = matches!((a.view, b.view), (View::UpTo(_), View::UpTo(_)));
    let one_stack = moments && std::ptr::eq(a.merged, b.merged) && !a.merged.has_copies();
    let mut frames = vec![Frame { untold: None, rest: pairs(a.children(before), b.children(after)) }];
    while let Some(frame) = frames.last_mut() {
        let Some((before, after)) = frame.rest.next() else {
            frames.pop();
            continue;
        };
        let difference = match (before, after) {
            _ if one_stack && before == after => continue,
            (Some(before), Some(after)) => {
                let found = compare(a.place(before), b.place(after))?;
                let is_dir = a.is_dir(Some(before)) && b.is_dir(Some(after));
                Difference { mtime: found.mtime && !is_dir, ..found }
            }
            _ => Difference::default(),
        };
        let delta = Delta { before, after, difference };
        let differs = difference.any() || before.is_none() || after.is_none();
        if differs {
            for untold in frames.iter_mut().filter_map(|frame| frame.untold.take()) {
                each(untold)?;
            }
            each(delta)?;
        }
        if b.is_dir(after) {
            let old = if a.is_dir(before) { a.children(before) } else { Vec::new() };
            frames.push(Frame { untold: (!differs).then_some(delta), rest: pairs(old, b.children(after)) });
        }
    }
    Ok(())
}

/// Joins two sorted lists by name.
fn pairs<'a>(a: Vec<(&'a [u8], Seen<'a>)>, b: Vec<(&'a [u8], Seen<'a>)>) -> std::vec::IntoIter<Pair<'a>> {
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    let mut all = Vec::new();
    loop {
        let name = match (a.peek(), b.peek()) {
            (None, None) => return all.into_iter(),
            (Some((name, _)), None) | (None, Some((name, _))) => *name,
            (Some((one, _)), Some((other, _))) => (*one).min(*other),
        };
        let before = a.next_if(|(own, _)| *own == name).map(|(_, seen)| seen);
        let after = b.next_if(|(own, _)| *own == name).map(|(_, seen)| seen);
        all.push((before, after));
    }
}
