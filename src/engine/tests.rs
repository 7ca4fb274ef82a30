//! Storages made by hand. Docker's layout is that of its documentation and source; no engine wrote these.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::image::digest::{ChainId, DiffId, Digest};
use base64::Engine as _;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn put(root: &Path, rel: &str, text: impl AsRef<[u8]>) {
    let path = root.join(rel);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn id(digit: char) -> String {
    String::from(digit).repeat(64)
}

/// Layers a, b on a, and c (of a container) on b; images and names as podman writes them.
fn podman() -> TempDir {
    let tmp = tempfile::tempdir().unwrap();
    let (root, [a, b, c]) = (tmp.path(), ['a', 'b', 'c'].map(id));
    for layer in [&a, &b, &c] {
        fs::create_dir_all(root.join(format!("overlay/{layer}/diff"))).unwrap();
    }
    put(root, "overlay/.has-mount-program", "false");
    let layers = format!(r#"[{{"id":"{a}"}},{{"id":"{b}","parent":"{a}","uidset":[0]}}]"#);
    put(root, "overlay-layers/layers.json", layers);
    put(root, "overlay-layers/volatile-layers.json", format!(r#"[{{"id":"{c}","parent":"{b}"}}]"#));
    let images = format!(
        r#"[{{"id":"{}","digest":"sha256:{}","names":["localhost/web:1","quay.io/team/tool:latest"],"layer":"{b}"}},
            {{"id":"{}","names":["docker.io/library/alpine:3","example.org/x/tool:2"],"layer":"{a}"}},
            {{"id":"{}","layer":"{a}"}}]"#,
        id('1'),
        id('e'),
        id('2'),
        id('1').replacen("111", "113", 1),
    );
    put(root, "overlay-images/images.json", images);
    let containers = format!(r#"[{{"id":"{}","names":["box"],"image":"{}","layer":"{c}"}}]"#, id('4'), id('1'));
    put(root, "overlay-containers/containers.json", containers);
    tmp
}

fn podman_in(root: &Path, name: &str, layers: Option<usize>) -> Result<Found> {
    containers_storage(&[root.to_owned()], name, layers)
}

fn layers(found: &Found) -> String {
    found
        .lower
        .iter()
        .map(|path| path.parent().unwrap().file_name().unwrap().to_str().unwrap().chars().next().unwrap())
        .collect()
}

#[test]
fn images_and_containers_of_podman() {
    let tmp = podman();
    let find = |name: &str| podman_in(tmp.path(), name, None);
    let table = [
        ("web:1", "ba"),
        ("localhost/web:1", "ba"),
        ("tool", "ba"),
        ("alpine:3", "a"),
        ("tool:2", "a"),
        ("docker.io/library/alpine:3", "a"),
        (&id('1')[..5], "ba"),
        (&format!("sha256:{}", id('2')), "a"),
        (&format!("web@sha256:{}", id('e')), "ba"),
        ("box", "cba"),
        ("4444", "cba"),
    ];
    for (name, expected) in table {
        assert_eq!(layers(&find(name).unwrap()), expected, "{name}");
    }
    assert_eq!(layers(&podman_in(tmp.path(), "box", Some(2)).unwrap()), "ba");
    assert!(matches!(podman_in(tmp.path(), "box", Some(4)), Err(Error::FewerLayers { has: 3, wanted: 4, .. })));
    assert!(matches!(find("11"), Err(Error::Ambiguous { .. })));
    assert!(matches!(find("nothing"), Err(Error::NotFound { .. })));
    assert!(matches!(find("eb:1"), Err(Error::NotFound { .. })));
    assert!(!find("web:1").unwrap().oci_whiteouts);
    put(tmp.path(), "overlay/.has-mount-program", "true");
    assert!(find("web:1").unwrap().oci_whiteouts);
    let elsewhere = podman_in(&tmp.path().join("overlay"), "web", None).unwrap_err();
    assert!(elsewhere.to_string().contains("--storage-root"), "{elsewhere}");
}

/// The configuration tells which command made which layer.
#[test]
fn configurations_of_images_and_containers() {
    let (docker, id_of_docker, _) = docker();
    let find = |name: &str, layers| docker_store(docker.path(), name, layers).unwrap().config;
    for (name, layers) in [("web:1", None), ("web:1", Some(1)), ("box", None), ("box", Some(2))] {
        assert_eq!(find(name, layers).map(|config| config.digest()), Some(id_of_docker), "{name} {layers:?}");
    }
    put(docker.path(), &format!("containers/{}/config.v2.json", id('9')), r#"{"Name":"/box","Image":"sha256:0"}"#);
    assert_eq!(find("box", None), None);

    let podman = podman();
    let find = |name: &str| podman_in(podman.path(), name, None).unwrap().config;
    assert_eq!(find("web:1"), None, "an image that was pulled in pieces");
    let config = |layers: &[&str]| {
        let layers: Vec<String> = layers.iter().map(|layer| Digest::of(layer.as_bytes()).to_string()).collect();
        let rootfs = serde_json::json!({"type": "layers", "diff_ids": layers});
        serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string()
    };
    let keep = |config: &str| {
        let image = Digest::of(config.as_bytes());
        let lists =
            ["overlay-images/images.json", "overlay-containers/containers.json"].map(|list| podman.path().join(list));
        let before = find("web:1").map_or(id('1'), |config| config.digest().hex());
        for list in lists {
            fs::write(&list, fs::read_to_string(&list).unwrap().replace(&before, &image.hex())).unwrap();
        }
        // As the engine names it: the digest in base64.
        let name = base64::engine::general_purpose::STANDARD.encode(image.to_string());
        let file = format!("overlay-images/{}/={name}", image.hex());
        put(podman.path(), &file, config);
        (image, file)
    };
    let (image, file) = keep(&config(&["1", "2"]));
    for name in ["web:1", "box"] {
        assert_eq!(find(name).map(|config| config.digest()), Some(image), "{name}");
    }
    put(podman.path(), &file, "{}");
    assert_eq!(find("web:1"), None, "damaged: the layers are there without it");
    put(podman.path(), &file, config(&["1", "2"]));
    keep(&config(&["1"]));
    assert_eq!([find("web:1"), find("box")], [None, None], "which layer would it be?");
}

/// What a container changed has its index of hard links beside it.
#[test]
fn the_work_directory_of_a_container_is_found() {
    let (podman, (docker, ..)) = (podman(), docker());
    let find = |name: &str, layers| {
        let podman = podman_in(podman.path(), name, layers).unwrap();
        [podman, docker_store(docker.path(), name, layers).unwrap()].map(|found| found.work)
    };
    assert_eq!(find("box", None), [None, None], "a storage without one");
    let works = [podman.path().join("overlay"), docker.path().join("overlay2")]
        .map(|layers| ['a', 'b', 'c'].map(|layer| layers.join(id(layer)).join("work")));
    works.iter().flatten().for_each(|work| fs::create_dir(work).unwrap());
    assert_eq!(find("box", None), works.clone().map(|[_, _, of_container]| Some(of_container)));
    assert_eq!(find("web:1", None), [None, None], "nobody writes images");
    assert_eq!(find("box", Some(2)), [None, None], "without what it changed");
}

#[test]
fn hostile_lists_lead_nowhere() {
    let tmp = podman();
    let find = || podman_in(tmp.path(), "web:1", None).unwrap_err().to_string();
    let list = |text: String| put(tmp.path(), "overlay-layers/layers.json", text);
    let (a, b) = (id('a'), id('b'));
    list(format!(r#"[{{"id":"{a}","parent":"{b}"}},{{"id":"{b}","parent":"{a}"}}]"#));
    assert!(find().contains("circle"));
    for bad in ["../../../../etc", "/etc", "a/b", ".", ""] {
        list(format!(r#"[{{"id":"{b}","parent":"{bad}x/../{bad}"}},{{"id":"{bad}x/../{bad}"}}]"#));
        assert!(find().contains("is not the id"), "{bad}: {}", find());
    }
    list(format!(r#"[{{"id":"{b}","parent":"{a}"}}]"#));
    assert!(find().contains("is missing"));
    list(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    assert!(find().contains("layers.json"));
    list("x".repeat(10));
    assert!(find().contains("layers.json"));
    let long = fs::File::create(tmp.path().join("overlay-layers/layers.json")).unwrap();
    long.set_len(65 << 20).unwrap();
    assert!(find().contains("too long"));
    list(format!(r#"[{{"id":"{b}"}}]"#));
    fs::remove_dir(tmp.path().join(format!("overlay/{b}/diff"))).unwrap();
    std::os::unix::fs::symlink("/etc", tmp.path().join(format!("overlay/{b}/diff"))).unwrap();
    assert!(find().contains("cannot open"));
    fs::remove_file(tmp.path().join("overlay-layers/layers.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tmp.path().join("overlay-layers/layers.json")).unwrap();
    assert!(find().contains("layers.json"));
}

/// An image of two layers and a container of it, as Docker's engine keeps them.
fn docker() -> (TempDir, Digest, Vec<ChainId>) {
    let tmp = tempfile::tempdir().unwrap();
    let (root, diffs) = (tmp.path(), [DiffId(Digest::of(b"1")), DiffId(Digest::of(b"2"))]);
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": diffs.map(|d| d.to_string())});
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string();
    let image = Digest::of(config.as_bytes());
    put(root, &format!("image/overlay2/imagedb/content/sha256/{}", image.hex()), config);
    let names = serde_json::json!({"Repositories": {"web": {
        "web:1": image.to_string(), format!("web@{}", Digest::of(b"m")): image.to_string()}}});
    put(root, "image/overlay2/repositories.json", names.to_string());
    let chains = ChainId::of_layers(&diffs);
    for (chain, cache) in chains.iter().zip(['a', 'b']) {
        put(root, &format!("image/overlay2/layerdb/sha256/{}/cache-id", chain.0.hex()), id(cache));
    }
    put(root, &format!("image/overlay2/layerdb/sha256/{}/parent", chains[1].0.hex()), chains[0].0.to_string());
    for directory in [id('a'), id('b'), id('c'), id('c') + "-init"] {
        fs::create_dir_all(root.join(format!("overlay2/{directory}/diff"))).unwrap();
    }
    put(root, &format!("containers/{}/config.v2.json", id('9')), format!(r#"{{"Name":"/box","Image":"{image}"}}"#));
    let mount = format!("image/overlay2/layerdb/mounts/{}", id('9'));
    put(root, &format!("{mount}/mount-id"), id('c'));
    put(root, &format!("{mount}/init-id"), id('c') + "-init");
    put(root, &format!("{mount}/parent"), chains[1].0.to_string());
    (tmp, image, chains)
}

#[test]
fn images_and_containers_of_docker() {
    let (tmp, image, _) = docker();
    let find = |name: &str| docker_store(tmp.path(), name, None);
    let digest = format!("web@{}", Digest::of(b"m"));
    for name in ["web:1", "docker.io/library/web:1", &digest, &image.hex()[..7], &image.to_string()] {
        assert_eq!(layers(&find(name).unwrap()), "ba", "{name}");
        assert_eq!(find(name).unwrap().id, image.to_string());
    }
    assert_eq!(layers(&find("box").unwrap()), "ccba");
    assert_eq!(layers(&find("9999").unwrap()), "ccba");
    assert_eq!(layers(&docker_store(tmp.path(), "web:1", Some(1)).unwrap()), "a");
    assert!(matches!(find("web"), Err(Error::NotFound { .. })));
    assert!(
        docker_store(&tmp.path().join("overlay2"), "web", None).unwrap_err().to_string().contains("overlay2 driver")
    );
}

#[test]
fn containers_of_docker_are_found_without_configurations() {
    let (tmp, image, _) = docker();
    let find = |name: &str| docker_store(tmp.path(), name, None);
    put(tmp.path(), &format!("image/overlay2/imagedb/content/sha256/{}", image.hex()), "{}");
    put(tmp.path(), &format!("containers/{}/config.v2.json", id('8')), "damaged");
    assert_eq!((layers(&find("box").unwrap()).as_str(), find("box").unwrap().config), ("ccba", None));
    fs::remove_file(tmp.path().join(format!("containers/{}/config.v2.json", id('9')))).unwrap();
    assert_eq!(layers(&find("9999").unwrap()), "ccba");
    assert!(matches!(find("box"), Err(Error::NotFound { .. })));
}

#[test]
fn a_storage_conf_has_an_end() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("storage.conf");
    assert_eq!(storage_conf(&path).unwrap(), None);
    fs::write(&path, "[storage]\ngraphroot = '/a'\n").unwrap();
    assert_eq!(storage_conf(&path).unwrap().unwrap().graphroot.as_deref(), Some("/a"));
    assert!(storage_conf(Path::new("/dev/zero")).unwrap_err().to_string().contains("too long"));
    assert_eq!(storage_conf(Path::new("/dev/null")).unwrap(), Some(StorageConf::default()));
    let fifo = tmp.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let why = storage_conf(&fifo).unwrap_err().to_string();
    assert!(why.ends_with("fifo: it is no storage.conf: it is not a regular file"), "nobody waits for a writer: {why}");
}

#[test]
fn configurations_of_engines_say_where_images_are() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("conf");
    let text =
        "[storage]\nimagestore = '/i'\n[storage.options]\nadditionalimagestores = ['/a', '/b,/c']\nsize = '1G'\n";
    fs::write(&path, text).unwrap();
    let conf = storage_conf(&path).unwrap().unwrap();
    assert_eq!(
        (conf.imagestore.as_deref(), conf.options.additionalimagestores.join(" ")),
        (Some("/i"), "/a /b,/c".into())
    );
    assert_eq!(docker_data_root(&tmp.path().join("none")).unwrap(), None);
    for (text, root) in [
        (r#"{"data-root": "/d", "debug": true}"#, Some("/d")),
        (r#"{"graph": "/g"}"#, Some("/g")),
        (r#"{"data-root": ""}"#, None),
        ("{}", None),
        ("", None),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(docker_data_root(&path).unwrap().as_deref(), root, "{text}");
    }
    fs::write(&path, "data-root: /d").unwrap();
    assert!(docker_data_root(&path).unwrap_err().to_string().contains("it is no daemon.json"));
}

/// `imagestore` and `additionalimagestores` of storage.conf: images, their layers and the containers on them are each in one
/// of several storages.
#[test]
fn images_can_be_in_another_storage_than_containers() {
    let (main, images) = (podman(), podman());
    let root = main.path();
    // The main storage keeps its container only, the other its images.
    put(root, "overlay-layers/layers.json", "[]");
    put(root, "overlay-images/images.json", "[]");
    for layer in [id('a'), id('b')] {
        fs::remove_dir_all(root.join(format!("overlay/{layer}"))).unwrap();
    }
    fs::remove_dir_all(images.path().join("overlay-containers")).unwrap();
    fs::remove_file(images.path().join("overlay-layers/volatile-layers.json")).unwrap();
    fs::create_dir_all(root.join(format!("overlay/{}/work", id('c')))).unwrap();
    let roots = [root.to_owned(), root.join("not there"), images.path().to_owned()];
    let find = |name: &str| containers_storage(&roots, name, None);
    let container = find("box").unwrap();
    assert_eq!(layers(&container), "cba");
    let holders: Vec<bool> = container.lower.iter().map(|layer| layer.starts_with(root)).collect();
    assert_eq!(holders, [true, false, false]);
    assert!(container.work.unwrap().starts_with(root));
    assert_eq!(layers(&find("web:1").unwrap()), "ba");
    // An image that both have is one.
    assert_eq!(
        layers(&containers_storage(&[images.path().into(), images.path().into()], "tool:2", None).unwrap()),
        "a"
    );
    assert_eq!(layers(&containers_storage(&[root.join("none"), images.path().into()], "tool:2", None).unwrap()), "a");
    let nothing =
        containers_storage(&[root.join("none"), root.join("nothing")], "tool:2", None).unwrap_err().to_string();
    assert!(nothing.contains("/none, where"), "{nothing}");
}

#[test]
fn hostile_files_of_docker_lead_nowhere() {
    let (tmp, image, chains) = docker();
    let find = |name: &str| docker_store(tmp.path(), name, None).unwrap_err().to_string();
    let layer = |n: usize, file: &str| format!("image/overlay2/layerdb/sha256/{}/{file}", chains[n].0.hex());
    put(tmp.path(), &layer(0, "parent"), chains[1].0.to_string());
    assert!(find("box").contains("circle"));
    put(tmp.path(), &layer(0, "cache-id"), "../../../etc");
    assert!(find("web:1").contains("is not the id"));
    put(tmp.path(), &format!("image/overlay2/imagedb/content/sha256/{}", image.hex()), "{}");
    assert!(find("web:1").contains("digest"));
    put(tmp.path(), "image/overlay2/repositories.json", r#"{"Repositories":{"web":{"web:1":"../x"}}}"#);
    assert!(find("web:1").contains("has the id"));
}
