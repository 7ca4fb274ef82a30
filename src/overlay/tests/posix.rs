//! What programs expect of any file system: deleted files that are open, times, attributes, ownership, permissions.

use super::harness::{Fs, OTHER, Stack, errno, me, settled};
use super::tree::{c_string, marker, root};
use crate::overlay::{Caller, Change, Ino, New, RenameMode};
use crate::sys::{SetTime, Time, seam};

fn files() -> Stack {
    let s = Stack::new(1);
    s.lower(1).file("lower", "content").file("d/lower", "content").file("copied", "content").file("hard", "content");
    s.lower(1).link("hard", "hard2").dir("dir");
    s.upper().file("upper", "content").file("d/upper", "content");
    s
}

/// An object without a name works in every way.
fn works_deleted(fs: &Fs, ino: Ino, what: &str) {
    let overlay = &fs.overlay;
    assert_eq!(overlay.get_attr(ino).unwrap().nlink, 0, "{what}");
    assert_eq!(fs.read_ino(ino).unwrap(), "content", "{what}");
    overlay.write(ino, 7, b" and more").unwrap();
    assert_eq!(fs.read_ino(ino).unwrap(), "content and more", "{what}");
    let change = Change { mode: Some(0o600), size: Some(3), ..Change::default() };
    assert_eq!(overlay.set_attr(ino, &change, me()).unwrap().size, 3, "{what}");
    overlay.set_xattr(ino, c"user.x", b"y", 0, me()).unwrap();
    assert_eq!(overlay.get_xattr(ino, c"user.x").unwrap(), b"y", "{what}");
    overlay.remove_xattr(ino, c"user.x").unwrap();
    overlay.fsync(ino, false).unwrap();
    let attr = overlay.get_attr(ino).unwrap();
    assert_eq!((attr.nlink, attr.mode & 0o777, attr.st_ino), (0, 0o600, ino), "{what}");
    assert_eq!(fs.read_ino(ino).unwrap(), "con", "{what}");
}

#[test]
fn a_deleted_file_works_until_it_is_forgotten() {
    // With the smallest descriptor limit most deleted files are kept by a link in work/ instead of a descriptor.
    for fd_limit in [0, 60] {
        for path in ["lower", "d/lower", "upper", "d/upper", "copied"] {
            for replaced in [false, true] {
                let what = format!("{path}, replaced: {replaced}, limit {fd_limit}");
                let mut s = files();
                s.options.fd_limit = fd_limit;
                let fs = s.mount();
                fs.write("copied", 0, "c").unwrap();
                for n in 0..3 {
                    let name = format!("filler-{n}");
                    fs.create(&name).unwrap();
                    fs.unlink(&name).unwrap();
                }
                let ino = fs.ino(path).unwrap();
                if replaced {
                    fs.create("new").unwrap();
                    fs.rename("new", path).unwrap();
                } else {
                    fs.unlink(path).unwrap();
                }
                works_deleted(&fs, ino, &what);
                assert_eq!(fs.exists(path), replaced, "{what}");
                fs.overlay.forget(ino, 1000);
                assert_eq!(errno(fs.overlay.get_attr(ino)), libc::ESTALE, "{what}");
                let view = settled(&s, fs);
                assert_eq!(view.contains_key(path), replaced, "{what}");
                drop(s.mount());
            }
        }
    }
}

#[test]
fn a_deleted_hard_link_of_a_lower_file_works_through_the_object() {
    let s = files();
    let fs = s.mount();
    let ino = fs.ino("hard").unwrap();
    fs.unlink("hard").unwrap();
    assert_eq!(fs.overlay.get_attr(ino).unwrap().nlink, 1);
    fs.overlay.write(ino, 0, b"C").unwrap();
    assert_eq!(fs.read("hard2").unwrap(), "Content");
    fs.unlink("hard2").unwrap();
    fs.overlay.write(ino, 0, b"c").unwrap();
    works_deleted(&fs, ino, "both names gone");
    settled(&s, fs);
}

