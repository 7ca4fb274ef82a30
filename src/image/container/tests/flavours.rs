//! What the tools write.

use super::*;

/// As Docker before 25: a directory a layer, a layer that is a link to another, the manifest last but one.
fn docker_legacy() -> (Vec<u8>, Digest) {
    let config = config_for("amd64", &[LAYER_1, LAYER_2, LAYER_1]);
    let id = Digest::of(&config);
    let manifest = json!([{"Config": format!("{}.json", id.hex()), "RepoTags": ["web:1", "localhost:5000/web:latest"],
        "Layers": ["aaa/layer.tar", "bbb/layer.tar", "ccc/layer.tar"]}]);
    let archive = TarMaker::default()
        .dir("aaa/")
        .file("aaa/VERSION", b"1.0")
        .file("aaa/json", b"{}")
        .file("aaa/layer.tar", LAYER_1)
        .file(&format!("{}.json", id.hex()), &config)
        .dir("bbb/")
        .file("bbb/layer.tar", LAYER_2)
        .dir("ccc/")
        .member(b'2', "ccc/layer.tar", "../aaa/layer.tar", 0, b"")
        .json("manifest.json", &manifest)
        .json("repositories", &json!({"web": {"1": "ccc"}}));
    (archive.end(), id)
}

#[test]
fn docker_before_25() {
    let (archive, id) = docker_legacy();
    let source = read(&archive).unwrap();
    assert_eq!(source.format(), Format::Docker);
    let images = source.images(Wanted::default()).unwrap();
    assert_eq!(images.len(), 1);
    let image = &images[0];
    assert_eq!(image.config.digest(), id);
    assert_eq!(names(image), ["docker.io/library/web:1", "localhost:5000/web:latest"]);
    assert_eq!(image.platform.to_string(), "linux/amd64");
    assert_eq!(image.layers.len(), 3);
    assert_eq!(content(&source, &image.layers[2]), LAYER_1);
    let manifest = image.manifest.as_ref().unwrap();
    assert!(image.made_up);
    assert_eq!(manifest.layers[1].digest, Digest::of(LAYER_2));
    assert_eq!((manifest.layers[1].size, manifest.config.digest), (LAYER_2.len() as u64, id));
    let chain = ChainId::of_layers(&image.config.rootfs.diff_ids);
    assert_eq!(chain.len(), 3);
}

#[test]
fn podman_docker_archive_with_a_hard_link_and_a_compressed_layer() {
    let packed = gzip(LAYER_2);
    let config = config_for("arm64", &[LAYER_1, LAYER_2]);
    let id = Digest::of(&config).hex();
    let plain = format!("{}.tar", Digest::of(LAYER_1).hex());
    let manifest = json!([{"Config": format!("{id}.json"), "RepoTags": null, "Layers": ["x/layer.tar", "y.tar"]}]);
    let archive = TarMaker::default()
        .file(&plain, LAYER_1)
        .member(b'1', "x/layer.tar", &plain, 0, b"")
        .file("./y.tar", &packed)
        .file(&format!("{id}.json"), &config)
        .json("manifest.json", &manifest)
        .end();
    let source = read(&archive).unwrap();
    let image = source.images(Wanted::default()).unwrap().remove(0);
    assert!(image.references.is_empty() && image.manifest.is_none());
    assert_eq!((image.layers[1].digest, image.layers[1].media_type.as_str()), (None, media::OCI_LAYER_GZIP));
    assert_eq!(content(&source, &image.layers[0]), LAYER_1);
    assert_eq!(content(&source, &image.layers[1]), packed);
    let found = [(Digest::of(LAYER_1), LAYER_1.len() as u64), (Digest::of(&packed), packed.len() as u64)];
    let manifest = image.manifest_for(&found).unwrap();
    assert_eq!(manifest.layers[1].digest, Digest::of(&packed));
    assert_eq!(manifest.layers[1].media_type, media::OCI_LAYER_GZIP);
}

