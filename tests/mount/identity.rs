//! Inode numbers and link counts.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::harness::{Bed, Setup, ino, mkdir, put, read};
use super::os;

/// Everything below `dir`, with the number that the listing and the one that stat says, which must agree.
fn numbers(dir: &Path) -> HashMap<PathBuf, u64> {
    let mut found = HashMap::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            assert_eq!(entry.ino(), meta.ino(), "listing and lookup of {}", entry.path().display());
            if meta.is_dir() {
                pending.push(entry.path());
            }
            if meta.is_file() {
                let by_descriptor = fs::File::open(entry.path()).unwrap().metadata().unwrap().ino();
                assert_eq!(by_descriptor, meta.ino(), "fstat of {}", entry.path().display());
            }
            found.insert(entry.path(), meta.ino());
        }
    }
    found
}

fn all_kinds(l: &[PathBuf]) {
    put(&l[0], "d/top", "1");
    put(&l[1], "d/low", "2");
    put(&l[1], "low/f", "2");
    put(&l[1], "file", "2");
    mkdir(&l[0], "empty");
    symlink("file", l[1].join("link")).unwrap();
    os::mknod(&l[1].join("pipe"), FileType::Fifo, 0o600, 0, 0).unwrap();
    put(&l[1], "hard", "h");
    fs::hard_link(l[1].join("hard"), l[1].join("low/hard2")).unwrap();
    fs::hard_link(l[1].join("hard"), l[1].join("hard3")).unwrap();
}

#[test]
fn numbers_are_unique_and_never_change() {
    let mut bed = Bed::layers(2, all_kinds);
    let before = numbers(&bed.m);
    let mut groups: HashMap<u64, Vec<&PathBuf>> = HashMap::new();
    before.iter().for_each(|(p, n)| groups.entry(*n).or_default().push(p));
    groups.remove(&before[&bed.p("hard")]).filter(|g| g.len() == 3).expect("three names of one file");
    assert!(groups.values().all(|g| g.len() == 1), "{groups:?}");
    let root = ino(&bed.m);
    // All at once.
    bed.sh("find . -mindepth 1 -exec chown -h 12:34 {} +; echo more >>hard; chmod 711 .");
    assert_eq!(numbers(&bed.m), before, "after copy-up");
    bed.drop_caches();
    assert_eq!(numbers(&bed.m), before, "after forgetting");
    bed.remount();
    assert_eq!(numbers(&bed.m), before, "after remount");
    assert_eq!(ino(&bed.m), root);
    let device = fs::metadata(&bed.m).unwrap().dev();
    assert!(before.keys().all(|p| fs::symlink_metadata(p).unwrap().dev() == device), "one device");
}

/// By lookup before any listing, one object after the other.
#[test]
fn numbers_do_not_depend_on_the_way() {
    let names = ["file", "d", "d/top", "d/low", "low", "low/f", "link", "pipe", "empty", "hard", "low/hard2"];
    let mut bed = Bed::layers(2, all_kinds);
    let by_lookup = names.map(|n| ino(&bed.p(n)));
    bed.remount();
    let by_listing = numbers(&bed.m);
    assert_eq!(names.map(|n| by_listing[&bed.p(n)]), by_lookup);
    bed.remount();
    bed.sh("touch -h file d d/top d/low low low/f link pipe empty hard");
    assert_eq!(names.map(|n| ino(&bed.p(n))), by_lookup, "looked up by the change itself");
    bed.remount();
    assert_eq!(names.map(|n| ino(&bed.p(n))), by_lookup, "after remount");
    assert_eq!(numbers(&bed.m), by_listing);
}

#[test]
fn numbers_survive_renames() {
    let mut bed = Bed::layers(2, all_kinds);
    let (file, dir, inner) = (ino(&bed.p("file")), ino(&bed.p("d")), ino(&bed.p("d/low")));
    bed.sh("mv file d/file2; mv d e; mv e/low low/moved");
    let check = |bed: &Bed| {
        assert_eq!([ino(&bed.p("e/file2")), ino(&bed.p("e")), ino(&bed.p("low/moved"))], [file, dir, inner]);
        numbers(&bed.m);
    };
    check(&bed);
    bed.remount();
    check(&bed);
}

/// New objects have numbers of their own, that nothing else gets while they live.
#[test]
fn numbers_of_new_objects() {
    let mut bed = Bed::layers(2, all_kinds);
    bed.sh("for i in 1 2 3 4 5 6 7 8 9; do echo >n$i; mkdir m$i; ln -s x l$i; done");
    let before = numbers(&bed.m);
    let mut distinct: Vec<_> = before.values().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), before.len() - 2);
    bed.remount();
    assert_eq!(numbers(&bed.m), before);
}