#[test]
fn a_reader_that_came_before_the_copy_up_sees_what_is_written() {
    let s = files();
    let fs = s.mount();
    let ino = fs.ino("lower").unwrap();
    let mut buffer = [0; 7];
    fs.overlay.read(ino, 0, &mut buffer).unwrap();
    fs.write("lower", 0, "CONTENT").unwrap();
    fs.overlay.read(ino, 0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"CONTENT");
    fs.truncate("lower", 2).unwrap();
    assert_eq!(fs.overlay.read(ino, 0, &mut buffer).unwrap(), 2);
}

#[test]
fn times_before_1970_are_kept_and_can_be_set() {
    let s = files();
    s.lower(1).mtime("lower", -315_619_200, 250_000_000).mtime("dir", -1, 999_999_999);
    let fs = s.mount();
    let time = |path: &str| fs.attr(path).unwrap().mtime;
    assert_eq!(time("lower"), Time { sec: -315_619_200, nsec: 250_000_000 });
    fs.chmod("lower", 0o600).unwrap();
    fs.chmod("dir", 0o700).unwrap();
    assert_eq!(time("lower"), Time { sec: -315_619_200, nsec: 250_000_000 });
    assert_eq!(time("dir"), Time { sec: -1, nsec: 999_999_999 });
    let old = Time { sec: -86_400, nsec: 1 };
    let change = Change { atime: Some(SetTime::At(old)), mtime: Some(SetTime::At(old)), ..Change::default() };
    let attr = fs.change("upper", &change).unwrap();
    assert_eq!((attr.atime, attr.mtime), (old, old));
    assert_eq!(settled(&s, fs)["upper"].mtime, old);
}

#[test]
fn copy_up_keeps_everything_and_does_not_touch_the_parents() {
    let s = Stack::new(2);
    let lower = s.lower(2);
    lower.file("a/b/f", "data").chmod("a/b/f", 0o4751).xattr("a/b/f", "user.x", b"y").mtime("a/b/f", 1234, 5678);
    lower.chmod("a", 0o1711).xattr("a", "user.dir", b"z").mtime("a", 11, 1).mtime("a/b", 22, 2);
    lower.chown("a", 5, 6).chown("a/b", 7, 8).symlink("a/b/link", "t").chown("a/b/link", 9, 10);
    if root() {
        // Changing the owner cleared it.
        lower.chown("a/b/f", 1, 2).chmod("a/b/f", 0o4751);
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        lower.xattr("a/b/f", "security.capability", &capability);
    }
    // Root needs no write permission.
    lower.chmod("a/b", if root() { 0o2570 } else { 0o2770 }).mtime("a/b", 22, 2).mtime("a", 11, 1);
    let before = s.view();
    let fs = s.mount();
    fs.set_xattr("a/b/f", "user.new", "1").unwrap();
    let now = Change { atime: Some(SetTime::Now), ..Change::default() };
    if root() {
        fs.change("a/b/link", &now).unwrap();
    }
    let mut after = settled(&s, fs);
    assert_eq!(after.get_mut("a/b/f").unwrap().xattrs.remove("user.new").unwrap(), b"1");
    super::harness::assert_same(&before, &after, "before and after copy-up");
}

#[test]
fn copy_up_keeps_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let s = Stack::new(1);
    let size = 64 << 20;
    s.lower(1).file("sparse", "start");
    let file = std::fs::OpenOptions::new().write(true).open(s.lower(1).path("sparse")).unwrap();
    file.write_at(b"middle", 32 << 20).unwrap();
    file.set_len(size).unwrap();
    let fs = s.mount();
    fs.write("sparse", 0, "S").unwrap();
    let meta = std::fs::metadata(s.upper().path("sparse")).unwrap();
    assert_eq!(meta.size(), size);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    let mut buffer = [0; 6];
    let ino = fs.ino("sparse").unwrap();
    fs.overlay.read(ino, 32 << 20, &mut buffer).unwrap();
    assert_eq!(&buffer, b"middle");
    assert_eq!(fs.overlay.seek(ino, 1 << 20, libc::SEEK_DATA).unwrap(), 32 << 20);
}

