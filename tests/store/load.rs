//! `load`.

use super::harness::Bed;
use super::sample::{
    APP, BASE, DATA, Entry, Sample, docker_archive, gzip, multi_platform, oci_archive, oci_layout, short,
};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Instant;

#[test]
fn images_come_from_all_kinds_of_places() {
    let (a, b) = (Sample::new(1, &[BASE]), Sample::new(2, &[BASE, DATA]));
    let bed = Bed::new();
    bed.write("d.tar", &docker_archive(&[(&a, &["a:1", "x/a:2"]), (&b, &[])]));
    bed.write("o.tar.gz", &gzip(&oci_archive(&[(&b, &["test"])])));
    oci_layout(&bed.p("dir"), &[(&a, &["one"]), (&b, &["quay.io/b/b:2"])]);
    let both = format!("Loaded image: a:1\nLoaded image: x/a:2\nLoaded image ID: {}\n", b.id());
    assert_eq!(bed.ok("load -i d.tar"), both);
    assert_eq!(bed.ok("load --quiet --input d.tar"), format!("{}\n{}\n", a.id(), b.id()));
    assert_eq!(bed.ok("load -i o.tar.gz"), "Loaded image: localhost/o:test\n");
    assert_eq!(bed.ok("load oci-archive:o.tar.gz:test"), "Loaded image: localhost/o:test\n");
    assert_eq!(bed.ok("load docker-archive:d.tar:x/a:2"), "Loaded image: x/a:2\n");
    assert_eq!(bed.ok("load oci:dir:one"), "Loaded image: localhost/dir:one\n");
    assert_eq!(bed.ok("load oci:dir"), "Loaded image: localhost/dir:one\nLoaded image: quay.io/b/b:2\n");
    let archive = docker_archive(&[(&Sample::new(1, &[APP]), &["c:latest"])]);
    assert_eq!(bed.ok_with_input("load", &archive), "Loaded image: c:latest\n");
    assert_eq!(bed.ok_with_input("load -i -", &gzip(&archive)), "Loaded image: c:latest\n");
}

#[test]
fn a_name_moves_to_the_image_that_is_loaded_last() {
    let (old, new) = (Sample::new(2, &[BASE]), Sample::new(1, &[BASE, APP]));
    let bed = Bed::with(&[(&old, &["a:1"])]);
    let said = bed.load(&[(&new, &["a:1"])]);
    let id = old.id();
    let moved = format!("The image a:1 already exists, renaming the old one with ID {id} to empty string\n");
    assert_eq!(said, format!("{moved}Loaded image: a:1\n"));
    assert_eq!(bed.json("images -a --json")["images"][1]["names"].as_array().unwrap().len(), 0);
    assert_eq!(bed.load(&[(&new, &["a:1"])]), "Loaded image: a:1\n");
}

#[test]
fn names_that_cannot_be_had_are_told() {
    let image = Sample::new(2, &[BASE]);
    let bed = Bed::new();
    oci_layout(&bed.p("dir"), &[(&image, &["Not A Name", "good:1"])]);
    let output = bed.run("load oci:dir");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Loaded image: good:1\n");
    assert!(String::from_utf8(output.stderr).unwrap().contains("without the name 'Not A Name'"));
    let digest = format!("pinned@sha256:{}", "a".repeat(64));
    oci_layout(&bed.p("pinned"), &[(&image, &[&digest])]);
    let output = bed.run("load oci:pinned");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("Loaded image ID: {}\n", image.id()));
    assert!(
        String::from_utf8(output.stderr).unwrap().contains(&format!("without the name 'docker.io/library/{digest}'"))
    );
}

#[test]
fn platforms_are_chosen_and_listed() {
    let image = |architecture: &str| Sample::with(&[BASE], serde_json::json!({ "architecture": architecture }));
    let (amd, arm) = (image("amd64"), image("arm64"));
    let bed = Bed::new();
    bed.write("i.tar", &multi_platform(&[(&amd, "amd64"), (&arm, "arm64")]));
    assert_eq!(bed.ok("load -q -i i.tar --platform linux/arm64"), format!("{}\n", arm.id()));
    assert_eq!(bed.ok("load -q -i i.tar --platform amd64"), format!("{}\n", amd.id()));
    let said = bed.fails("load -i i.tar --platform linux/s390x");
    assert!(said.contains("no image for platform linux/s390x; there is: linux/amd64, linux/arm64"), "{said}");
    assert_eq!(bed.run("load -i i.tar --platform x/y/z/w").status.code(), Some(2));
}

