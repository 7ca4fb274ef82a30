//! Layers that are read from their inventories are those that are read from their directories.

use super::generate::Rng;
use super::random::stack;
use crate::archive::{Expected, Form, Limits, Options, Owners, complete, unpack};
use crate::image::digest::Digest;
use crate::layer::xattr::Namespace;
use crate::provenance::{EntryId, Layer, LayerDirectory, Merged};
use crate::store::{self, Inventory};
use crate::sys::{self, At, SetTime, Time};
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Unpacks layers as the store does, in the form that `seed` says, into `N/diff`.
fn unpack_all(dir: &Path, tars: &[Vec<u8>], seed: u64) -> Vec<PathBuf> {
    let (mut roots, mut paths) = (Vec::new(), Vec::new());
    for (n, tar) in tars.iter().enumerate() {
        let path = dir.join(n.to_string()).join("diff");
        fs::create_dir_all(&path).unwrap();
        let root = sys::open_root(&path).unwrap();
        let mut form = Form::probe(root.as_fd()).unwrap();
        match seed % 3 {
            0 => {}
            1 => form.device_whiteouts = false,
            _ => {
                (form.namespace, form.owners) = (Namespace::User, Owners::OverrideStat);
                form.device_whiteouts = false;
            }
        }
        let options = Options { form, expected: Expected::default(), limits: &Limits::default(), progress: None };
        let unpacked = unpack(tar.as_slice(), root.as_fd(), &options).unwrap();
        let below: Vec<_> = roots.iter().rev().map(AsFd::as_fd).collect();
        complete(root.as_fd(), &below, form, unpacked.pending).unwrap();
        roots.push(root);
        paths.push(path);
    }
    paths
}

/// Puts into a layer what no archive can, but a directory.
fn add_strange(layer: &Path, rng: &mut Rng) {
    let inside = [layer.to_owned(), layer.join("a"), layer.join("b"), layer.join("new"), layer.join(".wh.directory")];
    fs::create_dir_all(&inside[3]).unwrap();
    fs::create_dir_all(inside[4].join("unseen/deep")).unwrap();
    for dir in inside.iter().filter(|dir| dir.is_dir()) {
        let root = sys::open_root(dir).unwrap();
        let set = |name: &str, attribute: &CStr, value: &[u8]| {
            sys::xattr::set(At::Name(root.as_fd(), OsStr::new(name)), attribute, value, 0).unwrap();
        };
        let own = [
            (c"user.overlay.redirect", &b"/a"[..]),
            (c"trusted.overlay.redirect", b"b"),
            (c"trusted.overlay.opaque", b"y"),
            (c"user.overlay.opaque", b"x"),
            (c"user.fuseoverlayfs.opaque", b"y"),
            (c"trusted.overlay.impure", b"y"),
            (c"user.overlay.laminafs.nested", b"y"),
            (c"user.other", b"no mark"),
        ];
        for (attribute, value) in own.iter().filter(|_| rng.one_in(3)) {
            sys::xattr::set(At::Fd(root.as_fd()), attribute, value, 0).unwrap();
        }
        for name in [".wh.a", ".wh.c", ".wh.zz", ".wh..wh..opq", ".wh..wh.plnk", "empty", "\u{fc}"] {
            if rng.one_in(2) && !dir.join(name).exists() {
                fs::write(dir.join(name), "").unwrap();
            }
        }
        if rng.one_in(2) {
            fs::write(dir.join(OsStr::from_bytes(b"z\xff\n")), "with data").unwrap();
            fs::hard_link(dir.join(OsStr::from_bytes(b"z\xff\n")), dir.join("again")).unwrap();
            symlink("x".repeat(300), dir.join("link")).unwrap();
            fs::hard_link(dir.join("link"), dir.join("link again")).unwrap();
        }
        for (attribute, value) in [
            (c"trusted.overlay.metacopy", &b""[..]),
            (c"user.overlay.metacopy", b""),
            (c"trusted.overlay.redirect", b"/a/b"),
            (c"user.overlay.whiteout", b"y"),
            (c"user.overlay.laminafs.nested", b"y"),
            (c"user.containers.override_stat", b"7:8:4755:char-5-1"),
            (c"user.fuseoverlayfs.override_stat", b"1:2:0600"),
        ] {
            for name in ["again", "empty", "a", "c", "\u{fc}"] {
                if rng.one_in(4) && dir.join(name).is_file() {
                    set(name, attribute, value);
                }
            }
        }
        let time = Time { sec: i64::try_from(rng.below(1 << 32)).unwrap() - (1 << 31), nsec: 123_456_789 };
        sys::set_times(At::Fd(root.as_fd()), SetTime::Omit, SetTime::At(time)).unwrap();
        if sys::process::is_root() && rng.one_in(2) {
            for (name, kind, numbers) in [("gone", libc::S_IFCHR, (0, 0)), ("disk", libc::S_IFBLK, (8, 300))] {
                sys::mknod(root.as_fd(), OsStr::new(name), kind | 0o640, numbers.0, numbers.1).unwrap();
            }
            std::os::unix::fs::lchown(dir.join("disk"), Some(4_000_000_000), Some(70_000)).unwrap();
            fs::hard_link(dir.join("gone"), dir.join("gone too")).unwrap();
        }
    }
}

