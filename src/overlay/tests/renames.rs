//! Renaming: directories of lower layers above all, then what may replace what.

use std::collections::{BTreeMap, BTreeSet};

use super::harness::{Fs, Stack, assert_same, errno, settled};
use super::tree::{marker, root};
use super::walk::View;
use crate::overlay::{RedirectMode, RenameMode};

/// Two layers with a tree `d` in both and one `low` in the lower one only.
fn trees() -> Stack {
    let s = Stack::new(2);
    s.lower(1).file("d/one", "1").file("d/sub/one", "1").file("target/x", "").dir("other").dir("empty");
    s.lower(2).file("d/two", "2").file("d/sub/two", "2").file("low/f", "low").file("low/er/f", "lower");
    s.lower(2).file("target/y", "").symlink("low/link", "f");
    s
}

/// What is under `path`, by path below it.
fn part(view: &View, path: &str) -> View {
    let prefix = format!("{path}/");
    view.iter().filter_map(|(p, e)| Some((p.strip_prefix(&prefix)?.to_owned(), e.clone()))).collect()
}

/// Does the renames, each followed by a look and, if `remount`, by a fresh mount; the tree that was at the first name
/// must be at the last, unchanged in everything, and nowhere else.
fn moves_whole(path: &str, steps: &[&str], remount: bool) {
    let s = trees();
    let mut fs = s.mount();
    let before = fs.view();
    let number = fs.ino(path).unwrap();
    let mut at = path;
    for step in steps {
        fs.rename(at, step).unwrap_or_else(|e| panic!("{at} -> {step}: {e}"));
        assert_eq!(errno(fs.attr(at)), libc::ENOENT, "{at} after it became {step}");
        at = step;
        if remount {
            drop(fs);
            fs = s.mount();
        }
        assert_same(&part(&before, path), &part(&fs.view(), at), &format!("{path} and {at}, remount: {remount}"));
        assert_eq!(fs.ino(at).unwrap(), number, "{at}");
    }
    let found: Vec<String> = fs.view().into_keys().filter(|p| p.ends_with("one") || p.ends_with("low/f")).collect();
    assert!(found.iter().all(|p| p.starts_with(at) || !p.starts_with(path)), "shows twice: {found:?}");
    // Still a directory like any other.
    fs.create(&format!("{at}/new")).unwrap();
    for name in fs.list(at) {
        let child = format!("{at}/{name}");
        if fs.attr(&child).unwrap().mode & libc::S_IFMT == libc::S_IFREG {
            fs.write(&child, 0, "changed").unwrap();
            fs.unlink(&child).unwrap();
        }
    }
    let after = settled(&s, fs);
    assert!(part(&after, at).keys().all(|p| p.contains("sub") || p.contains("er") || p == "link"), "{after:?}");
}

#[test]
fn a_lower_directory_can_be_renamed_any_number_of_times() {
    let ways: [&[&str]; 6] = [
        &["new"],
        &["other/new"],
        &["new", "newer"],
        &["new", "other/new", "other/newer", "empty/x"],
        &["other/new", "back"],
        &["low/er/new", "again"],
    ];
    for path in ["d", "low", "d/sub"] {
        for way in ways.iter().filter(|w| !(path == "low" && w[0].starts_with("low"))) {
            for remount in [false, true] {
                moves_whole(path, way, remount);
            }
        }
    }
}

#[test]
fn a_lower_directory_can_be_renamed_back() {
    for path in ["d", "low", "d/sub"] {
        for way in [["new", path], ["other/new", path]] {
            for remount in [false, true] {
                let s = trees();
                let mut fs = s.mount();
                let before = part(&fs.view(), path);
                fs.rename(path, way[0]).unwrap();
                if remount {
                    drop(fs);
                    fs = s.mount();
                }
                fs.rename(way[0], way[1]).unwrap();
                assert_same(&before, &part(&settled(&s, fs), path), path);
            }
        }
    }
}

