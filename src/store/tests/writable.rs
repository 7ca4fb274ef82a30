//! Writable layers.

use super::*;
use crate::store::Error;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_writable_layer_is_made_found_and_removed() {
    let place = place();
    let store = open(&place);
    let image = Sample::new("a", &[&[("./", ""), ("f", "x")], APP]);
    image.load(&store, &["a"]);
    let made = store.create_writable(&image.id(), None, None).unwrap();
    assert!(made.record.name.contains('_') && made.upper.is_dir() && made.work.is_dir());
    assert_eq!((made.record.layers, made.record.chain, made.busy), (2, Some(image.chains()[1]), false));
    let root = store.layer_dir(&image.chains()[1]).metadata().unwrap();
    let upper = made.upper.metadata().unwrap();
    assert_eq!((upper.mode(), upper.uid(), upper.mtime()), (root.mode(), root.uid(), root.mtime()));
    let one = store.create_writable(&image.id(), Some(1), Some("one")).unwrap();
    assert_eq!(one.record.chain, Some(image.chains()[0]));
    let none = store.create_writable(&image.id(), Some(0), Some("none")).unwrap();
    assert_eq!(none.record.chain, None);
    assert!(store.lease("none").unwrap().lower().is_empty());
    assert_eq!(store.writables().unwrap().len(), 3);
    assert_sound(&store);
    store.remove_writable("one").unwrap();
    assert!(matches!(store.remove_writable("one"), Err(Error::NoWritable(_))));
    assert!(matches!(store.create_writable(&image.id(), Some(3), None), Err(Error::FewerLayers { .. })));
    assert!(matches!(store.create_writable(&Digest::of(b""), None, None), Err(Error::NoImage(_))));
    assert_sound(&store);
}

#[test]
fn names_are_checked_and_taken_once() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    store.create_writable(&a.id(), None, Some("web")).unwrap();
    std::fs::write(store.path().join("writable/web/upper/keep"), "x").unwrap();
    assert!(matches!(store.create_writable(&a.id(), None, Some("web")), Err(Error::NameTaken(_))));
    assert!(store.path().join("writable/web/upper/keep").exists());
    for bad in ["", "..", "a/b", "-x"] {
        assert!(matches!(store.create_writable(&a.id(), None, Some(bad)), Err(Error::BadName(_))));
        assert!(matches!(store.writable(bad), Err(Error::NoWritable(_))));
        assert!(matches!(store.remove_writable(bad), Err(Error::NoWritable(_))));
    }
    assert_sound(&store);
}

#[test]
fn a_lease_excludes_others_and_says_where() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    store.create_writable(&a.id(), None, Some("web")).unwrap();
    let lease = store.lease("web").unwrap();
    assert_eq!(lease.lower(), store.layer_dirs(&store.find("a").unwrap().record, None).unwrap());
    assert!(matches!(store.lease("web"), Err(Error::Busy { mountpoint: None, .. })));
    lease.mounted(Path::new("/mnt/x"), false).unwrap();
    lease.mounted(Path::new("/mnt/y"), false).unwrap();
    let e = store.remove_writable("web").unwrap_err();
    assert!(e.to_string().contains("laminafs umount /mnt/y"), "{e}");
    let found = store.writable("web").unwrap();
    assert_eq!((found.busy, found.mount.unwrap().mountpoint), (true, "/mnt/y".into()));
    // As if its process had been killed: nobody holds the lock, the record stays.
    drop(lease);
    let found = store.writable("web").unwrap();
    assert_eq!((found.busy, found.mount), (false, None));
    let lease = store.lease("web").unwrap();
    assert_eq!(lease.writable().mount, None);
    assert!(!store.path().join("writable/web/mount.json").exists());
    lease.mounted(Path::new("/mnt/x"), false).unwrap();
    lease.unmounted().unwrap();
    lease.remove(&store).unwrap();
    assert_eq!(store.writables().unwrap(), []);
    // A kernel mount that is not there counts for nothing.
    store.create_writable(&a.id(), None, Some("web")).unwrap();
    store.lease("web").unwrap().mounted(Path::new("/nowhere"), true).unwrap();
    assert_eq!(store.writable("web").unwrap().mount, None);
    store.remove_writable("web").unwrap();
    assert_sound(&store);
}
