//! Archives that are damaged, or made to harm.

use super::*;
use proptest::prelude::*;

/// What is said of an archive in a file; of one from a pipe it is the same.
fn error(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    std::fs::write(&path, bytes).unwrap();
    let spool = Spool::new(dir.path());
    let sources = [Source::from_reader(&mut Cursor::new(bytes), &path, None, spool), Source::open(&path, None, spool)];
    let [piped, filed] = sources.map(|source| match source.and_then(|source| source.images(Wanted::default())) {
        Ok(_) => "no error".to_owned(),
        Err(e) => e.to_string(),
    });
    // A pipe has no length, so that only what is too long for any archive can be said before its end.
    assert!(piped == filed || piped.contains("more than the 1099511627776"), "{piped}; {filed}");
    filed
}

/// A docker-archive whose only layer has this name in manifest.json, with further members.
fn with_layer(name: &str, more: impl FnOnce(TarMaker) -> TarMaker) -> Vec<u8> {
    let manifest = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": [name]}]);
    let base = TarMaker::default().json("manifest.json", &manifest).file("c.json", &config_for("amd64", &[LAYER_1]));
    more(base).end()
}

#[test]
fn layers_are_looked_for_in_the_archive_only() {
    for name in ["../../etc/passwd", "/etc/passwd", "..", "", "a/../../b"] {
        let e = error(&with_layer(name, |tar| tar));
        assert!(e.contains("out of the archive") || e.contains("missing"), "{name}: {e}");
    }
    let inside = with_layer("/x/../1", |tar| tar.file("1", LAYER_1));
    assert_eq!(images(&inside).unwrap().len(), 1);
    let links = [("1", "/etc/passwd"), ("1", "../../etc/passwd"), ("1", "1"), ("1", "2"), ("1", "nothing")];
    for (name, target) in links {
        for kind in [b'1', b'2'] {
            let archive = with_layer("1", |t| t.member(kind, name, target, 0, b"").member(kind, "2", "1", 0, b""));
            let e = error(&archive);
            assert!(e.contains("link"), "{target}: {e}");
        }
    }
}

#[test]
fn archives_that_are_cut_off() {
    let whole = simple_oci("a:1");
    for keep in (0..whole.len()).filter(|k| k % 37 == 0 || k % 512 < 2) {
        // The two blocks of zeros at the end may be missing, and nothing else.
        let fine = keep + 1024 >= whole.len() && keep % 512 == 0;
        match images(&whole[..keep]) {
            Ok(_) => assert!(fine || keep + 1024 > whole.len() - 512, "{keep} of {}", whole.len()),
            Err(e) => assert!(!fine && !e.to_string().is_empty(), "{keep}: {e}"),
        }
    }
    for packed in [gzip(&whole), zstd::encode_all(&whole[..], 1).unwrap()] {
        assert!(error(&packed[..packed.len() - 10]).contains("reading the archive"));
    }
}

#[test]
fn huge_and_impossible_sizes() {
    for size in [u64::MAX, 1 << 62, i64::MAX as u64, 1 << 40] {
        let e = error(&TarMaker::default().member(b'0', "a", "", size, b"").end());
        assert!(e.contains("cut off"), "{e}");
        let e = error(&TarMaker::default().member(b'L', "a", "", size, b"").end());
        assert!(e.contains("extended header"), "{e}");
        let record = pax_record("size", size.to_string().as_bytes());
        let e = error(&TarMaker::default().member(b'x', "a", "", record.len() as u64, &record).file("a", b"x").end());
        assert!(e.contains("cut off"), "{e}");
    }
    for size in ["-1", "+1", "0x1", " 1", "99999999999999999999", "1e3"] {
        let record = pax_record("size", size.as_bytes());
        let e = error(&TarMaker::default().member(b'x', "a", "", record.len() as u64, &record).file("a", b"x").end());
        assert!(e.contains("not a number"), "{size}: {e}");
    }
}

