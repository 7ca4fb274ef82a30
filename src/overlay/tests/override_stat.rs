//! Owners, modes and devices in `user.containers.override_stat`: what is shown, what is written, and what never is.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use super::crash::{Case, common, enumerate_all};
use super::harness::{Fs, OTHER, Stack, errno, me, settled};
use super::tree::Tree;
use crate::overlay::{Caller, Change, New, ROOT, RenameMode, Result};

pub const NAME: &str = "user.containers.override_stat";
pub const ACCESS: &str = "system.posix_acl_access";
pub const DEFAULT: &str = "system.posix_acl_default";
pub const CAPABILITY: &str = "security.capability";
pub const ROOT_USER: Caller = Caller::new(0, 0, 0);

/// The stored name of an attribute that is kept aside.
pub fn aside(name: &str) -> String {
    format!("user.containers.override_{name}")
}

pub fn stack(lowers: usize) -> Stack {
    let mut stack = Stack::new(lowers);
    stack.options.override_stat = true;
    stack
}

/// As `src/archive` writes it.
pub fn kept(tree: &Tree, path: &str, value: &str) {
    tree.xattr(path, NAME, value.as_bytes());
}

pub fn value(tree: &Tree, path: &str) -> String {
    String::from_utf8(tree.get_xattr(path, NAME).unwrap_or_default()).unwrap()
}

/// A layer with an object of every type.
pub fn fill(tree: &Tree) {
    for (path, value) in [
        ("suid", "0:12:4755:file"),
        ("three", "7:8:0640"),
        ("fifo", "1:2:0620:pipe"),
        ("socket", "1:2:0600:socket"),
        ("null", "0:0:0666:char-1-3"),
        ("zero", "0:0:0600:char-0-0"),
        ("disk", "0:6:0660:block-8-17"),
        ("d/secret", "4294967294:0:0000:file"),
    ] {
        tree.file(path, if value.ends_with("file") { "content" } else { "" }).chmod(path, 0o600);
        kept(tree, path, value);
    }
    tree.file("plain", "as on disk").chmod("plain", 0o604).symlink("link", "suid");
    tree.chmod("d", 0o700);
    kept(tree, "d", "5:6:1777:dir");
}

/// Mode with type, owner, group, device numbers.
pub type Shown = (u32, u32, u32, (u32, u32));

fn expected() -> BTreeMap<&'static str, Shown> {
    let me = me();
    BTreeMap::from([
        ("suid", (libc::S_IFREG | 0o4755, 0, 12, (0, 0))),
        ("three", (libc::S_IFREG | 0o640, 7, 8, (0, 0))),
        ("fifo", (libc::S_IFIFO | 0o620, 1, 2, (0, 0))),
        ("socket", (libc::S_IFSOCK | 0o600, 1, 2, (0, 0))),
        ("null", (libc::S_IFCHR | 0o666, 0, 0, (1, 3))),
        ("zero", (libc::S_IFCHR | 0o600, 0, 0, (0, 0))),
        ("disk", (libc::S_IFBLK | 0o660, 0, 6, (8, 17))),
        ("d/secret", (libc::S_IFREG, u32::MAX - 1, 0, (0, 0))),
        ("d", (libc::S_IFDIR | 0o1777, 5, 6, (0, 0))),
        ("plain", (libc::S_IFREG | 0o604, me.uid, me.gid, (0, 0))),
        ("link", (libc::S_IFLNK | 0o777, me.uid, me.gid, (0, 0))),
    ])
}

pub fn shown(fs: &Fs, path: &str) -> Shown {
    let attr = fs.attr(path).unwrap();
    (attr.mode, attr.uid, attr.gid, attr.rdev)
}

pub fn assert_shown(fs: &Fs, want: &BTreeMap<&str, Shown>) {
    for (path, want) in want {
        assert_eq!(shown(fs, path), *want, "{path}");
    }
}

/// On disk everything belongs to who mounts, and has no permissions for others and no set-id bits.
pub fn assert_private(tree: &Tree) {
    let mut pending = vec![tree.0.clone()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let (path, meta) = {
                let e = entry.unwrap();
                (e.path(), e.metadata().unwrap())
            };
            if meta.is_dir() {
                pending.push(path.clone());
            }
            if meta.is_symlink() || meta.mode() & libc::S_IFMT == libc::S_IFCHR {
                continue; // whiteouts
            }
            assert!(meta.is_file() || meta.is_dir(), "{}: not a file", path.display());
            assert_eq!((meta.uid(), meta.gid()), (me().uid, me().gid), "{}", path.display());
            let modes: &[u32] = if meta.is_dir() { &[0o700] } else { &[0o600, 0o700] };
            assert!(modes.contains(&(meta.mode() & 0o7777)), "{}: {:o}", path.display(), meta.mode());
        }
    }
}

