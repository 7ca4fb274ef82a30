//! One object, one number; hard links stay links.

use super::harness::{Fs, Stack, errno, settled};
use super::tree::{marker, root};

/// Everything there is to rename, write or change.
const ALL: [&str; 6] = ["f", "d/f", "d", "link", "pipe", "m"];

fn kinds() -> Stack {
    let s = Stack::new(2);
    s.lower(1).file("f", "f").file("d/f", "df").symlink("link", "f").fifo("pipe").dir("m");
    s.lower(2).file("m/x", "");
    s
}

fn touch(fs: &Fs, path: &str) {
    let time = crate::sys::Time { sec: 99, nsec: 9 };
    let change = crate::overlay::Change { mtime: Some(crate::sys::SetTime::At(time)), ..<_>::default() };
    fs.change(path, &change).unwrap();
}

#[test]
fn numbers_do_not_change_with_copy_up_nor_remount() {
    let s = kinds();
    let fs = s.mount();
    let number = |fs: &Fs| ALL.map(|p| fs.attr(p).unwrap().st_ino);
    let before = number(&fs);
    for path in ALL {
        touch(&fs, path);
        assert!(s.upper().has(path));
    }
    assert_eq!(number(&fs), before, "after copy-up");
    drop(fs);
    let fs = s.mount();
    let after = number(&fs);
    for ((path, a), b) in ALL.iter().zip(before).zip(after) {
        // A user cannot put attributes on symbolic links and pipes: their origin is not known later.
        assert!(a == b || (!root() && ["link", "pipe"].contains(path)), "{path} after remount");
    }
    settled(&s, fs);
}

#[test]
fn numbers_do_not_change_with_rename() {
    let s = kinds();
    let fs = s.mount();
    let before = ALL.map(|p| fs.ino(p).unwrap());
    for (path, number) in ALL.iter().zip(before) {
        let new = format!("new-{}", path.replace('/', "-"));
        fs.rename(path, &new).unwrap();
        assert_eq!(fs.ino(&new).unwrap(), number, "{path}");
    }
    settled(&s, fs);
}

#[test]
fn numbers_do_not_depend_on_the_way_or_order_of_access() {
    let s = kinds();
    s.upper().dir("m").file("m/up", "");
    // The walk compares listing, lookup and stat of each name; here it starts at different places.
    let whole = s.view();
    for path in ALL {
        let fs = s.mount();
        assert_eq!(fs.attr(path).unwrap().st_ino, whole[path].ino);
        super::harness::assert_same(&whole, &fs.view(), path);
    }
}

/// A lower file with three names, one of them in another directory, and one name that another layer covers.
fn linked() -> Stack {
    let s = Stack::new(2);
    s.lower(2).file("a", "data").link("a", "b").link("a", "d/c").chmod("a", 0o640).mtime("a", 1000, 1);
    s
}

const NAMES: [&str; 3] = ["a", "b", "d/c"];

#[test]
fn the_link_count_is_right_before_all_names_were_seen() {
    for path in NAMES {
        let s = linked();
        let fs = s.mount();
        assert_eq!(fs.attr(path).unwrap().nlink, 3);
        fs.write(path, 0, "D").unwrap();
        assert_eq!(fs.attr(path).unwrap().nlink, 3);
        drop(fs);
        let fs = s.mount();
        assert_eq!(fs.attr(path).unwrap().nlink, 3, "{path} after remount");
    }
}

#[test]
fn a_change_through_one_name_is_seen_through_all() {
    for writer in NAMES {
        for remount in [false, true] {
            let s = linked();
            let mut fs = s.mount();
            let number = fs.attr("b").unwrap().st_ino;
            fs.write(writer, 0, "new data").unwrap();
            fs.chmod(writer, 0o604).unwrap();
            fs.set_xattr(writer, "user.x", "y").unwrap();
            if remount {
                drop(fs);
                fs = s.mount();
            }
            for path in NAMES {
                let attr = fs.attr(path).unwrap();
                assert_eq!((attr.mode & 0o777, attr.nlink), (0o604, 3), "{path}");
                assert!(attr.st_ino == number || (remount && !root()), "{path}");
                assert_eq!(fs.read(path).unwrap(), "new data");
                assert_eq!(fs.get_xattr(path, "user.x").unwrap(), b"y");
            }
            settled(&s, fs);
        }
    }
}

