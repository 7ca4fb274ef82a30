//! Directories of a layer whose lower parts lie elsewhere: redirects as they are found in layers, and whose are believed.

use super::harness::{Stack, settled};
use super::layers::{OPAQUES, names};
use super::tree::{Tree, marker, root};
use crate::overlay::RedirectMode;

fn redirected() -> Stack {
    let s = Stack::new(3);
    s.lower(1).dir("abs").xattr("abs", &marker("redirect"), b"/far/away").file("abs/one", "");
    s.lower(1).dir("d/rel").xattr("d/rel", &marker("redirect"), b"near").file("d/rel/one", "");
    s.lower(1).whiteout("far").whiteout("d/near");
    s.lower(2).file("far/away/two", "").file("d/near/two", "");
    s.lower(3).file("far/away/three", "").file("d/near/three", "");
    s
}

#[test]
fn redirects_of_lower_layers_are_followed() {
    for mode in [RedirectMode::Auto, RedirectMode::On, RedirectMode::Follow, RedirectMode::Off] {
        let mut s = redirected();
        s.options.redirect = mode;
        let fs = s.mount();
        assert_eq!(fs.list("abs"), names("one three two"), "{mode:?}");
        assert_eq!(fs.list("d/rel"), names("one three two"), "{mode:?}");
        fs.unlink("abs/two").unwrap();
        fs.write("d/rel/three", 0, "w").unwrap();
        settled(&s, fs);
    }
}

#[test]
fn redirects_are_not_followed_with_nofollow() {
    let mut s = redirected();
    s.options.redirect = RedirectMode::NoFollow;
    let fs = s.mount();
    assert_eq!((fs.list("abs"), fs.list("d/rel")), (names("one"), names("one")));
}

#[test]
fn directories_with_one_redirect_are_two_objects() {
    let s = Stack::new(1);
    s.lower(1).file("d/f", "lower");
    s.upper().dir("a").xattr("a", &marker("redirect"), b"d").dir("b").xattr("b", &marker("redirect"), b"d");
    let fs = s.mount();
    fs.write("a/f", 0, "in a").unwrap();
    assert_ne!(fs.ino("a").unwrap(), fs.ino("b").unwrap());
    assert_eq!(fs.list("b"), ["f"]);
    fs.unlink("b/f").unwrap();
    assert_eq!(fs.list("a"), ["f"]);
}

/// What an ordinary user can set on a directory or file of their own leads nowhere in a mount that writes trusted
/// attributes; in one that does not, the mount can read no more than they can.
#[test]
fn redirects_of_ordinary_users_lead_nowhere_in_roots_mounts() {
    for in_upper in [true, false] {
        for (name, redirect) in [("abs", "/secret"), ("d/rel", "secret")] {
            let s = Stack::new(2);
            let tree = if in_upper { s.upper() } else { s.lower(1) };
            tree.dir(name).xattr(name, "user.overlay.redirect", redirect.as_bytes()).file(&format!("{name}/own"), "");
            s.lower(2).file("secret/key", "").file("d/secret/key", "").file("d/rel/below", "").file("abs/below", "");
            let fs = s.mount();
            let expected = if root() { "below own" } else { "key own" };
            assert_eq!(fs.list(name), names(expected), "{redirect}, upper: {in_upper}");
            fs.create(&format!("{name}/new")).unwrap();
            fs.rename(name, "renamed").unwrap();
            assert_eq!(fs.list("renamed").contains(&"key".into()), !root(), "{redirect}, upper: {in_upper}");
        }
    }
}

#[test]
fn a_redirect_ends_where_a_directory_on_its_way_hides_what_is_below() {
    let whiteout: fn(&Tree, &str) = |t, p| _ = t.aufs_whiteout(p).dir(p);
    for (form, hide) in OPAQUES.iter().copied().chain([whiteout]).enumerate() {
        for hidden in ["p", "p/q"] {
            let s = Stack::new(3);
            s.lower(1).dir("moved").xattr("moved", &marker("redirect"), b"/p/q/r");
            hide(&s.lower(2), hidden);
            s.lower(2).file("p/q/r/seen", "");
            s.lower(3).file("p/q/r/hidden", "");
            let fs = s.mount();
            assert_eq!(fs.list("moved"), ["seen"], "{hidden}, form {form}");
            assert_eq!(fs.list("p/q/r"), ["seen"], "{hidden}, form {form}");
        }
    }
}

#[test]
fn attributes_of_users_lead_nowhere_with_userxattr() {
    let mut s = Stack::new(1);
    (s.options.redirect, s.options.userxattr) = (RedirectMode::Auto, true);
    s.lower(1).file("secret/f", "secret").file("d/own", "own").file("o/hidden", "").file("gone", "").file("g/x", "");
    let upper = s.upper();
    upper.dir("d").xattr("d", "user.overlay.redirect", b"/secret");
    upper.file("meta", "").xattr("meta", "user.overlay.metacopy", b"");
    upper.xattr("meta", "user.overlay.redirect", b"/secret/f").xattr("", "user.overlay.impure", b"y");
    // These hide, and lead nowhere.
    upper.dir("o").xattr("o", "user.overlay.opaque", b"y");
    upper.file("gone", "").xattr("gone", "user.overlay.whiteout", b"y").xattr("", "user.overlay.opaque", b"x");
    let fs = s.mount();
    assert_eq!((fs.list("d"), fs.list("o"), fs.exists("gone")), (names("own"), names(""), false));
    assert_eq!(fs.read("meta").unwrap(), "");
    // What is written is the user's as well, and no redirect.
    fs.rename("g", "h").unwrap();
    fs.unlink("d/own").unwrap();
    fs.rmdir("d").unwrap();
    fs.mkdir("d").unwrap();
    for dir in ["d", "h"] {
        assert_eq!(upper.get_xattr(dir, "user.overlay.opaque").unwrap(), b"y");
        assert!(upper.get_xattr(dir, "trusted.overlay.opaque").is_none());
        assert!(upper.get_xattr(dir, "user.overlay.redirect").is_none());
    }
    drop(fs);
    // The same without the option: root still does not believe them.
    s.options.userxattr = false;
    let fs = s.mount();
    assert_eq!((fs.list("d"), fs.list("h"), fs.list("o")), (names(""), names("x"), names("")));
    if root() {
        assert_eq!(fs.read("meta").unwrap(), "");
    }
}

/// What root wrote before is still meant as it was.
#[test]
fn trusted_redirects_are_followed_with_userxattr() {
    if !root() {
        return;
    }
    let mut s = Stack::new(1);
    s.lower(1).file("d/f", "f").file("x", "");
    let fs = s.mount();
    fs.rename("d", "e").unwrap();
    fs.unlink("x").unwrap();
    drop(fs);
    assert!(s.upper().get_xattr("e", "trusted.overlay.redirect").is_some());
    s.options.userxattr = true;
    let fs = s.mount();
    assert_eq!((fs.list(""), fs.read("e/f").unwrap()), (names("e"), "f".into()));
}
