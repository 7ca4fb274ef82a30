//! Deleted names stay deleted: whiteouts and opaque directories as the union makes them, and listings under change.

use super::harness::{Stack, errno, settled};
use super::tree::marker;
use super::walk::view;
use crate::overlay::{Overlay, RenameMode};

/// Where the lower file is: at the root of the tree, in a directory of one layer, in one of two.
const PLACES: [&str; 3] = ["f", "d/e/f", "m/f"];

fn places() -> Stack {
    let s = Stack::new(2);
    s.lower(1).dir("m");
    for path in PLACES {
        s.lower(2).file(path, "old").file(&format!("{path}dir/old"), "old").file(&format!("{path}dir/sub/old"), "old");
    }
    s
}

/// Goes on with a fresh mount.
macro_rules! remount {
    ($fs:ident, $s:ident) => {
        drop($fs);
        let $fs = $s.mount();
    };
}

#[test]
fn a_lower_file_stays_deleted_through_touch_and_remove() {
    for path in PLACES {
        for remounting in [false, true] {
            let s = places();
            let mut fs = s.mount();
            for _ in 0..2 {
                fs.unlink(path).unwrap();
                assert!(!fs.exists(path), "{path}");
                assert!(s.upper().is_whiteout(path), "{path}");
                assert_eq!(errno(fs.unlink(path)), libc::ENOENT);
                if remounting {
                    drop(fs);
                    fs = s.mount();
                }
                fs.create(path).unwrap();
                assert_eq!(fs.read(path).unwrap(), "");
                assert_eq!(errno(fs.create(path)), libc::EEXIST);
                if remounting {
                    drop(fs);
                    fs = s.mount();
                }
            }
            fs.unlink(path).unwrap();
            assert!(!settled(&s, fs).contains_key(path));
        }
    }
}

#[test]
fn a_recreated_directory_is_empty() {
    for path in PLACES.map(|p| format!("{p}dir")) {
        let s = places();
        let fs = s.mount();
        assert_eq!(errno(fs.rmdir(&path)), libc::ENOTEMPTY);
        fs.unlink(&format!("{path}/old")).unwrap();
        fs.unlink(&format!("{path}/sub/old")).unwrap();
        fs.rmdir(&format!("{path}/sub")).unwrap();
        fs.rmdir(&path).unwrap();
        assert!(!fs.exists(&path) && s.upper().is_whiteout(&path));
        fs.mkdir(&path).unwrap();
        let still_empty = |fs: &super::harness::Fs| {
            assert!(fs.list(&path).is_empty(), "{path}");
            assert!(!fs.exists(&format!("{path}/old")) && !fs.exists(&format!("{path}/sub")));
        };
        still_empty(&fs);
        remount!(fs, s);
        still_empty(&fs);
        // The names of lower entries can be used again, and go away for good.
        fs.create(&format!("{path}/old")).unwrap();
        fs.mkdir(&format!("{path}/sub")).unwrap();
        assert!(fs.list(&format!("{path}/sub")).is_empty());
        fs.unlink(&format!("{path}/old")).unwrap();
        fs.rmdir(&format!("{path}/sub")).unwrap();
        assert!(!s.upper().has(&format!("{path}/old")), "no whiteout in an opaque directory");
        still_empty(&fs);
        fs.rmdir(&path).unwrap();
        assert!(!fs.exists(&path));
        remount!(fs, s);
        assert!(!fs.exists(&path));
        fs.mkdir(&path).unwrap();
        still_empty(&fs);
        settled(&s, fs);
    }
}

#[test]
fn whatever_replaces_a_whiteout_survives_a_remount() {
    for path in PLACES {
        let s = places();
        let fs = s.mount();
        fs.unlink(path).unwrap();
        fs.symlink("target", path).unwrap();
        assert_eq!(settled(&s, fs)[path].content, b"target");
        let fs = s.mount();
        fs.unlink(path).unwrap();
        fs.create("n").unwrap();
        fs.link("n", path).unwrap();
        assert_eq!(settled(&s, fs)[path].nlink, 2);
        let fs = s.mount();
        fs.unlink(path).unwrap();
        fs.rename_as("n", path, RenameMode::NoReplace).unwrap();
        assert_eq!(settled(&s, fs)[path].nlink, 1);
    }
}

