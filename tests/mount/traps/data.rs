//! Silent wrong data: a file that is rewritten over its lower copy while others read it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::harness::{Setup, exists, passthrough, put};
use super::super::os::{Map, open_rw};
use super::{Site, everywhere, everywhere_with};

const PAGE: usize = 4096;
const PAGES: usize = 512;
const WRITES: u64 = 6000;

/// A page that tells which one it is, who wrote it, and whether it is whole.
fn page(number: usize, version: u64) -> Vec<u8> {
    let mut data = Vec::with_capacity(PAGE);
    let mut word = (number as u64) << 40 | version;
    data.extend(word.to_le_bytes());
    while data.len() < PAGE {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        data.extend(word.to_le_bytes());
    }
    data
}

/// Version of a page that is whole and where it belongs.
fn version(data: &[u8], number: usize, what: &str) -> u64 {
    let head = u64::from_le_bytes(data[..8].try_into().unwrap());
    let version = head & ((1 << 40) - 1);
    assert_eq!(head >> 40, number as u64, "{what}: page {number} is another page");
    assert!(data == page(number, version), "{what}: page {number} is torn");
    version
}

/// A small generator of numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n
    }
}

/// What the file must hold: for each page the last version written, and the lock that keeps readers of a page whole.
struct Model {
    pages: Vec<Mutex<u64>>,
    done: AtomicBool,
    next: AtomicU64,
}

impl Model {
    fn new() -> Self {
        let pages = (0..PAGES).map(|_| Mutex::new(0)).collect();
        Self { pages, done: AtomicBool::new(false), next: AtomicU64::new(1) }
    }

    /// Rewrites pages through a descriptor and now and then through a mapping; syncs in between, as a database does.
    fn write(&self, site: &Site, seed: u64) {
        let file = open_rw(&site.p("db"));
        let mut map = Map::new(&file, PAGE * PAGES, true, true).unwrap();
        let mut random = Random(seed);
        loop {
            let version = self.next.fetch_add(1, Ordering::Relaxed);
            if version > WRITES {
                break;
            }
            let number = random.below(PAGES);
            let mut last = self.pages[number].lock().unwrap();
            match random.below(16) {
                0..3 => map.write(number * PAGE, &page(number, version)),
                3 => {
                    // In pieces, across no border.
                    let data = page(number, version);
                    data.chunks(1000).enumerate().for_each(|(n, chunk)| {
                        file.write_all_at(chunk, (number * PAGE + n * 1000) as u64).unwrap();
                    });
                }
                _ => file.write_all_at(&page(number, version), (number * PAGE) as u64).unwrap(),
            }
            *last = version;
            drop(last);
            match random.below(400) {
                0 => file.sync_data().unwrap(),
                1 => map.sync().unwrap(),
                2 => site.bed.drop_caches(),
                _ => {}
            }
        }
    }

    /// Reads pages in one of three ways until the writers are done.
    fn read(&self, site: &Site, how: usize) {
        let early = File::open(site.p("db")).unwrap();
        let map = Map::new(&early, PAGE * PAGES, false, true).unwrap();
        let mut random = Random(77 + how as u64);
        while !self.done.load(Ordering::Relaxed) {
            let number = random.below(PAGES);
            let last = self.pages[number].lock().unwrap();
            let mut data = vec![0; PAGE];
            let at = (number * PAGE) as u64;
            match how {
                0 => early.read_exact_at(&mut data, at).unwrap(),
                1 => data = map.read(number * PAGE, PAGE),
                _ => File::open(site.p("db")).unwrap().read_exact_at(&mut data, at).unwrap(),
            }
            assert_eq!(version(&data, number, "a reader"), *last, "reader {how}, page {number}");
        }
    }

    fn check(&self, data: &[u8], what: &str) {
        assert_eq!(data.len(), PAGES * PAGE, "{what}");
        for (number, chunk) in data.chunks(PAGE).enumerate() {
            assert_eq!(version(chunk, number, what), *self.pages[number].lock().unwrap(), "{what}: page {number}");
        }
    }
}

fn database(l: &[PathBuf]) {
    let data: Vec<u8> = (0..PAGES).flat_map(|n| page(n, 0)).collect();
    put(&l[0], "db", data);
}

