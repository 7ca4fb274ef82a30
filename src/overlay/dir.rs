//! What a merged directory is made of, and the index of its names.
//!
//! A directory that comes from one layer needs no index for lookups. One that is merged, or that is being listed, is
//! read once from every layer; from then on lookups, misses included, do not ask the layers that lack the name.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::inode::{LayerIndex, Name};
use crate::layer::markers::DirMarkers;

/// One lower directory under a merged one.
#[derive(Clone)]
pub struct LowerDir {
    /// Its layer.
    pub layer: LayerIndex,
    /// Its path in the layer, without a leading slash; lower layers do not change, so neither does this.
    pub path: Arc<OsStr>,
    /// What its markers say about its entries. Not read yet in the lowest layer, where nothing else depends on markers.
    pub marks: Option<EntryMarks>,
}

/// What the markers of a directory say about its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMarks {
    /// Files in it may be metacopies.
    pub impure: bool,
    /// Empty files in it may be whiteouts by attribute.
    pub xwhiteouts: bool,
    /// Empty files in it may be whiteouts of an overlay inside the mount.
    pub nested: bool,
}

impl From<&DirMarkers> for EntryMarks {
    fn from(m: &DirMarkers) -> Self {
        Self { impure: m.impure, xwhiteouts: m.xwhiteouts, nested: m.nested }
    }
}

/// What a directory consists of.
#[derive(Default)]
pub struct Namespace {
    /// Whether upper has it.
    pub upper: bool,
    /// The lower directories merged under it, topmost first. Empty for one that is opaque or only in upper.
    pub lowers: Box<[LowerDir]>,
    /// Upper's directory has the `impure` marker: entries may have an origin.
    pub impure: bool,
    /// Upper's directory says that empty files in it may be whiteouts by attribute.
    pub xwhiteouts: bool,
    /// The visible directory has a default ACL.
    pub default_acl: bool,
    /// The directory was removed; nothing can be made in it.
    pub removed: bool,
    /// See [`Index`].
    pub index: Option<Box<Index>>,
}

impl Namespace {
    /// Whether more than one layer provides entries, so that looking up a name needs the index.
    pub fn merged(&self) -> bool {
        usize::from(self.upper) + self.lowers.len() > 1
    }

    /// What is known about `name`. Without an index nothing lies below upper.
    pub fn slot(&self, name: &OsStr) -> Slot {
        match self.index.as_ref().and_then(|i| i.get(name)) {
            Some(e) => Slot { upper: e.upper, below: !e.lowers.is_empty() },
            None => Slot { upper: InUpper::Absent, below: false },
        }
    }
}

/// What upper holds under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InUpper {
    /// Nothing.
    Absent,
    /// An object.
    Present,
    /// A whiteout under the name itself.
    Whiteout,
    /// Nothing under the name, and a whiteout beside it (`.wh.NAME`), which stays when something is made here.
    WhiteoutBeside,
}

impl InUpper {
    /// Whether it hides what is below.
    pub fn is_whiteout(self) -> bool {
        matches!(self, Self::Whiteout | Self::WhiteoutBeside)
    }
}

/// A name as a change of the directory sees it.
#[derive(Clone, Copy)]
pub struct Slot {
    /// What upper holds.
    pub upper: InUpper,
    /// Whether a lower layer would show something here if upper held nothing.
    pub below: bool,
}

impl Slot {
    /// Whether the merged view shows the name.
    pub fn visible(self) -> bool {
        self.upper == InUpper::Present || (self.upper == InUpper::Absent && self.below)
    }
}

/// One name of a directory.
pub struct IndexEntry {
    /// The name.
    pub name: Name,
    /// `DT_*` of the topmost object.
    pub kind: u8,
    /// Inode number of the topmost object in its layer.
    pub real_ino: u64,
    /// What upper holds.
    pub upper: InUpper,
    /// Positions in [`Namespace::lowers`] that would show through: one for a file, all that may merge for a directory.
    pub lowers: SmallVec<[u16; 4]>,
    /// `DT_*` of the first of `lowers`.
    pub lower_kind: u8,
    /// What a layer further down may add while the layers are being read.
    pub open: Open,
}

/// What layers further down may add to an [`IndexEntry`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Anything: no lower layer has the name so far.
    Free,
    /// Directories only; anything else ends the merging.
    Merging,
    /// Nothing.
    Closed,
}

impl IndexEntry {
    /// An entry that only upper is known to have so far.
    pub fn in_upper(name: Name, kind: u8, real_ino: u64, upper: InUpper) -> Self {
        Self { name, kind, real_ino, upper, lowers: SmallVec::new(), lower_kind: 0, open: Open::Free }
    }

    /// Whether the merged view shows the name.
    pub fn visible(&self) -> bool {
        Slot { upper: self.upper, below: !self.lowers.is_empty() }.visible()
    }
}

