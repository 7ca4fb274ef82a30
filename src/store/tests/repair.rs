//! What verify finds, and what repair makes of it.

use super::*;
use crate::sys::{self, At, SetTime, Time};
use std::ffi::OsStr;
use std::os::fd::AsFd;

/// Changes a byte of a file and gives it its old time back, as a failing disk does.
fn rot(path: &Path) {
    let mut data = std::fs::read(path).unwrap();
    data[0] ^= 1;
    let dir = sys::open_root(path.parent().unwrap()).unwrap();
    let at = At::Name(dir.as_fd(), path.file_name().unwrap());
    let Time { sec, nsec } = sys::stat(at).unwrap().mtime;
    std::fs::write(path, data).unwrap();
    sys::set_times(at, SetTime::Omit, SetTime::At(Time { sec, nsec })).unwrap();
}

fn faults(store: &Store) -> Vec<String> {
    store.verify().unwrap().faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_damaged_layer_is_unpacked_again_from_its_blob() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    b.load(&store, &["b"]);
    rot(&store.layer_dir(&a.chains()[0]).join("etc/os"));
    let found = faults(&store);
    assert!(found.len() == 1 && found[0].contains("contents of a file changed"), "{found:?}");
    let repaired = store.repair().unwrap();
    assert_eq!((repaired.rebuilt.as_slice(), repaired.left.faults.len()), (&a.chains()[..1], 0));
    let quarantine = repaired.quarantine.unwrap();
    assert!(quarantine.join(format!("layer-{}/diff/etc/os", a.chains()[0].0.hex())).exists());
    assert!(std::fs::read_to_string(quarantine.join("WHY")).unwrap().contains("contents"));
    assert_eq!(std::fs::read(store.layer_dir(&a.chains()[0]).join("etc/os")).unwrap(), b"one");
    assert_eq!(store.repair().unwrap().quarantine, None);
    assert_sound(&store);
}

/// A full disk is no fault of the image, which stays until there is room.
#[test]
fn an_image_that_cannot_be_made_whole_now_stays() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    rot(&store.layer_dir(&a.chains()[0]).join("etc/os"));
    let full = sys::seam::deny(&[("utimensat", sys::Errno::NOSPC)]);
    let error = store.repair().unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    drop(full);
    assert_eq!(store.find("a").unwrap().record.id, a.id());
    let why = std::fs::read_dir(store.path().join("quarantine")).unwrap().next().unwrap().unwrap().path().join("WHY");
    assert!(std::fs::read_to_string(why).unwrap().contains("contents"));
    assert!(store.repair().unwrap().rebuilt.contains(&a.chains()[0]));
    assert_sound(&store);
}

#[test]
fn every_kind_of_change_to_a_layer_is_found() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    let layer = store.layer_dir(&a.chains()[0]);
    // Opened anew each time: the layer before goes to quarantine.
    let on_file = |change: &dyn Fn(At<'_>)| {
        let dir = sys::open_root(&layer.join("etc")).unwrap();
        change(At::Name(dir.as_fd(), OsStr::new("os")));
    };
    let changes: [&dyn Fn(); 7] = [
        &|| on_file(&|at| sys::chmod(at, 0o4755).unwrap()),
        &|| on_file(&|at| sys::xattr::set(at, c"user.x", b"y", 0).unwrap()),
        &|| on_file(&|at| sys::set_times(at, SetTime::Omit, SetTime::Now).unwrap()),
        &|| rot(&layer.join("etc/os")),
        &|| std::fs::write(layer.join("extra"), "x").unwrap(),
        &|| std::fs::remove_file(layer.join("bin/sh")).unwrap(),
        &|| std::fs::remove_dir_all(&layer).unwrap(),
    ];
    for change in changes {
        change();
        assert_eq!(faults(&store).len(), 1);
        let repaired = store.repair().unwrap();
        assert_eq!((repaired.rebuilt.len(), repaired.left.faults.len()), (1, 0));
    }
}

#[test]
fn what_cannot_be_made_again_goes_to_quarantine_and_comes_back_by_loading() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    b.load(&store, &["b"]);
    store.create_writable(&b.id(), None, Some("web")).unwrap();
    std::fs::write(store.path().join("writable/web/upper/precious"), "x").unwrap();
    rot(&store.path().join("blobs/sha256").join(a.blob(0).hex()));
    rot(&store.layer_dir(&a.chains()[0]).join("etc/os"));
    let repaired = store.repair().unwrap();
    assert_eq!(repaired.rebuilt, []);
    // Layer and blob, the layers on it, both images and their names are gone; the writable layer waits.
    assert_eq!(counts(&store).0, 0);
    let left: Vec<String> = repaired.left.faults.iter().map(ToString::to_string).collect();
    assert!(left.len() == 1 && left[0].contains("web") && left[0].contains(&b.id().to_string()), "{left:?}");
    assert!(store.path().join("writable/web/upper/precious").exists());
    a.load(&store, &["a"]);
    b.load(&store, &["b"]);
    assert_sound(&store);
    assert_eq!(store.lease("web").unwrap().lower().len(), 2);
}

