//! Removal and sizes.

use super::*;
use crate::store::{Error, Prune};
use std::os::unix::fs::MetadataExt;

#[test]
fn rmi_untags_and_deletes_what_only_this_image_has() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a:1", "a:2"]);
    b.load(&store, &["b"]);
    let removed = store.remove_image("a:1", false).unwrap();
    assert_eq!((removed.untagged.len(), removed.images.len(), removed.layers.len()), (1, 0, 0));
    let removed = store.remove_image("a:2", false).unwrap();
    assert_eq!(removed.images, [a.id()]);
    assert_eq!(removed.layers, a.chains()[1..]);
    assert_eq!(removed.blobs.len(), 3);
    assert!(removed.reclaimed > 0);
    assert_eq!(counts(&store), (1, 2, 4));
    assert_sound(&store);
    assert!(matches!(store.remove_image("a:2", true), Err(Error::NoImage(_))));
    let removed = store.remove_image(&b.id().hex()[..12], false).unwrap();
    assert_eq!((removed.untagged.len(), removed.layers), (1, b.chains().into_iter().rev().collect()));
    assert_eq!(counts(&store), (0, 0, 0));
    assert_sound(&store);
}

#[test]
fn rmi_by_id_with_several_names() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a:1", "a:2"]);
    let id = a.id().to_string();
    assert_eq!(store.remove_image(&id, false).unwrap().untagged.len(), 2);
    a.load(&store, &["a:1", "other"]);
    let e = store.remove_image(&id, false).unwrap_err();
    assert!(matches!(&e, Error::SeveralNames { names, .. } if names == &["a:1", "other:latest"]), "{e}");
    assert_eq!(store.remove_image(&id, true).unwrap().images, [a.id()]);
    assert_eq!(counts(&store), (0, 0, 0));
}

#[test]
fn what_is_used_stays() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    store.create_writable(&a.id(), None, Some("web")).unwrap();
    for text in ["a", &a.id().hex()] {
        let e = store.remove_image(text, false).unwrap_err();
        assert!(matches!(&e, Error::ImageInUse { by, .. } if by == &["writable layer web"]), "{e}");
    }
    let removed = store.remove_image("a", true).unwrap();
    assert_eq!((removed.untagged.len(), removed.images.len()), (1, 0));
    let e = store.remove_image(&a.id().hex(), true).unwrap_err();
    assert!(matches!(e, Error::ImageInUse { .. }), "{e}");
    assert_eq!(store.prune(Prune { all: true, writable: false }).unwrap(), Default::default());
    assert_sound(&store);
    let removed = store.prune(Prune { all: false, writable: true }).unwrap();
    assert_eq!((removed.writable, removed.images), (vec!["web".to_owned()], vec![a.id()]));
    assert_eq!(counts(&store), (0, 0, 0));
}

#[test]
fn mounts_without_a_writable_layer_count_too() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    let pin = store.pin(&a.id(), None).unwrap();
    assert_eq!(pin.lower().len(), 2);
    let e = store.remove_image("a", false).unwrap_err();
    assert!(matches!(&e, Error::ImageInUse { by, .. } if by[0].contains("mount")), "{e}");
    assert_eq!(store.remove_image("a", true).unwrap().images, []);
    assert_eq!(store.prune(Prune { all: true, writable: true }).unwrap(), Default::default());
    assert!(store.usage().unwrap().images[0].active());
    drop(pin);
    assert_eq!(store.prune(Prune::default()).unwrap().images, [a.id()]);
    assert_sound(&store);
}

#[test]
fn prune_takes_dangling_images_all_images_and_orphans() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    b.load(&store, &["b"]);
    store.remove_image("a", true).unwrap();
    a.load(&store, &[]);
    store.put_blob(&mut &b"orphan"[..], None).unwrap();
    let removed = store.prune(Prune::default()).unwrap();
    assert_eq!((removed.images, removed.layers), (vec![a.id()], a.chains()[1..].to_vec()));
    assert_eq!(removed.blobs.len(), 4);
    assert_eq!(store.prune(Prune::default()).unwrap(), Default::default());
    let reclaimable = store.usage().unwrap().reclaimable;
    let removed = store.prune(Prune { all: true, writable: false }).unwrap();
    assert_eq!((removed.untagged.len(), removed.reclaimed), (1, reclaimable));
    assert_eq!(counts(&store), (0, 0, 0));
    assert_sound(&store);
}

#[test]
fn nothing_is_removed_while_a_record_cannot_be_read() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    b.load(&store, &["b"]);
    std::fs::write(store.path().join("images/sha256").join(a.id().hex()), "{").unwrap();
    for result in [store.remove_image("b", true), store.prune(Prune { all: true, writable: true })] {
        let e = result.unwrap_err();
        assert!(matches!(e, Error::Damaged { .. }) && e.to_string().contains("verify --repair"), "{e}");
    }
    assert_eq!(counts(&store), (2, 3, 7));
}

/// What `du -s --block-size=1` counts below `path`; blobs by length.
fn du(path: &Path, seen: &mut std::collections::HashSet<u64>) -> u64 {
    let meta = path.symlink_metadata().unwrap();
    let own = if seen.insert(meta.ino()) { meta.blocks() * 512 } else { 0 };
    if !meta.is_dir() {
        return own;
    }
    std::fs::read_dir(path).unwrap().map(|e| du(&e.unwrap().path(), seen)).sum::<u64>() + own
}

#[test]
fn sizes_add_up_and_shared_layers_cost_once() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    let before = store.usage().unwrap();
    assert_eq!(before.images[0].disk_shared, 0);
    b.load(&store, &["b", "c"]);
    store.create_writable(&a.id(), Some(1), Some("web")).unwrap();
    std::fs::write(store.path().join("writable/web/upper/f"), vec![1; 100_000]).unwrap();
    store.put_blob(&mut &b"orphan"[..], None).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!(usage.images.len(), 2);
    for image in &usage.images {
        assert_eq!((image.shared + image.unique, image.disk_shared + image.disk_unique), (image.size, image.disk));
        assert_eq!(image.shared, 5, "the two files of the base layer");
    }
    let unique: u64 = usage.images.iter().map(|i| i.disk_unique).sum();
    assert_eq!(unique + usage.shared_once + usage.unreferenced, usage.layers_disk + usage.blobs_disk);
    assert_eq!(usage.unreferenced, 6);
    let mut seen = std::collections::HashSet::new();
    let layers: u64 = store.layer_ids().unwrap().iter().map(|c| du(&store.layer_dir(c), &mut seen)).sum();
    assert_eq!(usage.layers_disk, layers);
    assert!(usage.writable_disk() >= 100_000 && usage.writable_disk() == usage.writable_reclaimable());
    let of_a = usage.images.iter().find(|i| i.image.record.id == a.id()).unwrap();
    assert_eq!((of_a.writable.as_slice(), of_a.active()), (&["web".to_owned()][..], true));
}
