//! Whiteouts of an overlay inside the mount: character devices 0:0 that callers make, see and move like any node.

use super::harness::{Fs, Stack, me, settled};
use super::tree::{marker, root};
use super::walk::View;
use crate::overlay::{New, RenameMode, Result};

const WHITEOUT: New<'_> = New::Node(libc::S_IFCHR, 0, 0);

fn mknod(fs: &Fs, path: &str) -> Result<()> {
    fs.make(path, WHITEOUT, 0o640, 0o022, me()).map(drop)
}

fn leave(fs: &Fs, old: &str, new: &str, mode: RenameMode) -> Result<()> {
    let (old, new) = (fs.split(old)?, fs.split(new)?);
    fs.overlay.rename_leaving_whiteout(old, new, mode, me())
}

/// The paths that show a character device 0:0.
fn nodes(view: &View) -> Vec<&str> {
    let is_node = |e: &super::walk::Entry| e.mode & libc::S_IFMT == libc::S_IFCHR && e.rdev == (0, 0);
    view.iter().filter(|(_, e)| is_node(e)).map(|(p, _)| p.as_str()).collect()
}

fn errno<T>(result: Result<T>) -> i32 {
    result.err().map_or(0, super::super::Error::errno)
}

#[test]
fn the_device_0_0_can_be_made_and_is_shown_as_such_also_when_upper_becomes_a_layer() {
    let mut s = Stack::new(2);
    s.lower(1).file("m/f", "1").file("plain/x", "");
    s.lower(2).file("m/g", "2").file("m/gone", "");
    let fs = s.mount();
    for path in ["c", "m/c", "m/gone", "plain/c"] {
        if path == "m/gone" {
            fs.unlink(path).unwrap();
        }
        mknod(&fs, path).unwrap();
        let attr = fs.attr(path).unwrap();
        assert_eq!((attr.mode, attr.rdev, attr.size), (libc::S_IFCHR | 0o640, (0, 0), 0), "{path}");
        assert_eq!(errno(mknod(&fs, path)), libc::EEXIST, "{path}");
    }
    fs.mkdir("new").unwrap();
    mknod(&fs, "new/c").unwrap();
    let want = ["c", "m/c", "m/gone", "new/c", "plain/c"];
    assert_eq!(nodes(&settled(&s, fs)), want);
    for _ in 0..2 {
        s.commit();
        assert_eq!(nodes(&s.view()), want);
        // Asked for before anything was listed.
        let fs = s.mount();
        for path in want {
            assert_eq!(fs.attr(path).unwrap().mode & libc::S_IFMT, libc::S_IFCHR, "{path}");
        }
    }
    assert!(!s.upper().has("c"), "nothing was copied up by looking");
}

#[test]
fn in_the_lowest_layer_and_alone_they_are_found_too() {
    let mut s = Stack::new(1);
    let fs = s.mount();
    fs.mkdir("d").unwrap();
    mknod(&fs, "d/c").unwrap();
    fs.create("d/empty").unwrap();
    drop(fs);
    s.commit();
    s.options.lower.truncate(1);
    let fs = s.mount();
    assert_eq!(fs.attr("d/c").unwrap().mode & libc::S_IFMT, libc::S_IFCHR);
    assert_eq!(fs.attr("d/empty").unwrap().mode & libc::S_IFMT, libc::S_IFREG);
    assert_eq!(nodes(&settled(&s, fs)), ["d/c"]);
}

#[test]
fn they_keep_their_type_through_copy_up_links_and_renames() {
    let mut s = Stack::new(1);
    s.lower(1).file("m/f", "").file("other/f", "").file("third/f", "");
    let fs = s.mount();
    mknod(&fs, "m/c").unwrap();
    mknod(&fs, "m/linked").unwrap();
    fs.link("m/linked", "other/name").unwrap();
    drop(fs);
    s.commit();

    let fs = s.mount();
    let before = fs.attr("m/c").unwrap().st_ino;
    assert_eq!(fs.chmod("m/c", 0o600).unwrap().mode, libc::S_IFCHR | 0o600);
    fs.chmod("m/linked", 0o606).unwrap();
    // Ordinary users cannot put the attributes of the index on nodes.
    let mode = if root() { 0o606 } else { 0o640 };
    assert_eq!(fs.attr("other/name").unwrap().mode, libc::S_IFCHR | mode, "two names of one node");
    fs.link("m/c", "third/link").unwrap();
    fs.rename("m/c", "other/moved").unwrap();
    assert_eq!(fs.attr("other/moved").unwrap().st_ino, before);
    fs.create("u").unwrap();
    fs.exchange("other/moved", "u").unwrap();
    let want = ["m/linked", "other/name", "third/link", "u"];
    assert_eq!(nodes(&settled(&s, fs)), want);
    s.commit();
    assert_eq!(nodes(&s.view()), want);
    let fs = s.mount();
    for path in want {
        fs.unlink(path).unwrap();
    }
    assert_eq!(nodes(&settled(&s, fs)), [""; 0]);
}

#[test]
fn an_empty_file_is_not_taken_for_one_because_of_an_attribute_of_the_caller() {
    let s = Stack::new(1);
    let fs = s.mount();
    mknod(&fs, "c").unwrap();
    fs.create("f").unwrap();
    fs.set_xattr("f", &marker("laminafs.nested"), "y").unwrap();
    fs.set_xattr("f", &marker("whiteout"), "y").unwrap();
    assert_eq!(nodes(&settled(&s, fs)), ["c"]);
}

#[test]
fn a_rename_can_leave_one() {
    let s = Stack::new(1);
    s.lower(1).file("f", "f").file("g", "g").file("d/x", "x").file("e", "e");
    let fs = s.mount();
    fs.create("u").unwrap();
    leave(&fs, "u", "moved", RenameMode::NoReplace).unwrap();
    leave(&fs, "f", "d/f", RenameMode::Replace).unwrap();
    leave(&fs, "g", "d/x", RenameMode::Replace).unwrap();
    leave(&fs, "d", "D", RenameMode::Replace).unwrap();
    assert_eq!(errno(leave(&fs, "e", "moved", RenameMode::NoReplace)), libc::EEXIST);
    assert_eq!(errno(leave(&fs, "none", "new", RenameMode::Replace)), libc::ENOENT);
    assert_eq!(fs.read("D/x").unwrap(), "g");
    assert_eq!(fs.read("D/f").unwrap(), "f");
    assert_eq!(fs.attr("u").unwrap().mode, libc::S_IFCHR);
    fs.link("e", "same").unwrap();
    leave(&fs, "e", "same", RenameMode::Replace).unwrap();
    assert_eq!(fs.read("e").unwrap(), "e", "two names of one file stay");
    assert_eq!(nodes(&settled(&s, fs)), ["d", "f", "g", "u"]);
}

/// The daemon of an ordinary user cannot read the attributes of a file without permissions.
#[test]
fn an_unreadable_empty_file_beside_them_stops_nobody() {
    let s = Stack::new(1);
    s.lower(1).file("d/f", "").file("d/g", "g");
    let fs = s.mount();
    mknod(&fs, "d/c").unwrap();
    fs.chmod("d/f", 0).unwrap();
    drop(fs);
    let fs = s.mount();
    assert_eq!(fs.list("d"), ["c", "f", "g"]);
    assert_eq!(fs.attr("d/f").unwrap().mode & 0o7777, 0);
    assert_eq!(fs.attr("d/c").unwrap().mode & libc::S_IFMT, libc::S_IFCHR);
}
