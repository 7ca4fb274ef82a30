//! Whiteouts, opaque directories, duplicates and changes of type (image-spec, layer.md).

use super::build::{Layer, head, layer, refused, tar};

fn base() -> Layer {
    let base = tar().dir("d").file("d/a", "a").file("d/b", "b").dir("d/e").file("d/e/f", "f").file("top", "t");
    layer(base, &[])
}

#[test]
fn whiteouts_become_devices_where_something_is_below() {
    let base = base();
    let tar = tar().file("d/.wh.a", "").file(".wh.top", "").file("d/.wh.absent", "").file(".wh.nothing", "");
    layer(tar.file("d/c", "c"), &[&base]).assert_tree(&[
        ("d", "dir"),
        ("d/a", "whiteout"),
        ("d/c", "c"),
        ("top", "whiteout"),
    ]);
}

#[test]
fn a_whiteout_below_hides_what_is_further_down() {
    let base = base();
    let middle = layer(tar().file(".wh.top", ""), &[&base]);
    layer(tar().file(".wh.top", "").file("x", ""), &[&middle, &base]).assert_tree(&[("x", "")]);
    let opaque = layer(tar().file("d/.wh..wh..opq", ""), &[&base]);
    layer(tar().file("d/.wh.a", ""), &[&opaque, &base]).assert_tree(&[("d", "dir")]);
}

#[test]
fn a_whiteout_and_a_file_of_one_layer_leave_the_file() {
    let base = base();
    for tar in [tar().file(".wh.top", "").file("top", "new"), tar().file("top", "new").file(".wh.top", "")] {
        layer(tar, &[&base]).assert_tree(&[("top", "new")]);
    }
}

#[test]
fn a_whiteout_and_entries_beneath_make_the_directory_opaque() {
    let base = base();
    let want = [("d", "dir (opaque)"), ("d/x", "x")];
    layer(tar().file(".wh.d", "").file("d/x", "x"), &[&base]).assert_tree(&want);
    layer(tar().file("d/x", "x").file(".wh.d", ""), &[&base]).assert_tree(&want);
    layer(tar().dir("d").file(".wh.d", "").file("d/x", "x"), &[&base]).assert_tree(&want);
}

#[test]
fn opaque_markers_work_in_any_order_and_drop_plain_whiteouts() {
    let base = base();
    let want = [("d", "dir (opaque)"), ("d/x", "x")];
    let opaque = |tar: super::build::Tar| tar.file("d/.wh..wh..opq", "");
    let whiteout = |tar: super::build::Tar| tar.file("d/.wh.a", "");
    layer(whiteout(opaque(tar().dir("d")).file("d/x", "x")), &[&base]).assert_tree(&want);
    layer(opaque(whiteout(tar().dir("d").file("d/x", "x"))), &[&base]).assert_tree(&want);
    layer(opaque(tar().file("d/x", "x")), &[&base]).assert_tree(&want);
}

#[test]
fn whiteouts_below_an_opaque_directory_have_nothing_to_hide() {
    let base = base();
    let tar = tar().file("d/.wh..wh..opq", "").file("d/e/.wh.f", "").file("d/e/.wh..wh..opq", "");
    layer(tar, &[&base]).assert_tree(&[("d", "dir (opaque)"), ("d/e", "dir (opaque)")]);
}

#[test]
fn an_opaque_root_hides_everything_by_name() {
    let base = base();
    let tar = tar().file("top", "new").file(".wh..wh..opq", "").file("d/x", "");
    layer(tar, &[&base]).assert_tree(&[("d", "dir (opaque)"), ("d/x", ""), ("top", "new")]);
    layer(super::build::tar().file(".wh..wh..opq", ""), &[&base])
        .assert_tree(&[("d", "whiteout"), ("top", "whiteout")]);
}

#[test]
fn whiteouts_of_no_name_are_errors() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh."] {
        let message = refused(tar().file(name, ""));
        assert!(message.contains(&format!("'{name}'")) && message.contains("whiteout of no name"), "{message}");
    }
    let message = refused(tar().file(".wh.a/b", ""));
    assert!(message.contains(".wh."), "{message}");
}

#[test]
fn leftovers_of_aufs_are_skipped() {
    let tar = tar().file(".wh..wh.aufs", "").dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x").dir(".wh..wh.orph");
    layer(tar.file("a", ""), &[]).assert_tree(&[("a", "")]);
}

