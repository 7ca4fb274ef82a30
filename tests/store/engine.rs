//! Images and containers of engines, mounted where they are. The storages are made here: the first as podman 4.3 writes
//! it, the second as Docker's documentation and source describe it. An engine wrote neither.

use super::harness::Bed;
use super::mounts::Mounts;
use super::sample::digest;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn put(root: &Path, rel: &str, text: impl AsRef<[u8]>) {
    let path = root.join(rel);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A whiteout as kernel overlayfs has it.
fn whiteout(path: &Path) {
    let made = rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::CharacterDevice, 0o600.into(), 0);
    made.unwrap();
}

pub fn id(digit: char) -> String {
    String::from(digit).repeat(64)
}

/// Image `web:1` of two layers, the upper of which deletes a file of the lower, and container `box` of it.
pub fn podman(bed: &Bed) {
    let (root, [a, b, c]) = (bed.p("podman"), ['a', 'b', 'c'].map(id));
    put(&root, &format!("overlay/{a}/diff/etc/os"), "one");
    put(&root, &format!("overlay/{a}/diff/gone"), "x");
    put(&root, &format!("overlay/{b}/diff/app"), "go");
    whiteout(&root.join(format!("overlay/{b}/diff/gone")));
    put(&root, &format!("overlay/{c}/diff/note"), "of the container");
    put(&root, "overlay/.has-mount-program", "false");
    let layers = json!([{"id": a}, {"id": b, "parent": a}, {"id": c, "names": ["box-layer"], "parent": b}]);
    put(&root, "overlay-layers/layers.json", layers.to_string());
    let images = json!([{"id": id('1'), "names": ["localhost/web:1"], "layer": b}]);
    put(&root, "overlay-images/images.json", images.to_string());
    let containers = json!([{"id": id('2'), "names": ["box"], "image": id('1'), "layer": c}]);
    put(&root, "overlay-containers/containers.json", containers.to_string());
}

/// Image `web:1` of two layers.
pub fn docker(bed: &Bed) {
    let root = bed.p("docker");
    let diffs = [digest(b"1"), digest(b"2")];
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = config.to_string();
    let image = digest(config.as_bytes());
    let chains = [diffs[0].clone(), digest(format!("{} {}", diffs[0], diffs[1]).as_bytes())];
    let hex = |digest: &str| digest["sha256:".len()..].to_owned();
    put(&root, &format!("image/overlay2/imagedb/content/sha256/{}", hex(&image)), config);
    put(&root, "image/overlay2/repositories.json", json!({"Repositories": {"web": {"web:1": image}}}).to_string());
    for (chain, cache) in chains.iter().zip(['a', 'b']) {
        put(&root, &format!("image/overlay2/layerdb/sha256/{}/cache-id", hex(chain)), id(cache));
    }
    put(&root, &format!("overlay2/{}/diff/etc/os", id('a')), "one");
    put(&root, &format!("overlay2/{}/diff/gone", id('a')), "x");
    put(&root, &format!("overlay2/{}/diff/app", id('b')), "go");
    whiteout(&root.join(format!("overlay2/{}/diff/gone", id('b'))));
}