#[test]
fn a_lost_layer_takes_all_above_it_away() {
    let (place, (other, _)) = (place(), two());
    let store = open(&place);
    let tall = Sample::new("tall", &[APP, BASE, DATA, APP, BASE, DATA, APP, BASE]);
    tall.load(&store, &["tall"]);
    other.load(&store, &["other"]);
    rot(&store.path().join("blobs/sha256").join(tall.blob(0).hex()));
    rot(&store.layer_dir(&tall.chains()[0]).join("app/run"));
    // The other image has the same blob, not on top of the same layers.
    let repaired = store.repair().unwrap();
    assert_eq!(repaired.left.faults, []);
    assert_eq!(store.layer(&tall.chains()[7]).unwrap(), None);
    tall.load(&store, &["tall"]);
    other.load(&store, &["other"]);
    assert_sound(&store);
}

#[test]
fn damaged_records_and_strangers_are_taken_out() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a", "a:2"]);
    b.load(&store, &["b"]);
    let root = store.path();
    std::fs::write(root.join("images/sha256").join(a.id().hex()), "{}").unwrap();
    std::fs::write(root.join("refs").join("0".repeat(64)), "no json").unwrap();
    std::fs::write(root.join("blobs/sha256/core"), "x").unwrap();
    std::fs::create_dir(root.join("stray")).unwrap();
    std::fs::write(root.join("layers/sha256").join("1".repeat(64)), "").unwrap();
    let paths: Vec<_> = store.verify().unwrap().faults.into_iter().map(|fault| fault.path).collect();
    assert_eq!(paths.len(), 5);
    assert!(paths.iter().any(|path| path.as_os_str() == root.join("stray").as_os_str()), "{paths:?}");
    let repaired = store.repair().unwrap();
    assert_eq!(repaired.left.faults, []);
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(store.find("b").unwrap().record.id, b.id());
    // Both names of the image whose record was damaged went with it.
    assert_eq!(store.tags().unwrap().len(), 1);
    a.load(&store, &["a"]);
    assert_eq!(a.asked(), 2);
    assert_sound(&store);
}

#[test]
fn what_is_mounted_is_left_alone() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    let pin = store.pin(&a.id(), None).unwrap();
    rot(&store.layer_dir(&a.chains()[0]).join("etc/os"));
    let repaired = store.repair().unwrap();
    assert_eq!((repaired.left.faults.len(), repaired.quarantine), (1, None));
    drop(pin);
    assert_eq!(store.repair().unwrap().rebuilt.len(), 1);
    assert_sound(&store);
}

#[test]
fn inventories_are_checked_and_made_anew() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    b.load(&store, &["b"]);
    let files: Vec<_> = b.chains().iter().map(|chain| store.layer_dir(chain).with_file_name("inventory")).collect();
    let good: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert_sound(&store);
    let other = || std::fs::write(&files[1], &good[0]).unwrap();
    for damage in [&|| rot(&files[1]), &other] as [&dyn Fn(); 2] {
        damage();
        let found = store.verify().unwrap().faults;
        assert!(found.len() == 1 && found[0].path == files[1], "{found:?}");
        let repaired = store.repair().unwrap();
        assert_eq!((repaired.faults, repaired.left.faults), (found, Vec::new()));
        assert_eq!(
            (repaired.inventories.as_slice(), repaired.rebuilt, repaired.quarantine),
            (&b.chains()[1..], Vec::new(), None)
        );
        assert_eq!(std::fs::read(&files[1]).unwrap(), good[1]);
    }
    // What is in the way is told.
    std::fs::remove_file(&files[1]).unwrap();
    std::fs::create_dir(&files[1]).unwrap();
    let repaired = store.repair().unwrap();
    assert!(
        repaired.faults[0].what.contains("regular file, and it cannot be made anew: cannot rename"),
        "{repaired:?}"
    );
    assert_eq!((repaired.left.faults.len(), repaired.quarantine), (1, None));
    std::fs::remove_dir(&files[1]).unwrap();
    std::fs::write(&files[1], &good[1]).unwrap();
    // Older programs made none, and newer ones may make others.
    std::fs::write(&files[0], "laminafs inventory 2\n and whatever comes then").unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    assert_sound(&store);
    assert_eq!(store.repair().unwrap().inventories.len(), 2);
    assert_eq!(files.iter().map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>(), good);
    assert_eq!(store.repair().unwrap().inventories, []);
    assert_sound(&store);
}