/// Cookies below this one belong to `.` and `..`.
const FIRST_COOKIE: u64 = 16;

/// All names of a merged directory, whiteouts included, by cookie.
///
/// A cookie is derived from the name alone, so that a listing can be continued after entries vanished, after the index
/// was dropped and built again, and after a remount.
pub struct Index {
    entries: BTreeMap<u64, IndexEntry>,
    /// Entries of all indexes; this one's are in it as long as it exists.
    total: Arc<AtomicUsize>,
}

impl Drop for Index {
    fn drop(&mut self) {
        self.total.fetch_sub(self.entries.len(), Ordering::Relaxed);
    }
}

fn cookie(name: &OsStr) -> u64 {
    let mut h = rustc_hash::FxHasher::default();
    name.as_bytes().hash(&mut h);
    // Directory offsets are signed.
    (h.finish() >> 1).clamp(FIRST_COOKIE, i64::MAX as u64 - (1 << 20))
}

impl Index {
    /// An empty index that counts its entries in `total` too.
    pub fn new(total: Arc<AtomicUsize>) -> Self {
        Self { entries: BTreeMap::new(), total }
    }

    fn put(&mut self, at: u64, entry: IndexEntry) {
        if self.entries.insert(at, entry).is_none() {
            self.total.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn place(&self, name: &OsStr) -> Result<u64, u64> {
        let mut at = cookie(name);
        while let Some(e) = self.entries.get(&at) {
            if &*e.name == name {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    /// What is known about `name`.
    pub fn get(&self, name: &OsStr) -> Option<&IndexEntry> {
        self.place(name).ok().and_then(|at| self.entries.get(&at))
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, name: &OsStr) -> Option<&mut IndexEntry> {
        self.place(name).ok().and_then(|at| self.entries.get_mut(&at))
    }

    /// Adds an entry, or replaces the one with the same name.
    pub fn insert(&mut self, entry: IndexEntry) {
        let (Ok(at) | Err(at)) = self.place(&entry.name);
        self.put(at, entry);
    }

    /// Records what upper now holds under `name`: `kind` and `real_ino` of an object.
    pub fn set_upper(&mut self, name: &OsStr, upper: InUpper, kind: u8, real_ino: u64) {
        match self.place(name) {
            Ok(at) => {
                if let Some(e) = self.entries.get_mut(&at) {
                    if e.upper == InUpper::WhiteoutBeside && upper == InUpper::Present {
                        // It goes on hiding what is below.
                        e.lowers.clear();
                    }
                    e.upper = upper;
                    if upper == InUpper::Present {
                        (e.kind, e.real_ino) = (kind, real_ino);
                    }
                }
                self.drop_if_empty(at);
            }
            Err(at) if upper != InUpper::Absent => {
                let name = Name::from(name);
                self.put(at, IndexEntry::in_upper(name, kind, real_ino, upper));
            }
            Err(_) => {}
        }
    }

    /// Nothing from below shows under a name of upper any more, whatever happens to that.
    pub fn cut_off(&mut self, name: &OsStr) {
        if let Some(e) = self.get_mut(name) {
            e.lowers.clear();
        }
    }

    /// An entry that says nothing goes, unless one with an equal hash is found by passing over it.
    fn drop_if_empty(&mut self, at: u64) {
        let empty = self.entries.get(&at).is_some_and(|e| e.upper == InUpper::Absent && e.lowers.is_empty());
        if empty && !self.entries.contains_key(&(at + 1)) {
            self.entries.remove(&at);
            self.total.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Everything that is known, hidden names included.
    pub fn entries(&self) -> impl Iterator<Item = &IndexEntry> {
        self.entries.values()
    }

    /// Drops what says nothing, after all layers were read.
    pub fn prune(&mut self) {
        let says_nothing = |e: &IndexEntry| e.upper == InUpper::Absent && e.lowers.is_empty();
        if !self.entries.values().any(says_nothing) {
            return;
        }
        // Made anew: an entry with an equal hash may have been put behind one that goes.
        let all = std::mem::take(&mut self.entries);
        self.total.fetch_sub(all.len(), Ordering::Relaxed);
        all.into_values().filter(|e| !says_nothing(e)).for_each(|e| self.insert(e));
    }

    /// Visible entries behind `offset`, with their cookies.
    pub fn after(&self, offset: u64) -> impl Iterator<Item = (u64, &IndexEntry)> {
        self.entries
            .range((Bound::Excluded(offset.max(FIRST_COOKIE - 1)), Bound::Unbounded))
            .filter(|(_, e)| e.visible())
            .map(|(&c, e)| (c, e))
    }

    /// Whether nothing is visible.
    pub fn is_empty(&self) -> bool {
        self.after(0).next().is_none()
    }

    /// Whether upper holds whiteouts.
    pub fn has_whiteouts(&self) -> bool {
        self.entries.values().any(|e| e.upper.is_whiteout())
    }
}