#[test]
fn a_layer_in_this_form_shows_what_the_attribute_says() {
    let s = stack(2);
    fill(&s.lower(1));
    s.lower(2).file("d/below", "");
    kept(&s.lower(2), "d", "9:9:0700:dir");
    let fs = s.mount();
    assert_shown(&fs, &expected());
    assert_eq!(fs.read("d/secret").unwrap(), "content");
    drop(fs);
    // Listed before anything is known; walking compares listings, lookups and stat.
    let view = s.view();
    for (path, (mode, uid, ..)) in expected() {
        assert_eq!((view[path].mode, view[path].uid), (mode, uid), "{path}");
    }
    assert!(view.contains_key("d/below"));
}

#[test]
fn without_the_option_the_attribute_is_one_like_any_other() {
    let mut s = stack(1);
    fill(&s.lower(1));
    s.options.override_stat = false;
    let fs = s.mount();
    assert_eq!(shown(&fs, "null"), (libc::S_IFREG | 0o600, me().uid, me().gid, (0, 0)));
    assert_eq!(fs.get_xattr("null", NAME).unwrap(), b"0:0:0666:char-1-3");
    fs.set_xattr("plain", NAME, "0:0:0666:file").unwrap();
    assert_eq!(shown(&fs, "plain").0 & 0o7777, 0o604);
}

#[test]
fn an_attribute_that_makes_no_sense_is_an_error_of_that_object_only() {
    let s = stack(1);
    s.lower(1).file("good", "").file("bad", "").dir("dir").file("dir/f", "").file("long", "").file("a_dir", "");
    for (path, value) in [("bad", "0:0:rwx:file"), ("dir", "0:0:0755:file"), ("a_dir", "0:0:0755:dir")] {
        kept(&s.lower(1), path, value);
    }
    kept(&s.lower(1), "long", &format!("0:0:{:0100}", 755));
    let fs = s.mount();
    assert_eq!(fs.list(""), ["a_dir", "bad", "dir", "good", "long"]);
    for path in ["bad", "dir", "long", "a_dir"] {
        assert_eq!(errno(fs.attr(path)), libc::EINVAL, "{path}");
    }
    fs.attr("good").unwrap();
}

#[test]
fn new_objects_belong_to_the_caller_in_the_attribute_and_to_the_daemon_on_disk() {
    let s = stack(2);
    s.lower(1).dir("shared").file("over", "below");
    kept(&s.lower(1), "shared", "0:55:2777:dir");
    let fs = s.mount();
    fs.unlink("over").unwrap();
    let news = [
        ("file", New::File, "file"),
        ("dir", New::Directory, "dir"),
        ("pipe", New::Node(libc::S_IFIFO, 0, 0), "pipe"),
        ("socket", New::Node(libc::S_IFSOCK, 0, 0), "socket"),
        ("tty", New::Node(libc::S_IFCHR, 4, 64), "char-4-64"),
        ("disk", New::Node(libc::S_IFBLK, 259, 70_000), "block-259-70000"),
        ("nothing", New::Node(libc::S_IFCHR, 0, 0), "char-0-0"),
        ("over", New::Node(libc::S_IFCHR, 0, 0), "char-0-0"),
    ];
    for (name, new, kind) in news {
        let attr = fs.make(name, new, 0o6777, 0o022, OTHER).unwrap();
        assert_eq!((attr.uid, attr.gid, attr.mode & 0o7777), (OTHER.uid, OTHER.gid, 0o6755), "{name}");
        assert_eq!(value(&s.upper(), name), format!("4321:8765:6755:{kind}"), "{name}");
        let inner = format!("shared/{name}");
        fs.make(&inner, new, 0o640, 0o022, OTHER).unwrap();
        let want = format!("4321:55:{}:{kind}", if name == "dir" { "2640" } else { "0640" });
        assert_eq!(value(&s.upper(), &inner), want, "the group of a set-group-id directory");
    }
    assert_eq!(fs.attr("disk").unwrap().rdev, (259, 70_000));
    fs.make("l", New::Symlink("file".as_ref()), 0o777, 0, OTHER).unwrap();
    fs.write("file", 0, "data").unwrap();
    assert_private(&s.upper());
    let view = settled(&s, fs);
    assert_eq!((view["file"].mode, view["file"].uid), (libc::S_IFREG | 0o6755, OTHER.uid));
    assert_eq!(view["over"].mode, libc::S_IFCHR | 0o6755);
}

