//! Owners that are shown in place of those in the layers: mappings as container engines pass them, and squashing.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::harness::{Bed, Setup, has, mkdir, put, text_of};
use super::os;
use super::posix_acl::{ACCESS, NAMED_GROUP, NAMED_USER, modify, text};

/// Layers with owners 0, 1000 and 5000 under these options.
fn bed(options: &str) -> Bed {
    Bed::with(Setup { options: options.into(), ..Setup::default() }, |l| {
        for (name, id) in [("root", 0), ("user", 1000), ("other", 5000)] {
            put(&l[0], name, name);
            chown(l[0].join(name), Some(id), Some(id)).unwrap();
        }
        mkdir(&l[0], "open");
        fs::set_permissions(l[0].join("open"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    })
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

const CONTAINER: &str = "uidmapping=0:100000:2000,gidmapping=0:200000:2000";

#[test]
fn mapped_owners_are_shown_and_stored() {
    let bed = bed(CONTAINER);
    assert_eq!(owner(&bed.p("root")), (100_000, 200_000));
    assert_eq!(owner(&bed.p("user")), (101_000, 201_000));
    assert_eq!(owner(&bed.p("other")), (65534, 65534), "not mapped");
    // Root of the container owns what belongs to 0; so does what it makes.
    bed.sh_ok_as(100_000, 200_000, "echo x >>root; echo y >open/f; mkdir open/d; ln -s x open/l; mkfifo open/p");
    for name in ["root", "open/f", "open/d", "open/l", "open/p"] {
        assert_eq!(owner(&bed.u(name)), (0, 0), "{name} on disk");
        assert_eq!(owner(&bed.p(name)), (100_000, 200_000), "{name}");
    }
    bed.sh_ok_as(101_000, 201_000, "echo x >>user; echo y >open/g");
    assert_eq!((owner(&bed.u("user")), owner(&bed.u("open/g"))), ((1000, 1000), (1000, 1000)));
    // chown(2), and who is not mapped.
    chown(bed.p("open/f"), Some(100_007), None).unwrap();
    assert_eq!((owner(&bed.u("open/f")), owner(&bed.p("open/f"))), ((7, 0), (100_007, 200_000)));
    let denied = chown(bed.p("open/f"), Some(7), None).unwrap_err();
    assert_eq!(denied.raw_os_error(), Some(libc::EOVERFLOW));
    let output = bed.sh_as(65534, 65534, "chmod 600 other || echo x >>other");
    assert!(!output.status.success(), "nobody owns what is not mapped");
    let output = bed.sh_as(5, 5, "echo z >open/h");
    assert!(!output.status.success() && !bed.p("open/h").exists());
    // Root of the machine is root of the layers.
    put(&bed.m, "open/by_root", "");
    assert_eq!((owner(&bed.u("open/by_root")), owner(&bed.p("open/by_root"))), ((0, 0), (100_000, 200_000)));
}

#[test]
fn entries_of_acls_are_mapped() {
    let bed = bed(CONTAINER);
    modify(&bed.p("user"), ACCESS, &[(NAMED_USER, 6, 100_005), (NAMED_GROUP, 4, 200_006)]);
    let on_disk = text(&bed.u("user"), ACCESS);
    assert!(on_disk.contains("user:5:rw-") && on_disk.contains("group:6:r--"), "{on_disk}");
    let shown = text(&bed.p("user"), ACCESS);
    assert!(shown.contains("user:100005:rw-") && shown.contains("group:200006:r--"), "{shown}");
    // Without the capability nobody checks them.
    if has(&["posix_acl"]) {
        assert_eq!(bed.sh_ok_as(100_005, 1, "cat user && echo x >>user && echo done"), "userdone");
    } else {
        assert!(!bed.sh_as(100_005, 1, "echo x >>user").status.success());
    }
}

#[test]
fn squashed_owners() {
    let bed = bed("squash_to_uid=1234,squash_to_gid=77");
    for name in ["root", "user", "other", "open"] {
        assert_eq!(owner(&bed.p(name)), (1234, 77), "{name}");
    }
    bed.sh("echo x >open/f; chown 9:9 open/f user");
    for name in ["open/f", "user"] {
        assert_eq!(owner(&bed.p(name)), (1234, 77), "{name}");
    }
    assert_eq!(owner(&bed.u("open/f")), (1234, 77));
    bed.sh_ok_as(1234, 77, "echo more >>other; chmod 600 root");
    assert_eq!(owner(&bed.u("other")), (5000, 5000), "what is there keeps its owner on disk");
}

#[test]
fn the_rights_of_a_caller_are_its_own() {
    // 1000 is user 0 in the layers, and no root for that.
    let bed = bed("uidmapping=0:1000:1:1000:2000:1,gidmapping=0:1000:1:1000:2000:1");
    bed.sh_ok_as(1000, 1000, "cp /bin/true open/p; chmod 4755 open/p; truncate -s 100 open/p");
    assert_eq!(fs::metadata(bed.u("open/p")).unwrap().mode() & 0o7777, 0o755, "set-id bits go");
    os::set_xattr(&bed.u("open/p"), "trusted.secret", b"1").unwrap();
    let names = os::as_user(1000, 1000, || os::xattr_names(&bed.p("open/p")));
    assert!(!names.iter().any(|name| name.starts_with("trusted")), "{names:?}");
}

#[test]
fn squashed_to_root() {
    let bed = bed("squash_to_root");
    // Or everybody could make a program that runs as root.
    let line = super::harness::mount_line(&bed.m).unwrap();
    assert!(line[3].split(',').any(|option| option == "nosuid"), "{}", line[3]);
    for name in ["root", "user", "other"] {
        assert_eq!(owner(&bed.p(name)), (0, 0), "{name}");
    }
    bed.sh_ok_as(1000, 1000, "echo x >open/f");
    assert_eq!((owner(&bed.p("open/f")), owner(&bed.u("open/f"))), ((0, 0), (0, 0)));
    // It is not theirs, although they made it.
    let touched = bed.sh_as(1000, 1000, "touch open/new");
    assert!(text_of(touched.stderr).contains("setting times of 'open/new': Permission denied"));
    assert_eq!(fs::metadata(bed.p("open/new")).unwrap().len(), 0);
    assert!(!bed.sh_as(1000, 1000, "echo x >>open/f").status.success());
    bed.sh_ok_as(1000, 1000, "umask 0; touch open/others; echo x >>open/others");
}
