//! Times that are kept, and those that a change of something else must not touch.

use std::fs::{self};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType};

use super::super::harness::{exists, mkdir, put, sh_in};
use super::super::os::{self};
use super::super::posix_acl::{ACCESS, NAMED_USER, modify};
use super::posix::mtime;
use super::{Site, everywhere};

/// The times of an object, for setting on another one.
fn copy_times(from: &Path, to: &Path) {
    let m = from.symlink_metadata().unwrap();
    os::set_times(to, (m.atime(), m.atime_nsec()), (m.mtime(), m.mtime_nsec())).unwrap();
}

/// Defect A13: the daemon panics at times before 1970; negative times become 0.
#[test]
fn times_of_any_age_are_shown_copied_up_and_set() {
    const TIMES: [(i64, i64); 11] = [
        (-2_147_483_648, 0),
        (-2_147_483_647, 999_999_999),
        (-1_000_000_000, 123_456_789),
        (-1, 0),
        (-1, 999_999_999),
        (0, 0),
        (0, 1),
        (2_147_483_647, 999_999_999),
        (2_147_483_648, 5),
        (4_294_967_296, 0),
        (15_032_385_535, 999_999_999),
    ];
    let make = |dir: &Path| {
        for (n, time) in TIMES.iter().enumerate() {
            put(dir, &format!("f{n}"), "x");
            mkdir(dir, &format!("d{n}"));
            symlink("x", dir.join(format!("l{n}"))).unwrap();
            os::mknod(&dir.join(format!("p{n}")), FileType::Fifo, 0o600, 0, 0).unwrap();
            for kind in ["f", "d", "l", "p"] {
                os::set_times(&dir.join(format!("{kind}{n}")), *time, *time).unwrap();
            }
        }
    };
    // What the file system makes of them.
    let bare = tempfile::tempdir().unwrap();
    make(bare.path());
    let names: Vec<String> = (0..TIMES.len()).flat_map(|n| ["f", "d", "l", "p"].map(|k| format!("{k}{n}"))).collect();
    everywhere(
        1,
        |l| make(&l[0]),
        |site| {
            let check = |site: &Site, what: &str| {
                for name in &names {
                    assert_eq!(mtime(&site.p(name)), mtime(&bare.path().join(name)), "{name} {what}");
                }
            };
            check(site, "in the lower layer");
            names.iter().for_each(|n| {
                rustix::fs::chownat(
                    CWD,
                    site.p(n),
                    rustix::fs::Uid::from_raw(3).into(),
                    None,
                    AtFlags::SYMLINK_NOFOLLOW,
                )
                .unwrap()
            });
            check(site, "copied up");
            site.bed.remount();
            check(site, "copied up, after a remount");
            for name in &names {
                os::set_times(&site.p(name), (1, 1), (1, 1)).unwrap();
                copy_times(&bare.path().join(name), &site.p(name));
            }
            check(site, "set");
            site.bed.remount();
            check(site, "set, after a remount");
        },
    );
}

fn dated(l: &[PathBuf]) {
    for name in ["t/a/b/f", "t/a/g", "t/h", "t/e/i"] {
        put(&l[1], name, "x");
    }
    put(&l[0], "t/a/top", "x");
    symlink("nowhere", l[1].join("t/link")).unwrap();
    fs::hard_link(l[1].join("t/h"), l[1].join("t/e/hard")).unwrap();
    for (n, name) in DATED.iter().enumerate() {
        for l in l.iter().filter(|l| exists(&l.join(name))) {
            os::set_times(&l.join(name), (5000, 0), (6000 + n as i64, 7)).unwrap();
        }
    }
}

/// What is in a directory before the directory.
const DATED: [&str; 11] =
    ["t/a/b/f", "t/a/b", "t/a/g", "t/a/top", "t/a", "t/e/i", "t/e/hard", "t/e", "t/h", "t/link", "t"];

/// fuse-overlayfs issue 400: the times of directories change when what is in them is copied up.
#[test]
fn changing_attributes_of_a_tree_changes_no_other_time() {
    type Change = fn(&Site);
    let changes: [(&str, Change); 6] = [
        ("owners", |s| drop(s.sh("chown -hR 42:43 t"))),
        ("modes", |s| drop(s.sh("chmod -R g+w t"))),
        ("times of access", |s| drop(s.sh("find t -exec touch -ac {} +"))),
        ("attributes", |s| {
            s.sh("find t ! -type l").lines().for_each(|path| os::set_xattr(&s.p(path), "user.a", b"b").unwrap());
        }),
        ("access control lists", |s| {
            let files = s.sh("find t -depth -type f");
            files.lines().for_each(|path| modify(&s.p(path), ACCESS, &[(NAMED_USER, 7, 1)]));
        }),
        ("some of each", |s| drop(s.sh("chgrp -R 5 t/a/b/f; chmod 600 t/e/hard t/a/g; chown 3 t/a"))),
    ];
    for (changed, change) in changes {
        everywhere(2, dated, |site| {
            let check = |site: &Site, what: &str| {
                for (n, name) in DATED.iter().enumerate().filter(|(_, name)| !["t/h", "t/e/hard"].contains(name)) {
                    assert_eq!(mtime(&site.p(name)), (6000 + n as i64, 7), "{changed}: {name} {what}");
                }
            };
            change(site);
            check(site, "at once");
            site.bed.drop_caches();
            check(site, "without caches");
            site.bed.remount();
            check(site, "after a remount");
        });
    }
}

/// fuse-overlayfs issue 384: tar says that a file changed as it read it. What it packs is what it packs of the layer.
#[test]
fn packing_a_tree_is_as_packing_the_layer() {
    const TAR: &str = "tar --sort=name --numeric-owner --xattrs --format=pax \
                       --pax-option=delete=atime,delete=ctime,exthdr.name=x -cf - t 2>&1 | md5sum";
    let packed = std::cell::RefCell::new(String::new());
    let fill = |l: &[PathBuf]| {
        dated(&[l[0].clone(), l[0].clone()]);
        (0..300).for_each(|n| put(&l[0], &format!("t/many/f{n}"), vec![n as u8; n * 17]));
        fs::hard_link(l[0].join("t/many/f7"), l[0].join("t/e/f7")).unwrap();
        os::set_xattr(&l[0].join("t/h"), "user.x", b"y").unwrap();
        *packed.borrow_mut() = sh_in(&l[0], TAR);
    };
    everywhere(1, fill, |site| {
        let want = packed.borrow().clone();
        for round in ["at first", "once more"] {
            assert_eq!(site.sh(TAR), want, "{round}");
        }
        site.sh("chown -hR 0:0 t");
        assert_eq!(site.sh(TAR), want, "copied up");
        site.bed.remount();
        assert_eq!(site.sh(TAR), want, "copied up, after a remount");
    });
}
