//! Reaching objects: directory descriptors by layer, and an object's place on disk.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Overlay;
use super::dir::Namespace;
use super::error::{Error, Result};
use super::fdcache::Key;
use super::inode::{Extra, Inode, LayerIndex, Link, Parked, UPPER};
use super::merge;
use crate::sys::{self, Access, At};

impl Overlay {
    /// Upper's directory of a merged directory that has one.
    ///
    /// Takes `ns` of the ancestors for reading when it is not cached: call it before locking one of them.
    pub(super) fn upper_dir(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        let key = Key::Dir(inode.ino, UPPER);
        if let Some(fd) = self.fds.get(key) {
            return Ok(fd);
        }
        // Not by recursion: a tree can be deeper than a stack.
        'again: loop {
            let mut missing: Vec<(Arc<Inode>, Link)> = Vec::new();
            let mut at = inode.clone();
            let mut fd = loop {
                if let Some(fd) = self.fds.get(Key::Dir(at.ino, UPPER)).or_else(|| at.state.lock().pinned.clone()) {
                    break fd;
                }
                if Arc::ptr_eq(&at, &self.root) {
                    let fd = sys::open_dir_path(self.upper()?.layer.root.as_fd(), OsStr::new(""))?;
                    break self.fds.insert(Key::Dir(at.ino, UPPER), fd);
                }
                let link = at.state.lock().links.first().cloned().ok_or(Error::NotFound)?;
                let parent = link.parent.clone();
                missing.push((std::mem::replace(&mut at, parent), link));
            };
            for (inode, link) in missing.iter().rev() {
                let dir = link.parent.dir.as_ref().ok_or(Error::NotDirectory)?;
                let _names = dir.ns.read_recursive();
                if inode.link(&link.parent, &link.name).is_none() {
                    continue 'again; // renamed meanwhile
                }
                let opened = sys::open_dir(fd.as_fd(), &link.name)?;
                fd = self.fds.insert(Key::Dir(inode.ino, UPPER), opened);
            }
            return Ok(fd);
        }
    }

    /// A lower layer's directory.
    pub(super) fn lower_dir(&self, inode: &Inode, layer: LayerIndex, path: &OsStr) -> Result<Arc<OwnedFd>> {
        let key = Key::Dir(inode.ino, layer);
        if let Some(fd) = self.fds.get(key) {
            return Ok(fd);
        }
        let fd = sys::open_dir_path(self.layer(layer)?.root.as_fd(), path)?;
        Ok(self.fds.insert(key, fd))
    }

    /// The directory's copy in a layer that it is merged from.
    pub(super) fn dir_in(&self, inode: &Arc<Inode>, layer: LayerIndex) -> Result<Arc<OwnedFd>> {
        if layer == UPPER {
            return self.upper_dir(inode);
        }
        if let Some(fd) = self.fds.get(Key::Dir(inode.ino, layer)) {
            return Ok(fd);
        }
        let dir = inode.dir.as_ref().ok_or(Error::NotDirectory)?;
        let path = {
            let ns = dir.ns.read_recursive();
            ns.lowers.iter().find(|l| l.layer == layer).map(|l| l.path.clone()).ok_or(Error::Stale)?
        };
        self.lower_dir(inode, layer, &path)
    }

    /// The topmost copy of a directory, whose attributes the merged directory shows.
    pub(super) fn top_dir(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = inode.state.lock().pinned.clone() {
            return Ok(fd);
        }
        let dir = inode.dir.as_ref().ok_or(Error::NotDirectory)?;
        let top = {
            let ns = dir.ns.read_recursive();
            if ns.upper { UPPER } else { ns.lowers.first().map_or(UPPER, |l| l.layer) }
        };
        self.dir_in(inode, top)
    }

    /// Runs `act` on the object where it is on disk now. Names cannot move while it runs, so it should not take long;
    /// it may be called with the lock of none of the directories involved held for writing.
    pub(super) fn at<T>(&self, inode: &Arc<Inode>, act: impl FnOnce(At<'_>) -> Result<T>) -> Result<T> {
        if inode.is_dir() {
            let fd = self.top_dir(inode)?;
            return act(At::Fd(fd.as_fd()));
        }
        loop {
            let (link, extra) = {
                let state = inode.state.lock();
                if let Some(fd) = state.pinned.clone() {
                    drop(state);
                    return act(At::Fd(fd.as_fd()));
                }
                let upper = state.upper.is_some();
                let link = state.links.iter().find(|l| (l.layer == UPPER) == upper).cloned();
                let extra = if link.is_none() { state.extra.clone() } else { None };
                (link, extra)
            };
            let Some(link) = link else {
                return self.at_nameless(extra.as_deref().ok_or(Error::NotFound)?, act);
            };
            let fd = self.dir_in(&link.parent, link.layer)?;
            let dir = link.parent.dir.as_ref().ok_or(Error::NotDirectory)?;
            let _names = dir.ns.read_recursive();
            if inode.link(&link.parent, &link.name).is_some_and(|l| l.layer == link.layer) {
                return act(At::Name(fd.as_fd(), &link.name));
            }
        }
    }

    fn at_nameless<T>(&self, extra: &Extra, act: impl FnOnce(At<'_>) -> Result<T>) -> Result<T> {
        if let Some(name) = &extra.index {
            let dir = self.upper()?.work.index.as_ref().ok_or(Error::NotFound)?;
            return act(At::Name(dir.as_fd(), name));
        }
        match extra.parked.as_ref().ok_or(Error::NotFound)? {
            Parked::Work(name) => act(At::Name(self.upper()?.work.fd(), name)),
            Parked::Lower(layer, path) => {
                let fd = sys::open_path_rel(self.layer(*layer)?.root.as_fd(), path)?;
                act(At::Fd(fd.as_fd()))
            }
        }
    }

    /// Opens a file's data, wherever it is. For writing it must be in upper.
    pub(super) fn open_data(&self, inode: &Arc<Inode>, access: Access) -> Result<OwnedFd> {
        let elsewhere = inode.state.lock().extra.as_ref().and_then(|e| e.data.clone());
        if let (Some((layer, path)), Access::Read) = (elsewhere, access) {
            return Ok(sys::open_file_path(self.layer(layer)?.root.as_fd(), &path, Access::Read)?);
        }
        let fd = self.at(inode, |at| {
            let open = || match at {
                At::Fd(fd) => Ok(sys::reopen(fd, access)?),
                At::Name(dir, name) if self.frozen => open_if_file(dir, name, access),
                At::Name(dir, name) => Ok(sys::open_file(dir, name, access)?),
            };
            // Those who opened a file go on with it whatever its permissions are now.
            if access == Access::ReadWrite || inode.in_upper() { self.as_owner(at, open) } else { open() }
        })?;
        if access == Access::Read
            && !inode.in_upper()
            && let Some((layer, path)) = self.data_below(inode, fd.as_fd())?
        {
            return Ok(sys::open_file_path(self.layer(layer)?.root.as_fd(), &path, Access::Read)?);
        }
        Ok(fd)
    }

    /// Keeps an object reachable that is about to lose `link`, if it is its last known name. The caller holds the lock
    /// of the directory whose content is `ns`; `dir` is its copy in upper.
    ///
    /// A file in upper is held by a descriptor, beyond the budget by a link in the work directory. One in a lower layer
    /// stays where it is.
    pub(super) fn keep(&self, inode: &Inode, ns: &Namespace, dir: BorrowedFd<'_>, link: &Link) -> Result<()> {
        {
            let mut state = inode.state.lock();
            let indexed = state.extra.as_ref().is_some_and(|e| e.index.is_some());
            if state.links.len() > 1 || state.pinned.is_some() || (indexed && !self.may_pin()) {
                return Ok(()); // one in the index is reached there
            }
            if link.layer != UPPER {
                let below = ns.lowers.iter().find(|l| l.layer == link.layer).ok_or(Error::Stale)?;
                let path = merge::join(&below.path, &link.name);
                state.extra_mut().parked = Some(Parked::Lower(link.layer, path));
                return Ok(());
            }
        }
        if self.may_pin() {
            let open = self.fds.get(Key::UpperData(inode.ino)).or_else(|| self.fds.get(Key::UpperRead(inode.ino)));
            let fd = open.map_or_else(|| sys::open_path(dir, &link.name).map(Arc::new), Ok)?;
            self.pins.fetch_add(1, Ordering::Relaxed);
            inode.state.lock().pinned = Some(fd);
        } else {
            let work = &self.writable()?.work;
            let name = work.temporary();
            sys::link(dir, &link.name, work.fd(), &name)?;
            inode.state.lock().extra_mut().parked = Some(Parked::Work(name));
        }
        Ok(())
    }

    /// Whether the budget has a descriptor for one more object without a name.
    pub(super) fn may_pin(&self) -> bool {
        self.pins.load(Ordering::Relaxed) < self.max_pins
    }

    /// Keeps a directory that was removed usable for those who have it open; beyond the budget it is not.
    pub(super) fn keep_dir(&self, inode: &Inode, fd: Arc<OwnedFd>) {
        if self.may_pin() {
            self.pins.fetch_add(1, Ordering::Relaxed);
            inode.state.lock().pinned = Some(fd);
        } else {
            log::warn!("too many removed directories are in use: one more cannot be kept");
        }
    }

    /// Undoes [`Overlay::keep`] when the name was not lost after all, or the object is forgotten.
    pub(super) fn release(&self, inode: &Inode) {
        let (pinned, parked) = {
            let mut state = inode.state.lock();
            (state.pinned.take(), state.extra.as_mut().and_then(|e| e.parked.take()))
        };
        if pinned.is_some() {
            self.pins.fetch_sub(1, Ordering::Relaxed);
        }
        if let (Some(Parked::Work(name)), Some(upper)) = (parked, &self.upper) {
            upper.work.discard(&name);
        }
    }

    /// Removes `link` from the object's known names.
    pub(super) fn drop_link(&self, inode: &Inode, parent: &Arc<Inode>, name: &OsStr) {
        inode.state.lock().links.retain(|l: &mut Link| !(Arc::ptr_eq(&l.parent, parent) && &*l.name == name));
        if let Some(dir) = &parent.dir {
            dir.unlearn(name, |ino| ino == inode.ino);
        }
    }
}

/// Opens a file of a tree that others may change: in place of it there can be a FIFO, which waits for a writer, or a device, which
/// does something.
fn open_if_file(dir: BorrowedFd<'_>, name: &OsStr, access: Access) -> Result<OwnedFd> {
    let fd = sys::open_path(dir, name)?;
    if !sys::stat(At::Fd(fd.as_fd()))?.is_file() {
        return Err(Error::Stale);
    }
    Ok(sys::reopen(fd.as_fd(), access)?)
}