#[test]
fn what_cannot_be_loaded_is_said_in_a_sentence() {
    let image = Sample::new(2, &[BASE]);
    let bed = Bed::new();
    oci_layout(&bed.p("dir"), &[(&image, &["one"])]);
    bed.write("text", b"hello");
    let table = [
        ("load -i nowhere", "laminafs: nowhere: No such file or directory (os error 2)\n"),
        ("load -i text", "text"),
        ("load -i /dev/zero", "laminafs: /dev/zero: it is empty\n"),
        ("ls docker-archive:/dev/zero", "laminafs: /dev/zero: it is empty\n"),
        ("import /dev/zero", "goes on for more than 67108864 bytes behind its end"),
        ("load alpine", "a file is given with -i alpine"),
        ("load docker-store:alpine", "; bring it in with: docker save alpine | laminafs load\n"),
        ("load oci:dir:two", "has no image two; there is: one"),
        ("load docker-archive:dir", "no docker-archive"),
        ("load", "it is empty"),
    ];
    for (line, why) in table {
        let said = bed.fails(line);
        assert!(said.starts_with("laminafs: ") && said.lines().count() == 1 && said.contains(why), "{line}: {said}");
    }
    assert_eq!(bed.ok("images -aq"), "");
}

#[test]
fn a_damaged_image_does_not_keep_the_others_out() {
    let (mut bad, good) = (Sample::new(2, &[APP]), Sample::new(1, &[BASE]));
    let bed = Bed::new();
    let last = bad.layers[0].1.len() - 5;
    let archive = |bad: &Sample| docker_archive(&[(bad, &["bad:1"]), (&good, &["good:1"])]);
    bad.layers[0].1[last] ^= 1;
    // Under the digest of the blob as it was, in manifest and archive.
    let (was, is) =
        (super::sample::digest(&Sample::new(2, &[APP]).layers[0].1), super::sample::digest(&bad.layers[0].1));
    bad.manifest = String::from_utf8(bad.manifest).unwrap().replace(&was, &is).into_bytes();
    bed.write("i.tar", &archive(&bad));
    let output = bed.run("load -i i.tar");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Loaded image: good:1\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("laminafs: cannot load bad:1: layer 1 (sha256:"), "{said}");
    assert_eq!(bed.ok("images -aq").lines().count(), 1);
}

#[test]
fn limits_can_be_raised() {
    let image = Sample::new(2, &[BASE]);
    let bed = Bed::new();
    bed.write("i.tar", &docker_archive(&[(&image, &["a:latest"])]));
    let said = bed.fails("load -i i.tar --max-entries 3");
    assert!(said.contains("more than 3 entries") && said.contains("--max-entries"), "{said}");
    assert!(bed.fails("load -i i.tar --max-layer 1000").contains("more than 1000 bytes uncompressed"));
    assert_eq!(bed.ok("load -i i.tar --max-entries 4"), "Loaded image: a:latest\n");
}

#[test]
fn progress_is_for_terminals() {
    let image = Sample::new(2, &[BASE, APP]);
    let bed = Bed::new();
    bed.write("i.tar", &docker_archive(&[(&image, &["a:latest"])]));
    let (code, out, shown) = bed.on_terminal("load -i i.tar", "", false);
    assert_eq!((code, out.as_str()), (Some(0), "Loaded image: a:latest\n"));
    assert!(shown.contains(short(&super::sample::digest(&image.layers[0].1))), "{shown:?}");
    let (code, _, shown) = bed.on_terminal("load -q -i i.tar", "", false);
    assert_eq!((code, shown.as_str()), (Some(0), ""));
}

#[test]
fn a_terminal_is_nothing_to_load_from() {
    let (code, _, shown) = Bed::new().on_terminal("load", "", false);
    assert_eq!(code, Some(2));
    assert!(shown.contains("nothing to load: give an archive with -i FILE"), "{shown}");
}