#[test]
fn parent_and_child_can_both_be_renamed_in_either_order() {
    let child_first: fn(&Fs) = |fs| {
        fs.rename("d/sub", "d/s").unwrap();
        fs.rename("d", "e").unwrap();
    };
    let parent_first: fn(&Fs) = |fs| {
        fs.rename("d", "e").unwrap();
        fs.rename("e/sub", "e/s").unwrap();
    };
    let out_and_back: fn(&Fs) = |fs| {
        fs.rename("d/sub", "out").unwrap();
        fs.rename("d", "e").unwrap();
        fs.rename("out", "e/s").unwrap();
    };
    for act in [child_first, parent_first, out_and_back] {
        let s = trees();
        let before = s.view();
        let fs = s.mount();
        act(&fs);
        let after = settled(&s, fs);
        assert_same(&part(&before, "d/sub"), &part(&after, "e/s"), "the child");
        assert!(!after.contains_key("d") && !after.contains_key("e/sub"));
        assert!(after.contains_key("e/one") && after.contains_key("e/two"));
    }
}

#[test]
fn the_name_of_a_renamed_directory_can_be_used_again() {
    for recreate in [false, true] {
        let s = trees();
        let fs = s.mount();
        fs.rename("d", "moved").unwrap();
        if recreate {
            fs.mkdir("d").unwrap();
        } else {
            fs.rename("low", "d").unwrap();
        }
        let expected: &[&str] = if recreate { &[] } else { &["er", "f", "link"] };
        assert_eq!(fs.list("d"), expected);
        let after = settled(&s, fs);
        assert!(!after.contains_key("d/one") && after.contains_key("moved/one"));
        let fs = s.mount();
        assert_eq!(fs.list("d"), expected);
    }
}

#[test]
fn renamed_directories_stay_whole_when_upper_becomes_a_layer() {
    let mut s = trees();
    let before = s.view();
    // What was copied up has another number once its copy is in a lower layer.
    let part = |view: &View, path: &str| {
        let mut part = part(view, path);
        part.values_mut().for_each(|e| e.ino = 0);
        part
    };
    let fs = s.mount();
    fs.rename("d", "a").unwrap();
    fs.rename("low", "other/b").unwrap();
    drop(fs);
    s.commit();
    let fs = s.mount();
    assert_same(&part(&before, "d"), &part(&fs.view(), "a"), "one layer up");
    fs.rename("a/sub", "a/s").unwrap();
    fs.rename("a/s", "sub2").unwrap();
    fs.rename("other/b/er", "er2").unwrap();
    fs.rename("a", "a2").unwrap();
    drop(fs);
    s.commit();
    let view = s.view();
    assert_same(&part(&before, "d/sub"), &part(&view, "sub2"), "child of a redirected directory");
    assert_same(&part(&before, "low/er"), &part(&view, "er2"), "child of a redirected directory, elsewhere");
    assert!(view.contains_key("a2/one") && view.contains_key("a2/two") && !view.contains_key("a2/sub"));
    let fs = s.mount();
    fs.rename("sub2", "sub3").unwrap();
    fs.rename("a2", "other/b/a3").unwrap();
    let view = settled(&s, fs);
    assert_same(&part(&before, "d/sub"), &part(&view, "sub3"), "three layers up");
    assert!(view.contains_key("other/b/a3/two") && view.contains_key("other/b/f"));
}

#[test]
fn a_redirect_is_written_as_the_kernel_does() {
    let s = trees();
    let fs = s.mount();
    fs.rename("d", "e").unwrap();
    fs.rename("low", "other/l").unwrap();
    assert_eq!(s.upper().get_xattr("e", &marker("redirect")).unwrap(), b"d", "the name, in the same directory");
    assert_eq!(s.upper().get_xattr("other/l", &marker("redirect")).unwrap(), b"/low", "the path, elsewhere");
    fs.rename("e", "other/e").unwrap();
    assert_eq!(s.upper().get_xattr("other/e", &marker("redirect")).unwrap(), b"/d");
    assert!(s.upper().is_whiteout("d") && s.upper().is_whiteout("low") && !s.upper().has("e"));
}

