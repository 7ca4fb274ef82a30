//! Calls that change directories, attributes and files. All of them are mutating for the seam.
#![allow(unsafe_code)]

use super::raw::{FCHMODAT2, ProcPath, SYS_FCHMODAT2, check};
use super::stat::Time;
use super::{At, Errno, Fd, Result, mutating};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, IFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Flags of [`rename`]; `RenameFlags::empty()` replaces the target.
pub use rustix::fs::RenameFlags;

/// What [`set_times`] does with one of the two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it.
    Omit,
    /// The time of the kernel's clock.
    Now,
    /// A given time.
    At(Time),
}

/// Creates directory `name`; the mode is subject to the umask.
pub fn mkdir(dir: Fd<'_>, name: &OsStr, mode: u32) -> Result<()> {
    mutating("mkdirat", || rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)))
}

/// Creates a node of the type in `mode` (`S_IFCHR` and so on; none means a regular file).
pub fn mknod(dir: Fd<'_>, name: &OsStr, mode: u32, major: u32, minor: u32) -> Result<()> {
    let kind = match mode & libc::S_IFMT {
        0 => FileType::RegularFile,
        _ => FileType::from_raw_mode(mode),
    };
    let dev = rustix::fs::makedev(major, minor);
    // A whiteout has a name of its own: it is what can be refused where all else is allowed.
    let is_whiteout = kind == FileType::CharacterDevice && dev == 0;
    mutating(if is_whiteout { "mknodat 0:0" } else { "mknodat" }, || {
        rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode), dev)
    })
}

/// Creates the symbolic link `name` to `target`.
pub fn symlink(target: &OsStr, dir: Fd<'_>, name: &OsStr) -> Result<()> {
    mutating("symlinkat", || rustix::fs::symlinkat(target, dir, name))
}

/// Gives the file `old` of `old_dir` (a symbolic link is meant itself) the further name `new` in `new_dir`.
pub fn link(old_dir: Fd<'_>, old: &OsStr, new_dir: Fd<'_>, new: &OsStr) -> Result<()> {
    mutating("linkat", || rustix::fs::linkat(old_dir, old, new_dir, new, AtFlags::empty()))
}

/// Gives the file behind `fd` the further name `new`.
///
/// Without `CAP_DAC_READ_SEARCH` the kernel answers `ENOENT` to the direct way; then `/proc` is used.
pub fn link_fd(fd: Fd<'_>, new_dir: Fd<'_>, new: &OsStr) -> Result<()> {
    mutating("linkat", || match rustix::fs::linkat(fd, c"", new_dir, new, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT) => {
            let path = ProcPath::of(fd);
            rustix::fs::linkat(rustix::fs::CWD, path.as_c_str(), new_dir, new, AtFlags::SYMLINK_FOLLOW)
        }
        other => other,
    })
}

/// Removes the name of something that is not a directory.
pub fn unlink(dir: Fd<'_>, name: &OsStr) -> Result<()> {
    mutating("unlinkat", || rustix::fs::unlinkat(dir, name, AtFlags::empty()))
}

/// Removes an empty directory.
pub fn rmdir(dir: Fd<'_>, name: &OsStr) -> Result<()> {
    mutating("unlinkat", || rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR))
}

/// Renames; `EINVAL` where the file system does not know a flag.
///
/// Both descriptors must come from the same mount, else `EXDEV`, even on one file system.
pub fn rename(old_dir: Fd<'_>, old: &OsStr, new_dir: Fd<'_>, new: &OsStr, flags: RenameFlags) -> Result<()> {
    let call = if flags.contains(RenameFlags::WHITEOUT) { "renameat2 WHITEOUT" } else { "renameat2" };
    mutating(call, || rustix::fs::renameat_with(old_dir, old, new_dir, new, flags))
}

/// Sets owner and group, or only one; the kernel clears set-user-id bits and capabilities.
pub fn chown(at: At<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    // -1 means "leave", which is what an owner of that value must not turn into.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return mutating("fchownat", || Err(Errno::INVAL));
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    mutating("fchownat", || match at {
        At::Fd(fd) => rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
        At::Name(dir, name) => rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
    })
}

