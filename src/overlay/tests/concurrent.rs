//! Many threads on one union, without a mount.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Barrier, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::harness::{Fs, Stack, me, settled};
use super::walk::View;
use crate::overlay::{Attr, Change, Ino, New, ROOT, RenameMode, Result};

const THREADS: usize = 8;
const DIRS: [&str; 3] = ["d0", "d1", "d2"];
const NAMES: [&str; 12] = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9", "n10", "n11"];

/// A thread that has not answered by then hangs, and nothing can end it but the end of the process.
const PATIENCE: Duration = Duration::from_secs(120);

/// A small generator of random numbers (SplitMix64), so that a seed gives every thread the same operations again.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What a file holds: which object it is, and who wrote it last. Always as long, so that it can be written over.
fn content(object: usize, by: &str) -> String {
    format!("object {object:06} by {by}\n")
}

fn object_of(content: &str) -> Option<usize> {
    let (object, by) = content.strip_prefix("object ")?.split_once(" by ")?;
    (object.len() == 6 && by.len() == 2).then(|| object.parse().ok())?
}

/// Runs `work` in threads that begin together, and ends the process when one of them hangs.
fn together(what: &str, work: impl Fn(usize) + Sync) {
    let (ended, wait): (Sender<()>, Receiver<()>) = channel();
    let what = what.to_owned();
    let watch = std::thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            println!("{what}: a thread hangs");
            std::process::abort();
        }
    });
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|s| {
        for n in 0..THREADS {
            let (barrier, work) = (&barrier, &work);
            s.spawn(move || {
                barrier.wait();
                work(n);
            });
        }
    });
    drop(ended);
    watch.join().unwrap();
}

/// Two lower layers: files, directories and merged directories in three directories, and a file with three names.
fn layers() -> (Stack, usize) {
    let s = Stack::new(2);
    let mut objects = 0;
    let mut file = |layer: usize, path: &str| {
        s.lower(layer).file(path, content(objects, "l"));
        objects += 1;
    };
    for dir in DIRS {
        for (layer, names) in [(1, [0, 1, 2]), (2, [2, 3, 4])] {
            names.iter().for_each(|n| file(layer, &format!("{dir}/n{n}")));
        }
        file(2, &format!("{dir}/n5/low"));
        file(1, &format!("{dir}/n6/one"));
        file(2, &format!("{dir}/n6/two"));
    }
    file(2, "d0/n7");
    s.lower(2).link("d0/n7", "d1/n7").link("d0/n7", "d2/n8");
    (s, objects)
}

/// The locks that the kernel holds while it asks for a change: the directories of the names, and objects that get or lose
/// a name. All that a call needs are taken at once, so that no order is needed.
#[derive(Default)]
struct Locks {
    /// How many share it, or -1.
    held: Mutex<BTreeMap<Ino, isize>>,
    freed: Condvar,
}

struct Held<'a> {
    locks: &'a Locks,
    taken: Vec<(Ino, bool)>,
}

impl Locks {
    fn take(&self, shared: &[Ino], exclusive: &[Ino]) -> Held<'_> {
        let taken: BTreeMap<Ino, bool> =
            shared.iter().map(|&i| (i, false)).chain(exclusive.iter().map(|&i| (i, true))).collect();
        let free = |held: &BTreeMap<Ino, isize>| {
            taken.iter().all(|(ino, &alone)| {
                let now = held.get(ino).copied().unwrap_or(0);
                if alone { now == 0 } else { now >= 0 }
            })
        };
        let mut held = self.freed.wait_while(self.held.lock().unwrap(), |held| !free(held)).unwrap();
        for (&ino, &alone) in &taken {
            *held.entry(ino).or_default() += if alone { -1 } else { 1 };
        }
        Held { locks: self, taken: taken.into_iter().collect() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock().unwrap();
        for (ino, alone) in &self.taken {
            *held.get_mut(ino).unwrap() -= if *alone { -1 } else { 1 };
        }
        self.locks.freed.notify_all();
    }
}

/// What the threads share.
struct Round<'a> {
    fs: &'a Fs,
    dirs: [Ino; 3],
    /// In place of the kernel's.
    locks: Locks,
    /// The kernel's lock for renames from one directory to another.
    moving: Mutex<()>,
    /// Objects made so far.
    objects: AtomicUsize,
    /// Names that came, and that went.
    made: AtomicUsize,
    removed: AtomicUsize,
    /// Whether a rename may replace what another thread has just made.
    replaces: bool,
    /// Files that stay known to the end; none are kept when not `keeps`.
    kept: Mutex<Vec<Ino>>,
    keeps: bool,
}