#[test]
fn the_marks_of_the_union_are_hidden_and_cannot_be_set() {
    let s = Stack::new(2);
    s.lower(2).file("d/f", "").file("e/f", "");
    s.lower(1).dir("d").xattr("d", "user.overlay.opaque", b"y").xattr("d", "user.fuseoverlayfs.origin", b"d");
    let fs = s.mount();
    fs.chmod("d", 0o700).unwrap();
    assert!(fs.view().values().all(|e| e.xattrs.is_empty()));
    for name in ["user.overlay.opaque", "user.overlay.origin", "user.fuseoverlayfs.origin"] {
        assert_eq!(errno(fs.get_xattr("d", name)), libc::ENODATA, "{name}");
    }
    assert!(s.upper().get_xattr("d", "user.fuseoverlayfs.origin").is_none(), "not copied up either");
    // These are markers on disk with no way to escape them.
    let refused = errno(fs.set_xattr("e", "user.fuseoverlayfs.opaque", "y"));
    assert!([libc::EPERM, libc::EOPNOTSUPP].contains(&refused), "{refused}");
    assert_eq!(errno(fs.remove_xattr("d", "user.fuseoverlayfs.origin")), libc::ENODATA);
    assert_eq!(settled(&s, fs).keys().filter(|k| k.starts_with("e/")).count(), 1);
}

#[test]
fn marks_of_an_overlay_inside_the_mount_are_kept_for_it() {
    let s = Stack::new(2);
    s.lower(1).dir("d");
    s.lower(2).file("d/f", "");
    let fs = s.mount();
    let mut names = vec!["user.overlay.opaque"];
    if root() {
        names.push("trusted.overlay.opaque");
        names.push("trusted.overlay.overlay.opaque");
    }
    for name in &names {
        fs.set_xattr("d", name, "y").unwrap();
        assert_eq!(fs.get_xattr("d", name).unwrap(), b"y", "{name}");
    }
    assert_eq!(fs.list("d"), ["f"], "it means nothing to this one");
    let view = settled(&s, fs);
    let mut shown: Vec<&str> = view["d"].xattrs.keys().map(String::as_str).collect();
    shown.sort_unstable();
    names.sort_unstable();
    assert_eq!(shown, names);
    assert!(s.upper().get_xattr("d", "user.overlay.overlay.opaque").is_some());
    let fs = s.mount();
    for name in &names {
        fs.remove_xattr("d", name).unwrap();
        assert_eq!(errno(fs.remove_xattr("d", name)), libc::ENODATA);
    }
}

#[test]
fn new_objects_belong_to_the_caller_and_have_the_mode_asked_for_less_the_umask() {
    let s = files();
    let fs = s.mount();
    fs.unlink("lower").unwrap();
    let callers: &[Caller] = if root() { &[Caller::new(0, 0, 0), OTHER] } else { &[me()] };
    for &caller in callers {
        for (name, new, kind) in [
            ("file", New::File, libc::S_IFREG),
            ("dir", New::Directory, libc::S_IFDIR),
            ("pipe", New::Node(libc::S_IFIFO, 0, 0), libc::S_IFIFO),
            ("lower", New::File, libc::S_IFREG),
            ("lower", New::Directory, libc::S_IFDIR),
        ] {
            let path = if name == "lower" { "lower".into() } else { format!("{name}-{}", caller.uid) };
            let attr = fs.make(&path, new, 0o1777, 0o027, caller).unwrap();
            assert_eq!((attr.mode, attr.uid, attr.gid), (kind | 0o1750, caller.uid, caller.gid), "{path}");
            if name == "lower" {
                if kind == libc::S_IFDIR { fs.rmdir(name) } else { fs.unlink(name) }.unwrap();
            }
        }
    }
    settled(&s, fs);
}

#[test]
fn a_set_group_id_directory_passes_its_group_on() {
    let s = files();
    let group = if root() { 4711 } else { me().gid };
    s.lower(1).chown("dir", 3, 4711).chmod("dir", 0o2777);
    let fs = s.mount();
    let caller = if root() { OTHER } else { me() };
    for caller in [me(), caller] {
        let file = fs.make("dir/file", New::File, 0o644, 0, caller).unwrap();
        let dir = fs.make("dir/dir", New::Directory, 0o755, 0, caller).unwrap();
        assert_eq!((file.gid, file.mode & 0o7777), (group, 0o644));
        assert_eq!((dir.gid, dir.mode & 0o7777), (group, 0o2755));
        fs.unlink("dir/file").unwrap();
        fs.rmdir("dir/dir").unwrap();
    }
    settled(&s, fs);
}

