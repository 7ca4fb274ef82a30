//! Attributes of a file.

use super::{At, Result, reading};
use rustix::fs::{AtFlags, Statx, StatxFlags, StatxTimestamp, makedev, statx};

/// A point in time: seconds since 1970 (negative before) and the nanoseconds to add, 0 to 999,999,999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub sec: i64,
    /// Nanoseconds after `sec`.
    pub nsec: u32,
}

/// Attributes of a file as `statx` gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Device that holds the file, in the encoding of `makedev`.
    pub dev: u64,
    /// Inode number on that device.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Major number of the device that the file is, when it is one.
    pub rdev_major: u32,
    /// Minor number of the device that the file is, when it is one.
    pub rdev_minor: u32,
    /// Length in bytes.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of input and output, in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change of contents or attributes.
    pub ctime: Time,
}

impl Stat {
    /// The type bits of the mode (`S_IFREG`, `S_IFDIR`, ...).
    #[inline]
    pub fn file_type(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether this is a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.file_type() == libc::S_IFDIR
    }

    /// Whether this is a regular file.
    #[inline]
    pub fn is_file(&self) -> bool {
        self.file_type() == libc::S_IFREG
    }

    /// Whether this is a symbolic link.
    #[inline]
    pub fn is_symlink(&self) -> bool {
        self.file_type() == libc::S_IFLNK
    }

    /// Whether this is the character device 0:0, which in a layer means that the name is deleted.
    #[inline]
    pub fn is_whiteout_dev(&self) -> bool {
        self.file_type() == libc::S_IFCHR && self.rdev_major == 0 && self.rdev_minor == 0
    }
}

impl From<StatxTimestamp> for Time {
    fn from(t: StatxTimestamp) -> Self {
        Time { sec: t.tv_sec, nsec: t.tv_nsec }
    }
}

impl From<Statx> for Stat {
    fn from(x: Statx) -> Self {
        Stat {
            dev: makedev(x.stx_dev_major, x.stx_dev_minor),
            ino: x.stx_ino,
            mode: u32::from(x.stx_mode),
            nlink: x.stx_nlink,
            uid: x.stx_uid,
            gid: x.stx_gid,
            rdev_major: x.stx_rdev_major,
            rdev_minor: x.stx_rdev_minor,
            size: x.stx_size,
            blocks: x.stx_blocks,
            blksize: x.stx_blksize,
            atime: x.stx_atime.into(),
            mtime: x.stx_mtime.into(),
            ctime: x.stx_ctime.into(),
        }
    }
}

/// The attributes of `at`; no symbolic link is followed and no automount triggered.
pub fn stat(at: At<'_>) -> Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    reading("statx", || match at {
        At::Fd(fd) => statx(fd, c"", flags | AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS),
        At::Name(dir, name) => statx(dir, name, flags, StatxFlags::BASIC_STATS),
    })
    .map(Stat::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::{Errno, mknod, open_path, open_root, symlink};
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn agrees_with_std() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("f"), b"hello").unwrap();
        let root = open_root(tmp.path()).unwrap();
        let st = stat(At::Name(root.as_fd(), OsStr::new("f"))).unwrap();
        let meta = std::fs::metadata(tmp.path().join("f")).unwrap();
        assert_eq!((st.dev, st.ino, st.mode), (meta.dev(), meta.ino(), meta.mode()));
        assert_eq!((st.size, st.blocks, u64::from(st.nlink)), (5, meta.blocks(), meta.nlink()));
        assert_eq!((st.mtime.sec, i64::from(st.mtime.nsec)), (meta.mtime(), meta.mtime_nsec()));
        assert!(st.is_file() && !st.is_dir() && !st.is_whiteout_dev());
    }

    #[test]
    fn symlinks_are_not_followed() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let name = OsStr::new("l");
        symlink(OsStr::new("/"), root.as_fd(), name).unwrap();
        assert!(stat(At::Name(root.as_fd(), name)).unwrap().is_symlink());
        let fd = open_path(root.as_fd(), name).unwrap();
        assert!(stat(At::Fd(fd.as_fd())).unwrap().is_symlink());
        assert!(stat(At::Fd(root.as_fd())).unwrap().is_dir());
        assert!(stat(At::Name(root.as_fd(), OsStr::new("no"))).unwrap_err().is(Errno::NOENT));
    }

    #[test]
    fn whiteout_device_is_recognised() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let name = OsStr::new("w");
        mknod(root.as_fd(), name, libc::S_IFCHR, 0, 0).unwrap();
        assert!(stat(At::Name(root.as_fd(), name)).unwrap().is_whiteout_dev());
    }
}
