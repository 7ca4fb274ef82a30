//! Headers, PAX, long names, owners, times, attributes, devices, sparse files.

use super::build::{Layer, Tar, head, layer, records_of, refused, tar};
use crate::sys::{At, Time, xattr};
use std::os::fd::AsFd;

const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0x0a, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn acl() -> Vec<u8> {
    let mut acl = vec![2, 0, 0, 0];
    for (tag, perm, id) in
        [(1u16, 7u16, u32::MAX), (2, 6, 1234), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        acl.extend([&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    acl
}

#[test]
fn long_names_of_gnu_and_pax() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let gnu = tar()
        .with(head(b'L', "././@LongLink"), format!("{long}\0").as_bytes())
        .with(head(b'K', "././@LongLink"), format!("{}\0", "t".repeat(150)).as_bytes())
        .symlink("short", "short");
    let pax = tar().pax(&[("path", long.as_bytes()), ("linkpath", "t".repeat(150).as_bytes())]).symlink("s", "s");
    for tar in [gnu, pax] {
        let want = format!("-> {}", "t".repeat(150));
        layer(tar, &[]).assert_tree(&[(&"d".repeat(120), "dir"), (&long, &want)]);
    }
    let both = tar().pax(&[("path", b"a")]).with(head(b'L', "././@LongLink"), b"b\0").file("c", "");
    assert!(refused(both).contains("differ"));
    let same = tar().pax(&[("path", b"a")]).with(head(b'L', "././@LongLink"), b"a\0").file("c", "");
    layer(same, &[]).assert_tree(&[("a", "")]);
}

#[test]
fn the_size_of_pax_is_for_the_entry_and_not_for_a_header_between() {
    let tar = tar().pax(&[("size", b"5")]).with(head(b'L', "././@LongLink"), b"name\0").raw(head(b'0', "x").size(0));
    layer(tar.bytes(b"hello").file("y", "y"), &[]).assert_tree(&[("name", "hello"), ("y", "y")]);
}

#[test]
fn a_capability_with_a_newline_in_it() {
    let tar = tar().pax(&[("SCHILY.xattr.security.capability", CAPABILITY), ("path", b"real")]).file("x", "x");
    let layer = layer(tar, &[]);
    layer.assert_tree(&[("real", "x")]);
    assert_eq!(layer.xattr("real", c"security.capability").unwrap(), CAPABILITY);
}

#[test]
fn global_headers_are_ignored() {
    let tar = tar().with(head(b'g', "g"), &records_of(&[("path", b"evil"), ("uid", b"7")])).file("a", "a");
    let layer = layer(tar, &[]);
    layer.assert_tree(&[("a", "a")]);
    assert_eq!(layer.stat("a").uid, 0);
}

#[test]
fn owners_of_all_sizes() {
    let binary = head(b'0', "b").set(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
    let tar = tar().with(binary, b"").pax(&[("uid", b"3000000000"), ("gid", b"2097152")]).file("p", "");
    let layer = layer(tar, &[]);
    assert_eq!(layer.stat("b").uid, 0xffff_fffe);
    assert_eq!((layer.stat("p").uid, layer.stat("p").gid), (3_000_000_000, 2_097_152));
    let negative = super::build::tar().with(head(b'0', "n").set(108, &[0xff; 8]), b"");
    for tar in [negative, super::build::tar().pax(&[("uid", b"4294967295")]).file("n", "")] {
        let message = refused(tar);
        assert!(message.contains("'n'") && message.contains("owner"), "{message}");
    }
    assert!(refused(super::build::tar().pax(&[("uid", b"-1")]).file("n", "")).contains("malformed number"));
}

#[test]
fn times_with_fractions_before_1970_and_of_directories() {
    let binary = head(b'0', "old").set(136, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
    let tar = tar()
        .pax(&[("mtime", b"1234567890.123456789")])
        .dir("d")
        .file("d/a", "")
        .pax(&[("mtime", b"-1.5")])
        .symlink("l", "x")
        .raw(head(b'0', "zero").mtime(0))
        .with(binary, b"");
    let layer = layer(tar, &[]);
    assert_eq!(layer.stat("d").mtime, Time { sec: 1_234_567_890, nsec: 123_456_789 });
    assert_eq!(layer.stat("l").mtime, Time { sec: -2, nsec: 500_000_000 });
    assert_eq!(layer.stat("zero").mtime, Time::default());
    assert_eq!(layer.stat("old").mtime, Time { sec: -2, nsec: 0 });
    assert_eq!(layer.stat("d/a").mtime.sec, 1_700_000_000);
}

#[test]
fn times_that_no_file_system_holds() {
    // The system takes the nearest one that it can keep; an error is better than a time that is another one by chance.
    let far =
        tar().pax(&[("mtime", b"9223372036854775807")]).file("f", "").pax(&[("mtime", b"99999999999.5")]).dir("d");
    let layer = layer(far, &[]);
    assert!(layer.stat("f").mtime.sec > 1_700_000_000 && layer.stat("d").mtime.sec > 1_700_000_000);
    assert!(refused(tar().pax(&[("mtime", b"9223372036854775808")]).file("f", "")).contains("time"));
    let binary = head(b'0', "b").set(136, &[0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(refused(tar().with(binary, b"")).contains("time out of range"));
}

#[test]
fn modes_are_set_after_the_owner() {
    let tar = tar().with(head(b'0', "su").mode(0o104755).owner(1000, 1000), b"x").raw(head(b'5', "t").mode(0o1777));
    let layer = layer(tar, &[]);
    assert_eq!((layer.stat("su").mode, layer.stat("su").uid), (0o104755, 1000));
    assert_eq!(layer.stat("t").mode, 0o041777);
}

#[test]
fn old_directories_and_old_files() {
    let mut v7 = head(0, "d/");
    v7.0[257..].fill(0);
    let mut file = head(0, "d/f");
    file.0[257..].fill(0);
    let tar = tar().raw(v7).with(file, b"f").with(head(b'7', "contiguous"), b"c");
    layer(tar, &[]).assert_tree(&[("contiguous", "c"), ("d", "dir"), ("d/f", "f")]);
    assert!(refused(super::build::tar().raw(head(b'M', "m"))).contains("unknown type"));
}

#[test]
fn attributes_on_every_type_that_can_hold_them() {
    let both = [("SCHILY.xattr.trusted.t", &b"1"[..]), ("LIBARCHIVE.xattr.security.x", b"aGk=")];
    let acl = acl();
    let acls = [
        ("SCHILY.xattr.system.posix_acl_access", acl.as_slice()),
        ("SCHILY.xattr.system.posix_acl_default", &acl),
        ("SCHILY.xattr.user.u", b"u\n\0="),
    ];
    let tar = tar().pax(&acls).raw(head(b'5', "d").mode(0o775)).dir("d/inner").file("d/f", "");
    let tar = tar.pax(&both).symlink("l", "x").pax(&both).raw(head(b'6', "p"));
    let layer = layer(tar.pax(&both).raw(head(b'3', "c").device(1, 3)), &[]);
    assert_eq!(layer.xattr("d", c"system.posix_acl_access").unwrap(), acl);
    assert_eq!(layer.xattr("d", c"system.posix_acl_default").unwrap(), acl);
    assert_eq!(layer.xattr("d", c"user.u").unwrap(), b"u\n\0=");
    for inner in ["d/inner", "d/f"] {
        assert_eq!(layer.xattr(inner, c"system.posix_acl_access"), None, "{inner} inherited from its directory");
    }
    assert_eq!(layer.xattr("d/inner", c"system.posix_acl_default"), None);
    for path in ["l", "p", "c"] {
        assert_eq!(layer.xattr(path, c"trusted.t").unwrap(), b"1", "{path}");
        assert_eq!(layer.xattr(path, c"security.x").unwrap(), b"hi", "{path}");
    }
    assert_eq!(layer.stat("c").mtime.sec, 1_700_000_000);
}

#[test]
fn attributes_of_the_layer_format_do_not_become_markers() {
    let evil = [
        ("SCHILY.xattr.trusted.overlay.opaque", &b"y"[..]),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.fuseoverlayfs.opaque", b"y"),
        ("SCHILY.xattr.user.containers.override_stat", b"0:0:4755"),
    ];
    let layer = Layer::new();
    let unpacked = layer.unpack(&tar().pax(&evil).dir("d").end()).unwrap();
    assert_eq!(unpacked.counts.lost_xattrs, 2);
    assert_eq!(layer.xattr("d", c"trusted.overlay.opaque"), None);
    assert_eq!(layer.xattr("d", c"user.overlay.redirect"), None);
    assert_eq!(layer.xattr("d", c"trusted.overlay.overlay.opaque").unwrap(), b"y");
    assert_eq!(layer.xattr("d", c"user.overlay.overlay.redirect").unwrap(), b"/etc");
    assert_eq!(layer.xattr("d", c"user.fuseoverlayfs.opaque"), None);
    assert_eq!(layer.xattr("d", c"user.containers.override_stat"), None);
}

#[test]
fn devices_and_the_device_that_would_be_a_whiteout() {
    let tar = tar().raw(head(b'3', "null").device(1, 3).mode(0o666)).raw(head(b'4', "disk").device(259, 70000));
    let tar = tar.raw(head(b'6', "pipe")).raw(head(b'3', "d/zero").device(0, 0));
    let layer = layer(tar, &[]);
    layer.assert_tree(&[
        ("d", "dir"),
        ("d/zero", ""),
        ("disk", "block 259:70000"),
        ("null", "char 1:3"),
        ("pipe", "fifo"),
    ]);
    for path in ["d", "d/zero"] {
        let at = layer.xattr(path, c"trusted.overlay.laminafs.nested");
        assert_eq!(at.unwrap(), b"y", "shown as a device by the mount");
    }
    let message = refused(super::build::tar().raw(head(b'3', "n").device(0o7777777, 3)));
    assert!(message.contains("device number"), "{message}");
}

fn sparse_old() -> Tar {
    // Five pieces: four in the header, the fifth in a block of its own.
    let mut header = head(b'S', "old").set(257, b"ustar  \0").size(10).number(483, 12, 100_000);
    let piece = |at: usize| [format!("{:011o}\0", at * 20_000), format!("{:011o}\0", 2)].concat();
    for at in 0..4 {
        header = header.set(386 + 24 * at, piece(at).as_bytes());
    }
    header.0[482] = 1;
    let mut more = [0; 512];
    more[..24].copy_from_slice(piece(4).as_bytes());
    tar().raw(header).bytes(&more).bytes(b"aabbccddee")
}

#[test]
fn sparse_files_of_all_formats() {
    let pieces = "5\n0\n2\n20000\n2\n40000\n2\n60000\n2\n80000\n2\n";
    let map = [pieces.as_bytes(), &vec![0; 512 - pieces.len()], b"aabbccddee"].concat();
    let common = [("GNU.sparse.realsize", &b"100000"[..]), ("GNU.sparse.name", b"pax10")];
    let major = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), common[0], common[1]];
    let flat = "0,2,20000,2,40000,2,60000,2,80000,2";
    let second =
        [("GNU.sparse.size", &b"100000"[..]), ("GNU.sparse.map", flat.as_bytes()), ("GNU.sparse.name", b"pax01")];
    let mut first = vec![("GNU.sparse.size", &b"100000"[..]), ("GNU.sparse.numblocks", b"5")];
    let offsets: Vec<String> = (0..5).map(|at| (at * 20_000).to_string()).collect();
    for offset in &offsets {
        first.extend([("GNU.sparse.offset", offset.as_bytes()), ("GNU.sparse.numbytes", b"2")]);
    }
    let tar = sparse_old().pax(&major).with(head(b'0', "GNUSparseFile.1/x"), &map);
    let tar = tar.pax(&second).with(head(b'0', "GNUSparseFile.1/y"), b"aabbccddee");
    let tar = tar.pax(&first).with(head(b'0', "pax00"), b"aabbccddee").file("after", "after");
    let layer = layer(tar, &[]);
    let mut want = vec![0; 100_000];
    for (at, letters) in [b"aa", b"bb", b"cc", b"dd", b"ee"].into_iter().enumerate() {
        want[at * 20_000..at * 20_000 + 2].copy_from_slice(letters);
    }
    for name in ["old", "pax10", "pax01", "pax00"] {
        assert!(layer.read(name) == want, "{name}");
        assert!(layer.stat(name).blocks * 512 < 100_000, "{name} has no holes");
    }
    assert_eq!(layer.read("after"), b"after");
}

#[test]
fn names_of_any_bytes() {
    let tar = tar().file(b"\xff\xfe\n", "a").file("./././b", "b").file("/abs//c/", "c").file("x/../y", "y");
    let layer = layer(tar, &[]);
    layer.assert_tree(&[("\\xff\\xfe\\n", "a"), ("abs", "dir"), ("abs/c", "dir"), ("b", "b"), ("y", "y")]);
}

#[test]
fn attributes_of_the_root() {
    let tar = tar().pax(&[("mtime", b"7.5")]).raw(head(b'5', "./").mode(0o711).owner(3, 4)).file("./a", "");
    let stat = layer(tar, &[]).stat("");
    assert_eq!((stat.mode & 0o7777, stat.uid, stat.gid), (0o711, 3, 4));
    assert_eq!(stat.mtime, Time { sec: 7, nsec: 500_000_000 });
    let stat = layer(super::build::tar().file("a", ""), &[]).stat("");
    assert_eq!((stat.mode & 0o7777, stat.mtime), (0o755, Time::default()));
}

#[test]
fn hard_links_before_after_and_of_links() {
    let tar = tar().link("before", "d/f").dir("d").file("d/f", "data").link("after", "/d/f").symlink("s", "nowhere");
    let tar = tar.link("s2", "s").link("chain", "before").link("d/f", "d/f").raw(head(b'6', "p")).link("p2", "p");
    let layer = layer(tar, &[]);
    let ino = |path: &str| layer.stat(path).ino;
    for name in ["before", "after", "chain"] {
        assert_eq!(ino(name), ino("d/f"), "{name}");
    }
    assert_eq!(layer.stat("d/f").nlink, 4);
    assert_eq!((ino("s"), ino("p")), (ino("s2"), ino("p2")));
    assert!(layer.stat("s2").is_symlink());
}

#[test]
fn hard_links_that_are_refused() {
    for (tar, name, why) in [
        (tar().link("l", "missing"), "'l'", "neither in this layer nor below"),
        (tar().link("l", "l"), "'l'", "leads back to it"),
        (tar().link("a", "b").link("b", "a"), "'a'", "leads back to it"),
        (tar().dir("d").link("l", "d"), "'l'", "hard link to a directory"),
        (tar().link("l", "d").dir("d"), "'l'", "hard link to a directory"),
        (tar().link("l", "/"), "'l'", "hard link to a directory"),
        (tar().link("l", "../victim"), "'l'", "escaping"),
        (tar().link("l", ""), "'l'", "empty"),
        (tar().dir("d").file("d/f", "").link("d", "d/f"), "'d'", "replaces"),
    ] {
        let message = refused(tar);
        assert!(message.contains(name) && message.contains(why), "{message}");
    }
}

#[test]
fn a_later_entry_replaces_a_link_that_waits() {
    let tar = tar().link("l", "missing").file("l", "file").link("m", "none").link("m", "f").file("f", "f");
    let layer = layer(tar, &[]);
    layer.assert_tree(&[("f", "f"), ("l", "file"), ("m", "f")]);
}

#[test]
fn lengths_on_what_is_no_file() {
    // The length of the target without data, as some programs write it, and with data, as pax allows it.
    let tar = tar().file("f", "data").raw(head(b'1', "l").link("f").size(4)).file("g", "g");
    let tar = tar.raw(head(b'1', "m").link("f").size(600)).bytes(&[b'x'; 600]).raw(head(b'5', "d").size(4));
    layer(tar, &[]).assert_tree(&[("d", "dir"), ("f", "data"), ("g", "g"), ("l", "data"), ("m", "data")]);
}

#[test]
fn many_entries_in_one_directory() {
    let mut tar = tar();
    for i in 0..20_000 {
        tar = tar.raw(head(b'0', format!("d/{i}")));
    }
    let layer = Layer::new();
    let unpacked = layer.unpack(&tar.end()).unwrap();
    assert_eq!((unpacked.counts.entries, unpacked.counts.files), (20_000, 20_000));
    let dir = crate::sys::open_dir(layer.fd.as_fd(), "d".as_ref()).unwrap();
    assert!(xattr::list(At::Fd(dir.as_fd())).is_ok());
    let mut names = 0;
    crate::sys::read_dir(dir.as_fd(), &mut |_| names += 1).unwrap();
    assert_eq!(names, 20_000);
}
