//! What each layer adds up to.

use super::layer::Counts;
use super::merged::Merged;
use super::total::total;
use super::tree::Number;

/// A layer in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its entries by kind, and the bytes that it takes.
    pub counts: Counts,
    /// Paths that it has and the layers below do not show.
    pub added: u64,
    /// Paths that both have: files and others that are there once more, and directories with another mode, owner or
    /// opacity.
    pub changed: u64,
    /// Paths of the layers below that a whiteout takes away, each once: what was in a directory is not counted.
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
            for found in self.occurrences(node).iter().filter(|found| found.since() == found.layer()) {
                let summary = &mut summaries[found.layer().index()];
                let (entry, before) = (self.entry(found), self.before(node, found).map(|before| self.entry(before)));
                match before {
                    Some(_) if entry.is_whiteout() => summary.deleted += 1,
                    None if entry.is_whiteout() => {}
                    None => summary.added += 1,
                    Some(before) => {
                        let same = before.is_dir() && entry.is_dir() && !entry.opaque;
                        let same_mode = (before.mode, before.uid, before.gid) == (entry.mode, entry.uid, entry.gid);
                        summary.changed += u64::from(!(same && same_mode));
                    }
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
