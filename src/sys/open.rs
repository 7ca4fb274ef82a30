//! Opening files and directories.

use super::raw::{OPENAT2, ProcPath};
use super::{Access, Errno, Error, Fd, Result, mutating, reading};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BASE: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);
const DIR: OFlags = BASE.union(OFlags::RDONLY).union(OFlags::DIRECTORY);
const DIR_PATH: OFlags = BASE.union(OFlags::PATH).union(OFlags::DIRECTORY);
const PATH: OFlags = BASE.union(OFlags::PATH);

impl Access {
    fn flags(self) -> OFlags {
        let mode = match self {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        BASE | OFlags::NOCTTY | mode
    }
}

/// Opens directory `name` of `dir` for reading, or with `O_PATH` where it may not be read.
///
/// `ENOTDIR` when it is anything else, also a symbolic link.
pub fn open_dir(dir: Fd<'_>, name: &OsStr) -> Result<OwnedFd> {
    or_path(|flags| plain(dir, name, flags))
}

/// Opens the directory at the relative path `rel` below `root`; `""` and `"."` reopen `root` itself.
///
/// No symbolic link is followed (`ELOOP` or `ENOTDIR`) and nothing above `root` reached (`EXDEV`);
/// mount points are crossed. Falls back to `O_PATH` as [`open_dir`] does. Reading does not touch the access time where
/// the caller may ask for that.
pub fn open_dir_path(root: Fd<'_>, rel: &OsStr) -> Result<OwnedFd> {
    match beneath(root, rel, DIR | OFlags::NOATIME) {
        Err(e) if e.is(Errno::PERM) || e.is(Errno::ACCESS) => or_path(|flags| beneath(root, rel, flags)),
        other => other,
    }
}

/// Opens `name` of `dir`; a symbolic link is `ELOOP`.
///
/// Reading does not touch the access time where the caller may ask for that. A FIFO blocks: look first.
pub fn open_file(dir: Fd<'_>, name: &OsStr, access: Access) -> Result<OwnedFd> {
    no_atime(access, |flags| plain(dir, name, flags))
}

/// [`open_file`] for a relative path of several components, resolved like [`open_dir_path`].
pub fn open_file_path(root: Fd<'_>, rel: &OsStr, access: Access) -> Result<OwnedFd> {
    no_atime(access, |flags| beneath(root, rel, flags))
}

/// An `O_PATH` descriptor of `name` in `dir`, whatever it is; a symbolic link is meant itself.
pub fn open_path(dir: Fd<'_>, name: &OsStr) -> Result<OwnedFd> {
    plain(dir, name, PATH)
}

/// [`open_path`] for a relative path of several components, resolved like [`open_dir_path`].
pub fn open_path_rel(root: Fd<'_>, rel: &OsStr) -> Result<OwnedFd> {
    beneath(root, rel, PATH)
}

/// Opens the object behind `fd` (an `O_PATH` one, or one of other access) anew; needs `/proc`.
pub fn reopen(fd: Fd<'_>, access: Access) -> Result<OwnedFd> {
    let path = ProcPath::of(fd);
    no_atime(access, |flags| {
        reading("open", || rustix::fs::open(path.as_c_str(), flags.difference(OFlags::NOFOLLOW), Mode::empty()))
    })
}

/// Opens a directory that the user named; the only function here that follows symbolic links.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = DIR.difference(OFlags::NOFOLLOW);
    reading("open", || rustix::fs::open(path, flags, Mode::empty()))
}

/// Creates the regular file `name` in `dir` and opens it for reading and writing; `EEXIST` if there is one.
///
/// The mode is the permission bits, from which the umask of the process is taken off.
pub fn create_file(dir: Fd<'_>, name: &OsStr, mode: u32) -> Result<OwnedFd> {
    let flags = BASE | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    mutating("openat", || rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode)))
}

/// A regular file that has no name, in the file system of `dir` (`O_TMPFILE`); gone when it is closed.
pub fn nameless_file(dir: Fd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::CLOEXEC | OFlags::RDWR | OFlags::TMPFILE;
    mutating("openat", || rustix::fs::openat(dir, c".", flags, Mode::from_raw_mode(0o600)))
}

