//! Renaming and exchanging.

use std::fs::{self};

use rustix::fs::RenameFlags;

use super::harness::{Bed, Setup, entries, mkdir, put, read};
use super::os::{self, errno};

#[test]
fn renaming_files() {
    let mut bed = Bed::layers(2, |l| {
        for name in ["a", "b", "d/c", "e/x"] {
            put(&l[1], name, name);
        }
        put(&l[0], "top", "top");
    });
    fs::rename(bed.p("a"), bed.p("new")).unwrap();
    fs::rename(bed.p("b"), bed.p("top")).unwrap();
    fs::rename(bed.p("d/c"), bed.p("e/c")).unwrap();
    fs::rename(bed.p("e/c"), bed.p("a")).unwrap();
    assert_eq!(errno(fs::rename(bed.p("none"), bed.p("x"))), libc::ENOENT);
    assert_eq!(errno(fs::rename(bed.p("a"), bed.p("d"))), libc::EISDIR);
    assert_eq!(errno(fs::rename(bed.p("d"), bed.p("a"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(bed.p("d"), bed.p("e"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(bed.p("e"), bed.p("e/sub"))), libc::EINVAL);
    let check = |bed: &Bed| {
        assert_eq!(entries(&bed.m), ["a", "d", "e", "new", "top"]);
        assert_eq!(["a", "new", "top", "e/x"].map(|n| read(&bed.p(n))), ["d/c", "a", "b", "e/x"]);
        assert_eq!(entries(&bed.p("d")), [""; 0]);
    };
    check(&bed);
    bed.remount();
    check(&bed);
}

#[test]
fn rename_without_replacing() {
    let bed = Bed::new(|l| {
        put(l, "a", "a");
        put(l, "b", "b");
        put(l, "gone", "x");
    });
    let no_replace = |from: &str, to: &str| os::rename(&bed.p(from), &bed.p(to), RenameFlags::NOREPLACE);
    assert_eq!(errno(no_replace("a", "b")), libc::EEXIST);
    fs::remove_file(bed.p("gone")).unwrap();
    // A whiteout is nothing (fuse-overlayfs issue 273).
    no_replace("a", "gone").unwrap();
    no_replace("b", "c").unwrap();
    assert_eq!(entries(&bed.m), ["c", "gone"]);
    assert_eq!((read(&bed.p("gone")), read(&bed.p("c"))), ("a".into(), "b".into()));
}

#[test]
fn exchanging() {
    let mut bed = Bed::layers(2, |l| {
        put(&l[0], "f", "f");
        put(&l[1], "d/g", "g");
        put(&l[1], "d2/h", "h");
        put(&l[1], "d3/h", "h");
    });
    fs::write(bed.p("u"), "u").unwrap();
    let swap = |a: &str, b: &str| os::rename(&bed.p(a), &bed.p(b), RenameFlags::EXCHANGE);
    assert_eq!(errno(swap("f", "none")), libc::ENOENT);
    swap("f", "d/g").unwrap();
    swap("d", "u").unwrap();
    swap("d2", "d3").unwrap();
    let check = |bed: &Bed| {
        assert_eq!(entries(&bed.m), ["d", "d2", "d3", "f", "u"]);
        assert_eq!(["d", "f", "u/g", "d2/h"].map(|n| read(&bed.p(n))), ["u", "g", "f", "h"]);
    };
    check(&bed);
    bed.remount();
    check(&bed);
}

#[test]
fn renaming_directories_of_lower_layers() {
    let mut bed = Bed::layers(2, |l| {
        put(&l[0], "d/a", "1");
        put(&l[1], "d/b", "2");
        put(&l[1], "d/deep/er/c", "3");
        put(&l[1], "other/x", "x");
        mkdir(&l[1], "hollow");
    });
    fs::rename(bed.p("d"), bed.p("moved")).unwrap();
    fs::rename(bed.p("moved/deep"), bed.p("other/deep")).unwrap();
    fs::rename(bed.p("moved"), bed.p("other/moved")).unwrap();
    fs::write(bed.p("other/moved/new"), "new").unwrap();
    fs::remove_file(bed.p("other/moved/a")).unwrap();
    fs::rename(bed.p("other/deep/er"), bed.p("hollow")).unwrap();
    fs::create_dir(bed.p("d")).unwrap();
    let check = |bed: &Bed| {
        assert_eq!(entries(&bed.m), ["d", "hollow", "other"]);
        assert_eq!(entries(&bed.p("d")), [""; 0]);
        assert_eq!(entries(&bed.p("other/moved")), ["b", "new"]);
        assert_eq!(entries(&bed.p("other/deep")), [""; 0]);
        assert_eq!(entries(&bed.p("hollow")), ["c"]);
        assert_eq!((read(&bed.p("other/moved/b")), read(&bed.p("hollow/c"))), ("2".into(), "3".into()));
    };
    check(&bed);
    bed.drop_caches();
    check(&bed);
    bed.remount();
    check(&bed);
    assert_eq!(os::get_xattr(&bed.u("other/moved"), "trusted.overlay.redirect").unwrap(), b"/d");
}

#[test]
fn without_redirects_directories_cannot_be_renamed() {
    let setup = Setup { options: "redirect_dir=off".into(), ..Setup::default() };
    let bed = Bed::with(setup, |l| put(&l[0], "d/f", "x"));
    assert_eq!(errno(fs::rename(bed.p("d"), bed.p("e"))), libc::EXDEV);
    // mv copies then.
    bed.sh("mv d e; mkdir n; mv n m");
    assert_eq!(entries(&bed.m), ["e", "m"]);
    assert_eq!(read(&bed.p("e/f")), "x");
}

/// Renamed while it is the working directory.
#[test]
fn moved_directories_are_followed() {
    let bed = Bed::new(|l| {
        put(l, "a/b/c/f", "x");
        mkdir(l, "z");
    });
    let shown =
        bed.sh("cd a/b/c; mv ../../../a/b ../../../z/moved; cat f; echo y >g; pwd -P; cd -P ..; ls; cd -P ..; ls");
    assert_eq!(shown, format!("x{}/z/moved/c\nc\nmoved", bed.m.display()));
    assert_eq!(entries(&bed.p("z/moved/c")), ["f", "g"]);
}
