//! Bringing an object from a lower layer to upper, so that it can be changed.
//!
//! The copy is made under a temporary name in the work directory, complete with data and attributes, synced, and put in
//! place by one rename. Until then the lower object is what everybody sees. Times of the parent are put back.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::acl::DEFAULT;
use super::dir::InUpper;
use super::error::{Error, Result};
use super::fdcache::Key;
use super::inode::{Inode, Link, Parked, UPPER};
use super::names::Changing;
use super::override_stat::make_on_disk;
use super::owner::as_owner;
use super::sync::mark_unsynced;
use super::{Overlay, Tries, Upper};
use crate::layer::markers::Number;
use crate::layer::nlink::NlinkDelta;
use crate::layer::origin::OverlayHandle;
use crate::layer::xattr::{Marker, Namespace, is_internal};
use crate::sys::{self, Access, At, Errno, RenameFlags, SetTime, Stat, xattr};

/// How much is copied at a time when the file system cannot do it by itself.
const CHUNK: usize = 1 << 20;

impl Overlay {
    /// Makes sure that the object is in upper and can be changed there.
    pub(super) fn copy_up(&self, inode: &Arc<Inode>) -> Result<()> {
        if inode.is_dir() {
            return self.copy_up_dir(inode);
        }
        self.copy_up_as(inode, None).map(drop)
    }

    /// The same for a file of which no more than `limit` bytes are copied: the copy has that length when it appears.
    /// False if the length remains to be set: the file was in upper already, or it has several names.
    pub(super) fn copy_up_as(&self, inode: &Arc<Inode>, limit: Option<u64>) -> Result<bool> {
        if inode.in_upper() {
            self.link_up_known(inode)?;
            return Ok(false);
        }
        self.writable()?;
        let _copying = inode.copy_up.lock();
        if inode.in_upper() { Ok(false) } else { self.copy_object(inode, limit) }
    }

    /// Makes sure that a directory is in upper, its ancestors first.
    pub(super) fn copy_up_dir(&self, inode: &Arc<Inode>) -> Result<()> {
        self.writable()?;
        let mut missing = Vec::new();
        let mut at = inode.clone();
        while !at.dir.as_ref().ok_or(Error::NotDirectory)?.ns.read().upper {
            let parent = at.state.lock().links.first().ok_or(Error::NotFound)?.parent.clone();
            missing.push(std::mem::replace(&mut at, parent));
        }
        missing.iter().rev().try_for_each(|dir| self.copy_up_one_dir(dir))
    }

    /// The same when the parent is in upper.
    fn copy_up_one_dir(&self, inode: &Arc<Inode>) -> Result<()> {
        let upper = self.writable()?;
        let dir = inode.dir.as_ref().ok_or(Error::NotDirectory)?;
        let _copying = inode.copy_up.lock();
        if dir.ns.read().upper {
            return Ok(());
        }
        let link = inode.state.lock().links.first().cloned().ok_or(Error::NotFound)?;
        let source = self.top_dir(inode)?;
        let at = At::Fd(source.as_fd());
        let stat = self.stat(at)?;
        let lowest = dir.ns.read().lowers.first().map(|l| l.layer).ok_or(Error::Stale)?;
        let handle = self.handle(self.layer(lowest)?, at, &stat)?;
        let name = upper.work.temporary();
        let made = (|| {
            sys::mkdir(upper.work.fd(), &name, 0o700)?;
            let made = At::Name(upper.work.fd(), &name);
            self.copy_attributes(at, &stat, made, handle.as_ref().map(|h| (h, &stat)), SetTime::At(stat.mtime))?;
            Ok((sys::stat(made)?.ino, self.has_default_acl(made)?))
        })();
        let placed = made.and_then(|(ino, default_acl)| {
            let mut parent = self.changing(&link.parent)?;
            if inode.link(&link.parent, &link.name).is_none() {
                return Err(Error::NotFound);
            }
            self.install(upper, &mut parent, &link, &name, stat.mode, ino)?;
            let mut ns = dir.ns.write();
            ns.upper = true;
            ns.impure = false;
            ns.default_acl = default_acl;
            drop(ns);
            inode.state.lock().upper = Some(ino);
            Ok(())
        });
        placed.inspect_err(|_| upper.work.discard(&name))
    }

