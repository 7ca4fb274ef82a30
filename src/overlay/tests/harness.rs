//! A stack of layers in a temporary directory, and the union opened on it, driven by paths.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::tree::{Tree, c_string, root, sorted_names};
use super::walk::{View, digest, view};
use crate::overlay::{Attr, Caller, Change, Ino, New, Options, Overlay, ROOT, RedirectMode, RenameMode, Result};

thread_local! {
    static WARNED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Collects what is warned of on each thread.
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNED.with_borrow_mut(|said| said.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// The warnings of this thread while `act` runs.
pub fn warnings(act: impl FnOnce()) -> Vec<String> {
    static SET: std::sync::Once = std::sync::Once::new();
    SET.call_once(|| {
        log::set_logger(&Warnings).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    WARNED.take();
    act();
    WARNED.take()
}

/// A stack on disk. Dropping it checks what every test must leave: lower layers unchanged, no temporary in `work/`.
pub struct Stack {
    dir: tempfile::TempDir,
    pub options: Options,
    before: RefCell<Option<Vec<BTreeMap<OsString, String>>>>,
}

impl Stack {
    /// `lowers` layers and an upper directory, all empty.
    pub fn new(lowers: usize) -> Self {
        Self::within(tempfile::tempdir().unwrap(), lowers)
    }

    /// The same in memory, where there is a tmpfs with attributes for everybody (Linux 6.6): for tests that make thousands.
    pub fn in_memory(lowers: usize) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").ok().filter(|dir| {
            let probe = rustix::fs::setxattr(dir.path(), "user.a", b"", rustix::fs::XattrFlags::empty());
            probe.is_ok() && rustix::fs::removexattr(dir.path(), "user.a").is_ok()
        });
        Self::within(dir.unwrap_or_else(|| tempfile::tempdir().unwrap()), lowers)
    }

    fn within(dir: tempfile::TempDir, lowers: usize) -> Self {
        rustix::process::umask(rustix::fs::Mode::empty());
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let options = Options {
            lower: (1..=lowers).map(|n| make(&format!("lower{n}"))).collect(),
            upper: Some(make("upper")),
            work: Some(make("work")),
            // What root's mounts do by default holds in these tests for everybody.
            redirect: if root() { RedirectMode::Auto } else { RedirectMode::On },
            ..Options::default()
        };
        Self { dir, options, before: RefCell::default() }
    }

    /// The n-th lower layer; 1 is the topmost.
    pub fn lower(&self, n: usize) -> Tree {
        Tree(self.options.lower[n - 1].clone())
    }

    pub fn upper(&self) -> Tree {
        Tree(self.options.upper.clone().unwrap())
    }

    pub fn work(&self) -> Tree {
        Tree(self.options.work.clone().unwrap())
    }

    /// One more data-only layer, below all others.
    pub fn add_data(&mut self) -> Tree {
        let path = self.dir.path().join(format!("data{}", self.options.data_only.len()));
        std::fs::create_dir(&path).unwrap();
        self.options.data_only.push(path.clone());
        Tree(path)
    }

    /// Makes the present upper the topmost lower layer, under a new empty upper.
    pub fn commit(&mut self) {
        self.check();
        *self.before.get_mut() = None;
        let n = self.options.lower.len();
        let (upper, work) = (self.dir.path().join(format!("upper{n}")), self.dir.path().join(format!("work{n}")));
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(&work).unwrap();
        self.options.lower.insert(0, self.options.upper.replace(upper).unwrap());
        self.options.work = Some(work);
    }

    pub fn mount(&self) -> Fs {
        Tree(self.dir.path().into()).freeze_times();
        self.before.borrow_mut().get_or_insert_with(|| self.digests());
        Fs { overlay: Overlay::open(&self.options).unwrap() }
    }

    /// Mounts for one walk.
    pub fn view(&self) -> View {
        view(&self.mount().overlay)
    }

    fn digests(&self) -> Vec<BTreeMap<OsString, String>> {
        self.options.lower.iter().chain(&self.options.data_only).map(|p| digest(p)).collect()
    }

    /// What is in `work/` besides the whiteout that all share.
    pub fn temporaries(&self) -> Vec<OsString> {
        let Some(path) = self.options.work.as_ref().map(|w| w.join("work")).filter(|w| w.exists()) else {
            return Vec::new();
        };
        sorted_names(&path).into_iter().filter(|n| n != "#whiteout").collect()
    }

    pub fn check(&self) {
        self.check_lowers();
        assert!(self.temporaries().is_empty(), "left in work/: {:?}", self.temporaries());
    }

    pub fn check_lowers(&self) {
        let Some(before) = self.before.borrow().clone() else { return };
        for (before, after) in before.iter().zip(self.digests()) {
            for (path, line) in &after {
                assert_eq!(before.get(path), Some(line), "a lower layer changed at {path:?}");
            }
            assert_eq!(before.len(), after.len(), "a lower layer lost a name");
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// An open union. Objects that were looked up stay known.
pub struct Fs {
    pub overlay: Overlay,
}

/// The user that the tests run as.
pub fn me() -> Caller {
    Caller::new(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), 0)
}

/// Somebody else.
pub const OTHER: Caller = Caller::new(4321, 8765, 0);

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

impl Fs {
    /// Looks the path up, part by part.
    pub fn attr(&self, path: &str) -> Result<Attr> {
        let mut attr = self.overlay.get_attr(ROOT)?;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            attr = self.overlay.lookup(attr.ino, os(part))?;
        }
        Ok(attr)
    }

    pub fn ino(&self, path: &str) -> Result<Ino> {
        Ok(self.attr(path)?.ino)
    }

    pub fn split<'a>(&self, path: &'a str) -> Result<(Ino, &'a OsStr)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.ino(dir)?, os(name)))
    }

    pub fn exists(&self, path: &str) -> bool {
        match self.attr(path) {
            Ok(_) => true,
            Err(e) if e.errno() == libc::ENOENT => false,
            Err(e) => panic!("{path}: {e}"),
        }
    }

    pub fn make(&self, path: &str, new: New<'_>, mode: u32, umask: u32, caller: Caller) -> Result<Attr> {
        let (parent, name) = self.split(path)?;
        self.overlay.create(parent, name, new, mode, umask, caller)
    }

    pub fn create(&self, path: &str) -> Result<Attr> {
        self.make(path, New::File, 0o644, 0, me())
    }

    pub fn mkdir(&self, path: &str) -> Result<Attr> {
        self.make(path, New::Directory, 0o755, 0, me())
    }

    pub fn symlink(&self, target: &str, path: &str) -> Result<Attr> {
        self.make(path, New::Symlink(os(target)), 0o777, 0, me())
    }

    pub fn unlink(&self, path: &str) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.overlay.unlink(parent, name)
    }

    pub fn rmdir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.overlay.rmdir(parent, name)
    }

    pub fn link(&self, old: &str, new: &str) -> Result<Attr> {
        let (parent, name) = self.split(new)?;
        self.overlay.link(self.ino(old)?, parent, name)
    }

    pub fn rename_as(&self, old: &str, new: &str, mode: RenameMode) -> Result<()> {
        let ((from, old), (to, new)) = (self.split(old)?, self.split(new)?);
        self.overlay.rename(from, old, to, new, mode)
    }

    pub fn rename(&self, old: &str, new: &str) -> Result<()> {
        self.rename_as(old, new, RenameMode::Replace)
    }

    pub fn exchange(&self, old: &str, new: &str) -> Result<()> {
        self.rename_as(old, new, RenameMode::Exchange)
    }

    pub fn write(&self, path: &str, offset: u64, data: &str) -> Result<()> {
        self.overlay.write(self.ino(path)?, offset, data.as_bytes())
    }

    pub fn read(&self, path: &str) -> Result<String> {
        let attr = self.attr(path)?;
        self.read_ino(attr.ino)
    }

    pub fn read_ino(&self, ino: Ino) -> Result<String> {
        let mut data = vec![0; usize::try_from(self.overlay.get_attr(ino)?.size).unwrap() + 1];
        let got = self.overlay.read(ino, 0, &mut data)?;
        data.truncate(got);
        Ok(String::from_utf8(data).unwrap())
    }

    pub fn change(&self, path: &str, change: &Change) -> Result<Attr> {
        self.overlay.set_attr(self.ino(path)?, change, me())
    }

    pub fn chmod(&self, path: &str, mode: u32) -> Result<Attr> {
        self.change(path, &Change { mode: Some(mode), ..Change::default() })
    }

    pub fn truncate(&self, path: &str, size: u64) -> Result<Attr> {
        self.change(path, &Change { size: Some(size), ..Change::default() })
    }

    pub fn set_xattr(&self, path: &str, name: &str, value: &str) -> Result<()> {
        self.overlay.set_xattr(self.ino(path)?, &c_string(name), value.as_bytes(), 0, me())
    }

    pub fn get_xattr(&self, path: &str, name: &str) -> Result<Vec<u8>> {
        self.overlay.get_xattr(self.ino(path)?, &c_string(name))
    }

    pub fn remove_xattr(&self, path: &str, name: &str) -> Result<()> {
        self.overlay.remove_xattr(self.ino(path)?, &c_string(name))
    }

    /// Sorted names in a directory, without the dots.
    pub fn list(&self, path: &str) -> Vec<String> {
        let mut names = Vec::new();
        let taken = self.overlay.read_dir(self.ino(path).unwrap(), 2, false, &mut |e| {
            names.push(e.name.to_str().unwrap().to_owned());
            true
        });
        taken.unwrap();
        names.sort();
        names
    }

    pub fn view(&self) -> View {
        view(&self.overlay)
    }
}