#[test]
fn the_last_of_several_entries_wins() {
    let tar = tar().file("f", "one").file("f", "two").dir("d").file("d/a", "a");
    let tar = tar.raw(head(b'5', "d").mode(0o700).mtime(5));
    let layer = layer(tar, &[]);
    layer.assert_tree(&[("d", "dir"), ("d/a", "a"), ("f", "two")]);
    assert_eq!((layer.stat("d").mode & 0o7777, layer.stat("d").mtime.sec), (0o700, 5));
}

#[test]
fn an_attribute_of_an_earlier_entry_is_gone() {
    let tar = tar().pax(&[("SCHILY.xattr.user.a", b"1")]).dir("d").dir("d");
    assert_eq!(layer(tar, &[]).xattr("d", c"user.a"), None);
}

#[test]
fn types_change_within_a_layer() {
    let all = tar().dir("x").file("x/a", "a").dir("x/b").file("x/b/c", "c");
    layer(all.clone().file("x", "file"), &[]).assert_tree(&[("x", "file")]);
    layer(all.clone().symlink("x", "y"), &[]).assert_tree(&[("x", "-> y")]);
    layer(all.raw(head(b'6', "x")), &[]).assert_tree(&[("x", "fifo")]);
    layer(tar().file("x", "f").dir("x").file("x/a", "a"), &[]).assert_tree(&[("x", "dir"), ("x/a", "a")]);
    layer(tar().symlink("x", "/").dir("x").file("x/a", "a"), &[]).assert_tree(&[("x", "dir"), ("x/a", "a")]);
    layer(tar().raw(head(b'6', "x")).file("x", "f"), &[]).assert_tree(&[("x", "f")]);
}

#[test]
fn links_of_the_same_layer_are_resolved_inside_it() {
    for target in ["real", "/real", "../../real", "./real/.", "/../real/"] {
        let tar = tar().dir("real").symlink("l", target).file("l/a", "a").file("l/.wh.gone", "").dir("l/d");
        let want = [("l", format!("-> {target}")), ("real", "dir".into()), ("real/a", "a".into())];
        let mut want: Vec<_> = want.iter().map(|(path, what)| (*path, what.as_str())).collect();
        want.push(("real/d", "dir"));
        layer(tar, &[]).assert_tree(&want);
    }
    let dangling = tar().symlink("bin", "usr/bin").file("bin/sh", "sh");
    layer(dangling, &[]).assert_tree(&[
        ("bin", "-> usr/bin"),
        ("usr", "dir"),
        ("usr/bin", "dir"),
        ("usr/bin/sh", "sh"),
    ]);
    let message = refused(tar().symlink("a", "b").symlink("b", "a").file("a/x", ""));
    assert!(message.contains("'a/x'") && message.contains("too many symbolic links"), "{message}");
}

#[test]
fn a_link_in_a_layer_below_is_shadowed_by_a_directory() {
    let base = layer(tar().dir("real").symlink("l", "real"), &[]);
    layer(tar().file("l/a", "a"), &[&base]).assert_tree(&[("l", "dir"), ("l/a", "a")]);
}

#[test]
fn a_file_is_no_parent() {
    let message = refused(tar().file("a", "").file("a/b", ""));
    assert!(message.contains("'a/b'") && message.contains("lies below 'a'"), "{message}");
}

/// As umoci writes it when a directory was replaced by something else.
#[test]
fn whiteouts_below_what_is_no_directory_any_more_hide_nothing_else() {
    let base = tar().dir("d").file("d/a", "a").dir("other").file("other/a", "other");
    let base = layer(base, &[]);
    for whiteout in ["d/.wh.a", "d/.wh..wh..opq", "d/sub/.wh.a"] {
        for (tar, want) in [(tar().file("d", "file"), "file"), (tar().symlink("d", "other"), "-> other")] {
            layer(tar.clone().file(whiteout, ""), &[&base]).assert_tree(&[("d", want)]);
            layer(super::build::tar().file(whiteout, "").bytes(&tar.0), &[&base]).assert_tree(&[("d", want)]);
        }
    }
}

#[test]
fn whiteouts_of_the_longest_names() {
    let long = "n".repeat(255);
    let base = layer(tar().dir("d").pax(&[("path", format!("d/{long}").as_bytes())]).file("x", "x"), &[]);
    let whiteout = tar().pax(&[("path", format!("d/.wh.{long}").as_bytes())]).file("x", "");
    layer(whiteout, &[&base]).assert_tree(&[("d", "dir"), (&format!("d/{long}"), "whiteout")]);
}
