//! The locks of the store: bytes of the file `lock` (docs/STORE.md section 2).

use super::error::{Result, io};
use crate::image::digest::{ChainId, Digest};
use crate::sys::{self, LockKind};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

/// Bits of a key below its class.
const BITS: u32 = 56;

impl Key {
    /// The store: shared by those who publish, exclusive for those who remove.
    pub const STORE: Key = Key(0);

    fn new(class: u64, bits: u64) -> Self {
        Key((class << BITS) | (bits & ((1 << BITS) - 1)))
    }

    pub fn layer(chain: &ChainId) -> Self {
        Self::new(1, number(&chain.0.hex()))
    }

    pub fn blob(digest: &Digest) -> Self {
        Self::new(2, number(&digest.hex()))
    }

    pub fn image(id: &Digest) -> Self {
        Self::new(3, number(&id.hex()))
    }

    /// `number` is the name of the temporary, read as hex digits.
    pub fn temporary(number: u64) -> Self {
        Self::new(4, number)
    }

    pub fn writable(name: &str) -> Self {
        Self::new(5, Sha256::digest(name).iter().take(7).fold(0, |n, b| (n << 8) | u64::from(*b)))
    }
}

/// The number that the first digits of `hex` are.
pub(super) fn number(hex: &str) -> u64 {
    hex.bytes().take(14).fold(0, |n, b| (n << 4) | char::from(b).to_digit(16).map_or(0, u64::from))
}

/// One open description of the lock file. Locks of one description never exclude each other, those of two do.
#[derive(Clone, Debug)]
pub(super) struct Locks {
    file: Arc<File>,
    read_only: bool,
    path: Arc<PathBuf>,
}

impl Locks {
    /// A new description; the locks taken through it end with it and its clones. On a read-only file system those that are
    /// shared can be taken.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, read_only) = match File::options().read(true).write(true).open(path) {
            Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => (File::open(path), true),
            opened => (opened, false),
        };
        let file = file.map_err(|e| super::Error::Io { doing: "open", path: path.to_owned(), source: e })?;
        Ok(Self { file: Arc::new(file), read_only, path: Arc::new(path.to_owned()) })
    }

    /// Whether nothing can be changed here.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Waits for the lock.
    pub fn lock(&self, key: Key, kind: LockKind) -> Result<Lock> {
        self.take(key, kind, true).map(|_| self.guard(key))
    }

    /// Takes the lock, or `None` when somebody is in the way.
    pub fn try_lock(&self, key: Key, kind: LockKind) -> Result<Option<Lock>> {
        Ok(self.take(key, kind, false)?.then(|| self.guard(key)))
    }

    /// Whether somebody else holds it, in whatever way.
    pub fn is_held(&self, key: Key) -> Result<bool> {
        sys::byte_is_locked(self.file.as_fd(), key.0, LockKind::Exclusive).map_err(io("lock", &self.path))
    }

    fn guard(&self, key: Key) -> Lock {
        Lock { locks: self.clone(), key, until_closed: false }
    }

    fn take(&self, key: Key, kind: LockKind, wait: bool) -> Result<bool> {
        if self.read_only && kind == LockKind::Exclusive {
            let refused = sys::Error { call: "fcntl", errno: sys::Errno::ROFS };
            return Err(refused).map_err(io("lock", &self.path));
        }
        sys::lock_byte(self.file.as_fd(), key.0, kind, wait).map_err(io("lock", &self.path))
    }
}

/// A lock that ends when this is dropped. Two for one key from one description are one lock: the first drop ends it.
#[derive(Debug)]
#[must_use]
pub(super) struct Lock {
    locks: Locks,
    key: Key,
    until_closed: bool,
}

impl Lock {
    /// Makes the lock last until every copy of the description is closed, those in forked processes too.
    pub fn until_closed(mut self) {
        self.until_closed = true;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.until_closed {
            return;
        }
        if let Err(e) = sys::unlock_byte(self.locks.file.as_fd(), self.key.0) {
            log::debug!("{}: {e}", self.locks.path.display());
        }
    }
}
