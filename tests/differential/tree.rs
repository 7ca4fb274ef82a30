//! Everything that can be seen of a tree, and how two of them differ.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsRawFd;
use std::path::Path;

use super::calls::{self, c};
use super::side::{Times, describe, kind_of, summary};
use crate::call;

#[derive(Default)]
pub struct Tree {
    /// What must agree, by path.
    pub lines: BTreeMap<Vec<u8>, String>,
    /// Inode numbers, by path.
    pub numbers: BTreeMap<Vec<u8>, u64>,
    /// Where readdir, lstat and fstat did not agree on an inode number, or two objects had the same.
    pub problems: Vec<String>,
    /// Paths of each object that is no directory.
    groups: HashMap<(u64, u64), BTreeSet<Vec<u8>>>,
}

impl Tree {
    /// Reads a tree as root.
    pub fn read(root: &Path, times: &Times) -> Self {
        let mut tree = Self::default();
        let top = calls::path_fd(&c(root.as_os_str().as_encoded_bytes())).expect("the root of a tree opens");
        tree.object(top.as_raw_fd(), b".", &[], None, times);
        tree.directory(top.as_raw_fd(), &[], times);
        tree.link_groups();
        tree
    }

    fn directory(&mut self, at: i32, path: &[u8], times: &Times) {
        let entries = calls::openat(at, c".", libc::O_DIRECTORY, 0).and_then(|fd| calls::list(fd.as_raw_fd()));
        let entries = match entries {
            Ok(entries) => entries,
            Err(errno) => return self.problem(path, &format!("cannot be listed: errno {errno}")),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            if !names.insert(entry.name.clone()) {
                self.problem(path, &format!("lists {} twice", entry.name.escape_ascii()));
            }
            let whole = if path.is_empty() { entry.name.clone() } else { [path, b"/", &entry.name].concat() };
            if self.object(at, &entry.name, &whole, Some((entry.ino, entry.kind)), times) == "dir" {
                match calls::openat(at, &c(&entry.name), libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0) {
                    Ok(fd) => self.directory(fd.as_raw_fd(), &whole, times),
                    Err(errno) => self.problem(&whole, &format!("cannot be opened: errno {errno}")),
                }
            }
        }
    }

    fn object(&mut self, at: i32, name: &[u8], path: &[u8], listed: Option<(u64, u8)>, times: &Times) -> &'static str {
        let name = c(name);
        let opened = calls::openat(at, &name, libc::O_PATH | libc::O_NOFOLLOW, 0);
        let stat = calls::statat(at, &name, libc::AT_SYMLINK_NOFOLLOW);
        let (fd, stat) = match (opened, stat) {
            (Ok(fd), Ok(stat)) => (fd, stat),
            (a, b) => {
                let errors = (a.err(), b.err());
                self.lines.insert(path.to_vec(), format!("cannot be looked at: {errors:?}"));
                return "unknown";
            }
        };
        let held = calls::fstat(fd.as_raw_fd()).map(|s| s.st_ino);
        if listed.is_some_and(|(ino, kind)| ino != stat.st_ino || u32::from(kind) << 12 != stat.st_mode & libc::S_IFMT)
            || held != Ok(stat.st_ino)
        {
            self.problem(path, &format!("readdir, lstat, fstat: {listed:?} {} {held:?}", stat.st_ino));
        }
        let kind = kind_of(stat.st_mode);
        let mut line = describe(&stat, times);
        match kind {
            "file" => line += &content(at, &name),
            "symlink" => {
                line += &format!(" -> {:?}", calls::readlinkat(at, &name).map(|t| t.escape_ascii().to_string()))
            }
            _ => {}
        }
        line += &xattrs(at, &name, times.mapped.contains(&stat.st_ino));
        self.lines.insert(path.to_vec(), line);
        self.numbers.insert(path.to_vec(), stat.st_ino);
        if kind == "dir" {
            if !self.groups.entry((stat.st_ino, 0)).or_default().is_empty() {
                self.problem(path, "has the number of another directory");
            }
            self.groups.entry((stat.st_ino, 0)).or_default().insert(path.to_vec());
        } else {
            self.groups.entry((stat.st_ino, stat.st_nlink)).or_default().insert(path.to_vec());
        }
        kind
    }

    fn problem(&mut self, path: &[u8], what: &str) {
        self.problems.push(format!("{}: {what}", path.escape_ascii()));
    }

    /// Which paths are one object, and whether its link count can be true.
    fn link_groups(&mut self) {
        for ((_, count), paths) in std::mem::take(&mut self.groups).iter().filter(|((_, count), _)| *count > 0) {
            if paths.len() as u64 > *count {
                self.problems.push(format!("{count} links, but {} names: {paths:?}", paths.len()));
            }
            let Some(first) = paths.first() else { continue };
            if paths.len() > 1 {
                for path in paths {
                    if let Some(line) = self.lines.get_mut(path) {
                        *line += &format!(" same as {}", first.escape_ascii());
                    }
                }
            }
        }
    }
}