#[test]
fn a_directory_whose_path_is_too_long_for_a_redirect_is_copied() {
    let s = Stack::new(1);
    let deep = ["x".repeat(100), "y".repeat(100), "z".repeat(100)].join("/");
    s.lower(1).file(&format!("{deep}/f"), "content").file(&format!("{deep}/sub/g"), "g").dir("other");
    let before = s.view();
    let fs = s.mount();
    fs.rename(&deep, "other/new").unwrap();
    assert_eq!(s.upper().get_xattr("other/new", &marker("redirect")), None);
    assert!(!fs.exists(&deep));
    let content = |v: &View| part(v, if v.contains_key(&deep) { &deep } else { "other/new" });
    let after = settled(&s, fs);
    let (a, b) = (content(&before), content(&after));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert_eq!(a["f"].content, b["f"].content);
}

#[test]
fn without_redirects_only_directories_of_upper_can_be_renamed() {
    for mode in [RedirectMode::Off, RedirectMode::NoFollow, RedirectMode::Follow] {
        let mut s = trees();
        s.upper().file("up/f", "");
        s.upper().file("d/up", "");
        s.options.redirect = mode;
        let fs = s.mount();
        let before = fs.view();
        for (old, new) in [("d", "new"), ("low", "other/new"), ("d/sub", "d/new")] {
            assert_eq!(errno(fs.rename(old, new)), libc::EXDEV, "{mode:?}");
        }
        assert_eq!(errno(fs.exchange("d", "low")), libc::EXDEV);
        assert_same(&before, &fs.view(), "nothing happened");
        fs.rename("up", "low/up").unwrap();
        fs.rename("low/f", "d/f").unwrap();
        let after = settled(&s, fs);
        assert!(after.contains_key("low/up/f") && after.contains_key("d/f"));
    }
}

#[test]
fn by_default_an_ordinary_user_copies_the_directory() {
    let mut s = trees();
    s.options.redirect = RedirectMode::Auto;
    let before = s.view();
    let fs = s.mount();
    fs.rename("low", "other/l").unwrap();
    assert_eq!(s.upper().get_xattr("other/l", &marker("redirect")).is_some(), root());
    assert_eq!(s.upper().get_xattr("other/l", &marker("opaque")).is_some(), !root());
    let after = settled(&s, fs);
    assert_eq!(after["other/l/er/f"].content, before["low/er/f"].content);
    assert!(!after.contains_key("low"));
}

#[test]
fn a_directory_of_upper_does_not_merge_with_what_is_below_its_new_name() {
    for onto in ["onto whiteout", "onto empty", "elsewhere"] {
        let s = trees();
        s.upper().file("up/mine", "");
        let fs = s.mount();
        let target = match onto {
            "onto whiteout" => {
                fs.unlink("target/x").unwrap();
                fs.unlink("target/y").unwrap();
                fs.rmdir("target").unwrap();
                "target"
            }
            "onto empty" => {
                fs.unlink("target/x").unwrap();
                fs.unlink("target/y").unwrap();
                "target"
            }
            _ => "d/new",
        };
        fs.rename("up", target).unwrap();
        assert_eq!(fs.list(target), ["mine"], "{onto}");
        let after = settled(&s, fs);
        assert_eq!(part(&after, target).len(), 1, "{onto}");
    }
}