#[test]
fn whiteouts_are_made_only_where_something_would_show_through() {
    let s = places();
    let fs = s.mount();
    for path in ["new", "m/new", "d/e/new"] {
        fs.create(path).unwrap();
        fs.rename(path, &format!("{path}2")).unwrap();
        assert!(!s.upper().has(path), "{path}: renamed");
        fs.unlink(&format!("{path}2")).unwrap();
        assert!(!s.upper().has(&format!("{path}2")), "{path}: removed");
        fs.mkdir(path).unwrap();
        fs.rename(path, &format!("{path}2")).unwrap();
        fs.rmdir(&format!("{path}2")).unwrap();
        assert!(!s.upper().has(path) && !s.upper().has(&format!("{path}2")), "{path}: directory");
    }
    settled(&s, fs);
}

#[test]
fn whiteouts_share_one_inode() {
    use std::os::unix::fs::MetadataExt;
    let s = places();
    let fs = s.mount();
    for path in PLACES {
        fs.unlink(path).unwrap();
    }
    let numbers = PLACES.map(|p| std::fs::symlink_metadata(s.upper().path(p)).unwrap().ino());
    assert!(numbers.iter().all(|n| *n == numbers[0]));
}

#[test]
fn removing_checks_what_is_there() {
    let s = places();
    s.upper().file("updir/x", "");
    let fs = s.mount();
    assert_eq!(errno(fs.unlink("fdir")), libc::EISDIR);
    assert_eq!(errno(fs.rmdir("f")), libc::ENOTDIR);
    assert_eq!(errno(fs.rmdir("fdir")), libc::ENOTEMPTY);
    assert_eq!(errno(fs.rmdir("updir")), libc::ENOTEMPTY);
    assert_eq!(errno(fs.rmdir("none")), libc::ENOENT);
    assert_eq!(errno(fs.create("f/x")), libc::ENOTDIR);
    settled(&s, fs);
}

#[test]
fn a_lower_tree_can_be_removed_from_the_bottom_up() {
    let s = places();
    let fs = s.mount();
    remove_all(&fs, "");
    assert!(fs.list("").is_empty());
    assert_eq!(settled(&s, fs).len(), 1);
}

fn remove_all(fs: &super::harness::Fs, path: &str) {
    for name in fs.list(path) {
        let child = if path.is_empty() { name } else { format!("{path}/{name}") };
        if fs.attr(&child).unwrap().mode & libc::S_IFMT == libc::S_IFDIR {
            remove_all(fs, &child);
            fs.rmdir(&child).unwrap();
        } else {
            fs.unlink(&child).unwrap();
        }
    }
}

#[test]
fn a_directory_that_holds_only_whiteouts_is_removed_with_them() {
    let s = Stack::new(1);
    s.lower(1).file("other/x", "");
    // Left by another program: nothing below has the name, nor the directory.
    s.upper().dir("d").whiteout("d/stray").dir("e").whiteout("e/stray").opaque("o").file("o/.wh..wh..opq", "");
    let fs = s.mount();
    assert!(fs.list("d").is_empty() && fs.list("o").is_empty());
    fs.rmdir("d").unwrap();
    fs.rename("other", "e").unwrap();
    fs.mkdir("p").unwrap();
    fs.rename("p", "o").unwrap();
    assert!(!s.upper().has("d"));
    assert_eq!(fs.list("e"), ["x"]);
    settled(&s, fs);
}

#[test]
fn a_whiteout_that_hides_nothing_is_in_nobodys_way() {
    for (opaque, listed) in [(false, false), (false, true), (true, false), (true, true)] {
        let s = Stack::new(1);
        s.lower(1).file("f", "").file("ld/x", "");
        s.upper().dir("d").file("u", "");
        if opaque {
            s.upper().opaque("d");
        }
        for name in ["a", "b", "c", "d", "e", "g"] {
            s.upper().whiteout(&format!("d/{name}"));
        }
        let fs = s.mount();
        assert!(!listed || fs.list("d").is_empty());
        fs.create("d/a").unwrap();
        fs.mkdir("d/b").unwrap();
        fs.link("u", "d/c").unwrap();
        fs.rename("u", "d/d").unwrap();
        fs.rename("ld", "d/e").unwrap();
        fs.mkdir("v").unwrap();
        fs.rename("v", "d/g").unwrap();
        assert_eq!(fs.list("d"), ["a", "b", "c", "d", "e", "g"], "opaque: {opaque}");
        settled(&s, fs);
    }
}