/// As Docker since 25: a layout with containerd's names, and a manifest.json that points into it.
fn docker_25() -> Vec<u8> {
    let config = config_for(&Platform::host().architecture, &[LAYER_1]);
    let manifest = manifest_for(&config, &[LAYER_1]);
    let attestation = json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": [],
        "config": descriptor("application/vnd.in-toto+json", b"{}")});
    let attestation = attestation.to_string().into_bytes();
    let mut for_host = descriptor(media::OCI_MANIFEST, &manifest);
    for_host["platform"] = json!({"architecture": Platform::host().architecture, "os": "linux"});
    let mut other = descriptor(media::OCI_MANIFEST, b"not saved");
    other["platform"] = json!({"architecture": "s390x", "os": "linux"});
    let mut attests =
        entry(media::OCI_MANIFEST, &attestation, json!({"vnd.docker.reference.type": "attestation-manifest"}));
    attests["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    let list = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [other, for_host, attests]});
    let list = list.to_string().into_bytes();
    let annotations =
        json!({"io.containerd.image.name": "docker.io/library/web:1", "org.opencontainers.image.ref.name": "1"});
    let tags = json!([{"Config": blob_name(Digest::of(&config)), "RepoTags": ["web:1", "web:2", "Bad Name"],
        "Layers": [blob_name(Digest::of(LAYER_1))], "LayerSources": {"x": 1}}]);
    oci(&index(&[entry(media::OCI_INDEX, &list, annotations)]))
        .dir("blobs/")
        .dir("blobs/sha256/")
        .blob(&config)
        .blob(&manifest)
        .blob(&attestation)
        .blob(&list)
        .blob(LAYER_1)
        .json("manifest.json", &tags)
        .end()
}

#[test]
fn docker_since_25() {
    let archive = docker_25();
    let source = read(&archive).unwrap();
    assert_eq!(source.format(), Format::Oci);
    let image = source.images(Wanted::default()).unwrap().remove(0);
    assert_eq!(names(&image), ["docker.io/library/web:1", "docker.io/library/web:2"]);
    assert_eq!(image.unusable_names, ["Bad Name"]);
    assert!(!image.made_up && image.manifest.is_some());
    let docker = read_as(&archive, "x", Some(Format::Docker)).unwrap().images(Wanted::default()).unwrap().remove(0);
    assert_eq!(docker.config.digest(), image.config.digest());
    assert!(docker.made_up);
    let other = Wanted { platform: Some(&"linux/riscv64".parse().unwrap()), reference: None };
    let e = source.images(other).unwrap_err().to_string();
    assert!(e.contains("riscv64; there is: linux/") && !e.contains("s390x"), "{e}");
}

#[test]
fn skopeo_and_buildah_layouts_with_bare_tags() {
    let archive = simple_oci("test");
    let source = read_as(&archive, "/srv/My Box.tar.gz", None).unwrap();
    let image = source.images(Wanted::default()).unwrap().remove(0);
    assert_eq!(names(&image), ["localhost/my-box:test"]);
    assert_eq!(content(&source, &image.layers[1]), LAYER_2);
    for name in ["test", "localhost/my-box:test"] {
        let wanted = Wanted { platform: None, reference: Some(name) };
        assert_eq!(source.images(wanted).unwrap().len(), 1);
    }
    let e = source.images(Wanted { platform: None, reference: Some("other") }).unwrap_err().to_string();
    assert!(e.contains("no image other; there is: test"), "{e}");
    let whole = images(&simple_oci("quay.io/a/b:3")).unwrap();
    assert_eq!(names(&whole[0]), ["quay.io/a/b:3"]);
    let unusable = images(&simple_oci("no good")).unwrap();
    assert_eq!(unusable[0].unusable_names, ["no good"]);
}

/// Images for three platforms, chosen by the index in a blob, or by the top index itself.
fn platforms(nested: bool) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut entries = Vec::new();
    for (architecture, variant) in [("amd64", ""), ("arm64", "v8"), ("arm", "v6")] {
        let config = config_for(architecture, &[LAYER_1]);
        let manifest = manifest_for(&config, &[LAYER_1]);
        let mut entry = entry(media::OCI_MANIFEST, &manifest, json!({"org.opencontainers.image.ref.name": "web:1"}));
        entry["platform"] = json!({"architecture": architecture, "os": "linux", "variant": variant});
        entries.push(entry);
        archive.extend([config, manifest]);
    }
    let list = index(&entries).to_string().into_bytes();
    let top = if nested { index(&[descriptor(media::OCI_INDEX, &list)]) } else { index(&entries) };
    let archive = archive.iter().fold(oci(&top).blob(LAYER_1).blob(&list), |tar, blob| tar.blob(blob));
    archive.end()
}