/// Everything that is known of the entries of a layer, by their paths.
fn told(layer: &Layer) -> BTreeMap<Vec<u8>, String> {
    let mut told = BTreeMap::new();
    for id in layer.ids() {
        let e = layer.entry(id);
        assert!(id == EntryId::ROOT || layer.parent(id) < id);
        let names: Vec<_> = layer.children(id).map(|child| layer.name(child).to_vec()).collect();
        assert!(names.is_sorted());
        let marks = (e.kind, e.opaque, e.metacopy, e.implied, e.copied, layer.redirect(id));
        let stat = (e.mode, e.uid, e.gid, e.size, e.mtime, e.device);
        let first = (layer.has_names(id), layer.path(layer.first_name(id)));
        let text = format!("{marks:?} {stat:?} {first:?} {:?} {names:?}", layer.piece(e.target));
        assert!(told.insert(layer.path(id), text).is_none());
    }
    assert_eq!(told.len(), layer.len());
    told
}

/// What is read of the layers, or the error.
fn read(paths: &[PathBuf], override_stat: bool, data_only: bool) -> Result<Vec<BTreeMap<Vec<u8>, String>>, String> {
    let mut layers: Vec<_> =
        paths.iter().map(|path| LayerDirectory { override_stat, ..LayerDirectory::new(path.clone()) }).collect();
    if data_only {
        layers.insert(0, LayerDirectory { data_only, ..LayerDirectory::new(paths[0].clone()) });
    }
    let merged = Merged::of_directories("test", None, layers).map_err(|e| e.to_string())?;
    Ok(merged.layers().iter().map(told).collect())
}

fn inventory(diff: &Path) -> crate::store::Result<Option<Inventory>> {
    let root = sys::open_root(diff).unwrap();
    Inventory::of_layer(diff, &sys::stat(At::Fd(root.as_fd())).unwrap())
}

#[test]
fn random_layers_are_the_same_with_and_without() {
    for seed in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let (mut rng, (_, tars)) = (Rng::new(seed), stack(seed));
        let paths = unpack_all(dir.path(), &tars, seed);
        if seed % 2 == 1 {
            paths.iter().for_each(|path| add_strange(path, &mut rng));
        }
        let all = || [(false, false), (true, false), (false, true), (true, true)].map(|(a, b)| read(&paths, a, b));
        let without = all();
        paths.iter().for_each(|path| store::describe(path.parent().unwrap()));
        for path in &paths {
            assert!(inventory(path).unwrap().is_some(), "{seed}");
        }
        assert_eq!(all(), without, "stack {seed}");
        assert!(without.iter().all(Result::is_ok), "{without:?}");
    }
}

/// What the walk refuses is refused, in the same words.
#[test]
fn errors_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (diff, file) = one(dir.path());
    let at = sys::open_root(&diff.join("directory")).unwrap();
    sys::xattr::set(At::Fd(at.as_fd()), c"user.overlay.redirect", b"../x", 0).unwrap();
    store::describe(diff.parent().unwrap());
    let error = read(std::slice::from_ref(&diff), false, false).unwrap_err();
    assert!(error.contains("/diff/directory: overlay.redirect"), "{error}");
    fs::remove_file(file).unwrap();
    assert_eq!(read(&[diff], false, false).unwrap_err(), error);
}