#[test]
fn headers_that_can_be_read_in_two_ways() {
    let record = pax_record("path", b"a");
    let both = TarMaker::default()
        .member(b'x', "x", "", record.len() as u64, &record)
        .member(b'L', "x", "", 1, b"b")
        .file("c", b"");
    assert!(error(&both.end()).contains("two different long names"));
    let sparse = pax_record("GNU.sparse.major", b"1");
    let sparse = TarMaker::default().member(b'x', "x", "", sparse.len() as u64, &sparse).file("a", b"");
    assert!(error(&sparse.end()).contains("sparse"));
    assert!(error(&TarMaker::default().member(b'S', "a", "", 0, b"").end()).contains("sparse"));
    for kind in [b'1', b'2', b'5'] {
        assert!(error(&TarMaker::default().member(kind, "a", "b", 512, &[0; 512]).end()).contains("is no file"));
    }
    let many = (0..17).fold(TarMaker::default(), |tar, _| tar.member(b'L', "x", "", 1, b"a"));
    assert!(error(&many.file("a", b"").end()).contains("follow each other"));
    for records in [&b"5 a=b\n"[..], b"99 path=x\n", b"path=x\n", b"0 =\n", b"6 path", b"6 pat\n\n"] {
        let tar = TarMaker::default().member(b'x', "x", "", records.len() as u64, records).file("a", b"");
        assert!(error(&tar.end()).contains("PAX records"), "{records:?}");
    }
    let lone = [TarMaker::default().file("a", b"").0, vec![0; 512], TarMaker::default().file("b", b"").end()].concat();
    assert!(error(&lone).contains("lone block"));
    let twice = TarMaker::default().json("manifest.json", &json!([])).json("./manifest.json", &json!([]));
    assert!(error(&twice.end()).contains("there twice"));
}

#[test]
fn what_is_no_image_archive() {
    let table: &[(&[u8], &str)] = &[
        (b"", "empty"),
        (b"short", "neither a tar nor"),
        (b"PK\x03\x04", "neither a tar nor"),
        (&[7; 2048], "neither a tar nor"),
        (&[0; 1024], "empty"),
        (b"\xfd7zXZ\0....", "xz"),
        (b"BZh91AY...", "bzip2"),
        (b"\x1f\x8bnot gzip", "reading the archive"),
    ];
    for (bytes, part) in table {
        let e = error(bytes);
        assert!(e.contains(part), "{bytes:?}: {e}");
    }
    assert!(error(&TarMaker::default().file("a", b"").end()).contains("holds no images"));
    assert!(error(&TarMaker::default().json("repositories", &json!({})).end()).contains("before 1.10"));
    assert!(error(&TarMaker::default().json("manifest.json", &json!([])).end()).contains("no container image"));
    assert!(error(&oci(&index(&[])).end()).contains("no container image"));
    let e = read_as(&simple_oci("a"), "x", Some(Format::Docker)).unwrap_err();
    assert!(e.to_string().contains("no docker-archive"), "{e}");
}

#[test]
fn documents_that_lie() {
    let config = config_for("amd64", &[LAYER_1]);
    let manifest = manifest_for(&config, &[LAYER_1]);
    let wrong_size = |delta: i64| {
        let mut entry = descriptor(media::OCI_MANIFEST, &manifest);
        entry["size"] = json!(manifest.len() as i64 + delta);
        oci(&index(&[entry])).blob(&manifest).blob(&config).end()
    };
    assert!(error(&wrong_size(1)).contains("bytes, but has"));
    assert!(error(&wrong_size(-100_000)).contains("negative"));
    assert!(error(&wrong_size(1 << 40)).contains("more than the 4194304"));
    let top = index(&[descriptor(media::OCI_MANIFEST, &manifest)]);
    let swapped = manifest_for(&config, &[LAYER_2]);
    let forged = oci(&top).file(&blob_name(Digest::of(&manifest)), &[&swapped[..], b" "].concat()[..manifest.len()]);
    assert!(error(&forged.blob(&config).end()).contains("should have digest"));
    assert!(error(&oci(&top).end()).contains("the image manifest sha256:"));
    assert!(error(&oci(&top).blob(&manifest).end()).contains("the image configuration sha256:"));
    let mut confused = descriptor(media::OCI_INDEX, &manifest);
    confused["mediaType"] = json!(media::OCI_INDEX);
    assert!(error(&oci(&index(&[confused])).blob(&manifest).blob(&config).end()).contains("announced as"));
    let few = manifest_for(&config, &[]);
    let few = oci(&index(&[descriptor(media::OCI_MANIFEST, &few)])).blob(&few).blob(&config);
    assert!(error(&few.end()).contains("has 0 layers, but its configuration 1"));
    let named = json!([{"Config": format!("{}.json", Digest::of(b"x").hex()), "Layers": ["1"]}]);
    let named = TarMaker::default().json("manifest.json", &named).file("1", LAYER_1);
    let named = named.file(&format!("{}.json", Digest::of(b"x").hex()), &config);
    assert!(error(&named.end()).contains("should have digest"));
    let version =
        TarMaker::default().json("oci-layout", &json!({"imageLayoutVersion": "2.0.0"})).json("index.json", &top);
    assert!(error(&version.end()).contains("version 2.0.0"));
}