#[test]
fn one_platform_of_several() {
    for nested in [true, false] {
        let source = read(&platforms(nested)).unwrap();
        for (want, got) in [("linux/arm64", "arm64"), ("linux/arm/v7", "arm"), ("linux/amd64", "amd64")] {
            let platform = want.parse().unwrap();
            let images = source.images(Wanted { platform: Some(&platform), reference: None }).unwrap();
            assert_eq!((images.len(), images[0].config.architecture.as_str()), (1, got), "{want}");
        }
        let platform = "linux/s390x".parse().unwrap();
        let e = source.images(Wanted { platform: Some(&platform), reference: None }).unwrap_err();
        assert!(e.to_string().ends_with("there is: linux/amd64, linux/arm64/v8, linux/arm/v6"), "{e}");
    }
}

#[test]
fn a_single_image_is_taken_as_it_is_unless_a_platform_is_asked_for() {
    let (archive, _) = docker_legacy();
    assert_eq!(images(&archive).unwrap()[0].platform.architecture, "amd64");
    let platform = "linux/s390x".parse().unwrap();
    let wanted = Wanted { platform: Some(&platform), reference: None };
    let e = read(&archive).unwrap().images(wanted).unwrap_err();
    assert!(e.to_string().ends_with("linux/s390x; there is: linux/amd64"), "{e}");
}

#[test]
fn several_images_and_several_names_of_one() {
    let first = config_for("amd64", &[LAYER_1]);
    let second = config_for("amd64", &[LAYER_1, LAYER_2]);
    let manifest = json!([
        {"Config": "1.json", "RepoTags": ["a:1"], "Layers": ["1"]},
        {"Config": "2.json", "RepoTags": ["b:1", "b:2"], "Layers": ["1", "2"]},
        {"Config": "1.json", "RepoTags": ["a:2", "a:1"], "Layers": ["1"]}]);
    let archive = TarMaker::default().json("manifest.json", &manifest).file("1", LAYER_1).file("2", LAYER_2);
    let archive = archive.file("1.json", &first).file("2.json", &second).end();
    let all = images(&archive).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(names(&all[0]), ["docker.io/library/a:1", "docker.io/library/a:2"]);
    let wanted = Wanted { platform: None, reference: Some("b:2") };
    let one = read(&archive).unwrap().images(wanted).unwrap();
    assert_eq!((one.len(), names(&one[0])), (1, vec!["docker.io/library/b:2".to_owned()]));
    let config = config_for("amd64", &[LAYER_1]);
    let manifest = manifest_for(&config, &[LAYER_1]);
    let named = |name: &str| entry(media::OCI_MANIFEST, &manifest, json!({"org.opencontainers.image.ref.name": name}));
    let two = oci(&index(&[named("a:1"), named("a:2")])).blob(&config).blob(&manifest).blob(LAYER_1).end();
    let two = images(&two).unwrap();
    assert_eq!((two.len(), names(&two[0]).len()), (1, 2));
}

/// What has no name cannot be told apart otherwise.
#[test]
fn images_by_their_ids() {
    let [first, second] = ["amd64", "arm64"].map(|architecture| config_for(architecture, &[LAYER_1]));
    let [one, two] = [&first, &second].map(|config| manifest_for(config, &[LAYER_1]));
    let named = entry(media::OCI_MANIFEST, &one, json!({"org.opencontainers.image.ref.name": "a:1"}));
    let layout = oci(&index(&[named, descriptor(media::OCI_MANIFEST, &two)]));
    let layout = layout.blob(&first).blob(&second).blob(&one).blob(&two).blob(LAYER_1).end();
    let manifest = json!([
        {"Config": "1.json", "RepoTags": ["a:1"], "Layers": ["1"]},
        {"Config": "2.json", "RepoTags": null, "Layers": ["1"]}]);
    let archive = TarMaker::default().json("manifest.json", &manifest).file("1", LAYER_1);
    let archive = archive.file("1.json", &first).file("2.json", &second).end();
    let id = Digest::of(&second);
    for container in [layout, archive] {
        let source = read(&container).unwrap();
        let find = |reference: &str| source.images(Wanted { platform: None, reference: Some(reference) });
        for text in [id.to_string(), id.short(), id.hex()] {
            let found = find(&text).unwrap();
            assert_eq!((found.len(), found[0].config.digest()), (1, id), "{text}");
        }
        assert_eq!(names(&find(&Digest::of(&first).short()).unwrap()[0]), ["docker.io/library/a:1"]);
        for text in ["sha256:", "b:1", "0123456789ab"] {
            assert!(matches!(find(text), Err(Error::NoImage { .. })), "{text}");
        }
    }
}

