//! Hard links of lower layers: the index that keeps them one file through copy-up, and their link count.
//!
//! As on kernel overlayfs with `index=on`: the copy of a lower file with several names goes to
//! `<workdir>/index/<handle of the lower file>` first, and every name that is used for a change becomes a link to it.
//! The count of names in the union is kept in `overlay.nlink`, relative to the link count of the lower or the upper
//! file, whichever does not change with the operation at hand; so it is right at every moment of a crash.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::Overlay;
use super::copy_up::restore_times;
use super::dir::InUpper;
use super::error::{Error, Result};
use super::inode::{Inode, Link, Parked, UPPER};
use super::owner::as_owner;
use parking_lot::MutexGuard;

use crate::layer::markers::{FileMarkers, read_file_markers};
use crate::layer::nlink::NlinkDelta;
use crate::layer::xattr::{Marker, Namespace};
use crate::sys::{self, At, Errno, RenameFlags, Stat, xattr};

impl Overlay {
    fn index_at<'a>(&'a self, name: &'a OsStr) -> Result<At<'a>> {
        let dir = self.upper()?.work.index.as_ref().ok_or(Error::NotFound)?;
        Ok(At::Name(dir.as_fd(), name))
    }

    /// What `stat` says of an object that upper has through the index.
    pub(super) fn stat_in_index(&self, inode: &Inode) -> Result<Stat> {
        let (index, _) = indexed(inode).ok_or(Error::Stale)?;
        self.stat(self.index_at(&index)?)
    }

    /// The markers of an index entry.
    pub(super) fn index_markers(&self, index: &OsStr) -> Result<FileMarkers> {
        let at = self.index_at(index)?;
        self.as_owner(at, || Ok(read_file_markers(at)?))
    }

    /// Number of names in the union of the file behind an index entry; `upper` is its `stat`, `lower` the link count of
    /// the file it was copied from.
    pub(super) fn union_nlink(&self, index: &OsStr, upper: &Stat, lower: u32) -> Result<u32> {
        let at = self.index_at(index)?;
        let get = |namespace: Namespace| self.as_owner(at, || Ok(xattr::get(at, namespace.name(Marker::Nlink))?));
        // Upper may have been written with other attributes.
        let value = match get(self.markers)? {
            None if self.markers == Namespace::Trusted => get(Namespace::User)?,
            None => get(Namespace::Trusted)?,
            value => value,
        };
        let count = match value.as_deref().and_then(NlinkDelta::parse) {
            Some(NlinkDelta::Lower(d)) => i64::from(lower) + i64::from(d),
            Some(NlinkDelta::Upper(d)) => i64::from(upper.nlink) + i64::from(d),
            None => i64::from(upper.nlink),
        };
        Ok(u32::try_from(count.max(0)).unwrap_or(u32::MAX))
    }

    fn store_nlink(&self, index: &OsStr, delta: NlinkDelta) -> Result<()> {
        let (at, name) = (self.index_at(index)?, self.markers.name(Marker::Nlink));
        as_owner(at, || Ok(xattr::set(at, name, &delta.encode(), 0)?))
    }

    /// Before upper's link count changes together with the number of names in the union.
    pub(super) fn count_by_upper(&self, inode: &Inode) -> Result<()> {
        let Some((index, union)) = indexed(inode) else { return Ok(()) };
        let real = sys::stat(self.index_at(&index)?)?.nlink;
        self.store_nlink(&index, NlinkDelta::Upper(union as i32 - real as i32))
    }

