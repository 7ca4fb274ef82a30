//! The core of laminafs without a mount: its methods as the adapter calls them for the kernel, over a stack of directories.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use laminafs::overlay::{self, Options, Overlay, ROOT, RenameMode};
use laminafs::sys::{SetTime, Time};

use super::calls::c;
use super::stack::fresh_directory;
use super::text::When;
use super::vfs::{Attr, Caller, Change, Inodes, Listed, New, Node, Result, Stamp};

/// Beyond all that there are: a write said something wrong about set-id bits.
const MODE_NOT_TOLD: i32 = 10_001;

/// Offset behind `.` and `..`.
const AFTER_DOTS: u64 = 2;

/// A stack on disk, and the union opened on it.
pub struct Core {
    overlay: Overlay,
    options: Options,
    home: PathBuf,
    /// Seconds; times from then on are "now".
    started: i64,
    /// How often each object was looked up and not forgotten.
    known: RefCell<BTreeMap<Node, u64>>,
    /// Nothing is forgotten, as with a kernel that has memory enough.
    remembers: bool,
}

fn errno(error: overlay::Error) -> i32 {
    error.errno()
}

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

fn xattr_name(name: &[u8]) -> CString {
    c(name)
}

fn asked_by(caller: Caller) -> overlay::Caller {
    overlay::Caller::new(caller.uid, caller.gid, 0)
}

fn time(when: When) -> Option<SetTime> {
    match when {
        When::Omit => None,
        When::Now => Some(SetTime::Now),
        When::At(sec, nsec) => Some(SetTime::At(Time { sec, nsec })),
    }
}

fn make_upper(home: &Path, generation: usize) -> (PathBuf, PathBuf) {
    let [upper, work] = ["upper", "work"].map(|name| home.join(format!("{name}{generation}")));
    fresh_directory(&work);
    fresh_directory(&upper);
    (upper, work)
}

impl Core {
    /// Over lower layers, with directories of its own in `home`. `synced`: with every fsync that there is.
    pub fn new(home: &Path, lower: Vec<PathBuf>, synced: bool, remembers: bool) -> std::result::Result<Self, String> {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (upper, work) = make_upper(home, 0);
        let options = Options { lower, upper: Some(upper), work: Some(work), volatile: !synced, ..Options::default() };
        let overlay = open(&options)?;
        let home = home.to_owned();
        let known = RefCell::default();
        Ok(Self { overlay, options, home, started: started.as_secs() as i64 - 1, known, remembers })
    }

    /// Opens the stack again.
    pub fn remount(self) -> std::result::Result<Self, String> {
        let Self { overlay, options, home, started, remembers, .. } = self;
        overlay.sync_all().map_err(|e| format!("syncing: {e}"))?;
        drop(overlay);
        let overlay = open(&options)?;
        Ok(Self { overlay, options, home, started, known: RefCell::default(), remembers })
    }

    /// Makes upper the topmost lower layer of a new one, and opens that.
    pub fn rotate(mut self) -> std::result::Result<Self, String> {
        let generation = self.options.lower.len() + 1;
        let (upper, work) = make_upper(&self.home, generation);
        let old = self.options.upper.replace(upper.clone()).ok_or("there is no upper")?;
        copy_root(&old, &upper).map_err(|e| format!("the root of {}: {e}", upper.display()))?;
        self.options.lower.insert(0, old);
        self.options.work = Some(work);
        self.remount()
    }

    /// What must not be left: objects in work/ besides the whiteout that all share.
    pub fn leftovers(&self) -> Vec<String> {
        let work = self.options.work.as_ref().map(|work| work.join("work"));
        let entries = work.and_then(|work| std::fs::read_dir(work).ok()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "#whiteout").collect()
    }

    fn mode(&self, node: Node) -> Result<u32> {
        self.overlay.get_attr(node).map(|attr| attr.mode).map_err(errno)
    }

    /// Whoever is not root loses set-id bits before data change; the kernel must be told whether there were any.
    fn before_write(&self, node: Node, caller: Caller) -> Result<()> {
        if caller.uid == 0 {
            return Ok(());
        }
        let before = self.mode(node)?;
        let told = self.overlay.drop_set_id(node, asked_by(caller)).map_err(errno)?;
        if (self.mode(node)? != before) == told { Ok(()) } else { Err(MODE_NOT_TOLD) }
    }

    fn count(&self, attr: overlay::Attr) -> Node {
        *self.known.borrow_mut().entry(attr.ino).or_default() += 1;
        attr.ino
    }
}

fn open(options: &Options) -> std::result::Result<Overlay, String> {
    Overlay::open(options).map_err(|e| format!("the stack does not open: {e}"))
}

/// Mode, owner and time of a layer's root.
fn copy_root(from: &Path, to: &Path) -> std::io::Result<()> {
    let meta = std::fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()))?;
    std::fs::set_permissions(to, meta.permissions())?;
    let directory = std::fs::File::open(to)?;
    directory.set_times(std::fs::FileTimes::new().set_modified(meta.modified()?))
}

impl Inodes for Core {
    type Cookie = u64;

    fn root(&self) -> Node {
        ROOT
    }

    fn lookup(&mut self, directory: Node, name: &[u8]) -> Result<Node> {
        let attr = self.overlay.lookup(directory, os(name)).map_err(errno)?;
        Ok(self.count(attr))
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        let attr = self.overlay.get_attr(node).map_err(errno)?;
        assert!(node == ROOT || attr.st_ino == node, "node {node} shows the number {}", attr.st_ino);
        let Time { sec, nsec } = attr.mtime;
        let now = sec >= self.started && sec < self.started + 86_400;
        Ok(Attr {
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            nlink: u64::from(attr.nlink),
            rdev: attr.rdev,
            mtime: if now { Stamp::Now } else { Stamp::At(sec, nsec) },
        })
    }

