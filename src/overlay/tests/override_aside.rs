//! With owners in attributes: attributes that an ordinary user may not set are kept aside, under other names.

use super::harness::{Fs, OTHER, errno, settled};
use super::override_stat::{
    ACCESS, CAPABILITY, DEFAULT, NAME, ROOT_USER, aside, assert_private, fill, kept, shown, stack,
};
use crate::overlay::{New, Result};

#[test]
fn the_attributes_are_neither_shown_nor_settable() {
    let s = stack(1);
    fill(&s.lower(1));
    let fs = s.mount();
    fs.create("new").unwrap();
    for path in ["suid", "d", "new"] {
        assert_eq!(fs.overlay.list_xattr(fs.ino(path).unwrap(), ROOT_USER).unwrap(), b"", "{path}");
        for name in [NAME, &aside(CAPABILITY), &aside("anything")] {
            assert_eq!(errno(fs.get_xattr(path, name)), libc::ENODATA, "{path} {name}");
            assert_eq!(errno(fs.set_xattr(path, name, "0:0:4777:file")), libc::EPERM, "{path} {name}");
            assert_eq!(errno(fs.remove_xattr(path, name)), libc::ENODATA, "{path} {name}");
        }
    }
    assert!(!s.upper().has("suid"), "copied up for nothing");
}

#[test]
fn capabilities_are_kept_aside() {
    let s = stack(1);
    s.lower(1).file("f", "").file("g", "");
    s.lower(1).xattr("g", &aside(CAPABILITY), b"below");
    let fs = s.mount();
    assert_eq!(fs.get_xattr("g", CAPABILITY).unwrap(), b"below");
    for path in ["f", "g"] {
        fs.set_xattr(path, CAPABILITY, "capable").unwrap();
        assert_eq!(s.upper().get_xattr(path, &aside(CAPABILITY)).unwrap(), b"capable");
        assert_eq!(s.upper().get_xattr(path, CAPABILITY), None);
        assert_eq!(fs.get_xattr(path, CAPABILITY).unwrap(), b"capable");
        assert_eq!(fs.overlay.list_xattr(fs.ino(path).unwrap(), OTHER).unwrap(), b"security.capability\0");
        fs.remove_xattr(path, CAPABILITY).unwrap();
        assert_eq!(errno(fs.get_xattr(path, CAPABILITY)), libc::ENODATA);
    }
}

/// Version 2; owner, user 77, group, mask, others.
fn acl(owner: u16, user: u16, group: u16, mask: u16, other: u16) -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, perm, id) in [(1u16, owner, none), (2, user, 77), (4, group, none), (16, mask, none), (32, other, none)] {
        acl.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    acl
}

fn set_acl(fs: &Fs, path: &str, name: &str, acl: &[u8]) -> Result<()> {
    fs.overlay.set_xattr(fs.ino(path)?, &super::tree::c_string(name), acl, 0, ROOT_USER)
}

#[test]
fn access_control_lists_are_kept_aside_and_in_step_with_the_mode() {
    let s = stack(1);
    s.lower(1).file("f", "");
    kept(&s.lower(1), "f", "0:0:4640:file");
    // One that another program left on disk.
    s.upper().file("real", "").xattr("real", ACCESS, &acl(6, 6, 4, 6, 0));
    kept(&s.upper(), "real", "0:0:0660:file");
    let fs = s.mount();
    assert_eq!(fs.get_xattr("real", ACCESS).unwrap(), acl(6, 6, 4, 6, 0));
    set_acl(&fs, "f", ACCESS, &acl(7, 6, 4, 6, 1)).unwrap();
    assert_eq!(shown(&fs, "f").0, libc::S_IFREG | 0o4761);
    fs.chmod("f", 0o752).unwrap();
    assert_eq!(fs.get_xattr("f", ACCESS).unwrap(), acl(7, 6, 4, 5, 2));
    assert_eq!(s.upper().get_xattr("f", ACCESS), None, "a real one would act on the real owner");
    // Without the named user it says no more than a mode.
    let minimal =
        [&2u32.to_le_bytes()[..], &acl(6, 0, 4, 0, 0)[4..12], &acl(6, 0, 4, 0, 0)[20..28], &acl(6, 0, 4, 0, 0)[36..]];
    for path in ["f", "real"] {
        set_acl(&fs, path, ACCESS, &minimal.concat()).unwrap();
        assert_eq!((shown(&fs, path).0, errno(fs.get_xattr(path, ACCESS))), (libc::S_IFREG | 0o640, libc::ENODATA));
    }
    assert_private(&s.upper());
    settled(&s, fs);
}

#[test]
fn default_acls_are_inherited() {
    let s = stack(1);
    s.lower(1).dir("d").xattr("d", &aside(DEFAULT), &acl(7, 7, 5, 7, 0));
    let fs = s.mount();
    fs.mkdir("e").unwrap();
    set_acl(&fs, "e", DEFAULT, &acl(7, 7, 5, 7, 0)).unwrap();
    for dir in ["d", "e"] {
        let (file, sub) = (format!("{dir}/f"), format!("{dir}/s"));
        fs.make(&file, New::File, 0o664, 0o077, OTHER).unwrap();
        fs.make(&sub, New::Directory, 0o777, 0o077, OTHER).unwrap();
        assert_eq!(shown(&fs, &file).0, libc::S_IFREG | 0o660, "the umask does not count");
        assert_eq!(fs.get_xattr(&file, ACCESS).unwrap(), acl(6, 7, 5, 6, 0));
        assert_eq!(errno(fs.get_xattr(&file, DEFAULT)), libc::ENODATA);
        assert_eq!(fs.get_xattr(&sub, DEFAULT).unwrap(), acl(7, 7, 5, 7, 0));
        assert_eq!(fs.get_xattr(&sub, ACCESS).unwrap(), acl(7, 7, 5, 7, 0));
        fs.make(&format!("{sub}/f"), New::File, 0o600, 0, OTHER).unwrap();
        assert_eq!(fs.get_xattr(&format!("{sub}/f"), ACCESS).unwrap(), acl(6, 7, 5, 0, 0));
    }
    assert_private(&s.upper());
    settled(&s, fs);
}
