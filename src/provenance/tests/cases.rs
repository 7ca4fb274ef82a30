//! Cases that random stacks do not have.

use super::sources;
use crate::provenance::layer::add_text;
use crate::provenance::{
    Action, Content, Delta, LayerDirectory, Lost, Merged, NodeId, Reason, Side, Stack, Touch, View, differences,
};
use crate::sys::{self, RenameFlags};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tar::EntryType::{Link, Regular, Symlink};

fn merged(dir: &Path, lower: &[&str]) -> Merged {
    let layers = lower.iter().map(|name| LayerDirectory::new(dir.join(name))).collect();
    Merged::of_directories("test", None, layers).unwrap()
}

fn write(dir: &Path, path: &str, content: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn shown(merged: &Merged) -> Vec<String> {
    let walk = merged.walk(NodeId::ROOT, merged.top(), None).skip(1);
    walk.map(|(node, found, _)| format!("{} {}", merged.path(node).escape_ascii(), found.layer())).collect()
}

#[test]
fn links_on_the_way_stay_inside() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, "1/usr/bin/sh", "#!");
    symlink("usr/bin", dir.join("1/bin")).unwrap();
    symlink("/bin/sh", dir.join("1/usr/bin/dash")).unwrap();
    symlink("../../../../usr", dir.join("1/up")).unwrap();
    symlink("loop", dir.join("1/loop")).unwrap();
    let merged = merged(dir, &["1"]);
    let top = merged.top();
    let resolve = |path: &str, follow| merged.resolve(path.as_bytes(), top, follow);
    let path = |node| String::from_utf8(merged.path(node)).unwrap();
    for (from, to) in
        [("/bin/sh", "usr/bin/sh"), ("bin/dash", "usr/bin/sh"), ("up/bin/../bin/./sh", "usr/bin/sh"), ("/..", "")]
    {
        assert_eq!(resolve(from, true).map(path).unwrap(), to, "{from}");
    }
    assert_eq!(resolve("bin/dash", false).map(path).unwrap(), "usr/bin/dash");
    assert_eq!(resolve("loop", true), Err(Lost::TooManyLinks));
    assert_eq!(resolve("bin/no", true), Err(Lost::Never));
    // As the kernel has it: what has a slash or a dot behind it is a directory, and a link is followed for it.
    for below in ["bin/sh/x", "bin/sh/", "bin/sh/.", "bin/sh/..", "bin/sh/../sh", "bin/dash/", "usr/bin/dash/.."] {
        for follow in [true, false] {
            assert!(matches!(resolve(below, follow), Err(Lost::NotADirectory(_))), "{below}");
            assert!(fs::metadata(dir.join("1").join(below)).is_err(), "{below}");
        }
        assert_eq!(merged.trace(below.as_bytes(), top, true), None, "{below}");
    }
    assert_eq!(resolve("bin/", false).map(path).unwrap(), "usr/bin");
    assert_eq!(resolve("bin", false).map(path).unwrap(), "bin");
    assert_eq!(resolve("usr/bin//./", false).map(path).unwrap(), "usr/bin");
}

#[test]
fn a_redirect_that_is_too_long_is_named() {
    let mut text = b"before".to_vec();
    let error = add_text(&mut text, &[b'x'; 1 << 16]).unwrap_err().to_string();
    assert_eq!(error, "too large to be inspected: a symbolic link or redirect in a layer is longer than 64 KiB");
    assert_eq!(text, b"before");
    assert_eq!(add_text(&mut text, &[b'x'; (1 << 16) - 1]).unwrap().start, 6);
}