#[test]
fn rename_replaces_only_what_it_may() {
    let s = trees();
    s.lower(1).file("f", "f").file("g", "g");
    let fs = s.mount();
    let before = fs.view();
    let errors = [
        errno(fs.rename("f", "d")),
        errno(fs.rename("d", "f")),
        errno(fs.rename("low", "d")),
        errno(fs.rename("none", "new")),
        errno(fs.rename_as("f", "g", RenameMode::NoReplace)),
        errno(fs.rename_as("empty", "other", RenameMode::NoReplace)),
        errno(fs.exchange("f", "none")),
    ];
    let expected =
        [libc::EISDIR, libc::ENOTDIR, libc::ENOTEMPTY, libc::ENOENT, libc::EEXIST, libc::EEXIST, libc::ENOENT];
    assert_eq!(errors, expected);
    assert_same(&before, &fs.view(), "nothing happened");
    fs.rename("f", "f").unwrap();
    fs.rename("low", "low").unwrap();
    assert_same(&before, &fs.view(), "a name onto itself");
    settled(&s, fs);
}

#[test]
fn rename_between_two_names_of_one_file_does_nothing() {
    let s = Stack::new(1);
    s.lower(1).file("a", "x").link("a", "b");
    let fs = s.mount();
    fs.rename("a", "b").unwrap();
    assert_eq!(fs.list(""), ["a", "b"]);
    fs.link("a", "c").unwrap();
    fs.rename("c", "a").unwrap();
    assert_eq!(settled(&s, fs)["c"].nlink, 3);
}

#[test]
fn a_renamed_lower_file_leaves_a_whiteout_whatever_was_at_its_new_name() {
    for onto in ["nothing", "whiteout", "lower", "upper"] {
        let s = Stack::new(1);
        s.lower(1).file("f", "f").file("gone", "").file("lower", "");
        s.upper().whiteout("gone").file("upper", "");
        let fs = s.mount();
        let target = if onto == "whiteout" { "gone" } else { onto };
        fs.rename("f", target).unwrap();
        assert!(!fs.exists("f") && s.upper().is_whiteout("f"), "{onto}");
        let after = settled(&s, fs);
        assert!(!after.contains_key("f"), "{onto}");
        assert_eq!(after[target].content, b"f", "{onto}");
    }
}

#[test]
fn noreplace_onto_a_whiteout_works() {
    let s = trees();
    s.lower(1).file("f", "f").file("gone", "");
    s.upper().whiteout("gone").file("u", "u");
    let fs = s.mount();
    fs.rename_as("u", "gone", RenameMode::NoReplace).unwrap();
    fs.unlink("gone").unwrap();
    fs.rename_as("d", "gone", RenameMode::NoReplace).unwrap();
    assert!(settled(&s, fs).contains_key("gone/sub/two"));
}

#[test]
fn exchange_swaps_everything_of_two_names() {
    let s = trees();
    s.lower(1).file("f", "f");
    s.upper().file("u", "u").file("ud/x", "x");
    let before = s.view();
    for (a, b) in [("f", "u"), ("d", "low"), ("d", "ud"), ("f", "d"), ("d/sub", "low/er"), ("d/one", "low")] {
        let fs = s.mount();
        fs.exchange(a, b).unwrap();
        let view = fs.view();
        assert_same(&part(&before, a), &part(&view, b), a);
        assert_same(&part(&before, b), &part(&view, a), b);
        let numbers = |v: &View| (v[a].ino, v[b].ino);
        let (x, y) = numbers(&before);
        assert_eq!(numbers(&view), (y, x), "{a} and {b}");
        settled(&s, fs);
        let fs = s.mount();
        fs.exchange(a, b).unwrap();
        let back = settled(&s, fs);
        let untimed = |v: &View| v.iter().map(|(p, e)| (p.clone(), e.content.clone(), e.ino)).collect::<Vec<_>>();
        assert_eq!(untimed(&before), untimed(&back), "{a} and {b} twice");
    }
}

