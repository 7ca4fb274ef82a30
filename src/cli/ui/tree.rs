//! The tree pane: what is open, filtered, sorted and selected in it.

use super::cursor::{Cursor, Motion};
use super::filter::{Found, Query, Search};
use super::nodes::NodeSet;
use super::rows::{Lines, Row, Sort};
use crate::provenance::{Merged, NodeId, Number, Step};

/// Paths that are looked at for a filter before keys are looked at again: some milliseconds.
const SLICE: usize = 20_000;

/// The filter, from its text to what it found.
#[derive(Debug, Default)]
pub struct Filter {
    /// What was typed.
    pub text: String,
    /// Keys go into the text.
    pub typing: bool,
    search: Option<Search>,
    found: Option<Found>,
}

impl Filter {
    /// How many paths match; `None` without a filter, and before any was found.
    pub fn count(&self) -> Option<usize> {
        self.found.as_ref().map(|found| found.count)
    }

    /// Whether the search goes on.
    pub fn is_busy(&self) -> bool {
        self.search.is_some()
    }
}

/// The tree pane.
#[derive(Debug)]
pub struct TreePane<'a> {
    merged: &'a Merged,
    /// Which layer [`TreePane::step`] is about.
    number: Number,
    step: Step,
    only_changes: bool,
    sort: Sort,
    open: NodeSet,
    pub filter: Filter,
    rows: Vec<Row>,
    pub cursor: Cursor,
}

impl<'a> TreePane<'a> {
    pub fn new(merged: &'a Merged, number: Number) -> Self {
        let step = merged.step(number);
        let (open, filter) = (NodeSet::new(merged.len()), Filter::default());
        let (sort, cursor) = (Sort::Name, Cursor::default());
        let mut pane = Self { merged, number, step, only_changes: false, sort, open, filter, rows: Vec::new(), cursor };
        pane.rebuild(None);
        pane
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn only_changes(&self) -> bool {
        self.only_changes
    }

    /// The selected path.
    pub fn selected(&self) -> Option<NodeId> {
        self.row().map(|row| row.node)
    }

    fn row(&self) -> Option<Row> {
        self.rows.get(self.cursor.at).copied()
    }

    /// What decides which lines there are.
    pub fn lines(&self) -> Lines<'_> {
        let Self { merged, step, only_changes, sort, .. } = self;
        let (only_changes, sort) = (*only_changes, *sort);
        Lines { merged, step, only_changes, sort, filter: self.filter.found.as_ref(), open: self.open_set() }
    }

    fn open_set(&self) -> &NodeSet {
        self.filter.found.as_ref().map_or(&self.open, |found| &found.open)
    }

    fn open_set_mut(&mut self) -> &mut NodeSet {
        self.filter.found.as_mut().map_or(&mut self.open, |found| &mut found.open)
    }

    pub fn is_open(&self, node: NodeId) -> bool {
        self.open_set().contains(node)
    }

    /// Shows the view of a layer.
    pub fn set_layer(&mut self, number: Number) {
        if number != self.number {
            (self.number, self.step) = (number, self.merged.step(number));
            self.changed();
        }
    }

    pub fn toggle_changes(&mut self) {
        self.only_changes = !self.only_changes;
        self.changed();
    }

    pub fn toggle_sort(&mut self) {
        self.sort = if self.sort == Sort::Name { Sort::Size } else { Sort::Name };
        self.rebuild(self.selected());
    }

    /// Which paths there are has changed.
    fn changed(&mut self) {
        if self.filter.text.is_empty() {
            self.rebuild(self.selected());
        } else {
            self.search();
        }
    }

    /// Changes the filter's text.
    pub fn edit_filter(&mut self, change: impl FnOnce(&mut String)) {
        let before = self.filter.text.clone();
        change(&mut self.filter.text);
        if self.filter.text != before {
            self.search();
        }
    }

    /// Begins to look for the filter's text; without one, everything is shown again.
    fn search(&mut self) {
        self.filter.search = Query::new(&self.filter.text).map(|query| Search::new(query, self.merged));
        if self.filter.search.is_some() {
            self.work();
        } else if self.filter.found.take().is_some() {
            let selected = self.selected();
            selected.into_iter().for_each(|node| self.reveal(node));
            self.rebuild(selected);
        }
    }

