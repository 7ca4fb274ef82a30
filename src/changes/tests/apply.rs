//! From the tar back to a layer, and whether the stack with it shows what the union showed.

use crate::archive::{self, Expected, Form, Limits};
use crate::changes::{self, Union};
use crate::overlay::tests::harness::Stack;
use crate::overlay::tests::walk::{View, view};
use crate::overlay::{Options, Overlay};
use crate::sys;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

pub fn union(stack: &Stack) -> Union {
    Union::of_changes(&parts(stack)).unwrap()
}

fn parts(stack: &Stack) -> changes::Stack<'_> {
    let Options { upper, work, lower, override_stat, .. } = &stack.options;
    let writable = Some((upper.as_deref().unwrap(), work.as_deref().unwrap()));
    changes::Stack { writable, lower, override_stat: *override_stat, fd_limit: 1024 }
}

/// The layer that a commit would make.
pub fn pack(stack: &Stack) -> Vec<u8> {
    let packed = union(stack).pack(Vec::new(), None).unwrap().out;
    assert_eq!(packed, union(stack).pack(Vec::new(), None).unwrap().out, "the same tree, other bytes");
    packed
}

/// Unpacks a layer over others, the topmost first.
pub fn unpack(tar: &[u8], below: &[PathBuf]) -> tempfile::TempDir {
    let layer = tempfile::tempdir().unwrap();
    let fd = sys::open_root(layer.path()).unwrap();
    let below: Vec<_> = below.iter().map(|path| sys::open_root(path).unwrap()).collect();
    let below: Vec<_> = below.iter().map(AsFd::as_fd).collect();
    let form = Form::probe(fd.as_fd()).unwrap();
    let limits = Limits::default();
    let options = archive::Options { form, expected: Expected::default(), limits: &limits, progress: None };
    let unpacked = archive::unpack(tar, fd.as_fd(), &options).unwrap();
    archive::complete(fd.as_fd(), &below, form, unpacked.pending).unwrap();
    layer
}

/// What lasts of a view: numbers become the first name of the same file; link counts can tell names that nobody sees.
pub fn lasting(view: &View) -> BTreeMap<String, String> {
    let mut first: BTreeMap<u64, &String> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for (path, e) in view {
        let first = first.entry(e.ino).or_insert(path);
        let rdev = if [libc::S_IFCHR, libc::S_IFBLK].contains(&(e.mode & libc::S_IFMT)) { e.rdev } else { (0, 0) };
        let (content, time) = (e.content.escape_ascii(), e.mtime);
        let line = format!("{first} {:o} {}:{} {rdev:?} {time:?} {:?} {content}", e.mode, e.uid, e.gid, e.xattrs);
        all.insert(path.clone(), line);
    }
    all
}

pub fn assert_same(got: &BTreeMap<String, String>, want: &BTreeMap<String, String>, what: &str) {
    let paths: std::collections::BTreeSet<_> = got.keys().chain(want.keys()).collect();
    let differ = paths.into_iter().filter(|p| got.get(*p) != want.get(*p));
    let lines: Vec<String> =
        differ.map(|p| format!("{p}:\n   is     {:?}\n   should {:?}\n", got.get(p), want.get(p))).collect();
    assert!(lines.is_empty(), "{what}:\n{}", lines.concat());
}

/// Packs, unpacks and compares; the new layer.
pub fn check_round_trip(stack: &Stack) -> tempfile::TempDir {
    let want = lasting(&view(&Overlay::open(&stack.options).unwrap()));
    assert_same(&lasting(&view(&union(stack).top)), &want, "the frozen union shows something else");
    let tar = pack(stack);
    let layer = unpack(&tar, &stack.options.lower);
    let lower = [layer.path().to_owned()].into_iter().chain(stack.options.lower.iter().cloned()).collect();
    let override_stat = stack.options.override_stat;
    let applied = Overlay::open(&Options { lower, override_stat, ..Options::default() }).unwrap();
    assert_same(&lasting(&view(&applied)), &want, "the layer over what is below");
    check_flat(stack, &want);
    layer
}

/// The whole tree as one archive shows the same without anything below.
fn check_flat(stack: &Stack, want: &BTreeMap<String, String>) {
    let flat = Union::of_all(&parts(stack)).unwrap();
    let layer = unpack(&flat.pack(Vec::new(), None).unwrap().out, &[]);
    let (lower, override_stat) = (vec![layer.path().into()], stack.options.override_stat);
    let alone = Overlay::open(&Options { lower, override_stat, ..Options::default() }).unwrap();
    assert_same(&lasting(&view(&alone)), want, "the flattened tree");
}