/// `u::rwx,u:1000:rwx,g::r-x,m::rwx,o::---` in the form of the attribute.
fn acl() -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1u16, 7u16, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    acl
}

#[test]
fn default_acls_are_inherited_and_make_the_umask_void() {
    let default = "system.posix_acl_default";
    let access = "system.posix_acl_access";
    for in_lower in [true, false] {
        let s = Stack::new(1);
        let tree = if in_lower { s.lower(1) } else { s.upper() };
        tree.dir("d").xattr("d", default, &acl());
        s.lower(1).file("d/gone", "");
        let fs = s.mount();
        fs.unlink("d/gone").unwrap();
        let callers: &[Caller] = if root() { &[Caller::new(0, 0, 0), OTHER] } else { &[me()] };
        for &caller in callers {
            for name in ["new", "gone"] {
                let path = format!("d/{name}");
                let attr = fs.make(&path, New::File, 0o664, 0o077, caller).unwrap();
                assert_eq!(attr.mode & 0o777, 0o660, "{path} by {}", caller.uid);
                assert!(fs.get_xattr(&path, access).is_ok(), "{path} by {}", caller.uid);
                assert_eq!(errno(fs.get_xattr(&path, default)), libc::ENODATA, "a file passes nothing on");
                fs.unlink(&path).unwrap();
                fs.make(&path, New::Directory, 0o775, 0o077, caller).unwrap();
                assert_eq!(fs.get_xattr(&path, default).unwrap(), acl());
                let nested = format!("{path}/nested");
                assert_eq!(fs.make(&nested, New::File, 0o600, 0o077, caller).unwrap().mode & 0o777, 0o600);
                assert!(fs.get_xattr(&nested, access).is_ok());
                fs.unlink(&nested).unwrap();
                fs.rmdir(&path).unwrap();
            }
        }
        fs.remove_xattr("d", default).unwrap();
        assert_eq!(fs.make("d/plain", New::File, 0o666, 0o022, me()).unwrap().mode & 0o777, 0o644);
        settled(&s, fs);
    }
}

#[test]
fn set_id_bits_go_when_an_ordinary_user_writes() {
    let s = files();
    s.lower(1).chmod("lower", 0o6755).chmod("copied", 0o2644);
    let fs = s.mount();
    let mode = |path: &str| fs.attr(path).unwrap().mode & 0o7777;
    let ino = fs.ino("lower").unwrap();
    assert!(fs.overlay.drop_set_id(ino, OTHER).unwrap());
    assert_eq!(mode("lower"), 0o755);
    fs.chmod("lower", 0o6755).unwrap();
    let change = Change { size: Some(1), ..Change::default() };
    fs.overlay.set_attr(ino, &change, Caller::new(1000, 1000, 0)).unwrap();
    assert_eq!(mode("lower"), 0o755);
    // Without execute permission set-group-id stays for members of the group.
    let (copied, group) = (fs.ino("copied").unwrap(), fs.attr("copied").unwrap().gid);
    fs.overlay.set_attr(copied, &change, Caller::new(1000, group, 0)).unwrap();
    assert_eq!(mode("copied"), 0o2644);
    fs.overlay.set_attr(copied, &change, OTHER).unwrap();
    assert_eq!(mode("copied"), 0o644);
    settled(&s, fs);
}

#[test]
fn truncation_copies_no_more_than_remains() {
    let s = Stack::new(1);
    s.lower(1).file("f", "0123456789");
    for (size, expected) in [(4, "0123"), (0, ""), (12, "\0\0\0\0\0\0\0\0\0\0\0\0")] {
        let fs = s.mount();
        let attr = fs.truncate("f", size).unwrap();
        assert_eq!(attr.size, size);
        assert!(attr.mtime.sec > super::tree::FRESH, "the content changed");
        assert_eq!(settled(&s, fs)["f"].content, expected.as_bytes());
    }
}

