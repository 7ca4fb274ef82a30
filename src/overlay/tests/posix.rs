//! What programs expect of any file system: deleted files that are open, times, attributes, holes, ranges.

use super::harness::{Fs, Stack, errno, me, settled};
use super::tree::{c_string, marker, root};
use crate::overlay::{Change, Ino};
use crate::sys::{SetTime, Time};

pub fn files() -> Stack {
    let s = Stack::new(1);
    s.lower(1).file("lower", "content").file("d/lower", "content").file("copied", "content").file("hard", "content");
    s.lower(1).link("hard", "hard2").dir("dir");
    s.upper().file("upper", "content").file("d/upper", "content");
    s
}

/// An object without a name works in every way.
fn works_deleted(fs: &Fs, ino: Ino, what: &str) {
    let overlay = &fs.overlay;
    assert_eq!(overlay.get_attr(ino).unwrap().nlink, 0, "{what}");
    assert_eq!(fs.read_ino(ino).unwrap(), "content", "{what}");
    overlay.write(ino, 7, b" and more").unwrap();
    assert_eq!(fs.read_ino(ino).unwrap(), "content and more", "{what}");
    let change = Change { mode: Some(0o600), size: Some(3), ..Change::default() };
    assert_eq!(overlay.set_attr(ino, &change, me()).unwrap().size, 3, "{what}");
    overlay.set_xattr(ino, c"user.x", b"y", 0, me()).unwrap();
    assert_eq!(overlay.get_xattr(ino, c"user.x").unwrap(), b"y", "{what}");
    overlay.remove_xattr(ino, c"user.x").unwrap();
    overlay.fsync(ino, false).unwrap();
    let attr = overlay.get_attr(ino).unwrap();
    assert_eq!((attr.nlink, attr.mode & 0o777, attr.st_ino), (0, 0o600, ino), "{what}");
    assert_eq!(fs.read_ino(ino).unwrap(), "con", "{what}");
}

#[test]
fn a_deleted_file_works_until_it_is_forgotten() {
    // With the smallest descriptor limit most deleted files are kept by a link in work/ instead of a descriptor.
    for fd_limit in [0, 60] {
        for path in ["lower", "d/lower", "upper", "d/upper", "copied"] {
            for replaced in [false, true] {
                let what = format!("{path}, replaced: {replaced}, limit {fd_limit}");
                let mut s = files();
                s.options.fd_limit = fd_limit;
                let fs = s.mount();
                fs.write("copied", 0, "c").unwrap();
                for n in 0..3 {
                    let name = format!("filler-{n}");
                    fs.create(&name).unwrap();
                    fs.unlink(&name).unwrap();
                }
                let ino = fs.ino(path).unwrap();
                if replaced {
                    fs.create("new").unwrap();
                    fs.rename("new", path).unwrap();
                } else {
                    fs.unlink(path).unwrap();
                }
                works_deleted(&fs, ino, &what);
                assert_eq!(fs.exists(path), replaced, "{what}");
                fs.overlay.forget(ino, 1000);
                assert_eq!(errno(fs.overlay.get_attr(ino)), libc::ESTALE, "{what}");
                let view = settled(&s, fs);
                assert_eq!(view.contains_key(path), replaced, "{what}");
                drop(s.mount());
            }
        }
    }
}

#[test]
fn a_deleted_hard_link_of_a_lower_file_works_through_the_object() {
    let s = files();
    let fs = s.mount();
    let ino = fs.ino("hard").unwrap();
    fs.unlink("hard").unwrap();
    assert_eq!(fs.overlay.get_attr(ino).unwrap().nlink, 1);
    fs.overlay.write(ino, 0, b"C").unwrap();
    assert_eq!(fs.read("hard2").unwrap(), "Content");
    fs.unlink("hard2").unwrap();
    fs.overlay.write(ino, 0, b"c").unwrap();
    works_deleted(&fs, ino, "both names gone");
    settled(&s, fs);
}

#[test]
fn a_reader_that_came_before_the_copy_up_sees_what_is_written() {
    let s = files();
    let fs = s.mount();
    let ino = fs.ino("lower").unwrap();
    let mut buffer = [0; 7];
    fs.overlay.read(ino, 0, &mut buffer).unwrap();
    fs.write("lower", 0, "CONTENT").unwrap();
    fs.overlay.read(ino, 0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"CONTENT");
    fs.truncate("lower", 2).unwrap();
    assert_eq!(fs.overlay.read(ino, 0, &mut buffer).unwrap(), 2);
}