/// What is hidden is told of the path that was asked for, and of no other.
#[test]
fn what_is_hidden_is_traced() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, "1/b/x", "old");
    write(dir, "1/bin/sh", "old");
    write(dir, "1/bin/gone", "old");
    write(dir, "1/usr/bin/old", "old");
    symlink("/b/x", dir.join("1/dangling")).unwrap();
    write(dir, "2/.wh.b", "");
    write(dir, "2/usr/bin/sh", "new");
    write(dir, "2/usr/bin/.wh.old", "");
    symlink("usr/bin", dir.join("2/bin")).unwrap();
    let merged = merged(dir, &["1", "2"]);
    let top = merged.top();
    let text = |node| String::from_utf8(merged.path(node)).unwrap();
    let trace = |path: &str, follow| {
        merged.trace(path.as_bytes(), top, follow).map(|(node, itself)| (text(node), itself.map(text)))
    };
    for (path, follow, leads_to) in [
        ("b/x", false, Some(("b/x", None))),
        ("b/x", true, Some(("b/x", None))),
        ("b/c/b", false, None),
        ("dangling", false, Some(("dangling", None))),
        // The link itself is seen, so that nobody who follows it asks for it.
        ("dangling", true, Some(("b/x", None))),
        ("bin/sh", false, Some(("usr/bin/sh", Some("bin/sh")))),
        ("bin/sh", true, Some(("usr/bin/sh", Some("bin/sh")))),
        ("bin/gone", true, Some(("bin/gone", None))),
        ("bin/old", false, Some(("usr/bin/old", None))),
        ("bin", false, Some(("bin", None))),
        ("bin", true, Some(("usr/bin", None))),
        ("bin/none", false, None),
    ] {
        let leads_to = leads_to.map(|(node, itself): (&str, Option<&str>)| (node.into(), itself.map(Into::into)));
        assert_eq!(trace(path, follow), leads_to, "{path}, {follow}");
    }
}

#[test]
fn a_renamed_directory_shows_what_it_had_below() {
    if !sys::process::is_root() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, "1/old/deep/file", "1");
    write(dir, "1/old/gone", "22");
    write(dir, "2/old/two", "333");
    write(dir, "1/new/other", "4444");
    fs::create_dir_all(dir.join("3/new")).unwrap();
    let mark = |path: &str, name: &std::ffi::CStr, value: &[u8]| {
        let fd = sys::open_root(&dir.join(path)).unwrap();
        sys::xattr::set(sys::At::Fd(std::os::fd::AsFd::as_fd(&fd)), name, value, 0).unwrap();
    };
    mark("3/new", c"trusted.overlay.redirect", b"old");
    fs::write(dir.join("3/.wh.old"), "").unwrap();
    fs::write(dir.join("3/new/.wh.gone"), "").unwrap();
    let merged = merged(dir, &["1", "2", "3"]);
    assert_eq!(shown(&merged), ["new 3", "new/deep 1", "new/deep/file 1", "new/two 2"]);
    let waste = merged.waste().unwrap();
    let hidden: Vec<(String, Reason)> =
        waste.hidden.iter().map(|h| (merged.path(h.node).escape_ascii().to_string(), h.reason)).collect();
    assert_eq!(hidden, [("new/other".into(), Reason::ParentReplaced), ("old/gone".into(), Reason::ParentDeleted)]);
    let two = merged.find(b"new/two").unwrap();
    assert_eq!(merged.visible(two, merged.number(2).unwrap()), None, "before it was renamed");
    let summary = merged.summaries()[2];
    // new/deep, its file and new/two come into a directory that was there; old goes, and so do new/other and nothing else.
    assert_eq!((summary.added, summary.changed, summary.deleted), (3, 0, 2));
}

