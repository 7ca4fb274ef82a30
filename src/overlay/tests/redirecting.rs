//! Renaming a directory of a lower layer: when a redirect is written, when it is copied, and when neither can be.

use super::harness::{Stack, assert_same, errno, settled};
use super::renames::{part, trees};
use super::tree::{marker, root};
use super::walk::View;
use crate::overlay::RedirectMode;

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
