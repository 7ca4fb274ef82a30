//! What the layers of an archive may take in memory.

use super::Object;
use crate::archive::{Error, Result};
use crate::image::digest::Digest;
use crate::provenance::entry::Entry;
use crate::provenance::tree::BYTES_PER_ENTRY;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that all layers of an archive may take together. Five million entries in one layer take two thirds of it.
pub(super) const MOST: u64 = 3 << 30;

/// An object and what it becomes.
pub(super) const OBJECT: usize = size_of::<Object>() + KEPT;
/// The name of an object in its directory, beside its bytes: a box in a map, whose nodes are not all full.
pub(super) const NAME: usize = 56;
/// A directory beside its object: a map with a node.
pub(super) const DIRECTORY: usize = 320;
/// A digest, also one that is taken over from a layer below.
pub(in crate::provenance) const DIGEST: usize = size_of::<Digest>();
/// A path in a list, beside its bytes.
pub(super) const PATH: usize = 48;
/// An entry, and what the merged tree has for it.
pub(super) const KEPT: usize = size_of::<Entry>() + BYTES_PER_ENTRY;

/// Counts what the layers of one archive take, in bytes: entries, names, targets of links, directories that only names
/// imply, digests. Layers that are read at the same time share it.
#[derive(Debug)]
pub(in crate::provenance) struct Budget {
    most: u64,
    taken: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Budget {
    /// So many bytes.
    pub fn new(most: u64) -> Self {
        Self { most, taken: AtomicU64::new(0) }
    }

    /// Takes bytes; an error when there are not so many left.
    pub fn take(&self, bytes: usize) -> Result<()> {
        let before = self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        if before.saturating_add(bytes as u64) <= self.most {
            return Ok(());
        }
        let most = self.most >> 20;
        Err(Error::Limit(
            format!(
                "with the layers read before it, it would take more than {most} MiB of memory; look at fewer layers \
                 (TARGET@N), or load the image and mount it"
            )
            .into(),
        ))
    }

    /// How many bytes are taken.
    #[cfg(test)]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Gives back what is not needed any more.
    pub fn give(&self, bytes: usize) {
        self.taken.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}