fn rewritten_under_its_readers(options: &str) {
    let setup = Setup { options: options.into(), ..Setup::default() };
    everywhere_with(setup, database, |site| {
        let model = Model::new();
        std::thread::scope(|scope| {
            let (model, site) = (&model, &*site);
            let readers: Vec<_> = (0..3).map(|how| scope.spawn(move || model.read(site, how))).collect();
            let writers: Vec<_> = [11, 12].map(|seed| scope.spawn(move || model.write(site, seed))).into();
            let results: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            model.done.store(true, Ordering::Relaxed);
            readers.into_iter().for_each(|r| r.join().unwrap());
            results.into_iter().for_each(|r| r.unwrap());
        });
        model.check(&fs::read(site.p("db")).unwrap(), "live");
        site.bed.drop_caches();
        model.check(&fs::read(site.p("db")).unwrap(), "without caches");
        site.bed.remount();
        model.check(&fs::read(site.p("db")).unwrap(), "after a remount");
        model.check(&fs::read(site.u("db")).unwrap(), "in upper");
    });
}

/// fuse-overlayfs issue 475: a database of packages, rewritten over its lower copy, gets corrupted now and then.
#[test]
fn a_database_is_rewritten_under_its_readers() {
    rewritten_under_its_readers("");
}

#[test]
fn a_database_is_rewritten_under_its_readers_with_collected_writes() {
    rewritten_under_its_readers("writeback=1");
}

#[test]
fn a_database_is_rewritten_under_its_readers_past_the_cache() {
    rewritten_under_its_readers(passthrough());
}

/// A way to replace the content of a file, and what it is.
type Rewrite = (&'static str, fn(&Path, &[u8]));

/// The second reporter of issue 475 got old content, and zeros up to the new length.
const REWRITES: [Rewrite; 5] = [
    ("open and truncate", |p, data| fs::write(p, data).unwrap()),
    ("over the old and cut", |p, data| {
        let file = open_rw(p);
        file.write_all_at(data, 0).unwrap();
        file.set_len(data.len() as u64).unwrap();
    }),
    ("cut and write", |p, data| {
        let file = open_rw(p);
        file.set_len(0).unwrap();
        file.set_len(data.len() as u64).unwrap();
        file.write_all_at(data, 0).unwrap();
    }),
    ("rename over", |p, data| {
        let new = p.with_extension("new");
        fs::write(&new, data).unwrap();
        fs::rename(new, p).unwrap();
    }),
    ("remove and make", |p, data| {
        fs::remove_file(p).unwrap();
        fs::write(p, data).unwrap();
    }),
];

#[test]
fn small_files_over_lower_ones_have_the_new_content_only() {
    let fill = |l: &[PathBuf]| {
        for (n, _) in REWRITES.iter().enumerate() {
            for len in 0..40 {
                put(&l[0], &format!("f{n}.{len}"), vec![b'o'; len * 211]);
            }
        }
    };
    for options in ["", "writeback=1", passthrough()] {
        let setup = Setup { options: options.into(), ..Setup::default() };
        everywhere_with(setup, fill, |site| {
            let new = |len: usize| vec![b'n'; (len * 7919) % 9001];
            for (n, (_, rewrite)) in REWRITES.iter().enumerate() {
                (0..40).for_each(|len| rewrite(&site.p(&format!("f{n}.{len}")), &new(len)));
            }
            let check = |site: &Site| {
                for (n, (how, _)) in REWRITES.iter().enumerate() {
                    for len in 0..40 {
                        let path = site.p(&format!("f{n}.{len}"));
                        assert!(fs::read(&path).unwrap() == new(len), "{how}, {len}");
                        assert_eq!(path.metadata().unwrap().size(), new(len).len() as u64, "{how}, {len}");
                    }
                }
            };
            check(site);
            site.bed.remount();
            check(site);
        });
    }
}

/// Opened for writing and nothing written: nothing is copied (unionfs-fuse issue 25).
#[test]
fn opening_for_writing_copies_nothing() {
    everywhere(1, database, |site| {
        let file = open_rw(&site.p("db"));
        let map = Map::new(&file, PAGE, true, true).unwrap();
        assert_eq!(version(&map.read(0, PAGE), 0, "mapped"), 0);
        file.sync_all().unwrap();
        file.write_all_at(b"", 0).unwrap();
        drop((map, file));
        assert!(!exists(&site.u("db")));
    });
}
