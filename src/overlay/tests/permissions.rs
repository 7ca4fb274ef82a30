//! Whose new objects are and who may do what: owners, groups, default access control lists, set-id bits, missing permissions.

use super::harness::{OTHER, Stack, errno, me, settled};
use super::posix::files;
use super::tree::root;
use crate::overlay::{Caller, Change, New};

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
