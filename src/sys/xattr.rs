//! Extended attributes, by descriptor or by (directory, name), never following a symbolic link.
//!
//! By name the `*xattrat` calls of Linux 6.13 are used, and a path below `/proc/self/fd` on kernels that
//! lack them. By descriptor the plain calls are used; they refuse `O_PATH` descriptors (`EBADF`), which
//! then go by way of `/proc/self/fd` too.
#![allow(unsafe_code)]

use super::raw::{ProcPath, SYS_GETXATTRAT, SYS_LISTXATTRAT, SYS_REMOVEXATTRAT, SYS_SETXATTRAT, XATTRAT, check, errno};
use super::{At, Errno, Fd, Result, mutating, reading};
use libc::{c_char, c_void};
use rustix::fs::XattrFlags;
use rustix::path::Arg;
use std::ffi::{CStr, OsStr};
use std::os::fd::AsRawFd;

/// A value or list that is longer than this costs a second look.
const FIRST_TRY: usize = 256;

/// `struct xattr_args` of `getxattrat` and `setxattrat`.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// The value of `name`, or `None` when the object has no such attribute (`ENODATA`).
pub fn get(at: At<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    absent_is_none(name, reading("getxattr", || grow(|buf| get_raw(at, name, buf))))
}

/// Reads the value of `name` into `buf` and returns its length, or `None` when there is none.
///
/// `ERANGE` when it is longer than `buf`; an empty `buf` only asks for the length.
pub fn get_into(at: At<'_>, name: &CStr, buf: &mut [u8]) -> Result<Option<usize>> {
    absent_is_none(name, reading("getxattr", || get_raw(at, name, buf)))
}

/// Sets `name`; `flags` is 0, `XATTR_CREATE` (`EEXIST`) or `XATTR_REPLACE` (`ENODATA`).
pub fn set(at: At<'_>, name: &CStr, value: &[u8], flags: i32) -> Result<()> {
    let plain = XattrFlags::from_bits_retain(flags.cast_unsigned());
    mutating("setxattr", || match at {
        At::Fd(fd) => by_fd(
            || rustix::fs::fsetxattr(fd, name, value, plain),
            |path| rustix::fs::setxattr(path, name, value, plain),
            fd,
        ),
        At::Name(dir, entry) if XATTRAT.available() => setxattrat(dir, entry, name, value, flags),
        At::Name(dir, entry) => rustix::fs::lsetxattr(ProcPath::of_name(dir, entry)?.as_c_str(), name, value, plain),
    })
}

/// Removes `name`; `ENODATA` when there is none.
pub fn remove(at: At<'_>, name: &CStr) -> Result<()> {
    mutating("removexattr", || match at {
        At::Fd(fd) => by_fd(|| rustix::fs::fremovexattr(fd, name), |path| rustix::fs::removexattr(path, name), fd),
        At::Name(dir, entry) if XATTRAT.available() => removexattrat(dir, entry, name),
        At::Name(dir, entry) => rustix::fs::lremovexattr(ProcPath::of_name(dir, entry)?.as_c_str(), name),
    })
}

/// All names, each followed by a NUL; empty where the file system has no attributes (`EOPNOTSUPP`).
pub fn list(at: At<'_>) -> Result<Vec<u8>> {
    unsupported_is_empty(reading("listxattr", || grow(|buf| list_raw(at, buf))))
}

/// [`list`] into `buf`: the length of the list, or `ERANGE`. An empty `buf` only asks for the length.
pub fn list_into(at: At<'_>, buf: &mut [u8]) -> Result<usize> {
    unsupported_is_empty(reading("listxattr", || list_raw(at, buf)))
}

fn absent_is_none<T>(name: &CStr, result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(e) if e.is(Errno::NODATA) => Ok(None),
        // A file system without attributes has none; other names no file system knows (xattr(7)).
        Err(e) if e.is(Errno::OPNOTSUPP) && is_known_kind(name.to_bytes()) => Ok(None),
        other => other.map(Some),
    }
}

fn is_known_kind(name: &[u8]) -> bool {
    let kinds = [&b"user."[..], b"trusted.", b"security.", b"system.posix_acl_"];
    kinds.iter().any(|kind| name.starts_with(kind))
}

fn unsupported_is_empty<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(e) if e.is(Errno::OPNOTSUPP) => Ok(T::default()),
        other => other,
    }
}

/// Calls `fill` with a buffer on the stack, then with larger ones while it answers `ERANGE`.
fn grow(mut fill: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut first = [0; FIRST_TRY];
    match fill(&mut first) {
        Err(Errno::RANGE) => {}
        other => return other.map(|len| first[..len].to_vec()),
    }
    loop {
        let mut buf = vec![0; fill(&mut [])?];
        if buf.is_empty() {
            return Ok(buf);
        }
        match fill(&mut buf) {
            // It grew between the two looks.
            Err(Errno::RANGE) => {}
            Ok(len) => {
                buf.truncate(len);
                return Ok(buf);
            }
            Err(e) => return Err(e),
        }
    }
}

