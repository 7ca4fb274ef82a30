//! Temporaries: what a running process makes or removes, and the sweeping of what killed ones left.

use super::dir::{Dir, is_hex};
use super::error::{Error, Result};
use super::lock::{Key, Lock, Locks, number};
use crate::sys::LockKind;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Digits of a temporary's name.
const DIGITS: usize = 14;

/// A name in `tmp` that nobody else uses, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Name {
    pub name: String,
    _lock: Lock,
}

/// Reserves a name in `tmp`; nothing is made there.
pub(super) fn reserve(locks: &Locks) -> Result<Name> {
    loop {
        let name = random_hex(DIGITS)?;
        if let Some(lock) = locks.try_lock(Key::temporary(number(&name)), LockKind::Exclusive)? {
            return Ok(Name { name, _lock: lock });
        }
    }
}

/// A directory in `tmp`, removed with all in it when this is dropped.
#[derive(Debug)]
pub(super) struct Temp {
    pub dir: Dir,
    parent: Dir,
    name: Name,
}

impl Temp {
    /// Makes a directory; its lock is taken before it exists.
    pub fn new(root: &Dir, locks: &Locks) -> Result<Self> {
        let (parent, name) = (root.open("tmp")?, reserve(locks)?);
        let dir = parent.create(&name.name, 0o700)?;
        Ok(Self { dir, parent, name })
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Err(e) = self.parent.remove(&self.name.name) {
            log::debug!("left for the next start: {e}");
        }
    }
}

/// Objects on their way out: renamed into `tmp`, deleted by [`Trash::empty`] or at the next start.
#[derive(Debug)]
pub(super) struct Trash<'a> {
    locks: &'a Locks,
    tmp: Dir,
    names: Vec<Name>,
}

impl<'a> Trash<'a> {
    pub fn new(root: &Dir, locks: &'a Locks) -> Result<Self> {
        Ok(Self { locks, tmp: root.open("tmp")?, names: Vec::new() })
    }

    /// Takes `name` out of `dir`. Needs no space on the disk; the caller syncs `dir`.
    pub fn take(&mut self, dir: &Dir, name: impl AsRef<std::ffi::OsStr>) -> Result<()> {
        let new = reserve(self.locks)?;
        dir.rename(name, &self.tmp, &new.name)?;
        self.names.push(new);
        Ok(())
    }

    /// Deletes what was taken out. The change is done already: what cannot be deleted now is left for the next start.
    pub fn empty(self) {
        for name in &self.names {
            if let Err(e) = self.tmp.remove(&name.name) {
                log::warn!("left for the next start: {e}");
            }
        }
    }
}

/// Deletes what processes that are gone left in `tmp`.
///
/// What cannot be deleted is logged and stays: it is in nobody's way.
pub(super) fn sweep(root: &Dir, locks: &Locks) -> Result<()> {
    let tmp = root.open("tmp")?;
    for name in tmp.names()? {
        let Some(text) = name.to_str().filter(|_| is_hex(&name, DIGITS)) else { continue };
        let Some(_lock) = locks.try_lock(Key::temporary(number(text)), LockKind::Exclusive)? else { continue };
        if let Err(e) = tmp.remove(&name) {
            log::warn!("cannot clean up: {e}");
        }
    }
    Ok(())
}

/// Random lower-case hex digits from the kernel.
pub(super) fn random_hex(digits: usize) -> Result<String> {
    let mut bytes = vec![0; digits.div_ceil(2)];
    let path = Path::new("/dev/urandom");
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(|source| Error::Io { doing: "read", path: path.to_owned(), source })?;
    let mut hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    hex.truncate(digits);
    Ok(hex)
}