/// Layers on two file systems with equal numbers.
#[test]
fn layers_on_several_file_systems() {
    let mut bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "a", "disk"));
    let other = tempfile::Builder::new().prefix("laminafs-test-").tempdir_in("/dev/shm").unwrap();
    for n in 0..200 {
        put(other.path(), &format!("d/shm{n}"), "memory");
        put(&bed.upper, &format!("d/up{n}"), "upper");
    }
    bed.with_options(&format!("lowerdir={}:{}", bed.lowers[0].display(), other.path().display()));
    bed.mount();
    let before = numbers(&bed.m);
    let mut distinct: Vec<_> = before.values().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), before.len());
    bed.sh("for n in 1 2 3; do echo x >>d/shm$n; done");
    assert_eq!(numbers(&bed.m), before);
    bed.remount();
    let mut want = before;
    if !os::tells_its_uuid(other.path()) {
        // Before Linux 6.9 (FS_IOC_GETFSUUID) origins cannot say on which of the file systems they are: SEMANTICS.md section 2.
        for n in 1..=3 {
            let number = ino(&bed.u(&format!("d/shm{n}")));
            assert_ne!(want.insert(bed.p(&format!("d/shm{n}")), number), Some(number));
        }
    }
    assert_eq!(numbers(&bed.m), want);
    assert_eq!(read(&bed.p("d/shm1")), "memoryx\n");
    bed.unmount();
}

/// The count is right before any other name was looked up (fuse-overlayfs issue 435), and stays so.
#[test]
fn link_counts() {
    let mut bed = Bed::layers(2, all_kinds);
    let count = |name: &str| fs::metadata(bed.p(name)).unwrap().nlink();
    assert_eq!(count("hard"), 3);
    fs::write(bed.p("hard"), "changed").unwrap();
    assert_eq!(count("hard"), 3);
    assert_eq!(["low/hard2", "hard3"].map(|n| read(&bed.p(n))), ["changed", "changed"]);
    fs::remove_file(bed.p("hard3")).unwrap();
    assert_eq!((count("hard"), count("low/hard2")), (2, 2));
    fs::hard_link(bed.p("hard"), bed.p("hard4")).unwrap();
    assert_eq!(count("low/hard2"), 3);
    fs::rename(bed.p("low/hard2"), bed.p("d/hard5")).unwrap();
    assert_eq!((count("hard"), count("d/hard5")), (3, 3));
    bed.remount();
    let count = |name: &str| fs::metadata(bed.p(name)).unwrap().nlink();
    for name in ["d/hard5", "hard", "hard4"] {
        assert_eq!((count(name), read(&bed.p(name))), (3, "changed".into()), "{name}");
    }
    fs::write(bed.p("d/hard5"), "again").unwrap();
    assert_eq!(read(&bed.p("hard")), "again");
    for name in ["hard", "hard4", "d/hard5"] {
        fs::remove_file(bed.p(name)).unwrap();
    }
    assert_eq!(super::harness::entries(&bed.work.join("index")), [""; 0], "nothing stays of a deleted file");
}

/// Removing names one by one, across remounts, without ever writing.
#[test]
fn link_counts_of_removed_names() {
    let mut bed = Bed::new(|l| {
        put(l, "a", "x");
        for n in 1..5 {
            mkdir(l, &format!("d{n}"));
            fs::hard_link(l.join("a"), l.join(format!("d{n}/b"))).unwrap();
        }
    });
    let number = ino(&bed.p("a"));
    for n in 1..5 {
        assert_eq!(fs::metadata(bed.p("a")).unwrap().nlink(), 6 - n);
        fs::remove_file(bed.p(&format!("d{n}/b"))).unwrap();
        assert_eq!(fs::metadata(bed.p("a")).unwrap().nlink(), 5 - n);
        bed.remount();
        assert_eq!(fs::metadata(bed.p("a")).unwrap().nlink(), 5 - n, "after remount");
        assert_eq!(ino(&bed.p("a")), number);
    }
    assert_eq!(read(&bed.p("a")), "x");
}

/// Through kill -9: links stay links.
#[test]
fn links_survive_a_killed_daemon() {
    let mut bed = Bed::layers(2, all_kinds);
    let number = ino(&bed.p("hard"));
    fs::write(bed.p("hard3"), "changed").unwrap();
    bed.sh("sync -f .");
    bed.kill_daemon();
    bed.mount();
    for name in ["low/hard2", "hard", "hard3"] {
        let m = fs::metadata(bed.p(name)).unwrap();
        assert_eq!((m.ino(), m.nlink(), read(&bed.p(name))), (number, 3, "changed".into()), "{name}");
    }
}
