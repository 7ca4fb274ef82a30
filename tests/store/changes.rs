//! diff, commit and export.

use super::harness::Bed;
use super::own_mounts::leave_common_mounts;
use super::sample::{APP, BASE, Sample, digest};
use laminafs::store::{Store, Writable};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::Output;

/// A store with an image `base:1` of two layers, and the writable layer `web` on it.
fn bed() -> (Bed, Sample, Writable) {
    let image = Sample::new(3, &[BASE, APP]);
    let bed = Bed::with(&[(&image, &["base:1"])]);
    let store = Store::open(&bed.root()).unwrap();
    let id = store.find("base:1").unwrap().record.id;
    let writable = store.create_writable(&id, None, Some("web")).unwrap();
    (bed, image, writable)
}

/// What somebody did: a file changed, one added, one deleted.
fn change(writable: &Writable) {
    let upper = &writable.upper;
    fs::create_dir(upper.join("etc")).unwrap();
    fs::write(upper.join("etc/os"), "two").unwrap();
    fs::create_dir(upper.join("app")).unwrap();
    let node = rustix::fs::mknodat(
        rustix::fs::CWD,
        upper.join("app/run"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    );
    node.unwrap();
    fs::write(upper.join("new"), "n".repeat(100_000)).unwrap();
}

/// The files of a tar and what is in them; others have no contents.
fn members(tar: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (path, text)
    });
    entries.collect()
}

fn blob(bed: &Bed, digest: &Value) -> Vec<u8> {
    let digest = digest.as_str().unwrap();
    fs::read(bed.root().join("blobs").join(digest.replace(':', "/"))).unwrap()
}

/// The configuration of an image.
fn config(bed: &Bed, id: &str) -> Value {
    serde_json::from_slice(&blob(bed, &id.into())).unwrap()
}

fn manifest(bed: &Bed, image: &str) -> Value {
    let inspected = bed.json(&format!("inspect {image}"));
    serde_json::from_slice(&blob(bed, &inspected[0]["Descriptor"]["digest"])).unwrap()
}

fn at_epoch(bed: &Bed, line: &str) -> Output {
    let early = bed.command(line.split_whitespace()).env("SOURCE_DATE_EPOCH", "-1").output().unwrap();
    let said = String::from_utf8(early.stderr).unwrap();
    assert!(early.status.code() == Some(1) && said.contains("SOURCE_DATE_EPOCH is '-1'"), "{said}");
    let output = bed.command(line.split_whitespace()).env("SOURCE_DATE_EPOCH", "1000000000").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output
}

#[test]
fn diff_lists_as_docker_does() {
    let (bed, _, writable) = bed();
    assert_eq!(bed.ok("diff web"), "");
    change(&writable);
    assert_eq!(bed.ok("diff web"), "C /app\nD /app/run\nC /etc\nC /etc/os\nA /new\n");
    let json = bed.json("diff --json web");
    assert_eq!((&json["schema"], &json["name"]), (&1.into(), &"web".into()));
    assert_eq!(json["changes"][1], serde_json::json!({"kind": "deleted", "path": "/app/run"}));
    fs::write(writable.upper.join("a\u{1b}[31m"), "").unwrap();
    assert!(bed.ok("diff web").contains("A /a\\u{1b}[31m\n"));
    assert!(bed.fails("diff nothing").contains("no such writable layer: nothing"));
}