    fn copy_object(&self, inode: &Arc<Inode>, limit: Option<u64>) -> Result<bool> {
        let upper = self.writable()?;
        let link = inode.state.lock().links.first().cloned();
        if let Some(link) = &link {
            self.copy_up_dir(&link.parent)?;
            self.mark_nested_for(inode, self.upper_dir(&link.parent)?.as_fd())?;
        }
        let (stat, handle, target) = self.at(inode, |at| {
            let mut stat = self.stat(at)?;
            if self.override_stat {
                // Also of an empty file that stands for a device (`overlay.laminafs.nested`).
                stat.mode = inode.kind | stat.mode & !libc::S_IFMT;
            }
            let target = if stat.is_symlink() { Some(read_target(at)?) } else { None };
            let handle = match &link {
                Some(l) => self.handle(self.layer(l.layer)?, at, &stat)?,
                None => None,
            };
            Ok((stat, handle, target))
        })?;
        let index =
            upper.work.index.as_ref().filter(|_| stat.nlink > 1 && link.is_some() && self.indexable(inode.kind));
        let index = index.zip(handle.as_ref().map(OverlayHandle::index_name));
        // A file with several names appears under all of them before all that is needed is done.
        let limit = limit.filter(|_| index.is_none());

        let name = upper.work.temporary();
        let made =
            self.make_copy(inode, upper, &name, &stat, target.as_deref(), handle.as_ref(), limit, index.is_some());
        let placed = made.and_then(|ino| {
            if let Some((dir, entry)) = &index {
                let _counting = upper.counting.lock();
                sys::rename(upper.work.fd(), &name, dir.as_fd(), entry, RenameFlags::NOREPLACE)?;
                let mut state = inode.state.lock();
                state.upper = Some(ino);
                let extra = state.extra_mut();
                extra.index = Some(entry.clone());
                extra.nlink = Some(stat.nlink);
                extra.data = None;
                return Ok(());
            }
            self.place_copy(inode, upper, &name, ino)
        });
        placed.inspect_err(|_| upper.work.discard(&name))?;
        self.fds.remove(Key::LowerData(inode.ino));
        match (&index, &link) {
            (Some(_), Some(link)) => self.link_up(inode, link)?,
            _ => self.link_up_known(inode)?,
        }
        Ok(limit.is_some())
    }

    /// Puts a finished copy under one of the object's names, or keeps it without one if all were deleted meanwhile.
    fn place_copy(&self, inode: &Arc<Inode>, upper: &Upper, name: &OsStr, ino: u64) -> Result<()> {
        loop {
            let Some(link) = inode.state.lock().links.first().cloned() else { break };
            let mut parent = match self.changing(&link.parent) {
                // Removed meanwhile, and the name before it.
                Err(Error::NotFound) if inode.link(&link.parent, &link.name).is_none() => continue,
                parent => parent?,
            };
            if inode.link(&link.parent, &link.name).is_none() {
                continue;
            }
            self.install(upper, &mut parent, &link, name, inode.kind, ino)?;
            let mut state = inode.state.lock();
            state.upper = Some(ino);
            state.extra_mut_if(|e| e.data = None);
            for l in state.links.iter_mut() {
                if Arc::ptr_eq(&l.parent, &link.parent) && l.name == link.name {
                    l.layer = UPPER;
                }
            }
            return Ok(());
        }
        let pinned = if self.may_pin() {
            let fd = sys::open_path(upper.work.fd(), name)?;
            sys::unlink(upper.work.fd(), name)?;
            self.pins.fetch_add(1, Ordering::Relaxed);
            Some(Arc::new(fd))
        } else {
            None
        };
        let mut state = inode.state.lock();
        state.upper = Some(ino);
        let extra = state.extra_mut();
        extra.data = None;
        extra.parked = if pinned.is_none() { Some(Parked::Work(name.to_owned())) } else { None };
        state.pinned = pinned;
        Ok(())
    }

    /// Moves `name` from the work directory to the place that `link` names, as if it had always been there.
    fn install(
        &self,
        upper: &Upper,
        parent: &mut Changing<'_>,
        link: &Link,
        name: &OsStr,
        mode: u32,
        ino: u64,
    ) -> Result<()> {
        let before = sys::stat(At::Fd(parent.fd()))?;
        self.mark_impure(parent)?;
        let object = sys::open_path(upper.work.fd(), name)?;
        // Moving a directory to another parent needs write permission on itself too.
        as_owner(At::Fd(parent.fd()), || {
            as_owner(At::Fd(object.as_fd()), || {
                Ok(sys::rename(upper.work.fd(), name, parent.fd(), &link.name, RenameFlags::NOREPLACE)?)
            })
        })?;
        self.note_upper(parent, &link.parent, &link.name, InUpper::Present, mode, ino);
        restore_times(At::Fd(parent.fd()), &before);
        Ok(())
    }

    /// Marks a directory of upper as holding entries that have an origin.
    pub(super) fn mark_impure(&self, parent: &mut Changing<'_>) -> Result<()> {
        if !parent.ns.impure {
            let at = At::Fd(parent.fd());
            match as_owner(at, || Ok(xattr::set(at, self.markers.name(Marker::Impure), b"y", 0)?)) {
                Ok(()) => {}
                Err(e) if e.is(Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e),
            }
            parent.ns.impure = true;
        }
        Ok(())
    }

