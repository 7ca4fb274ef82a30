//! Attributes: reading them, and changing them in upper.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{Error, Result};
use super::inode::{Ino, Inode};
use super::privilege::SET_ID;
use super::sync::mark_unsynced;
use super::{Caller, Overlay};
use crate::sys::{self, At, SetTime, Stat, Time};

/// What `stat(2)` shows of an object in the merged view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// How callers name the object; equal to `st_ino` but for the root.
    pub ino: Ino,
    /// Inode number to show.
    pub st_ino: u64,
    /// File type and permissions.
    pub mode: u32,
    /// Number of names; 1 for a merged directory, as on kernel overlayfs.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Major and minor number of a device node.
    pub rdev: (u32, u32),
    /// Length in bytes.
    pub size: u64,
    /// Space used in units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of reads and writes in bytes.
    pub blksize: u32,
    /// Time of last access.
    pub atime: Time,
    /// Time of last change of the content.
    pub mtime: Time,
    /// Time of last change of the attributes.
    pub ctime: Time,
}

/// What [`Overlay::set_attr`] is to change; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Time of last access.
    pub atime: Option<SetTime>,
    /// Time of last change of the content.
    pub mtime: Option<SetTime>,
}

impl Change {
    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { mode, uid, gid, size, atime, mtime } = self;
        mode.is_none() && uid.is_none() && gid.is_none() && size.is_none() && atime.is_none() && mtime.is_none()
    }

    /// Whether a modification time is given that is not the present one, and no length: while the kernel changes the length
    /// it writes no pages.
    #[must_use]
    pub fn sets_mtime(&self) -> bool {
        matches!(self.mtime, Some(SetTime::At(_))) && self.size.is_none()
    }

    /// Whether nothing but the modification time is to change.
    fn is_of_mtime(&self) -> bool {
        self.mtime.is_some() && Self { mtime: None, ..*self }.is_empty()
    }
}

impl Overlay {
    /// The attributes of an object.
    pub fn get_attr(&self, ino: Ino) -> Result<Attr> {
        self.attr(&self.inode(ino)?)
    }

    pub(super) fn attr(&self, inode: &Arc<Inode>) -> Result<Attr> {
        let stat = self.at(inode, |at| self.stat(at))?;
        Ok(self.attr_of(inode, &stat))
    }

    /// Attributes from what `stat` said of the object's topmost copy.
    pub(super) fn attr_of(&self, inode: &Inode, stat: &Stat) -> Attr {
        let dir_nlink = inode.dir.as_ref().and_then(|d| {
            let ns = d.ns.read_recursive();
            if ns.removed { Some(0) } else { ns.merged().then_some(1) }
        });
        let (union_nlink, data) = {
            let state = inode.state.lock();
            let extra = state.extra.as_deref();
            // Where a deleted object is kept, it still has a name that nobody sees.
            let kept = state.links.is_empty() && extra.is_some_and(|e| e.parked.is_some());
            let nlink = kept.then(|| stat.nlink.saturating_sub(1));
            (extra.and_then(|e| e.nlink).or(nlink), extra.is_some_and(|e| e.data.is_some()))
        };
        Attr {
            ino: inode.ino,
            st_ino: if inode.ino == super::ROOT { self.id(stat) } else { inode.ino },
            // An empty file can stand for a device (`overlay.laminafs.nested`).
            mode: inode.kind | stat.mode & !libc::S_IFMT,
            nlink: dir_nlink.or(union_nlink).unwrap_or(stat.nlink),
            uid: stat.uid,
            gid: stat.gid,
            rdev: (stat.rdev_major, stat.rdev_minor),
            size: stat.size,
            // A file that holds metadata only has no blocks of its own; its data has.
            blocks: if data { stat.size.div_ceil(512) } else { stat.blocks },
            blksize: stat.blksize,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
        }
    }

