//! Everything that can be seen of a tree: of the merged view through the union, of a layer on disk.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::tree::{FRESH, root, sorted_names};
use crate::overlay::{Attr, Ino, Overlay, ROOT};
use crate::sys::Time;

/// One object of the merged view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: (u32, u32),
    pub size: u64,
    pub mtime: Time,
    pub ino: u64,
    /// Data of a file, target of a symbolic link.
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Entry {
    pub fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether the time of the last change is of this test run.
    pub fn is_fresh(&self) -> bool {
        self.mtime.sec > FRESH
    }
}

/// The merged view by path; the root is the empty path.
pub type View = BTreeMap<String, Entry>;

/// Walks the merged view and checks on the way that listing, lookup and stat agree and that numbers are unique.
pub fn view(overlay: &Overlay) -> View {
    let mut view = View::new();
    let attr = overlay.get_attr(ROOT).unwrap();
    view.insert(String::new(), entry(overlay, &attr));
    walk_dir(overlay, ROOT, "", &mut view);
    check_numbers(&view);
    view
}

fn walk_dir(overlay: &Overlay, dir: Ino, path: &str, view: &mut View) {
    let mut listed: Vec<(OsString, u64, u32)> = Vec::new();
    overlay
        .read_dir(dir, 0, false, &mut |e| {
            listed.push((e.name.to_os_string(), e.ino, e.kind));
            true
        })
        .unwrap();
    assert!(listed.len() >= 2 && listed[0].0 == "." && listed[1].0 == "..", "{path}: no dots: {listed:?}");
    let mut names: Vec<_> = listed.iter().map(|l| l.0.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), listed.len(), "{path}: a name is listed twice: {listed:?}");
    for (name, ino, kind) in &listed[2..] {
        let child = if path.is_empty() { name.clone() } else { OsString::from(format!("{path}/{}", name.display())) };
        let child = child.into_string().unwrap();
        let attr = overlay.lookup(dir, name).unwrap_or_else(|e| panic!("{child} is listed but: {e}"));
        assert_eq!(attr.st_ino, *ino, "{child}: listed with another number than lookup gives");
        assert_eq!(attr.mode & libc::S_IFMT, *kind, "{child}: listed with another type");
        assert_eq!(settled(attr), settled(overlay.get_attr(attr.ino).unwrap()), "{child}: lookup and stat differ");
        view.insert(child.clone(), entry(overlay, &attr));
        if attr.mode & libc::S_IFMT == libc::S_IFDIR {
            walk_dir(overlay, attr.ino, &child, view);
        }
    }
    let mut plus = 2;
    overlay
        .read_dir(dir, 2, true, &mut |e| {
            let attr = e.attr.unwrap();
            let stat = overlay.get_attr(attr.ino).unwrap();
            assert_eq!(settled(attr), settled(stat), "{path}/{}: listed otherwise", e.name.display());
            overlay.forget(attr.ino, 1);
            plus += 1;
            true
        })
        .unwrap();
    assert_eq!(plus, listed.len(), "{path}: the two listings differ");
}

/// Without what the file system below changes by itself: blocks are allocated some time after a write.
fn settled(attr: Attr) -> Attr {
    Attr { blocks: 0, ..attr }
}

fn entry(overlay: &Overlay, attr: &Attr) -> Entry {
    let content = match attr.mode & libc::S_IFMT {
        libc::S_IFREG => {
            let mut data = vec![0; usize::try_from(attr.size).unwrap() + 1];
            let got = overlay.read(attr.ino, 0, &mut data).unwrap();
            assert_eq!(got as u64, attr.size, "as many bytes as the size says");
            data.truncate(got);
            data
        }
        libc::S_IFLNK => overlay.read_link(attr.ino).unwrap(),
        _ => Vec::new(),
    };
    let size = if attr.mode & libc::S_IFMT == libc::S_IFDIR { 0 } else { attr.size };
    Entry {
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        size,
        mtime: attr.mtime,
        ino: attr.st_ino,
        content,
        xattrs: xattrs(overlay, attr.ino),
    }
}

fn xattrs(overlay: &Overlay, ino: Ino) -> BTreeMap<String, Vec<u8>> {
    let list = overlay.list_xattr(ino, super::harness::me()).unwrap();
    let names = list.split(|&b| b == 0).filter(|n| !n.is_empty());
    names
        .map(|n| {
            let name = CString::new(n).unwrap();
            let value = overlay.get_xattr(ino, &name).unwrap_or_else(|e| panic!("{name:?} is listed but: {e}"));
            (name.into_string().unwrap(), value)
        })
        .collect()
}

/// Two names have one number if and only if they are one object; then everything about them is equal.
fn check_numbers(view: &View) {
    let mut seen: BTreeMap<u64, (&String, &Entry, u32)> = BTreeMap::new();
    for (path, e) in view {
        let (first, other, count) = seen.entry(e.ino).or_insert((path, e, 0));
        *count += 1;
        assert_eq!(e, *other, "{path} and {first} have one number but differ");
        assert!(*count == 1 || !e.is_dir(), "{path} and {first} are directories with one number");
    }
    for (path, e, count) in seen.into_values() {
        assert!(e.is_dir() || e.nlink >= count, "{path}: nlink {} but {count} names", e.nlink);
    }
}

/// All there is to know about a lower tree, times of access included (where this user can keep them).
pub fn digest(root_path: &Path) -> BTreeMap<OsString, String> {
    let mut all = BTreeMap::new();
    digest_into(root_path, OsStr::new(""), &mut all);
    all
}

fn digest_into(base: &Path, relative: &OsStr, all: &mut BTreeMap<OsString, String>) {
    let path = base.join(relative);
    let m = std::fs::symlink_metadata(&path).unwrap();
    let mut names = vec![0; 4096];
    let len = rustix::fs::llistxattr(&path, &mut names[..]).unwrap_or(0);
    let mut values = Vec::new();
    for name in names[..len].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(&path, CString::new(name).unwrap(), &mut value[..]).unwrap_or(0);
        values.push((name.to_vec(), value[..len].to_vec()));
    }
    values.sort();
    let content = match m.file_type() {
        t if t.is_file() => std::fs::read(&path).unwrap(),
        t if t.is_symlink() => std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
        _ => Vec::new(),
    };
    let atime = if root() { m.atime() } else { 0 };
    let line = format!(
        "{:o} {}:{} {} {}.{} {}.{} {} {} {} {atime} {values:?} {content:?}",
        m.mode(),
        m.uid(),
        m.gid(),
        m.size(),
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec(),
        m.nlink(),
        m.ino(),
        m.rdev(),
    );
    all.insert(relative.to_os_string(), line);
    if m.is_dir() {
        for name in sorted_names(&path) {
            digest_into(base, Path::new(relative).join(name).as_os_str(), all);
        }
    }
}