#[test]
fn times_before_1970_are_kept_and_can_be_set() {
    let s = files();
    s.lower(1).mtime("lower", -315_619_200, 250_000_000).mtime("dir", -1, 999_999_999);
    let fs = s.mount();
    let time = |path: &str| fs.attr(path).unwrap().mtime;
    assert_eq!(time("lower"), Time { sec: -315_619_200, nsec: 250_000_000 });
    fs.chmod("lower", 0o600).unwrap();
    fs.chmod("dir", 0o700).unwrap();
    assert_eq!(time("lower"), Time { sec: -315_619_200, nsec: 250_000_000 });
    assert_eq!(time("dir"), Time { sec: -1, nsec: 999_999_999 });
    let old = Time { sec: -86_400, nsec: 1 };
    let change = Change { atime: Some(SetTime::At(old)), mtime: Some(SetTime::At(old)), ..Change::default() };
    let attr = fs.change("upper", &change).unwrap();
    assert_eq!((attr.atime, attr.mtime), (old, old));
    assert_eq!(settled(&s, fs)["upper"].mtime, old);
}

#[test]
fn copy_up_keeps_everything_and_does_not_touch_the_parents() {
    let s = Stack::new(2);
    let lower = s.lower(2);
    lower.file("a/b/f", "data").chmod("a/b/f", 0o4751).xattr("a/b/f", "user.x", b"y").mtime("a/b/f", 1234, 5678);
    lower.chmod("a", 0o1711).xattr("a", "user.dir", b"z").mtime("a", 11, 1).mtime("a/b", 22, 2);
    lower.chown("a", 5, 6).chown("a/b", 7, 8).symlink("a/b/link", "t").chown("a/b/link", 9, 10);
    if root() {
        // Changing the owner cleared it.
        lower.chown("a/b/f", 1, 2).chmod("a/b/f", 0o4751);
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        lower.xattr("a/b/f", "security.capability", &capability);
    }
    // Root needs no write permission.
    lower.chmod("a/b", if root() { 0o2570 } else { 0o2770 }).mtime("a/b", 22, 2).mtime("a", 11, 1);
    let before = s.view();
    let fs = s.mount();
    fs.set_xattr("a/b/f", "user.new", "1").unwrap();
    let now = Change { atime: Some(SetTime::Now), ..Change::default() };
    if root() {
        fs.change("a/b/link", &now).unwrap();
    }
    let mut after = settled(&s, fs);
    assert_eq!(after.get_mut("a/b/f").unwrap().xattrs.remove("user.new").unwrap(), b"1");
    super::harness::assert_same(&before, &after, "before and after copy-up");
}

#[test]
fn copy_up_keeps_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let s = Stack::new(1);
    let size = 64 << 20;
    s.lower(1).file("sparse", "start");
    let file = std::fs::OpenOptions::new().write(true).open(s.lower(1).path("sparse")).unwrap();
    file.write_at(b"middle", 32 << 20).unwrap();
    file.set_len(size).unwrap();
    let fs = s.mount();
    fs.write("sparse", 0, "S").unwrap();
    let meta = std::fs::metadata(s.upper().path("sparse")).unwrap();
    assert_eq!(meta.size(), size);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    let mut buffer = [0; 6];
    let ino = fs.ino("sparse").unwrap();
    fs.overlay.read(ino, 32 << 20, &mut buffer).unwrap();
    assert_eq!(&buffer, b"middle");
    assert_eq!(fs.overlay.seek(ino, 1 << 20, libc::SEEK_DATA).unwrap(), 32 << 20);
}

#[test]
fn the_marks_of_the_union_are_hidden_and_cannot_be_set() {
    let s = Stack::new(2);
    s.lower(2).file("d/f", "").file("e/f", "");
    s.lower(1).dir("d").xattr("d", "user.overlay.opaque", b"y").xattr("d", "user.fuseoverlayfs.origin", b"d");
    let fs = s.mount();
    fs.chmod("d", 0o700).unwrap();
    assert!(fs.view().values().all(|e| e.xattrs.is_empty()));
    for name in ["user.overlay.opaque", "user.overlay.origin", "user.fuseoverlayfs.origin"] {
        assert_eq!(errno(fs.get_xattr("d", name)), libc::ENODATA, "{name}");
    }
    assert!(s.upper().get_xattr("d", "user.fuseoverlayfs.origin").is_none(), "not copied up either");
    // These are markers on disk with no way to escape them.
    let refused = errno(fs.set_xattr("e", "user.fuseoverlayfs.opaque", "y"));
    assert!([libc::EPERM, libc::EOPNOTSUPP].contains(&refused), "{refused}");
    assert_eq!(errno(fs.remove_xattr("d", "user.fuseoverlayfs.origin")), libc::ENODATA);
    assert_eq!(settled(&s, fs).keys().filter(|k| k.starts_with("e/")).count(), 1);
}

