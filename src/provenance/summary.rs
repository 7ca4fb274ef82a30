//! What each layer adds up to.

use super::layer::Counts;
use super::merged::Merged;
use super::step::is_same_directory;
use super::total::total;
use super::tree::{Number, Occurrence};

/// A layer in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its entries by kind, and the bytes that it takes.
    pub counts: Counts,
    /// Paths that the view with it shows and the one without does not. All that is in a directory that it moved is among
    /// them.
    pub added: u64,
    /// Paths that both views show, where it has something: files and others that are there once more, and directories with
    /// another mode, owner or opacity.
    pub changed: u64,
    /// Paths that only the view without it shows: what was in a directory that went is not counted.
    pub deleted: u64,
    /// Bytes of it that layers above hide.
    pub hidden: u64,
}

impl Merged {
    /// Sums up every layer, the lowest first. No content is read.
    #[must_use]
    pub fn summaries(&self) -> Vec<Summary> {
        let counts = self.layers().iter().map(|layer| Summary { counts: layer.counts(), ..Summary::default() });
        let mut summaries: Vec<Summary> = counts.collect();
        for node in self.nodes().skip(1) {
            let shown = |found: &&Occurrence| found.until() != Some(found.since()) && !self.entry(found).is_whiteout();
            for found in self.occurrences(node).iter().filter(shown) {
                let summary = &mut summaries[found.since().index()];
                let before = found.since().below().and_then(|below| self.visible(node, below));
                match before.map(|before| (self.entry(before), self.entry(found))) {
                    None => summary.added += 1,
                    Some((before, entry)) => summary.changed += u64::from(!is_same_directory(entry, before)),
                }
                let is_dir = |found: &Occurrence| self.entry(found).is_dir();
                let gone = |at: &Number| {
                    let left = self.visible(self.parent(node), *at).is_some_and(is_dir);
                    left && self.visible(node, *at).is_none()
                };
                if let Some(at) = found.until().filter(gone) {
                    summaries[at.index()].deleted += 1;
                }
            }
        }
        for file in self.hidden() {
            let hidden = &mut summaries[file.layer.index()].hidden;
            *hidden = total([*hidden, file.bytes]);
        }
        summaries
    }

    /// The short digest of the uncompressed tar of a layer; `None` for a directory of
    /// which nothing else is known.
    #[must_use]
    pub fn short_digest(&self, number: Number) -> Option<String> {
        self.layer(number).facts.diff_id.map(|digest| digest.0.short())
    }
}
