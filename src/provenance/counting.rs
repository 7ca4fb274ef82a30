//! At which of its paths a file counts that has several.

use super::layer::EntryId;
use super::merged::{Merged, View};
use super::tree::{NodeId, Number, Occurrence};
use rustc_hash::FxHashMap;

/// Where a view counts each file that has several names, or is in a directory that was moved. Those with one name take no
/// room.
#[derive(Debug, Default)]
pub(super) struct Counting(FxHashMap<(Number, EntryId), NodeId>);

impl Counting {
    /// Looks at all that a view shows. A file counts at the first of its names in its layer ([`Merged::hard_link`] gives that
    /// for the others); where that one is not seen, at the first that is, in the order of a walk.
    pub fn of(merged: &Merged, view: impl Into<View>) -> Self {
        let mut paths = FxHashMap::default();
        for (node, found, _) in merged.walk(NodeId::ROOT, view, None) {
            if !merged.layer(found.layer()).has_names(found.entry) && found.since() == found.layer() {
                continue;
            }
            let first = merged.first_name(found);
            if first.1 == found.entry && !found.is_by_index() {
                paths.insert(first, node);
            } else {
                paths.entry(first).or_insert(node);
            }
        }
        Self(paths)
    }

    /// Whether a file that the view shows at a path counts there.
    pub fn counts(&self, merged: &Merged, node: NodeId, found: &Occurrence) -> bool {
        self.0.get(&merged.first_name(found)).is_none_or(|counted| *counted == node)
    }

    /// Whether the view shows a file, by its first name, that may count elsewhere.
    pub fn has(&self, first: (Number, EntryId)) -> bool {
        self.0.contains_key(&first)
    }
}
