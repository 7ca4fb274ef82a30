//! Locking a directory's names, to look at them or to change them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

use super::Overlay;
use super::dir::Namespace;
use super::error::{Error, Result};
use super::inode::Inode;

/// A directory locked for reading.
pub(super) struct Names<'a> {
    pub ns: RwLockReadGuard<'a, Namespace>,
    upper: Option<Arc<OwnedFd>>,
}

impl Names<'_> {
    /// Upper's directory, if there is one.
    pub fn upper(&self) -> Option<BorrowedFd<'_>> {
        self.upper.as_ref().map(|fd| fd.as_fd())
    }
}

/// A directory of upper locked for a change.
pub(super) struct Changing<'a> {
    pub ns: RwLockWriteGuard<'a, Namespace>,
    pub upper: Arc<OwnedFd>,
}

impl Changing<'_> {
    /// Upper's directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
    }
}

impl Overlay {
    /// Locks a directory's names for reading, with its index read if it is merged.
    pub(super) fn names<'a>(&self, inode: &'a Arc<Inode>) -> Result<Names<'a>> {
        self.names_if(inode, Namespace::merged)
    }

    /// The same, with the index read in any case.
    pub(super) fn indexed_names<'a>(&self, inode: &'a Arc<Inode>) -> Result<Names<'a>> {
        self.names_if(inode, |_| true)
    }

    fn names_if<'a>(&self, inode: &'a Arc<Inode>, needs_index: fn(&Namespace) -> bool) -> Result<Names<'a>> {
        let dir = inode.dir.as_ref().ok_or(Error::NotDirectory)?;
        loop {
            let in_upper = dir.ns.read().upper;
            // Opened before the lock is taken: opening looks at the names of the ancestors, which come first.
            let upper = if in_upper { Some(self.upper_dir(inode)?) } else { None };
            let mut ns = dir.ns.read();
            if ns.index.is_none() && needs_index(&ns) && ns.upper == in_upper && !ns.removed {
                drop(ns);
                let mut changing = dir.ns.write();
                if changing.upper == in_upper && !changing.removed {
                    self.fill_index(inode, &mut changing, upper.as_ref().map(|fd| fd.as_fd()))?;
                }
                ns = RwLockWriteGuard::downgrade(changing);
            }
            if ns.removed {
                return Err(Error::NotFound);
            }
            if ns.upper == in_upper {
                return Ok(Names { ns, upper });
            }
        }
    }

    /// Locks the names of a directory in upper for a change; the index is read if anything lies below.
    pub(super) fn changing<'a>(&self, inode: &'a Arc<Inode>) -> Result<Changing<'a>> {
        self.copy_up_dir(inode)?;
        let upper = self.upper_dir(inode)?;
        self.changing_with(inode, upper)
    }

    /// The same when the directory is in upper and open already.
    pub(super) fn changing_with<'a>(&self, inode: &'a Arc<Inode>, upper: Arc<OwnedFd>) -> Result<Changing<'a>> {
        let dir = inode.dir.as_ref().ok_or(Error::NotDirectory)?;
        let mut ns = dir.ns.write();
        if ns.removed {
            return Err(Error::NotFound);
        }
        if !ns.lowers.is_empty() {
            self.fill_index(inode, &mut ns, Some(upper.as_fd()))?;
        }
        Ok(Changing { ns, upper })
    }
}
