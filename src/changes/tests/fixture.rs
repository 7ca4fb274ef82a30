//! Layers with everything in them, and what can be done on top.

use crate::overlay::tests::harness::{Fs, Stack, me};
use crate::overlay::tests::tree::{Tree, root};
use crate::overlay::{Change, New, RenameMode, Result};
use crate::sys::{SetTime, Time};
use proptest::prelude::*;

/// Two layers: files, links, nodes, attributes; in the upper one whiteouts in every form and an opaque directory.
pub fn stack() -> Stack {
    let mut stack = Stack::new(2);
    // What an ordinary user unpacks has its owners in an attribute.
    stack.options.override_stat = !root();
    fill(&stack.lower(2));
    let top = stack.lower(1);
    top.whiteout("a/f2").aufs_whiteout("a/f3").file("b/new", "from the middle").chmod("b", 0o750);
    top.xattr_whiteout("c/d/x").opaque("o").file("o/own", "own").file("a/s", "a file over a link");
    top.dir("t").file("t/in", "a directory over a file");
    stack
}

fn fill(tree: &Tree) {
    tree.file("a/f1", "one").file("a/f2", "two").file("a/f3", "three").symlink("a/s", "f1");
    tree.file("a/h", "linked").link("a/h", "a/h2").link("a/h", "b/h").file("a/d/deep/x", "x").file("a/d/deep/y", "y");
    tree.file("b/f", "b's").file("c/d/x", "x").file("c/d/y", "y").file("o/hidden", "hidden").file("t", "t");
    tree.fifo("b/p").chmod("a/f1", 0o4755).mtime("b/f", -5, 250_000_000).xattr("b/f", "user.x", b"1");
    tree.chown("a/d", 3, 4).chmod("a/d", 0o1777).xattr("c", "user.dir", b"\0\n=");
    if root() {
        tree.device("b/dev");
    }
}

/// Places that have to do with each other.
const PATHS: [&str; 20] = [
    "a",
    "b",
    "c",
    "o",
    "t",
    "n",
    "a/f1",
    "a/f2",
    "a/s",
    "a/h",
    "a/h2",
    "b/h",
    "a/d",
    "a/d/deep",
    "a/d/deep/x",
    "c/d",
    "c/d/x",
    "b/f",
    "b/n",
    "n/n",
];

/// One thing that somebody does.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Write(&'static str, u8),
    Create(&'static str),
    Mkdir(&'static str),
    Symlink(&'static str),
    Fifo(&'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    Exchange(&'static str, &'static str),
    Link(&'static str, &'static str),
    Chmod(&'static str, u8),
    Truncate(&'static str),
    Touch(&'static str),
    /// Changes the time and puts it back.
    Restore(&'static str),
    Xattr(&'static str, u8),
}

pub fn op() -> impl Strategy<Value = Op> {
    let path = || prop::sample::select(&PATHS[..]);
    prop_oneof![
        (path(), 0u8..3).prop_map(|(p, n)| Op::Write(p, n)),
        path().prop_map(Op::Create),
        path().prop_map(Op::Mkdir),
        path().prop_map(Op::Symlink),
        path().prop_map(Op::Fifo),
        path().prop_map(Op::Remove),
        path().prop_map(Op::Remove),
        (path(), path()).prop_map(|(a, b)| Op::Rename(a, b)),
        (path(), path()).prop_map(|(a, b)| Op::Rename(a, b)),
        (path(), path()).prop_map(|(a, b)| Op::Exchange(a, b)),
        (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        (path(), 0u8..3).prop_map(|(p, n)| Op::Chmod(p, n)),
        path().prop_map(Op::Truncate),
        path().prop_map(Op::Touch),
        path().prop_map(Op::Restore),
        (path(), 0u8..3).prop_map(|(p, n)| Op::Xattr(p, n)),
    ]
}

/// Does it, or not: what is not possible is no concern of these tests.
pub fn act(fs: &Fs, op: Op) -> Result<()> {
    let mtime = |path, time| {
        let change = Change { mtime: Some(SetTime::At(time)), ..Change::default() };
        fs.change(path, &change).map(drop)
    };
    match op {
        Op::Write(path, n) => fs.write(path, u64::from(n), "!"),
        Op::Create(path) => fs.create(path).map(drop),
        Op::Mkdir(path) => fs.mkdir(path).map(drop),
        Op::Symlink(path) => fs.symlink("target", path).map(drop),
        Op::Fifo(path) => fs.make(path, New::Node(libc::S_IFIFO, 0, 0), 0o600, 0, me()).map(drop),
        Op::Remove(path) => remove(fs, path),
        Op::Rename(a, b) => fs.rename(a, b),
        Op::Exchange(a, b) => fs.rename_as(a, b, RenameMode::Exchange),
        Op::Link(a, b) => fs.link(a, b).map(drop),
        Op::Chmod(path, n) => fs.chmod(path, [0o600, 0o755, 0o711][usize::from(n)]).map(drop),
        Op::Truncate(path) => fs.truncate(path, 2).map(drop),
        Op::Touch(path) => mtime(path, Time { sec: 1_234, nsec: 5 }),
        Op::Restore(path) => {
            let before = fs.attr(path)?.mtime;
            mtime(path, Time { sec: 1_234, nsec: 5 })?;
            mtime(path, before)
        }
        Op::Xattr(path, 0) => fs.remove_xattr(path, "user.x"),
        Op::Xattr(path, n) => fs.set_xattr(path, "user.x", &n.to_string()),
    }
}

fn remove(fs: &Fs, path: &str) -> Result<()> {
    if fs.attr(path)?.mode & libc::S_IFMT != libc::S_IFDIR {
        return fs.unlink(path);
    }
    for name in fs.list(path) {
        remove(fs, &format!("{path}/{name}"))?;
    }
    fs.rmdir(path)
}
