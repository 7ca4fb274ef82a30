//! Which files with several names were counted already.

use super::layer::EntryId;
use super::merged::Merged;
use super::tree::{Number, Occurrence};
use rustc_hash::FxHashSet;

/// Files with several names that were seen. Those with one name take no room.
#[derive(Default)]
pub(super) struct Seen(FxHashSet<(Number, EntryId)>);

impl Seen {
    /// Whether the file was not seen before under another name.
    pub fn first(&mut self, merged: &Merged, occurrence: &Occurrence) -> bool {
        let layer = merged.layer(occurrence.layer());
        !layer.has_names(occurrence.entry) || self.0.insert(merged.first_name(occurrence))
    }
}