#[test]
fn owner_and_mode_change_in_the_attribute_only() {
    let s = stack(1);
    fill(&s.lower(1));
    let fs = s.mount();
    let set = |path: &str, change: Change, caller| fs.overlay.set_attr(fs.ino(path).unwrap(), &change, caller).unwrap();
    let owner = |uid, gid| Change { uid: Some(uid), gid: Some(gid), ..Change::default() };
    for path in expected().keys() {
        set(path, owner(100, 200), ROOT_USER);
        if *path != "link" {
            assert_eq!((shown(&fs, path).1, shown(&fs, path).2), (100, 200), "{path}");
            set(path, Change { mode: Some(0o7111), ..Change::default() }, ROOT_USER);
            assert_eq!(shown(&fs, path).0, expected()[path].0 & libc::S_IFMT | 0o7111, "{path}");
        }
    }
    assert_eq!(value(&s.upper(), "null"), "100:200:7111:char-1-3");
    assert_eq!(value(&s.upper(), "d"), "100:200:7111:dir");
    // chown(2) takes set-id bits off, of root too, and leaves directories alone.
    assert_eq!(set("suid", owner(1, 1), ROOT_USER).mode & 0o7777, 0o1111);
    assert_eq!(set("d", owner(1, 1), ROOT_USER).mode & 0o7777, 0o7111);
    let one = Change { gid: Some(3), ..Change::default() };
    assert_eq!((set("three", one, ROOT_USER).uid, fs.attr("three").unwrap().gid), (100, 3));
    assert_private(&s.upper());
    settled(&s, fs);
}

#[test]
fn an_ordinary_users_write_takes_set_id_bits_off() {
    let s = stack(1);
    fill(&s.lower(1));
    let fs = s.mount();
    let ino = fs.ino("suid").unwrap();
    assert!(fs.overlay.drop_set_id(ino, OTHER).unwrap());
    assert_eq!(shown(&fs, "suid").0, libc::S_IFREG | 0o755);
    fs.chmod("suid", 0o6755).unwrap();
    fs.overlay.set_attr(ino, &Change { size: Some(1), ..Change::default() }, OTHER).unwrap();
    assert_eq!((shown(&fs, "suid").0, value(&s.upper(), "suid")), (libc::S_IFREG | 0o755, "0:12:0755:file".into()));
}

#[test]
fn copy_up_keeps_the_attribute_and_what_is_kept_aside() {
    let mut s = stack(2);
    let low = s.lower(2);
    fill(&low);
    low.xattr("suid", &aside(CAPABILITY), b"cap").xattr("suid", "user.colour", b"red").link("suid", "other_name");
    low.link("null", "null2");
    let fs = s.mount();
    let before = fs.view();
    for path in expected().keys().filter(|p| **p != "d") {
        fs.change(path, &Change { mtime: Some(crate::sys::SetTime::Now), ..Change::default() }).unwrap();
    }
    assert_eq!(s.upper().get_xattr("other_name", &aside(CAPABILITY)).unwrap(), b"cap");
    assert_eq!(fs.get_xattr("suid", CAPABILITY).unwrap(), b"cap", "through the index");
    let after = settled(&s, fs);
    let same = |view: &super::walk::View| -> Vec<_> {
        view.iter().map(|(p, e)| (p.clone(), e.mode, e.uid, e.gid, e.rdev, e.nlink * u32::from(!e.is_dir()))).collect()
    };
    assert_eq!(same(&before), same(&after), "hard links of devices included");
    assert_private(&s.upper());
    s.commit();
    assert_eq!(same(&s.view()), same(&after), "upper as a layer");
}

#[test]
fn the_root_shows_what_the_layers_say() {
    let s = stack(2);
    kept(&s.lower(2), "", "0:0:0751:dir");
    s.lower(2).file("f", "");
    s.upper().chmod("", 0o700);
    let fs = s.mount();
    let root = fs.overlay.get_attr(ROOT).unwrap();
    assert_eq!((root.mode, root.uid, root.gid), (libc::S_IFDIR | 0o751, 0, 0));
    fs.chmod("", 0o711).unwrap();
    drop(fs);
    assert_eq!(value(&s.upper(), ""), "0:0:0711:dir");
    assert_eq!(s.mount().overlay.get_attr(ROOT).unwrap().mode & 0o7777, 0o711, "what upper says stays");
}

