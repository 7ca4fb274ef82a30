//! Many at once. The harness's watchdog ends what hangs.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::fs::RenameFlags;

use super::harness::{Bed, entries, ino, mkdir, put, read};
use super::os::{self, errno, open_rw};

/// Runs `work` in `count` threads that begin together.
fn together(count: usize, work: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(count);
    thread::scope(|s| {
        for n in 0..count {
            let (barrier, work) = (&barrier, &work);
            s.spawn(move || {
                barrier.wait();
                work(n);
            });
        }
    });
}

#[test]
fn one_file_is_copied_up_once() {
    let size = 20 << 20;
    let mut bed = Bed::new(|l| put(l, "d/e/f", vec![1; size]));
    let number = ino(&bed.p("d/e/f"));
    together(8, |n| {
        let file = open_rw(&bed.p("d/e/f"));
        file.write_all_at(format!("thread{n}").as_bytes(), n as u64 * 1_000_000).unwrap();
    });
    let data = fs::read(bed.p("d/e/f")).unwrap();
    assert_eq!(data.len(), size);
    for n in 0..8 {
        assert_eq!(data[n * 1_000_000..n * 1_000_000 + 7], *format!("thread{n}").as_bytes());
    }
    assert_eq!(ino(&bed.p("d/e/f")), number);
    bed.remount();
    assert!(fs::read(bed.u("d/e/f")).unwrap() == data);
}

/// In different ways at once, and through both names of a link.
#[test]
fn one_file_is_changed_in_many_ways() {
    let bed = Bed::new(|l| {
        put(l, "a/f", vec![1; 3 << 20]);
        mkdir(l, "b");
        fs::hard_link(l.join("a/f"), l.join("b/g")).unwrap();
        fs::hard_link(l.join("a/f"), l.join("b/i")).unwrap();
    });
    together(8, |n| match n {
        0 => OpenOptions::new().append(true).open(bed.p("b/i")).unwrap().write_all(b"end").unwrap(),
        1 => open_rw(&bed.p("b/g")).write_all_at(b"begin", 0).unwrap(),
        2 => os::set_xattr(&bed.p("b/i"), "user.x", b"1").unwrap(),
        3 => os::set_xattr(&bed.p("b/g"), "user.y", b"2").unwrap(),
        4 => std::os::unix::fs::chown(bed.p("b/i"), Some(9), Some(9)).unwrap(),
        5 => fs::hard_link(bed.p("b/g"), bed.p("c")).unwrap(),
        6 => fs::rename(bed.p("a/f"), bed.p("a/h")).unwrap(),
        _ => drop(fs::read(bed.p("b/g")).unwrap()),
    });
    let m = fs::metadata(bed.p("c")).unwrap();
    assert_eq!((m.nlink(), m.uid(), m.len()), (4, 9, (3 << 20) + 3));
    for name in ["a/h", "b/g", "b/i", "c"] {
        assert_eq!(ino(&bed.p(name)), m.ino(), "{name}");
        assert_eq!(os::xattr_names(&bed.p(name)), ["user.x", "user.y"], "{name}");
        let data = fs::read(bed.p(name)).unwrap();
        assert!(data.starts_with(b"begin") && data.ends_with(b"end"), "{name}");
    }
}

/// Directories and files of one tree, all copied up at once.
#[test]
fn a_tree_is_copied_up_by_many() {
    let mut bed = Bed::new(|l| {
        for d in 0..20 {
            for f in 0..20 {
                put(l, &format!("t/d{d}/s/f{f}"), format!("{d} {f}"));
            }
        }
    });
    together(8, |n| {
        for d in 0..20 {
            for f in 0..20 {
                let d = (d + n * 3) % 20;
                let path = bed.p(&format!("t/d{d}/s/f{f}"));
                OpenOptions::new().append(true).open(path).unwrap().write_all(b".").unwrap();
            }
        }
    });
    bed.remount();
    for d in 0..20 {
        for f in 0..20 {
            assert_eq!(read(&bed.p(&format!("t/d{d}/s/f{f}"))), format!("{d} {f}........"));
        }
    }
}

