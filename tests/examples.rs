//! The examples, run as their readers run them. Needs root and `/dev/fuse`, as the mount tests do.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[allow(dead_code, reason = "main is called by whoever runs the example")]
#[path = "../examples/image_layers.rs"]
mod image_layers;
#[allow(dead_code, reason = "main is called by whoever runs the example")]
#[path = "../examples/mount_in_test.rs"]
mod mount_in_test;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "store/sample.rs"]
mod sample;

use sample::{APP, BASE, Sample, docker_archive};
use std::process::Command;
use tempfile::TempDir;

/// A store with two images that share a layer.
fn store() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("images.tar");
    let (base, app) = (Sample::new(30, &[BASE]), Sample::new(3, &[BASE, APP]));
    std::fs::write(&archive, docker_archive(&[(&base, &["base:1"]), (&app, &["app:1"])])).unwrap();
    let mut load = Command::new(env!("CARGO_BIN_EXE_laminafs"));
    load.arg("--root").arg(place.path().join("store")).args(["load", "-q", "-i"]).arg(&archive);
    assert!(load.output().unwrap().status.success());
    place
}

#[test]
fn mount_in_test_leaves_nothing() {
    mount_in_test::run(&[]).unwrap();
    let place = store();
    let path = place.path().join("store");
    mount_in_test::run(&[path.to_str().unwrap(), "app:1"]).unwrap();
    assert!(
        mount_in_test::run(&[path.to_str().unwrap(), "nothing"]).unwrap_err().to_string().contains("no such image")
    );
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(place.path().to_str().unwrap()));
}

#[test]
fn image_layers_lists_them() {
    let place = store();
    let mut out = Vec::new();
    image_layers::list(&place.path().join("store"), "app:1", &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("app:1 (sha256:"), "{text}");
    assert_eq!(text.matches(" entries, ").count(), 2, "{text}");
    assert_eq!(text.matches("shared by 2 images").count(), 1, "{text}");
    assert!(text.contains("/diff\n") && text.contains("8B in 2 entries"), "{text}");
}

#[test]
fn examples_are_short() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 80, "{} has {lines} lines", path.display());
    }
}