/// How the kernel refuses what came too late or does not fit.
fn refused(e: i32) -> bool {
    let ways = [libc::ENOENT, libc::EEXIST, libc::ENOTEMPTY, libc::EISDIR, libc::ENOTDIR, libc::EINVAL, libc::EPERM];
    ways.contains(&e)
}

impl Round<'_> {
    /// Whether it was done; any other error than a refusal is a failure of the test.
    fn done<T>(&self, what: &str, result: Result<T>) -> Option<T> {
        result.map_err(|e| assert!(refused(e.errno()), "{what}: {e}")).ok()
    }

    /// Locks the directories for a change of these names in them, and what these names are.
    fn changing(&self, names: &[(Ino, &OsStr)]) -> (Option<MutexGuard<'_, ()>>, Held<'_>) {
        let moving = (names.len() > 1 && names[0].0 != names[1].0).then(|| self.moving.lock().unwrap());
        let mut objects: Vec<Ino> = Vec::new();
        loop {
            let wanted: Vec<Ino> = names.iter().map(|n| n.0).chain(objects.iter().copied()).collect();
            let held = self.locks.take(&[], &wanted);
            let now: Vec<Ino> = names.iter().filter_map(|&(dir, name)| self.number(dir, name)).collect();
            if now == objects {
                return (moving, held);
            }
            objects = now;
        }
    }

    /// Locks a directory as for a lookup or a listing.
    fn reading(&self, dir: Ino) -> Held<'_> {
        self.locks.take(&[dir], &[])
    }

    fn number(&self, dir: Ino, name: &OsStr) -> Option<Ino> {
        let attr = self.done("lookup", self.fs.overlay.lookup(dir, name))?;
        self.fs.overlay.forget(attr.ino, 1);
        Some(attr.ino)
    }

    fn lookup(&self, dir: Ino, name: &OsStr) -> Option<Attr> {
        let _reading = self.reading(dir);
        self.done("lookup", self.fs.overlay.lookup(dir, name))
    }

    /// One of the three directories, now and then one inside; a lookup of it is counted.
    fn parent(&self, rng: &mut Rng) -> Ino {
        let overlay = &self.fs.overlay;
        let dir = rng.pick(&self.dirs);
        if rng.below(5) == 0
            && let Some(attr) = self.lookup(dir, OsStr::new(rng.pick(&NAMES)))
        {
            if attr.mode & libc::S_IFMT == libc::S_IFDIR {
                return attr.ino;
            }
            overlay.forget(attr.ino, 1);
        }
        overlay
            .lookup(crate::overlay::ROOT, OsStr::new(DIRS[self.dirs.iter().position(|&d| d == dir).unwrap()]))
            .unwrap()
            .ino
    }

    fn create(&self, parent: Ino, name: &OsStr, by: usize) {
        let locked = self.changing(&[(parent, name)]);
        let Some(attr) = self.done("create", self.fs.overlay.create(parent, name, New::File, 0o644, 0, me())) else {
            return;
        };
        drop(locked);
        self.made.fetch_add(1, Ordering::Relaxed);
        let object = self.objects.fetch_add(1, Ordering::Relaxed);
        self.fs.overlay.write(attr.ino, 0, content(object, &by.to_string()).as_bytes()).unwrap();
        if self.keeps {
            self.kept.lock().unwrap().push(attr.ino);
        } else {
            self.fs.overlay.forget(attr.ino, 1);
        }
    }

    /// Writes over a file, copying it up if need be; it stays the object it is.
    fn write(&self, attr: &Attr, by: usize) {
        let mut data = [0; 64];
        let got = self.fs.overlay.read(attr.ino, 0, &mut data).unwrap();
        // Empty: who made it has not written yet.
        if let Some(object) = object_of(std::str::from_utf8(&data[..got]).unwrap()) {
            self.fs.overlay.write(attr.ino, 0, content(object, &by.to_string()).as_bytes()).unwrap();
        } else {
            assert_eq!(got, 0, "{data:?}");
        }
    }

    fn on_object(&self, parent: Ino, name: &OsStr, act: impl FnOnce(&Attr)) {
        let Some(attr) = self.lookup(parent, name) else { return };
        act(&attr);
        self.fs.overlay.forget(attr.ino, 1);
    }

    fn rename(&self, rng: &mut Rng, from: (Ino, &OsStr), to: (Ino, &OsStr)) {
        let modes: &[RenameMode] = if self.replaces {
            &[RenameMode::Replace, RenameMode::Exchange, RenameMode::NoReplace]
        } else {
            &[RenameMode::Exchange, RenameMode::NoReplace]
        };
        let mode = rng.pick(modes);
        let _locked = self.changing(&[from, to]);
        self.done("rename", self.fs.overlay.rename(from.0, from.1, to.0, to.1, mode));
    }

    fn list(&self, dir: Ino, plus: bool) {
        let mut seen = BTreeSet::new();
        let _reading = self.reading(dir);
        let listed = self.fs.overlay.read_dir(dir, 0, plus, &mut |e| {
            assert!(seen.insert(e.name.to_owned()), "{} is listed twice", e.name.display());
            if let Some(attr) = e.attr {
                self.fs.overlay.forget(attr.ino, 1);
            }
            true
        });
        self.done("list", listed);
    }

    fn step(&self, rng: &mut Rng, by: usize) {
        let overlay = &self.fs.overlay;
        let (parent, other) = (self.parent(rng), self.parent(rng));
        let (name, new) = (OsStr::new(rng.pick(&NAMES)), OsStr::new(rng.pick(&NAMES)));
        match rng.below(20) {
            0..3 => self.create(parent, name, by),
            3..6 => self.on_object(parent, name, |attr| {
                if attr.mode & libc::S_IFMT == libc::S_IFREG {
                    self.write(attr, by);
                } else {
                    self.list(attr.ino, true);
                }
            }),
            6..10 => self.rename(rng, (parent, name), (other, new)),
            10..12 => self.on_object(parent, name, |attr| {
                let _locked = self.locks.take(&[], &[other, attr.ino]);
                if self.done("link", overlay.link(attr.ino, other, new)).is_some() {
                    self.made.fetch_add(1, Ordering::Relaxed);
                    overlay.forget(attr.ino, 1);
                }
            }),
            12..14 => {
                let _locked = self.changing(&[(parent, name)]);
                if self.done("unlink", overlay.unlink(parent, name)).is_some() {
                    self.removed.fetch_add(1, Ordering::Relaxed);
                }
            }
            14 => {
                let _locked = self.changing(&[(parent, name)]);
                if let Some(attr) = self.done("mkdir", overlay.create(parent, name, New::Directory, 0o755, 0, me())) {
                    self.made.fetch_add(1, Ordering::Relaxed);
                    overlay.forget(attr.ino, 1);
                }
            }
            15 => {
                let _locked = self.changing(&[(parent, name)]);
                if self.done("rmdir", overlay.rmdir(parent, name)).is_some() {
                    self.removed.fetch_add(1, Ordering::Relaxed);
                }
            }
            16 => self.list(parent, by.is_multiple_of(2)),
            17 => self.on_object(parent, name, |attr| {
                let change = Change { mode: Some(0o700 + u32::try_from(by).unwrap()), ..Change::default() };
                overlay.set_attr(attr.ino, &change, me()).unwrap();
            }),
            18 => self.on_object(parent, name, |attr| {
                overlay.set_xattr(attr.ino, c"user.by", by.to_string().as_bytes(), 0, me()).unwrap();
            }),
            _ => self.on_object(parent, name, |attr| {
                if attr.mode & libc::S_IFMT == libc::S_IFDIR {
                    overlay.fsync_dir(attr.ino)
                } else {
                    overlay.fsync(attr.ino, false)
                }
                .unwrap();
            }),
        }
        overlay.forget(parent, 1);
        overlay.forget(other, 1);
    }

    /// Every file is an object that was made, every name leads to its own object, and counts are those of the names.
    fn check(&self, view: &View) {
        let mut names: BTreeMap<u64, u32> = BTreeMap::new();
        view.values().for_each(|e| *names.entry(e.ino).or_default() += 1);
        let mut objects = BTreeMap::new();
        for (path, e) in view.iter().filter(|(_, e)| !e.is_dir()) {
            let object = object_of(std::str::from_utf8(&e.content).unwrap());
            let object = object.unwrap_or_else(|| panic!("{path} holds what nobody wrote: {:?}", e.content));
            assert!(object < self.objects.load(Ordering::Relaxed), "{path}: object {object}");
            assert_eq!(*objects.entry(object).or_insert(e.ino), e.ino, "{path}: object {object} is in two files");
            assert_eq!(e.nlink, names[&e.ino], "{path}: link count");
        }
        for &ino in self.kept.lock().unwrap().iter() {
            let attr = self.fs.overlay.get_attr(ino).unwrap();
            assert_eq!(attr.nlink, names.get(&ino).copied().unwrap_or(0), "object {:?}", self.fs.read_ino(ino));
        }
    }
}

