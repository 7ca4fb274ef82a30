//! `save` and `import`.

use super::harness::{Bed, PROGRAM};
use super::sample::{APP, BASE, DATA, Sample, digest, docker_archive, gzip, tar};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// The members of a tar.
fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (path, mut bytes) = (entry.path().unwrap().to_str().unwrap().to_owned(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        found.insert(path, bytes);
    }
    found
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/{}", digest(bytes).replace(':', "/"))
}

#[test]
fn archives_hold_what_came_in() {
    let (a, b) = (Sample::new(1, &[BASE, APP]), Sample::new(2, &[BASE, DATA]));
    let bed = Bed::with(&[(&a, &["a:1", "a:2"]), (&b, &["b:1"])]);
    assert_eq!(bed.ok(&format!("save -o two.tar a:2 b:1 {} a:1", &a.id()[7..20])), "");
    let archive = fs::read(bed.p("two.tar")).unwrap();
    let found = members(&archive);
    for (_, bytes) in a.layers.iter().chain(&b.layers) {
        assert_eq!(&found[&blob(bytes)], bytes);
    }
    let list = parsed(&found["manifest.json"]);
    assert_eq!(list[0]["RepoTags"], json!(["a:2", "a:1"]));
    assert_eq!(list[1]["RepoTags"], json!(["b:1"]));
    assert_eq!(parsed(&found["index.json"])["manifests"].as_array().unwrap().len(), 3);
    // Standard output gets the same.
    let output = bed.run("save a:2 a:1 b:1");
    assert!(output.status.success() && output.stdout == archive);
    // And it comes in again.
    let other = Bed::new();
    other.write("two.tar", &archive);
    assert_eq!(other.ok("load -i two.tar"), "Loaded image: a:2\nLoaded image: a:1\nLoaded image: b:1\n");
    assert_eq!(other.ok("images -q --no-trunc"), format!("{}\n{}\n", a.id(), b.id()));
}

/// The limit comes with a signal that ends who does not ignore it.
#[test]
fn a_limit_of_file_sizes_is_an_error_like_a_full_disk() {
    let bed = Bed::with(&[(&Sample::new(1, &[BASE]), &["a:1"])]);
    bed.ok("save -o whole.tar a:1");
    for command in ["save -o part.tar a:1", "load -i whole.tar"] {
        let line = format!("ulimit -f 1; exec \"$0\" --root \"$1\" {command}");
        let root = if command.starts_with("save") { bed.root() } else { bed.p("other") };
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &line, PROGRAM]).arg(root).current_dir(bed.dir()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("File too large"), "{command}: {said}");
    }
    let mut left: Vec<_> = fs::read_dir(bed.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["images.tar", "other", "root", "whole.tar"]);
    assert_eq!(fs::read_dir(bed.p("other/tmp")).unwrap().count(), 0);
}

#[test]
fn formats_and_images_without_a_name() {
    let image = Sample::new(1, &[BASE]);
    let bed = Bed::with(&[(&image, &["a:1"])]);
    bed.ok(&format!("save --format oci --output x.tar {}", image.id()));
    let found = members(&fs::read(bed.p("x.tar")).unwrap());
    assert!(found.contains_key("oci-layout") && !found.contains_key("manifest.json"));
    assert_eq!(parsed(&found["index.json"])["manifests"][0]["annotations"], Value::Null);
}

#[test]
fn a_failed_save_changes_no_file() {
    let image = Sample::new(1, &[BASE]);
    let bed = Bed::with(&[(&image, &["a:1"])]);
    bed.write("x.tar", b"old");
    assert!(bed.fails("save -o x.tar a:1 nothing").contains("no such image: nothing; `laminafs images` lists"));
    let hex = &digest(&image.layers[0].1)[7..];
    let path = bed.root().join("blobs/sha256").join(hex);
    fs::write(&path, vec![0; image.layers[0].1.len()]).unwrap();
    let said = bed.fails("save -o x.tar a:1");
    assert!(said.contains("layer sha256:") && said.contains("should have digest"), "{said}");
    assert_eq!(fs::read(bed.p("x.tar")).unwrap(), b"old");
    let left: Vec<_> = fs::read_dir(bed.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().contains("laminafs")), "{left:?}");
    let why = bed.fails("save -o no/where.tar a:1");
    assert_eq!(why, "laminafs: cannot write no/where.tar: No such file or directory (os error 2)\n");
    assert!(bed.fails("save oci:dir").contains("laminafs load oci:dir"));
}

#[test]
fn an_interrupted_save_leaves_nothing() {
    let image = Sample::new(1, &[BASE]);
    let bed = Bed::with(&[(&image, &["a:1"])]);
    // Reading the blob waits for somebody to write into it.
    let path = bed.root().join("blobs/sha256").join(&digest(&image.layers[0].1)[7..]);
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    // What a script starts in the background ignores it from the start, and so would the save.
    unsafe { libc::signal(libc::SIGQUIT, libc::SIG_DFL) };
    [libc::SIGTERM, libc::SIGQUIT].into_iter().for_each(|signal| interrupt_a_save(&bed, signal));
}