/// Whatever it was doing: the signal has its effect, and what was unfinished is gone, at the latest with the next command.
#[test]
fn a_load_that_is_told_to_end_leaves_nothing() {
    let names: Vec<String> = (0..300).flat_map(|n| [format!("{n}/"), format!("{n}/file")]).collect();
    let entries =
        |text| names.iter().map(|name| (name.as_str(), if name.ends_with('/') { "" } else { text })).collect();
    let layers: [Vec<Entry<'_>>; 3] = [entries("one"), entries("two"), entries("three")];
    let image = Sample::new(1, &layers.each_ref().map(Vec::as_slice));
    let bed = Bed::new();
    bed.write("i.tar", &docker_archive(&[(&image, &["a:latest"])]));
    let tmp = bed.root().join("tmp");
    let left = || fs::read_dir(&tmp).map_or(0, Iterator::count);
    let begun = Instant::now();
    bed.ok("load -q -i i.tar");
    let whole = begun.elapsed();
    bed.ok("rmi a");
    for round in 0..8u32 {
        let signal = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT][round as usize % 4];
        let delay = whole * (round + 1) / 9;
        let mut command = bed.command(["load", "-q", "-i", "i.tar"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(delay);
        // Nobody has waited for it: the number is its own, even if it has ended.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert!(output.status.signal() == Some(signal) || output.status.success(), "{}", output.status);
        // What a slow disk did not let it remove in time, this does.
        bed.ok("prune -f");
        assert_eq!(left(), 0, "{delay:?}");
        bed.run("rmi a");
    }
    assert!(bed.ok("verify").ends_with(": sound\n"));
}

/// The soft limit of descriptors is raised to the hard one: shells have 1,024 as a rule.
#[test]
fn images_of_many_layers_need_no_other_limit_of_descriptors() {
    let layer: &[Entry<'_>] = &[("d/e/f", "x")];
    let image = Sample::new(1, &[layer; 40]);
    let bed = Bed::new();
    bed.write("i.tar", &docker_archive(&[(&image, &["a:latest"])]));
    for line in ["load -q -i i.tar", "ls a:latest", "ls docker-archive:i.tar", "verify --repair"] {
        if line.starts_with("verify") {
            fs::remove_dir_all(bed.root().join("layers/sha256")).unwrap();
            fs::create_dir(bed.root().join("layers/sha256")).unwrap();
        }
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("ulimit -Sn 40; exec \"$0\" {line}"), super::harness::PROGRAM]);
        let output = command.env("LAMINAFS_ROOT", bed.root()).current_dir(bed.dir()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    }
    assert!(bed.ok("verify").starts_with("Verified 3 blobs, 40 layers, 1 image"));
}

/// That a process may not open more says nothing about what is in the store.
#[test]
fn what_cannot_be_looked_at_for_want_of_descriptors_is_not_put_away() {
    let deep = "d/".repeat(60);
    let image = Sample::new(1, &[&[(&deep, "")]]);
    let bed = Bed::with(&[(&image, &["deep:1"])]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 30; exec \"$0\" verify --repair", super::harness::PROGRAM]);
    let output = command.env("LAMINAFS_ROOT", bed.root()).current_dir(bed.dir()).output().unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && why.contains("Too many open files"), "{why}");
    assert_eq!(fs::read_dir(bed.root().join("quarantine")).unwrap().count(), 0);
    assert!(bed.ok("verify").ends_with(": sound\n"));
}

/// Each in one sentence that names what is wrong once, and nothing of it stays in the store.
#[test]
fn images_that_lie_or_are_damaged() {
    let bed = Bed::new();
    let image = Sample::new(2, &[BASE]);
    let mut short = Sample::new(2, &[BASE]);
    let size = short.layers[0].1.len();
    short.manifest = String::from_utf8(short.manifest).unwrap().replace(&format!(":{size},"), ":5,").into_bytes();
    short.manifest = String::from_utf8(short.manifest).unwrap().replace(&format!(":{size}}}"), ":5}").into_bytes();
    bed.write("size.tar", &oci_archive(&[(&short, &["a:1"])]));
    let good = docker_archive(&[(&image, &["a:1"])]);
    bed.write("cut.tar.gz", &gzip(&good)[..500]);
    bed.write("zip", b"PK\x03\x04 and so on");
    bed.write("text.tar", &super::sample::tar(&[("manifest.json", "\u{1b}[2J")]));
    bed.write("list.tar", &super::sample::tar(&[("manifest.json", "[[]]")]));
    let layer = format!("layer 1 ({})", super::sample::digest(&image.layers[0].1));
    let table = [
        ("size.tar", format!("cannot load a:1: {layer} should have 5 bytes, but has {size}")),
        ("cut.tar.gz", "cut.tar.gz: reading the archive: incomplete deflate stream".into()),
        ("zip", "zip: it is not an image archive: it is neither a tar nor compressed with gzip or zstd".into()),
        ("text.tar", "manifest.json in text.tar is not valid: expected value at line 1 column 1".into()),
        ("list.tar", "manifest.json in list.tar is not valid: invalid length 0, expected an object".into()),
    ];
    for (file, why) in table {
        let said = bed.fails(&format!("load -i {file}"));
        assert!(said.starts_with(&format!("laminafs: {why}")) && said.lines().count() == 1, "{file}: {said:?}");
    }
    assert!(bed.ok("verify").starts_with("Verified 0 blobs, 0 layers, 0 images"));
    assert_eq!(fs::read_dir(bed.root().join("tmp")).unwrap().count(), 0);
}
