//! The lines of the tree: what is shown of it, in which order. A line is eight bytes, so a million of them are no matter;
//! text is made by `draw` for those on the screen only.

use super::filter::Found;
use super::nodes::NodeSet;
use crate::provenance::{Merged, NodeId, Step};
use std::cmp::Reverse;

/// The order of what is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// By the bytes of the names.
    Name,
    /// The largest first.
    Size,
}

/// A line of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub node: NodeId,
    /// How many directories it is in, the root not counted.
    pub depth: u16,
    /// The filter matches it or a directory that it is in.
    pub is_match: bool,
}

/// What decides which lines there are.
pub struct Lines<'a> {
    pub merged: &'a Merged,
    pub step: &'a Step,
    /// Leave out what the layer does not change.
    pub only_changes: bool,
    pub sort: Sort,
    pub filter: Option<&'a Found>,
    /// Directories that are shown with what is in them.
    pub open: &'a NodeSet,
}

impl Lines<'_> {
    /// Whether there is a line for a path, as far as the layer decides it.
    pub fn has(&self, node: NodeId) -> bool {
        has(self.step, self.only_changes, node)
    }

    /// The size that is shown.
    pub fn size(&self, node: NodeId) -> u64 {
        if self.only_changes { self.step.own_size(node) } else { self.step.size(node) }
    }

    /// All lines.
    pub fn all(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        self.add(&mut rows, self.children(NodeId::ROOT, 0, false));
        rows
    }

    /// The lines for what is in a directory that is open.
    pub fn below(&self, row: Row) -> Vec<Row> {
        let mut rows = Vec::new();
        self.add(&mut rows, self.children(row.node, row.depth.saturating_add(1), row.is_match));
        rows
    }

    /// Whether something can be shown below a line.
    pub fn has_children(&self, row: Row) -> bool {
        self.merged.children(row.node).any(|child| self.row(child, 0, row.is_match).is_some())
    }

    /// Adds lines, each followed by what is in it.
    fn add(&self, rows: &mut Vec<Row>, mut todo: Vec<Row>) {
        todo.reverse();
        while let Some(row) = todo.pop() {
            rows.push(row);
            if self.open.contains(row.node) {
                let children = self.children(row.node, row.depth.saturating_add(1), row.is_match);
                todo.extend(children.into_iter().rev());
            }
        }
    }

    fn children(&self, node: NodeId, depth: u16, is_match: bool) -> Vec<Row> {
        let children = self.merged.children(node);
        let mut rows: Vec<Row> = children.filter_map(|child| self.row(child, depth, is_match)).collect();
        if self.sort == Sort::Size {
            rows.sort_by_key(|row| Reverse(self.size(row.node)));
        }
        rows
    }

    fn row(&self, node: NodeId, depth: u16, in_match: bool) -> Option<Row> {
        if !self.has(node) {
            return None;
        }
        let is_match = in_match || self.filter.is_some_and(|found| found.is_match(node));
        let kept = is_match || self.filter.is_none_or(|found| found.keeps(node));
        kept.then_some(Row { node, depth, is_match })
    }
}

/// Whether the view of a layer has a path, or the layer removed it.
pub fn has(step: &Step, only_changes: bool, node: NodeId) -> bool {
    use crate::provenance::Mark;
    match step.mark(node) {
        Mark::Absent => false,
        Mark::Same => !only_changes,
        _ => true,
    }
}