/// Sets the permission bits (07777); `EOPNOTSUPP` for a symbolic link, which has none.
pub fn chmod(at: At<'_>, mode: u32) -> Result<()> {
    let mode = mode & 0o7777;
    mutating("fchmodat2", || {
        if !FCHMODAT2.available() {
            return old_chmod(at, Mode::from_raw_mode(mode));
        }
        match at {
            At::Fd(fd) => fchmodat2(fd.as_raw_fd(), c"", mode, libc::AT_EMPTY_PATH),
            At::Name(dir, name) => rustix::path::Arg::into_with_c_str(name, |name| {
                fchmodat2(dir.as_raw_fd(), name, mode, libc::AT_SYMLINK_NOFOLLOW)
            }),
        }
    })
}

fn fchmodat2(fd: RawFd, name: &CStr, mode: u32, flags: i32) -> rustix::io::Result<()> {
    // SAFETY: the name is a C string; the other arguments are numbers.
    check(unsafe { libc::syscall(SYS_FCHMODAT2, fd, name.as_ptr(), mode, flags) }).map(drop)
}

/// [`chmod`] through `/proc`, for kernels before 6.6.
fn old_chmod(at: At<'_>, mode: Mode) -> rustix::io::Result<()> {
    match at {
        At::Fd(fd) => match rustix::fs::fchmod(fd, mode) {
            Err(Errno::BADF) => chmod_path_fd(fd, mode),
            other => other,
        },
        At::Name(dir, name) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
            chmod_path_fd(fd.as_fd(), mode)
        }
    }
}

fn chmod_path_fd(fd: Fd<'_>, mode: Mode) -> rustix::io::Result<()> {
    if rustix::fs::fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(Errno::OPNOTSUPP);
    }
    rustix::fs::chmod(ProcPath::of(fd).as_c_str(), mode)
}

fn timespec(time: SetTime) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        SetTime::Omit => (0, UTIME_OMIT),
        SetTime::Now => (0, UTIME_NOW),
        SetTime::At(Time { sec, nsec }) => (sec, nsec.into()),
    };
    Timespec { tv_sec, tv_nsec }
}

/// Sets the times of last access and last modification; a symbolic link is meant itself.
pub fn set_times(at: At<'_>, atime: SetTime, mtime: SetTime) -> Result<()> {
    let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
    mutating("utimensat", || match at {
        At::Fd(fd) => match rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH) {
            // Kernels before 5.8 do not know the flag.
            Err(Errno::INVAL) => {
                rustix::fs::utimensat(rustix::fs::CWD, ProcPath::of(fd).as_c_str(), &times, AtFlags::empty())
            }
            other => other,
        },
        At::Name(dir, name) => rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
    })
}

/// Sets the length of a file that is open for writing.
pub fn truncate(fd: Fd<'_>, len: u64) -> Result<()> {
    mutating("ftruncate", || rustix::fs::ftruncate(fd, len))
}

/// `fallocate` with the `FALLOC_FL_*` bits in `mode`.
pub fn fallocate(fd: Fd<'_>, mode: i32, off: u64, len: u64) -> Result<()> {
    let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
    mutating("fallocate", || rustix::fs::fallocate(fd, mode, off, len))
}

/// Makes data and attributes durable; for a directory, its entries.
pub fn fsync(fd: Fd<'_>) -> Result<()> {
    mutating("fsync", || rustix::fs::fsync(fd))
}

/// Makes data durable, and the attributes that are needed to read it.
pub fn fdatasync(fd: Fd<'_>) -> Result<()> {
    mutating("fdatasync", || rustix::fs::fdatasync(fd))
}

/// Makes everything durable on the file system that holds `fd`; reports earlier write errors as well.
pub fn syncfs(fd: Fd<'_>) -> Result<()> {
    mutating("syncfs", || rustix::fs::syncfs(fd))
}