/// A layer with its inventory: its directory, and the bytes of that.
fn one(dir: &Path) -> (PathBuf, PathBuf) {
    let diff = unpack_all(dir, &stack(4).1[..1], 0).remove(0);
    fs::create_dir(diff.join("directory")).unwrap();
    store::describe(diff.parent().unwrap());
    let file = diff.parent().unwrap().join("inventory");
    (diff, file)
}

/// It is what is read: changes below the root are not seen until somebody verifies.
#[test]
fn the_directory_is_not_walked() {
    let dir = tempfile::tempdir().unwrap();
    let (diff, file) = one(dir.path());
    let before = read(std::slice::from_ref(&diff), false, false);
    fs::write(diff.join("directory/later"), "").unwrap();
    assert_eq!(read(std::slice::from_ref(&diff), false, false), before);
    // One in the root is seen by its time.
    fs::write(diff.join("later"), "").unwrap();
    assert!(inventory(&diff).is_err());
    assert_eq!(read(std::slice::from_ref(&diff), false, false).unwrap()[0].len(), before.unwrap()[0].len() + 2);
    fs::remove_file(file).unwrap();
    assert!(inventory(&diff).unwrap().is_none());
}

#[test]
fn a_damaged_one_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (diff, file) = one(dir.path());
    let (good, right) = (fs::read(&file).unwrap(), read(std::slice::from_ref(&diff), false, false));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&file, &bad).unwrap();
        // Another version than this is none.
        let is_version = (19..21).contains(&at);
        assert!(inventory(&diff).is_err() || is_version, "{at}");
        fs::write(&file, &good[..at]).unwrap();
        assert!(inventory(&diff).is_err() || is_version, "{at}");
    }
    assert_eq!(read(std::slice::from_ref(&diff), false, false), right);
    // Nobody reads terabytes of nothing.
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    assert!(inventory(&diff).unwrap_err().to_string().contains("too long"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(inventory(&diff).is_err());
    assert_eq!(read(std::slice::from_ref(&diff), false, false), right);
}

/// The inventory of another layer, or of this one in another state.
#[test]
fn it_belongs_to_its_layer() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (diff, file) = one(dir.path());
    let moved = unpack_all(other.path(), &stack(5).1[..1], 0).remove(0);
    store::describe(moved.parent().unwrap());
    fs::copy(moved.parent().unwrap().join("inventory"), &file).unwrap();
    assert!(inventory(&diff).is_err());
    fs::remove_dir_all(&diff).unwrap();
    fs::rename(&moved, &diff).unwrap();
    // layer.json is that of the directory that was there before.
    assert!(inventory(&diff).is_err());
    fs::copy(moved.parent().unwrap().join("layer.json"), file.with_file_name("layer.json")).unwrap();
    assert!(inventory(&diff).unwrap().is_some());
    // Others can write what they like.
    if sys::process::is_root() {
        std::os::unix::fs::chown(&file, Some(1), None).unwrap();
        assert!(inventory(&diff).unwrap().is_none());
    }
}

/// Bytes that have a right checksum and make no sense are no layer, and no reason to die.
#[test]
fn nonsense_with_a_right_checksum_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let (diff, file) = one(dir.path());
    let (good, mut rng) = (fs::read(&file).unwrap(), Rng::new(1));
    let (header, body) = good.split_at(21 + 32);
    let right = read(std::slice::from_ref(&diff), false, false);
    let mut used = 0;
    for round in 0..2000 {
        let mut body = body.to_vec();
        for _ in 0..=rng.below(3) {
            let at = 64 + usize::try_from(rng.below(body.len() as u64 - 64)).unwrap();
            match rng.below(4) {
                0 => body.truncate(at.max(65)),
                1 => drop(body.splice(at..at, [0xff; 9])),
                2 => drop(body.remove(at)),
                _ => body[at] = u8::try_from(rng.below(256)).unwrap(),
            }
            body.resize(body.len().max(66), 0);
        }
        let bytes = [&header[..21], Digest::of(&body).bytes(), &body].concat();
        if let Some(inventory) = Inventory::parse(bytes.clone()) {
            let mut blocks = inventory.blocks();
            while !blocks.is_at_end() && blocks.next().is_some() {}
        }
        if round % 10 == 0 {
            fs::write(&file, bytes).unwrap();
            used += usize::from(read(std::slice::from_ref(&diff), false, false) != right);
        }
    }
    // Where a name or a number was changed and nothing else, there is nothing to see it by.
    assert!((1..150).contains(&used), "{used}");
}