#[test]
fn names_are_made_once() {
    let bed = Bed::new(|l| mkdir(l, "d"));
    let made = AtomicUsize::new(0);
    together(8, |_| {
        for n in 0..200 {
            let path = bed.p(&format!("d/{n}"));
            match errno(OpenOptions::new().write(true).create_new(true).open(&path)) {
                0 => drop(made.fetch_add(1, Ordering::Relaxed)),
                e => assert_eq!(e, libc::EEXIST),
            }
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 200);
    let removed = AtomicUsize::new(0);
    together(8, |_| {
        for n in 0..200 {
            match errno(fs::remove_file(bed.p(&format!("d/{n}")))) {
                0 => drop(removed.fetch_add(1, Ordering::Relaxed)),
                e => assert_eq!(e, libc::ENOENT),
            }
        }
    });
    assert_eq!(removed.load(Ordering::Relaxed), 200);
    assert_eq!(entries(&bed.p("d")), [""; 0]);
}

/// Creates, renames, links, unlinks and listings in the same two directories, over lower names too.
#[test]
fn a_busy_directory() {
    let mut bed = Bed::new(|l| {
        for n in 0..400 {
            put(l, &format!("a/l{n}"), format!("{n}"));
        }
        mkdir(l, "b");
    });
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        let reader = s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for dir in ["a", "b"] {
                    let mut seen = BTreeSet::new();
                    for entry in fs::read_dir(bed.p(dir)).unwrap() {
                        let name = entry.unwrap().file_name();
                        assert!(seen.insert(name.clone()), "{} twice", name.display());
                    }
                    assert!(seen.contains(std::ffi::OsStr::new("l399")) == (dir == "a"));
                }
            }
        });
        together(7, |n| {
            for round in 0..50 {
                let name = |part: &str| format!("{part}-{n}-{round}");
                let (x, y, z) = (bed.p("a").join(name("x")), bed.p("b").join(name("y")), bed.p("a").join(name("z")));
                fs::write(&x, name("content")).unwrap();
                fs::rename(&x, &y).unwrap();
                fs::hard_link(&y, &z).unwrap();
                let lower = bed.p(&format!("a/l{}", n * 50 + round));
                let moved = bed.p(&format!("b/l{}", n * 50 + round));
                fs::rename(&lower, &moved).unwrap();
                os::rename(&moved, &y, RenameFlags::EXCHANGE).unwrap();
                assert_eq!(read(&moved), name("content"));
                fs::remove_file(&moved).unwrap();
                assert_eq!(read(&z), name("content"));
                let dir = bed.p("a").join(name("dir"));
                fs::create_dir(&dir).unwrap();
                fs::rename(&dir, bed.p("b").join(name("dir"))).unwrap();
                if round % 2 == 0 {
                    fs::remove_dir(bed.p("b").join(name("dir"))).unwrap();
                    fs::remove_file(&z).unwrap();
                }
            }
        });
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    let list = "find a b -printf '%P %y %s %n %i\\n' | sort";
    let seen = bed.sh(list);
    assert_eq!(entries(&bed.p("a")).len(), 50 + 7 * 25);
    assert_eq!(entries(&bed.p("b")).len(), 7 * 50 + 7 * 25);
    bed.remount();
    assert_eq!(bed.sh(list), seen);
}

/// Directories moved into each other's places from all sides; no cycle, no deadlock, nothing lost.
#[test]
fn directories_moved_around() {
    let mut bed = Bed::new(|l| {
        for n in 0..6 {
            put(l, &format!("d{n}/sub/f"), format!("{n}"));
        }
    });
    together(6, |n| {
        for round in 0..60 {
            let other = (n + 1 + round % 5) % 6;
            // May fail in any of these ways while others move the same ones.
            let fine = |e: i32| {
                assert!([0, libc::ENOENT, libc::ENOTEMPTY, libc::EEXIST, libc::EINVAL].contains(&e), "errno {e}")
            };
            fine(errno(fs::rename(bed.p(&format!("d{n}/sub")), bed.p(&format!("d{other}/sub{n}")))));
            fine(errno(fs::rename(bed.p(&format!("d{other}/sub{n}")), bed.p(&format!("d{n}/sub")))));
            fine(errno(os::rename(&bed.p(&format!("d{n}")), &bed.p(&format!("d{other}")), RenameFlags::EXCHANGE)));
            fine(errno(fs::rename(bed.p(&format!("d{n}")), bed.p(&format!("d{other}/inside{n}")))));
            fine(errno(fs::rename(bed.p(&format!("d{other}/inside{n}")), bed.p(&format!("d{n}")))));
        }
    });
    let script = "find . -type f -exec cat {} + | fold -w1 | sort | tr -d '\\n'";
    assert_eq!(bed.sh(script), "012345");
    let list = "find . -printf '%P %y %i\\n' | sort";
    let seen = bed.sh(list);
    bed.remount();
    assert_eq!(bed.sh(script), "012345");
    assert_eq!(bed.sh(list), seen);
}

/// While a large file is copied up, others are served.
#[test]
fn copying_does_not_stop_others() {
    let bed = Bed::new(|l| {
        put(l, "d/big", vec![7; 200 << 20]);
        put(l, "d/small", "small");
    });
    let done = AtomicBool::new(false);
    let mut served = 0;
    thread::scope(|s| {
        s.spawn(|| {
            open_rw(&bed.p("d/big")).write_all_at(b"x", 0).unwrap();
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let path = bed.p(&format!("d/new{served}"));
            File::create(&path).unwrap();
            assert_eq!(read(&bed.p("d/small")), "small");
            fs::remove_file(path).unwrap();
            served += 1;
        }
    });
    println!("{served} rounds while a file was copied up");
    assert!(served > 3, "others waited for the copy: {served}");
}

/// Threads that read a file at all times see old or new, never anything else or an error.
#[test]
fn readers_during_copy_up() {
    for _ in 0..5 {
        let bed = Bed::new(|l| put(l, "f", vec![b'a'; 8 << 20]));
        together(6, |n| {
            if n == 0 {
                open_rw(&bed.p("f")).write_all_at(&[b'b'; 4096], 4 << 20).unwrap();
                return;
            }
            let file = File::open(bed.p("f")).unwrap();
            for _ in 0..40 {
                let mut buffer = [0; 4096];
                file.read_exact_at(&mut buffer, 4 << 20).unwrap();
                // Within a page Linux promises nothing about readers and writers at once.
                assert!(buffer.iter().all(|b| [b'a', b'b'].contains(b)), "{buffer:?}");
                assert_eq!(file.metadata().unwrap().len(), 8 << 20);
            }
        });
        assert_eq!(fs::read(bed.p("f")).unwrap()[4 << 20], b'b');
    }
}