/// Sets the inode flags (`FS_IMMUTABLE_FL` and so on); the reading twin is [`super::get_flags`].
pub fn set_flags(fd: Fd<'_>, flags: u32) -> Result<()> {
    mutating("FS_IOC_SETFLAGS", || rustix::fs::ioctl_setflags(fd, IFlags::from_bits_retain(flags)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::raw::on_an_old_kernel;
    use super::super::{create_file, open_path, open_root, stat};
    use super::*;
    use std::os::fd::OwnedFd;

    fn name(s: &str) -> &OsStr {
        OsStr::new(s)
    }

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        (tmp, root)
    }

    fn chmod_everywhere() {
        let (_tmp, root) = root();
        let dir = root.as_fd();
        let open = create_file(dir, name("f"), 0o600).unwrap();
        let path = open_path(dir, name("f")).unwrap();
        let mode = || stat(At::Name(dir, name("f"))).unwrap().mode & 0o7777;
        for (at, bits) in
            [(At::Name(dir, name("f")), 0o4755), (At::Fd(open.as_fd()), 0o640), (At::Fd(path.as_fd()), 0o1604)]
        {
            chmod(at, bits).unwrap();
            assert_eq!(mode(), bits);
        }
        symlink(name("f"), dir, name("l")).unwrap();
        assert!(chmod(At::Name(dir, name("l")), 0).unwrap_err().is(Errno::OPNOTSUPP));
        assert_eq!(mode(), 0o1604);
    }

    #[test]
    fn chmod_by_name_and_descriptor() {
        chmod_everywhere();
    }

    #[test]
    fn chmod_without_fchmodat2() {
        on_an_old_kernel(chmod_everywhere);
    }

    #[test]
    fn times_by_name_and_path_descriptor() {
        let (_tmp, root) = root();
        let dir = root.as_fd();
        symlink(name("nowhere"), dir, name("l")).unwrap();
        let at = At::Name(dir, name("l"));
        let before = Time { sec: -2, nsec: 999_999_999 };
        set_times(at, SetTime::Omit, SetTime::At(before)).unwrap();
        assert_eq!(stat(at).unwrap().mtime, before);
        let path = open_path(dir, name("l")).unwrap();
        let later = Time { sec: 1_700_000_000, nsec: 5 };
        set_times(At::Fd(path.as_fd()), SetTime::At(later), SetTime::Omit).unwrap();
        let st = stat(at).unwrap();
        assert_eq!((st.atime, st.mtime), (later, before));
        set_times(at, SetTime::Now, SetTime::Now).unwrap();
        assert!(stat(at).unwrap().mtime.sec > later.sec);
    }

    #[test]
    fn owner_minus_one_is_refused() {
        let (_tmp, root) = root();
        assert!(chown(At::Fd(root.as_fd()), Some(u32::MAX), None).unwrap_err().is(Errno::INVAL));
        chown(At::Fd(root.as_fd()), None, None).unwrap();
    }

    #[test]
    fn links_and_renames() {
        let (_tmp, root) = root();
        let dir = root.as_fd();
        drop(create_file(dir, name("f"), 0o600).unwrap());
        link(dir, name("f"), dir, name("g")).unwrap();
        let path = open_path(dir, name("f")).unwrap();
        link_fd(path.as_fd(), dir, name("h")).unwrap();
        assert_eq!(stat(At::Fd(path.as_fd())).unwrap().nlink, 3);
        mkdir(dir, name("d"), 0o755).unwrap();
        assert!(rename(dir, name("f"), dir, name("d"), RenameFlags::NOREPLACE).unwrap_err().is(Errno::EXIST));
        rename(dir, name("f"), dir, name("d"), RenameFlags::EXCHANGE).unwrap();
        assert!(stat(At::Name(dir, name("f"))).unwrap().is_dir());
        rename(dir, name("d"), dir, name("g2"), RenameFlags::empty()).unwrap();
        rmdir(dir, name("f")).unwrap();
        for gone in ["g", "h", "g2"] {
            unlink(dir, name(gone)).unwrap();
        }
        assert_eq!(stat(At::Fd(path.as_fd())).unwrap().nlink, 0);
    }
}