#[test]
fn containers_of_the_other_format_are_called_by_it() {
    let docker = TarMaker::default().json("manifest.json", &json!([])).end();
    for (bytes, format, hint) in [
        (simple_oci("a:1"), Format::Docker, "an OCI image layout; name it oci-archive:f.tar"),
        (docker, Format::Oci, "a docker-archive; name it docker-archive:f.tar"),
    ] {
        let message = read_as(&bytes, "f.tar", Some(format)).unwrap_err().to_string();
        assert!(message.ends_with(hint), "{message}");
    }
    let dir =
        TarMaker::default().json("manifest.json", &json!({})).file("version", b"Directory Transport Version: 1.1\n");
    let message = read_as(&dir.end(), "d", None).unwrap_err().to_string();
    assert!(message.contains("skopeo copy dir:d oci:layout"), "{message}");
}

#[test]
fn compressed_archives_and_files() {
    let plain = simple_oci("web:1");
    let (front, back) = plain.split_at(1000);
    let members = [gzip(front), gzip(back)].concat();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..]].concat();
    let frames = [skippable, zstd::encode_all(front, 1).unwrap(), zstd::encode_all(back, 1).unwrap()].concat();
    let dir = tempfile::tempdir().unwrap();
    for bytes in [&plain, &members, &frames] {
        let path = dir.path().join("box");
        std::fs::write(&path, bytes).unwrap();
        let from_file = Source::open(&path, None, Spool::new(dir.path())).unwrap();
        for source in [from_file, read(bytes).unwrap()] {
            let image = source.images(Wanted::default()).unwrap().remove(0);
            assert_eq!(content(&source, &image.layers[0]), LAYER_1);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
    }
}

#[test]
fn a_layout_directory_and_layers_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("busybox");
    tar::Archive::new(Cursor::new(simple_oci("test"))).unpack(&layout).unwrap();
    let source = Source::open(&layout, Some(Format::Oci), Spool::new(dir.path())).unwrap();
    let image = source.images(Wanted::default()).unwrap().remove(0);
    assert_eq!(names(&image), ["localhost/busybox:test"]);
    std::thread::scope(|scope| {
        for layer in &image.layers {
            let source = &source;
            scope.spawn(move || assert_eq!(Digest::of(&content(source, layer)), layer.digest.unwrap()));
        }
    });
    std::fs::remove_file(layout.join(blob_name(Digest::of(LAYER_1)))).unwrap();
    let e = source.open_layer(&image.layers[0]).unwrap_err().to_string();
    assert!(e.contains("layer 1 (sha256:") && e.ends_with("is missing"), "{e}");
}

#[test]
fn long_names_of_both_kinds() {
    let config = config_for("amd64", &[LAYER_1]);
    let long = format!("{}/layer.tar", "x".repeat(150));
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": [long]}]);
    let base = TarMaker::default().json("manifest.json", &manifest).file("c.json", &config);
    let gnu = base.clone().member(b'L', "././@LongLink", "", long.len() as u64 + 1, format!("{long}\0").as_bytes());
    let gnu = gnu.file("short", LAYER_1).end();
    // A value with a newline in it, then a size that overrides the header's.
    let size = LAYER_1.len().to_string();
    let records = [
        pax_record("SCHILY.xattr.user.x", b"a\n9 path=evil\n"),
        pax_record("path", long.as_bytes()),
        pax_record("size", size.as_bytes()),
    ];
    let records = records.concat();
    let pax = base.file("between", b"").member(b'x', "pax", "", records.len() as u64, &records);
    let pax = pax.member(b'0', "short", "", 0, LAYER_1).end();
    for archive in [gnu, pax] {
        let source = read(&archive).unwrap();
        let image = source.images(Wanted::default()).unwrap().remove(0);
        assert_eq!(content(&source, &image.layers[0]), LAYER_1);
    }
}
