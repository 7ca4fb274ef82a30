//! Names: making, moving, linking, removing, listing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};

use super::harness::{Bed, Setup, entries, exists, ino, is_whiteout, mkdir, put, read};
use super::os::{self, errno};

#[test]
fn layers_merge_from_the_top() {
    let bed = Bed::layers(3, |l| {
        put(&l[0], "d/a", "1");
        put(&l[1], "d/a", "2");
        put(&l[1], "d/b", "2");
        put(&l[2], "d/b", "3");
        put(&l[2], "d/c", "3");
        put(&l[1], "f", "a file above a directory");
        put(&l[2], "f/x", "3");
        put(&l[0], "g/x", "a directory above a file");
        put(&l[1], "g", "2");
        put(&l[2], "g/y", "under the file");
    });
    assert_eq!(entries(&bed.m), ["d", "f", "g"]);
    assert_eq!(entries(&bed.p("d")), ["a", "b", "c"]);
    assert_eq!(["d/a", "d/b", "d/c"].map(|n| read(&bed.p(n))), ["1", "2", "3"]);
    assert!(bed.p("f").is_file());
    assert_eq!(entries(&bed.p("g")), ["x"]);
}

#[test]
fn markers_of_lower_layers() {
    let bed = Bed::layers(3, |l| {
        for name in ["dev", "aufs", "plain", "opaque/old", "opaque2/old", "opaque3/old", "deep/opq/old"] {
            put(&l[2], name, "3");
        }
        put(&l[2], "same/old", "3");
        os::mknod(&l[1].join("dev"), FileType::CharacterDevice, 0, 0, 0).unwrap();
        put(&l[1], ".wh.aufs", "");
        put(&l[1], "opaque/new", "2");
        os::set_xattr(&l[1].join("opaque"), "trusted.overlay.opaque", b"y").unwrap();
        put(&l[1], "opaque2/new", "2");
        put(&l[1], "opaque2/.wh..wh..opq", "");
        put(&l[1], "opaque3/new", "2");
        os::set_xattr(&l[1].join("opaque3"), "user.fuseoverlayfs.opaque", b"y").unwrap();
        put(&l[0], "opaque/top", "1");
        put(&l[0], "deep/opq/new", "1");
        os::set_xattr(&l[0].join("deep/opq"), "user.overlay.opaque", b"y").unwrap();
        // A marker acts on the layers below its own.
        put(&l[1], ".wh.same", "");
        put(&l[1], "same/new", "2");
    });
    assert_eq!(entries(&bed.m), ["deep", "opaque", "opaque2", "opaque3", "plain", "same"]);
    assert_eq!(entries(&bed.p("opaque")), ["new", "top"]);
    assert_eq!(entries(&bed.p("opaque2")), ["new"]);
    assert_eq!(entries(&bed.p("opaque3")), ["new"]);
    assert_eq!(entries(&bed.p("deep/opq")), ["new"]);
    assert_eq!(entries(&bed.p("same")), ["new"]);
    for name in ["dev", "aufs", ".wh.aufs", "opaque/old", "opaque2/.wh..wh..opq", "same/old", "deep/opq/old"] {
        assert!(!exists(&bed.p(name)), "{name}");
    }
}

/// fuse-overlayfs issues 425 and 151: the order of access, and a whiteout in the root.
#[test]
fn markers_work_in_any_order_of_access() {
    let setup = Setup { lowers: 2, no_upper: true, ..Setup::default() };
    let fill = |l: &[std::path::PathBuf]| {
        put(&l[1], "d/x", "2");
        put(&l[1], "d/s/x", "2");
        put(&l[1], "x", "2");
        put(&l[0], ".wh.x", "");
        put(&l[0], "d/s/new", "1");
        put(&l[0], "d/s/.wh..wh..opq", "");
    };
    for first in ["d/s/x", "d/x", "x", "d/s", ""] {
        let bed = Bed::with(setup.clone(), fill);
        let early = exists(&bed.p(first));
        assert_eq!(early, !["d/s/x", "x"].contains(&first), "{first}");
        assert!(exists(&bed.p("d/x")) && !exists(&bed.p("x")) && !exists(&bed.p("d/s/x")));
        assert_eq!(entries(&bed.p("d/s")), ["new"]);
        assert_eq!(entries(&bed.m), ["d"]);
    }
}

