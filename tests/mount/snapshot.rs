//! Everything that can be said about a tree, without changing its access times.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};

use super::os;

/// Path to a line that says everything about the object.
pub type Snapshot = BTreeMap<PathBuf, String>;

/// Sets access times far enough into the past for any read to change them (`relatime`).
pub fn age(root: &Path) {
    for path in walk(root) {
        let old = Timespec { tv_sec: 86_400, tv_nsec: 1 };
        let times = Timestamps { last_access: old, last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT } };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// The tree with times, owners, modes, attributes, link counts and content.
pub fn of(root: &Path) -> Snapshot {
    walk(root).into_iter().map(|p| (p.strip_prefix(root).unwrap().to_path_buf(), describe(&p))).collect()
}

/// Panics with the lines that differ.
pub fn assert_same(what: &str, before: &Snapshot, after: &Snapshot) {
    let mut report = String::new();
    for (path, line) in before {
        match after.get(path) {
            Some(now) if now == line => {}
            now => writeln!(report, "{}:\n  before {line}\n  after  {now:?}", path.display()).unwrap(),
        }
    }
    for path in after.keys().filter(|p| !before.contains_key(*p)) {
        writeln!(report, "{}: new", path.display()).unwrap();
    }
    assert!(report.is_empty(), "{what} has changed:\n{report}");
}

fn describe(path: &Path) -> String {
    let m = path.symlink_metadata().unwrap();
    let kind = m.file_type();
    let content = if kind.is_symlink() {
        let target = path.read_link().unwrap();
        // Reading the target may have changed its access time.
        let atime = Timespec { tv_sec: m.atime(), tv_nsec: m.atime_nsec() };
        let times = Timestamps { last_access: atime, last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT } };
        match rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::ROFS) => {}
            Err(e) => panic!("{}: {e}", path.display()),
        }
        format!("-> {}", target.display())
    } else if kind.is_file() {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::NOATIME, Mode::empty()).unwrap();
        let mut data = Vec::new();
        std::fs::File::from(fd).read_to_end(&mut data).unwrap();
        format!("{:016x}", hash(&data))
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {:x}", m.rdev())
    } else {
        String::new()
    };
    let mut xattrs = String::new();
    for (name, value) in os::xattrs(path) {
        write!(xattrs, " {}={value:x?}", String::from_utf8_lossy(&name)).unwrap();
    }
    let ctime = if kind.is_symlink() { (0, 0) } else { (m.ctime(), m.ctime_nsec()) };
    format!(
        "{:o} {}:{} size {} links {} ino {} mtime {}.{} atime {}.{} ctime {}.{} {content}{xattrs}",
        m.mode(),
        m.uid(),
        m.gid(),
        m.size(),
        m.nlink(),
        m.ino(),
        m.mtime(),
        m.mtime_nsec(),
        m.atime(),
        m.atime_nsec(),
        ctime.0,
        ctime.1
    )
}

/// A number that stands for `data`.
pub fn hash(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

/// All paths, the root first; does not change the access times of directories.
fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_path_buf()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
            let fd = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
            let mut buffer = Vec::with_capacity(65_536);
            let mut entries = rustix::fs::RawDir::new(fd, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                let name = entry.unwrap().file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    found.push(path.join(OsString::from_vec(name)));
                }
            }
        }
    }
    found.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    found
}
