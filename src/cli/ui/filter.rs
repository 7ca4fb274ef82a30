//! The filter: which paths have a text in them. The search is done in pieces, so that keys are answered while it lasts.

use super::nodes::NodeSet;
use crate::provenance::{Merged, NodeId};

/// What is looked for: a part of a name, or of a path if there is a slash in it. Capital letters differ from small ones
/// only where the text has some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    text: Vec<u8>,
    is_path: bool,
    is_exact: bool,
}

impl Query {
    /// `None` for an empty text, which everything has.
    pub fn new(text: &str) -> Option<Self> {
        let is_exact = text.bytes().any(|b| b.is_ascii_uppercase());
        let query = Self { text: text.into(), is_path: text.contains('/'), is_exact };
        (!text.is_empty()).then_some(query)
    }

    /// Whether a path matches, whose last name begins at `name`.
    fn matches(&self, path: &[u8], name: usize) -> bool {
        let mut windows = path[if self.is_path { 0 } else { name }..].windows(self.text.len());
        if self.is_exact {
            windows.any(|part| part == self.text)
        } else {
            windows.any(|part| part.eq_ignore_ascii_case(&self.text))
        }
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    /// The paths that match.
    matches: NodeSet,
    /// Those, and the directories that they are in.
    kept: NodeSet,
    /// Directories that are shown with what is in them: those with a match below. The user changes it.
    pub open: NodeSet,
    /// How many match.
    pub count: usize,
}

impl Found {
    pub fn is_match(&self, node: NodeId) -> bool {
        self.matches.contains(node)
    }

    /// Whether a path is shown because of itself or of what is below it.
    pub fn keeps(&self, node: NodeId) -> bool {
        self.kept.contains(node)
    }

    fn add(&mut self, merged: &Merged, node: NodeId) {
        self.count += 1;
        self.matches.insert(node);
        self.kept.insert(node);
        let mut at = node;
        while at != NodeId::ROOT {
            at = merged.parent(at);
            self.kept.insert(at);
            if !self.open.insert(at) {
                break;
            }
        }
    }
}

/// A search that goes on.
#[derive(Debug)]
pub struct Search {
    query: Query,
    found: Found,
    /// Paths to look at, each with the length of its parent's path.
    todo: Vec<(NodeId, usize)>,
    path: Vec<u8>,
}

impl Search {
    pub fn new(query: Query, merged: &Merged) -> Self {
        let set = || NodeSet::new(merged.len());
        let found = Found { matches: set(), kept: set(), open: set(), count: 0 };
        let mut search = Self { query, found, todo: Vec::new(), path: Vec::new() };
        search.push_children(NodeId::ROOT, merged);
        search
    }

    /// Looks at up to `paths` paths of those that are `shown`, and has the result when that was the rest.
    pub fn advance(&mut self, merged: &Merged, shown: impl Fn(NodeId) -> bool, paths: usize) -> Option<Found> {
        for _ in 0..paths {
            let Some((node, parent)) = self.todo.pop() else { return Some(std::mem::take(&mut self.found)) };
            if !shown(node) {
                continue;
            }
            self.path.truncate(parent);
            self.path.push(b'/');
            let name = self.path.len();
            self.path.extend_from_slice(merged.name(node));
            if self.query.matches(&self.path, name) {
                self.found.add(merged, node);
            }
            self.push_children(node, merged);
        }
        None
    }

    fn push_children(&mut self, node: NodeId, merged: &Merged) {
        let parent = self.path.len();
        self.todo.extend(merged.children(node).rev().map(|child| (child, parent)));
    }
}