#[test]
fn making_everything() {
    let setup = Setup { options: "dev".into(), ..Setup::default() };
    let mut bed = Bed::with(setup, |l| put(&l[0], "d/f", "x"));
    fs::create_dir(bed.p("d/new")).unwrap();
    fs::write(bed.p("d/new/file"), "y").unwrap();
    symlink("../f", bed.p("d/new/link")).unwrap();
    os::mknod(&bed.p("d/pipe"), FileType::Fifo, 0o600, 0, 0).unwrap();
    os::mknod(&bed.p("d/sock"), FileType::Socket, 0o600, 0, 0).unwrap();
    os::mknod(&bed.p("d/null"), FileType::CharacterDevice, 0o666, 1, 3).unwrap();
    os::mknod(&bed.p("d/file"), FileType::RegularFile, 0o600, 0, 0).unwrap();
    let check = |bed: &Bed| {
        assert_eq!(entries(&bed.p("d")), ["f", "file", "new", "null", "pipe", "sock"]);
        assert_eq!(read(&bed.p("d/new/link")), "x");
        assert_eq!(fs::read_link(bed.p("d/new/link")).unwrap(), Path::new("../f"));
        assert!(fs::symlink_metadata(bed.p("d/pipe")).unwrap().file_type().is_fifo());
        assert_eq!(fs::metadata(bed.p("d/null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
    };
    check(&bed);
    bed.remount();
    check(&bed);
    for name in ["d/new", "d/pipe", "d/f", "d"] {
        assert_eq!(errno(fs::create_dir(bed.p(name))), libc::EEXIST, "{name}");
        assert_eq!(errno(symlink("x", bed.p(name))), libc::EEXIST, "{name}");
        assert_eq!(errno(os::mknod(&bed.p(name), FileType::Fifo, 0, 0, 0)), libc::EEXIST, "{name}");
    }
    // The root is missing nothing.
    assert_eq!(errno(fs::create_dir(bed.p("no/dir"))), libc::ENOENT);
}

#[test]
fn reserved_names_are_refused() {
    let bed = Bed::new(|l| put(l, "f", "x"));
    let bad = bed.p(".wh.f");
    assert_eq!(errno(File::create(&bad)), libc::EPERM);
    assert_eq!(errno(fs::create_dir(&bad)), libc::EPERM);
    assert_eq!(errno(symlink("x", &bad)), libc::EPERM);
    assert_eq!(errno(os::mknod(&bad, FileType::Fifo, 0, 0, 0)), libc::EPERM);
    assert_eq!(errno(fs::hard_link(bed.p("f"), &bad)), libc::EPERM);
    assert_eq!(errno(fs::rename(bed.p("f"), &bad)), libc::EPERM);
    assert_eq!(errno(fs::remove_file(&bad)), libc::ENOENT);
    assert!(!exists(&bad) && exists(&bed.p("f")));
    assert_eq!(entries(&bed.upper), [""; 0]);
    // Only the prefix counts.
    fs::write(bed.p(".whatever"), "").unwrap();
    fs::write(bed.p("x.wh.y"), "").unwrap();
}

/// fuse-overlayfs issue 326: an overlay inside the mount could not make its whiteouts.
#[test]
fn whiteouts_of_an_overlay_inside() {
    let mut bed = Bed::new(|l| {
        put(l, "d/f", "f");
        put(l, "g", "g");
    });
    let is_node =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0);
    os::mknod(&bed.p("d/c"), FileType::CharacterDevice, 0o600, 0, 0).unwrap();
    rustix::fs::renameat_with(CWD, bed.p("d/f"), CWD, bed.p("moved"), RenameFlags::WHITEOUT).unwrap();
    rustix::fs::renameat_with(CWD, bed.p("moved"), CWD, bed.p("g"), RenameFlags::WHITEOUT).unwrap();
    let both = RenameFlags::WHITEOUT | RenameFlags::NOREPLACE;
    assert_eq!(rustix::fs::renameat_with(CWD, bed.p("g"), CWD, bed.p("d/c"), both), Err(rustix::io::Errno::EXIST));
    for _ in 0..2 {
        for name in ["d/c", "d/f", "moved"] {
            assert!(is_node(&bed.p(name)), "{name}");
        }
        assert_eq!(read(&bed.p("g")), "f");
        let kinds: Vec<_> = fs::read_dir(bed.p("d")).unwrap().map(|e| e.unwrap().file_type().unwrap()).collect();
        assert!(kinds.iter().all(|k| k.is_char_device()), "{kinds:?}");
        bed.remount();
    }
}

#[test]
fn long_names() {
    let long = "n".repeat(255);
    let mut bed = Bed::new(|l| put(l, &long, "lower"));
    assert_eq!(read(&bed.p(&long)), "lower");
    fs::write(bed.p(&long), "upper").unwrap();
    let other = "é".repeat(127) + "x";
    fs::create_dir(bed.p(&other)).unwrap();
    fs::write(bed.p(&other).join(&long), "inside").unwrap();
    fs::remove_file(bed.p(&long)).unwrap();
    fs::write(bed.p("short"), "").unwrap();
    fs::rename(bed.p("short"), bed.p(&long)).unwrap();
    let too = "n".repeat(256);
    assert_eq!(errno(File::create(bed.p(&too))), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(bed.p(&too))), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::create_dir(bed.p(&too))), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::rename(bed.p(&long), bed.p(&too))), libc::ENAMETOOLONG);
    bed.remount();
    assert_eq!(entries(&bed.m), [long.clone(), other.clone()]);
    assert_eq!(read(&bed.p(&other).join(&long)), "inside");
}

