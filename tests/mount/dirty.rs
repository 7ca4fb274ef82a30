//! Looking for holes, and setting times, while pages are dirty: the daemon has the kernel write them before it answers, and
//! that needs the daemon. Each test does a fixed amount of work.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::harness::{Bed, Setup, entries, put, read, until};
use super::os::{self, Map, errno, open_rw};

const SIZE: u64 = 16 << 20;
const ROUNDS: usize = 40;

/// A deadlock between the kernel and the daemon outlasts the daemon; only ending the connection frees those who wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `work` on the mount, which is ended by force when that hangs.
fn within_patience(bed: &Bed, work: impl FnOnce()) {
    let (ended, wait) = mpsc::channel::<()>();
    let at = bed.m.clone();
    let watch = thread::spawn(move || {
        let hangs = wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if hangs {
            eprintln!("the seeks hang; the mount is ended by force");
            rustix::mount::unmount(&at, rustix::mount::UnmountFlags::FORCE | rustix::mount::UnmountFlags::DETACH).ok();
        }
        hangs
    });
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    drop(ended);
    assert!(!watch.join().unwrap(), "the seeks hang");
    done.unwrap();
}

/// A file with a hole from the second page on, and one small file beside it.
fn bed(writeback: bool) -> Bed {
    let options = if writeback { "writeback=1" } else { "writeback=0" }.to_owned();
    Bed::with(Setup { options, ..Setup::default() }, |l| {
        let file = File::create(l[0].join("sparse")).unwrap();
        file.write_all_at(&[1; 4096], 0).unwrap();
        file.set_len(SIZE).unwrap();
        put(&l[0], "small", "small");
    })
}

/// What the threads on one file have done so far.
#[derive(Default)]
struct Progress {
    seeks: AtomicUsize,
    others: AtomicUsize,
    over: AtomicBool,
}

/// Dirties a page through a map and looks for it, `ROUNDS` times at least and until the others were served as often.
fn seek(bed: &Bed, progress: &Progress, at: usize) {
    let file = open_rw(&bed.p("sparse"));
    let mut map = Map::new(&file, SIZE as usize, true, true).unwrap();
    let mut round = 0;
    while round < ROUNDS || (progress.others.load(Ordering::Relaxed) < ROUNDS && round < ROUNDS * 1000) {
        map.write(at, &[round as u8 | 1]);
        assert_eq!(os::seek(&file, at as i64, libc::SEEK_DATA).unwrap(), at as i64);
        assert_eq!(os::seek(&file, 0, libc::SEEK_HOLE).unwrap(), 4096);
        progress.seeks.fetch_add(1, Ordering::Relaxed);
        round += 1;
    }
}

/// Everything else on the same file and beside it.
fn other_work(bed: &Bed, progress: &Progress) {
    let file = open_rw(&bed.p("sparse"));
    while !progress.over.load(Ordering::Relaxed) {
        file.write_all_at(&[9; 100], SIZE - 4096).unwrap();
        let mut buffer = [0; 4096];
        file.read_exact_at(&mut buffer, SIZE - 4096).unwrap();
        assert_eq!(buffer[..100], [9; 100]);
        file.sync_all().unwrap();
        assert_eq!(file.metadata().unwrap().len(), SIZE);
        assert_eq!(read(&bed.p("small")), "small");
        fs::write(bed.p("new"), "new").unwrap();
        fs::remove_file(bed.p("new")).unwrap();
        progress.others.fetch_add(1, Ordering::Relaxed);
    }
}

/// More threads that seek than the daemon has to serve with, and one that reads, writes, changes and syncs the same file:
/// all of them come to their end, and that one does not wait until the seeks are over.
#[test]
fn many_seeks_on_a_file_with_dirty_pages_stop_nobody() {
    for writeback in [false, true] {
        let bed = bed(writeback);
        let progress = Progress::default();
        within_patience(&bed, || {
            thread::scope(|s| {
                let (bed, progress) = (&bed, &progress);
                let seekers: Vec<_> = (1..=16).map(|n| s.spawn(move || seek(bed, progress, n * 524_288))).collect();
                s.spawn(move || other_work(bed, progress));
                let ended: Vec<_> = seekers.into_iter().map(thread::ScopedJoinHandle::join).collect();
                progress.over.store(true, Ordering::Relaxed);
                ended.into_iter().for_each(|e| e.unwrap());
            });
        });
        let (others, seeks) = (progress.others.into_inner(), progress.seeks.into_inner());
        println!("writeback {writeback}: {others} rounds of others beside {seeks} of seeks");
        assert!(others >= ROUNDS, "others had to wait: {others} rounds beside {seeks}");
        let data = fs::read(bed.p("sparse")).unwrap();
        assert!((1..=16).all(|n| data[n * 524_288] & 1 == 1), "what was written to the maps is there");
    }
}

/// Seeks on many files at once, each with pages of its own to write, while the files are truncated and removed.
#[test]
fn seeks_on_files_that_shrink_and_vanish_end() {
    let bed = bed(true);
    within_patience(&bed, || {
        thread::scope(|s| {
            for n in 0..8 {
                let bed = &bed;
                s.spawn(move || (0..ROUNDS).for_each(|round| seek_while_it_goes(bed, n, round % 2 == 0)));
            }
        });
    });
}

