//! File data, by inode number: there are no handles of open files, so a reader always sees the file's present data,
//! also when it was copied up after it was opened.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::error::{Error, Result};
use super::fdcache::Key;
use super::inode::{Ino, Inode};
use super::sync::mark_unsynced;
use super::{Overlay, copy_up};
use crate::layer::xattr::{Marker, Namespace};
use crate::sys::{self, Access, At, Errno, SetTime, xattr};

impl Overlay {
    /// The file's data for reading, wherever it is.
    fn data(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        let (in_upper, elsewhere) = {
            let state = inode.state.lock();
            (state.upper.is_some(), state.extra.as_ref().is_some_and(|e| e.data.is_some()))
        };
        let key = if in_upper && !elsewhere {
            if let Some(fd) = self.fds.get(Key::UpperData(inode.ino)) {
                return Ok(fd);
            }
            Key::UpperRead(inode.ino)
        } else {
            Key::LowerData(inode.ino)
        };
        if let Some(fd) = self.fds.get(key) {
            return Ok(fd);
        }
        let fd = self.open_data(inode, Access::Read)?;
        Ok(self.fds.insert(key, fd))
    }

    /// The file's data for reading and writing; copied up when it is not in upper.
    pub(super) fn data_for_writing(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        let key = Key::UpperData(inode.ino);
        if let Some(fd) = self.fds.get(key) {
            return Ok(fd);
        }
        if inode.is_dir() {
            return Err(Error::IsDirectory);
        }
        self.copy_up(inode)?;
        let fd = self.open_data(inode, Access::ReadWrite)?;
        self.complete(inode, &fd)?;
        Ok(self.fds.insert(key, fd))
    }

    /// Brings an object to upper with its data, so that it can have other names there: a file that holds metadata only
    /// finds its data by its name.
    pub(super) fn copy_up_whole(&self, inode: &Arc<Inode>) -> Result<()> {
        self.copy_up(inode)?;
        if inode.state.lock().extra.as_ref().is_some_and(|e| e.data.is_some()) {
            self.data_for_writing(inode)?;
        }
        Ok(())
    }

    /// Gives a file of upper that holds metadata only its data, before anything else is written to it.
    fn complete(&self, inode: &Arc<Inode>, fd: &OwnedFd) -> Result<()> {
        let metadata_only = || inode.state.lock().extra.as_ref().is_some_and(|e| e.data.is_some());
        if !metadata_only() {
            return Ok(());
        }
        let _copying = inode.copy_up.lock();
        if !metadata_only() {
            return Ok(());
        }
        let stat = sys::stat(At::Fd(fd.as_fd()))?;
        let source = self.open_data(inode, Access::Read)?;
        let copied = copy_up::copy_data(source.as_fd(), fd.as_fd(), stat.size, None, &self.tried.reflink);
        let kept = sys::set_times(At::Fd(fd.as_fd()), SetTime::Omit, SetTime::At(stat.mtime));
        copied?;
        kept?;
        if !self.volatile {
            sys::fsync(fd.as_fd())?;
        }
        for namespace in [Namespace::Trusted, Namespace::User] {
            match xattr::remove(At::Fd(fd.as_fd()), namespace.name(Marker::Metacopy)) {
                Err(e) if e.is(Errno::NODATA) || (e.is(Errno::PERM) && namespace != self.markers) => {}
                other => other?,
            }
        }
        inode.state.lock().extra_mut_if(|e| e.data = None);
        self.fds.remove(Key::LowerData(inode.ino));
        Ok(())
    }

    /// A descriptor of the file that holds the object's data from now on, and may be read and, if it was asked for
    /// `ReadWrite`, written without this union. None while that can change: for what is in a lower layer and could be copied up.
    ///
    /// The descriptor itself may be for reading only. Asking for `ReadWrite` brings the file to upper.
    pub fn backing(&self, ino: Ino, access: Access) -> Result<Option<Arc<OwnedFd>>> {
        let inode = self.inode(ino)?;
        if inode.kind != libc::S_IFREG {
            return Ok(None);
        }
        if access == Access::ReadWrite {
            self.writable()?;
            self.copy_up_whole(&inode)?;
        }
        let settled = self.read_only() || {
            let state = inode.state.lock();
            state.upper.is_some() && state.extra.as_ref().is_none_or(|e| e.data.is_none())
        };
        if !settled {
            return Ok(None);
        }
        match self.fds.get(Key::UpperData(inode.ino)) {
            Some(fd) => Ok(Some(fd)),
            None => Ok(Some(Arc::new(self.open_data(&inode, Access::Read)?))),
        }
    }

    /// Notes that the caller keeps pages of the file, which it may change through a map and write later.
    pub fn note_pages(&self, ino: Ino) {
        if let Ok(inode) = self.inode(ino) {
            inode.pages.note();
        }
    }

    /// Whether the caller may keep pages of the file that it read, or wrote from a map.
    ///
    /// Pages that were filled by writing alone count only once [`Overlay::without_pages`] was called: this is for what would be
    /// costly after every file that is made.
    pub fn may_have_pages(&self, ino: Ino) -> bool {
        self.inode(ino).is_ok_and(|inode| inode.pages.may_be_there())
    }