#[test]
fn a_commit_is_an_image_with_one_layer_more() {
    let (bed, base, writable) = bed();
    change(&writable);
    let id = bed.ok("commit -m why -a me web site:1").trim().to_owned();
    assert!(id.starts_with("sha256:"));
    assert_eq!(bed.ok("verify"), bed.ok("verify"));
    let made = config(&bed, &id);
    let history = made["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&history["comment"], &history["author"], &made["author"]), (&"why".into(), &"me".into(), &"me".into()));
    assert_eq!(made["config"]["Cmd"], serde_json::json!(["/bin/sh"]));
    let layers = manifest(&bed, "site:1")["layers"].as_array().unwrap().clone();
    assert_eq!(layers.len(), 3);
    assert_eq!(layers[0]["digest"], digest(&base.layers[0].1).as_str());
    assert_eq!(layers[2]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(blob(&bed, &layers[2]["digest"]).as_slice()).read_to_end(&mut tar).unwrap();
    assert_eq!(made["rootfs"]["diff_ids"][2], digest(&tar).as_str());
    let members = members(&tar);
    let names: Vec<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(names, ["./", "app/", "app/.wh.run", "etc/", "etc/os", "new"]);
    assert_eq!(members["etc/os"], "two");
    // The tree is that of the writable layer, which stays as it is.
    let whole = bed.run("export site:1").stdout;
    assert_eq!(whole, bed.run("export web").stdout);
    assert_eq!(bed.ok("diff web"), "C /app\nD /app/run\nC /etc\nC /etc/os\nA /new\n");
}

#[test]
fn the_same_changes_give_the_same_image() {
    let (bed, _, writable) = bed();
    change(&writable);
    for compression in ["gzip", "zstd", "none"] {
        // With the same configuration it would be the same image, and an image keeps the manifest that came first.
        let line = format!("commit --compression {compression} -m {compression} web site:{compression}");
        let first = at_epoch(&bed, &line).stdout;
        // Another time of day, another file system time: only the tree counts, and nothing is newer than the given time.
        fs::File::open(writable.upper.join("new")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        assert_eq!(at_epoch(&bed, &line).stdout, first);
        let made = config(&bed, String::from_utf8(first).unwrap().trim());
        assert_eq!(made["created"], "2001-09-09T01:46:40Z");
    }
    let kinds =
        ["gzip", "zstd", "none"].map(|tag| manifest(&bed, &format!("site:{tag}"))["layers"][2]["mediaType"].clone());
    let kind = |suffix: &str| Value::from(format!("application/vnd.oci.image.layer.v1.tar{suffix}"));
    assert_eq!(kinds, [kind("+gzip"), kind("+zstd"), kind("")]);
    bed.ok("verify");
}

#[test]
fn nothing_changed_is_no_layer() {
    let (bed, _, _) = bed();
    let output = bed.command(["commit", "-c", "ENV B=c", "--change", "CMD [\"x\"]", "web", "site:2"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let made = config(&bed, String::from_utf8(output.stdout).unwrap().trim());
    assert_eq!(made["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    assert_eq!(made["history"].as_array().unwrap().last().unwrap()["empty_layer"], true);
    assert_eq!(made["config"]["Env"], serde_json::json!(["A=b", "B=c"]));
    assert_eq!(manifest(&bed, "site:2")["layers"].as_array().unwrap().len(), 2);
    let refused = bed.command(["commit", "-c", "RUN ls", "web"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("CMD, ENTRYPOINT, ENV"));
}

#[test]
fn while_it_is_mounted() {
    leave_common_mounts();
    let (bed, _, writable) = bed();
    let store = Store::open(&bed.root()).unwrap();
    let lease = store.lease("web").unwrap();
    fs::create_dir(bed.p("mnt")).unwrap();
    let mut mount = bed.command(["mount"]);
    for lower in lease.lower() {
        mount.arg("--lower").arg(lower);
    }
    mount.arg("--upper").arg(&writable.upper).arg("--work").arg(&writable.work).arg(bed.p("mnt"));
    assert!(mount.status().unwrap().success());
    lease.mounted(&bed.p("mnt"), false).unwrap();
    fs::write(bed.p("mnt/etc/os"), "live").unwrap();
    fs::rename(bed.p("mnt/bin"), bed.p("mnt/app/bin")).unwrap();
    let told = bed.run("diff web");
    let id = bed.run("commit web site:3");
    fs::write(bed.p("mnt/later"), "goes on").unwrap();
    assert!(bed.run(&format!("umount {}", bed.p("mnt").display())).status.success());
    drop(lease);
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    assert_eq!(text(told), "C /app\nA /app/bin\nA /app/bin/sh\nD /bin\nC /etc\nC /etc/os\n");
    assert!(id.status.success(), "{id:?}");
    let members = members(&bed.run("export site:3").stdout);
    assert_eq!(members["app/bin/sh"], "#!");
    assert_eq!(members["etc/os"], "live");
    assert!(!members.contains_key("bin/sh") && !members.contains_key("later"));
    bed.ok("verify");
}

#[test]
fn a_killed_commit_leaves_a_sound_store() {
    let (bed, _, writable) = bed();
    change(&writable);
    fs::write(writable.upper.join("large"), vec![7; 4 << 20]).unwrap();
    let told = bed.ok("diff web");
    for round in 0..12u64 {
        let line = format!("commit --compression none -m {round} web site:{round}");
        let mut child = bed.command(line.split_whitespace()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round * 40));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        // What was reported done is there.
        if output.status.success() {
            let id = String::from_utf8(output.stdout).unwrap();
            assert_eq!(bed.ok(&format!("images -q --no-trunc site:{round}")), id);
        }
        bed.ok("verify");
    }
    bed.ok("commit web site:last");
    assert_eq!(bed.ok("diff web"), told);
    bed.ok("verify");
}

#[test]
fn export_writes_trees_of_images_and_some_of_their_layers() {
    let (bed, _, _) = bed();
    let names = |line: &str| members(&bed.run(line).stdout).into_keys().collect::<Vec<_>>();
    assert_eq!(names("export base:1"), ["./", "app/", "app/run", "bin/", "bin/sh", "etc/", "etc/os"]);
    assert_eq!(names("export base:1@1"), ["./", "bin/", "bin/sh", "etc/", "etc/os"]);
    assert_eq!(bed.ok("export -o out.tar web"), "");
    assert_eq!(fs::read(bed.p("out.tar")).unwrap(), bed.run("export base:1").stdout);
    assert!(bed.fails("export nothing").contains("there is no writable layer and no image nothing"));
    assert!(bed.fails("export base:1@3").contains("has 2 layers, not 3"));
    let (code, _, shown) = bed.on_terminal("export base:1", "", true);
    assert!(code == Some(1) && shown.contains("-o FILE"), "{shown}");
}
