//! Images come in, have names and are found.

use super::*;
use crate::store::{Error, Step};
use crate::sys::seam::{Plan, plan, take};
use parking_lot::Mutex;

#[test]
fn a_loaded_image_is_whole_and_a_second_load_reads_nothing() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    let steps = Mutex::new(Vec::new());
    let loaded = store.load(a.incoming(&["app:1"]), Some(&|n, step| steps.lock().push((n, step)))).unwrap();
    assert_eq!(loaded.id, a.id());
    assert_eq!(loaded.layers, a.chains().into_iter().map(|c| (c, true)).collect::<Vec<_>>());
    assert!(steps.lock().contains(&(1, Step::Read)));
    assert_eq!(a.asked(), 2);
    let image = store.find("app:1").unwrap();
    assert_eq!(image.display(), "app:1");
    let dirs = store.layer_dirs(&image.record, None).unwrap();
    assert_eq!(std::fs::read(dirs[0].join("app/run")).unwrap(), b"go go go");
    assert_eq!(std::fs::read(dirs[1].join("etc/os")).unwrap(), b"one");
    assert_eq!(store.layer_dirs(&image.record, Some(1)).unwrap(), dirs[1..]);
    assert!(matches!(store.layer_dirs(&image.record, Some(3)), Err(Error::FewerLayers { has: 2, wanted: 3, .. })));
    assert_eq!(store.manifest(&image.record).unwrap(), a.manifest);
    assert_eq!(store.config(&image.record).unwrap(), a.config);
    let mut blob = Vec::new();
    store.blob(&a.blob(1)).unwrap().read_to_end(&mut blob).unwrap();
    assert_eq!(blob, a.layers[1].1);
    steps.lock().clear();
    let again = store.load(a.incoming(&["app:1"]), Some(&|n, step| steps.lock().push((n, step)))).unwrap();
    assert!(again.layers.iter().all(|(_, unpacked)| !unpacked));
    assert_eq!((a.asked(), steps.into_inner()), (0, vec![(0, Step::Present), (1, Step::Present)]));
    b.load(&store, &["data"]);
    assert_eq!((b.asked(), counts(&store)), (1, (2, 3, 3 + 4)));
    assert_sound(&store);
}

#[test]
fn layers_unpack_side_by_side() {
    let place = place();
    let mut store = open(&place);
    store.threads = 3;
    let names: Vec<String> = (0..12).map(|n| format!("file{n}")).collect();
    let layers = names.iter().map(|name| {
        let name: &'static str = name.clone().leak();
        let stream = tar(&[("dir/", ""), (name, "x")]);
        (stream.clone(), gzip(&stream))
    });
    let image = Sample::of_blobs("many", layers.collect());
    image.load(&store, &["many"]);
    assert_eq!(counts(&store), (1, 12, 14));
    assert_sound(&store);
}

#[test]
fn a_name_moves_and_the_old_image_dangles() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["x", "localhost/y:1"]);
    let loaded = b.load(&store, &["x"]);
    assert_eq!(loaded.moved, [("x".parse().unwrap(), a.id())]);
    assert_eq!(store.find("x").unwrap().record.id, b.id());
    assert_eq!(store.find("localhost/y:1").unwrap().tags.len(), 1);
    assert_eq!(store.tag(&b.id(), &"localhost/y:1".parse().unwrap()).unwrap(), Some(a.id()));
    assert_eq!(store.tag(&b.id(), &"localhost/y:1".parse().unwrap()).unwrap(), None);
    let images = store.images().unwrap();
    let dangling: Vec<_> = images.iter().filter(|i| i.tags.is_empty()).map(|i| i.record.id).collect();
    assert_eq!(dangling, [a.id()]);
    assert!(matches!(store.tag(&Digest::of(b"no"), &"z".parse().unwrap()), Err(Error::NoImage(_))));
    let digest: Reference = format!("z@{}", a.id()).parse().unwrap();
    assert!(matches!(store.tag(&a.id(), &digest), Err(Error::NotATag(_))));
    assert_sound(&store);
}

