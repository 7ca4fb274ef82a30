//! One object, one number; names of a file stay names of one file. Programs that pack trees (tar, rsync, container
//! engines) tell hard links by number and count: wrong ones lose or double data.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, RenameFlags};

use super::super::harness::{Bed, Setup, entries, ino, mkdir, put, read, text_of};
use super::super::os::{self, open_rw};
use super::{Site, alone, everywhere};

fn linked(l: &[PathBuf]) {
    put(&l[1], "a", "old data");
    mkdir(&l[1], "d");
    fs::hard_link(l[1].join("a"), l[1].join("d/b")).unwrap();
    fs::hard_link(l[1].join("a"), l[1].join("c")).unwrap();
    put(&l[1], "single", "single");
    mkdir(&l[0], "d");
}

const NAMES: [&str; 3] = ["a", "d/b", "c"];

fn count(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().nlink()
}

/// fuse-overlayfs issue 435: the count is 1 until the second name was looked up.
#[test]
fn link_counts_are_right_at_the_first_look() {
    for first in NAMES {
        everywhere(2, linked, |site| {
            assert_eq!(count(&site.p(first)), 3, "{first}");
            site.bed.remount();
            assert_eq!(File::open(site.p(first)).unwrap().metadata().unwrap().nlink(), 3, "{first}");
            site.bed.remount();
            open_rw(&site.p(first)).write_all_at(b"NEW", 0).unwrap();
            site.bed.remount();
            assert_eq!(count(&site.p(first)), 3, "{first}, copied up");
        });
    }
}

/// fuse-overlayfs issue 192: three after making one link.
#[test]
fn a_link_makes_one_more() {
    everywhere(2, linked, |site| {
        for (old, new, want) in [("single", "s1", 2), ("s1", "d/s2", 3), ("a", "a1", 4), ("d/b", "d/a2", 5)] {
            fs::hard_link(site.p(old), site.p(new)).unwrap();
            assert_eq!((count(&site.p(old)), count(&site.p(new))), (want, want), "{new}");
            assert_eq!(ino(&site.p(old)), ino(&site.p(new)), "{new}");
        }
        site.bed.remount();
        for (name, want) in [("single", 3), ("s1", 3), ("d/s2", 3), ("a", 5), ("a1", 5), ("d/a2", 5), ("c", 5)] {
            assert_eq!(count(&site.p(name)), want, "{name}");
        }
    });
}

/// fuse-overlayfs issue 108 and defect A14: after the copy-up of one name the others lead to the lower file, now and then.
#[test]
fn a_change_through_one_name_is_seen_through_all() {
    for first in NAMES {
        everywhere(2, linked, |site| {
            let readers = NAMES.map(|n| File::open(site.p(n)).unwrap());
            open_rw(&site.p(first)).write_all_at(b"NEW", 0).unwrap();
            let check = |site: &Site| {
                let numbers = NAMES.map(|n| ino(&site.p(n)));
                assert!(numbers.iter().all(|&n| n == numbers[0]), "{numbers:?}");
                NAMES.iter().for_each(|n| assert_eq!(read(&site.p(n)), "NEW data", "{first} -> {n}"));
            };
            check(site);
            let mut buffer = [0; 8];
            for reader in &readers {
                reader.read_exact_at(&mut buffer, 0).unwrap();
                assert_eq!(&buffer, b"NEW data");
            }
            site.bed.drop_caches();
            check(site);
            drop(readers);
            site.bed.remount();
            check(site);
            let other = NAMES.into_iter().find(|n| *n != first).unwrap();
            fs::set_permissions(site.p(other), std::os::unix::fs::PermissionsExt::from_mode(0o604)).unwrap();
            assert_eq!(site.p(first).metadata().unwrap().mode() & 0o7777, 0o604);
        });
    }
}

