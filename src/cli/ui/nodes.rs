//! Sets of paths.

use crate::provenance::NodeId;

/// A set of paths of one merged tree: a bit for each.
#[derive(Debug, Clone, Default)]
pub struct NodeSet(Vec<u64>);

impl NodeSet {
    /// An empty set for a tree with that many paths.
    pub fn new(paths: usize) -> Self {
        Self(vec![0; paths.div_ceil(64)])
    }

    pub fn contains(&self, node: NodeId) -> bool {
        self.0.get(node.index() / 64).is_some_and(|word| word & bit(node) != 0)
    }

    /// Adds a path; whether it was not in the set before.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let Some(word) = self.0.get_mut(node.index() / 64) else { return false };
        let added = *word & bit(node) == 0;
        *word |= bit(node);
        added
    }

    pub fn remove(&mut self, node: NodeId) {
        if let Some(word) = self.0.get_mut(node.index() / 64) {
            *word &= !bit(node);
        }
    }

    pub fn clear(&mut self) {
        self.0.fill(0);
    }
}

fn bit(node: NodeId) -> u64 {
    1 << (node.index() % 64)
}
