//! Renaming: what may replace what, and what is left under the old name.

use super::harness::{Stack, assert_same, errno, settled};
use super::walk::View;
use crate::overlay::RenameMode;

/// Two layers with a tree `d` in both and one `low` in the lower one only.
pub fn trees() -> Stack {
    let s = Stack::new(2);
    s.lower(1).file("d/one", "1").file("d/sub/one", "1").file("target/x", "").dir("other").dir("empty");
    s.lower(2).file("d/two", "2").file("d/sub/two", "2").file("low/f", "low").file("low/er/f", "lower");
    s.lower(2).file("target/y", "").symlink("low/link", "f");
    s
}

/// What is under `path`, by path below it.
pub fn part(view: &View, path: &str) -> View {
    let prefix = format!("{path}/");
    view.iter().filter_map(|(p, e)| Some((p.strip_prefix(&prefix)?.to_owned(), e.clone()))).collect()
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
