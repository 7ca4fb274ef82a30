//! What a layer takes from those below: attributes of implied directories, targets of hard links.

use super::build::{Layer, Tar, head, layer, refused_over, tar};
use crate::sys::Time;
use crate::sys::seam::{Plan, plan, take};

#[test]
fn implied_directories_look_like_those_below() {
    let attrs = [("SCHILY.xattr.user.a", &b"1"[..]), ("mtime", b"99.25")];
    let base = tar().pax(&attrs).raw(head(b'5', "a").mode(0o2770).owner(5, 6)).raw(head(b'5', "a/b").mode(0o700));
    let base = layer(base.raw(head(b'5', "./").mode(0o701)), &[]);
    let upper = layer(tar().file("a/b/new/c", "c"), &[&base]);
    let stat = upper.stat("a");
    assert_eq!((stat.mode, stat.uid, stat.gid), (0o042770, 5, 6));
    assert_eq!(stat.mtime, Time { sec: 99, nsec: 250_000_000 });
    assert_eq!(upper.xattr("a", c"user.a").unwrap(), b"1");
    assert_eq!(upper.stat("a/b").mode & 0o7777, 0o700);
    assert_eq!(upper.stat("").mode & 0o7777, 0o701);
    let new = upper.stat("a/b/new");
    assert_eq!((new.mode & 0o7777, new.uid, new.mtime), (0o755, 0, Time::default()));
}

#[test]
fn an_implied_directory_that_is_described_later_is_its_own() {
    let base = layer(tar().raw(head(b'5', "a").mode(0o700)), &[]);
    let upper = layer(tar().file("a/f", "").raw(head(b'5', "a").mode(0o750).mtime(3)), &[&base]);
    assert_eq!((upper.stat("a").mode & 0o7777, upper.stat("a").mtime.sec), (0o750, 3));
    upper.assert_tree(&[("a", "dir"), ("a/f", "")]);
}

#[test]
fn an_implied_directory_over_something_else() {
    let base = layer(tar().file("a", "file"), &[]);
    let upper = layer(tar().file("a/f", ""), &[&base]);
    assert_eq!(upper.stat("a").mode & 0o7777, 0o755);
}

#[test]
fn hard_links_into_layers_below_become_copies_joined_with_each_other() {
    let capability = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..];
    let attrs = [("mtime", &b"5.5"[..]), ("SCHILY.xattr.security.capability", capability)];
    let base = tar().pax(&attrs).with(head(b'0', "bin/tool").mode(0o4755).owner(0, 7), b"tool").symlink("s", "t");
    let base = layer(base.raw(head(b'6', "p")).raw(head(b'3', "c").device(1, 5)), &[]);
    let middle = layer(tar().file("other", ""), &[&base]);
    let upper = tar().link("x/one", "bin/tool").link("two", "x/one").link("three", "/bin/tool").link("s2", "s");
    let upper = layer(upper.link("p2", "p").link("c2", "c").raw(head(b'5', "x").mtime(3)), &[&middle, &base]);
    upper.assert_tree(&[
        ("c2", "char 1:5"),
        ("p2", "fifo"),
        ("s2", "-> t"),
        ("three", "tool"),
        ("two", "tool"),
        ("x", "dir"),
        ("x/one", "tool"),
    ]);
    let stat = upper.stat("two");
    assert_eq!((stat.nlink, stat.mode & 0o7777, stat.gid), (3, 0o4755, 7));
    assert_eq!(stat.mtime, Time { sec: 5, nsec: 500_000_000 });
    assert_eq!(upper.xattr("two", c"security.capability").unwrap(), capability);
    assert_eq!(upper.stat("x").mtime.sec, 3, "the time of the directory survives the link in it");
}

#[test]
fn a_hard_link_to_what_the_same_layer_deletes() {
    // A file that was renamed and whose other name is given as the target.
    let base = layer(tar().file("old", "data"), &[]);
    for tar in [tar().link("new", "old").file(".wh.old", ""), tar().file(".wh.old", "").link("new", "old")] {
        layer(tar, &[&base]).assert_tree(&[("new", "data"), ("old", "whiteout")]);
    }
}

#[test]
fn hard_links_to_what_is_deleted_below() {
    let base = layer(tar().file("f", "").dir("d"), &[]);
    let middle = layer(tar().file(".wh.f", ""), &[&base]);
    let message = refused_over(tar().link("l", "f"), &[&middle, &base]);
    assert!(message.contains("'l'") && message.contains("'f'") && message.contains("nor below"), "{message}");
    assert!(refused_over(tar().link("l", "d"), &[&base]).contains("directory"));
}

#[test]
fn large_and_sparse_copies() {
    let text = "x".repeat(300_000);
    let map = [("GNU.sparse.map", &b"0,300000,5000000,2"[..]), ("GNU.sparse.size", b"9000000")];
    let base = tar().file("big", &text).pax(&map).with(head(b'0', "holes"), format!("{text}ab").as_bytes());
    let base = layer(base, &[]);
    let upper = layer(tar().link("b", "big").link("h", "holes"), &[&base]);
    assert_eq!(upper.read("b"), text.as_bytes());
    assert!(upper.read("h") == base.read("holes"));
    assert!(upper.stat("h").blocks * 512 < 2_000_000);
}

#[test]
fn the_topmost_layer_that_has_it_decides() {
    let base = layer(tar().file("f", "old").raw(head(b'5', "d").mode(0o700)), &[]);
    let middle = layer(tar().file("f", "new").raw(head(b'5', "d").mode(0o711)), &[&base]);
    let upper = layer(tar().link("l", "f").file("d/x", ""), &[&middle, &base]);
    assert_eq!(upper.read("l"), b"new");
    assert_eq!(upper.stat("d").mode & 0o7777, 0o711);
    let empty = Layer::new();
    empty.apply(&tar().end(), &[&middle, &base]).unwrap();
    empty.assert_tree(&[]);
}

