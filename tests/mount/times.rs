//! Times of files and directories.

use std::fs::{self};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::harness::{Bed, put};
use super::os::{self, open_append, open_rw};

#[test]
fn times_of_all_ages() {
    let old = (-315_619_200, 123_456_789); // 1960
    let mut bed = Bed::new(|l| {
        put(l, "lower", "x");
        put(l, "dir/f", "x");
        std::os::unix::fs::symlink("x", l.join("link")).unwrap();
        for name in ["lower", "dir", "link"] {
            os::set_times(&l.join(name), old, old).unwrap();
        }
        put(l, "set", "x");
    });
    let mtime = |path: &str| {
        let m = fs::symlink_metadata(bed.p(path)).unwrap();
        (m.mtime(), m.mtime_nsec())
    };
    for name in ["lower", "dir", "link"] {
        assert_eq!(mtime(name), old, "{name}");
    }
    os::set_times(&bed.p("set"), (-5, 250_000_000), (1_700_000_000, 1)).unwrap();
    let m = fs::metadata(bed.p("set")).unwrap();
    assert_eq!((m.atime(), m.atime_nsec(), m.mtime(), m.mtime_nsec()), (-5, 250_000_000, 1_700_000_000, 1));
    // Copy-up keeps them.
    bed.sh("chmod 600 lower; chown -h 5 link; chmod 700 dir");
    for name in ["lower", "dir", "link"] {
        assert_eq!(mtime(name), old, "{name} copied up");
    }
    bed.remount();
    for name in ["lower", "dir", "link"] {
        let m = fs::symlink_metadata(bed.u(name)).unwrap();
        assert_eq!((m.mtime(), m.mtime_nsec()), old, "{name} in upper");
        let m = fs::symlink_metadata(bed.p(name)).unwrap();
        assert_eq!((m.mtime(), m.mtime_nsec()), old, "{name} after remount");
    }
}

/// Reading and copying up entries does not change the times of directories; making and removing entries does.
#[test]
fn times_of_directories() {
    let bed = Bed::new(|l| {
        put(l, "d/f", "x");
        os::set_times(&l.join("d"), (1000, 0), (1000, 5)).unwrap();
    });
    let mtime = || fs::metadata(bed.p("d")).unwrap().mtime();
    open_rw(&bed.p("d/f")).write_all_at(b"y", 0).unwrap();
    assert_eq!(mtime(), 1000);
    assert_eq!(fs::metadata(bed.u("d")).unwrap().mtime(), 1000);
    fs::write(bed.p("d/g"), "").unwrap();
    assert!(mtime() > 1000);
    for change in ["rm d/g", "mkdir d/s", "rmdir d/s", "ln -s x d/l", "mv d/l d/k", "ln d/f d/h", "rm d/f"] {
        os::set_times(&bed.p("d"), (2000, 0), (2000, 0)).unwrap();
        bed.sh(change);
        assert!(mtime() > 2000, "{change}");
    }
}

/// A written file has a new time, and the size is right at once.
#[test]
fn times_of_written_files() {
    let mut bed = Bed::new(|l| {
        put(l, "f", "x");
        os::set_times(&l.join("f"), (1000, 0), (1000, 5)).unwrap();
    });
    let mut file = open_append(&bed.p("f"));
    file.write_all(b"yz").unwrap();
    let m = fs::metadata(bed.p("f")).unwrap();
    assert!(m.mtime() > 1000 && m.len() == 3);
    os::set_times(&bed.p("f"), (3000, 1), (3000, 2)).unwrap();
    drop(file);
    bed.remount();
    let m = fs::metadata(bed.p("f")).unwrap();
    assert_eq!((m.mtime(), m.mtime_nsec(), m.len()), (3000, 2, 3), "a time set after a write is overwritten");
}
