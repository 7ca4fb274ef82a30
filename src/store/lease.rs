//! Holding layers and writable layers for as long as a mount lives.

use super::Store;
use super::dir::Dir;
use super::error::{Error, Result};
use super::lock::{Key, Lock, Locks};
use super::record::{self, SCHEMA, now};
use super::temp::Temp;
use super::writable::{MountRecord, Writable};
use crate::image::digest::{ChainId, Digest};
use crate::sys::LockKind;
use std::path::{Path, PathBuf};

/// What a new writable layer is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewWritable<'a> {
    /// On how many of the image's layers; on all for `None`.
    pub layers: Option<usize>,
    /// Its name; one is generated for `None`.
    pub name: Option<&'a str>,
    /// It lives no longer than its first mount: what a killed process leaves of it goes when the store is next opened.
    pub ephemeral: bool,
}

impl Store {
    /// Takes a writable layer for mounting or changing it, with all layers below pinned.
    ///
    /// # Errors
    /// [`Error::Busy`] when somebody has it, with the mount point; [`Error::NoWritable`]; [`Error::NoLayer`].
    pub fn lease(&self, name: &str) -> Result<Lease> {
        let locks = self.locks()?;
        self.hold_writable(&locks, name)?.until_closed();
        let dir = self.writable_dir()?.open(name)?;
        // Of a process that ended without removing it.
        dir.remove("mount.json")?;
        let writable = self.writable(name)?;
        let pin = Pin::below(self, locks, &writable)?;
        Ok(Lease { writable, dir, pin })
    }

    /// Takes a writable layer for reading only, with all layers below pinned: alone where nobody has it, so that nobody
    /// mounts or removes it meanwhile; else beside whoever has.
    ///
    /// # Errors
    /// [`Error::NoWritable`]; [`Error::NoLayer`].
    pub fn read_writable(&self, name: &str) -> Result<Reading> {
        match self.lease(name) {
            Ok(Lease { writable, pin, .. }) => return Ok(Reading { writable, pin }),
            Err(Error::Busy { .. }) => {}
            Err(e) => return Err(e),
        }
        let writable = self.writable(name)?;
        let pin = Pin::below(self, self.locks()?, &writable)?;
        Ok(Reading { writable, pin })
    }

    /// Whether the writable layer was there until now. Its removal begins with its name: what was read before this is not
    /// what somebody was just deleting.
    ///
    /// # Errors
    /// [`Error::NoWritable`] when it is gone, or another one has its name.
    pub fn still_there(&self, reading: &Reading) -> Result<()> {
        let record = &reading.writable.record;
        let now = self.writable(&record.name)?;
        if now.record.id == record.id { Ok(()) } else { Err(Error::NoWritable(record.name.clone())) }
    }

    /// Makes a writable layer on an image and takes it, as [`Store::lease`] does.
    ///
    /// Atomic for readers, who find it held. From then on the image cannot be removed.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::BadName`], [`Error::NoImage`], [`Error::FewerLayers`], [`Error::NoLayer`].
    pub fn lease_new(&self, image: &Digest, new: NewWritable<'_>) -> Result<Lease> {
        let pin = self.pin(image, new.layers)?;
        let temp = Temp::new(&self.root, &pin.locks)?;
        let _publishing = pin.locks.lock(Key::STORE, LockKind::Shared)?;
        // It can have lost its record before it was pinned, not since.
        let image = self.image_record(image)?.ok_or_else(|| Error::NoImage(image.to_string()))?;
        let chains = self.first_layers(&image, new.layers)?;
        let hold = |name: &str| pin.locks.try_lock(Key::writable(name), LockKind::Exclusive);
        let name = self.place_new(&temp.dir, &image.id, &chains, new, hold)?;
        let (writable, dir) = (self.writable(&name)?, self.writable_dir()?.open(&name)?);
        Ok(Lease { writable, dir, pin })
    }

    /// Makes a writable layer that nobody holds; see [`Store::lease_new`].
    pub fn create_writable(&self, image: &Digest, layers: Option<usize>, name: Option<&str>) -> Result<Writable> {
        let lease = self.lease_new(image, NewWritable { layers, name, ephemeral: false })?;
        let name = lease.writable.record.name.clone();
        drop(lease);
        self.writable(&name)
    }