    /// Records a change of upper's entry `name` in memory.
    pub(super) fn note_upper(
        &self,
        parent: &mut Changing<'_>,
        inode: &Inode,
        name: &OsStr,
        upper: InUpper,
        mode: u32,
        ino: u64,
    ) {
        let kind = (mode >> 12) as u8 & 0xf;
        if let Some(index) = &mut parent.ns.index {
            index.set_upper(name, upper, kind, ino);
        }
        mark_unsynced(inode);
    }

    #[expect(clippy::too_many_arguments, reason = "what a copy consists of")]
    fn make_copy(
        &self,
        inode: &Arc<Inode>,
        upper: &Upper,
        name: &OsStr,
        stat: &Stat,
        target: Option<&OsStr>,
        handle: Option<&OverlayHandle>,
        limit: Option<u64>,
        indexed: bool,
    ) -> Result<u64> {
        let work = upper.work.fd();
        let made = At::Name(work, name);
        let mut file: Option<OwnedFd> = None;
        match stat.mode & libc::S_IFMT {
            libc::S_IFREG => {
                let fd = sys::create_file(work, name, 0o600)?;
                let source = self.open_data(inode, Access::Read)?;
                copy_data(source.as_fd(), fd.as_fd(), stat.size, limit, &self.tried.reflink)?;
                file = Some(fd);
            }
            libc::S_IFLNK => sys::symlink(target.ok_or(Error::Invalid)?, work, name)?,
            _ if self.override_stat => make_on_disk(work, name, stat).map(drop)?,
            kind => sys::mknod(work, name, kind | 0o600, stat.rdev_major, stat.rdev_minor)?,
        }
        if inode.kind == libc::S_IFCHR && stat.is_file() {
            xattr::set(made, self.markers.name(Marker::Nested), b"y", 0)?;
        }
        if indexed {
            xattr::set(made, self.markers.name(Marker::Nlink), &NlinkDelta::Lower(0).encode(), 0)?;
        }
        // With its length set, it was changed when it appears.
        let mtime = if limit.is_some() { SetTime::Now } else { SetTime::At(stat.mtime) };
        self.at(inode, |at| self.copy_attributes(at, stat, made, handle.map(|h| (h, stat)), mtime))?;
        if let Some(fd) = file.as_ref().filter(|_| !self.volatile) {
            sys::fsync(fd.as_fd())?;
        }
        Ok(sys::stat(made)?.ino)
    }

    /// Records which lower object a copy was made of. Symbolic links and special files have no `user.*` attributes, and
    /// then no origin.
    fn set_origin(&self, to: At<'_>, handle: &OverlayHandle, lower: &Stat) -> Result<()> {
        let set = |marker, value: &[u8]| match xattr::set(to, self.markers.name(marker), value, 0) {
            Err(e) if e.is(Errno::OPNOTSUPP) || e.is(Errno::PERM) => Ok(()),
            done => done,
        };
        set(Marker::Origin, handle.as_bytes())?;
        if self.markers == Namespace::User {
            set(Marker::Number, &Number { ino: lower.ino, nlink: lower.nlink }.encode())?;
        }
        Ok(())
    }

    /// Gives a copy the owner, attributes, mode and times of its source, in the order in which one does not undo another.
    pub(super) fn copy_attributes(
        &self,
        from: At<'_>,
        stat: &Stat,
        to: At<'_>,
        origin: Option<(&OverlayHandle, &Stat)>,
        mtime: SetTime,
    ) -> Result<()> {
        if !self.override_stat {
            sys::chown(to, Some(stat.uid), Some(stat.gid))?;
        }
        self.copy_xattrs(from, to)?;
        if let Some((handle, lower)) = origin {
            self.set_origin(to, handle, lower)?;
        }
        // After the attributes: `user.*` ones need write permission, and an access ACL can take set-group-id away.
        if self.override_stat {
            self.give(to, &sys::stat(to)?, stat)?;
        } else if !stat.is_symlink() {
            sys::chmod(to, stat.mode & 0o7777)?;
        }
        Ok(sys::set_times(to, SetTime::At(stat.atime), mtime)?)
    }