/// Removing, replacing, moving and exchanging names one after the other.
#[test]
fn names_of_a_file_go_one_by_one() {
    everywhere(2, linked, |site| {
        let number = ino(&site.p("a"));
        fs::rename(site.p("d/b"), site.p("moved")).unwrap();
        assert_eq!((count(&site.p("a")), ino(&site.p("moved"))), (3, number));
        fs::rename(site.p("single"), site.p("c")).unwrap();
        assert_eq!((count(&site.p("a")), count(&site.p("c"))), (2, 1));
        os::rename(&site.p("a"), &site.p("c"), RenameFlags::EXCHANGE).unwrap();
        assert_eq!((ino(&site.p("c")), count(&site.p("c")), read(&site.p("a"))), (number, 2, "single".into()));
        site.bed.remount();
        assert_eq!((ino(&site.p("c")), count(&site.p("c"))), (number, 2));
        // Onto another name of itself: nothing happens.
        fs::rename(site.p("moved"), site.p("c")).unwrap();
        assert_eq!(count(&site.p("moved")), 2);
        fs::remove_file(site.p("c")).unwrap();
        assert_eq!(count(&site.p("moved")), 1);
        let held = File::open(site.p("moved")).unwrap();
        fs::remove_file(site.p("moved")).unwrap();
        assert_eq!((held.metadata().unwrap().nlink(), held.metadata().unwrap().ino()), (0, number));
        drop(held);
        assert_eq!(entries(&site.bed.work.join("index")), [""; 0]);
    });
}

/// Numbers of a directory by plain listing, by listing with attributes, by lookup and by descriptor.
fn numbers(dir: &Path) -> HashMap<String, u64> {
    let listed = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let listed: HashMap<String, u64> = listed.map(|e| (e.file_name().into_string().unwrap(), e.ino())).collect();
    for (name, number) in &listed {
        let path = dir.join(name);
        assert_eq!(ino(&path), *number, "{name}");
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
        assert_eq!(rustix::fs::fstat(&fd).unwrap().st_ino, *number, "{name}");
    }
    listed
}

/// fuse-overlayfs issue 391 and defects B1, B2, B3: the listing gives the number of the lowest layer, lookup that of the
/// topmost, getattr another one; two files get the same, and copy-up or a remount changes it.
#[test]
fn numbers_are_the_same_by_listing_and_by_lookup() {
    let fill = |l: &[PathBuf]| {
        for n in 0..20 {
            // Made in different order, so that equal names have different numbers in the layers.
            put(&l[0], &format!("f{n}"), "top");
            put(&l[1], &format!("f{}", 19 - n), "below");
            put(&l[0], &format!("d{n}/x"), "");
            put(&l[1], &format!("d{}/y", 19 - n), "");
            symlink("x", l[1].join(format!("l{n}"))).unwrap();
            os::mknod(&l[1].join(format!("p{n}")), FileType::Fifo, 0o600, 0, 0).unwrap();
        }
    };
    everywhere(2, fill, |site| {
        let first = numbers(&site.p(""));
        let mut distinct: Vec<_> = first.values().collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 80);
        site.sh("for n in 1 3 5 7 9; do echo x >>f$n; touch -h l$n p$n d$n; done; touch .");
        assert_eq!(numbers(&site.p("")), first);
        site.bed.remount();
        // By lookup first this time.
        for (name, number) in &first {
            assert_eq!(ino(&site.p(name)), *number, "{name}");
        }
        assert_eq!(numbers(&site.p("")), first);
    });
}

/// fuse-overlayfs issue 376: the listing of one directory shows entries of another.
#[test]
fn listings_are_of_their_own_directory() {
    let fill = |l: &[PathBuf]| {
        for n in 0..50 {
            put(&l[0], &format!("d{n}/top-{n}"), "");
            put(&l[1], &format!("d{n}/low-{n}"), "");
        }
    };
    everywhere(2, fill, |site| {
        let check = |site: &Site, at: usize, name: usize| {
            let want = [format!("low-{name}"), format!("top-{name}")];
            assert_eq!(entries(&site.p(&format!("d{at}"))), want, "d{at}");
        };
        (0..50).for_each(|n| check(site, n, n));
        // Names change hands.
        for n in (0..50).step_by(2) {
            let (a, b) = (site.p(&format!("d{n}")), site.p(&format!("d{}", n + 1)));
            os::rename(&a, &b, RenameFlags::EXCHANGE).unwrap();
        }
        (0..50).for_each(|n| check(site, n, n ^ 1));
        site.bed.remount();
        (0..50).for_each(|n| check(site, n, n ^ 1));
    });
}

/// Defect B5: the reply to a creation differs from what a later look says.
#[test]
fn new_objects_are_at_once_what_they_are_later() {
    everywhere(2, linked, |site| {
        site.sh("umask 027; echo data >file; mkdir dir; ln -s to link; mkfifo pipe; ln file hard; ln a hard2");
        let look = |site: &Site| {
            ["file", "dir", "link", "pipe", "hard", "hard2", "a"].map(|n| {
                let m = site.p(n).symlink_metadata().unwrap();
                let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
                (n, m.ino(), m.mode(), m.nlink(), m.uid(), m.gid(), m.size(), m.dev(), times)
            })
        };
        let first = look(site);
        site.bed.drop_caches();
        assert_eq!(look(site), first);
        let device = first[0].7;
        site.bed.remount();
        let later = look(site).map(|mut o| {
            // A mount is a device of its own each time.
            o.7 = device;
            o
        });
        assert_eq!(later, first);
    });
}

