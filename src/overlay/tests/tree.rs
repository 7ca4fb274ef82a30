//! Building the content of one layer.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

/// Whether the tests may make what only root can make.
pub fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The name of a marker in the form that this user's mounts write.
pub fn marker(suffix: &str) -> String {
    format!("{}.overlay.{suffix}", if root() { "trusted" } else { "user" })
}

/// One directory tree on disk; paths are relative to it. Missing parents are made.
#[derive(Clone)]
pub struct Tree(pub PathBuf);

impl Tree {
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn ready(&self, path: &str) -> PathBuf {
        let full = self.path(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        full
    }

    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.ready(path), content).unwrap();
        self.chmod(path, 0o644)
    }

    pub fn dir(&self, path: &str) -> &Self {
        std::fs::create_dir_all(self.ready(path)).unwrap();
        self.chmod(path, 0o755)
    }

    pub fn symlink(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.ready(path)).unwrap();
        self
    }

    pub fn link(&self, old: &str, new: &str) -> &Self {
        std::fs::hard_link(self.path(old), self.ready(new)).unwrap();
        self
    }

    fn node(&self, path: &str, kind: FileType, dev: u64) -> &Self {
        rustix::fs::mknodat(CWD, self.ready(path), kind, Mode::from_raw_mode(0o640), dev).unwrap();
        self
    }

    pub fn fifo(&self, path: &str) -> &Self {
        self.node(path, FileType::Fifo, 0)
    }

    /// A block device; for an ordinary user a socket in its place.
    pub fn device(&self, path: &str) -> &Self {
        if root() {
            self.node(path, FileType::BlockDevice, rustix::fs::makedev(7, 99))
        } else {
            self.node(path, FileType::Socket, 0)
        }
    }

    /// The kernel's whiteout.
    pub fn whiteout(&self, path: &str) -> &Self {
        self.node(path, FileType::CharacterDevice, 0)
    }

    /// The whiteout of OCI layers, for the last part of `path`.
    pub fn aufs_whiteout(&self, path: &str) -> &Self {
        let path = Path::new(path);
        let name = format!(".wh.{}", path.file_name().unwrap().to_str().unwrap());
        self.file(path.with_file_name(name).to_str().unwrap(), "")
    }

    /// The whiteout that is an empty file with an attribute, in a directory marked to hold such.
    pub fn xattr_whiteout(&self, path: &str) -> &Self {
        self.file(path, "").xattr(path, &marker("whiteout"), b"y");
        let parent = Path::new(path).parent().unwrap().to_str().unwrap();
        self.xattr(parent, &marker("opaque"), b"x")
    }

    pub fn opaque(&self, path: &str) -> &Self {
        self.dir(path).xattr(path, &marker("opaque"), b"y")
    }

    pub fn xattr(&self, path: &str, name: &str, value: &[u8]) -> &Self {
        rustix::fs::lsetxattr(self.path(path), name, value, XattrFlags::empty()).unwrap();
        self
    }

    pub fn get_xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(self.path(path), name, &mut value[..]).ok()?;
        value.truncate(len);
        Some(value)
    }

    pub fn chmod(&self, path: &str, mode: u32) -> &Self {
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Another owner, where the user may give files away.
    pub fn chown(&self, path: &str, uid: u32, gid: u32) -> &Self {
        if root() {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            rustix::fs::chownat(CWD, self.path(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        self
    }

    pub fn mtime(&self, path: &str, sec: i64, nsec: u32) -> &Self {
        set_mtime(&self.path(path), sec, nsec);
        self
    }

    /// Whether the layer itself has the name, whiteouts included.
    pub fn has(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// Whether the name is a whiteout of the kernel's form.
    pub fn is_whiteout(&self, path: &str) -> bool {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        std::fs::symlink_metadata(self.path(path)).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
    }

    /// Gives everything that has a fresh time an old one of its own, so that what an operation touches can be told.
    pub fn freeze_times(&self) {
        let mut step = 0;
        freeze(&self.0, &mut step);
    }
}

/// Times after this one were made by the test that runs.
pub const FRESH: i64 = 1_600_000_000;

fn set_mtime(path: &Path, sec: i64, nsec: u32) {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    // Accessed a moment after now, so that reading does not change it (relatime).
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let times = Timestamps { last_access: time(now as i64 + 60, 5), last_modification: time(sec, nsec.into()) };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn freeze(path: &Path, step: &mut i64) {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        for name in sorted_names(path) {
            freeze(&path.join(name), step);
        }
    }
    *step += 1;
    if meta.mtime() > FRESH {
        set_mtime(path, 1_000_000_000 + *step, 123_456_789);
    }
}

/// Names in a directory of a layer.
pub fn sorted_names(path: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names
}

/// A path as a C string.
pub fn c_string(path: &str) -> CString {
    CString::new(std::ffi::OsStr::new(path).as_bytes()).unwrap()
}