fn by_fd<T>(
    plain: impl FnOnce() -> rustix::io::Result<T>,
    by_path: impl FnOnce(&CStr) -> rustix::io::Result<T>,
    fd: Fd<'_>,
) -> rustix::io::Result<T> {
    match plain() {
        Err(Errno::BADF) => by_path(ProcPath::of(fd).as_c_str()),
        other => other,
    }
}

fn get_raw(at: At<'_>, name: &CStr, buf: &mut [u8]) -> rustix::io::Result<usize> {
    match at {
        At::Fd(fd) => match fgetxattr(fd, name, buf) {
            Err(Errno::BADF) => getxattr(&ProcPath::of(fd), name, buf, libc::getxattr),
            other => other,
        },
        At::Name(dir, entry) if XATTRAT.available() => getxattrat(dir, entry, name, buf),
        At::Name(dir, entry) => getxattr(&ProcPath::of_name(dir, entry)?, name, buf, libc::lgetxattr),
    }
}

fn list_raw(at: At<'_>, buf: &mut [u8]) -> rustix::io::Result<usize> {
    match at {
        At::Fd(fd) => match flistxattr(fd, buf) {
            Err(Errno::BADF) => listxattr(&ProcPath::of(fd), buf, libc::listxattr),
            other => other,
        },
        At::Name(dir, entry) if XATTRAT.available() => listxattrat(dir, entry, buf),
        At::Name(dir, entry) => listxattr(&ProcPath::of_name(dir, entry)?, buf, libc::llistxattr),
    }
}

// The four below are not those of rustix, which answers 0 for an empty buffer instead of the length.

fn fgetxattr(fd: Fd<'_>, name: &CStr, buf: &mut [u8]) -> rustix::io::Result<usize> {
    // SAFETY: the name is a C string and the buffer has the length that is announced.
    let ret = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    length(ret)
}

type GetXattr = unsafe extern "C" fn(*const c_char, *const c_char, *mut c_void, usize) -> isize;

fn getxattr(path: &ProcPath, name: &CStr, buf: &mut [u8], call: GetXattr) -> rustix::io::Result<usize> {
    let path = path.as_c_str().as_ptr();
    // SAFETY: path and name are C strings and the buffer has the length that is announced.
    length(unsafe { call(path, name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) })
}

