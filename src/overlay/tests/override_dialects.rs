//! The names under which programs keep owners in attributes, and which of them a mount believes.

use std::collections::BTreeMap;

use super::harness::{OTHER, Stack, errno};
use super::override_stat::{CAPABILITY, NAME, ROOT_USER, assert_shown, kept, shown, stack};
use crate::overlay::{Change, New};

const PRIVILEGED: &str = "security.fuseoverlayfs.override_stat";

/// `xattr_permissions=1`; only root can set the attribute.
fn privileged() -> Option<Stack> {
    let mut s = stack(1);
    s.options.privileged_stat = true;
    super::tree::root().then_some(s)
}

#[test]
fn privileged_attributes_hold_owners_of_all_types() {
    let Some(s) = privileged() else { return };
    // As fuse-overlayfs 1.10 writes it: with the type in the mode.
    s.lower(1).file("f", "f").xattr("f", PRIVILEGED, b"5:6:104711").xattr("", PRIVILEGED, b"0:0:40755");
    s.lower(1).symlink("l", "f").xattr("l", PRIVILEGED, b"7:8:0777:symlink");
    let fs = s.mount();
    assert_eq!(shown(&fs, "f"), (libc::S_IFREG | 0o4711, 5, 6, (0, 0)));
    assert_eq!(shown(&fs, "l"), (libc::S_IFLNK | 0o777, 7, 8, (0, 0)));
    fs.chmod("f", 0o640).unwrap();
    let owner = Change { uid: Some(11), gid: Some(12), ..Change::default() };
    fs.change("l", &owner).unwrap();
    fs.make("new", New::Symlink("t".as_ref()), 0o777, 0o022, OTHER).unwrap();
    fs.make("null", New::Node(libc::S_IFCHR, 1, 3), 0o666, 0, ROOT_USER).unwrap();
    fs.set_xattr("f", CAPABILITY, "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
        .unwrap();
    let want = BTreeMap::from([
        ("f", (libc::S_IFREG | 0o640, 5, 6, (0, 0))),
        ("l", (libc::S_IFLNK | 0o777, 11, 12, (0, 0))),
        ("new", (libc::S_IFLNK | 0o777, OTHER.uid, OTHER.gid, (0, 0))),
        ("null", (libc::S_IFCHR | 0o666, 0, 0, (1, 3))),
    ]);
    assert_shown(&fs, &want);
    for path in want.keys() {
        assert!(s.upper().get_xattr(path, PRIVILEGED).is_some(), "{path}");
        assert!(s.upper().get_xattr(path, NAME).is_none(), "{path}");
        let list = fs.overlay.list_xattr(fs.ino(path).unwrap(), ROOT_USER).unwrap();
        let listed = list.split(|&b| b == 0).any(|n| n.starts_with(b"security.fuseoverlayfs."));
        assert!(!listed, "{path}");
        assert_eq!(errno(fs.set_xattr(path, PRIVILEGED, "0:0:0")), libc::EPERM);
    }
    assert!(fs.get_xattr("f", CAPABILITY).is_ok() && s.upper().get_xattr("f", CAPABILITY).is_none());
    assert!(s.upper().get_xattr("f", "security.fuseoverlayfs.override_security.capability").is_some());
    drop(fs);
    assert_shown(&s.mount(), &want);
    // The root of upper says it, so that it is found again by who only looks.
    assert_eq!(s.upper().get_xattr("", PRIVILEGED).unwrap(), b"0:0:40755");
}

/// Who owns a file could make it root's with a name that root did not use.
#[test]
fn privileged_mounts_believe_other_names_only_where_a_root_has_them() {
    for on_root in [false, true] {
        let Some(s) = privileged() else { return };
        s.lower(1).file("f", "").chown("f", 1000, 1000);
        kept(&s.lower(1), "f", "0:0:4755:file");
        if on_root {
            kept(&s.lower(1), "", "0:0:0755:dir");
        }
        let fs = s.mount();
        let (mode, uid, ..) = shown(&fs, "f");
        assert_eq!((mode & 0o7777, uid), if on_root { (0o4755, 0) } else { (0o644, 1000) });
        // A copy has one name only.
        fs.chmod("f", 0o711).unwrap();
        assert!(s.upper().get_xattr("f", NAME).is_none() && s.upper().get_xattr("f", PRIVILEGED).is_some());
    }
}

/// fuse-overlayfs before 1.14 has a name of its own: what it began is gone on with, so that it can read it again.
#[test]
fn an_upper_directory_of_fuse_overlayfs_keeps_its_name() {
    const THEIRS: &str = "user.fuseoverlayfs.override_stat";
    let s = stack(1);
    kept(&s.lower(1), "", "0:0:0755:dir");
    s.lower(1).file("below", "");
    kept(&s.lower(1), "below", "1:2:0640:file");
    // It copies the attribute of the lower file and adds its own.
    s.upper().xattr("", THEIRS, b"3:4:40711").file("f", "").xattr("f", THEIRS, b"5:6:104711");
    kept(&s.upper(), "f", "1:2:0640:file");
    let fs = s.mount();
    assert_eq!(shown(&fs, ""), (libc::S_IFDIR | 0o711, 3, 4, (0, 0)));
    assert_eq!(shown(&fs, "f"), (libc::S_IFREG | 0o4711, 5, 6, (0, 0)));
    assert_eq!(shown(&fs, "below"), (libc::S_IFREG | 0o640, 1, 2, (0, 0)));
    fs.chmod("below", 0o600).unwrap();
    assert_eq!(s.upper().get_xattr("below", THEIRS).unwrap(), b"1:2:0600:file");
    assert!(s.upper().get_xattr("below", NAME).is_none());
    drop(fs);
    assert_eq!(shown(&s.mount(), "below"), (libc::S_IFREG | 0o600, 1, 2, (0, 0)));
}

/// A pipe that passes for a file would hold up whoever opens it.
#[test]
fn only_a_file_stands_for_something_else() {
    let Some(s) = privileged() else { return };
    s.lower(1).fifo("p").xattr("p", PRIVILEGED, b"0:0:0644:file").symlink("l", "x");
    s.lower(1).xattr("l", PRIVILEGED, b"0:0:0644:char-1-3").fifo("q").xattr("q", PRIVILEGED, b"1:2:0644:pipe");
    let fs = s.mount();
    assert_eq!((errno(fs.attr("p")), errno(fs.attr("l"))), (libc::EINVAL, libc::EINVAL));
    assert_eq!(shown(&fs, "q"), (libc::S_IFIFO | 0o644, 1, 2, (0, 0)));
}