fn content(at: i32, name: &std::ffi::CStr) -> String {
    let data = calls::openat(at, name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0)
        .and_then(|fd| calls::pread_all(fd.as_raw_fd(), 0, 1 << 20));
    data.map_or_else(|errno| format!(" unreadable: errno {errno}"), |data| format!(" {}", summary(&data)))
}

/// All attributes; without capabilities if the file was `written` through a map: here they go when that is written back.
fn xattrs(at: i32, name: &std::ffi::CStr, written: bool) -> String {
    let path = c(&[format!("/proc/self/fd/{at}/").as_bytes(), name.to_bytes()].concat());
    let list = match calls::filled(|buffer, len| call!(llistxattr(path.as_ptr(), buffer.cast(), len))) {
        Ok(list) => calls::names(&list),
        Err(errno) => return format!(" xattrs: errno {errno}"),
    };
    let mut text = String::new();
    for name in list.into_iter().filter(|name| !(written && name == b"security.capability")) {
        let key = c(&name);
        let value = calls::filled(|buffer, len| call!(lgetxattr(path.as_ptr(), key.as_ptr(), buffer, len)));
        let value = value.map_or_else(|e| format!("errno {e}"), |v| v.iter().map(|b| format!("{b:02x}")).collect());
        text += &format!(" {}={value}", name.escape_ascii());
    }
    text
}

/// Whether two descriptions of an object agree. Of a file that was written through a map, mtime and capabilities do not count; after
/// it has gone, that can be said of something else that has its inode number, on one side only.
pub fn agree(a: &str, b: &str) -> bool {
    let mapped = |text: &str| text.split(' ').any(|word| word == "mtime=any");
    let counts = |word: &&str| !word.starts_with("mtime=") && !word.starts_with("security.capability=");
    a == b || (mapped(a) || mapped(b)) && a.split(' ').filter(counts).eq(b.split(' ').filter(counts))
}

/// What differs, in words; empty if nothing does.
pub fn differences(first: (&str, &Tree), second: (&str, &Tree)) -> Vec<String> {
    let ((first_name, first), (second_name, second)) = (first, second);
    let paths: BTreeSet<_> = first.lines.keys().chain(second.lines.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        let (a, b) = (first.lines.get(path), second.lines.get(path));
        if !a.zip(b).is_some_and(|(a, b)| agree(a, b)) {
            let show = |line: Option<&String>| line.map_or("does not exist".to_owned(), String::clone);
            found.push(format!(
                "{}\n    {first_name}: {}\n    {second_name}: {}",
                path.escape_ascii(),
                show(a),
                show(b)
            ));
        }
    }
    found
}

/// Objects whose number changed, among the paths that both have.
pub fn renumbered(before: &Tree, after: &Tree) -> Vec<String> {
    let moved = |(path, number): (&Vec<u8>, &u64)| {
        let now = after.numbers.get(path)?;
        (now != number).then(|| format!("{}: inode number {number} became {now}", path.escape_ascii()))
    };
    before.numbers.iter().filter_map(moved).collect()
}
