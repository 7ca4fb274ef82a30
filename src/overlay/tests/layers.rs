//! What the merged view is made of: precedence, whiteouts and opaque directories as they are found in layers, and which
//! directories can be layers.

use super::harness::{Stack, errno, settled};
use super::tree::{Tree, marker, root};
use crate::overlay::{New, OpenError, Options, Overlay, RenameMode};

/// The forms of a whiteout, each made at a path of a layer.
const WHITEOUTS: [fn(&Tree, &str); 3] =
    [|t, p| _ = t.whiteout(p), |t, p| _ = t.aufs_whiteout(p), |t, p| _ = t.xattr_whiteout(p)];

/// The forms of an opaque directory, each made at a path of a layer.
pub const OPAQUES: [fn(&Tree, &str); 4] = [
    |t, p| _ = t.opaque(p),
    |t, p| _ = t.dir(p).xattr(p, "user.overlay.opaque", b"y"),
    |t, p| _ = t.dir(p).xattr(p, "user.fuseoverlayfs.opaque", b"y"),
    |t, p| _ = t.dir(p).file(format!("{p}/.wh..wh..opq").trim_start_matches('/'), ""),
];

#[test]
fn the_topmost_layer_that_has_a_name_decides() {
    let s = Stack::new(2);
    s.upper().file("a", "upper");
    s.lower(1).file("a", "1").file("b", "1").file("d/one", "1");
    s.lower(2).file("a", "2").file("b", "2").file("c", "2").file("d/two", "2").file("d/one", "2");
    let fs = s.mount();
    let shown = ["a", "b", "c", "d/one", "d/two"].map(|p| fs.read(p).unwrap());
    assert_eq!(shown, ["upper", "1", "2", "1", "2"]);
    assert_eq!((fs.list(""), fs.list("d")), (names("a b c d"), names("one two")));
}

pub fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_whiteout_in_any_form_hides_the_name_below() {
    for (n, whiteout) in WHITEOUTS.iter().enumerate() {
        for layer in 0..2 {
            let s = Stack::new(2);
            let tree = if layer == 0 { s.upper() } else { s.lower(1) };
            tree.dir("d");
            for path in ["f", "dir", "d/f", "d/dir"] {
                whiteout(&tree, path);
            }
            s.lower(2).file("f", "").file("dir/x", "").file("d/f", "").file("d/dir/x", "").file("d/seen", "");
            let fs = s.mount();
            assert_eq!((fs.list(""), fs.list("d")), (names("d"), names("seen")), "form {n}, layer {layer}");
            for path in ["f", "dir", "d/f", "d/dir", ".wh.f", "d/.wh.f"] {
                assert!(!fs.exists(path), "{path}, form {n}, layer {layer}");
            }
            settled(&s, fs);
        }
    }
}

#[test]
fn a_whiteout_hides_its_own_path_only() {
    for whiteout in WHITEOUTS {
        let s = Stack::new(2);
        whiteout(&s.lower(1), "x");
        s.lower(2).file("x", "").file("d/x", "still here").file("d/e/x", "and here");
        let fs = s.mount();
        assert!(!fs.exists("x"));
        assert!(fs.exists("d/x") && fs.exists("d/e/x"));
    }
}

#[test]
fn a_whiteout_file_acts_on_the_layers_below_its_own_only() {
    let s = Stack::new(2);
    s.lower(1).aufs_whiteout("a").file("a/new", "").aufs_whiteout("f").file("f", "new");
    s.lower(2).file("a/old", "").file("f", "old");
    let fs = s.mount();
    assert_eq!(fs.list("a"), ["new"], "visible, and opaque towards what is below");
    assert_eq!(fs.read("f").unwrap(), "new");
}

#[test]
fn a_whiteout_in_a_middle_layer_ends_the_merging() {
    for whiteout in WHITEOUTS {
        let s = Stack::new(3);
        s.upper().file("d/upper", "");
        s.lower(1).file("d/one", "");
        whiteout(&s.lower(2), "d");
        s.lower(3).file("d/three", "");
        let fs = s.mount();
        assert!(!fs.exists("d/three"));
        assert_eq!(fs.list("d"), ["one", "upper"]);
    }
}

#[test]
fn a_file_in_a_middle_layer_ends_the_merging() {
    let s = Stack::new(3);
    s.lower(1).file("d/one", "");
    s.lower(2).file("d", "a file");
    s.lower(3).file("d/three", "");
    let fs = s.mount();
    assert_eq!(fs.list("d"), ["one"]);
    fs.rename("d", "e").unwrap();
    assert_eq!(fs.list("e"), ["one"]);
    assert!(!fs.exists("d"), "the file below must not show either");
    settled(&s, fs);
}