#[test]
fn ranges_can_be_copied_allocated_and_searched() {
    let s = files();
    let fs = s.mount();
    let (from, to) = (fs.ino("lower").unwrap(), fs.ino("copied").unwrap());
    assert_eq!(fs.overlay.copy_range((from, 3), (to, 7), 100).unwrap(), 4);
    assert_eq!(fs.read("copied").unwrap(), "contenttent");
    assert!(!s.upper().has("lower"), "reading copies nothing up");
    fs.overlay.fallocate(to, 0, 0, 100).unwrap();
    assert_eq!(fs.attr("copied").unwrap().size, 100);
    assert_eq!(fs.overlay.seek(from, 0, libc::SEEK_HOLE).unwrap(), 7);
    settled(&s, fs);
}

#[test]
fn files_without_permission_for_their_owner_can_be_changed_and_removed() {
    let s = Stack::new(1);
    s.lower(1).file("f", "x").chmod("f", 0o400).file("d/f", "x").file("g", "");
    s.upper().file("u", "x").chmod("u", 0);
    s.lower(1).file("h1", "x").chmod("h1", 0o444).link("h1", "h2").link("h1", "h3");
    let fs = s.mount();
    fs.unlink("h1").unwrap();
    fs.link("h2", "h4").unwrap();
    fs.rename("h3", "h5").unwrap();
    assert_eq!(fs.attr("h5").unwrap().nlink, 3);
    fs.chmod("f", 0).unwrap();
    fs.rename("f", "f2").unwrap();
    fs.chmod("f2", 0o600).unwrap();
    assert_eq!(fs.read("f2").unwrap(), "x");
    fs.chmod("u", 0o600).unwrap();
    fs.unlink("u").unwrap();
    fs.set_xattr("g", "user.x", "y").unwrap();
    settled(&s, fs);
}

#[test]
fn missing_attributes_and_files_are_reported_as_such() {
    let s = files();
    let fs = s.mount();
    assert_eq!(errno(fs.get_xattr("lower", "user.none")), libc::ENODATA);
    assert_eq!(errno(fs.remove_xattr("lower", "user.none")), libc::ENODATA);
    assert!(!s.upper().has("lower"), "nothing was copied up for it");
    let ino = fs.ino("lower").unwrap();
    let create = 1; // XATTR_CREATE
    fs.overlay.set_xattr(ino, &c_string("user.a"), b"1", create, me()).unwrap();
    assert_eq!(errno(fs.overlay.set_xattr(ino, &c_string("user.a"), b"2", create, me())), libc::EEXIST);
    assert_eq!(errno(fs.attr("none")), libc::ENOENT);
    assert_eq!(errno(fs.overlay.get_attr(0x1234_5678)), libc::ESTALE);
    assert!(s.upper().get_xattr("", &marker("impure")).is_some());
}

/// What rename(2), setxattr(2) and unlink(2) ask of the daemon of an ordinary user is more than the caller needs.
#[test]
fn directories_that_their_owner_may_not_write_are_copied_up_and_removed() {
    let mut s = Stack::new(2);
    s.lower(1).file("ro/f", "old").file("ro/sub/g", "deep").dir("ro/empty").file("gone/x", "x");
    s.lower(2).file("ro/below", "");
    for path in ["ro/sub", "ro/empty", "ro", "gone"] {
        s.lower(1).chmod(path, 0o555);
    }
    let fs = s.mount();
    fs.write("ro/f", 0, "new").unwrap();
    fs.write("ro/sub/g", 0, "DEEP").unwrap();
    fs.chmod("ro/empty", 0o500).unwrap();
    fs.rename("ro", "moved").unwrap();
    fs.chmod("gone", 0o755).unwrap();
    fs.unlink("gone/x").unwrap();
    fs.chmod("gone", 0o555).unwrap();
    fs.rmdir("gone").unwrap();
    fs.make("gone", New::Directory, 0o555, 0, me()).unwrap();
    let modes = |fs: &super::harness::Fs| {
        ["moved", "moved/sub", "moved/empty", "gone"].map(|p| fs.attr(p).unwrap().mode & 0o7777)
    };
    assert_eq!(modes(&fs), [0o555, 0o555, 0o500, 0o555]);
    assert_eq!((fs.read("moved/f").unwrap().as_str(), fs.read("moved/sub/g").unwrap().as_str()), ("new", "DEEP"));
    let view = settled(&s, fs);
    assert!(view.contains_key("moved/below"));
    // So that the temporary directory can be removed.
    s.commit();
    for (layer, paths) in [(1, &["moved", "moved/sub", "gone"][..]), (2, &["ro", "ro/sub", "gone"])] {
        for path in paths {
            s.lower(layer).chmod(path, 0o755);
        }
    }
}

