//! Files that have attributes only, their data being in a lower layer or a data-only one.

use super::harness::{Stack, errno, settled};
use super::layers::names;
use super::tree::{Tree, marker, root};

fn metacopy_of(tree: &Tree, path: &str, size: usize) {
    tree.file(path, "").xattr(path, &marker("metacopy"), b"").xattr("", &marker("impure"), b"y");
    std::fs::OpenOptions::new().write(true).open(tree.path(path)).unwrap().set_len(size as u64).unwrap();
}

#[test]
fn a_metacopy_file_has_its_own_attributes_and_the_data_of_the_layer_below() {
    let data = "x".repeat(10_000);
    for with_upper in [true, false] {
        let mut s = Stack::new(2);
        let top = if with_upper { s.upper() } else { s.lower(1) };
        s.lower(2).file("f", &data).chmod("f", 0o600);
        metacopy_of(&top, "f", data.len());
        top.chmod("f", 0o751);
        if !with_upper {
            (s.options.upper, s.options.work) = (None, None);
        }
        let fs = s.mount();
        assert_eq!(fs.attr("f").unwrap().mode & 0o7777, 0o751);
        assert_eq!(fs.read("f").unwrap(), data);
    }
}

/// The kernel marks their directories as impure; who puts layers together by hand may not.
#[test]
fn a_metacopy_file_of_a_lower_layer_has_its_data_in_any_directory() {
    let data = "x".repeat(10_000);
    for write in [false, true] {
        let s = Stack::new(3);
        s.lower(3).file("f", &data).file("g", "small").file("other", "elsewhere");
        let top = s.lower(1);
        for (path, size) in [("f", 10_000), ("g", 5), ("moved", 9)] {
            metacopy_of(&top, path, size);
        }
        top.xattr("moved", &marker("redirect"), b"/other");
        rustix::fs::removexattr(top.path(""), marker("impure")).unwrap();
        let fs = s.mount();
        if write {
            fs.write("f", 0, "y").unwrap();
            fs.rename("g", "h").unwrap();
            fs.write("moved", 0, "E").unwrap();
            let view = settled(&s, fs);
            let content = |name: &str| String::from_utf8_lossy(&view[name].content).into_owned();
            assert_eq!(
                [content("f"), content("h"), content("moved")],
                [&format!("y{}", &data[1..]), "small", "Elsewhere"]
            );
        } else {
            assert_eq!(
                [fs.read("f"), fs.read("g"), fs.read("moved")].map(Result::unwrap),
                [&data, "small", "elsewhere"]
            );
        }
    }
}

#[test]
fn a_metacopy_file_that_is_written_becomes_a_whole_one() {
    let data = "x".repeat(10_000);
    let s = Stack::new(1);
    s.lower(1).file("f", &data);
    metacopy_of(&s.upper(), "f", data.len());
    let fs = s.mount();
    fs.write("f", 5000, "W").unwrap();
    assert_eq!(s.upper().get_xattr("f", &marker("metacopy")), None);
    let view = settled(&s, fs);
    assert_eq!(view["f"].content, [&data[..5000], "W", &data[5001..]].concat().into_bytes());
}

#[test]
fn data_only_layers_are_reached_by_absolute_redirects_only() {
    let mut s = Stack::new(1);
    let data = s.add_data();
    data.file("store/12", "content").file("seen", "not");
    let top = s.lower(1);
    metacopy_of(&top, "f", 7);
    top.xattr("f", &marker("redirect"), b"/store/12");
    let fs = s.mount();
    assert_eq!((fs.list(""), fs.read("f").unwrap()), (names("f"), "content".into()));
    fs.write("f", 0, "C").unwrap();
    assert_eq!(fs.read("f").unwrap(), "Content");
    fs.rename("f", "g").unwrap();
    assert_eq!(settled(&s, fs)["g"].content, b"Content");
}