    fn copy_xattrs(&self, from: At<'_>, to: At<'_>) -> Result<()> {
        let list = xattr::list(from)?;
        for name in list.split(|&b| b == 0).filter(|n| !n.is_empty() && !is_internal(n)) {
            let name = CString::new(name).map_err(|_| Error::Invalid)?;
            let Some(stored) = self.copied_as(&name, &list) else { continue };
            let Some(value) = xattr::get(from, &name)? else { continue };
            match xattr::set(to, &stored, &value, 0) {
                Ok(()) => {}
                // Labels are the security module's business on the new file, and what upper's file system cannot hold
                // and is not about access is left behind, as kernel overlayfs does.
                Err(e) if e.is(Errno::OPNOTSUPP) && !must_copy(name.to_bytes()) => {
                    log::debug!("upper cannot hold the attribute {}", name.to_string_lossy());
                }
                Err(_) if name.to_bytes() == b"security.selinux" => {}
                // What this process may not give to a file (capabilities, without privilege) the copy does not have.
                Err(e) if name.to_bytes().starts_with(b"security.") && may_not_set(e.errno) => {
                    log::debug!("may not copy the attribute {}", name.to_string_lossy());
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    pub(super) fn has_default_acl(&self, at: At<'_>) -> Result<bool> {
        Ok(self.get_acl(at, DEFAULT)?.is_some())
    }
}

fn read_target(at: At<'_>) -> Result<OsString> {
    use std::os::unix::ffi::OsStringExt;
    let bytes = match at {
        At::Fd(fd) => sys::readlink_fd(fd)?,
        At::Name(dir, name) => sys::readlink(dir, name)?,
    };
    Ok(OsString::from_vec(bytes))
}

/// Writes all of `data`; a device that takes nothing more is full.
pub(super) fn write_all(fd: BorrowedFd<'_>, mut data: &[u8], mut at: u64) -> Result<()> {
    while !data.is_empty() {
        match sys::pwrite(fd, data, at)? {
            0 => return Err(sys::Error { call: "pwrite", errno: Errno::NOSPC }.into()),
            n => {
                data = &data[n..];
                at += n as u64;
            }
        }
    }
    Ok(())
}

/// Puts a directory's times back after an entry came to it. Best effort: the entry is there already.
pub(super) fn restore_times(at: At<'_>, before: &Stat) {
    if let Err(e) = sys::set_times(at, SetTime::At(before.atime), SetTime::At(before.mtime)) {
        log::warn!("times of a parent directory could not be kept: {e}");
    }
}

/// Refusals of an attribute that a more privileged process could set; in a user namespace also what cannot be expressed there.
fn may_not_set(errno: Errno) -> bool {
    [Errno::PERM, Errno::OVERFLOW, Errno::INVAL].contains(&errno)
}

fn must_copy(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_") || name.starts_with(b"security.")
}

/// Copies `size` bytes of data, keeping holes; with `limit` only as much, and the result is that long.
pub(super) fn copy_data(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    size: u64,
    limit: Option<u64>,
    reflink: &Tries,
) -> Result<()> {
    let end = limit.map_or(size, |l| l.min(size));
    if end == size && size > 0 {
        let cloned = sys::clone_file(from, to).is_ok();
        reflink.note(cloned);
        if cloned {
            return match limit.filter(|&l| l != size) {
                Some(l) => Ok(sys::truncate(to, l)?),
                None => Ok(()),
            };
        }
    }
    let mut at = 0;
    while at < end {
        let start = match sys::seek_data(from, at) {
            Ok(Some(start)) => start,
            Ok(None) => break,
            Err(e) if e.is(Errno::INVAL) || e.is(Errno::OPNOTSUPP) => at,
            Err(e) => return Err(e.into()),
        };
        let stop = if start >= end { break } else { sys::seek_hole(from, start).unwrap_or(end).min(end) };
        let stop = if stop > start { stop } else { end };
        copy_extent(from, to, start, stop)?;
        at = stop;
    }
    // Also the hole at the end; harmless when the data reached there.
    Ok(sys::truncate(to, limit.unwrap_or(size))?)
}

fn copy_extent(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, stop: u64) -> Result<()> {
    let mut at = start;
    while at < stop {
        let len = usize::try_from(stop - at).unwrap_or(usize::MAX).min(1 << 30);
        match sys::copy_range(from, at, to, at, len) {
            Ok(0) => break,
            Ok(n) => at += n as u64,
            Err(e) if [Errno::XDEV, Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS].contains(&e.errno) => break,
            Err(e) => return Err(e.into()),
        }
    }
    let mut buffer = Vec::new();
    while at < stop {
        buffer.resize(CHUNK, 0);
        let want = usize::try_from(stop - at).unwrap_or(CHUNK).min(CHUNK);
        let got = sys::pread(from, &mut buffer[..want], at)?;
        if got == 0 {
            // Shorter than it said: a lower layer was changed under us. A copy with a wrong end must not be made.
            return Err(sys::Error { call: "pread", errno: Errno::IO }.into());
        }
        write_all(to, &buffer[..got], at)?;
        at += got as u64;
    }
    Ok(())
}