#[test]
fn descendants_follow_a_renamed_directory_that_is_in_use() {
    let s = trees();
    let fs = s.mount();
    let (file, dir) = (fs.ino("d/sub/two").unwrap(), fs.ino("d/sub").unwrap());
    fs.rename("d", "other/e").unwrap();
    fs.overlay.write(file, 0, b"written by number").unwrap();
    let name = std::ffi::OsStr::new("made");
    fs.overlay.create(dir, name, crate::overlay::New::File, 0o600, 0, super::harness::me()).unwrap();
    assert_eq!(fs.read("other/e/sub/two").unwrap(), "written by number");
    assert!(settled(&s, fs).contains_key("other/e/sub/made"));
}

/// What a tree should hold: content of files by path, and directories.
#[derive(Clone, Default)]
struct Expected {
    files: BTreeMap<String, String>,
    dirs: BTreeSet<String>,
}

impl Expected {
    fn of(view: &View) -> Self {
        let mut expected = Self::default();
        for (path, e) in view.iter().filter(|(p, _)| !p.is_empty()) {
            if e.is_dir() {
                expected.dirs.insert(path.clone());
            } else {
                expected.files.insert(path.clone(), String::from_utf8(e.content.clone()).unwrap());
            }
        }
        expected
    }

    fn rename(&mut self, old: &str, new: &str) {
        let moved = |path: &String| match path.strip_prefix(old) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{new}{rest}"),
            _ => path.clone(),
        };
        self.files = self.files.iter().map(|(p, c)| (moved(p), c.clone())).collect();
        self.dirs = self.dirs.iter().map(moved).collect();
    }

    fn check(&self, view: &View, what: &str) {
        let seen = Self::of(view);
        assert_eq!(seen.dirs, self.dirs, "{what}");
        assert_eq!(seen.files, self.files, "{what}");
    }
}

/// Renames of directories under several mounts, each of whose upper becomes a layer under the next: the redirects of all
/// of them meet on the way to one file.
#[test]
fn directories_renamed_under_every_mount_of_a_growing_stack_stay_whole() {
    for seed in 0..60u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((state >> 33) % end as u64).unwrap()
        };
        let mut s = Stack::new(2);
        s.options.volatile = true;
        s.lower(2).file("a/x/y/low", "1").file("a/x/f", "2").file("a/g", "3").file("b/x/other", "4");
        s.lower(1).file("a/x/top", "5").file("c/z/h", "6");
        let mut expected = Expected::of(&s.view());
        let mut steps = Vec::new();
        for generation in 0..4 {
            let fs = s.mount();
            for step in 0..=below(2) {
                let dirs: Vec<String> = expected.dirs.iter().cloned().collect();
                let old = &dirs[below(dirs.len())];
                if below(3) == 0 {
                    let path = format!("{old}/new-{generation}-{step}");
                    fs.create(&path).unwrap();
                    fs.write(&path, 0, &path).unwrap();
                    expected.files.insert(path.clone(), path.clone());
                    steps.push(format!("create {path}"));
                }
                // The names of the base come back, so that redirects meet what is not meant.
                let name = ["a", "b", "c", "x", "y", "z", "new"][below(7)];
                let parent = &dirs[below(dirs.len())];
                let new = if below(3) == 0 { name.to_owned() } else { format!("{parent}/{name}") };
                let taken = expected.dirs.contains(&new) || expected.files.contains_key(&new);
                if taken || format!("{new}/").starts_with(&format!("{old}/")) {
                    continue;
                }
                steps.push(format!("rename {old} {new}"));
                fs.rename(old, &new).unwrap_or_else(|e| panic!("seed {seed}: {steps:?}: {e}"));
                expected.rename(old, &new);
            }
            let what = format!("seed {seed}, generation {generation}: {steps:?}");
            expected.check(&fs.view(), &what);
            drop(fs);
            expected.check(&s.view(), &format!("{what}, mounted again"));
            s.commit();
            steps.push("commit".into());
            expected.check(&s.view(), &format!("{what}, as a layer"));
        }
    }
}

