//! Objects of the merged view that the caller knows, and the table that finds them by inode number.

use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::hash::Hash;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::dir::Namespace;
use crate::sys::Time;

/// Inode number in the merged view. It is both what `stat(2)` shows and how callers name an object; the root is [`ROOT`].
pub type Ino = u64;

/// How callers name the root of the merged view.
pub const ROOT: Ino = 1;

/// A name, shared between the directory that holds it and the object that has it.
pub type Name = Arc<OsStr>;

/// Where an object or a name comes from: [`UPPER`], or 1 for the topmost lower layer, and so on downwards.
pub type LayerIndex = u16;

/// The upper directory's place in the stack.
pub const UPPER: LayerIndex = 0;

/// One name of an object.
#[derive(Clone)]
pub struct Link {
    /// The directory that holds the name.
    pub parent: Arc<Inode>,
    /// The name.
    pub name: Name,
    /// The layer that provides this name. An object in upper can still have names that only a lower layer provides
    /// (hard links that were not linked up yet).
    pub layer: LayerIndex,
}

/// What few objects have.
#[derive(Default, Clone)]
pub struct Extra {
    /// Name in `<workdir>/index`: the object stands for a lower file with several links.
    pub index: Option<std::ffi::OsString>,
    /// Number of names in the union, where it is not the real link count.
    pub nlink: Option<u32>,
    /// Where an object without a name is, when no descriptor pins it.
    pub parked: Option<Parked>,
    /// Where the data is, when the object itself holds metadata only: (lower layer, path in it).
    pub data: Option<(LayerIndex, Arc<OsStr>)>,
    /// `security.capability` was removed, as the kernel does before a write.
    pub lost_capabilities: bool,
    /// Modification time that the caller last set or saw made, when it keeps these times itself
    /// ([`super::Overlay::caller_keeps_times`]).
    pub mtime: Option<Time>,
}

/// Where an object without a name is.
#[derive(Clone)]
pub enum Parked {
    /// A name in the work directory, removed when the object is forgotten and swept at mount.
    Work(std::ffi::OsString),
    /// Still in a lower layer, at this path.
    Lower(LayerIndex, Arc<OsStr>),
}

/// What an object of a lower layer has for ever. Of no meaning once it is in upper.
#[derive(Clone, Copy, Default)]
pub struct Original {
    /// Length in bytes.
    pub size: u64,
    /// Link count.
    pub nlink: u32,
}

/// Whether a file of upper is known to have no set-id bits, so that who writes it need not look.
#[derive(Clone, Copy, Default)]
pub struct NoSetId {
    known: bool,
    doubts: u32,
}

impl NoSetId {
    /// Whether it is known.
    pub fn is_known(self) -> bool {
        self.known
    }

    /// There were none when somebody looked who had this before.
    pub fn learn(&mut self, before: Self) {
        self.known |= self.doubts == before.doubts;
    }

    /// To be called before and after something that may set them.
    pub fn doubt(&mut self) {
        *self = Self { known: false, doubts: self.doubts.wrapping_add(1) };
    }
}

/// The changing part of an object. Its lock is held for moments only, never over a system call.
#[derive(Default)]
pub struct State {
    /// Known names; empty once the object was removed.
    pub links: SmallVec<[Link; 1]>,
    /// Inode number in upper once the object is there.
    pub upper: Option<u64>,
    /// A descriptor of an object without a name (deleted but in use): one that was open for its data, else `O_PATH`.
    pub pinned: Option<Arc<OwnedFd>>,
    /// See [`NoSetId`].
    pub no_set_id: NoSetId,
    /// See [`Extra`].
    pub extra: Option<Box<Extra>>,
}

impl State {
    /// The extra part, made when missing.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Changes the extra part if there is one.
    pub fn extra_mut_if(&mut self, change: impl FnOnce(&mut Extra)) {
        if let Some(extra) = &mut self.extra {
            change(extra);
        }
    }
}

/// Whether the caller of the union, the kernel, may keep pages of a file that it was given, or has written from a map.
///
/// It says no only if an invalidation of them all has succeeded, and nothing was given or written from a map since that began.
/// What is given while it runs and is not caught by it must not be forgotten at its end: so that is told from what was there.
/// What was noted and not yet given when it began is caught: a request is sent for pages that are there and locked already,
/// and invalidating waits for these.
///
/// Pages that the kernel fills by writing alone count from the first invalidation on. Before it they do not: after every file
/// that is made there would have to be one.
#[derive(Default)]
pub struct Pages(AtomicU8);