/// What each layer does at a path of directories that were moved, and where in the layer that is.
#[test]
fn paths_in_directories_that_were_moved_are_told_as_they_are_in_their_layers() {
    if !sys::process::is_root() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, "1/a/in/f", "one");
    write(dir, "1/a/in/g", "one");
    write(dir, "1/b/in/f", "other");
    write(dir, "2/a/in/f", "twice");
    write(dir, "2/a/in/.wh.g", "");
    let redirect = |path: &str, to: &[u8]| {
        fs::create_dir_all(dir.join(path)).unwrap();
        let fd = sys::open_root(&dir.join(path)).unwrap();
        sys::xattr::set(sys::At::Fd(fd.as_fd()), c"trusted.overlay.redirect", to, 0).unwrap();
    };
    // a takes the place of b, and is then moved once more.
    redirect("3/b", b"a");
    write(dir, "3/.wh.a", "");
    write(dir, "3/b/in/h", "new");
    redirect("4/x/c", b"/b");
    write(dir, "4/.wh.b", "");
    write(dir, "4/x/c/in/f", "four");
    let merged = merged(dir, &["1", "2", "3", "4"]);
    let told = |path: &str| -> Vec<String> {
        let node = merged.find(path.as_bytes()).unwrap();
        let touch = |touch: &Touch<'_>| {
            let text = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
            let moved = [("from", &touch.moved_from), ("to", &touch.moved_to)];
            let moved =
                moved.map(|(how, path)| path.as_ref().map_or(String::new(), |path| format!(" {how} {}", text(path))));
            let hidden = touch.found.and_then(|found| {
                let (above, culprit) = merged.culprit(node, found)?;
                let at = text(&merged.path_in_layer(above, culprit));
                Some(format!(", {:?} by {} at {at}", found.end, found.hidden_by().unwrap()))
            });
            let hidden = hidden.unwrap_or_default();
            format!("{} {:?} {}{}{hidden}", touch.layer, touch.action, text(&touch.at), moved.concat())
        };
        merged.touches(node).unwrap().iter().map(touch).collect()
    };
    let moves = ["4 MovesParent x/c from b", "3 MovesParent b from a"];
    assert_eq!(
        told("x/c/in/f"),
        [
            "4 ChangesContent x/c/in/f",
            moves[0],
            moves[1],
            "2 ChangesContent a/in/f, Superseded by 4 at x/c/in/f",
            "1 Adds a/in/f, Superseded by 2 at a/in/f"
        ]
    );
    assert_eq!(told("x/c/in/h"), [moves[0], "3 Adds b/in/h"]);
    assert_eq!(told("x/c/in/g"), [moves[0], moves[1], "2 Deletes a/in/g", "1 Adds a/in/g, Deleted by 2 at a/in/g"]);
    assert_eq!(told("x/c"), ["4 Adds x/c from b"]);
    assert_eq!(
        told("b"),
        ["4 Deletes b to x/c", "3 Replaces b from a, Deleted by 4 at b", "1 Adds b, Superseded by 3 at b"]
    );
    assert_eq!(
        told("b/in/f"),
        [
            "4 HidesParent(ParentDeleted) b to x/c",
            "3 MovesParent b from a",
            "2 ChangesContent a/in/f, ParentDeleted by 4 at b",
            "1 Adds a/in/f, Superseded by 2 at a/in/f",
            "1 Adds b/in/f, ParentReplaced by 3 at b"
        ]
    );
    assert_eq!(
        told("a/in/f"),
        [
            "3 HidesParent(ParentDeleted) a to b",
            "2 ChangesContent a/in/f, ParentDeleted by 3 at a",
            "1 Adds a/in/f, Superseded by 2 at a/in/f"
        ]
    );
    let counts: Vec<_> = merged.summaries().iter().map(|s| (s.added, s.changed, s.deleted)).collect();
    // b/in/f is another file, b/in/h comes, a goes; then x, x/c and three paths in it come.
    assert_eq!(counts, [(7, 0, 0), (0, 1, 1), (1, 1, 1), (5, 0, 1)]);
}

#[test]
fn data_below_a_metacopy_file_are_seen() {
    if !sys::process::is_root() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, "1/d/file", "content");
    write(dir, "2/d/file", "");
    fs::File::options().write(true).open(dir.join("2/d/file")).unwrap().set_len(7).unwrap();
    mark(&dir.join("2/d/file"), c"trusted.overlay.metacopy", b"");
    mark(&dir.join("2/d"), c"trusted.overlay.impure", b"");
    let merged = merged(dir, &["1", "2"]);
    let node = merged.find(b"d/file").unwrap();
    let found = merged.visible(node, merged.top()).unwrap();
    let mut content = Vec::new();
    merged.write_content(node, found, &mut content).unwrap();
    assert_eq!(content, b"content");
    let waste = merged.waste().unwrap();
    assert_eq!((waste.wasted, waste.total), (0, 7));
    assert!(merged.touches(node).unwrap()[0].difference.attributes().iter().all(|word| *word == "mtime"));
}

/// A file of `layer/path` without data of its own.
fn metacopy(dir: &Path, path: &str, redirect: Option<&str>) {
    write(dir, path, "");
    mark(&dir.join(path), c"trusted.overlay.metacopy", b"");
    if let Some(redirect) = redirect {
        mark(&dir.join(path), c"trusted.overlay.redirect", redirect.as_bytes());
    }
    mark(dir.join(path).parent().unwrap(), c"trusted.overlay.impure", b"y");
}

fn mark(path: &Path, name: &std::ffi::CStr, value: &[u8]) {
    sys::xattr::set(sys::At::Fd(fs::File::open(path).unwrap().as_fd()), name, value, 0).unwrap();
}

