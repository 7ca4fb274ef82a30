//! What one layer changes in the merged view: a mark and sizes for each path.

use super::counting::Counting;
use super::entry::{Entry, Kind};
use super::merged::Merged;
use super::total::total;
use super::tree::{NodeId, Number};

/// What a layer does to a path of the merged view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The view has no such path, and the view without the layer has none.
    Absent,
    /// Nothing.
    Same,
    /// A directory that stays what it is, but not all that is below it.
    Inside,
    /// It was not there.
    Added,
    /// It shows another object, or other attributes. The time of a directory is none: it changes with what is in it.
    Changed,
    /// It was there, and is not any more.
    Removed,
}

impl Mark {
    /// Whether the layer does something at or below the path.
    #[must_use]
    pub fn is_change(self) -> bool {
        !matches!(self, Self::Absent | Self::Same)
    }

    /// Whether the view with the layer has the path.
    #[must_use]
    pub fn is_shown(self) -> bool {
        !matches!(self, Self::Absent | Self::Removed)
    }
}

/// What the view up to a layer shows, and how it differs from the view without the layer.
#[derive(Debug)]
pub struct Step {
    marks: Vec<Mark>,
    sizes: Vec<u64>,
    own: Vec<u64>,
}

impl Step {
    /// What the layer does to a path.
    #[must_use]
    pub fn mark(&self, node: NodeId) -> Mark {
        self.marks[node.index()]
    }

    /// Bytes of the regular files that the view shows at a path and below it, as [`Merged::sizes`] counts them. Of what was
    /// removed: those that the view without the layer shows.
    #[must_use]
    pub fn size(&self, node: NodeId) -> u64 {
        self.sizes[node.index()]
    }

    /// Bytes of the regular files that the layer added or changed at a path and below it. Of what it removed: as
    /// [`Step::size`].
    #[must_use]
    pub fn own_size(&self, node: NodeId) -> u64 {
        self.own[node.index()]
    }
}

impl Merged {
    /// What the layer `at` changes in the merged view of the layers below it.
    #[must_use]
    pub fn step(&self, at: Number) -> Step {
        let below = at.below();
        let mut step =
            Step { marks: vec![Mark::Absent; self.len()], sizes: vec![0; self.len()], own: vec![0; self.len()] };
        let now_counting = Counting::of(self, at);
        let before_counting = below.map(|below| Counting::of(self, below)).unwrap_or_default();
        for node in self.nodes() {
            let now = self.visible(node, at);
            let before = below.and_then(|below| self.visible(node, below));
            let (mark, file, counting) = match (now, before) {
                (None, None) => continue,
                (Some(now), None) => (Mark::Added, now, &now_counting),
                (None, Some(before)) => (Mark::Removed, before, &before_counting),
                (Some(now), Some(before)) => {
                    let same = now == before || is_same_directory(self.entry(now), self.entry(before));
                    (if same { Mark::Same } else { Mark::Changed }, now, &now_counting)
                }
            };
            let entry = self.entry(file);
            step.marks[node.index()] = mark;
            if entry.kind == Kind::File && counting.counts(self, node, file) {
                step.sizes[node.index()] = entry.size;
                step.own[node.index()] = if mark == Mark::Same { 0 } else { entry.size };
            }
        }
        self.add_up(&mut step);
        step
    }

    /// Adds to each directory what is in it.
    fn add_up(&self, step: &mut Step) {
        for node in self.nodes().rev().filter(|node| *node != NodeId::ROOT) {
            let (mark, parent) = (step.marks[node.index()], self.parent(node).index());
            if mark.is_change() && step.marks[parent] == Mark::Same {
                step.marks[parent] = Mark::Inside;
            }
            if mark.is_shown() || step.marks[parent] == Mark::Removed {
                step.sizes[parent] = total([step.sizes[parent], step.sizes[node.index()]]);
                step.own[parent] = total([step.own[parent], step.own[node.index()]]);
            }
        }
    }
}

/// Whether a layer has a directory only to have something in it.
pub(super) fn is_same_directory(now: &Entry, before: &Entry) -> bool {
    let attributes = |entry: &Entry| (entry.mode, entry.uid, entry.gid);
    now.is_dir() && before.is_dir() && !now.opaque && attributes(now) == attributes(before)
}
