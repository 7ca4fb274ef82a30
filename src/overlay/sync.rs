//! Making changes survive a crash.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Overlay;
use super::error::Result;
use super::inode::{Ino, Inode};
use crate::sys::{self, StatFs};

/// Notes that a directory of upper changed: its entries or its own attributes.
pub(super) fn mark_unsynced(inode: &Inode) {
    if let Some(dir) = &inode.dir {
        dir.unsynced.store(true, Ordering::Relaxed);
    }
}

impl Overlay {
    /// fsync(2) of a file: its data, and every directory on the way to it in which upper changed, so that the file
    /// can be found after a crash.
    pub fn fsync(&self, ino: Ino, data_only: bool) -> Result<()> {
        let inode = self.inode(ino)?;
        if self.volatile || !inode.in_upper() {
            return Ok(());
        }
        if inode.kind == libc::S_IFREG {
            let fd = self.data_for_writing(&inode)?;
            if data_only { sys::fdatasync(fd.as_fd())? } else { sys::fsync(fd.as_fd())? }
        }
        let indexed = inode.state.lock().extra.as_ref().is_some_and(|e| e.index.is_some());
        if let Some(index) = self.writable()?.work.index.as_ref().filter(|_| indexed) {
            sys::fsync(index.as_fd())?;
        }
        let parents: Vec<Arc<Inode>> = inode.state.lock().links.iter().map(|l| l.parent.clone()).collect();
        parents.iter().try_for_each(|p| self.sync_names(p))
    }

    /// fsync(2) of a directory: its entries, whiteouts included, and its own way from the root.
    pub fn fsync_dir(&self, ino: Ino) -> Result<()> {
        let inode = self.directory(ino)?;
        if self.volatile { Ok(()) } else { self.sync_names(&inode) }
    }

    fn sync_names(&self, inode: &Arc<Inode>) -> Result<()> {
        if self.lost_marks.swap(false, Ordering::AcqRel) {
            return self.sync_all().inspect_err(|_| self.lost_marks.store(true, Ordering::Release));
        }
        let mut at = Some(inode.clone());
        while let Some(inode) = at {
            self.sync_dir(&inode)?;
            at = inode.state.lock().links.first().map(|l| l.parent.clone());
        }
        Ok(())
    }

    fn sync_dir(&self, inode: &Arc<Inode>) -> Result<()> {
        let Some(dir) = &inode.dir else { return Ok(()) };
        let _syncing = dir.syncing.lock();
        if dir.unsynced.swap(false, Ordering::AcqRel) {
            let synced = self.upper_dir(inode).and_then(|fd| Ok(sys::fsync(fd.as_fd())?));
            synced.inspect_err(|_| dir.unsynced.store(true, Ordering::Release))?;
        }
        Ok(())
    }

    /// Writes everything in upper to the disk, unless the mount is volatile.
    pub fn sync_all(&self) -> Result<()> {
        match &self.upper {
            Some(upper) if !self.volatile => Ok(sys::syncfs(upper.layer.root.as_fd())?),
            _ => Ok(()),
        }
    }

    /// The last call: the end of a mount does not wait until all that was deleted in use is forgotten. Removes what is left
    /// of it, and writes everything.
    pub fn end(&self) -> Result<()> {
        if let Some(upper) = self.upper.as_ref().filter(|_| !self.frozen) {
            super::work::clear_dir(upper.work.fd())?;
        }
        self.sync_all()
    }

    /// Whether a layer is in a file system that is itself stacked on another (overlayfs, ecryptfs).
    pub fn is_stacked(&self) -> Result<bool> {
        const STACKED: [u64; 2] = [0x794c_7630, 0xf15f];
        for layer in self.lowers.iter().chain(self.upper.as_ref().map(|upper| &upper.layer)) {
            if STACKED.contains(&sys::statfs(layer.root.as_fd())?.f_type) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Space on the file system of upper, or of the topmost lower layer.
    pub fn statfs(&self) -> Result<StatFs> {
        let layer = self.layer(u16::from(self.upper.is_none()))?;
        Ok(sys::statfs(layer.root.as_fd())?)
    }
}