    /// Held from reading the number of names to storing it. Nothing to hold for an object outside the index.
    pub(super) fn counting(&self, inode: Option<&Arc<Inode>>) -> Result<Option<MutexGuard<'_, ()>>> {
        match inode.and_then(|i| indexed(i)) {
            Some(_) => Ok(Some(self.upper()?.counting.lock())),
            None => Ok(None),
        }
    }

    /// Gives an object that was copied up without an index the other names it is known by in upper too: with the index
    /// missing nothing else says that they are one file. Names looked up later show the lower file. What fails is tried
    /// again before the next change.
    pub(super) fn link_up_known(&self, inode: &Arc<Inode>) -> Result<()> {
        loop {
            let other = {
                let state = inode.state.lock();
                let indexed = state.extra.as_ref().is_some_and(|e| e.index.is_some());
                state.links.iter().find(|l| l.layer != UPPER && !indexed && !inode.is_dir()).cloned()
            };
            let Some(link) = other else { return Ok(()) };
            self.link_up(inode, &link)?;
        }
    }

    /// After a name came to the union (`+1`) or left it (`-1`). The index entry goes with the last name.
    pub(super) fn counted(&self, inode: &Inode, change: i32) {
        let Some((index, union)) = indexed(inode) else { return };
        let union = union.saturating_add_signed(change);
        inode.state.lock().extra_mut().nlink = Some(union);
        if union > 0 {
            return;
        }
        let removed = self.writable().and_then(|upper| {
            let dir = upper.work.index.as_ref().ok_or(Error::NotFound)?.as_fd();
            if sys::stat(At::Name(dir, &index))?.nlink > 1 {
                // Whatever the count says, names need the entry.
                return Err(Error::NotEmpty);
            }
            if inode.state.lock().pinned.is_some() {
                sys::unlink(dir, &index)?;
                return Ok(None);
            }
            // Nothing else keeps it for those who have it open.
            let name = upper.work.temporary();
            sys::rename(dir, &index, upper.work.fd(), &name, RenameFlags::NOREPLACE)?;
            Ok(Some(Parked::Work(name)))
        });
        match removed {
            Ok(parked) => {
                let mut state = inode.state.lock();
                let extra = state.extra_mut();
                (extra.index, extra.parked) = (None, parked);
            }
            Err(e) => log::warn!("index entry of a deleted file stays until the next mount: {e}"),
        }
    }

    /// Gives an object that is in upper through the index the name `link` there too.
    pub(super) fn link_up(&self, inode: &Arc<Inode>, link: &Link) -> Result<()> {
        if link.layer == UPPER {
            return Ok(());
        }
        let object = self.at(inode, |at| match at {
            At::Name(dir, name) => Ok(sys::open_path(dir, name)?),
            At::Fd(_) => Err(Error::NotFound),
        })?;
        self.copy_up_dir(&link.parent)?;
        self.mark_nested_for(inode, self.upper_dir(&link.parent)?.as_fd())?;
        let mut parent = self.changing(&link.parent)?;
        let Some(current) = inode.link(&link.parent, &link.name) else { return Ok(()) };
        if current.layer == UPPER {
            return Ok(());
        }
        let _counting = self.counting(Some(inode))?;
        if let Some((index, union)) = indexed(inode) {
            let below = parent.ns.lowers.iter().find(|l| l.layer == current.layer).ok_or(Error::Stale)?;
            let lower = self.lower_dir(&link.parent, below.layer, &below.path)?;
            let lower = sys::stat(At::Name(lower.as_fd(), &link.name))?;
            self.store_nlink(&index, NlinkDelta::Lower(union as i32 - lower.nlink as i32))?;
        }

        let before = sys::stat(At::Fd(parent.fd()))?;
        self.mark_impure(&mut parent)?;
        let linked = as_owner(At::Fd(parent.fd()), || Ok(sys::link_fd(object.as_fd(), parent.fd(), &link.name)?));
        match linked {
            Err(e) if e.is(Errno::EXIST) => {}
            other => other?,
        }
        let ino = inode.state.lock().upper.unwrap_or_default();
        self.note_upper(&mut parent, &link.parent, &link.name, InUpper::Present, inode.kind, ino);
        restore_times(At::Fd(parent.fd()), &before);
        for l in &mut inode.state.lock().links {
            if Arc::ptr_eq(&l.parent, &link.parent) && l.name == link.name {
                l.layer = UPPER;
            }
        }
        Ok(())
    }

    /// Makes sure that a name can be removed or moved in upper with the count staying right: a name of a lower file
    /// with several links must be in upper for that.
    pub(super) fn bring_link_up(&self, inode: &Arc<Inode>, link: &Link) -> Result<()> {
        if link.layer == UPPER || !self.indexable(inode.kind) || inode.is_dir() || self.writable()?.work.index.is_none()
        {
            return Ok(());
        }
        if !inode.in_upper() {
            if inode.original.nlink <= 1 {
                return Ok(());
            }
            self.copy_up(inode)?;
        }
        self.link_up(inode, link)
    }
}

fn indexed(inode: &Inode) -> Option<(std::ffi::OsString, u32)> {
    let state = inode.state.lock();
    let extra = state.extra.as_ref()?;
    Some((extra.index.clone()?, extra.nlink?))
}
