//! `diff` as somebody would write it who may walk both trees as often as he likes.

use super::apply::union;
use crate::changes::{Kind, Rule};
use crate::overlay::tests::harness::Stack;
use crate::overlay::tests::walk::{Entry, View, view};
use std::collections::BTreeMap;

/// Path to `A`, `C` or `D`.
type Diff = BTreeMap<String, char>;

pub fn diff(stack: &Stack) -> Diff {
    let (mut found, mut last) = (Diff::new(), Vec::new());
    let told = union(stack).changes(Rule::Docker, &mut |change| {
        let path = String::from_utf8(change.path.to_vec()).unwrap();
        let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        assert!(last < parts, "{path} comes after {last:?}");
        last = parts;
        let letter = match change.kind {
            Kind::Added => 'A',
            Kind::Changed => 'C',
            Kind::Deleted => 'D',
        };
        found.insert(path, letter);
        Ok(())
    });
    told.unwrap();
    found
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn same(a: &Entry, b: &Entry) -> bool {
    let looks = |e: &Entry| (e.mode, e.uid, e.gid, e.rdev, e.xattrs.clone());
    let times = a.mtime.sec == b.mtime.sec && (a.mtime.nsec == b.mtime.nsec || a.mtime.nsec == 0 || b.mtime.nsec == 0);
    let link = a.mode & libc::S_IFMT != libc::S_IFLNK || a.content == b.content;
    looks(a) == looks(b) && (a.is_dir() || times && a.size == b.size && link)
}

fn brute_force(top: &View, base: &View) -> Diff {
    let mut found = Diff::new();
    for (path, entry) in top.iter().filter(|(path, _)| !path.is_empty()) {
        match base.get(path) {
            None => found.insert(path.clone(), 'A'),
            Some(old) if !same(entry, old) => found.insert(path.clone(), 'C'),
            Some(_) => None,
        };
    }
    for path in base.keys().filter(|path| !top.contains_key(*path)) {
        // Only the topmost of what was deleted is told, and nothing of what a file replaced.
        if parents(path).all(|parent| top.get(parent).is_some_and(Entry::is_dir)) {
            found.insert(path.clone(), 'D');
        }
    }
    let changed: Vec<String> = found.keys().cloned().collect();
    for parent in changed.iter().flat_map(|path| parents(path)) {
        found.entry(parent.to_owned()).or_insert('C');
    }
    found
}

pub fn check(stack: &Stack) {
    let union = union(stack);
    let want = brute_force(&view(&union.top), &view(union.base.as_ref().unwrap()));
    assert_eq!(diff(stack), want);
}