/// The view of the live union, after checking that a fresh mount of the same directories shows the same.
pub fn settled(stack: &Stack, fs: Fs) -> View {
    let live = fs.view();
    drop(fs);
    let after = view(&Overlay::open(&stack.options).unwrap());
    let difference = difference(&lasting(&live), &lasting(&after));
    assert!(difference.is_empty(), "the live union and a fresh mount differ:\n{difference}");
    live
}

/// Compares two views and names what differs. Link counts of directories do not count: as on the kernel's overlay, a
/// directory of one layer has the real one and a merged directory 1, so that they change with copy-up.
pub fn assert_same(a: &View, b: &View, what: &str) {
    let [mut a, mut b] = [a.clone(), b.clone()];
    for view in [&mut a, &mut b] {
        view.values_mut().filter(|e| e.is_dir()).for_each(|e| e.nlink = 0);
    }
    let difference = difference(&a, &b);
    assert!(difference.is_empty(), "{what} differ:\n{difference}");
}

/// A view without what a remount may change: an ordinary user cannot put attributes on symbolic links and special files,
/// so that a copy of one has a number of its own afterwards.
pub fn lasting(view: &View) -> View {
    let mut view = view.clone();
    let without_attributes = |mode: u32| ![libc::S_IFREG, libc::S_IFDIR].contains(&(mode & libc::S_IFMT));
    view.values_mut().filter(|e| !root() && without_attributes(e.mode)).for_each(|e| e.ino = 0);
    view
}

/// One line for each path that differs.
pub fn difference(a: &View, b: &View) -> String {
    let paths: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let lines = paths.into_iter().filter(|p| a.get(*p) != b.get(*p));
    lines.map(|p| format!("  {p:?}:\n    {:?}\n    {:?}\n", a.get(p), b.get(p))).collect()
}

/// The errno of a failure.
pub fn errno<T>(result: Result<T>) -> i32 {
    result.err().map_or(0, crate::overlay::Error::errno)
}