#[test]
fn images_are_found_as_docker_finds_them() {
    let place = place();
    let store = open(&place);
    // Enough images that two ids begin alike.
    let images: Vec<Sample> = (0..20).map(|n| Sample::new(&n.to_string(), &[BASE])).collect();
    for (n, image) in images.iter().enumerate() {
        image.load(&store, &[&format!("image:{n}")]);
    }
    assert_eq!(counts(&store), (20, 1, 41));
    let first = &images[0];
    let manifest = Digest::of(&first.manifest);
    let hex = first.id().hex();
    for text in ["image:0", "docker.io/library/image:0", &hex, &hex[..12], &hex[..12].to_uppercase()] {
        assert_eq!(store.find(text).unwrap().record.id, first.id(), "{text}");
    }
    for text in [first.id().to_string(), format!("sha256:{}", &hex[..10]), format!("image@{manifest}")] {
        assert_eq!(store.find(&text).unwrap().record.id, first.id(), "{text}");
    }
    let ambiguous = "0123456789abcdef".chars().map(|c| store.find(&c.to_string())).find_map(Result::err);
    let ambiguous = match ambiguous {
        Some(Error::NoImage(_)) | None => "0123456789abcdef"
            .chars()
            .find_map(|c| store.find(&c.to_string()).err().filter(|e| matches!(e, Error::Ambiguous { .. }))),
        other => other,
    };
    let Some(Error::Ambiguous { candidates, .. }) = ambiguous else { panic!("{ambiguous:?}") };
    assert!(candidates.len() > 1 && candidates.iter().all(|c| c.starts_with("sha256:")));
    for text in ["", "nothing", "image", "sha256:", "../format", "image:0/x", &"a".repeat(65)] {
        assert!(matches!(store.find(text), Err(Error::NoImage(_))), "{text}");
    }
    // A name wins over an id.
    store.tag(&images[1].id(), &hex[..12].parse().unwrap()).unwrap();
    assert_eq!(store.find(&hex[..12]).unwrap().record.id, images[1].id());
}

#[test]
fn damaged_blobs_leave_nothing_behind() {
    let place = place();
    let store = open(&place);
    let good = Sample::new("good", &[BASE]);
    good.load(&store, &["good"]);
    let before = counts(&store);
    let mut bad = Sample::new("bad", &[BASE, APP, DATA]);
    let expected = bad.blob(1);
    let refused = |bad: &Sample, announced: Digest| {
        let mut incoming = bad.incoming(&["bad"]);
        incoming.layers[1].blob = Some(announced);
        let e = store.load(incoming, None).unwrap_err();
        assert!(matches!(&e, Error::Layer { what, .. } if what.contains(&announced.to_string())), "{e}");
        assert_eq!(counts(&store), before);
        assert_sound(&store);
    };
    let blob = bad.layers[1].1.clone();
    bad.layers[1].1 = [blob.as_slice(), b"more"].concat();
    refused(&bad, expected);
    bad.layers[1].1 = blob[..blob.len() / 2].to_vec();
    refused(&bad, expected);
    // The right digest of something else.
    bad.layers[1].1 = gzip(&tar(BASE));
    refused(&bad, bad.blob(1));
    bad.layers[1].1 = blob;
    bad.load(&store, &["bad"]);
    assert_sound(&store);
}

#[test]
fn a_blob_that_was_cut_off_in_the_store_is_not_taken_for_good() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    let blob = store.path().join("blobs/sha256").join(a.blob(1).hex());
    std::fs::write(&blob, &a.layers[1].1[..10]).unwrap();
    let e = store.load(a.incoming(&["again"]), None).unwrap_err().to_string();
    assert!(e.contains(&a.blob(1).hex()) && e.contains("10 bytes") && e.contains("verify --repair"), "{e}");
    store.repair().unwrap();
    a.load(&store, &["a"]);
    assert_sound(&store);
}