impl Pages {
    /// Noted before the last invalidation began.
    const BEFORE: u8 = 1;
    /// Noted since.
    const SINCE: u8 = 2;
    /// An invalidation has begun at some time.
    const WRITTEN_COUNT: u8 = 4;

    /// Some are given. It looks first: readers on several processors would take the cache line from each other.
    pub fn note(&self) {
        if self.0.load(Ordering::Relaxed) & Self::SINCE == 0 {
            self.0.fetch_or(Self::SINCE, Ordering::Relaxed);
        }
    }

    /// Some are written, and may be kept.
    pub fn note_written(&self) {
        if self.0.load(Ordering::Relaxed) & Self::WRITTEN_COUNT != 0 {
            self.note();
        }
    }

    /// Whether there may be some.
    pub fn may_be_there(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (Self::BEFORE | Self::SINCE) != 0
    }

    /// An invalidation begins; not while there is another of the same file.
    pub fn begin_to_go(&self) {
        self.0.fetch_or(Self::BEFORE | Self::WRITTEN_COUNT, Ordering::Relaxed);
        self.0.fetch_and(!Self::SINCE, Ordering::Relaxed);
    }

    /// It has succeeded.
    pub fn went(&self) {
        self.0.fetch_and(!Self::BEFORE, Ordering::Relaxed);
    }
}

/// An object of the merged view.
///
/// Lock order: `copy_up` of an object, `copy_up` of its ancestors upwards, `ns` of directories (parent before child,
/// unrelated directories by inode number), `children`, `state`, a shard of the table.
pub struct Inode {
    /// See [`Ino`].
    pub ino: Ino,
    /// `S_IFMT` part of the mode; never changes.
    pub kind: u32,
    /// See [`Pages`].
    pub pages: Pages,
    lookups: AtomicU64,
    /// See [`Original`].
    pub original: Original,
    /// Held while the object is being copied up; data is copied under this lock and no other.
    pub copy_up: Mutex<()>,
    /// See [`State`].
    pub state: Mutex<State>,
    /// What directories have.
    pub dir: Option<Box<Dir>>,
}

/// The directory part of an object.
pub struct Dir {
    /// What the directory is made of. Taken for writing by every change of a name in it.
    pub ns: RwLock<Namespace>,
    /// Known objects by name. Change it through [`Dir::learn`] and [`Dir::unlearn`].
    children: Mutex<FxHashMap<Name, Ino>>,
    /// Size of `children`, readable under a table lock.
    known: AtomicUsize,
    /// Set when upper's directory changed since it was last synced.
    pub unsynced: AtomicBool,
    /// Held while the directory is synced, so that who finds it synced can rely on it.
    pub syncing: Mutex<()>,
}

impl Dir {
    /// The known object with this name.
    pub fn child(&self, name: &OsStr) -> Option<Ino> {
        self.children.lock().get(name).copied()
    }

    /// Whether nothing is known under a name, in a directory that only upper has and whose names are not in memory.
    pub fn seems_free(&self, name: &OsStr) -> bool {
        let ns = self.ns.read();
        let upper_alone = ns.upper && ns.lowers.is_empty() && ns.index.is_none();
        upper_alone && self.child(name).is_none()
    }

    /// Records that `name` is `ino`.
    pub fn learn(&self, name: Name, ino: Ino) {
        let mut children = self.children.lock();
        children.insert(name, ino);
        self.known.store(children.len(), Ordering::Relaxed);
    }

    /// Forgets `name`, provided `if_is` agrees with what it is known as.
    pub fn unlearn(&self, name: &OsStr, if_is: impl FnOnce(Ino) -> bool) {
        let mut children = self.children.lock();
        if children.get(name).is_some_and(|&ino| if_is(ino)) {
            children.remove(name);
            shrink(&mut children);
        }
        self.known.store(children.len(), Ordering::Relaxed);
    }
}