#[test]
fn marks_of_an_overlay_inside_the_mount_are_kept_for_it() {
    let s = Stack::new(2);
    s.lower(1).dir("d");
    s.lower(2).file("d/f", "");
    let fs = s.mount();
    let mut names = vec!["user.overlay.opaque"];
    if root() {
        names.push("trusted.overlay.opaque");
        names.push("trusted.overlay.overlay.opaque");
    }
    for name in &names {
        fs.set_xattr("d", name, "y").unwrap();
        assert_eq!(fs.get_xattr("d", name).unwrap(), b"y", "{name}");
    }
    assert_eq!(fs.list("d"), ["f"], "it means nothing to this one");
    let view = settled(&s, fs);
    let mut shown: Vec<&str> = view["d"].xattrs.keys().map(String::as_str).collect();
    shown.sort_unstable();
    names.sort_unstable();
    assert_eq!(shown, names);
    assert!(s.upper().get_xattr("d", "user.overlay.overlay.opaque").is_some());
    let fs = s.mount();
    for name in &names {
        fs.remove_xattr("d", name).unwrap();
        assert_eq!(errno(fs.remove_xattr("d", name)), libc::ENODATA);
    }
}

#[test]
fn truncation_copies_no_more_than_remains() {
    let s = Stack::new(1);
    s.lower(1).file("f", "0123456789");
    for (size, expected) in [(4, "0123"), (0, ""), (12, "\0\0\0\0\0\0\0\0\0\0\0\0")] {
        let fs = s.mount();
        let attr = fs.truncate("f", size).unwrap();
        assert_eq!(attr.size, size);
        assert!(attr.mtime.sec > super::tree::FRESH, "the content changed");
        assert_eq!(settled(&s, fs)["f"].content, expected.as_bytes());
    }
}

#[test]
fn ranges_can_be_copied_allocated_and_searched() {
    let s = files();
    let fs = s.mount();
    let (from, to) = (fs.ino("lower").unwrap(), fs.ino("copied").unwrap());
    assert_eq!(fs.overlay.copy_range((from, 3), (to, 7), 100).unwrap(), 4);
    assert_eq!(fs.read("copied").unwrap(), "contenttent");
    assert!(!s.upper().has("lower"), "reading copies nothing up");
    fs.overlay.fallocate(to, 0, 0, 100).unwrap();
    assert_eq!(fs.attr("copied").unwrap().size, 100);
    assert_eq!(fs.overlay.seek(from, 0, libc::SEEK_HOLE).unwrap(), 7);
    settled(&s, fs);
}

#[test]
fn missing_attributes_and_files_are_reported_as_such() {
    let s = files();
    let fs = s.mount();
    assert_eq!(errno(fs.get_xattr("lower", "user.none")), libc::ENODATA);
    assert_eq!(errno(fs.remove_xattr("lower", "user.none")), libc::ENODATA);
    assert!(!s.upper().has("lower"), "nothing was copied up for it");
    let ino = fs.ino("lower").unwrap();
    let create = 1; // XATTR_CREATE
    fs.overlay.set_xattr(ino, &c_string("user.a"), b"1", create, me()).unwrap();
    assert_eq!(errno(fs.overlay.set_xattr(ino, &c_string("user.a"), b"2", create, me())), libc::EEXIST);
    assert_eq!(errno(fs.attr("none")), libc::ENOENT);
    assert_eq!(errno(fs.overlay.get_attr(0x1234_5678)), libc::ESTALE);
    assert!(s.upper().get_xattr("", &marker("impure")).is_some());
}

#[test]
fn pages_are_there_until_an_invalidation_has_succeeded() {
    let s = files();
    let fs = s.mount();
    let ino = fs.ino("lower").unwrap();
    let there = || fs.overlay.may_have_pages(ino);
    let read = || fs.read_ino(ino).map(drop).unwrap();
    let invalidate = |during: &dyn Fn(), done: std::result::Result<(), ()>| {
        fs.overlay.without_pages(ino, || {
            let before = there();
            during();
            assert_eq!(there(), before, "they go at its end");
            done
        })
    };
    let write = || fs.overlay.write(ino, 0, b"w").unwrap();
    assert!(!there());
    read();
    assert!(there() && there(), "asking changes nothing");
    invalidate(&|| (), Err(())).unwrap_err();
    assert!(there(), "it failed");
    invalidate(&read, Ok(())).unwrap();
    assert!(there(), "read since it began");
    fs.overlay.prepare_set_attr(ino).unwrap();
    assert!(s.upper().path("lower").exists());
    invalidate(&|| (), Ok(())).unwrap();
    assert!(!there());
    invalidate(&|| (), Ok(())).unwrap();
    assert!(!there());
    fs.overlay.note_pages(ino);
    assert!(there());
    invalidate(&write, Ok(())).unwrap();
    assert!(there(), "written since it began");
    invalidate(&|| (), Ok(())).unwrap();
    assert!(!there());
    write();
    assert!(there(), "written since");
    let new = fs.create("new").unwrap();
    fs.overlay.write(new.ino, 0, b"w").unwrap();
    assert!(!fs.overlay.may_have_pages(new.ino), "making a file costs no invalidation");
}