#[test]
fn names_of_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"a\xff\n \\:,\"'\t");
    let mut bed = Bed::new(|l| fs::write(l.join(odd), "x").unwrap());
    fs::write(bed.m.join(odd), "y").unwrap();
    bed.remount();
    assert_eq!(read(&bed.m.join(odd)), "y");
    fs::remove_file(bed.m.join(odd)).unwrap();
    assert_eq!(fs::read_dir(&bed.m).unwrap().count(), 0);
}

#[test]
fn removing() {
    let mut bed = Bed::layers(2, |l| {
        put(&l[0], "f", "1");
        put(&l[1], "f", "2");
        put(&l[1], "d/e/f", "2");
        mkdir(&l[1], "empty");
        symlink("f", l[1].join("link")).unwrap();
    });
    assert_eq!(errno(fs::remove_dir(bed.p("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_dir(bed.p("f"))), libc::ENOTDIR);
    assert_eq!(errno(fs::remove_file(bed.p("d"))), libc::EISDIR);
    assert_eq!(errno(fs::remove_file(bed.p("none"))), libc::ENOENT);
    for name in ["f", "link"] {
        fs::remove_file(bed.p(name)).unwrap();
        assert!(is_whiteout(&bed.u(name)), "{name}");
    }
    fs::remove_dir(bed.p("empty")).unwrap();
    fs::remove_file(bed.p("d/e/f")).unwrap();
    fs::remove_dir(bed.p("d/e")).unwrap();
    let check = |bed: &Bed| {
        assert_eq!(entries(&bed.m), ["d"]);
        assert_eq!(entries(&bed.p("d")), [""; 0]);
        for name in ["f", "link", "empty", "d/e", "d/e/f"] {
            assert!(!exists(&bed.p(name)), "{name}");
        }
    };
    check(&bed);
    bed.remount();
    check(&bed);
    assert!(is_whiteout(&bed.u("d/e")) && is_whiteout(&bed.u("empty")));
    // All whiteouts share one inode.
    assert_eq!(ino(&bed.u("f")), ino(&bed.u("d/e")));
}

/// What upper alone had leaves no whiteout (fuse-overlayfs issue 327).
#[test]
fn no_needless_whiteouts() {
    let mut bed = Bed::new(|l| put(l, "d/f", "x"));
    bed.sh("echo >new; mv new newer; mkdir n; mv n n2; echo >d/a; mv d/a d/b; rm newer d/b; rmdir n2; mkdir o; echo >o/f; rm o/f; rmdir o");
    bed.unmount();
    assert_eq!(entries(&bed.upper), ["d"]);
    assert_eq!(entries(&bed.u("d")), [""; 0]);
}

/// No whiteouts in opaque directories (fuse-overlayfs issue 306).
#[test]
fn no_whiteouts_in_opaque_directories() {
    let mut bed = Bed::new(|l| put(l, "d/f", "x"));
    bed.sh("rm -r d; mkdir d; echo >d/f; rm d/f");
    bed.unmount();
    assert_eq!(entries(&bed.u("d")), [""; 0]);
    assert_eq!(os::get_xattr(&bed.u("d"), "trusted.overlay.opaque").unwrap(), b"y");
}

/// Deleted things do not come back: fuse-overlayfs issues 136, 151, 279, 324, 354, 478, and defects A2, A3.
#[test]
fn no_resurrection() {
    let scripts = [
        ("rm f; touch f; rm f", "f"),
        ("rm -r d; mkdir d", "d/a"),
        ("rm -r d; mkdir d; rmdir d", "d"),
        ("rm -r d; mkdir -p d/s; echo >d/s/new; rm d/s/new", "d/s/a"),
        ("rm -r p/d; mkdir p/d; touch p/d/a; rm p/d/a", "p/d/old"),
        (
            "rm -r p/d; mkdir p/d; touch p/d/a; rm -r p/d; mkdir p/d; touch p/d/b; rm p/d/b; rmdir p/d; mkdir p/d",
            "p/d/old",
        ),
        ("rm -r p; mkdir -p p/d; rm -r p/d; mkdir p/d", "p/d/old"),
        ("rm f; ln -s x f; rm f", "f"),
        ("rm f; mkdir f; rmdir f", "f"),
        ("rm f; mkfifo f; mv f g; rm g", "f"),
        ("rm f; echo new >g; mv g f; rm f", "f"),
        ("mv f g; rm g", "f"),
        ("rm f; echo new >n; mv n f; mv f g", "f"),
        ("mv d e; rm -r e", "d"),
        ("mv d e; mkdir d", "d/a"),
        ("mv d e; mkdir d; rmdir d; mv e d; rm d/a", "d/a"),
        ("rm -r d; mv p d", "d/a"),
        ("rm -r d; mkdir x; mv x d", "d/a"),
        ("rm d/a d/s/a; rmdir d/s; mkdir x; mv -T x d", "d/a"),
        ("mkdir x; rm -r d; mv x d; mv d y; mkdir d", "d/a"),
    ];
    for (script, gone) in scripts {
        let mut bed = Bed::layers(2, |l| {
            put(&l[1], "f", "2");
            put(&l[0], "f", "1");
            put(&l[1], "d/a", "2");
            put(&l[1], "d/s/a", "2");
            put(&l[1], "p/d/old", "2");
            mkdir(&l[0], "p/d");
        });
        bed.sh(script);
        assert!(!exists(&bed.p(gone)), "{script}");
        let listing = "find . -printf '%P %y\\n' | sort";
        let seen = bed.sh(listing);
        bed.drop_caches();
        assert!(!exists(&bed.p(gone)), "{script}: after dropping caches");
        assert_eq!(bed.sh(listing), seen, "{script}");
        bed.remount();
        assert!(!exists(&bed.p(gone)), "{script}: after remount");
        assert_eq!(bed.sh(listing), seen, "{script}: after remount");
    }
}

#[test]
fn things_over_whiteouts_stay() {
    let mut bed = Bed::new(|l| {
        for n in 0..6 {
            put(l, &format!("f{n}"), "x");
        }
        put(l, "d/x", "x");
    });
    bed.sh("rm f* d/x; ln -s to f0; echo new >f1; mkdir f2; mkfifo f3; echo moved >t; mv t f4; ln f4 f5; mkdir t; mv -T t d");
    let list = "find . -printf '%P %y %l\\n' | sort";
    let seen = bed.sh(list);
    assert_eq!(seen, " d \nd d \nf0 l to\nf1 f \nf2 d \nf3 p \nf4 f \nf5 f");
    bed.remount();
    assert_eq!(bed.sh(list), seen);
}

#[test]
fn linking() {
    let mut bed = Bed::new(|l| {
        put(l, "d/f", "x");
        put(l, "gone", "y");
        mkdir(l, "e");
    });
    fs::hard_link(bed.p("d/f"), bed.p("e/g")).unwrap();
    assert_eq!(errno(fs::hard_link(bed.p("d/f"), bed.p("gone"))), libc::EEXIST);
    assert_eq!(errno(fs::hard_link(bed.p("d"), bed.p("dir"))), libc::EPERM);
    fs::remove_file(bed.p("gone")).unwrap();
    fs::hard_link(bed.p("e/g"), bed.p("gone")).unwrap();
    fs::write(bed.p("gone"), "changed").unwrap();
    let check = |bed: &Bed| {
        for name in ["d/f", "e/g", "gone"] {
            assert_eq!(read(&bed.p(name)), "changed", "{name}");
            assert_eq!(
                (ino(&bed.p(name)), fs::metadata(bed.p(name)).unwrap().nlink()),
                (ino(&bed.p("d/f")), 3),
                "{name}"
            );
        }
    };
    check(&bed);
    bed.remount();
    check(&bed);
    fs::remove_file(bed.p("d/f")).unwrap();
    assert_eq!(fs::metadata(bed.p("gone")).unwrap().nlink(), 2);
    // Onto another name of the same file: nothing happens (rename(2)).
    fs::rename(bed.p("gone"), bed.p("e/g")).unwrap();
    assert!(exists(&bed.p("gone")) && exists(&bed.p("e/g")));
    symlink("x", bed.p("s")).unwrap();
    fs::hard_link(bed.p("s"), bed.p("s2")).unwrap();
    assert_eq!(ino(&bed.p("s")), ino(&bed.p("s2")));
}

#[test]
fn big_trees_are_removed() {
    let mut bed = Bed::new(|l| {
        for n in 0..1500 {
            put(l, &format!("big/f{n}"), "x");
        }
        for n in 0..60 {
            put(l, &format!("big/d{n}/s/f"), "x");
        }
    });
    for n in 0..1500 {
        fs::write(bed.p(&format!("big/u{n}")), "y").unwrap();
    }
    assert_eq!(entries(&bed.p("big")).len(), 3060);
    bed.sh("rm -rf big");
    assert_eq!(entries(&bed.m), [""; 0]);
    bed.sh("mkdir big; touch big/one");
    bed.remount();
    assert_eq!(entries(&bed.p("big")), ["one"]);
}

/// A directory stays usable for who is in it when it is removed.
#[test]
fn removed_directories() {
    let bed = Bed::new(|l| put(l, "d/f", "x"));
    assert_eq!(
        bed.sh("cd d; rm f; rmdir ../d; ls -A; touch f 2>/dev/null || echo refused; stat -c %h ."),
        "refused\n0"
    );
    bed.sh("mkdir d; cd d; mkdir s; cd s; rmdir ../s; ! mkdir t 2>/dev/null");
}

/// Deep trees, deeper than PATH_MAX from the root.
#[test]
fn very_deep_trees() {
    let mut bed = Bed::new(|l| mkdir(l, "d"));
    let name = "x".repeat(200);
    let deepest = |bed: &Bed, make: bool| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = rustix::fs::open(bed.p("d"), flags, Mode::empty()).unwrap();
        for _ in 0..40 {
            if make {
                rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
            }
            at = rustix::fs::openat(&at, &*name, flags, Mode::empty()).unwrap();
        }
        at
    };
    let file = |bed: &Bed, make: bool| {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        File::from(rustix::fs::openat(deepest(bed, make), "f", flags, Mode::RWXU).unwrap())
    };
    file(&bed, true).write_all(b"deep").unwrap();
    bed.remount();
    file(&bed, false).write_all(b" and deeper").unwrap();
    let mut text = String::new();
    file(&bed, false).read_to_string(&mut text).unwrap();
    assert_eq!(text, "deep and deeper");
    bed.sh("rm -r d");
    assert_eq!(entries(&bed.m), [""; 0]);
}