    /// Goes on with the search for a little while.
    pub fn work(&mut self) {
        let Self { merged, step, only_changes, .. } = self;
        let Some(search) = &mut self.filter.search else { return };
        let shown = |node| super::rows::has(step, *only_changes, node);
        if let Some(found) = search.advance(merged, shown, SLICE) {
            let selected = self.selected();
            (self.filter.search, self.filter.found) = (None, Some(found));
            self.rebuild(selected);
            self.select_match();
        }
    }

    /// Selects the first match, unless one is selected.
    fn select_match(&mut self) {
        let is_match = |row: &Row| row.is_match;
        if !self.row().as_ref().is_some_and(is_match) {
            self.cursor.at = self.rows.iter().position(is_match).unwrap_or(0);
        }
    }

    /// Makes the lines anew, and selects `node` or the directory in which it would be.
    fn rebuild(&mut self, node: Option<NodeId>) {
        self.rows = self.lines().all();
        let Some(node) = node else { return };
        let mut way = vec![node];
        while let Some(parent) = way.last().map(|last| self.merged.parent(*last)).filter(|up| *up != NodeId::ROOT) {
            way.push(parent);
        }
        way.reverse();
        let on_way = |row: &Row| way.get(usize::from(row.depth)) == Some(&row.node);
        self.cursor.at = self.rows.iter().rposition(on_way).unwrap_or(0);
    }

    /// Opens the directories that a path is in.
    fn reveal(&mut self, node: NodeId) {
        let mut at = self.merged.parent(node);
        while at != NodeId::ROOT {
            self.open_set_mut().insert(at);
            at = self.merged.parent(at);
        }
    }

    /// Selects a path, in the view of a layer, whatever was filtered or left out.
    pub fn go_to(&mut self, node: NodeId, number: Number) {
        self.filter = Filter::default();
        self.only_changes = false;
        if number != self.number {
            (self.number, self.step) = (number, self.merged.step(number));
        }
        self.reveal(node);
        self.rebuild(Some(node));
    }

    pub fn go(&mut self, motion: Motion) {
        self.cursor.go(motion, self.rows.len());
    }

    /// Opens the selected directory, or goes into it.
    pub fn open(&mut self) {
        let Some(row) = self.row() else { return };
        if self.is_open(row.node) {
            let inside = self.rows.get(self.cursor.at + 1).is_some_and(|next| next.depth > row.depth);
            self.cursor.at += usize::from(inside);
        } else if self.lines().has_children(row) {
            self.open_set_mut().insert(row.node);
            let below = self.lines().below(row);
            let at = self.cursor.at + 1;
            self.rows.splice(at..at, below);
        }
    }

    /// Closes the selected directory, or goes to the one it is in.
    pub fn close(&mut self) {
        let Some(row) = self.row() else { return };
        if self.is_open(row.node) {
            self.open_set_mut().remove(row.node);
            let inside = self.inside(row);
            self.rows.drain(inside);
        } else {
            let above = self.rows[..self.cursor.at].iter().rposition(|above| above.depth < row.depth);
            self.cursor.at = above.unwrap_or(self.cursor.at);
        }
    }

    /// Opens or closes the selected line; false when there is nothing in it.
    pub fn toggle(&mut self) -> bool {
        let Some(row) = self.row() else { return true };
        if self.is_open(row.node) {
            self.close();
        } else if self.lines().has_children(row) {
            self.open();
        } else {
            return false;
        }
        true
    }

    /// The lines below the selected one that are in it.
    fn inside(&self, row: Row) -> std::ops::Range<usize> {
        let start = self.cursor.at + 1;
        let len = self.rows[start..].iter().take_while(|below| below.depth > row.depth).count();
        start..start + len
    }

    /// Opens the selected directory and all in it.
    pub fn open_all(&mut self) {
        let Some(row) = self.row() else { return };
        let inside = self.inside(row);
        let mut todo = vec![row.node];
        while let Some(node) = todo.pop() {
            let children = self.merged.children(node);
            if children.len() > 0 {
                self.open_set_mut().insert(node);
                todo.extend(children);
            }
        }
        let below = self.lines().below(row);
        self.rows.splice(inside, below);
    }

    /// Closes all directories.
    pub fn close_all(&mut self) {
        let selected = self.selected();
        self.open_set_mut().clear();
        self.rebuild(selected);
    }
}
