//! A bounded cache of descriptors, so that a walk over millions of files needs no more than a few hundred.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::inode::{Ino, LayerIndex};

/// What a cached descriptor is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// An object's directory in a layer.
    Dir(Ino, LayerIndex),
    /// A file's data in a lower layer, read-only.
    LowerData(Ino),
    /// A file's data in upper, read-only.
    UpperRead(Ino),
    /// The same for reading and writing.
    UpperData(Ino),
}

impl Key {
    fn ino(self) -> Ino {
        match self {
            Self::Dir(ino, _) | Self::LowerData(ino) | Self::UpperRead(ino) | Self::UpperData(ino) => ino,
        }
    }
}

const SHARDS: usize = 8;

struct Slot {
    key: Key,
    fd: Arc<OwnedFd>,
    used: bool,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    places: FxHashMap<Key, usize>,
    hand: usize,
}

/// Descriptors by [`Key`], replaced by the clock rule. A descriptor is closed when it left the cache and its last user is done.
pub struct FdCache {
    shards: [Mutex<Shard>; SHARDS],
    per_shard: usize,
}

impl FdCache {
    /// A cache that keeps about `capacity` descriptors open.
    pub fn new(capacity: usize) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), per_shard: (capacity / SHARDS).max(1) }
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        let h = key.ino().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &self.shards[(h >> 59) as usize & (SHARDS - 1)]
    }

    /// The descriptor, if it is cached.
    pub fn get(&self, key: Key) -> Option<Arc<OwnedFd>> {
        let mut shard = self.shard(key).lock();
        let place = *shard.places.get(&key)?;
        let slot = &mut shard.slots[place];
        slot.used = true;
        Some(slot.fd.clone())
    }

    /// Caches `fd`; when another thread was first, its descriptor is returned and `fd` closed.
    pub fn insert(&self, key: Key, fd: OwnedFd) -> Arc<OwnedFd> {
        let mut shard = self.shard(key).lock();
        let shard = &mut *shard;
        if let Some(&place) = shard.places.get(&key) {
            return shard.slots[place].fd.clone();
        }
        let fd = Arc::new(fd);
        let slot = Slot { key, fd: fd.clone(), used: false };
        if shard.slots.len() < self.per_shard {
            shard.places.insert(key, shard.slots.len());
            shard.slots.push(slot);
            return fd;
        }
        while std::mem::take(&mut shard.slots[shard.hand].used) {
            shard.hand = (shard.hand + 1) % shard.slots.len();
        }
        let old = std::mem::replace(&mut shard.slots[shard.hand], slot);
        shard.places.remove(&old.key);
        shard.places.insert(key, shard.hand);
        shard.hand = (shard.hand + 1) % shard.slots.len();
        fd
    }

    /// Number of descriptors.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().slots.len()).sum()
    }

    /// Forgets the descriptor.
    pub fn remove(&self, key: Key) {
        let mut shard = self.shard(key).lock();
        let Some(place) = shard.places.remove(&key) else { return };
        shard.slots.swap_remove(place);
        if let Some(moved) = shard.slots.get(place).map(|s| s.key) {
            shard.places.insert(moved, place);
        }
        if shard.hand >= shard.slots.len() {
            shard.hand = 0;
        }
    }
}
