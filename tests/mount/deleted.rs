//! Files without a name that are still open.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use super::files::noise;
use super::harness::{Bed, Setup, entries, exists, is_whiteout, put, read};
use super::os::{self, Map, open_rw};

/// Everything that can be done with a file that has no name any more.
fn use_without_name(file: &mut File, path: &std::path::Path, content: &[u8]) {
    let fd_path = |f: &File| std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(f)));
    assert!(!exists(path) || path.symlink_metadata().unwrap().ino() != file.metadata().unwrap().ino());
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let mut data = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut data).unwrap();
    assert_eq!(data, content);
    file.write_all_at(b"still here", 0).unwrap();
    file.sync_all().unwrap();
    file.set_len(5000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 5000);
    file.set_permissions(fs::Permissions::from_mode(0o604)).unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o604);
    std::os::unix::fs::fchown(&*file, Some(3), Some(4)).unwrap();
    assert_eq!((file.metadata().unwrap().uid(), file.metadata().unwrap().gid()), (3, 4));
    rustix::fs::fsetxattr(&*file, "user.after", b"death", rustix::fs::XattrFlags::empty()).unwrap();
    let mut value = [0; 5];
    assert_eq!(rustix::fs::fgetxattr(&*file, "user.after", &mut value[..]), Ok(5));
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let mut map = Map::new(file, 5000, true, true).unwrap();
    assert_eq!(map.read(0, 10), b"still here");
    map.write(4000, b"map");
    let mut buffer = [0; 3];
    file.read_exact_at(&mut buffer, 4000).unwrap();
    assert_eq!(&buffer, b"map");
    os::fallocate(file, 0, 0, 10_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10_000);
    // Opened once more, without a name.
    assert_eq!(fs::read(fd_path(file)).unwrap().len(), 10_000);
}

#[test]
fn deleted_files_stay_usable() {
    let bed = Bed::new(|l| {
        put(l, "lower", "lower content");
        put(l, "over", "overwritten");
        put(l, "linked", "linked content");
        fs::hard_link(l.join("linked"), l.join("linked2")).unwrap();
    });
    fs::write(bed.p("upper"), "upper content").unwrap();
    fs::write(bed.p("source"), "source").unwrap();
    let mut lower = open_rw(&bed.p("lower"));
    fs::remove_file(bed.p("lower")).unwrap();
    use_without_name(&mut lower, &bed.p("lower"), b"lower content");
    let mut upper = open_rw(&bed.p("upper"));
    fs::remove_file(bed.p("upper")).unwrap();
    use_without_name(&mut upper, &bed.p("upper"), b"upper content");
    let mut over = open_rw(&bed.p("over"));
    fs::rename(bed.p("source"), bed.p("over")).unwrap();
    use_without_name(&mut over, &bed.p("over"), b"overwritten");
    assert_eq!(read(&bed.p("over")), "source");
    let mut linked = open_rw(&bed.p("linked"));
    fs::remove_file(bed.p("linked")).unwrap();
    assert_eq!(linked.metadata().unwrap().nlink(), 1);
    fs::remove_file(bed.p("linked2")).unwrap();
    use_without_name(&mut linked, &bed.p("linked"), b"linked content");
}

/// Only read after the deletion: nothing needs to be copied, and the lower file is not written.
#[test]
fn deleted_lower_files_stay_readable() {
    let bed = Bed::new(|l| put(l, "f", noise(300_000, 13)));
    let file = File::open(bed.p("f")).unwrap();
    fs::remove_file(bed.p("f")).unwrap();
    bed.drop_caches();
    let mut data = vec![0; 300_000];
    file.read_exact_at(&mut data, 0).unwrap();
    assert!(data == noise(300_000, 13));
    assert!(is_whiteout(&bed.u("f")));
}

/// More deleted files than the daemon has descriptors for.
#[test]
fn many_deleted_files_stay_usable() {
    let setup = Setup { descriptors: Some(128), ..Setup::default() };
    let bed = Bed::with(setup, |l| (0..150).for_each(|n| put(&l[0], &format!("l{n}"), format!("lower {n}"))));
    let mut files = Vec::new();
    for n in 0..150 {
        fs::write(bed.p(&format!("u{n}")), format!("upper {n}")).unwrap();
        for kind in ["l", "u"] {
            files.push((open_rw(&bed.p(&format!("{kind}{n}"))), n, kind));
            fs::remove_file(bed.p(&format!("{kind}{n}"))).unwrap();
        }
    }
    assert_eq!(entries(&bed.m), [""; 0]);
    assert!(bed.descriptors() <= 128);
    for (file, n, kind) in &files {
        let mut buffer = [0; 5];
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, if *kind == "l" { b"lower" } else { b"upper" });
        file.write_all_at(format!("{n}").as_bytes(), 0).unwrap();
        file.set_len(3).unwrap();
        assert_eq!((file.metadata().unwrap().nlink(), file.metadata().unwrap().len()), (0, 3));
    }
}