    /// Copies an object up whose attributes are to be changed: what can take long, and most of what can fail. Not for a change
    /// of the length, which copies less.
    pub fn prepare_set_attr(&self, ino: Ino) -> Result<()> {
        let inode = self.inode(ino)?;
        self.writable()?;
        self.copy_up(&inode)
    }

    /// Changes attributes, copying the object up first. A change of the length or owner takes set-id bits away, unless
    /// root asks.
    ///
    /// # Errors
    /// Nothing is changed when the copy-up fails; after that, what came before the failing part stays changed.
    pub fn set_attr(&self, ino: Ino, change: &Change, caller: Caller) -> Result<Attr> {
        let inode = self.inode(ino)?;
        self.writable()?;
        if change.is_of_mtime() && self.keeps_times.load(Ordering::Relaxed) && inode.kind == libc::S_IFREG {
            // After it removed the last name the caller tells the time of that, which nobody but itself can ask for.
            let attr = self.attr(&inode)?;
            if attr.nlink == 0 {
                return Ok(attr);
            }
        }
        match change.size {
            Some(size) => self.set_size(&inode, size, caller)?,
            None if change.is_empty() => {
                self.change_nothing(&inode, caller)?;
                return self.attr(&inode);
            }
            None => self.copy_up(&inode)?,
        }
        mark_unsynced(&inode);
        self.at(&inode, |at| {
            if change.uid.is_some() || change.gid.is_some() {
                let drops = !inode.is_dir() && !caller.keeps_set_id();
                let before = if drops { Some(self.stat(at)?) } else { None };
                self.chown(at, change.uid, change.gid)?;
                if let Some(before) = before {
                    self.drop_set_id_of(at, &before, caller)?;
                }
            }
            if let Some(mode) = change.mode {
                inode.state.lock().no_set_id.doubt();
                let changed = self.chmod(at, mode & 0o7777);
                inode.state.lock().no_set_id.doubt();
                changed?;
            }
            if change.atime.is_some() || change.mtime.is_some() {
                sys::set_times(at, change.atime.unwrap_or(SetTime::Omit), change.mtime.unwrap_or(SetTime::Omit))?;
            }
            let stat = self.stat(at)?;
            if change.mtime.is_some() {
                self.note_time(&inode, &stat);
            }
            Ok(self.attr_of(&inode, &stat))
        })
    }

    /// Remembers the modification time that the caller knows, see [`Overlay::caller_keeps_times`].
    pub(super) fn note_time(&self, inode: &Inode, stat: &Stat) {
        if stat.is_file() && self.keeps_times.load(Ordering::Relaxed) {
            inode.state.lock().extra_mut().mtime = Some(stat.mtime);
        }
    }

    /// Undoes what a write did to the modification time, when the caller keeps it.
    pub(super) fn keep_time(&self, inode: &Inode, fd: BorrowedFd<'_>) -> Result<()> {
        let known = || inode.state.lock().extra.as_ref().and_then(|e| e.mtime);
        let mut time = known();
        while let Some(t) = time {
            sys::set_times(At::Fd(fd), SetTime::Omit, SetTime::At(t))?;
            let now = known();
            if now == time {
                break;
            }
            time = now; // set meanwhile by another thread
        }
        Ok(())
    }

    fn set_size(&self, inode: &Arc<Inode>, size: u64, caller: Caller) -> Result<()> {
        if inode.is_dir() {
            return Err(Error::IsDirectory);
        }
        let may_drop = !caller.keeps_set_id() && !inode.state.lock().no_set_id.is_known();
        let drops = may_drop && self.at(inode, |at| Ok(self.stat(at)?.mode & SET_ID != 0))?;
        let done = !drops && self.copy_up_as(inode, Some(size))?;
        let fd = self.data_for_writing(inode)?;
        if drops {
            let at = At::Fd(fd.as_fd());
            self.drop_set_id_of(at, &self.stat(at)?, caller)?;
        }
        if done { Ok(()) } else { Ok(sys::truncate(fd.as_fd(), size)?) }
    }
}