/// fuse-overlayfs issues 359 and 437: directories that are the same one below (the same layer twice, a bind mount as a
/// layer) are left out of listings.
#[test]
fn layers_that_are_one_directory() {
    let mut bed = Bed::unmounted(Setup { lowers: 2, ..Setup::default() }, |l| {
        put(&l[0], "d/s/f", "x");
        put(&l[0], "e/s/f", "x");
        fs::hard_link(l[0].join("d/s/f"), l[0].join("e/s/g")).unwrap();
    });
    let l = bed.lowers.clone();
    let script = format!(
        "mount --bind {0} {1}; {program} mount -o lowerdir={1}:{0}:{0}/d:{0}/e,upperdir={up},workdir={work} {m}
        (cd {m}; find . -mindepth 1 -printf '%P %n\\n' | LC_ALL=C sort; stat -c %i d e s d/s e/s | sort -u | wc -l
        echo y >>d/s/f; cat e/s/g); {program} umount {m}",
        l[0].display(),
        l[1].display(),
        program = super::super::harness::PROGRAM,
        up = bed.upper.display(),
        work = bed.work.display(),
        m = bed.m.display(),
    );
    let output = alone(&[], &script);
    let want = "d 1\nd/s 1\nd/s/f 2\ne 1\ne/s 1\ne/s/f 1\ne/s/g 2\ns 1\ns/f 2\ns/g 2\n5\nxy";
    assert_eq!(text_of(output.stdout), want, "{}", text_of(output.stderr));
    bed.unmount();
}

/// The same inside of a layer: a bind mount in it is not entered, as kernel overlayfs does not; what it covers is shown.
#[test]
fn mounts_inside_of_layers_are_not_entered() {
    let mut bed = Bed::unmounted(Setup::default(), |l| {
        put(&l[0], "a/f", "x");
        put(&l[0], "b/covered", "x");
        mkdir(&l[0], "c/s");
    });
    let script = format!(
        "cd {dir}; mount --bind lower/1/a lower/1/b; mount -t tmpfs none lower/1/c; touch lower/1/c/inside
        {program} mount -o {options} m
        find m -mindepth 1 -printf '%P\\n' | LC_ALL=C sort; stat -c %i m/a m/b m/c | sort -u | wc -l
        touch m/b/new m/c/new; rm -r m/c; ls m/b m; {program} umount m; ls lower/1/c",
        dir = bed.dir.display(),
        program = super::super::harness::PROGRAM,
        options = bed.option_string(),
    );
    let output = alone(&[], &script);
    let want = "a\na/f\nb\nb/covered\nc\nc/s\n3\nm:\na\nb\n\nm/b:\ncovered\nnew\ninside";
    assert_eq!(text_of(output.stdout), want, "{}", text_of(output.stderr));
    bed.unmount();
}

/// Removed and made again: the new object is not the old one.
#[test]
fn numbers_are_not_given_to_something_else_while_they_are_in_use() {
    everywhere(2, linked, |site| {
        let held: Vec<File> = (0..20)
            .map(|n| {
                let path = site.p(&format!("n{n}"));
                fs::write(&path, format!("{n}")).unwrap();
                let file = File::open(&path).unwrap();
                fs::remove_file(&path).unwrap();
                file
            })
            .collect();
        (0..20).for_each(|n| fs::write(site.p(&format!("n{n}")), "new").unwrap());
        let mut all: Vec<u64> = held.iter().map(|f| f.metadata().unwrap().ino()).collect();
        all.extend((0..20).map(|n| ino(&site.p(&format!("n{n}")))));
        all.extend([ino(&site.p("a")), ino(&site.p("single")), ino(&site.p("d"))]);
        all.sort();
        let before = all.len();
        all.dedup();
        assert_eq!(all.len(), before);
        let mut buffer = [0; 2];
        held.iter().enumerate().for_each(|(n, f)| {
            let len = f.read_at(&mut buffer, 0).unwrap();
            assert_eq!(buffer[..len], *format!("{n}").as_bytes());
        });
    });
}