#[test]
fn an_opaque_directory_in_any_form_hides_what_is_below_in_every_order_of_access() {
    let orders: [&[&str]; 5] = [
        &["d/old", "d", "d/new", "d/sub/old"],
        &["d/sub/old", "d/old"],
        &["d/new", "d/sub", "d/sub/old", "d/old"],
        &["d/sub/new", "d/sub/old"],
        &["d/upper", "d/old", "d/sub/old"],
    ];
    for (form, opaque) in OPAQUES.iter().enumerate() {
        for order in orders {
            let s = Stack::new(3);
            s.upper().file("d/upper", "");
            opaque(&s.lower(2), "d");
            s.lower(2).file("d/new", "").file("d/sub/new", "");
            s.lower(3).file("d/old", "").file("d/sub/old", "");
            let fs = s.mount();
            for path in order {
                assert_eq!(fs.exists(path), !path.ends_with("old"), "{path} in {order:?}, form {form}");
            }
            assert_eq!(fs.list("d"), ["new", "sub", "upper"], "form {form}");
            assert_eq!(fs.list("d/sub"), ["new"], "form {form}");
            settled(&s, fs);
        }
    }
}

#[test]
fn an_opaque_upper_directory_hides_all_lower_layers() {
    for opaque in OPAQUES {
        let s = Stack::new(2);
        opaque(&s.upper(), "d");
        s.upper().file("d/upper", "");
        s.lower(1).file("d/one", "");
        s.lower(2).file("d/two", "");
        let fs = s.mount();
        assert_eq!(fs.list("d"), ["upper"]);
        assert!(!fs.exists("d/one"));
        fs.create("d/one").unwrap();
        fs.unlink("d/one").unwrap();
        assert!(!s.upper().has("d/one"), "no whiteout in an opaque directory");
        fs.unlink("d/upper").unwrap();
        fs.rmdir("d").unwrap();
        assert!(!fs.exists("d"));
        assert!(!settled(&s, fs).contains_key("d"));
    }
}

#[test]
fn an_opaque_root_of_a_layer_hides_the_layers_below() {
    for opaque in OPAQUES {
        let s = Stack::new(2);
        opaque(&s.lower(1), "");
        s.lower(1).file("one", "");
        s.lower(2).file("two", "");
        assert_eq!(s.mount().list(""), ["one"]);
    }
}

#[test]
fn opaque_x_marks_xattr_whiteouts_and_hides_nothing_else() {
    let s = Stack::new(2);
    s.lower(1).dir("d").xattr_whiteout("d/gone");
    s.lower(2).file("d/gone", "").file("d/seen", "");
    assert_eq!(s.mount().list("d"), ["seen"]);
}

#[test]
fn an_empty_file_is_a_whiteout_only_where_both_marks_are() {
    let s = Stack::new(2);
    s.lower(1).file("d/f", "").file("e/f", "").xattr("e", &marker("opaque"), b"x");
    s.lower(2).file("d/f", "below").file("e/f", "below");
    let fs = s.mount();
    assert_eq!((fs.read("d/f").unwrap(), fs.read("e/f").unwrap()), (String::new(), String::new()));
}

#[test]
fn a_merged_directory_has_the_attributes_of_its_topmost_copy() {
    let s = Stack::new(2);
    s.lower(1).dir("d").chmod("d", 0o1750).chown("d", 7, 8).mtime("d", 77, 7);
    s.lower(2).dir("d").chmod("d", 0o700);
    let attr = s.mount().attr("d").unwrap();
    assert_eq!((attr.mode & 0o7777, attr.mtime.sec, attr.nlink), (0o1750, 77, 1));
    assert!(!root() || (attr.uid, attr.gid) == (7, 8));
}

#[test]
fn nothing_can_be_changed_without_an_upper_directory() {
    let mut s = Stack::new(2);
    s.lower(1).file("f", "1").file("d/x", "").whiteout("gone");
    s.lower(2).file("gone", "");
    (s.options.upper, s.options.work) = (None, None);
    let fs = s.mount();
    let errors = [
        errno(fs.create("new")),
        errno(fs.mkdir("new")),
        errno(fs.unlink("f")),
        errno(fs.rmdir("d")),
        errno(fs.rename("f", "g")),
        errno(fs.link("f", "g")),
        errno(fs.write("f", 0, "x")),
        errno(fs.chmod("f", 0o600)),
        errno(fs.set_xattr("f", "user.a", "b")),
        errno(fs.remove_xattr("f", "user.a")),
    ];
    assert_eq!(errors, [libc::EROFS; 10]);
    assert_eq!((fs.list(""), fs.read("f").unwrap()), (names("d f"), "1".into()));
}

