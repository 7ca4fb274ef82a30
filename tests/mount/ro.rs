//! Lower layers that cannot be written even by mistake, and mounts without an upper directory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, RenameFlags};

use super::harness::{Bed, Setup, entries, ino, mkdir, put, read};
use super::os::{self, Map, errno, open_rw};
use super::posix_acl::{ACCESS, DEFAULT, NAMED_USER, modify, text};

fn setup(no_upper: bool) -> Setup {
    Setup { lowers: 2, no_upper, read_only_bind: true, ..Setup::default() }
}

fn fill(l: &[std::path::PathBuf]) {
    put(&l[0], "d/top", "1");
    put(&l[1], "d/low", "2");
    put(&l[1], "d/s/f", "2");
    put(&l[1], "f", "content of f");
    put(&l[1], "big", vec![5; 300_000]);
    put(&l[1], "hard", "h");
    fs::hard_link(l[1].join("hard"), l[1].join("d/hard2")).unwrap();
    std::os::unix::fs::symlink("f", l[1].join("link")).unwrap();
    os::mknod(&l[1].join("pipe"), FileType::Fifo, 0o600, 0, 0).unwrap();
    os::set_xattr(&l[1].join("f"), "user.a", b"b").unwrap();
    modify(&l[1].join("d/s"), DEFAULT, &[(NAMED_USER, 7, 5)]);
}

/// A bit of everything.
#[test]
fn every_kind_of_change() {
    let mut bed = Bed::with(setup(false), fill);
    assert_eq!(errno(fs::write(bed.l("x"), "")), libc::EROFS, "the test itself: the layers are read-only");
    let held = File::open(bed.p("big")).unwrap();
    let map = Map::new(&held, 300_000, false, true).unwrap();
    assert_eq!(map.read(0, 1), [5]);
    open_rw(&bed.p("big")).write_all_at(b"new", 0).unwrap();
    assert_eq!(map.read(0, 3), b"new");
    fs::write(bed.p("hard"), "changed").unwrap();
    assert_eq!(read(&bed.p("d/hard2")), "changed");
    let number = ino(&bed.p("f"));
    bed.sh("chown 5:6 f link pipe d/top; chmod 700 d d/s; touch -d 1960-01-01 d/low");
    os::remove_xattr(&bed.p("f"), "user.a").unwrap();
    bed.sh("echo x >>f; mv f d/f2; ln d/f2 f3; mv d/s s2; mkdir d/s; echo >s2/acl; rm -r d/top; mkdir n; rmdir n; mkfifo q");
    os::rename(&bed.p("d"), &bed.p("big"), RenameFlags::EXCHANGE).unwrap();
    let check = |bed: &Bed| {
        assert_eq!(entries(&bed.m), ["big", "d", "f3", "hard", "link", "pipe", "q", "s2"]);
        assert_eq!(entries(&bed.p("big")), ["f2", "hard2", "low", "s"]);
        assert_eq!(entries(&bed.p("s2")), ["acl", "f"]);
        assert_eq!((read(&bed.p("f3")), ino(&bed.p("big/f2"))), ("content of fx\n".into(), number));
        assert_eq!(&fs::read(bed.p("d")).unwrap()[..4], b"new\x05");
        assert!(text(&bed.p("s2/acl"), ACCESS).contains("user:5:"));
    };
    check(&bed);
    drop((held, map));
    bed.remount();
    check(&bed);
    bed.sh("rm -r *");
    bed.remount();
    assert_eq!(entries(&bed.m), [""; 0]);
}

#[test]
fn mounts_without_upper() {
    let bed = Bed::with(setup(true), fill);
    assert_eq!(entries(&bed.p("d")), ["hard2", "low", "s", "top"]);
    assert_eq!(read(&bed.p("link")), "content of f");
    let p = |n: &str| bed.p(n);
    for (what, errno) in [
        ("create", errno(File::create(p("new")))),
        ("mkdir", errno(fs::create_dir(p("new")))),
        ("write", errno(fs::OpenOptions::new().write(true).open(p("f")))),
        ("remove", errno(fs::remove_file(p("f")))),
        ("rmdir", errno(fs::remove_dir(p("d/s")))),
        ("rename", errno(fs::rename(p("f"), p("g")))),
        ("link", errno(fs::hard_link(p("f"), p("g")))),
        ("symlink", errno(std::os::unix::fs::symlink("x", p("g")))),
        ("chown", errno(std::os::unix::fs::chown(p("f"), Some(1), Some(1)))),
        ("xattr", errno(os::set_xattr(&p("f"), "user.b", b""))),
        ("times", errno(os::set_times(&p("f"), (1, 1), (1, 1)))),
    ] {
        assert_eq!(errno, libc::EROFS, "{what}");
    }
    assert!(super::harness::mount_line(&bed.m).unwrap()[3].starts_with("ro,"));
    let file = File::open(p("big")).unwrap();
    assert_eq!(Map::new(&file, 300_000, false, true).unwrap().read(299_999, 1), [5]);
    file.sync_all().unwrap();
}