/// Everything at once on the same names, under the locks that the kernel takes.
fn round(seed: u64) {
    let (mut s, objects) = layers();
    s.options.volatile = !seed.is_multiple_of(8);
    if seed % 4 == 1 {
        s.options.fd_limit = 64; // deleted files are kept in work/, few directories stay open
    }
    let before = s.view().len();
    let fs = s.mount();
    let dirs = DIRS.map(|d| fs.ino(d).unwrap());
    let round = Round {
        fs: &fs,
        dirs,
        locks: Locks::default(),
        moving: Mutex::default(),
        objects: objects.into(),
        made: 0.into(),
        removed: 0.into(),
        replaces: seed.is_multiple_of(2),
        kept: Mutex::default(),
        keeps: seed.is_multiple_of(3),
    };
    together(&format!("seed {seed}"), |n| {
        let mut rng = Rng(seed << 8 | n as u64);
        (0..30).for_each(|_| round.step(&mut rng, n));
    });
    if !round.keeps {
        dirs.iter().for_each(|&d| fs.overlay.forget(d, 1));
        assert_eq!(fs.overlay.usage().inodes, 0, "objects stay known though all lookups were taken back");
    }
    let view = fs.view();
    round.check(&view);
    let expected = before + round.made.load(Ordering::Relaxed) - round.removed.load(Ordering::Relaxed);
    assert!(
        view.len() == expected || (round.replaces && view.len() < expected),
        "{} names, not {expected}",
        view.len()
    );
    round.kept.lock().unwrap().iter().for_each(|&ino| fs.overlay.forget(ino, 1000));
    settled(&s, fs);
}