/// Of a save that waits for a blob.
fn interrupt_a_save(bed: &Bed, signal: i32) {
    let shell = ["-c", "trap '' INT; exec \"$0\" save -o x.tar a:1", super::harness::PROGRAM];
    let mut command = std::process::Command::new("sh");
    command.args(shell).env("LAMINAFS_ROOT", bed.root()).current_dir(bed.dir());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let there =
        || fs::read_dir(bed.dir()).unwrap().any(|e| e.unwrap().file_name().to_str().unwrap().starts_with(".laminafs-"));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
    // From when the signals are held back a thread waits for them, which removes the file.
    let pid = child.id();
    let holds = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let held = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        u64::from_str_radix(held, 16).unwrap() & 1 << (signal - 1) != 0
    };
    while !(there() && holds()) {
        assert!(std::time::Instant::now() < end && child.try_wait().unwrap().is_none(), "it never began");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // As for all that a shell starts in the background.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(there() && child.try_wait().unwrap().is_none(), "it was to ignore that");
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + signal), "{status}");
    assert!(!there() && !bed.p("x.tar").exists());
}

#[test]
fn an_archive_is_nothing_for_a_terminal() {
    let image = Sample::new(1, &[BASE]);
    let bed = Bed::with(&[(&image, &["a:1"])]);
    let (code, _, shown) = bed.on_terminal("save a:1", "", true);
    assert_eq!(code, Some(1));
    assert!(shown.contains("nothing for a terminal; give a file with -o FILE") && shown.len() < 200, "{shown}");
    // Files that are none are written to as they are.
    assert_eq!(bed.ok("save -o /dev/null a:1"), "");
    std::os::unix::fs::symlink("real.tar", bed.p("link.tar")).unwrap();
    bed.write("real.tar", b"");
    bed.ok("save -o link.tar a:1");
    assert!(bed.p("link.tar").is_symlink() && bed.p("real.tar").metadata().unwrap().len() > 1000);
}

#[test]
fn a_tar_becomes_an_image() {
    let bed = Bed::new();
    bed.write("root.tar", &tar(BASE));
    let mut command = bed.command([
        "import",
        "-c",
        "CMD [\"/bin/sh\"]",
        "--change",
        "ENV A=b C=\"d e\"",
        "-m",
        "why",
        "--platform",
        "linux/arm64",
        "root.tar",
        "base:1",
    ]);
    let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let config = json!({
        "architecture": "arm64", "os": "linux", "variant": Value::Null, "created": "2023-11-14T22:13:20Z",
    });
    let found = bed.json("inspect base:1");
    assert_eq!(found[0]["Id"], id);
    assert_eq!((&found[0]["Architecture"], &found[0]["Created"]), (&config["architecture"], &config["created"]));
    assert_eq!(found[0]["Comment"], "why");
    assert_eq!(found[0]["Config"], json!({"Cmd": ["/bin/sh"], "Env": ["A=b", "C=d e"]}));
    assert_eq!(found[0]["RootFS"]["Layers"], json!([digest(&tar(BASE))]));
    // The same again gives the same image; the layer stays compressed as it is.
    let again = |args: &[&str], input: &[u8]| {
        bed.write("root.tar", input);
        let mut command = bed.command(["import"].iter().chain(args));
        let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let one = again(&["root.tar"], &gzip(&tar(BASE)));
    assert_eq!(one, again(&["root.tar"], &gzip(&tar(BASE))));
    bed.ok(&format!("save --format oci -o out.tar {}", one.trim()));
    let found = members(&fs::read(bed.p("out.tar")).unwrap());
    assert_eq!(found[&blob(&gzip(&tar(BASE)))], gzip(&tar(BASE)));
    let index = parsed(&found["index.json"]);
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let manifest = parsed(&found[&format!("blobs/{manifest}")]);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let id = bed.ok_with_input("import - x", &tar(APP));
    assert_eq!(bed.json("inspect x")[0]["Id"], id.trim());
    assert_eq!(bed.json("inspect x")[0]["Comment"], "Imported from -");
}

#[test]
fn an_empty_tar_is_told() {
    let bed = Bed::new();
    bed.write("empty.tar", &[0; 1024]);
    let output = bed.run("import empty.tar empty");
    assert!(output.status.success() && output.stdout.starts_with(b"sha256:"), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("the image is empty"));
}

/// A load looks whether it is to end also while nothing comes from its pipe, and what it has made is gone with it.
#[test]
fn an_import_that_waits_for_its_input_ends_upon_a_signal() {
    let bed = Bed::new();
    let mut command = bed.command(["import", "-", "x"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let tar = tar(APP);
    child.stdin.as_mut().unwrap().write_all(&tar[..600]).unwrap();
    let tmp = bed.root().join("tmp");
    let unpacking =
        || fs::read_dir(&tmp).is_ok_and(|mut all| all.any(|one| one.unwrap().path().join("0/diff").is_dir()));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !unpacking() {
        assert!(std::time::Instant::now() < end && child.try_wait().unwrap().is_none(), "it never began");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.signal(), output.stderr), (Some(libc::SIGTERM), Vec::new()));
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "before any other command");
    drop(input);
}

#[test]
fn what_cannot_be_imported_is_said() {
    let bed = Bed::new();
    bed.write("root.tar", &tar(BASE));
    bed.write("bad.tar", &docker_archive(&[])[..700]);
    fs::create_dir(bed.p("dir")).unwrap();
    let table = [
        ("import dir", "import takes a tar of it"),
        ("import https://a/b.tar", "nothing is fetched here"),
        ("import nowhere", "cannot open nowhere: No such file"),
        ("import bad.tar", "cannot import bad.tar: layer 1: "),
        ("import -c RUN root.tar", "change 'RUN': RUN is none of CMD"),
        ("import root.tar A", "'A' is not an image name"),
        ("import root.tar oci:a", "the word before the colon is a transport"),
        (
            "import root.tar a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "cannot be given to an image",
        ),
    ];
    for (line, why) in table {
        let said = bed.fails(line);
        assert!(said.contains(why), "{line}: {said}");
    }
    assert_eq!(bed.ok("images -aq"), "");
}