    /// Pins an image and its first `layers` layers (all for `None`) for a mount without a writable layer.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::FewerLayers`], [`Error::NoLayer`].
    pub fn pin(&self, image: &Digest, layers: Option<usize>) -> Result<Pin> {
        let locks = self.locks()?;
        locks.lock(Key::image(image), LockKind::Shared)?.until_closed();
        let record = self.image_record(image)?.ok_or_else(|| Error::NoImage(image.to_string()))?;
        let mut pin = Pin::new(locks);
        for chain in self.first_layers(&record, layers)?.iter().rev() {
            pin.layer(self, chain)?;
        }
        Ok(pin)
    }

    /// Takes the lock of a writable layer, which also keeps it from being removed.
    pub(super) fn hold_writable(&self, locks: &Locks, name: &str) -> Result<Lock> {
        let lock = locks.try_lock(Key::writable(name), LockKind::Exclusive)?;
        let mount = self.writable(name)?.mount;
        match lock {
            Some(lock) if !mount.as_ref().is_some_and(|m| m.kernel) => Ok(lock),
            _ => Err(Error::Busy { name: name.to_owned(), mountpoint: mount.map(|m| m.mountpoint) }),
        }
    }
}

/// Layers that stay as long as this lives, also in a child process that was forked meanwhile.
#[derive(Debug)]
pub struct Pin {
    lower: Vec<PathBuf>,
    override_stat: bool,
    locks: Locks,
}

impl Pin {
    fn new(locks: Locks) -> Self {
        Self { lower: Vec::new(), override_stat: false, locks }
    }

    /// Pins all that a writable layer stands on.
    fn below(store: &Store, locks: Locks, writable: &Writable) -> Result<Self> {
        locks.lock(Key::image(&writable.record.image), LockKind::Shared)?.until_closed();
        let mut pin = Self::new(locks);
        let mut next = writable.record.chain;
        while let Some(chain) = next {
            next = pin.layer(store, &chain)?;
        }
        Ok(pin)
    }

    /// Adds a layer below those that are pinned; returns the one below it.
    fn layer(&mut self, store: &Store, chain: &ChainId) -> Result<Option<ChainId>> {
        self.locks.lock(Key::layer(chain), LockKind::Shared)?.until_closed();
        let record = store.layer(chain)?.ok_or(Error::NoLayer(*chain))?;
        self.override_stat |= record.override_stat;
        self.lower.push(store.layer_dir(chain));
        Ok(record.parent)
    }

    /// The layer directories, topmost first.
    #[must_use]
    pub fn lower(&self) -> &[PathBuf] {
        &self.lower
    }

    /// Whether one of the layers keeps owners and devices in `user.containers.override_stat`.
    #[must_use]
    pub fn override_stat(&self) -> bool {
        self.override_stat
    }
}

/// A writable layer that is read ([`Store::read_writable`]). It and the layers below are held until this is dropped.
#[derive(Debug)]
pub struct Reading {
    writable: Writable,
    pin: Pin,
}

impl Reading {
    /// What is read, as it was at the beginning.
    #[must_use]
    pub fn writable(&self) -> &Writable {
        &self.writable
    }

    /// The layers below.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.pin
    }
}

/// A writable layer that is the holder's alone, until this is dropped.
///
/// After a fork it is held until both processes have dropped it or ended.
#[derive(Debug)]
pub struct Lease {
    writable: Writable,
    dir: Dir,
    pin: Pin,
}

impl Lease {
    /// What is held.
    #[must_use]
    pub fn writable(&self) -> &Writable {
        &self.writable
    }

    /// The layers below.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// The layer directories below, topmost first.
    #[must_use]
    pub fn lower(&self) -> &[PathBuf] {
        self.pin.lower()
    }

    /// Records where the layer is mounted, for `ps` and for messages. Atomic.
    pub fn mounted(&self, mountpoint: &Path, kernel: bool) -> Result<()> {
        let pid = std::process::id();
        let record = MountRecord { schema: SCHEMA, mountpoint: mountpoint.to_owned(), pid, since: now(), kernel };
        self.dir.remove("mount.new")?;
        self.dir.write("mount.new", &record::bytes(&self.dir, &record)?)?;
        self.dir.rename("mount.new", &self.dir, "mount.json")
    }

    /// Removes the record of the mount. Without it (after a crash) the record counts for nothing, as nobody holds the lock.
    pub fn unmounted(&self) -> Result<()> {
        self.dir.remove("mount.json")
    }

    /// Removes the writable layer (`--rm`). The mount must be gone.
    pub fn remove(self, store: &Store) -> Result<()> {
        store.take_writable(&self.pin.locks, &self.writable.record.name)
    }
}