/// `a` became `b` under an earlier mount, so that the path `a/x` leads into its whiteout there.
fn renamed_above() -> Stack {
    let mut s = Stack::new(1);
    s.lower(1).file("a/x/f", "f").file("a/x/sub/g", "g").dir("other");
    let fs = s.mount();
    fs.rename("a", "b").unwrap();
    drop(fs);
    s.commit();
    s
}

#[test]
fn a_redirect_that_would_not_lead_back_is_not_written() {
    let s = renamed_above();
    let fs = s.mount();
    fs.rename("b/x", "other/y").unwrap();
    assert_eq!(s.upper().get_xattr("other/y", &marker("redirect")), None);
    assert_eq!(s.upper().get_xattr("other/y", &marker("opaque")).unwrap(), b"y", "copied whole instead");
    let view = settled(&s, fs);
    let files = ["other/y/f", "other/y/sub/g"].map(|p| view[p].content.clone());
    assert_eq!(files, [b"f".to_vec(), b"g".to_vec()]);
    assert!(!view.contains_key("b/x"));
}

#[test]
fn a_redirect_goes_through_the_redirects_of_the_layers_in_between() {
    let mut s = Stack::new(1);
    s.lower(1).file("a/x/f", "f").file("a/x/sub/g", "g").dir("other");
    let fs = s.mount();
    fs.rename("a", "b").unwrap();
    fs.create("b/x/new").unwrap();
    drop(fs);
    s.commit();
    let fs = s.mount();
    fs.rename("b/x", "other/y").unwrap();
    assert_eq!(s.upper().get_xattr("other/y", &marker("redirect")).unwrap(), b"/b/x");
    let view = settled(&s, fs);
    assert_eq!(part(&view, "other/y").into_keys().collect::<Vec<_>>(), ["f", "new", "sub", "sub/g"]);
    assert!(!view.contains_key("b/x"));
}

#[test]
fn a_directory_that_can_neither_be_redirected_nor_copied_stays_where_it_is() {
    let mut s = Stack::new(1);
    let deep = format!("a/x{}", "/d".repeat(210));
    s.lower(1).file(&format!("{deep}/f"), "f").dir("other");
    let fs = s.mount();
    fs.rename("a", "b").unwrap();
    drop(fs);
    s.commit();
    let before = s.view();
    let fs = s.mount();
    assert_eq!(errno(fs.rename("b/x", "other/y")), libc::EXDEV);
    assert_same(&before, &settled(&s, fs), "before and after a rename that failed");
}

#[test]
fn a_directory_cannot_be_renamed_onto_the_one_it_is_in() {
    let s = trees();
    let fs = s.mount();
    fs.mkdir("d/new").unwrap();
    for old in ["d/sub", "d/new"] {
        for mode in [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange] {
            let refused = errno(fs.rename_as(old, "d", mode));
            assert!([libc::ENOTEMPTY, libc::EEXIST, libc::EINVAL].contains(&refused), "{old}, {mode:?}: {refused}");
        }
    }
    settled(&s, fs);
}

#[test]
fn a_directory_that_is_copied_keeps_its_times() {
    let mut s = Stack::new(1);
    s.options.redirect = RedirectMode::Auto;
    let long = "n".repeat(250);
    s.lower(1).file(&format!("{long}/d/gone"), "").file(&format!("{long}/d/f"), "");
    let fs = s.mount();
    fs.unlink(&format!("{long}/d/gone")).unwrap();
    let dir = format!("{long}/d");
    let time = crate::sys::Time { sec: -1_000, nsec: 5 };
    let change = crate::overlay::Change { mtime: Some(crate::sys::SetTime::At(time)), ..Default::default() };
    fs.change(&dir, &change).unwrap();
    fs.rename(&dir, "e").unwrap();
    let after = fs.attr("e").unwrap().mtime;
    assert_eq!((after.sec, after.nsec), (time.sec, time.nsec));
    settled(&s, fs);
}