/// A redirect is a path in the layers below, where directories may have been moved as well, and files twice.
#[test]
fn redirects_of_metacopy_files_lead_through_those_of_directories() {
    let s = Stack::new(3);
    let redirect =
        |tree: &Tree, path: &str, to: &str| _ = tree.dir(path).xattr(path, &marker("redirect"), to.as_bytes());
    let metacopy = |tree: &Tree, path: &str, to: &str| {
        metacopy_of(tree, path, 1);
        tree.xattr(path, &marker("redirect"), to.as_bytes());
        tree.xattr(path.split_once('/').map_or("", |(dir, _)| dir), &marker("impure"), b"y");
    };
    s.lower(3).file("a/f", "a").file("b/f", "b").file("x/h", "x").file("top", "t").file("o/f", "o");
    redirect(&s.lower(2), "b", "a");
    metacopy(&s.lower(2), "x/g", "h");
    s.lower(2).dir("o").xattr("o", &marker("opaque"), b"y").aufs_whiteout("gone");
    s.lower(3).file("gone", "g");
    for (path, to) in [("f", "/b/f"), ("y/f", "/x/g"), ("t", "/top"), ("o", "/o/f"), ("g", "/gone")] {
        metacopy(&s.lower(1), path, to);
    }
    let fs = s.mount();
    for (path, content) in [("f", "a"), ("y/f", "x"), ("t", "t")] {
        assert_eq!(fs.read(path).unwrap(), content, "{path}");
    }
    for hidden in ["o", "g"] {
        assert_eq!(errno(fs.read(hidden)), libc::EIO, "{hidden}");
    }
}

#[test]
fn a_metacopy_file_without_data_below_cannot_be_read() {
    let s = Stack::new(1);
    metacopy_of(&s.upper(), "f", 100);
    let fs = s.mount();
    assert_eq!(errno(fs.read("f")), libc::EIO, "zeros would be wrong data");
}

fn user_metacopy_of(tree: &Tree, path: &str, redirect: Option<&str>) {
    tree.file(path, "own").xattr(path, "user.overlay.metacopy", b"").xattr("", &marker("impure"), b"y");
    if let Some(redirect) = redirect {
        tree.xattr(path, "user.overlay.redirect", redirect.as_bytes());
    }
}

#[test]
fn metacopy_files_of_ordinary_users_show_nobody_elses_data_in_roots_mounts() {
    for in_upper in [true, false] {
        for redirect in [None, Some("/secret"), Some("secret")] {
            for data_only in [false, true] {
                let mut s = Stack::new(2);
                if data_only {
                    s.add_data().file("secret", "key");
                }
                user_metacopy_of(&if in_upper { s.upper() } else { s.lower(1) }, "f", redirect);
                s.lower(2).file("f", "low").file("secret", "key");
                let fs = s.mount();
                let expected = match redirect {
                    _ if root() => "own",
                    None => "low",
                    Some(_) => "key",
                };
                assert_eq!(fs.read("f").unwrap(), expected, "{redirect:?}, upper: {in_upper}");
                fs.write("f", 3, "+").unwrap();
                assert_eq!(fs.read("f").unwrap(), format!("{expected}+"));
                settled(&s, fs);
            }
        }
    }
}

/// A file that is rightly metadata only says where its data is by a trusted attribute or not at all: its owner can add
/// the other.
#[test]
fn a_redirect_added_to_a_metacopy_file_by_its_owner_leads_nowhere_in_roots_mounts() {
    if !root() {
        return; // all redirects are such there
    }
    for (in_upper, redirect) in [(true, "/secret"), (false, "/secret"), (true, "secret"), (false, "secret")] {
        let s = Stack::new(3);
        let tree = if in_upper { s.upper() } else { s.lower(1) };
        metacopy_of(&tree, "f", 3);
        tree.xattr("f", "user.overlay.redirect", redirect.as_bytes());
        s.lower(3).file("f", "low").file("secret", "key");
        assert_eq!(s.mount().read("f").unwrap(), "low", "{redirect}, upper: {in_upper}");
    }
    // The same in a file that a metacopy file leads to.
    let s = Stack::new(2);
    metacopy_of(&s.upper(), "f", 3);
    user_metacopy_of(&s.lower(1), "f", Some("/secret"));
    s.lower(2).file("f", "low").file("secret", "key");
    assert_eq!(s.mount().read("f").unwrap(), "own");
}