#[test]
fn names_of_whiteouts_cannot_be_made_and_are_not_found() {
    let s = Stack::new(1);
    s.lower(1).file("f", "").file("d/x", "");
    let fs = s.mount();
    for name in [".wh.f", "d/.wh.x", ".wh..wh..opq", "d/.wh.", ".wh..wh.plnk"] {
        let errors = [
            errno(fs.create(name)),
            errno(fs.mkdir(name)),
            errno(fs.symlink("t", name)),
            errno(fs.make(name, New::Node(libc::S_IFIFO, 0, 0), 0o600, 0, super::harness::me())),
            errno(fs.link("f", name)),
            errno(fs.rename("f", name)),
            errno(fs.rename_as("f", name, RenameMode::NoReplace)),
        ];
        assert_eq!(errors, [libc::EPERM; 7], "{name}");
        assert!(!fs.exists(name));
    }
    assert!(fs.exists("f") && fs.exists("d/x"));
    settled(&s, fs);
}

#[test]
fn names_may_have_255_bytes() {
    let s = Stack::new(1);
    let (long, too_long) = ("n".repeat(255), "n".repeat(256));
    s.lower(1).file(&long, "lower");
    let fs = s.mount();
    assert_eq!(fs.read(&long).unwrap(), "lower");
    fs.unlink(&long).unwrap();
    fs.create(&long).unwrap();
    let errors = [errno(fs.attr(&too_long)), errno(fs.create(&too_long)), errno(fs.rename(&long, &too_long))];
    assert_eq!(errors, [libc::ENAMETOOLONG; 3]);
    settled(&s, fs);
}

/// Opens the stack with these directories in place of some; the roles of the two that overlap, inner first.
fn overlap(s: &Stack, change: impl FnOnce(&mut Options)) -> Option<(&'static str, &'static str)> {
    let mut options = s.options.clone();
    change(&mut options);
    match Overlay::open(&options).map(drop) {
        Ok(()) => None,
        Err(OpenError::Overlap { inner_role, outer_role, .. }) => Some((inner_role, outer_role)),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn layers_that_lie_in_upper_or_work_or_hold_them_are_refused() {
    let mut s = Stack::new(1);
    s.add_data();
    for tree in [s.upper(), s.work(), s.lower(1), Tree(s.options.data_only[0].clone())] {
        tree.dir("in/side");
    }
    let all = s.upper().0.parent().unwrap().to_owned();
    std::os::unix::fs::symlink(s.upper().path("in"), all.join("by-another-name")).unwrap();
    let (upper, work) = (s.upper(), s.work());
    type Put = fn(&mut Options, std::path::PathBuf);
    let lower: Put = |o, p| o.lower[0] = p;
    let added: Put = |o, p| o.lower.push(p);
    let data: Put = |o, p| o.data_only[0] = p;
    for put in [lower, added, data] {
        for (path, inner, outer) in [
            (upper.path(""), "upperdir", "lower layer"),
            (upper.path("in"), "lower layer", "upperdir"),
            (upper.path("in/side"), "lower layer", "upperdir"),
            (upper.path("in/../in"), "lower layer", "upperdir"),
            (all.join("by-another-name"), "lower layer", "upperdir"),
            (all.join("by-another-name/side"), "lower layer", "upperdir"),
            (work.path("in"), "lower layer", "workdir"),
            (all.clone(), "upperdir", "lower layer"),
        ] {
            let shown = path.display().to_string();
            assert_eq!(overlap(&s, |o| put(o, path)), Some((inner, outer)), "{shown}");
        }
    }
    for below in [s.options.lower[0].join("in"), s.options.data_only[0].join("in/side")] {
        assert_eq!(overlap(&s, |o| o.upper = Some(below.clone())), Some(("upperdir", "lower layer")));
        assert_eq!(overlap(&s, |o| o.work = Some(below.clone())), Some(("workdir", "lower layer")));
    }
    assert_eq!(overlap(&s, |o| o.work = Some(upper.path("in"))), Some(("workdir", "upperdir")));
    assert_eq!(overlap(&s, |o| o.upper = Some(work.path("in"))), Some(("upperdir", "workdir")));
    // A name that only begins alike is another directory, and layers may lie in each other.
    let alike = all.join("upper-not");
    std::fs::create_dir(&alike).unwrap();
    assert_eq!(overlap(&s, |o| o.data_only[0] = alike), None);
    let inside = s.options.lower[0].join("in");
    assert_eq!(overlap(&s, |o| o.lower.push(inside)), None);
}
