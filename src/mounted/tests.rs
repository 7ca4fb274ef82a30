//! Needs root or fusermount3, and `/dev/fuse`, as the mount tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn layers() -> TempDir {
    let tmp = tempfile::tempdir().unwrap();
    for layer in ["top", "base"] {
        fs::create_dir(tmp.path().join(layer)).unwrap();
        fs::write(tmp.path().join(layer).join("which"), layer).unwrap();
        fs::write(tmp.path().join(layer).join(layer), "").unwrap();
    }
    fs::set_permissions(tmp.path().join("top"), fs::Permissions::from_mode(0o711)).unwrap();
    tmp
}

fn mount(layers: &TempDir) -> Mounted {
    Mounted::directories(["top", "base"].map(|name| layers.path().join(name))).unwrap()
}

fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mounts").unwrap().contains(path.to_str().unwrap())
}

#[test]
fn what_is_written_goes_with_the_value() {
    let layers = layers();
    let root = mount(&layers);
    let path = root.path().to_owned();
    assert_eq!(fs::read_to_string(path.join("which")).unwrap(), "top");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o711);
    fs::remove_file(path.join("base")).unwrap();
    fs::write(path.join("new"), "x").unwrap();
    fs::set_permissions(path.join("new"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(fs::read_to_string(root.upper().join("new")).unwrap(), "x");
    root.unmount().unwrap();
    assert!(!path.exists() && !is_mounted(&path));
    assert!(layers.path().join("base/base").exists() && !layers.path().join("top/new").exists());
}

#[test]
fn modes_are_those_that_were_asked_for() {
    let layers = layers();
    let root = mount(&layers);
    let script = format!("umask 000; mkdir {0}/d; : > {0}/f", root.path().display());
    assert!(std::process::Command::new("sh").args(["-ec", &script]).status().unwrap().success());
    let mode = |name: &str| fs::metadata(root.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("d"), mode("f")), (0o777, 0o666));
}

#[test]
fn a_panic_unmounts() {
    let layers = layers();
    let (send, receive) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let root = mount(&layers);
        send.send(root.path().to_owned()).unwrap();
        panic!("as a failed assertion does");
    });
    assert!(test.join().is_err());
    let path = receive.recv().unwrap();
    assert!(!path.exists() && !is_mounted(&path));
}

#[test]
fn a_mount_in_use_is_taken_out_of_the_tree() {
    let layers = layers();
    let root = mount(&layers);
    let path = root.path().to_owned();
    let open = fs::File::open(path.join("which")).unwrap();
    let error = root.unmount().unwrap_err();
    assert!(error.to_string().contains("busy"), "{error}");
    assert!(!is_mounted(&path));
    drop(open);
}

#[test]
fn errors_are_sentences() {
    let error = Mounted::directories(["/nowhere/at/all"]).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    assert!(Mounted::directories([""; 0]).is_err());
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(&tmp.path().join("store")).unwrap();
    assert!(Mounted::image(&store, "alpine").unwrap_err().to_string().contains("no such image: alpine"));
}