    /// Has the caller drop all its pages of the file by `invalidate`. If that succeeds [`Overlay::may_have_pages`] is false from
    /// then on, unless some have come since it began. One thread alone may do this.
    pub fn without_pages<E>(
        &self,
        ino: Ino,
        invalidate: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let Ok(inode) = self.inode(ino) else { return invalidate() };
        inode.pages.begin_to_go();
        invalidate()?;
        inode.pages.went();
        Ok(())
    }

    /// Reads at `offset`; returns less than asked for only at the end of the file.
    pub fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let inode = self.inode(ino)?;
        inode.pages.note();
        let fd = self.data(&inode)?;
        // Where it is not known, only an empty read tells that this is the end: an error comes after what was before it.
        let end = if inode.in_upper() { u64::MAX } else { inode.original.size };
        let mut done = 0;
        while done < buffer.len() {
            match sys::pread(fd.as_fd(), &mut buffer[done..], offset + done as u64)? {
                0 => break,
                n => done += n,
            }
            if offset + done as u64 == end {
                break;
            }
        }
        Ok(done)
    }

    /// Writes all of `data` at `offset`. For an ordinary user [`Overlay::drop_set_id`] comes first.
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        self.writable()?;
        let inode = self.inode(ino)?;
        inode.pages.note_written();
        let fd = self.data_for_writing(&inode)?;
        copy_up::write_all(fd.as_fd(), data, offset)?;
        self.keep_time(&inode, fd.as_fd())
    }

    /// fallocate(2); for an ordinary user [`Overlay::drop_set_id`] comes first.
    pub fn fallocate(&self, ino: Ino, mode: i32, offset: u64, length: u64) -> Result<()> {
        self.writable()?;
        let inode = self.inode(ino)?;
        let fd = self.data_for_writing(&inode)?;
        sys::fallocate(fd.as_fd(), mode, offset, length)?;
        self.keep_time(&inode, fd.as_fd())
    }

    /// lseek(2) with `SEEK_DATA` or `SEEK_HOLE`.
    pub fn seek(&self, ino: Ino, offset: i64, whence: i32) -> Result<u64> {
        let fd = self.data(&self.inode(ino)?)?;
        Ok(sys::seek(fd.as_fd(), offset, whence)?)
    }

    /// The same where pages that the caller has not written yet make no difference: they can fill a hole, and make none. So
    /// data at the offset is there, and what has no hole up to its end below has none. `None` where they could.
    pub fn seek_despite_pages(&self, ino: Ino, offset: i64, whence: i32) -> Result<Option<u64>> {
        let fd = self.data(&self.inode(ino)?)?;
        let at = sys::seek(fd.as_fd(), offset, whence)?;
        let settled = match whence {
            libc::SEEK_DATA => u64::try_from(offset) == Ok(at),
            libc::SEEK_HOLE => sys::stat(At::Fd(fd.as_fd()))?.size == at,
            _ => false,
        };
        Ok(Some(at).filter(|_| settled))
    }

    /// copy_file_range(2) inside the mount; may copy less than asked for. For an ordinary user
    /// [`Overlay::drop_set_id`] comes first.
    pub fn copy_range(&self, (from, from_offset): (Ino, u64), (to, to_offset): (Ino, u64), length: u64) -> Result<u64> {
        self.writable()?;
        let target = self.inode(to)?;
        let to = self.data_for_writing(&target)?;
        let from = self.data(&self.inode(from)?)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
        let copied = sys::copy_range(from.as_fd(), from_offset, to.as_fd(), to_offset, length)?;
        self.keep_time(&target, to.as_fd())?;
        Ok(copied as u64)
    }

    /// Target of a symbolic link.
    pub fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        if inode.kind != libc::S_IFLNK {
            return Err(Error::Invalid);
        }
        self.at(&inode, |at| {
            Ok(match at {
                At::Fd(fd) => sys::readlink_fd(fd)?,
                At::Name(dir, name) => sys::readlink(dir, name)?,
            })
        })
    }

    /// Inode flags (`FS_IOC_GETFLAGS`, see ioctl_iflags(2)).
    pub fn get_flags(&self, ino: Ino) -> Result<u32> {
        let inode = self.inode(ino)?;
        let fd = if inode.is_dir() { self.top_dir(&inode)? } else { self.data(&inode)? };
        Ok(sys::get_flags(fd.as_fd())?)
    }

    /// Sets inode flags (`FS_IOC_SETFLAGS`). Immutable and append-only files could not be copied or removed any more by
    /// the union itself, so these two are refused.
    pub fn set_flags(&self, ino: Ino, flags: u32) -> Result<()> {
        const FS_IMMUTABLE_FL: u32 = 0x10;
        const FS_APPEND_FL: u32 = 0x20;
        let inode = self.inode(ino)?;
        self.writable()?;
        if flags & (FS_IMMUTABLE_FL | FS_APPEND_FL) != 0 {
            return Err(crate::sys::Error { call: "FS_IOC_SETFLAGS", errno: Errno::OPNOTSUPP }.into());
        }
        let fd = if inode.is_dir() {
            self.copy_up_dir(&inode)?;
            self.upper_dir(&inode)?
        } else {
            self.data_for_writing(&inode)?
        };
        mark_unsynced(&inode);
        Ok(sys::set_flags(fd.as_fd(), flags)?)
    }
}