#[test]
fn new_directories_over_something_are_opaque_on_disk() {
    let s = places();
    let fs = s.mount();
    fs.unlink("f").unwrap();
    fs.mkdir("f").unwrap();
    assert_eq!(s.upper().get_xattr("f", &marker("opaque")).unwrap(), b"y");
    assert!(!s.upper().has("f/.wh..wh..opq"));
}

#[test]
fn a_directory_can_be_listed_while_it_is_emptied() {
    let s = Stack::new(2);
    for n in 0..300 {
        let tree = if n % 3 == 0 { s.upper() } else { s.lower(1 + n % 2) };
        tree.file(&format!("d/file-{n}"), "");
    }
    let fs = s.mount();
    let dir = fs.ino("d").unwrap();
    let (mut offset, mut seen) = (2, 0);
    loop {
        let mut batch = Vec::new();
        let listing = fs.overlay.read_dir(dir, offset, false, &mut |e| {
            batch.push((e.name.to_os_string(), e.cookie));
            batch.len() < 7
        });
        listing.unwrap();
        // The last one was refused.
        let refused = batch.len() == 7;
        batch.truncate(6);
        for (name, cookie) in &batch {
            fs.overlay.unlink(dir, name).unwrap();
            offset = *cookie;
            seen += 1;
        }
        if !refused {
            break;
        }
    }
    assert_eq!(seen, 300);
    assert!(fs.list("d").is_empty());
    fs.rmdir("d").unwrap();
    settled(&s, fs);
}

#[test]
fn what_exists_throughout_is_listed_once_whatever_comes_and_goes() {
    let s = Stack::new(1);
    for n in 0..200 {
        s.lower(1).file(&format!("keep-{n}"), "").file(&format!("drop-{n}"), "");
    }
    let fs = s.mount();
    let (mut offset, mut kept, mut round) = (2, Vec::new(), 0);
    loop {
        let mut next = None;
        let listing = fs.overlay.read_dir(1, offset, false, &mut |e| {
            next = Some((e.name.to_str().unwrap().to_owned(), e.cookie));
            false
        });
        listing.unwrap();
        let Some((name, cookie)) = next else { break };
        offset = cookie;
        if name.starts_with("keep") {
            kept.push(name);
        }
        if round < 200 {
            fs.create(&format!("new-{round}")).unwrap();
            fs.unlink(&format!("drop-{round}")).unwrap();
            round += 1;
        }
    }
    kept.sort();
    kept.dedup();
    assert_eq!(kept.len(), 200);
    settled(&s, fs);
}

#[test]
fn nothing_can_be_made_in_a_removed_directory_and_it_lists_empty() {
    for path in ["lower", "upper", "merged"] {
        let s = Stack::new(1);
        s.lower(1).dir("lower").dir("merged").file("f", "");
        s.upper().dir("upper").dir("merged");
        let fs = s.mount();
        let ino = fs.ino(path).unwrap();
        fs.rmdir(path).unwrap();
        let name = std::ffi::OsStr::new("x");
        let made = fs.overlay.create(ino, name, crate::overlay::New::File, 0o600, 0, super::harness::me());
        assert_eq!(errno(made), libc::ENOENT, "{path}");
        assert_eq!(errno(fs.overlay.link(fs.ino("f").unwrap(), ino, name)), libc::ENOENT, "{path}");
        assert_eq!(errno(fs.overlay.lookup(ino, name)), libc::ENOENT, "{path}");
        let mut listed = 0;
        let listing = fs.overlay.read_dir(ino, 2, false, &mut |_| {
            listed += 1;
            true
        });
        listing.unwrap();
        assert_eq!(listed, 0, "{path}");
        assert_eq!(fs.overlay.get_attr(ino).unwrap().nlink, 0, "{path}");
        fs.mkdir(path).unwrap();
        assert_ne!(fs.ino(path).unwrap(), ino, "{path}: a new directory is another object");
        assert!(settled(&s, fs).contains_key(path));
    }
}

#[test]
fn the_view_does_not_depend_on_the_order_of_access() {
    let s = places();
    let fs = s.mount();
    fs.unlink("m/fdir/old").unwrap();
    fs.rename("fdir", "m/moved").unwrap();
    drop(fs);
    let whole = view(&Overlay::open(&s.options).unwrap());
    for first in whole.keys() {
        let overlay = Overlay::open(&s.options).unwrap();
        let fs = super::harness::Fs { overlay };
        fs.attr(first).unwrap();
        super::harness::assert_same(&fs.view(), &whole, first);
    }
}