#[test]
fn a_file_that_is_one_large_hole_is_measured_at_once() {
    let huge = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1000000000000")];
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions(huge.map(|(key, value)| (key, value.as_bytes()))).unwrap();
    let map = [&b"1\n900000000000\n5\n"[..], &[0; 512 - 17], b"hello"].concat();
    let mut header = tar::Header::new_ustar();
    header.set_size(map.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "hole", &map[..]).unwrap();
    let tar = builder.into_inner().unwrap();
    let (place, sample) = (place(), Sample::of_blobs("huge", vec![(tar.clone(), gzip(&tar))]));
    let store = open(&place);
    plan(Plan::Count);
    sample.load(&store, &["huge"]);
    assert_sound(&store);
    let reads = take().readings.iter().filter(|call| **call == "pread").count();
    assert!((2..100).contains(&reads), "a terabyte of zeros was read: {reads}");
    let layer = store.layer(&sample.chains()[0]).unwrap().unwrap();
    assert_eq!(layer.content, 1_000_000_000_000);
    // Where it has data counts.
    let file = std::fs::File::options().write(true).open(store.layer_dir(&sample.chains()[0]).join("hole")).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 800_000_000_000).unwrap();
    file.set_modified(mtime).unwrap();
    assert_eq!(store.verify().unwrap().faults.len(), 1);
}

#[test]
fn documents_that_do_not_fit_are_refused() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    let mut incoming = a.incoming(&["x"]);
    incoming.documents = Documents::Given { manifest: b.manifest.clone(), config: a.config.clone() };
    assert!(matches!(store.load(incoming, None), Err(Error::Mismatch { .. })));
    let mut incoming = a.incoming(&["x"]);
    incoming.layers.pop();
    assert!(matches!(store.load(incoming, None), Err(Error::Mismatch { .. })));
    let mut incoming = a.incoming(&[]);
    incoming.references = vec![format!("x@{}", a.id()).parse().unwrap()];
    assert!(matches!(store.load(incoming, None), Err(Error::NotATag(_))));
    assert_eq!(counts(&store), (0, 0, 0));
    assert_sound(&store);
}

#[test]
fn imports_need_no_digests() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    for expected in [2, 0] {
        let mut incoming = a.incoming(&["x"]);
        for layer in &mut incoming.layers {
            (layer.diff_id, layer.blob, layer.size) = (None, None, None);
        }
        incoming.documents = Documents::Made(Box::new(|found| {
            assert_eq!(found.iter().map(|l| l.chain_id).collect::<Vec<_>>(), a.chains());
            assert_eq!((found[0].blob, found[0].size), (a.blob(0), a.layers[0].1.len() as u64));
            Ok((a.manifest.clone(), a.config.clone()))
        }));
        let loaded = store.load(incoming, None).unwrap();
        assert_eq!(loaded.id, a.id());
        assert_eq!(loaded.layers.iter().filter(|(_, unpacked)| *unpacked).count(), expected);
        assert_sound(&store);
    }
    assert_eq!(counts(&store), (1, 2, 4));
}