    fn create(&mut self, at: (Node, &[u8]), new: New<'_>, mode: u32, umask: u32, caller: Caller) -> Result<Node> {
        let new = match new {
            New::File => overlay::New::File,
            New::Directory => overlay::New::Directory,
            New::Symlink(target) => overlay::New::Symlink(os(target)),
            New::Node(kind, major, minor) => overlay::New::Node(kind, major, minor),
        };
        let made = self.overlay.create(at.0, os(at.1), new, mode, umask, asked_by(caller)).map_err(errno)?;
        Ok(self.count(made))
    }

    fn link(&mut self, node: Node, directory: Node, name: &[u8]) -> Result<()> {
        let attr = self.overlay.link(node, directory, os(name)).map_err(errno)?;
        self.count(attr);
        Ok(())
    }

    fn unlink(&mut self, directory: Node, name: &[u8]) -> Result<()> {
        self.overlay.unlink(directory, os(name)).map_err(errno)
    }

    fn rmdir(&mut self, directory: Node, name: &[u8]) -> Result<()> {
        self.overlay.rmdir(directory, os(name)).map_err(errno)
    }

    fn rename(&mut self, from: (Node, &[u8]), to: (Node, &[u8]), flags: u32, caller: Caller) -> Result<()> {
        let mode = match flags & !libc::RENAME_WHITEOUT {
            libc::RENAME_NOREPLACE => RenameMode::NoReplace,
            libc::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => RenameMode::Replace,
        };
        let (old, new) = ((from.0, os(from.1)), (to.0, os(to.1)));
        if flags & libc::RENAME_WHITEOUT == 0 {
            self.overlay.rename(old.0, old.1, new.0, new.1, mode).map_err(errno)
        } else {
            self.overlay.rename_leaving_whiteout(old, new, mode, asked_by(caller)).map_err(errno)
        }
    }

    fn change(&mut self, node: Node, change: &Change, caller: Caller) -> Result<()> {
        let Change { size, uid, gid, mode, atime, mtime } = *change;
        let change = overlay::Change { mode, uid, gid, size, atime: time(atime), mtime: time(mtime) };
        self.overlay.set_attr(node, &change, asked_by(caller)).map(drop).map_err(errno)
    }

    fn read(&self, node: Node, offset: u64, len: u64) -> Result<Vec<u8>> {
        let mut data = vec![0; len as usize];
        let n = self.overlay.read(node, offset, &mut data).map_err(errno)?;
        data.truncate(n);
        Ok(data)
    }

    fn write(&mut self, node: Node, offset: u64, data: &[u8], caller: Caller) -> Result<()> {
        self.before_write(node, caller)?;
        self.overlay.write(node, offset, data).map_err(errno)
    }

    fn fallocate(&mut self, node: Node, mode: i32, offset: u64, len: u64, caller: Caller) -> Result<()> {
        self.before_write(node, caller)?;
        self.overlay.fallocate(node, mode, offset, len).map_err(errno)
    }

    fn copy_range(&mut self, from: (Node, u64), to: (Node, u64), len: u64, caller: Caller) -> Result<u64> {
        self.before_write(to.0, caller)?;
        self.overlay.copy_range(from, to, len).map_err(errno)
    }

    fn sync(&mut self, node: Node, data_only: bool) -> Result<()> {
        let attr = self.attr(node)?;
        if attr.is_dir() { self.overlay.fsync_dir(node) } else { self.overlay.fsync(node, data_only) }.map_err(errno)
    }

    fn sync_all(&mut self) -> Result<()> {
        self.overlay.sync_all().map_err(errno)
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        self.overlay.read_link(node).map_err(errno)
    }

    fn list(&self, directory: Node, after: &u64, count: usize) -> Result<Vec<Listed<u64>>> {
        let mut entries: Vec<Listed<u64>> = Vec::new();
        let sink = &mut |entry: &overlay::Listed<'_>| {
            let taken = entries.len() < count;
            if taken {
                let name = entry.name.as_bytes().to_vec();
                entries.push(Listed { name, number: entry.ino, kind: entry.kind, cookie: entry.cookie });
                // The kernel keeps what a listing with attributes tells it.
                if let Some(attr) = entry.attr {
                    self.count(attr);
                }
            }
            taken
        };
        let plus = self.remembers;
        self.overlay.read_dir(directory, (*after).max(AFTER_DOTS), plus, sink).map_err(errno)?;
        Ok(entries)
    }

    fn get_xattr(&self, node: Node, name: &[u8]) -> Result<Vec<u8>> {
        self.overlay.get_xattr(node, &xattr_name(name)).map_err(errno)
    }

    fn list_xattr(&self, node: Node, caller: Caller) -> Result<Vec<Vec<u8>>> {
        let list = self.overlay.list_xattr(node, asked_by(caller)).map_err(errno)?;
        Ok(list.split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    fn set_xattr(&mut self, node: Node, name: &[u8], value: &[u8], flags: i32, caller: Caller) -> Result<()> {
        self.overlay.set_xattr(node, &xattr_name(name), value, flags, asked_by(caller)).map_err(errno)
    }

    fn remove_xattr(&mut self, node: Node, name: &[u8]) -> Result<()> {
        self.overlay.remove_xattr(node, &xattr_name(name)).map_err(errno)
    }

    /// Forgets the rest; what is held was looked up once.
    fn settle(&mut self, held: &BTreeSet<Node>) {
        let known = self.known.get_mut();
        if self.remembers {
            return;
        }
        for (node, count) in std::mem::take(known) {
            let kept = u64::from(held.contains(&node));
            self.overlay.forget(node, count - kept);
            if kept > 0 {
                known.insert(node, kept);
            }
        }
    }
}
