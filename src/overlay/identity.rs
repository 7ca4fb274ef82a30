//! Inode numbers of the merged view: unique, and the same before and after copy-up and remount.
//!
//! An object has the number of its lower origin, or of its upper file when it never had one. Numbers of the first
//! file system of the stack are used as they are; those of the others carry the file system's place in the stack in
//! the upper 16 bits. What does not fit goes by a hash of both: the same number at every mount, unless two hashes are equal.

use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::error::Result;
use super::inode::{Ino, ROOT};
use super::{Layer, Overlay};
use crate::layer::markers::Number;
use crate::layer::origin::OverlayHandle;
use crate::layer::xattr::Namespace;
use crate::sys::{self, At, Errno, Stat};

const REAL_BITS: u32 = 48;
/// Place of what does not fit.
const HASHED: u64 = 0xffff;
/// Place of objects whose own number is taken.
const FRESH: u64 = 0xfffe;

/// Maps (device, inode number) of a layer to a number of the merged view.
pub struct Ids {
    /// Devices that the layers are on, in the order of the stack.
    devices: Vec<u64>,
    /// Further devices that were met inside of layers (subvolumes, mounts, the layers of an overlay), in that order.
    others: Mutex<Vec<u64>>,
    /// Who has which of the numbers in [`HASHED`]: (place of the file system, inode number).
    hashed: Mutex<FxHashMap<Ino, (u64, u64)>>,
    fresh: AtomicU64,
    /// Whether `others` has any.
    strange: AtomicBool,
}

impl Ids {
    /// `devices` in the order of the stack.
    pub fn new(devices: impl IntoIterator<Item = u64>) -> Self {
        let mut known = Vec::new();
        for dev in devices {
            if !known.contains(&dev) {
                known.push(dev);
            }
        }
        Self {
            devices: known,
            others: Mutex::default(),
            hashed: Mutex::default(),
            fresh: AtomicU64::new(1),
            strange: AtomicBool::new(false),
        }
    }

    /// The number of an object of a layer.
    pub fn map(&self, dev: u64, ino: u64) -> Ino {
        let place = self.devices.iter().position(|&d| d == dev).unwrap_or_else(|| self.other(dev)) as u64;
        let fits = ino >> REAL_BITS == 0 && place < FRESH && !(place == 0 && ino <= ROOT);
        if fits { place << REAL_BITS | ino } else { self.hash(place, ino) }
    }

    fn other(&self, dev: u64) -> usize {
        let mut others = self.others.lock();
        let at = others.iter().position(|&d| d == dev).unwrap_or_else(|| {
            others.push(dev);
            others.len() - 1
        });
        self.strange.store(true, Ordering::Relaxed);
        self.devices.len() + at
    }

    fn hash(&self, place: u64, ino: u64) -> Ino {
        let mut hasher = rustc_hash::FxHasher::default();
        (place, ino).hash(&mut hasher);
        let mut number = HASHED << REAL_BITS | hasher.finish() >> 16;
        let mut hashed = self.hashed.lock();
        loop {
            match hashed.entry(number) {
                Entry::Occupied(e) if *e.get() != (place, ino) => number = HASHED << REAL_BITS | (number + 1),
                Entry::Occupied(_) => return number,
                Entry::Vacant(e) => {
                    e.insert((place, ino));
                    return number;
                }
            }
        }
    }

    /// A number that nothing has, for the life of the mount.
    pub fn fresh(&self) -> Ino {
        FRESH << REAL_BITS | self.fresh.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a layer holds objects of other devices than its root, so that a listing does not tell their numbers.
    pub fn any_strange(&self) -> bool {
        self.strange.load(Ordering::Relaxed)
    }
}

/// The lower file that an upper file was copied from.
pub struct Origin {
    /// Number in the merged view.
    pub ino: Ino,
    /// Link count of the lower file.
    pub nlink: u32,
}

impl Overlay {
    pub(super) fn id(&self, stat: &Stat) -> Ino {
        self.ids.map(stat.dev, stat.ino)
    }

    /// The handle of an object of a lower layer in the form of `overlay.origin`; `None` where the file system has no
    /// handles (then there is no origin, as with the kernel).
    pub(super) fn handle(&self, layer: &Layer, at: At<'_>, stat: &Stat) -> Result<Option<OverlayHandle>> {
        // On another device than the layer's root, the handle would be looked for in the wrong file system.
        if !layer.handles || stat.dev != layer.dev {
            return Ok(None);
        }
        match sys::handle(at) {
            Ok(h) => Ok(Some(OverlayHandle::encode(&h, layer.uuid, false))),
            Err(e) if e.is(Errno::OPNOTSUPP) || e.is(Errno::OVERFLOW) || e.is(Errno::PERM) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Finds the lower file of an `overlay.origin` value. `None` when it cannot be decoded: no privilege to open
    /// handles, another file system, or the file is gone. What says nothing about the file (`EIO`, no descriptors, no
    /// memory) is an error: without its origin a copied-up hard link would be taken for a file of its own, and its
    /// data would go with the first name that is removed.
    ///
    /// Mounts without that privilege write, and believe, what the lower file was: `number`.
    pub(super) fn origin(&self, value: &[u8], number: Option<Number>) -> Result<Option<Origin>> {
        let Some((uuid, handle)) = OverlayHandle::parse(value) else { return Ok(None) };
        let mut tried: Vec<u64> = Vec::new();
        for layer in self.lowers.iter().filter(|l| l.handles && l.uuid.unwrap_or_default() == uuid) {
            if tried.contains(&layer.dev) {
                continue;
            }
            tried.push(layer.dev);
            let fd = match sys::open_handle(layer.root.as_fd(), &handle) {
                Ok(fd) => fd,
                Err(e) if [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&e.errno) => {
                    return Err(e.into());
                }
                Err(_) => continue,
            };
            let stat = sys::stat(At::Fd(fd.as_fd()))?;
            return Ok(Some(Origin { ino: self.id(&stat), nlink: stat.nlink }));
        }
        let number = number.filter(|_| self.markers == Namespace::User);
        let told = number.zip(tried.first());
        Ok(told.map(|(number, &dev)| Origin { ino: self.ids.map(dev, number.ino), nlink: number.nlink }))
    }

    /// Whether a lower object with several links can be in the index: that needs `overlay.nlink`, and `user.*` attributes
    /// exist on files and directories only (xattr(7)).
    pub(super) fn indexable(&self, kind: u32) -> bool {
        self.markers == Namespace::Trusted || kind == libc::S_IFREG || self.override_stat && kind != libc::S_IFLNK
    }

    /// The object in the hard link index for a lower file with several links, if it was copied up before.
    pub(super) fn indexed(&self, handle: &OverlayHandle) -> Result<Option<Stat>> {
        let Some(index) = self.upper.as_ref().and_then(|u| u.work.index.as_ref()) else { return Ok(None) };
        let name = handle.index_name();
        match self.stat(At::Name(index.as_fd(), OsStr::new(&name))) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if e.is(Errno::NOENT) || e.is(Errno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