/// A read-only mount of layers whose upper is another mount's live upper directory.
#[test]
fn layers_of_a_live_mount() {
    let live = Bed::new(|l| put(l, "f", "lower"));
    fs::write(live.p("g"), "upper").unwrap();
    File::open(live.p("g")).unwrap().sync_all().unwrap();
    let mut bed = Bed::unmounted(Setup { no_upper: true, ..Setup::default() }, |l| mkdir(&l[0], "x"));
    bed.with_options(&format!("lowerdir={}:{}", live.upper.display(), live.lowers[0].display()));
    bed.mount();
    assert_eq!(entries(&bed.m), ["f", "g"]);
    bed.unmount();
}

/// One layer, no upper: just that directory.
#[test]
fn a_single_layer() {
    let bed = Bed::with(Setup { no_upper: true, ..Setup::default() }, |l| put(&l[0], "d/f", "x"));
    assert_eq!(read(&bed.p("d/f")), "x");
    assert_eq!(bed.sh("find . | sort"), ".\n./d\n./d/f");
}

/// `ro` with an upper directory: it is shown and not changed.
#[test]
fn read_only_with_upper() {
    let mut bed = Bed::new(|l| put(l, "f", "lower"));
    fs::write(bed.p("g"), "upper").unwrap();
    bed.unmount();
    let setup = Setup { options: "ro".into(), ..Setup::default() };
    bed.set(setup);
    bed.mount();
    assert_eq!(entries(&bed.m), ["f", "g"]);
    assert_eq!(errno(fs::write(bed.p("g"), "")), libc::EROFS);
}

/// Files that hold metadata only, with their data in a layer that provides nothing else (`::`).
#[test]
fn data_only_layers() {
    let mut bed = Bed::unmounted(Setup { lowers: 2, ..Setup::default() }, |l| {
        let file = File::create(l[0].join("f")).unwrap();
        file.set_len(9).unwrap();
        os::set_xattr(&l[0].join("f"), "trusted.overlay.metacopy", b"").unwrap();
        os::set_xattr(&l[0].join("f"), "trusted.overlay.redirect", b"/store/data").unwrap();
        put(&l[1], "store/data", "the bytes");
    });
    bed.with_options(&format!("lowerdir={}::{}", bed.lowers[0].display(), bed.lowers[1].display()));
    bed.mount();
    assert_eq!(entries(&bed.m), ["f"]);
    let held = File::open(bed.p("f")).unwrap();
    assert_eq!(read(&bed.p("f")), "the bytes");
    bed.sh("chmod 600 f");
    assert_eq!(read(&bed.p("f")), "the bytes");
    open_rw(&bed.p("f")).write_all_at(b"THE", 0).unwrap();
    let mut buffer = [0; 9];
    held.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"THE bytes");
    drop(held);
    bed.remount();
    assert_eq!(read(&bed.p("f")), "THE bytes");
    assert_eq!(os::xattr_names(&bed.p("f")), [""; 0]);
}

/// `index=off`: a name that is written becomes a file of its own, the others keep the old content.
#[test]
fn hard_links_without_an_index() {
    let mut bed = Bed::with(Setup { options: "index=off".into(), ..Setup::default() }, |l| {
        put(&l[0], "a", "old");
        fs::hard_link(l[0].join("a"), l[0].join("b")).unwrap();
        fs::hard_link(l[0].join("a"), l[0].join("c")).unwrap();
    });
    fs::remove_file(bed.p("c")).unwrap();
    fs::write(bed.p("a"), "new").unwrap();
    bed.remount();
    assert_eq!((read(&bed.p("a")), read(&bed.p("b")), entries(&bed.m).len()), ("new".into(), "old".into(), 2));
    bed.sh("ln b d; echo more >>d; rm b");
    bed.remount();
    assert_eq!((read(&bed.p("a")), read(&bed.p("d"))), ("new".into(), "oldmore\n".into()));
}