/// The system calls that `of` makes on this thread.
fn calls<T>(of: impl FnOnce() -> T) -> (T, usize) {
    plan(Plan::Count);
    let done = of();
    (done, take().calls.len())
}

/// Each directory of a deep path is looked up where its parent was found, not from the root on.
#[test]
fn deep_implied_directories_in_many_layers_are_looked_up_once() {
    let mut layers: Vec<Layer> = Vec::new();
    let dir = "d/".repeat(250);
    let mut most = 0;
    for n in 0..16 {
        let tar = tar().pax(&[("path", format!("{dir}{n}").as_bytes())]).file("x", "");
        let tar = tar.pax(&[("path", format!("{dir}.wh.{}", n - 1).as_bytes())]).file("x", "");
        let below: Vec<&Layer> = layers.iter().rev().collect();
        let (layer, count) = calls(|| layer(tar, &below));
        layers.push(layer);
        most = most.max(count);
    }
    assert_eq!(layers[15].stat(format!("{dir}15")).size, 0);
    assert!(layers[15].stat(format!("{dir}14")).is_whiteout_dev());
    assert_eq!(layers[15].stat(&dir).mode & 0o7777, 0o755);
    // Three for each directory of each layer. From the root on it was some hundred times as many.
    assert!(most < 250 * 16 * 8, "{most}");
}

/// Also where more layers merge than directories are kept open.
#[test]
fn siblings_in_more_layers_than_are_kept_open_are_looked_up_where_their_parent_was() {
    const LAYERS: usize = 270;
    let dir = "d/".repeat(20);
    let layers: Vec<Layer> = (0..LAYERS).map(|n| layer(tar().file(format!("{dir}{n}"), ""), &[])).collect();
    let below: Vec<&Layer> = layers.iter().collect();
    let top = |siblings: usize| {
        let tar = (0..siblings).fold(tar(), |tar, n| tar.file(format!("{dir}new-{n}/a/b/f"), ""));
        calls(|| layer(tar, &below))
    };
    let ((_, few), (top, more)) = (top(1), top(41));
    assert_eq!(top.stat(format!("{dir}new-40/a/b")).mode & 0o7777, 0o755);
    // Each is looked for in all layers, and the way to them is not walked again (it was, which made it twenty times as many).
    assert!(more - few < 40 * LAYERS * 4, "{few} calls, {more} with forty more");
}

/// The round of an archive in which each link is to the entry before it, and the first to a file below.
#[test]
fn long_chains_of_hard_links_to_a_file_below() {
    let base = layer(tar().file("base", "data"), &[]);
    let name = |n: usize| format!("n{n:03}");
    for (names, what) in
        [((0..200).map(name).collect::<Vec<_>>(), "ascending"), ((0..200).rev().map(name).collect(), "descending")]
    {
        let chain = names.windows(2).fold(tar().link(&names[0], "base"), |tar, pair| tar.link(&pair[1], &pair[0]));
        let upper = layer(chain, &[&base]);
        assert_eq!(upper.stat("n100").nlink, 200, "{what}");
        assert_eq!(upper.read("n199"), b"data", "{what}");
    }
}

/// In whatever order an archive has them, directories and links find what is below.
#[test]
fn implied_directories_and_links_of_many_paths() {
    let names = ["a/b/c", "a/b", "a-b", "a/b/c/d", "a", "x/y", "a/z"];
    let base = names
        .iter()
        .zip(1..)
        .fold(tar(), |tar, (name, n)| tar.raw(head(b'5', name).owner(n, 0)).file(format!("{name}/f"), name));
    let base = layer(base, &[]);
    let mut upper = tar();
    for name in names.iter().rev().chain(&names) {
        upper = upper.file(format!("{name}/new"), "").link(&format!("{name}/l"), &format!("{name}/f"));
    }
    let upper = layer(upper, &[&base]);
    for (name, n) in names.iter().zip(1..) {
        assert_eq!(upper.stat(name).uid, n, "{name}");
        assert_eq!(upper.read(format!("{name}/l")), name.as_bytes());
    }
}

/// The targets of hard links are looked for from where the one before was found.
#[test]
fn hard_links_deep_down_are_not_walked_to_from_the_root() {
    let dir = "d/".repeat(200);
    let name = |n: usize| format!("{dir}{n}");
    let link = |tar: Tar, n: usize, of: usize| {
        tar.pax(&[("path", name(n).as_bytes()), ("linkpath", name(of).as_bytes())]).link("x", "x")
    };
    let first = tar().pax(&[("path", name(0).as_bytes())]).file("x", "text");
    // Behind their target, and before it.
    let tar = (1..200).fold(first, |tar, n| link(tar, n, 0));
    let tar = (201..400).fold(tar, |tar, n| link(tar, n, 400));
    let tar = tar.pax(&[("path", name(400).as_bytes())]).file("x", "text");
    let (layer, count) = calls(|| layer(tar, &[]));
    assert_eq!((layer.stat(name(0)).nlink, layer.stat(name(400)).nlink), (200, 200));
    assert!(count < 400 * 30, "{count}");
}

/// Nor are they found where something was that is there no more.
#[test]
fn a_hard_link_to_what_was_replaced_meanwhile() {
    let tar = tar().file("a/b/file", "old").link("one", "a/b/file").file("a/b", "").dir("a/b").file("a/b/file", "new");
    let layer = layer(tar.link("two", "a/b/file"), &[]);
    assert_eq!((layer.read("one"), layer.read("two")), (b"old".to_vec(), b"new".to_vec()));
    assert_eq!(layer.stat("two").nlink, 2);
}