/// Which of the calls that sync were made, in order.
fn syncs(act: impl FnOnce()) -> Vec<&'static str> {
    seam::plan(seam::Plan::Count);
    act();
    seam::take().trace.into_iter().filter(|c| c.contains("sync")).collect()
}

#[test]
fn fsync_writes_each_changed_directory_on_the_way_once() {
    let s = files();
    let fs = s.mount();
    fs.rename("upper", "d/new").unwrap();
    let ino = fs.ino("d/new").unwrap();
    let sync = || fs.overlay.fsync(ino, false).unwrap();
    assert_eq!(syncs(sync), ["fsync", "fsync", "fsync"], "the file, d, the root");
    assert_eq!(syncs(sync), ["fsync"], "nothing changed since but perhaps the file");
    // A directory whose sync failed is not taken for synced.
    fs.create("d/newer").unwrap();
    seam::plan(seam::Plan::FailNth { n: 2, errno: crate::sys::Errno::IO });
    assert_eq!(errno(fs.overlay.fsync(ino, false)), libc::EIO);
    seam::take();
    assert_eq!(syncs(sync), ["fsync", "fsync"], "the file, d");
}

#[test]
fn a_change_in_a_forgotten_directory_is_written_by_the_next_fsync() {
    let s = files();
    let fs = s.mount();
    let other = fs.ino("upper").unwrap();
    let file = fs.create("d/new").unwrap().ino;
    let dir = fs.ino("d").unwrap();
    fs.overlay.forget(file, 1000);
    fs.overlay.forget(dir, 1000);
    assert_eq!(errno(fs.overlay.get_attr(dir)), libc::ESTALE, "it is forgotten");
    // It fails once; the mark must outlast that.
    seam::plan(seam::Plan::FailNth { n: 2, errno: crate::sys::Errno::IO });
    assert_eq!(errno(fs.overlay.fsync(other, false)), libc::EIO);
    assert_eq!(seam::take().trace, ["fsync", "syncfs"]);
    let file = fs.ino("d/new").unwrap();
    assert_eq!(syncs(|| fs.overlay.fsync(file, false).unwrap()), ["fsync", "syncfs"]);
    assert!(!syncs(|| fs.overlay.fsync(file, false).unwrap()).contains(&"syncfs"), "once is enough");
}

#[test]
fn fsync_waits_for_the_sync_of_a_directory_that_another_has_begun() {
    let s = files();
    let fs = s.mount();
    fs.rename("upper", "d/new").unwrap();
    let ino = fs.ino("d/new").unwrap();
    let dir = fs.overlay.directory(fs.ino("d").unwrap()).unwrap();
    let dir = dir.dir.as_ref().unwrap();
    let (ended, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        // As another thread has it that is in the middle of it.
        let syncing = dir.syncing.lock();
        dir.unsynced.store(false, std::sync::atomic::Ordering::Release);
        let overlay = &fs.overlay;
        scope.spawn(move || ended.send(overlay.fsync(ino, false)).unwrap());
        let early = wait.recv_timeout(std::time::Duration::from_millis(200));
        assert!(early.is_err(), "told that it is safe before it is");
        drop(syncing);
        wait.recv().unwrap().unwrap();
    });
}

