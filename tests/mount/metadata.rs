//! What is known of files beside their data: extended attributes, flags, kinds, and the file system itself.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::fs::FileType;

use super::harness::{Bed, Setup, entries, put};
use super::os::{self, errno};

#[test]
fn special_files() {
    let setup = Setup { options: "dev".into(), ..Setup::default() };
    let mut bed = Bed::with(setup, |l| {
        os::mknod(&l[0].join("pipe"), FileType::Fifo, 0o640, 0, 0).unwrap();
        os::mknod(&l[0].join("socket"), FileType::Socket, 0o600, 0, 0).unwrap();
        os::mknod(&l[0].join("null"), FileType::CharacterDevice, 0o666, 1, 3).unwrap();
        os::mknod(&l[0].join("disk"), FileType::BlockDevice, 0o660, 259, 70_000).unwrap();
        super::harness::sh_in(&l[0], "chmod 640 pipe; chmod 600 socket; chmod 666 null; chmod 660 disk");
    });
    let check = |bed: &Bed| {
        let kind = |n: &str| fs::symlink_metadata(bed.p(n)).unwrap().mode();
        assert_eq!(kind("pipe"), libc::S_IFIFO | 0o640);
        assert_eq!(kind("socket"), libc::S_IFSOCK | 0o600);
        assert_eq!(kind("null"), libc::S_IFCHR | 0o666);
        let disk = fs::symlink_metadata(bed.p("disk")).unwrap();
        assert_eq!((disk.mode(), disk.rdev()), (libc::S_IFBLK | 0o660, rustix::fs::makedev(259, 70_000)));
    };
    check(&bed);
    assert_eq!(bed.sh("echo through the pipe >pipe & cat pipe; echo gone >null; wc -c <null"), "through the pipe\n0");
    bed.sh("for f in pipe socket null disk; do chown 7:8 $f; done");
    check(&bed);
    bed.remount();
    check(&bed);
    assert_eq!(fs::symlink_metadata(bed.u("disk")).unwrap().rdev(), rustix::fs::makedev(259, 70_000));
    assert_eq!(fs::symlink_metadata(bed.p("socket")).unwrap().uid(), 7);
}

#[test]
fn file_system_statistics() {
    let bed = Bed::new(|_| {});
    let (ours, below) = (os::statfs(&bed.m), os::statfs(&bed.upper));
    assert_eq!(ours.f_type, 0x6573_5546, "callers recognise FUSE by its magic number");
    assert_eq!((ours.f_blocks, ours.f_bsize, ours.f_files), (below.f_blocks, below.f_bsize, below.f_files));
    assert_eq!(ours.f_namelen, 255);
    assert!(ours.f_bfree.abs_diff(below.f_bfree) < below.f_blocks / 10 && ours.f_bavail > 0);
}

/// fuse-overlayfs issue 59: chattr(1) and lsattr(1) did not work.
#[test]
fn inode_flags() {
    const NODUMP: i64 = 0x40;
    let mut bed = Bed::new(|l| {
        put(l, "f", "x");
        put(l, "d/f", "x");
    });
    for name in ["f", "d"] {
        let file = File::open(bed.p(name)).unwrap();
        let flags = os::inode_flags(&file).unwrap();
        os::set_inode_flags(&file, flags | NODUMP).unwrap();
        assert_eq!(os::inode_flags(&file).unwrap() & NODUMP, NODUMP, "{name}");
    }
    let file = File::open(bed.p("f")).unwrap();
    assert_eq!(errno(os::set_inode_flags(&file, 0x10)), libc::EOPNOTSUPP);
    drop(file);
    bed.remount();
    for name in ["f", "d"] {
        assert_eq!(os::inode_flags(&File::open(bed.p(name)).unwrap()).unwrap() & NODUMP, NODUMP, "{name}");
    }
}

#[test]
fn attributes() {
    let mut bed = Bed::new(|l| {
        put(l, "f", "x");
        os::set_xattr(&l.join("f"), "user.keep", b"1").unwrap();
        os::set_xattr(&l.join("f"), "user.drop", b"2").unwrap();
        os::set_xattr(&l.join("f"), "trusted.own", b"3").unwrap();
    });
    let f = bed.p("f");
    assert_eq!(os::xattr_names(&f), ["trusted.own", "user.drop", "user.keep"]);
    os::set_xattr(&f, "user.new", &[9; 2000]).unwrap();
    rustix::fs::lremovexattr(&f, "user.drop").unwrap();
    assert_eq!(rustix::fs::lremovexattr(&f, "user.drop"), Err(rustix::io::Errno::NODATA));
    assert_eq!(errno(os::get_xattr(&f, "user.none")), libc::ENODATA);
    let flags = rustix::fs::XattrFlags::CREATE;
    assert_eq!(rustix::fs::lsetxattr(&f, "user.new", b"", flags), Err(rustix::io::Errno::EXIST));
    let flags = rustix::fs::XattrFlags::REPLACE;
    assert_eq!(rustix::fs::lsetxattr(&f, "user.other", b"", flags), Err(rustix::io::Errno::NODATA));
    let mut small = [0; 10];
    assert_eq!(rustix::fs::lgetxattr(&f, "user.new", &mut small[..]), Err(rustix::io::Errno::RANGE));
    bed.remount();
    assert_eq!(os::xattr_names(&f), ["trusted.own", "user.keep", "user.new"]);
    assert_eq!(os::get_xattr(&f, "user.new").unwrap(), [9; 2000]);
    // On disk there is the origin besides.
    assert!(os::xattr_names(&bed.u("f")).contains(&"trusted.overlay.origin".to_owned()));
}

/// What an overlay inside the mount writes is its own; what ours writes cannot be seen or forged.
#[test]
fn attributes_of_the_union_itself() {
    let mut bed = Bed::new(|l| {
        put(l, "d/f", "x");
        put(l, "e/f", "x");
    });
    fs::remove_dir_all(bed.p("d")).unwrap();
    fs::create_dir(bed.p("d")).unwrap();
    assert_eq!(os::get_xattr(&bed.u("d"), "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(os::xattr_names(&bed.p("d")), [""; 0]);
    assert_eq!(errno(os::get_xattr(&bed.p("d"), "trusted.overlay.opaque")), libc::ENODATA);
    os::set_xattr(&bed.p("e"), "trusted.overlay.opaque", b"y").unwrap();
    let check = |bed: &Bed| {
        assert_eq!(os::get_xattr(&bed.p("e"), "trusted.overlay.opaque").unwrap(), b"y");
        assert_eq!(os::xattr_names(&bed.p("e")), ["trusted.overlay.opaque"]);
        assert_eq!(entries(&bed.p("e")), ["f"]);
    };
    check(&bed);
    bed.remount();
    check(&bed);
    rustix::fs::lremovexattr(bed.p("e"), "trusted.overlay.opaque").unwrap();
    assert_eq!(os::xattr_names(&bed.p("e")), [""; 0]);
    assert_eq!(os::xattr_names(&bed.m), [""; 0], "the daemon's process id is not listed");
}