fn flistxattr(fd: Fd<'_>, buf: &mut [u8]) -> rustix::io::Result<usize> {
    // SAFETY: the buffer has the length that is announced.
    length(unsafe { libc::flistxattr(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
}

type ListXattr = unsafe extern "C" fn(*const c_char, *mut c_char, usize) -> isize;

fn listxattr(path: &ProcPath, buf: &mut [u8], call: ListXattr) -> rustix::io::Result<usize> {
    // SAFETY: the path is a C string and the buffer has the length that is announced.
    length(unsafe { call(path.as_c_str().as_ptr(), buf.as_mut_ptr().cast(), buf.len()) })
}

fn length(ret: isize) -> rustix::io::Result<usize> {
    usize::try_from(ret).map_err(|_| errno())
}

fn getxattrat(dir: Fd<'_>, entry: &OsStr, name: &CStr, buf: &mut [u8]) -> rustix::io::Result<usize> {
    // No value is longer than 64 KiB, so that a shorter claim for an enormous buffer does no harm.
    let size = u32::try_from(buf.len()).unwrap_or(u32::MAX);
    let args = XattrArgs { value: buf.as_mut_ptr().expose_provenance() as u64, size, flags: 0 };
    let (dir, flags, args_size) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW, size_of::<XattrArgs>());
    Arg::into_with_c_str(entry, |entry| {
        let (entry, name) = (entry.as_ptr(), name.as_ptr());
        // SAFETY: the paths are C strings; `args` has the size that is announced and points to a buffer of
        // at least `size` bytes, which the kernel may write.
        check(unsafe { libc::syscall(SYS_GETXATTRAT, dir, entry, flags, name, &raw const args, args_size) })
    })
}

fn setxattrat(dir: Fd<'_>, entry: &OsStr, name: &CStr, value: &[u8], flags: i32) -> rustix::io::Result<()> {
    let size = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
    let args = XattrArgs { value: value.as_ptr().expose_provenance() as u64, size, flags: flags.cast_unsigned() };
    let (dir, flags, args_size) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW, size_of::<XattrArgs>());
    Arg::into_with_c_str(entry, |entry| {
        let (entry, name) = (entry.as_ptr(), name.as_ptr());
        // SAFETY: the paths are C strings; `args` has the size that is announced and points to a value of
        // `size` bytes, which the kernel reads.
        check(unsafe { libc::syscall(SYS_SETXATTRAT, dir, entry, flags, name, &raw const args, args_size) })
    })
    .map(drop)
}

fn removexattrat(dir: Fd<'_>, entry: &OsStr, name: &CStr) -> rustix::io::Result<()> {
    let (dir, flags) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
    Arg::into_with_c_str(entry, |entry| {
        // SAFETY: the paths are C strings.
        check(unsafe { libc::syscall(SYS_REMOVEXATTRAT, dir, entry.as_ptr(), flags, name.as_ptr()) })
    })
    .map(drop)
}

fn listxattrat(dir: Fd<'_>, entry: &OsStr, buf: &mut [u8]) -> rustix::io::Result<usize> {
    let (dir, flags) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
    Arg::into_with_c_str(entry, |entry| {
        let (entry, list, len) = (entry.as_ptr(), buf.as_mut_ptr(), buf.len());
        // SAFETY: the path is a C string and the buffer has the length that is announced.
        check(unsafe { libc::syscall(SYS_LISTXATTRAT, dir, entry, flags, list, len) })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::raw::on_an_old_kernel;
    use super::super::{create_file, open_path, open_root, symlink};
    use super::*;
    use std::os::fd::AsFd;

    fn round_trip(at: At<'_>, name: &CStr) {
        assert_eq!(get(at, name).unwrap(), None);
        set(at, name, b"short", libc::XATTR_CREATE).unwrap();
        assert!(set(at, name, b"", libc::XATTR_CREATE).unwrap_err().is(Errno::EXIST));
        assert_eq!(get(at, name).unwrap().unwrap(), b"short");
        assert_eq!(get_into(at, name, &mut []).unwrap(), Some(5));
        assert!(get_into(at, name, &mut [0; 4]).unwrap_err().is(Errno::RANGE));
        let mut buf = [0; 8];
        assert_eq!(get_into(at, name, &mut buf).unwrap(), Some(5));
        assert_eq!(&buf, b"short\0\0\0");
        let long = vec![7; 600];
        set(at, name, &long, libc::XATTR_REPLACE).unwrap();
        assert_eq!(get(at, name).unwrap().unwrap(), long);
        set(at, name, b"", 0).unwrap();
        assert_eq!(get(at, name).unwrap().unwrap(), b"");
        let listed = list(at).unwrap();
        assert!(listed.split_inclusive(|b| *b == 0).any(|n| n == name.to_bytes_with_nul()));
        remove(at, name).unwrap();
        assert!(remove(at, name).unwrap_err().is(Errno::NODATA));
        assert_eq!(list_into(at, &mut []).unwrap(), 0);
    }

    fn everywhere() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let (dir, f, l) = (root.as_fd(), OsStr::new("f"), OsStr::new("l"));
        let file = create_file(dir, f, 0o600).unwrap();
        symlink(f, dir, l).unwrap();
        let path = open_path(dir, f).unwrap();
        let link = open_path(dir, l).unwrap();
        for at in [At::Name(dir, f), At::Fd(file.as_fd()), At::Fd(path.as_fd()), At::Fd(dir)] {
            round_trip(at, c"user.test");
        }
        // A link must not be followed: it has no user attributes, its target has.
        for at in [At::Name(dir, l), At::Fd(link.as_fd())] {
            assert!(set(at, c"user.test", b"", 0).unwrap_err().is(Errno::PERM));
            assert_eq!(list(At::Name(dir, f)).unwrap(), b"");
            if rustix::process::geteuid().is_root() {
                round_trip(at, c"trusted.test");
            }
        }
        assert!(get(At::Name(dir, OsStr::new("no")), c"user.test").unwrap_err().is(Errno::NOENT));
    }

    #[test]
    fn by_name_and_by_descriptor() {
        everywhere();
    }

    #[test]
    fn by_name_without_xattrat() {
        on_an_old_kernel(everywhere);
    }

    #[test]
    fn many_names() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let at = At::Fd(root.as_fd());
        for i in 0..12 {
            let name = std::ffi::CString::new(format!("user.a_rather_long_name_{i}")).unwrap();
            set(at, &name, b"", 0).unwrap();
        }
        assert_eq!(list(at).unwrap().split_inclusive(|b| *b == 0).count(), 12);
    }

    #[test]
    fn no_attributes_at_all() {
        let proc = open_root("/proc".as_ref()).unwrap();
        assert_eq!(list(At::Name(proc.as_fd(), OsStr::new("version"))).unwrap(), b"");
    }
}