/// The count that was kept under the other kind of attribute is the one that counts on.
#[test]
fn link_counts_follow_a_switch_of_userxattr() {
    let mut s = linked();
    let fs = s.mount();
    fs.write(NAMES[0], 0, "new data").unwrap();
    drop(fs);
    s.options.userxattr = true;
    let fs = s.mount();
    for name in ["x", "y", "z"] {
        fs.link(NAMES[0], name).unwrap();
    }
    drop(fs);
    s.options.userxattr = false;
    let fs = s.mount();
    assert_eq!(fs.attr("x").unwrap().nlink, 6);
    for name in ["x", "y", "z", NAMES[0]] {
        fs.unlink(name).unwrap();
    }
    drop(fs);
    assert_eq!(s.mount().read(NAMES[1]).unwrap(), "new data");
}

/// What is done, doing it, the names that are left, and their count.
type Step = (&'static str, fn(&Fs), &'static [&'static str], u32);

#[test]
fn the_link_count_follows_every_unlink_link_and_rename() {
    for written in [false, true] {
        for remount in [false, true] {
            let s = linked();
            let mut fs = s.mount();
            if written {
                fs.write("b", 0, "D").unwrap();
            }
            let expected = if written { "Data" } else { "data" };
            let steps: [Step; 6] = [
                ("unlink", |fs| fs.unlink("a").unwrap(), &["b", "d/c"], 2),
                ("link", |fs| assert!(fs.link("d/c", "e").is_ok()), &["b", "d/c", "e"], 3),
                ("rename", |fs| fs.rename("b", "d/b").unwrap(), &["d/b", "d/c", "e"], 3),
                (
                    "rename over",
                    |fs| assert!(fs.create("x").is_ok() && fs.rename("x", "e").is_ok()),
                    &["d/b", "d/c"],
                    2,
                ),
                ("unlink again", |fs| fs.unlink("d/c").unwrap(), &["d/b"], 1),
                ("link last", |fs| assert!(fs.link("d/b", "a").is_ok()), &["a", "d/b"], 2),
            ];
            for (what, act, names, count) in steps {
                act(&fs);
                if remount {
                    drop(fs);
                    fs = s.mount();
                }
                let numbers: Vec<u64> = names.iter().map(|n| fs.attr(n).unwrap().st_ino).collect();
                assert!(numbers.iter().all(|n| *n == numbers[0]), "{what}: {names:?} {numbers:?}");
                for name in names {
                    let shown = (fs.attr(name).unwrap().nlink, fs.read(name).unwrap());
                    assert_eq!(shown, (count, expected.into()), "{name} after {what}, remount: {remount}");
                }
            }
            fs.unlink("a").unwrap();
            fs.unlink("d/b").unwrap();
            let view = settled(&s, fs);
            assert!(!view.values().any(|e| e.content.ends_with(b"ata")));
            let left = super::tree::sorted_names(&s.work().path("index"));
            assert!(left.is_empty(), "the index entry goes with the last name: {left:?}");
        }
    }
}

#[test]
fn a_new_link_is_the_same_object() {
    for path in ["f", "d/f", "link", "pipe"] {
        let s = kinds();
        let fs = s.mount();
        let before = fs.attr(path).unwrap();
        let linked = fs.link(path, "new").unwrap();
        assert_eq!((linked.ino, linked.nlink), (before.ino, 2), "{path}");
        assert_eq!(fs.attr(path).unwrap().nlink, 2);
        let view = settled(&s, fs);
        assert_eq!((view["new"].nlink, view["new"].ino), (2, view[path].ino), "{path}");
    }
}

#[test]
fn a_file_can_be_linked_after_another_of_its_names_was_removed() {
    let s = Stack::new(1);
    s.upper().file("a", "x").link("a", "b");
    let fs = s.mount();
    let number = fs.ino("a").unwrap();
    fs.unlink("a").unwrap();
    assert_eq!(fs.ino("b").unwrap(), number);
    assert_eq!(fs.link("b", "c").unwrap().nlink, 2);
    fs.unlink("b").unwrap();
    fs.unlink("c").unwrap();
    let parent = crate::overlay::ROOT;
    assert_eq!(errno(fs.overlay.link(number, parent, std::ffi::OsStr::new("d"))), libc::ENOENT, "no name is left");
    settled(&s, fs);
}

#[test]
fn directories_cannot_be_linked() {
    let s = kinds();
    let fs = s.mount();
    let error = errno(fs.link("d", "new"));
    assert!([libc::EPERM, libc::EISDIR].contains(&error));
    assert!(!fs.exists("new"));
}

#[test]
fn copies_of_one_lower_file_are_two_objects() {
    let s = kinds();
    let fs = s.mount();
    touch(&fs, "f");
    drop(fs);
    // What `cp -a` does to upper while it is not mounted.
    let origin = s.upper().get_xattr("f", &marker("origin"));
    s.upper().file("copy", "copied");
    if let Some(origin) = origin {
        s.upper().xattr("copy", &marker("origin"), &origin);
    }
    let fs = s.mount();
    assert_ne!(fs.ino("f").unwrap(), fs.ino("copy").unwrap());
    assert_eq!((fs.read("f").unwrap(), fs.read("copy").unwrap()), ("f".into(), "copied".into()));
}

#[test]
fn numbers_are_unique_across_file_systems() {
    let shm = std::path::Path::new("/dev/shm");
    let elsewhere = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let mut s = kinds();
    s.options.lower.push(elsewhere.path().to_owned());
    let other = s.lower(3);
    for n in 0..200 {
        other.file(&format!("other/{n}"), "").file(&format!("d/{n}"), "");
        s.lower(2).file(&format!("mine/{n}"), "");
    }
    other.link("other/1", "other/linked");
    other.freeze_times();
    let fs = s.mount();
    // The walk checks that numbers are unique.
    let before = fs.view();
    fs.write("other/1", 0, "w").unwrap();
    fs.write("d/7", 0, "w").unwrap();
    fs.rename("other", "new").unwrap();
    let after = settled(&s, fs);
    let number = |path: &str| (before[path].ino, after[&path.replace("other", "new")].ino);
    for path in ["other", "other/1", "other/linked", "other/2", "d/7", "d"] {
        assert!(number(path).0 == number(path).1 || !root(), "{path}");
    }
    drop(s);
}

#[test]
fn forgotten_objects_are_freed() {
    let s = kinds();
    let fs = s.mount();
    for path in ["f", "d", "m"] {
        touch(&fs, path);
    }
    fs.rename("d", "e").unwrap();
    fs.unlink("f").unwrap();
    let view = fs.view();
    // Each path was looked up once by the walk, others by the steps above.
    for entry in view.iter().filter(|(p, _)| !p.is_empty()).map(|(_, e)| e) {
        fs.overlay.forget(entry.ino, 1000);
    }
    for e in view.values().rev() {
        fs.overlay.forget(e.ino, 1000);
    }
    let lost = fs.overlay.usage().inodes;
    assert!(lost <= 1, "{lost} objects stay known"); // `f` had no name to be forgotten by
    super::harness::assert_same(&view, &fs.view(), "after forgetting");
}

/// Without the index a copied file has one name in upper; the others lead to it as long as the mount lasts.
#[test]
fn without_the_index_the_other_names_of_a_changed_file_outlive_the_one_it_was_changed_by() {
    let removals: [fn(&Fs, &str); 2] = [
        |fs, name| fs.unlink(name).unwrap(),
        |fs, name| assert!(fs.create("x").is_ok() && fs.rename("x", name).is_ok()),
    ];
    for remove in removals {
        for writer in NAMES {
            let mut s = linked();
            s.options.no_index = true;
            let fs = s.mount();
            let number = NAMES.map(|n| fs.ino(n).unwrap())[0];
            fs.write(writer, 0, "changed").unwrap();
            let mut left: Vec<&str> = NAMES.into_iter().filter(|&n| n != writer).collect();
            let mut gone = writer;
            loop {
                remove(&fs, gone);
                for name in &left {
                    let seen = (fs.read(name).unwrap(), fs.ino(name).unwrap());
                    assert_eq!(seen, ("changed".into(), number), "{name} after {gone} went, written by {writer}");
                }
                let Some(next) = left.pop() else { break };
                gone = next;
            }
            assert_eq!(fs.read_ino(number).unwrap(), "changed", "without any name");
            let view = settled(&s, fs);
            assert!(view.values().all(|e| !e.content.ends_with(b"changed")), "what was removed does not come back");
        }
    }
}

/// Beyond the descriptors there are, a deleted file that is in use is kept by a link that nobody sees or counts.
#[test]
fn the_link_count_stays_right_when_deleted_files_are_kept_by_links() {
    for last in [false, true] {
        let mut s = linked();
        s.options.fd_limit = 64;
        let fs = s.mount();
        let fill = |fs: &Fs| {
            for n in 0..10 {
                let name = format!("filler-{n}");
                fs.create(&name).unwrap();
                fs.unlink(&name).unwrap();
            }
        };
        fill(&fs);
        // The other names are not known when the first goes.
        let ino = fs.ino("a").unwrap();
        fs.unlink("a").unwrap();
        assert_eq!(fs.overlay.get_attr(ino).unwrap().nlink, 2);
        fs.overlay.forget(ino, 1000);
        assert_eq!(fs.attr("b").unwrap().nlink, 2, "after the deleted name was forgotten");
        fs.unlink("b").unwrap();
        assert_eq!(fs.attr("d/c").unwrap().nlink, 1);
        if last {
            let ino = fs.ino("d/c").unwrap();
            fs.unlink("d/c").unwrap();
            assert_eq!((fs.overlay.get_attr(ino).unwrap().nlink, fs.read_ino(ino).unwrap()), (0, "data".into()));
            fs.overlay.forget(ino, 1000);
        }
        settled(&s, fs);
        drop(s.mount());
        let left = super::tree::sorted_names(&s.work().path("index"));
        assert_eq!(left.len(), usize::from(!last), "the index entry goes with the last name: {left:?}");
    }
}

#[test]
fn a_file_without_known_names_can_be_linked_while_it_has_others() {
    for no_index in [false, true] {
        let mut s = Stack::new(1);
        s.options.no_index = no_index;
        s.lower(1).file("a", "x").link("a", "b");
        let fs = s.mount();
        let ino = fs.ino("a").unwrap();
        fs.create("u").unwrap();
        fs.link("u", "v").unwrap();
        let other = fs.ino("u").unwrap();
        if !no_index {
            fs.unlink("a").unwrap();
            let root = crate::overlay::ROOT;
            assert_eq!(fs.overlay.link(ino, root, "c".as_ref()).unwrap().nlink, 2);
            assert_eq!(fs.attr("b").unwrap().st_ino, ino);
            fs.unlink("b").unwrap();
            fs.unlink("c").unwrap();
            assert!(fs.overlay.link(ino, root, "d".as_ref()).is_err(), "it has no name");
        }
        fs.unlink("u").unwrap();
        fs.unlink("v").unwrap();
        assert!(fs.overlay.link(other, crate::overlay::ROOT, "w".as_ref()).is_err());
        settled(&s, fs);
    }
}

/// Beside a live mount.
#[test]
fn what_goes_from_the_index_while_it_is_read_is_left_out() {
    let s = Stack::new(1);
    s.lower(1).file("a", "").link("a", "a2").file("b", "").link("b", "b2");
    let fs = s.mount();
    fs.write("a", 0, "new").unwrap();
    fs.write("b", 0, "new").unwrap();
    let index = s.work().path("index");
    let mut told = Vec::new();
    let each = &mut |_, names| {
        told.push(names);
        super::tree::sorted_names(&index).iter().for_each(|name| std::fs::remove_file(index.join(name)).unwrap());
    };
    fs.overlay.indexed_files(each).unwrap();
    assert_eq!(told, [2]);
}
