//! What a mount holds as long as it lives, and what becomes of it afterwards.

use super::output;
use crate::store::{Lease, Pin, Store};
use anyhow::Context;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Layers, writable layer and tmpfs of a mount. The locks pass to the daemon with the fork.
#[derive(Debug, Default)]
pub struct Held {
    /// A tmpfs that no path leads to, which holds the upper directory.
    pub tmpfs: Option<OwnedFd>,
    /// The layers of a mount without a writable layer.
    pub pin: Option<Pin>,
    /// The writable layer.
    pub writable: Option<Writable>,
}

/// A writable layer that is mounted.
#[derive(Debug)]
pub struct Writable {
    pub store: Store,
    pub lease: Lease,
    /// It was made for this mount: it goes again when there is no mount after all.
    pub made: bool,
}

impl Held {
    /// Whether the lower layers are of the store.
    pub fn is_of_store(&self) -> bool {
        self.pin.is_some() || self.writable.is_some()
    }

    /// Whether a crash of the machine takes the upper directory in any case, so that nothing needs to be synced.
    pub fn is_volatile(&self) -> bool {
        self.tmpfs.is_some() || self.writable.as_ref().is_some_and(|w| w.lease.writable().record.ephemeral)
    }

    /// Records where the writable layer is mounted.
    pub fn mounted(&self, mountpoint: &Path, kernel: bool) -> anyhow::Result<()> {
        match &self.writable {
            Some(writable) => Ok(writable.lease.mounted(mountpoint, kernel)?),
            None => Ok(()),
        }
    }

    /// Tells the user the name of the writable layer.
    pub fn announce(&self) -> anyhow::Result<()> {
        let Some(writable) = &self.writable else { return Ok(()) };
        let name = &writable.lease.writable().record.name;
        output::line(name).with_context(|| format!("mounted, with writable layer {name}"))
    }

    /// After the mount, or with `answered` false when there was none: a writable layer that is not to stay is removed.
    pub fn end(self, answered: bool) {
        let Some(Writable { store, lease, made }) = self.writable else { return };
        let goes = if answered { lease.writable().record.ephemeral } else { made };
        let done = if goes { lease.remove(&store) } else { lease.unmounted() };
        if let Err(e) = done {
            // Those that are to go, go when the store is opened next; the record counts for nothing without the lock.
            log::error!("{e}");
        }
    }
}
