//! Reading directories.

use super::{Errno, Error, Fd, Result, reading};
use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

/// Size of the buffer that `getdents64` fills, in bytes.
const BUFFER: usize = 64 * 1024;

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its inode number; for a mount point, that of the directory underneath.
    pub ino: u64,
    /// Its type as a `DT_*` number; `DT_UNKNOWN` where the file system does not tell.
    pub kind: u8,
}

thread_local! {
    static SPARE: Cell<Vec<MaybeUninit<u8>>> = const { Cell::new(Vec::new()) };
}

/// Takes the entries of a directory.
pub type Each<'a> = &'a mut dyn FnMut(RawEntry<'_>);

/// Calls `each` for every entry but `.` and `..`, in the order of the file system.
///
/// The directory is opened anew, so that a descriptor that is shared keeps no position; an `O_PATH`
/// one will do. Its access time stays where we may have it so. `each` may read other directories.
pub fn read_dir(fd: Fd<'_>, each: Each<'_>) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |flags| reading("openat", || rustix::fs::openat(fd, c".", flags, Mode::empty()));
    let dir = match open(flags | OFlags::NOATIME) {
        // For the owner and the privileged only.
        Err(e) if e.is(Errno::PERM) => open(flags)?,
        other => other?,
    };
    buffered(dir.as_fd(), each)
}

/// The same through the descriptor itself, from the first entry on; its position is changed, so nobody else may read
/// it meanwhile. One that cannot be read itself (`O_PATH`) is opened anew.
pub fn read_dir_itself(fd: Fd<'_>, each: Each<'_>) -> Result<()> {
    match reading("lseek", || rustix::fs::seek(fd, SeekFrom::Start(0))) {
        Ok(_) => buffered(fd, each),
        Err(e) if e.is(Errno::BADF) => read_dir(fd, each),
        Err(e) => Err(e),
    }
}

fn buffered(dir: Fd<'_>, each: Each<'_>) -> Result<()> {
    let mut buffer = SPARE.take();
    buffer.resize(BUFFER, MaybeUninit::uninit());
    let result = entries(dir, &mut buffer, each);
    SPARE.set(buffer);
    result
}

fn entries(dir: Fd<'_>, buffer: &mut [MaybeUninit<u8>], each: Each<'_>) -> Result<()> {
    let mut entries = RawDir::new(dir, buffer);
    loop {
        if entries.is_buffer_empty() {
            super::seam::enter("getdents64", super::seam::Kind::Reading)?;
        }
        let entry = match entries.next() {
            None => return Ok(()),
            Some(Ok(entry)) => entry,
            Some(Err(Errno::INTR)) => continue,
            Some(Err(errno)) => return Err(Error { call: "getdents64", errno }),
        };
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            each(RawEntry { name, ino: entry.ino(), kind: kind(entry.file_type()) });
        }
    }
}

fn kind(file_type: FileType) -> u8 {
    match file_type {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{mkdir, mknod, open_path, open_root, symlink};
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsStr;

    fn list(fd: Fd<'_>) -> BTreeMap<String, u8> {
        let mut found = BTreeMap::new();
        read_dir(fd, &mut |e| {
            assert_ne!(e.ino, 0);
            found.insert(String::from_utf8(e.name.to_vec()).unwrap(), e.kind);
        })
        .unwrap();
        found
    }

    #[test]
    fn kinds_and_repetition() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let fd = root.as_fd();
        assert!(list(fd).is_empty());
        mkdir(fd, OsStr::new("d"), 0o755).unwrap();
        mknod(fd, OsStr::new("w"), libc::S_IFCHR, 0, 0).unwrap();
        mknod(fd, OsStr::new("p"), libc::S_IFIFO | 0o600, 0, 0).unwrap();
        mknod(fd, OsStr::new("f"), 0o600, 0, 0).unwrap();
        symlink(OsStr::new("x"), fd, OsStr::new("l")).unwrap();
        let want: BTreeMap<String, u8> =
            [("d", libc::DT_DIR), ("f", libc::DT_REG), ("l", libc::DT_LNK), ("p", libc::DT_FIFO), ("w", libc::DT_CHR)]
                .map(|(n, k)| (n.to_owned(), k))
                .into();
        assert_eq!(list(fd), want);
        assert_eq!(list(fd), want);
        assert_eq!(list(open_path(fd, OsStr::new(".")).unwrap().as_fd()), want);
    }

    #[test]
    fn more_than_one_buffer_and_nesting() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        for i in 0..2000 {
            mknod(root.as_fd(), OsStr::new(&format!("{i:0100}")), 0o600, 0, 0).unwrap();
        }
        let mut inner = 0;
        let mut outer = 0;
        read_dir(root.as_fd(), &mut |_| {
            if outer == 0 {
                inner = list(root.as_fd()).len();
            }
            outer += 1;
        })
        .unwrap();
        assert_eq!((outer, inner), (2000, 2000));
    }

    #[test]
    fn not_a_directory() {
        let file = tempfile::tempfile().unwrap();
        assert!(read_dir(file.as_fd(), &mut |_| ()).unwrap_err().is(Errno::NOTDIR));
    }
}
