//! File handles, which name a file of a file system across renames and remounts.
#![allow(unsafe_code)]

use super::raw::{check, errno};
use super::{At, Errno, Fd, Result, reading};
use std::ffi::CStr;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Longest handle of any file system (`MAX_HANDLE_SZ`), in bytes.
const MAX: usize = 128;

/// `FS_IOC_GETFSUUID`: `_IOR(0x15, 0, struct fsuuid2)`, of 17 bytes.
const FS_IOC_GETFSUUID: libc::c_ulong = (2 << 30) | (17 << 16) | (0x15 << 8);

/// What a file system calls one of its files, opaque to everybody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileHandle {
    /// Type of the handle, which tells the file system how to read the bytes.
    pub kind: i32,
    /// The handle.
    pub bytes: Vec<u8>,
}

/// `struct file_handle` with room for the longest.
#[repr(C)]
struct Raw {
    len: u32,
    kind: i32,
    bytes: [u8; MAX],
}

const _: () = assert!(offset_of!(Raw, bytes) == 8);

/// The handle of a file: at most 128 bytes, of a type from 0 to 254.
///
/// `EOPNOTSUPP` where the file system has none that could be opened again, `EOVERFLOW` where it gave none.
pub fn handle(at: At<'_>) -> Result<FileHandle> {
    reading("name_to_handle_at", || match at {
        At::Fd(fd) => name_to_handle(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH),
        At::Name(dir, name) => {
            rustix::path::Arg::into_with_c_str(name, |name| name_to_handle(dir.as_raw_fd(), name, 0))
        }
    })
}

fn name_to_handle(fd: RawFd, name: &CStr, flags: i32) -> rustix::io::Result<FileHandle> {
    let mut raw = Raw { len: MAX as u32, kind: 0, bytes: [0; MAX] };
    let mut mount_id = 0;
    // SAFETY: the name is a C string, `raw` has the layout of `struct file_handle` followed by as many
    // bytes as `len` says, and `mount_id` is an int.
    let ret = unsafe { libc::name_to_handle_at(fd, name.as_ptr(), (&raw mut raw).cast(), &raw mut mount_id, flags) };
    check(ret.into())?;
    if !(0..0xff).contains(&raw.kind) {
        return Err(Errno::OVERFLOW);
    }
    let bytes = raw.bytes.get(..raw.len as usize).ok_or(Errno::OVERFLOW)?;
    Ok(FileHandle { kind: raw.kind, bytes: bytes.to_vec() })
}

/// An `O_PATH` descriptor of the file that `handle` names on the file system of `mount`.
///
/// `mount` must not be an `O_PATH` descriptor (`EBADF`). `ESTALE` when the file is gone; `EPERM` without
/// `CAP_DAC_READ_SEARCH`.
pub fn open_handle(mount: Fd<'_>, handle: &FileHandle) -> Result<OwnedFd> {
    reading("open_by_handle_at", || {
        let mut raw = Raw { len: 0, kind: handle.kind, bytes: [0; MAX] };
        let room = raw.bytes.get_mut(..handle.bytes.len()).ok_or(Errno::INVAL)?;
        room.copy_from_slice(&handle.bytes);
        raw.len = handle.bytes.len() as u32;
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        // SAFETY: `raw` has the layout of `struct file_handle` followed by as many bytes as `len` says.
        let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut raw).cast(), flags) };
        if fd < 0 {
            return Err(errno());
        }
        // SAFETY: the call has just returned this descriptor and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    })
}

/// The UUID of the file system that holds `fd` (not an `O_PATH` one); `None` when it has none that it tells.
///
/// The ioctl came with Linux 6.9.
pub fn fs_uuid(fd: Fd<'_>) -> Result<Option<[u8; 16]>> {
    reading("FS_IOC_GETFSUUID", || {
        let mut raw = [0u8; 17];
        // SAFETY: the kernel writes at most the 17 bytes of `struct fsuuid2`.
        let ret = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GETFSUUID as _, raw.as_mut_ptr()) };
        match check(ret.into()) {
            Ok(_) => {}
            Err(Errno::NOTTY | Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(e) => return Err(e),
        }
        let [len, uuid @ ..] = raw;
        Ok((len == 16).then_some(uuid))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{mknod, open_root, rename, stat, symlink, unlink};
    use super::*;
    use rustix::fs::RenameFlags;
    use std::ffi::OsStr;
    use std::os::fd::AsFd;

    #[test]
    fn a_handle_survives_a_rename() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let dir = root.as_fd();
        let (f, g, l) = (OsStr::new("f"), OsStr::new("g"), OsStr::new("l"));
        mknod(dir, f, 0o600, 0, 0).unwrap();
        symlink(f, dir, l).unwrap();
        let h = handle(At::Name(dir, f)).unwrap();
        assert_ne!(h, handle(At::Name(dir, l)).unwrap());
        let ino = stat(At::Name(dir, f)).unwrap().ino;
        rename(dir, f, dir, g, RenameFlags::empty()).unwrap();
        assert_eq!(handle(At::Name(dir, g)).unwrap(), h);
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let fd = open_handle(dir, &h).unwrap();
        assert_eq!(stat(At::Fd(fd.as_fd())).unwrap().ino, ino);
        assert_eq!(handle(At::Fd(fd.as_fd())).unwrap(), h);
        drop(fd);
        unlink(dir, g).unwrap();
        assert!(open_handle(dir, &h).unwrap_err().is(Errno::STALE));
        let absurd = FileHandle { kind: 1, bytes: vec![0; 200] };
        assert!(open_handle(dir, &absurd).unwrap_err().is(Errno::INVAL));
    }

    #[test]
    fn uuid_or_none() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        // Which of the two depends on the file system; it must not change from call to call.
        assert_eq!(fs_uuid(root.as_fd()).unwrap(), fs_uuid(root.as_fd()).unwrap());
        let proc = open_root("/proc".as_ref()).unwrap();
        assert_eq!(fs_uuid(proc.as_fd()).unwrap(), None);
    }
}