#[test]
fn layers_that_lie_about_their_size_or_are_elsewhere() {
    let config = config_for("amd64", &[LAYER_1]);
    let mut layer = descriptor(media::OCI_LAYER, LAYER_1);
    let manifest_with = |layer: &Value| {
        let config = descriptor(media::OCI_CONFIG, &config);
        json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string().into_bytes()
    };
    layer["size"] = json!(5);
    let manifest = manifest_with(&layer);
    let archive = oci(&index(&[descriptor(media::OCI_MANIFEST, &manifest)])).blob(&manifest).blob(&config);
    let source = read(&archive.blob(LAYER_1).end()).unwrap();
    let image = source.images(Wanted::default()).unwrap().remove(0);
    let e = source.open_layer(&image.layers[0]).unwrap_err().to_string();
    assert!(e.contains("should have 5 bytes, but has 28"), "{e}");
    layer["urls"] = json!(["https://example.com/layer\u{1b}[2J"]);
    let manifest = manifest_with(&layer);
    let archive = oci(&index(&[descriptor(media::OCI_MANIFEST, &manifest)])).blob(&manifest).blob(&config);
    let source = read(&archive.end()).unwrap();
    let image = source.images(Wanted::default()).unwrap().remove(0);
    let e = source.open_layer(&image.layers[0]).unwrap_err().to_string();
    assert!(e.contains("fetched from https://example.com/layer\\u{1b}"), "{e}");
}

#[test]
fn indexes_without_end() {
    let mut list = index(&[]).to_string().into_bytes();
    let mut tar = oci(&json!({}));
    for _ in 0..12 {
        tar = tar.blob(&list);
        list = index(&[descriptor(media::OCI_INDEX, &list)]).to_string().into_bytes();
    }
    let top = index(&[descriptor(media::OCI_INDEX, &list)]);
    let blobs = tar.0.split_off(oci(&json!({})).0.len());
    let archive = [oci(&top).blob(&list).0, blobs, vec![0; 1024]].concat();
    assert!(error(&archive).contains("nested too deeply"));
    // An index that names another large one a hundred times.
    let padding = "x".repeat(100 << 10);
    let inner = json!({"schemaVersion": 2, "manifests": [], "annotations": {"a": padding}}).to_string().into_bytes();
    let entries: Vec<Value> = (0..100).map(|_| descriptor(media::OCI_INDEX, &inner)).collect();
    let outer = index(&entries).to_string().into_bytes();
    let archive = oci(&index(&[descriptor(media::OCI_INDEX, &outer)])).blob(&outer).blob(&inner);
    assert!(error(&archive.end()).contains("bytes together"));
}

#[test]
fn layout_directories_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("l");
    tar::Archive::new(Cursor::new(simple_oci("a:1"))).unpack(&layout).unwrap();
    let spool = Spool::new(dir.path());
    let blob = layout.join(blob_name(Digest::of(LAYER_1)));
    let layer = |source: &Source| source.images(Wanted::default()).unwrap()[0].layers[0].clone();
    std::fs::rename(&blob, dir.path().join("secret")).unwrap();
    std::os::unix::fs::symlink("../../../secret", &blob).unwrap();
    let source = Source::open(&layout, None, spool).unwrap();
    let e = source.open_layer(&layer(&source)).unwrap_err().to_string();
    assert!(e.contains("symbolic link"), "{e}");
    std::fs::remove_file(&blob).unwrap();
    std::fs::create_dir(&blob).unwrap();
    let e = source.open_layer(&layer(&source)).unwrap_err().to_string();
    assert!(e.contains("not a regular file"), "{e}");
    std::fs::rename(layout.join("blobs"), dir.path().join("blobs")).unwrap();
    std::os::unix::fs::symlink("../blobs", layout.join("blobs")).unwrap();
    assert!(source.images(Wanted::default()).is_err());
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let bomb = gzip(&TarMaker::default().file("zeros", &vec![0; 2 << 20]).end());
    let spool = Spool { dir: dir.path(), limit: 1 << 20 };
    let e = Source::from_reader(&mut Cursor::new(bomb), Path::new("-"), None, spool).unwrap_err();
    assert!(matches!(e, Error::TooLarge { limit: 0x10_0000, .. }), "{e}");
}

#[test]
fn a_bomb_does_not_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let header = TarMaker::default().member(b'0', "zeros", "", 200 << 20, b"").0;
    let bomb = zstd::encode_all(Cursor::new(header).chain(std::io::repeat(0).take(200 << 20)), 1).unwrap();
    let e = Source::from_reader(&mut Cursor::new(bomb), Path::new("-"), None, Spool::new(dir.path())).unwrap_err();
    assert!(e.to_string().contains("more than 1000 times longer"), "{e}");
}

