//! Layers of processes that may not make devices or give files away.

use super::build::{Layer, head, tar};
use crate::archive::{Form, OVERRIDE_STAT, Owners};
use crate::layer::xattr::Namespace;

const USER: Form = Form { namespace: Namespace::User, owners: Owners::OverrideStat, device_whiteouts: false };

fn layer(tar: super::build::Tar, below: &[&Layer]) -> Layer {
    let layer = Layer::in_form(Some(USER));
    layer.apply(&tar.end(), below).unwrap();
    layer
}

fn kept(layer: &Layer, path: &str) -> String {
    String::from_utf8(layer.xattr(path, OVERRIDE_STAT).unwrap_or_default()).unwrap()
}

#[test]
fn owner_mode_and_device_are_kept_in_an_attribute() {
    let capability = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..];
    let tar = tar()
        .raw(head(b'5', "d").mode(0o1755).owner(1, 2))
        .pax(&[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.a", b"1")])
        .with(head(b'0', "d/su").mode(0o4755).owner(3_000, 4), b"x")
        .raw(head(b'0', "secret").mode(0).owner(5, 6))
        .raw(head(b'3', "null").device(1, 3).mode(0o666))
        .raw(head(b'4', "disk").device(8, 1).mode(0o660).owner(0, 6))
        .raw(head(b'6', "pipe").mode(0o600))
        .symlink("l", "x")
        .link("again", "d/su");
    let layer = layer(tar, &[]);
    for (path, want) in [
        ("", "0:0:0755:dir"),
        ("d", "1:2:1755:dir"),
        ("d/su", "3000:4:4755:file"),
        ("again", "3000:4:4755:file"),
        ("secret", "5:6:0000:file"),
        ("null", "0:0:0666:char-1-3"),
        ("disk", "0:6:0660:block-8-1"),
        ("pipe", "0:0:0600:pipe"),
    ] {
        assert_eq!(kept(&layer, path), want, "{path}");
        assert!(layer.stat(path).is_dir() || layer.stat(path).is_file(), "{path}");
        assert_eq!(
            layer.stat(path).uid,
            crate::sys::stat(crate::sys::At::Fd(std::os::fd::AsFd::as_fd(&layer.fd))).unwrap().uid
        );
    }
    assert_eq!((layer.stat("d/su").mode & 0o7777, layer.stat("secret").mode & 0o7777), (0o700, 0o600));
    assert_eq!(layer.xattr("d/su", c"security.capability"), None);
    assert_eq!(layer.xattr("d/su", c"user.containers.override_security.capability").unwrap(), capability);
    assert_eq!(layer.xattr("d/su", c"user.a").unwrap(), b"1");
    assert!(layer.stat("l").is_symlink());
    assert_eq!(layer.stat("secret").mtime.sec, 1_700_000_000);
}

#[test]
fn whiteouts_by_attribute() {
    let base = layer(tar().dir("d").file("d/a", "a").file("d/e/f", "").file("top", "t"), &[]);
    let tar = tar().file("d/.wh.a", "").file(".wh.top", "").file("d/e/.wh..wh..opq", "");
    let upper = layer(tar, &[&base]);
    upper.assert_tree(&[
        ("d", "dir (has xattr whiteouts)"),
        ("d/a", " (xattr whiteout)"),
        ("d/e", "dir (opaque)"),
        ("top", " (xattr whiteout)"),
    ]);
    assert_eq!(upper.xattr("", c"user.overlay.opaque").unwrap(), b"x");
    let third = layer(super::build::tar().file("d/.wh.a", "").file(".wh.top", ""), &[&upper, &base]);
    third.assert_tree(&[("d", "dir")]);
}

#[test]
fn implied_directories_and_links_take_the_attribute_over() {
    let base = tar().raw(head(b'5', "d").mode(0o700).owner(7, 8)).with(head(b'0', "f").owner(9, 9), b"f");
    let base = layer(base.raw(head(b'3', "c").device(1, 3)), &[]);
    let upper = layer(tar().file("d/x", "").link("g", "f").link("c2", "c"), &[&base]);
    assert_eq!(kept(&upper, "d"), "7:8:0700:dir");
    assert_eq!(kept(&upper, "g"), "9:9:0644:file");
    assert_eq!(kept(&upper, "c2"), "0:0:0644:char-1-3");
}

#[test]
fn probing_leaves_nothing_behind() {
    let layer = Layer::in_form(None);
    layer.assert_tree(&[]);
    assert_eq!(Form::probe(std::os::fd::AsFd::as_fd(&layer.fd)).unwrap(), layer.form);
}