fn plain(dir: Fd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd> {
    reading("openat", || rustix::fs::openat(dir, name, flags, Mode::empty()))
}

fn or_path(open: impl Fn(OFlags) -> Result<OwnedFd>) -> Result<OwnedFd> {
    match open(DIR) {
        Err(e) if e.is(Errno::ACCESS) => open(DIR_PATH),
        other => other,
    }
}

/// `O_NOATIME` is for the owner and the privileged only; others are told `EPERM`.
fn no_atime(access: Access, open: impl Fn(OFlags) -> Result<OwnedFd>) -> Result<OwnedFd> {
    let flags = access.flags();
    if access == Access::Read {
        match open(flags | OFlags::NOATIME) {
            Err(e) if e.is(Errno::PERM) => {}
            other => return other,
        }
    }
    open(flags)
}

fn beneath(root: Fd<'_>, rel: &OsStr, flags: OFlags) -> Result<OwnedFd> {
    let rel = if rel.is_empty() { OsStr::new(".") } else { rel };
    if !OPENAT2.available() {
        return walk(root, rel, flags);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match reading("openat2", || rustix::fs::openat2(root, rel, flags, Mode::empty(), resolve)) {
        // Longer than PATH_MAX as a whole.
        Err(e) if e.is(Errno::NAMETOOLONG) => walk(root, rel, flags),
        other => other,
    }
}

/// [`beneath`] one component at a time; `..` and an absolute path are `EXDEV`.
fn walk(root: Fd<'_>, rel: &OsStr, flags: OFlags) -> Result<OwnedFd> {
    let escapes = Error { call: "openat", errno: Errno::XDEV };
    if rel.as_bytes().first() == Some(&b'/') {
        return Err(escapes);
    }
    let mut parts = rel.as_bytes().split(|b| *b == b'/').filter(|part| !matches!(*part, [] | [b'.'])).peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        if part == b".." {
            return Err(escapes);
        }
        let dir = at.as_ref().map_or(root, |fd| fd.as_fd());
        let flags = if parts.peek().is_some() { DIR_PATH } else { flags };
        at = Some(plain(dir, OsStr::from_bytes(part), flags)?);
    }
    at.map_or_else(|| plain(root, OsStr::new("."), flags), Ok)
}

/// A second descriptor of the same object.
pub fn dup(fd: Fd<'_>) -> Result<OwnedFd> {
    reading("dup", || rustix::io::fcntl_dupfd_cloexec(fd, 0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::raw::on_an_old_kernel;
    use super::super::{At, stat};
    use super::*;
    use std::io::{Read, Write};

    fn name(s: &str) -> &OsStr {
        OsStr::new(s)
    }

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("a/b")).unwrap();
        std::fs::write(tmp.path().join("a/b/f"), "text").unwrap();
        std::os::unix::fs::symlink("b", tmp.path().join("a/l")).unwrap();
        let root = open_root(tmp.path()).unwrap();
        (tmp, root)
    }

    fn paths() {
        let (tmp, root) = tree();
        let fd = root.as_fd();
        let st = |fd: &OwnedFd| stat(At::Fd(fd.as_fd())).unwrap();
        for own in ["", ".", "./"] {
            assert_eq!(st(&open_dir_path(fd, name(own)).unwrap()).ino, st(&root).ino);
        }
        assert!(st(&open_dir_path(fd, name("a/b")).unwrap()).is_dir());
        assert!(st(&open_path_rel(fd, name("a/b/f")).unwrap()).is_file());
        assert!(st(&open_path_rel(fd, name("a/l")).unwrap()).is_symlink());
        let mut text = String::new();
        let file = open_file_path(fd, name("a/b/f"), Access::Read).unwrap();
        std::fs::File::from(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        for through in ["a/l", "a/l/f"] {
            let e = open_dir_path(fd, name(through)).unwrap_err();
            assert!(e.is(Errno::LOOP) || e.is(Errno::NOTDIR), "{through}: {e}");
        }
        assert!(open_dir_path(fd, name("..")).unwrap_err().is(Errno::XDEV));
        assert!(open_dir_path(fd, tmp.path().as_os_str()).unwrap_err().is(Errno::XDEV));
        assert!(open_dir_path(fd, name("a/b/f")).unwrap_err().is(Errno::NOTDIR));
        assert!(open_path_rel(fd, name("a/no/f")).unwrap_err().is(Errno::NOENT));
    }

    #[test]
    fn relative_paths_stay_beneath() {
        paths();
    }

    #[test]
    fn relative_paths_without_openat2() {
        on_an_old_kernel(paths);
    }

    #[test]
    fn a_path_longer_than_path_max() {
        let (_tmp, root) = tree();
        let mut dir = root.try_clone().unwrap();
        let part = "d".repeat(200);
        for _ in 0..25 {
            super::super::mkdir(dir.as_fd(), name(&part), 0o755).unwrap();
            dir = open_dir(dir.as_fd(), name(&part)).unwrap();
        }
        let rel = vec![part; 25].join("/");
        let again = open_dir_path(root.as_fd(), name(&rel)).unwrap();
        assert_eq!(stat(At::Fd(again.as_fd())).unwrap(), stat(At::Fd(dir.as_fd())).unwrap());
    }

    #[test]
    fn single_names() {
        let (_tmp, root) = tree();
        let a = open_dir(root.as_fd(), name("a")).unwrap();
        assert!(open_dir(a.as_fd(), name("l")).unwrap_err().is(Errno::NOTDIR));
        assert!(open_file(a.as_fd(), name("l"), Access::Read).unwrap_err().is(Errno::LOOP));
        let fd = create_file(a.as_fd(), name("n"), 0o640).unwrap();
        assert!(create_file(a.as_fd(), name("n"), 0o640).unwrap_err().is(Errno::EXIST));
        std::fs::File::from(fd).write_all(b"1").unwrap();
        let path = open_path(a.as_fd(), name("n")).unwrap();
        let again = reopen(path.as_fd(), Access::ReadWrite).unwrap();
        std::fs::File::from(again).write_all(b"2").unwrap();
        let mut text = String::new();
        let again = reopen(path.as_fd(), Access::Read).unwrap();
        std::fs::File::from(again).read_to_string(&mut text).unwrap();
        assert_eq!(text, "2");
    }
}
