//! Contents of files, targets of symbolic links, and the state of a file system.
#![allow(unsafe_code)]

use super::raw::errno;
use super::{Errno, Fd, Result, mutating, reading};
use rustix::fs::SeekFrom;
use std::ffi::OsStr;
use std::os::fd::AsRawFd;

/// State of a file system, sizes in units of `frsize` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for the unprivileged.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Preferred size of input and output in bytes.
    pub bsize: u32,
    /// Longest name in bytes.
    pub namelen: u32,
    /// Size of a block in bytes.
    pub frsize: u32,
    /// Magic number of the file system type.
    pub f_type: u64,
}

/// Reads at `off`; less than the buffer only at the end of the file.
pub fn pread(fd: Fd<'_>, buf: &mut [u8], off: u64) -> Result<usize> {
    reading("pread", || rustix::io::pread(fd, buf, off))
}

/// Writes at `off`. Less than the whole is written only when an error came after a part of it.
pub fn pwrite(fd: Fd<'_>, buf: &[u8], off: u64) -> Result<usize> {
    mutating("pwrite", || {
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pwrite(fd, &buf[done..], off + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    })
}

/// Copies up to `len` bytes inside the kernel; 0 at the end of `from`.
///
/// `EXDEV`, `EINVAL`, `EOPNOTSUPP` and `ENOSYS` mean that the bytes have to be read and written instead.
pub fn copy_range(from: Fd<'_>, mut from_off: u64, to: Fd<'_>, mut to_off: u64, len: usize) -> Result<usize> {
    mutating("copy_file_range", || rustix::fs::copy_file_range(from, Some(&mut from_off), to, Some(&mut to_off), len))
}

/// Lets `to` share all blocks of `from` (`FICLONE`); many errors mean "not on this file system".
pub fn clone_file(from: Fd<'_>, to: Fd<'_>) -> Result<()> {
    mutating("FICLONE", || rustix::fs::ioctl_ficlone(to, from))
}

/// Where data begins at or after `off`; `None` when only a hole follows or `off` is past the end.
///
/// Moves the position of the descriptor, as all seeking does.
pub fn seek_data(fd: Fd<'_>, off: u64) -> Result<Option<u64>> {
    reading("lseek", || match rustix::fs::seek(fd, SeekFrom::Data(off)) {
        Err(Errno::NXIO) => Ok(None),
        other => other.map(Some),
    })
}

/// Where a hole begins at or after `off`; the end of the file counts as one. `ENXIO` past the end.
pub fn seek_hole(fd: Fd<'_>, off: u64) -> Result<u64> {
    reading("lseek", || rustix::fs::seek(fd, SeekFrom::Hole(off)))
}

/// `lseek` with the `SEEK_*` number in `whence`.
pub fn seek(fd: Fd<'_>, off: i64, whence: i32) -> Result<u64> {
    reading("lseek", || {
        // SAFETY: all arguments are numbers and the descriptor is open.
        let at = unsafe { libc::lseek64(fd.as_raw_fd(), off, whence) };
        u64::try_from(at).map_err(|_| errno())
    })
}

/// The inode flags (`FS_IMMUTABLE_FL` and so on); `ENOTTY` where there are none, `EBADF` for `O_PATH`.
pub fn get_flags(fd: Fd<'_>) -> Result<u32> {
    reading("FS_IOC_GETFLAGS", || rustix::fs::ioctl_getflags(fd).map(|flags| flags.bits()))
}

/// The state of the file system that holds `fd`, which may be an `O_PATH` descriptor.
pub fn statfs(fd: Fd<'_>) -> Result<StatFs> {
    let st = reading("fstatfs", || rustix::fs::fstatfs(fd))?;
    // The fields are signed or unsigned, 32 or 64 bits, by architecture; their values are small and not negative.
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(StatFs {
        blocks: st.f_blocks as u64,
        bfree: st.f_bfree as u64,
        bavail: st.f_bavail as u64,
        files: st.f_files as u64,
        ffree: st.f_ffree as u64,
        bsize: st.f_bsize as u32,
        namelen: st.f_namelen as u32,
        frsize: st.f_frsize as u32,
        f_type: st.f_type as u64,
    })
}

/// The target of the symbolic link `name`; `EINVAL` when it is something else.
pub fn readlink(dir: Fd<'_>, name: &OsStr) -> Result<Vec<u8>> {
    reading("readlinkat", || rustix::fs::readlinkat(dir, name, Vec::new()).map(Into::into))
}

/// The target of the symbolic link behind the `O_PATH` descriptor `fd`; `ENOENT` when it is something else.
pub fn readlink_fd(fd: Fd<'_>) -> Result<Vec<u8>> {
    reading("readlinkat", || rustix::fs::readlinkat(fd, c"", Vec::new()).map(Into::into))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{create_file, open_path, open_root, symlink, truncate};
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        (tmp, root)
    }

    #[test]
    fn contents_holes_and_ranges() {
        let (_tmp, root) = root();
        let f = create_file(root.as_fd(), OsStr::new("f"), 0o600).unwrap();
        let g = create_file(root.as_fd(), OsStr::new("g"), 0o600).unwrap();
        assert_eq!(pwrite(f.as_fd(), b"hello", 1 << 20).unwrap(), 5);
        truncate(f.as_fd(), 3 << 20).unwrap();
        assert_eq!(seek_data(f.as_fd(), 0).unwrap(), Some(1 << 20));
        assert_eq!(seek_hole(f.as_fd(), 0).unwrap(), 0);
        assert_eq!(seek_data(f.as_fd(), 2 << 20).unwrap(), None);
        assert_eq!(seek(f.as_fd(), -1, libc::SEEK_END).unwrap(), (3 << 20) - 1);
        assert!(seek(f.as_fd(), -1, libc::SEEK_SET).unwrap_err().is(Errno::INVAL));
        assert_eq!(copy_range(f.as_fd(), 1 << 20, g.as_fd(), 2, 5).unwrap(), 5);
        let mut buf = [1; 16];
        assert_eq!(pread(g.as_fd(), &mut buf, 0).unwrap(), 7);
        assert_eq!(&buf[..7], b"\0\0hello");
    }

    #[test]
    fn symlink_targets_of_every_length() {
        let (_tmp, root) = root();
        for len in [1, 255, 256, 1000] {
            let (target, name) = ("t".repeat(len), format!("l{len}"));
            symlink(OsStr::new(&target), root.as_fd(), OsStr::new(&name)).unwrap();
            assert_eq!(readlink(root.as_fd(), OsStr::new(&name)).unwrap(), target.as_bytes());
            let fd = open_path(root.as_fd(), OsStr::new(&name)).unwrap();
            assert_eq!(readlink_fd(fd.as_fd()).unwrap(), target.as_bytes());
        }
    }

    #[test]
    fn file_system_state() {
        let (_tmp, root) = root();
        let st = statfs(root.as_fd()).unwrap();
        assert!(st.blocks > 0 && st.frsize > 0 && st.namelen >= 255 && st.f_type != 0);
        let path = open_path(root.as_fd(), OsStr::new(".")).unwrap();
        assert_eq!(statfs(path.as_fd()).unwrap().f_type, st.f_type);
    }
}