#[test]
fn devices_0_0_are_no_whiteouts_and_whiteouts_stay_such() {
    let mut s = stack(2);
    s.lower(2).file("a", "1").file("b", "2").file("d/x", "x");
    let fs = s.mount();
    fs.unlink("a").unwrap();
    fs.make("node", New::Node(libc::S_IFCHR, 0, 0), 0o600, 0, OTHER).unwrap();
    let (old, new) = (fs.split("b").unwrap(), fs.split("d/b").unwrap());
    fs.overlay.rename_leaving_whiteout(old, new, RenameMode::Replace, OTHER).unwrap();
    fs.link("node", "d/link").unwrap();
    fs.rename("node", "d/node").unwrap();
    for path in ["b", "d/link", "d/node"] {
        assert_eq!(shown(&fs, path).0 & libc::S_IFMT, libc::S_IFCHR, "{path}");
    }
    let view = settled(&s, fs);
    assert!(s.upper().is_whiteout("a") && !view.contains_key("a"));
    s.commit();
    assert_eq!(s.view().keys().collect::<Vec<_>>(), view.keys().collect::<Vec<_>>());
    let fs = s.mount();
    fs.rename("d/node", "d/moved").unwrap();
    fs.unlink("b").unwrap();
    settled(&s, fs);
}

/// An upper directory that was used without the option before.
#[test]
fn objects_without_the_attribute_show_what_is_on_disk_until_they_are_changed() {
    let s = stack(1);
    s.upper().file("f", "x").chmod("f", 0o444).file("closed", "y").chmod("closed", 0).dir("d").chmod("d", 0o555);
    s.upper().file("shut", "").chmod("shut", 0);
    let fs = s.mount();
    assert_eq!((shown(&fs, "f").0, shown(&fs, "closed").0), (libc::S_IFREG | 0o444, libc::S_IFREG));
    for path in ["f", "closed", "d"] {
        fs.overlay.set_attr(fs.ino(path).unwrap(), &Change { uid: Some(3), ..Change::default() }, ROOT_USER).unwrap();
        assert_eq!(fs.attr(path).unwrap().uid, 3, "{path}");
    }
    fs.chmod("shut", 0o4750).unwrap();
    fs.create("d/new").unwrap();
    assert_eq!(value(&s.upper(), "f"), format!("3:{}:0444:file", me().gid));
    assert_private(&s.upper());
    settled(&s, fs);
}

fn common_overridden(stack: &mut Stack) {
    common(stack);
    kept(&stack.lower(1), "f", "0:0:4711:file");
    kept(&stack.upper(), "u", "7:7:0600:file");
}

const fn case(name: &'static str, run: fn(&Fs) -> Result<()>) -> Case {
    Case { name, build: common_overridden, prepare: None, run, between: &[], fills_in: false, overridden: true }
}

pub fn make(fs: &Fs, path: &str, new: New<'_>) -> Result<()> {
    fs.make(path, new, 0o2775, 0o022, OTHER).map(drop)
}

/// In particular no state shows an object with the owner and mode that it has on disk.
#[test]
fn every_crash_and_failure_leaves_the_old_or_the_new_owner_and_mode() {
    enumerate_all(
        "override_stat",
        &[
            case("create", |fs| make(fs, "new", New::File)),
            case("mkdir over whiteout", |fs| make(fs, "wh", New::Directory)),
            case("mknod in lower directory", |fs| make(fs, "deep/er/new", New::Node(libc::S_IFBLK, 8, 1))),
            case("mknod 0:0", |fs| make(fs, "new", New::Node(libc::S_IFCHR, 0, 0))),
            case("symlink", |fs| make(fs, "new", New::Symlink("to".as_ref()))),
            case("chmod of lower", |fs| fs.chmod("f", 0o600).map(drop)),
            case("chmod of upper", |fs| fs.chmod("u", 0o4755).map(drop)),
            case("chown of upper", |fs| {
                fs.change("u", &Change { uid: Some(1), gid: Some(2), ..Change::default() }).map(drop)
            }),
            case("chown of lower directory", |fs| {
                fs.change("deep/er", &Change { uid: Some(1), ..Change::default() }).map(drop)
            }),
            case("write to lower", |fs| fs.write("f", 0, "new")),
            case("copy-up of hard link", |fs| fs.chmod("h1", 0o600).map(drop)),
            case("copy-up of device", |fs| fs.chmod("node", 0o600).map(drop)),
            case("rename", |fs| fs.rename("f", "new")),
        ],
    );
}