/// The data of a metacopy file are where its directory came from, and a redirect is a path in the layers below it.
#[test]
fn data_of_metacopy_files_are_found_through_moved_directories() {
    if !sys::process::is_root() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let redirect = |path: &str, to: &[u8]| {
        fs::create_dir_all(dir.join(path)).unwrap();
        mark(&dir.join(path), c"trusted.overlay.redirect", to);
    };
    write(dir, "1/a/f", "in a");
    write(dir, "2/b/f", "in b");
    metacopy(dir, "3/a/f", None);
    redirect("4/b", b"/a");
    metacopy(dir, "5/b/f", None);
    metacopy(dir, "5/a/g", Some("/b/f"));
    // One redirect after the other, and one below a directory that moves on the way.
    write(dir, "1/x/h", "in x");
    metacopy(dir, "2/x/g", Some("h"));
    metacopy(dir, "3/y/f", Some("/x/g"));
    write(dir, "1/p/f", "in p");
    write(dir, "1/q/f", "in q");
    redirect("2/q", b"p");
    metacopy(dir, "3/g", Some("/q/f"));
    // What is opaque shows nothing, wherever its redirect leads.
    redirect("6/x", b"y");
    mark(&dir.join("6/x"), c"trusted.overlay.opaque", b"y");

    let merged = merged(dir, &["1", "2", "3", "4", "5", "6"]);
    let read = |path: &str, layer: usize| {
        let node = merged.find(path.as_bytes()).unwrap();
        let found = merged.visible(node, merged.number(layer).unwrap()).unwrap();
        let mut content = Vec::new();
        merged.write_content(node, found, &mut content).map(|()| String::from_utf8(content).unwrap())
    };
    let table = [
        ("b/f", 2, "in b"),
        ("a/f", 3, "in a"),
        ("b/f", 4, "in a"),
        ("b/f", 5, "in a"),
        ("a/g", 5, "in a"),
        ("y/f", 3, "in x"),
        ("g", 3, "in p"),
    ];
    for (path, layer, content) in table {
        assert_eq!(read(path, layer).unwrap(), content, "{path} up to {layer}");
    }
    assert!(merged.seen_children(merged.find(b"x").unwrap(), merged.top()).next().is_none());
    let node = merged.find(b"y/f").unwrap();
    let found = merged.visible(node, merged.top()).unwrap();
    let (number, path) = merged.data_of_metacopy(node, found).unwrap().unwrap();
    assert_eq!((number, path.as_slice()), (merged.number(1).ok(), &b"/x/h"[..]));
}

#[test]
fn one_layer_alone_has_its_whiteouts() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, "1/a", "1");
    write(dir, "2/.wh.a", "");
    let layers = Stack { lower: &[dir.join("1")], upper: Some(&dir.join("2")), ..Stack::default() }.layers();
    let merged = Merged::of_directories("test", None, layers).unwrap();
    assert!(shown(&merged).is_empty());
    let two = merged.number(2).unwrap();
    let alone: Vec<_> = merged.seen_children(NodeId::ROOT, View::Alone(two)).collect();
    assert!(alone.len() == 1 && merged.entry(alone[0].1).is_whiteout());
    assert!(merged.layer(two).facts.writable);
    let error = merged.number(3).unwrap_err().to_string();
    assert_eq!(error, "test has 2 layers, not 3");
}

