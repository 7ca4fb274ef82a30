//! The union: several directories shown as one.
//!
//! [`Overlay`] answers the questions and makes the changes that a file system server needs, by inode number and name.
//! It knows nothing of FUSE; what the operations promise, and in which order they touch the disk, is in
//! docs/SEMANTICS.md.

mod acl;
mod attr;
mod copy_up;
mod create;
mod dialects;
mod dir;
mod error;
mod fdcache;
mod features;
mod file;
mod find;
mod flatten;
mod hardlink;
mod identity;
mod inode;
mod inspect;
mod link;
mod lookup;
mod mark;
mod merge;
mod metacopy;
mod names;
mod open_upper;
mod options;
mod overlap;
mod override_stat;
mod owner;
mod place;
mod privilege;
mod probe;
mod readdir;
mod redirects;
mod remove;
mod rename;
mod rename_dir;
mod rename_whiteout;
mod stack;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
mod upper;
mod whiteout;
mod work;
mod xattr;

use std::os::fd::OwnedFd;

use std::sync::Arc;

use crate::layer::override_stat::Dialect;
use crate::layer::xattr::Namespace as XattrNamespace;

pub use attr::{Attr, Change};
pub use create::New;
pub use error::{Error, Result};
pub use features::{State, Tries};
pub use inode::{Ino, ROOT};
pub use inspect::{OnDisk, Parts, UpperName};
pub use open_upper::reserve_upper;
pub use options::{OpenError, Options, RedirectMode};
pub use readdir::{Listed, Sink};
pub use rename::RenameMode;
pub use stack::descriptors;
pub use upper::{Unread, hides_from_kernel, make_upper, unread_by_kernel};

/// Who asks, where it matters for what is made: new objects belong to the caller.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// File system user id, as it is on disk.
    pub uid: u32,
    /// File system group id, as it is on disk.
    pub gid: u32,
    /// Process (or thread) id, by which its further groups are found; 0 if they are not known, or not those on disk.
    pub pid: u32,
    /// The caller is user 0 of the machine, whoever that is on disk.
    pub is_root: bool,
}

impl Caller {
    /// A caller whose ids are those on disk.
    #[must_use]
    pub const fn new(uid: u32, gid: u32, pid: u32) -> Self {
        Self { uid, gid, pid, is_root: uid == 0 }
    }
}

/// One layer, held open.
struct Layer {
    root: OwnedFd,
    dev: u64,
    /// UUID of the file system, for file handles in the kernel's format.
    uuid: Option<[u8; 16]>,
    /// Handles name one file only: no other file system of the stack has the same UUID, or none either.
    handles: bool,
    /// Only reached by absolute redirects of files above (`::` in `lowerdir=`).
    data_only: bool,
    /// It is reached through a mount of its own that nobody else has.
    private: bool,
}

/// The writable part.
struct Upper {
    layer: Layer,
    work: work::Work,
    /// Held while the number of names of a file in the index changes; comes after the locks of directories.
    counting: parking_lot::Mutex<()>,
}

/// A mounted union. All methods may be called from several threads.
pub struct Overlay {
    upper: Option<Upper>,
    /// Topmost first; layer index 1 is the first.
    lowers: Vec<Layer>,
    markers: XattrNamespace,
    /// Upper can hold such attributes at all.
    attributes: bool,
    /// Redirects and metacopy markers in `user.` attributes are believed.
    believes_users: bool,
    /// Redirects are written.
    redirect: bool,
    /// Directories of lower layers that cannot have a redirect are copied when they are renamed.
    flatten: bool,
    follow: bool,
    /// See [`Options::override_stat`].
    override_stat: bool,
    /// Under which names that is read; it is written under the first. Empty without.
    dialects: Vec<Dialect>,
    /// See [`Options::frozen`].
    frozen: bool,
    volatile: bool,
    euid: u32,
    egid: u32,
    ids: identity::Ids,
    table: inode::Table,
    root: Arc<inode::Inode>,
    fds: fdcache::FdCache,
    indexes: merge::IndexBudget,
    tried: features::Tried,
    keeps_times: std::sync::atomic::AtomicBool,
    /// A directory that changed since it was synced was forgotten: the next fsync writes everything.
    lost_marks: std::sync::atomic::AtomicBool,
    pins: std::sync::atomic::AtomicUsize,
    max_pins: usize,
}

/// What an [`Overlay`] holds in memory, each counted at its own moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Objects, the root aside, that the caller looked up and has not forgotten, and the directories they are in.
    pub inodes: usize,
    /// Names in indexes of directories.
    pub index_entries: usize,
    /// Descriptors in the cache.
    pub cached_descriptors: usize,
    /// Descriptors that hold deleted objects; some are in the cache too.
    pub pinned_descriptors: usize,
}

impl Overlay {
    /// Whether nothing can be written.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.frozen || self.upper.is_none()
    }

    /// Tells that the caller writes from a cache and keeps modification times of files itself: a write comes later than
    /// what it is about and must not change them; [`Overlay::set_attr`] brings the time before or after it.
    pub fn caller_keeps_times(&self) {
        self.keeps_times.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn writable(&self) -> Result<&Upper> {
        self.upper().ok().filter(|_| !self.frozen).ok_or(Error::ReadOnly)
    }

    /// The upper part to look at, which may not be there to be changed.
    fn upper(&self) -> Result<&Upper> {
        self.upper.as_ref().ok_or(Error::ReadOnly)
    }

    fn layer(&self, index: inode::LayerIndex) -> Result<&Layer> {
        match index {
            inode::UPPER => Ok(&self.upper()?.layer),
            i => self.lowers.get(usize::from(i) - 1).ok_or(Error::Stale),
        }
    }

    fn inode(&self, ino: Ino) -> Result<Arc<inode::Inode>> {
        if ino == ROOT {
            return Ok(self.root.clone());
        }
        self.table.get(ino).ok_or(Error::Stale)
    }

    /// The object with this number and its directory part.
    fn directory(&self, ino: Ino) -> Result<Arc<inode::Inode>> {
        let inode = self.inode(ino)?;
        if inode.dir.is_some() { Ok(inode) } else { Err(Error::NotDirectory) }
    }

    /// What is in memory now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            inodes: self.table.len(),
            index_entries: self.indexes.entries(),
            cached_descriptors: self.fds.len(),
            pinned_descriptors: self.pins.load(std::sync::atomic::Ordering::Relaxed),
        }
    }
}