#[test]
fn the_same_layers_compressed_otherwise_are_not_unpacked_again() {
    let place = place();
    let store = open(&place);
    let packed = Sample::new("x", &[BASE, APP]);
    let plain = Sample::of_blobs("y", [BASE, APP].map(|l| (tar(l), tar(l))).to_vec());
    packed.load(&store, &["packed"]);
    let loaded = plain.load(&store, &["plain"]);
    assert!(loaded.layers.iter().all(|(_, unpacked)| !unpacked));
    assert_eq!((plain.asked(), counts(&store)), (2, (2, 2, 8)));
    // The blob is checked all the same, also one that is there: as part of another layer.
    for blob in [gzip(&tar(APP)), gzip(&tar(DATA))] {
        let bad = Sample::of_blobs("z", vec![(tar(BASE), blob)]);
        assert!(matches!(store.load(bad.incoming(&["z"]), None), Err(Error::Layer { .. })));
    }
    let bad = Sample::of_blobs("x", [BASE, APP].map(|l| (tar(l), tar(l))).to_vec());
    // One configuration, another manifest: the first stays.
    bad.load(&store, &["again"]);
    assert_eq!(store.find("again").unwrap().record.manifest, Digest::of(&packed.manifest));
    assert_eq!(counts(&store), (2, 2, 8));
    assert_sound(&store);
}

#[test]
fn an_image_without_layers_and_one_layer_twice() {
    let place = place();
    let store = open(&place);
    Sample::new("empty", &[]).load(&store, &["empty"]);
    let image = store.find("empty").unwrap();
    assert!(store.layer_dirs(&image.record, None).unwrap().is_empty());
    Sample::new("twice", &[BASE, BASE]).load(&store, &["twice"]);
    assert_eq!(counts(&store), (2, 2, 2 + 2 + 1));
    assert_sound(&store);
}

#[test]
fn single_blobs_are_stored_and_verified() {
    let place = place();
    let store = open(&place);
    let digest = Digest::of(b"hello");
    for _ in 0..2 {
        assert_eq!(store.put_blob(&mut &b"hello"[..], Some(digest)).unwrap(), (digest, 5));
    }
    let e = store.put_blob(&mut &b"hellO"[..], Some(digest)).unwrap_err();
    assert!(matches!(&e, Error::Mismatch { .. }) && e.to_string().contains(&digest.to_string()), "{e}");
    assert_eq!(store.blob_size(&digest).unwrap(), Some(5));
    assert!(matches!(store.blob(&Digest::of(b"")), Err(Error::NoBlob(_))));
    assert_eq!(store.document(&digest).unwrap(), b"hello");
    assert_sound(&store);
}

#[test]
fn archives_without_manifest_are_loaded() {
    use crate::image::container::{Source, Spool, Wanted};
    let place = place();
    let store = open(&place);
    let sample = Sample::new("x", &[BASE, APP]);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, data).unwrap();
    };
    let manifest = r#"[{"Config":"c.json","RepoTags":["web:1"],"Layers":["0.tar","1.tar"]}]"#;
    add("c.json", &sample.config);
    add("0.tar", &tar(BASE));
    add("1.tar", &sample.layers[1].1);
    add("manifest.json", manifest.as_bytes());
    let archive = builder.into_inner().unwrap();
    let spool = store.spool_dir();
    let source = Source::from_reader(&mut archive.as_slice(), Path::new("web.tar"), None, Spool::new(&spool)).unwrap();
    for fresh in [true, false] {
        let images = source.images(Wanted::default()).unwrap();
        let incoming = Store::incoming(&source, &images[0], images[0].references.clone(), Limits::default());
        let loaded = store.load(incoming, None).unwrap();
        assert_eq!((loaded.id, loaded.layers[0].1, loaded.layers[1].1), (sample.id(), fresh, fresh));
        assert_eq!(store.find("web:1").unwrap().record.layers[0].blob, Digest::of(&tar(BASE)));
        assert_sound(&store);
    }
}

#[test]
fn an_image_of_too_many_layers_is_refused() {
    let (place, blob) = (place(), gzip(&[0; 1024]));
    let store = open(&place);
    let sample = Sample::of_blobs("tall", vec![(vec![0; 1024], blob); 1001]);
    let e = store.load(sample.incoming(&["tall"]), None).unwrap_err();
    assert_eq!(e.to_string(), "it has 1001 layers, and 1000 at most are taken; join some of them");
    assert_eq!((sample.asked(), store.images().unwrap().len()), (0, 0));
}