#[test]
fn hostile_archives_are_refused_as_they_are_when_loaded() {
    let tar = |build: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    };
    let add = |builder: &mut tar::Builder<Vec<u8>>, kind, name: &str, target: Option<&str>| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(0);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(target) = target {
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
    };
    type Item<'a> = (tar::EntryType, &'a str, Option<&'a str>);
    let cases: &[(&[Item<'_>], &str)] = &[
        (&[(Regular, "../x", None)], "leads out of the layer"),
        (&[(Regular, "a", None), (Regular, "a/b", None)], "which this layer has as a file"),
        (&[(Symlink, "a", Some("a")), (Regular, "a/b", None)], "too many symbolic links"),
        (&[(Link, "a", Some("b")), (Link, "b", Some("a"))], "leads back to it"),
        (&[(Link, "a", Some("nothing"))], "neither in this layer nor below it"),
        (&[(Regular, ".wh.a/b", None)], "which only whiteouts may have"),
    ];
    for (entries, why) in cases {
        let tars = [tar(&|builder| entries.iter().for_each(|(kind, name, target)| add(builder, *kind, name, *target)))];
        let dir = tempfile::tempdir().unwrap();
        let error = std::panic::catch_unwind(|| sources::archive(dir.path(), &tars)).unwrap_err();
        let said = error.downcast_ref::<String>().unwrap();
        assert!(said.contains(why), "{said}");
        let unpacked = std::panic::catch_unwind(|| sources::directories(dir.path(), &tars)).unwrap_err();
        assert!(unpacked.downcast_ref::<String>().unwrap().contains(why), "load says something else");
    }
}

/// In the upper directory of a live mount names can come to mean something else at any moment.
#[test]
fn files_that_are_exchanged_before_they_are_read_are_not_opened() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    for name in ["fifo", "link", "dir", "gone", "grown"] {
        write(dir, &format!("1/{name}"), "text");
    }
    let merged = merged(dir, &["1"]);
    let root = sys::open_root(&dir.join("1")).unwrap();
    for name in ["fifo", "link", "dir", "gone"] {
        fs::remove_file(dir.join("1").join(name)).unwrap();
    }
    sys::mknod(root.as_fd(), OsStr::new("fifo"), libc::S_IFIFO | 0o600, 0, 0).unwrap();
    symlink("grown", dir.join("1/link")).unwrap();
    fs::create_dir(dir.join("1/dir")).unwrap();
    write(dir, "1/grown", "text and more");
    let found = |name: &str| {
        let node = merged.find(name.as_bytes()).unwrap();
        (node, merged.visible(node, merged.top()).unwrap())
    };
    for name in ["fifo", "link", "dir", "gone"] {
        let (node, file) = found(name);
        let errors =
            [merged.write_content(node, file, &mut Vec::new()).unwrap_err(), merged.content(node, file).unwrap_err()];
        for error in errors.map(|error| error.to_string()) {
            assert!(error.ends_with(&format!("1/{name} was removed or exchanged while it was read")), "{error}");
        }
        assert_eq!(merged.contents(&[(node, file)], 100).unwrap(), [Content::Changed]);
    }
    let contents = merged.contents(&[found("grown")], 100).unwrap();
    assert_eq!(contents, [Content::Bytes(b"text".to_vec())], "no more than was told");
}

#[test]
fn what_goes_while_it_is_compared_is_told_to_be_changing() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    for layer in ["1", "2"] {
        write(dir, &format!("{layer}/gone"), layer);
        write(dir, &format!("{layer}/here"), layer);
    }
    let merged = merged(dir, &["1", "2"]);
    fs::remove_file(dir.join("2/gone")).unwrap();
    let side = |number| Side { merged: &merged, view: merged.number(number).unwrap().into() };
    let mut told = Vec::new();
    let each = &mut |delta: Delta<'_>| {
        told.push((delta.path(side(1), side(2)), delta.difference.content, delta.difference.changing));
        Ok(())
    };
    differences(side(1), side(2), each).unwrap();
    assert_eq!(told, [(b"gone".to_vec(), false, true), (b"here".to_vec(), true, false)]);
    let touches = merged.touches(merged.find(b"gone").unwrap()).unwrap();
    assert_eq!(touches[0].action, Action::ChangesContent);
    assert_eq!(merged.waste().unwrap().bytes(Reason::Superseded), 2);
}

#[test]
fn a_tree_that_changes_is_walked() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, "1/a/in/f", "1");
    write(dir, "1/c", "1");
    symlink("a", dir.join("1/b")).unwrap();
    let (root, stop) = (sys::open_root(&dir.join("1")).unwrap(), AtomicBool::new(false));
    let mut shapes = BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |one, other| {
                let (one, other) = (OsStr::new(one), OsStr::new(other));
                sys::rename(root.as_fd(), one, root.as_fd(), other, RenameFlags::EXCHANGE).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                exchange("a", "b");
                exchange("b", "c");
                fs::create_dir_all(dir.join("1/d/e")).unwrap();
                fs::remove_dir_all(dir.join("1/d")).unwrap();
            }
        });
        let read = || {
            let layers = vec![LayerDirectory::new(dir.join("1"))];
            Merged::of_directories("test", None, layers).map(|merged| shown(&merged))
        };
        let all: Vec<_> = (0..400).map(|_| read()).collect();
        stop.store(true, Ordering::Relaxed);
        shapes.extend(all.into_iter().map(|shown| shown.unwrap()));
    });
    assert!(shapes.len() > 3, "{shapes:?}");
}