fn seek_while_it_goes(bed: &Bed, n: usize, shrinks: bool) {
    let path = bed.p(&format!("f{n}"));
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(&[7; 8192], 1 << 20).unwrap();
    let seeker = file.try_clone().unwrap();
    thread::scope(|s| {
        s.spawn(move || {
            let found = os::seek(&seeker, 0, libc::SEEK_DATA);
            assert!(matches!(&found, Ok(at) if *at == 1 << 20) || errno(found) == libc::ENXIO);
        });
        if shrinks {
            file.set_len(4096).unwrap();
        }
        fs::remove_file(&path).unwrap();
    });
    let expected = if shrinks { libc::ENXIO } else { 0 };
    assert_eq!(errno(os::seek(&file, 0, libc::SEEK_DATA)), expected, "without a name");
}

/// Stores through a map are written later, but were made before the time was set; those made after it do change it.
#[test]
fn a_modification_time_outlasts_stores_made_before_it() {
    let bed = bed(false);
    fs::write(bed.p("new"), [7; 100]).unwrap();
    for name in ["small", "sparse", "new"] {
        let file = open_rw(&bed.p(name));
        let mut map = Map::new(&file, 4, true, true).unwrap();
        let mtime = || fs::metadata(bed.p(name)).unwrap().mtime();
        for (round, shown) in [(b'a', 1000), (b'b', 2000)] {
            within_patience(&bed, || {
                map.write(0, &[round; 4]);
                os::set_times(&bed.p(name), (5, 0), (shown, 0)).unwrap();
            });
            assert_eq!(mtime(), shown, "{name}");
            file.sync_all().unwrap();
            assert_eq!(mtime(), shown, "{name}: what was stored before was written after");
            assert_eq!(fs::metadata(bed.u(name)).unwrap().mtime(), shown, "{name} in upper");
            assert_eq!(fs::read(bed.u(name)).unwrap()[..4], [round; 4], "{name}");
        }
        map.write(0, b"late");
        map.sync().unwrap();
        assert!(mtime() > 2000, "{name}: a later store changes the time");
    }
}

/// What was read was dropped when the first time was set; what is stored to then came from write(2) alone.
#[test]
fn a_modification_time_outlasts_stores_to_what_was_written_after_another() {
    let bed = bed(false);
    let file = open_rw(&bed.p("sparse"));
    within_patience(&bed, || {
        file.read_exact_at(&mut [0; 4096], 0).unwrap();
        os::set_times(&bed.p("sparse"), (5, 0), (500, 0)).unwrap();
        file.write_all_at(&[7; 4096], 0).unwrap();
        let mut map = Map::new(&file, 4096, true, true).unwrap();
        map.write(0, b"late");
        os::set_times(&bed.p("sparse"), (5, 0), (1000, 0)).unwrap();
        drop(map);
        file.sync_all().unwrap();
    });
    drop(file);
    assert_eq!(fs::metadata(bed.p("sparse")).unwrap().mtime(), 1000);
    assert_eq!(fs::metadata(bed.u("sparse")).unwrap().mtime(), 1000);
    assert_eq!(fs::read(bed.u("sparse")).unwrap()[..5], *b"late\x07");
}

/// More threads that set times than the daemon has to serve with, each beside stores through a map of its own.
#[test]
fn setting_times_of_files_with_dirty_pages_stops_nobody() {
    let bed = bed(false);
    within_patience(&bed, || {
        thread::scope(|s| {
            for n in 1..=16 {
                let bed = &bed;
                s.spawn(move || {
                    let file = open_rw(&bed.p("sparse"));
                    let mut map = Map::new(&file, SIZE as usize, true, true).unwrap();
                    for round in 0..ROUNDS {
                        map.write(n * 524_288, &[round as u8 | 1]);
                        os::set_times(&bed.p("sparse"), (5, 0), (round as i64, 0)).unwrap();
                        assert_eq!(read(&bed.p("small")), "small");
                    }
                });
            }
        });
    });
    let data = fs::read(bed.p("sparse")).unwrap();
    assert!((1..=16).all(|n| data[n * 524_288] == ROUNDS as u8 - 1), "what was written to the maps is there");
}

/// Whoever sets a time of a large file of a lower layer waits for its copy, and nobody else.
#[test]
fn copying_a_large_file_up_holds_back_nobody_with_pages_of_another() {
    const LARGE: usize = 256 << 20;
    let bed = Bed::new(|l| {
        put(l, "large", vec![7; LARGE]);
        put(l, "small", "small");
    });
    // Both may have pages; the small one is in upper already.
    assert_eq!(read(&bed.p("small")), "small");
    open_rw(&bed.p("small")).write_all_at(b"S", 0).unwrap();
    File::open(bed.p("large")).unwrap().read_exact_at(&mut [0; 4096], 0).unwrap();
    let copied = AtomicBool::new(false);
    within_patience(&bed, || {
        thread::scope(|s| {
            s.spawn(|| {
                os::set_times(&bed.p("large"), (5, 0), (1000, 0)).unwrap();
                copied.store(true, Ordering::Relaxed);
            });
            let copies = || entries(&bed.work.join("work")).iter().any(|name| name != "#whiteout");
            until("the copy begins", PATIENCE, copies);
            os::set_times(&bed.p("small"), (5, 0), (2000, 0)).unwrap();
            assert!(!copied.load(Ordering::Relaxed), "it had to wait for the copy of another file");
        });
    });
    let mtime = |name: &str| fs::metadata(bed.p(name)).unwrap().mtime();
    assert_eq!((mtime("large"), mtime("small")), (1000, 2000));
    assert_eq!(fs::metadata(bed.u("large")).unwrap().len(), LARGE as u64);
}