#[test]
fn no_rename_into_a_directory_is_missed_by_the_fsync_that_follows() {
    let s = files();
    let fs = s.mount();
    let dir = fs.overlay.directory(fs.ino("d").unwrap()).unwrap();
    let (from, to) = (crate::overlay::ROOT, dir.ino);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let overlay = &fs.overlay;
            scope.spawn(move || {
                for n in 0..25 {
                    let name = format!("{thread}-{n}");
                    let name = std::ffi::OsStr::new(&name);
                    let ino = overlay.create(from, name, New::File, 0o644, 0, me()).unwrap().ino;
                    overlay.rename(from, name, to, name, RenameMode::NoReplace).unwrap();
                    overlay.fsync(ino, false).unwrap();
                }
            });
        }
    });
    let unsynced = dir.dir.as_ref().unwrap().unsynced.load(std::sync::atomic::Ordering::Acquire);
    assert!(!unsynced, "the last fsync came after the last rename");
    assert_eq!(fs.list("d").len(), 102);
    settled(&s, fs);
}

/// Runs `act` in a thread that may open no more than the permissions say: root cannot override them there.
fn without_override(act: impl FnOnce() + Send) {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
            set_capabilities(None, sets).unwrap();
            act();
        });
        acting.join().unwrap();
    });
}

#[test]
fn a_file_that_was_made_read_only_can_be_written_by_those_who_have_it_open() {
    for mode in [0o444, 0o400, 0] {
        for path in ["lower", "upper", "d/upper", "hard"] {
            if path == "hard" && mode == 0 && !root() {
                continue; // to read how many names it has changes its ctime there
            }
            let s = files();
            let fs = s.mount();
            let ino = fs.ino(path).unwrap();
            fs.chmod(path, mode).unwrap();
            let upper = s.upper();
            without_override(|| {
                assert!(std::fs::File::options().write(true).open(upper.path(path)).is_err(), "really read-only");
                fs.overlay.write(ino, 7, b" and more").unwrap();
                assert_eq!(fs.read_ino(ino).unwrap(), "content and more", "{path}, {mode:o}");
                let change = Change { size: Some(3), ..Change::default() };
                fs.overlay.set_attr(ino, &change, me()).unwrap();
                assert_eq!(fs.read_ino(ino).unwrap(), "con", "{path}, {mode:o}");
                fs.overlay.fsync(ino, false).unwrap();
                assert_eq!(fs.overlay.get_attr(ino).unwrap().mode & 0o7777, mode, "{path}");
            });
            fs.unlink(path).unwrap();
            without_override(|| {
                fs.overlay.write(ino, 3, b"crete").unwrap();
                assert_eq!(fs.read_ino(ino).unwrap(), "concrete", "{path}, {mode:o}, deleted");
            });
            settled(&s, fs);
        }
    }
}

#[test]
fn pages_are_there_until_an_invalidation_has_succeeded() {
    let s = files();
    let fs = s.mount();
    let ino = fs.ino("lower").unwrap();
    let there = || fs.overlay.may_have_pages(ino);
    let read = || fs.read_ino(ino).map(drop).unwrap();
    let invalidate = |during: &dyn Fn(), done: std::result::Result<(), ()>| {
        fs.overlay.without_pages(ino, || {
            let before = there();
            during();
            assert_eq!(there(), before, "they go at its end");
            done
        })
    };
    let write = || fs.overlay.write(ino, 0, b"w").unwrap();
    assert!(!there());
    read();
    assert!(there() && there(), "asking changes nothing");
    invalidate(&|| (), Err(())).unwrap_err();
    assert!(there(), "it failed");
    invalidate(&read, Ok(())).unwrap();
    assert!(there(), "read since it began");
    fs.overlay.prepare_set_attr(ino).unwrap();
    assert!(s.upper().path("lower").exists());
    invalidate(&|| (), Ok(())).unwrap();
    assert!(!there());
    invalidate(&|| (), Ok(())).unwrap();
    assert!(!there());
    fs.overlay.note_pages(ino);
    assert!(there());
    invalidate(&write, Ok(())).unwrap();
    assert!(there(), "written since it began");
    invalidate(&|| (), Ok(())).unwrap();
    assert!(!there());
    write();
    assert!(there(), "written since");
    let new = fs.create("new").unwrap();
    fs.overlay.write(new.ino, 0, b"w").unwrap();
    assert!(!fs.overlay.may_have_pages(new.ino), "making a file costs no invalidation");
}