impl Inode {
    /// A new object with no lookups counted.
    pub fn new(ino: Ino, kind: u32, state: State, ns: Option<Namespace>) -> Self {
        let dir = ns.map(|ns| {
            Box::new(Dir {
                ns: RwLock::new(ns),
                children: Mutex::default(),
                known: AtomicUsize::new(0),
                unsynced: AtomicBool::new(false),
                syncing: Mutex::new(()),
            })
        });
        Self {
            ino,
            kind,
            pages: Pages::default(),
            lookups: AtomicU64::new(0),
            original: Original::default(),
            copy_up: Mutex::new(()),
            state: Mutex::new(state),
            dir,
        }
    }

    /// The same with what it has in its layer.
    pub fn with(self, original: Original) -> Self {
        Self { original, ..self }
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether the object is in upper.
    pub fn in_upper(&self) -> bool {
        self.state.lock().upper.is_some()
    }

    /// A name that upper has for the object in `parent`.
    pub fn upper_name_in(&self, parent: &Arc<Inode>) -> Option<Name> {
        let state = self.state.lock();
        state.links.iter().find(|l| l.layer == UPPER && Arc::ptr_eq(&l.parent, parent)).map(|l| l.name.clone())
    }

    /// The name `name` in `parent`, if the object has it.
    pub fn link(&self, parent: &Arc<Inode>, name: &OsStr) -> Option<Link> {
        self.state.lock().links.iter().find(|l| Arc::ptr_eq(&l.parent, parent) && &*l.name == name).cloned()
    }
}

/// A map with fewer places is not made smaller.
const SMALL_MAP: usize = 256;

/// Frees most places of a map that is nearly empty, after something was removed from it.
fn shrink<K: Eq + Hash, V>(map: &mut FxHashMap<K, V>) {
    if map.capacity() > SMALL_MAP && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

const SHARDS: usize = 32;

/// After so many objects were forgotten (some 20 MB) their memory is given back to the system.
const GIVE_BACK_EVERY: usize = 1 << 16;

type Shard = FxHashMap<Ino, Arc<Inode>>;

/// All known objects.
pub struct Table {
    shards: [Mutex<Shard>; SHARDS],
    /// Objects that left the table, ever.
    forgotten: AtomicUsize,
}

impl Table {
    pub fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), forgotten: AtomicUsize::new(0) }
    }

    fn shard(&self, ino: Ino) -> &Mutex<Shard> {
        &self.shards[(ino as usize).wrapping_mul(0x9E37_79B9) >> 7 & (SHARDS - 1)]
    }

    /// The object, without counting a lookup.
    pub fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.shard(ino).lock().get(&ino).cloned()
    }

    /// The object with one more lookup counted, made by `make` if it is not known.
    pub fn get_or_insert(&self, ino: Ino, make: impl FnOnce() -> Inode) -> (Arc<Inode>, bool) {
        let mut shard = self.shard(ino).lock();
        let (inode, new) = match shard.entry(ino) {
            Entry::Occupied(e) => (e.get().clone(), false),
            Entry::Vacant(e) => (e.insert(Arc::new(make())).clone(), true),
        };
        inode.lookups.fetch_add(1, Ordering::Relaxed);
        (inode, new)
    }

    /// The object with one more lookup counted, if it is known.
    pub fn get_counted(&self, ino: Ino) -> Option<Arc<Inode>> {
        let shard = self.shard(ino).lock();
        let inode = shard.get(&ino)?.clone();
        inode.lookups.fetch_add(1, Ordering::Relaxed);
        Some(inode)
    }

    /// Takes back `count` lookups. Returns the object when it left the table: no lookups and no known children remain.
    pub fn forget(&self, ino: Ino, count: u64) -> Option<Arc<Inode>> {
        let mut shard = self.shard(ino).lock();
        let inode = shard.get(&ino)?;
        let before = inode.lookups.load(Ordering::Relaxed);
        inode.lookups.store(before.saturating_sub(count), Ordering::Relaxed);
        let idle = before <= count && ino != ROOT;
        if idle && inode.dir.as_ref().is_none_or(|d| d.known.load(Ordering::Relaxed) == 0) {
            let inode = shard.remove(&ino);
            shrink(&mut shard);
            return inode;
        }
        None
    }

    /// Notes that an object left the table and was freed; now and then gives free memory back to the system.
    pub fn freed(&self) {
        if self.forgotten.fetch_add(1, Ordering::Relaxed) % GIVE_BACK_EVERY == GIVE_BACK_EVERY - 1 {
            crate::sys::memory::give_back();
        }
    }

    /// Number of known objects.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }
}