/// Path, type and mode, times and content of everything below.
fn state(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.push(format!(
            "{} {:o} {} {}.{} {content:?}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
        if meta.is_dir() {
            all.extend(state(&path));
        }
    }
    all.sort();
    all
}

#[test]
fn engines_are_looked_into_and_not_changed() {
    let bed = Mounts::new();
    for (engine, make) in [("podman", podman as fn(&Bed)), ("docker", docker)] {
        make(&bed);
        let before = state(&bed.p(engine));
        let transport = if engine == "podman" { "containers-storage" } else { "docker-store" };
        let mount = |options: &str, name: &str| format!("mount --storage-root {engine} {options} {transport}:{name} m");
        for options in ["", "--kernel", "--read-only"] {
            assert_eq!(bed.ok(&mount(options, "web:1")), "");
            assert_eq!((bed.read("m/etc/os"), bed.read("m/app")), ("one".into(), "go".into()));
            assert!(!bed.p("m/gone").exists());
            assert!(fs::write(bed.p("m/f"), "").unwrap_err().to_string().contains("Read-only"), "{engine} {options}");
            bed.ok("umount m");
        }
        bed.ok(&mount("", "web:1@1"));
        assert!(bed.p("m/gone").exists() && !bed.p("m/app").exists());
        bed.ok("umount m");
        bed.ok(&mount("--tmpfs-upper", "web:1"));
        bed.write("m/etc/os", "two");
        fs::remove_file(bed.p("m/app")).unwrap();
        assert_eq!(bed.read("m/etc/os"), "two");
        bed.ok("umount m");
        for options in ["--rm", "--name x"] {
            assert!(bed.fails(&mount(options, "web:1")).contains("read-only, or with --tmpfs-upper"));
        }
        assert!(bed.fails(&mount("", "web:2")).contains("no image or container \"web:2\""));
        assert!(bed.fails(&mount("", "web:1@3")).contains("has 2 layers, not 3"));
        assert_eq!(state(&bed.p(engine)), before);
    }
    assert_eq!(bed.ok("ps -aq"), "");
    assert!(bed.fails("mount --storage-root podman app m").contains("--root"));
    assert!(bed.fails("mount --storage-root m docker-store:web m").contains("overlay2 driver"));
}

#[test]
fn a_container_is_shown_with_its_changes() {
    let bed = Mounts::new();
    podman(&bed);
    bed.ok("mount --storage-root podman containers-storage:box m");
    assert_eq!((bed.read("m/note"), bed.read("m/app")), ("of the container".into(), "go".into()));
    bed.ok("umount m");
}

#[test]
fn layers_of_a_fuse_program_are_for_fuse_only() {
    let bed = Mounts::new();
    podman(&bed);
    put(&bed.p("podman"), "overlay/.has-mount-program", "true");
    put(&bed.p("podman"), &format!("overlay/{}/diff/etc/.wh.os", id('b')), "");
    let mount = |options: &str| format!("mount {options} --storage-root podman containers-storage:web:1 m");
    assert!(bed.fails(&mount("--kernel")).contains(".wh. files"));
    bed.ok(&mount(""));
    assert!(!bed.p("m/etc/os").exists());
    bed.ok("umount m");
}

/// Rootless engines on the kernel's overlayfs leave marks that only mounts with userxattr read.
#[test]
fn marks_that_the_kernel_does_not_read_are_refused_in_engines_too() {
    let bed = Mounts::new();
    podman(&bed);
    let etc = bed.p(&format!("podman/overlay/{}/diff/etc", id('b')));
    fs::create_dir_all(&etc).unwrap();
    rustix::fs::setxattr(&etc, "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    let mount = |options: &str| format!("mount {options} --storage-root podman containers-storage:web:1 m");
    for options in ["--kernel", "--kernel --tmpfs-upper"] {
        let why = bed.fails(&mount(options));
        assert!(why.contains("user.overlay.opaque of") && why.contains("mount without --kernel"), "{why}");
    }
    bed.ok(&mount(""));
    assert!(!bed.p("m/etc/os").exists());
    bed.ok("umount m");
}

#[test]
fn a_hostile_storage_is_refused() {
    let bed = Mounts::new();
    podman(&bed);
    fs::create_dir_all(bed.p("secret/diff")).unwrap();
    let mount = "mount --storage-root podman containers-storage:web:1 m";
    let layers = json!([{"id": id('b'), "parent": "../../secret"}, {"id": "../../secret"}]);
    put(&bed.p("podman"), "overlay-layers/layers.json", layers.to_string());
    assert!(bed.fails(mount).contains("is not the id of a layer"));
    let circle = json!([{"id": id('a'), "parent": id('b')}, {"id": id('b'), "parent": id('a')}]);
    put(&bed.p("podman"), "overlay-layers/layers.json", circle.to_string());
    assert!(bed.fails(mount).contains("in a circle"));
}

/// As the engine does it itself: containers-storage.conf(5).
#[test]
fn the_storage_is_where_storage_conf_says() {
    let bed = Bed::new();
    podman(&bed);
    bed.write(
        "storage.conf",
        format!("[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\n", bed.p("podman")).as_bytes(),
    );
    fs::create_dir_all(bed.p("config/containers")).unwrap();
    bed.write("config/containers/storage.conf", b"[storage]\nrootless_storage_path = \"$HOME/pod${KIND}\"\n");
    let run = |image: &str, env: &[(&str, &str)]| {
        let mut command = bed.command(["ls", image]);
        command.env("HOME", bed.dir()).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        let output = command.env_remove("CONTAINERS_STORAGE_CONF").envs(env.iter().copied()).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let named = ("CONTAINERS_STORAGE_CONF", "storage.conf");
    let (done, said) = run("containers-storage:web:1", &[named]);
    assert!(done && said.contains("app"), "{said}");
    let (done, said) = run("containers-storage:other", &[named]);
    let expected = "/podman; another storage is named with --storage-root\n";
    assert!(!done && said.contains("no image or container \"other\" in /") && said.ends_with(expected), "{said}");
    let conf = format!(
        "[storage]\ngraphroot = {:?}\n[storage.options]\nadditionalimagestores = [{:?}]\n",
        bed.p("none"),
        bed.p("podman")
    );
    bed.write("additional.conf", conf.as_bytes());
    let (done, said) = run("containers-storage:web:1", &[("CONTAINERS_STORAGE_CONF", "additional.conf")]);
    assert!(done && said.contains("app"), "{said}");
    let (done, said) = run("containers-storage:web:1", &[("CONTAINERS_STORAGE_CONF", "nowhere")]);
    assert!(!done && said.contains("there is no nowhere, which CONTAINERS_STORAGE_CONF names"), "{said}");
    // As `podman unshare` runs it.
    let config = bed.p("config");
    let user = [("_CONTAINERS_ROOTLESS_UID", "1000"), ("XDG_CONFIG_HOME", config.to_str().unwrap())];
    let (done, said) = run("containers-storage:web:1", &[user[0], user[1], ("KIND", "man")]);
    assert!(done && said.contains("app"), "{said}");
    let (done, said) = run("containers-storage:web:1", &[user[0]]);
    assert!(
        !done && said.contains("there is no ") && said.contains("/.local/share/containers/storage, where"),
        "{said}"
    );
    bed.write("config/containers/storage.conf", b"storage: yes\n");
    let (done, said) = run("containers-storage:web:1", &user);
    assert!(!done && said.contains("storage.conf: it is no storage.conf: "), "{said}");
}