/// Counts what is read of a stream.
struct Counting<R>(R, u64);

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buf)?;
        self.1 += n as u64;
        Ok(n)
    }
}

/// `again` for ever.
struct Endless {
    again: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = (&self.again[self.at..]).read(buf)?;
        self.at = (self.at + n) % self.again.len();
        Ok(n)
    }
}

/// Reads a stream that begins with `start`, and goes on with `again` for ever; and how many bytes of it were read.
fn endless(start: &[u8], again: Vec<u8>) -> (Result<Source>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Counting(start.chain(Endless { again, at: 0 }), 0);
    (Source::from_reader(&mut reader, Path::new("-"), None, Spool::new(dir.path())), reader.1)
}

#[test]
fn streams_without_end_are_not_read_for_ever() {
    let global = TarMaker::default().member(b'g', "g", "", 0, b"").0;
    let member = TarMaker::default().file("a", b"").0;
    let table: [(&[u8], Vec<u8>, &str, u64); 7] = [
        (b"", vec![0; 4096], "it is empty", 1),
        (b"", b"y\n".repeat(2048), "neither a tar nor", 1),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", vec![0x55; 4096], "reading the archive", 1),
        (&member, b"y\n".repeat(2048), "the tar header at byte 512 is damaged", 1),
        (b"", global, "it has more than 20000 members", 11),
        (b"", member.clone(), "it has more than 20000 members", 11),
        (&[&member[..], &[0; 1024]].concat(), b"y\n".repeat(128 << 10), "it holds no images", 65),
    ];
    for (start, again, said, mebibytes) in table {
        let (source, read) = endless(start, again);
        let error = source.unwrap_err().to_string();
        assert!(error.contains(said) && read < mebibytes << 20, "{said}: {error}, {read} bytes");
    }
    // An image with something behind it.
    let (source, read) = endless(&simple_oci("a:1"), vec![0; 64 << 10]);
    assert_eq!(source.unwrap().images(Wanted::default()).unwrap().len(), 1);
    assert!(read < 65 << 20, "{read}");
}

#[test]
fn a_member_that_is_too_long_is_refused_before_it_is_read() {
    let header = TarMaker::default().member(b'0', "layer", "", 2 << 40, b"").0;
    let (source, read) = endless(&header, vec![0; 4096]);
    assert!(matches!(source.unwrap_err(), Error::TooLarge { .. }) && read < 1 << 20, "{read}");
}

#[test]
fn names_and_links_without_end() {
    let long = "x".repeat(5000);
    for (key, kind) in [("path", b'0'), ("linkpath", b'2')] {
        let record = pax_record(key, long.as_bytes());
        let tar =
            TarMaker::default().member(b'x', "x", "", record.len() as u64, &record).member(kind, "a", "b", 0, b"");
        assert!(error(&tar.end()).contains("5000 bytes"), "{key}");
    }
    let many = (0..9000).fold(TarMaker::default(), |tar, n| {
        let record = pax_record("linkpath", format!("{n}/{}", "x".repeat(4000)).as_bytes());
        tar.member(b'x', "x", "", record.len() as u64, &record).member(b'2', &n.to_string(), "", 0, b"")
    });
    assert!(error(&many.end()).contains("names of more than"));
}

/// Opens everything there is; only panics and endless loops are wrong.
fn exercise(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool { dir: dir.path(), limit: 16 << 20 };
    let Ok(source) = Source::from_reader(&mut Cursor::new(bytes), Path::new("x"), None, spool) else { return };
    for image in source.images(Wanted::default()).unwrap_or_default() {
        for layer in &image.layers {
            if let Ok(mut reader) = source.open_layer(layer) {
                let copied = std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
                assert_eq!(copied, layer.size);
            }
        }
    }
}

proptest! {
    #[test]
    fn damaged_archives_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        docker: bool,
    ) {
        let mut bytes = if docker { with_layer("1", |t| t.file("1", LAYER_1)) } else { simple_oci("a:1") };
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        exercise(&bytes);
    }

    #[test]
    fn headers_of_any_content_never_panic(
        members in proptest::collection::vec(
            ("[0-9LKxgS\\x00]", "[a-z./]{0,20}", "[a-z./]{0,20}", prop_oneof![0u64..1100, any::<u64>()], proptest::collection::vec(any::<u8>(), 0..600)),
            0..6,
        ),
    ) {
        let mut tar = TarMaker::default();
        for (kind, name, link, size, data) in members {
            tar = tar.member(kind.as_bytes()[0], &name, &link, size, &data);
        }
        exercise(&tar.end());
    }
}
