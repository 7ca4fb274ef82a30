//! Renamed directories of lower layers stay whole, whatever is renamed before and after, above and below.

use std::collections::{BTreeMap, BTreeSet};

use super::harness::{Fs, Stack, assert_same, errno, settled};
use super::renames::{part, trees};
use super::walk::View;

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