#[test]
fn many_threads_on_the_same_names_lose_nothing() {
    for seed in 0..60 {
        println!("seed {seed}");
        round(seed);
    }
}

/// A file is forgotten under one name while it becomes known under another: neither directory stays known for that.
#[test]
fn a_file_forgotten_under_one_name_and_found_under_another_keeps_no_directory() {
    let s = Stack::new(1);
    s.lower(1).file("a/f", "f").dir("b").link("a/f", "b/f");
    let fs = s.mount();
    let meet = Barrier::new(2);
    let left = AtomicUsize::new(0);
    let look = |dir: &str, counts: bool| {
        for round in 0..2000 {
            meet.wait();
            let dir = fs.overlay.lookup(ROOT, dir.as_ref()).unwrap().ino;
            let file = fs.overlay.lookup(dir, "f".as_ref()).unwrap().ino;
            if !counts {
                std::thread::sleep(Duration::from_micros(round % 40));
            }
            fs.overlay.forget(file, 1);
            fs.overlay.forget(dir, 1);
            meet.wait();
            if counts {
                left.fetch_max(fs.overlay.usage().inodes, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| look("b", false));
        look("a", true);
    });
    assert_eq!(left.into_inner(), 0);
}

/// Links and unlinks names of one file from all threads; its count is that of its names at the end.
fn names_of_one_file(s: &Stack, what: &str) {
    let fs = s.mount();
    let ino = fs.ino("f").unwrap();
    let dirs = ["a", "b"].map(|d| fs.ino(d).unwrap());
    together(what, |n| {
        let mut rng = Rng(n as u64);
        for _ in 0..60 {
            let (dir, name) = (rng.pick(&dirs), OsStr::new(rng.pick(&NAMES[..5])));
            let done = match rng.below(2) {
                0 => fs.overlay.link(ino, dir, name).map(|attr| fs.overlay.forget(attr.ino, 1)),
                _ => fs.overlay.unlink(dir, name),
            };
            assert!(!done.is_err_and(|e| !refused(e.errno())), "{what}: {done:?}");
        }
    });
    let attr = fs.overlay.get_attr(ino).unwrap();
    let names = fs.view().values().filter(|e| e.ino == ino).count();
    assert_eq!(attr.nlink as usize, names, "{what}");
    let view = settled(s, fs);
    assert_eq!(view["f"].nlink as usize, names, "{what}, mounted again");
}

#[test]
fn the_link_count_stays_right_when_many_link_and_unlink() {
    for round in 0..20 {
        for (kind, names) in [("names in a lower layer", true), ("one name in a lower layer", false)] {
            let mut s = Stack::new(1);
            s.options.volatile = true;
            s.lower(1).dir("a").dir("b").file("f", "f");
            if names {
                s.lower(1).link("f", "a/n0").link("f", "b/n1").link("f", "b/n2");
            }
            names_of_one_file(&s, &format!("{kind}, round {round}"));
        }
    }
}
