//! How a store comes to be.

use super::*;
use crate::store::lock::Key;
use crate::store::{Error, temp};
use crate::sys::LockKind;
use crate::sys::seam::{Plan, plan, take};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn a_new_store_is_private_and_opens_again() {
    let place = place();
    let path = place.path().join("deep/er/store");
    let store = Store::open(&path).unwrap();
    assert_sound(&store);
    assert_eq!(std::fs::read(path.join("format")).unwrap(), b"laminafs store 1\n");
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_sound(&Store::open(&path).unwrap());
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn what_a_killed_maker_left_is_completed() {
    let place = place();
    let path = place.path().join("store");
    std::fs::create_dir_all(path.join("blobs")).unwrap();
    std::fs::create_dir_all(path.join("tmp")).unwrap();
    std::fs::write(path.join(".format-00"), "lamin").unwrap();
    let store = Store::open(&path).unwrap();
    assert!(path.join("format").exists() && store.images().unwrap().is_empty());
    assert_sound(&store);
}

#[test]
fn other_directories_and_newer_formats_are_refused() {
    let place = place();
    std::fs::write(place.path().join("mine"), "precious").unwrap();
    let e = Store::open(place.path()).unwrap_err();
    assert!(matches!(&e, Error::NotAStore { why, .. } if why.contains("mine")), "{e}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    let path = place.path().join("store");
    drop(Store::open(&path).unwrap());
    std::fs::write(path.join("format"), "laminafs store 2\n").unwrap();
    let e = Store::open(&path).unwrap_err();
    assert!(matches!(e, Error::NewerFormat { found: 2, known: 1, .. }), "{e}");
    assert!(e.to_string().contains("use a newer laminafs"), "{e}");
    for text in ["", "laminafs store x\n", "laminafs store 0\n"] {
        std::fs::write(path.join("format"), text).unwrap();
        assert!(matches!(Store::open(&path), Err(Error::NotAStore { .. })));
    }
    std::fs::write(place.path().join("file"), "").unwrap();
    assert!(Store::open(&place.path().join("file")).unwrap_err().to_string().contains("file"));
}

#[test]
fn many_first_commands_at_once_give_one_store() {
    for _ in 0..20 {
        let place = place();
        let path = place.path().join("new/store");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| Store::open(&path).unwrap());
            }
        });
        assert_sound(&Store::open(&path).unwrap());
    }
}

#[test]
fn only_what_nobody_holds_is_swept() {
    let place = place();
    let store = open(&place);
    let (locks, others) = (store.locks().unwrap(), store.locks().unwrap());
    let mine = temp::Temp::new(&store.root, &locks).unwrap();
    mine.dir.write("half", b"x").unwrap();
    let tmp = store.path().join("tmp");
    std::fs::create_dir_all(tmp.join("0123456789abcd/deep/er")).unwrap();
    std::fs::write(tmp.join("0123456789abce"), "").unwrap();
    let held = others.lock(Key::temporary(0x01_2345_6789_abcf), LockKind::Exclusive).unwrap();
    std::fs::create_dir(tmp.join("0123456789abcf")).unwrap();
    open(&place);
    assert!(!tmp.join("0123456789abcd").exists() && !tmp.join("0123456789abce").exists());
    assert!(tmp.join("0123456789abcf").exists());
    assert!(mine.dir.has("half").unwrap());
    drop((held, mine));
    open(&place);
    assert_sound(&store);
}

#[test]
fn deep_trees_are_removed() {
    let place = place();
    let store = open(&place);
    let tmp = store.root.open("tmp").unwrap();
    let mut dir = tmp.create("0000000000000a", 0o700).unwrap();
    for _ in 0..450 {
        dir.write("file", b"x").unwrap();
        dir = dir.create("directory", 0o700).unwrap();
    }
    drop(dir);
    open(&place);
    assert_eq!(tmp.names().unwrap(), Vec::<std::ffi::OsString>::new());
}

#[test]
fn two_deep_trees_are_removed_at_once_and_after_a_kill() {
    let place = place();
    let store = open(&place);
    let tmp = store.root.open("tmp").unwrap();
    let names = ["0000000000000a", "0000000000000b"];
    for name in names {
        let mut dir = tmp.create(name, 0o700).unwrap();
        dir.create("deep-0", 0o700).unwrap().write("file", b"x").unwrap();
        for _ in 0..450 {
            dir = dir.create("directory", 0o700).unwrap();
        }
    }
    plan(Plan::KillNth { n: 250 });
    assert!(tmp.remove(names[0]).is_err());
    take();
    // What is left of the one is where it was, and not in the way of the other.
    assert_eq!(tmp.names().unwrap(), names);
    tmp.remove(names[1]).unwrap();
    open(&place);
    assert_eq!(tmp.names().unwrap(), Vec::<std::ffi::OsString>::new());
}
