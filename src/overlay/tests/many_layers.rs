//! How often layers are asked, counted in system calls: it must not grow with layers that have nothing to say.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::harness::{Fs, Stack};
use crate::overlay::{Error, Ino, Listed, ROOT};
use crate::sys::seam::{Plan, plan, take};

/// The system calls that `act` makes, by name. None of them may change anything.
fn calls(act: impl FnOnce()) -> BTreeMap<&'static str, usize> {
    plan(Plan::Count);
    act();
    let report = take();
    assert_eq!(report.mutating, 0, "{:?}", report.trace);
    let mut calls = BTreeMap::new();
    for call in report.readings {
        *calls.entry(call).or_default() += 1;
    }
    calls
}

/// A stack in which `with` layers, every second one, have the directory `d` and as many between them lack it. The lowest
/// has it.
fn stack(with: usize) -> Stack {
    let s = Stack::new(2 * with);
    s.upper().file("d/upper", "");
    for n in 1..=with {
        s.lower(2 * n).file(&format!("d/f{n}"), "");
        s.lower(2 * n - 1).file("elsewhere/f", "");
    }
    s
}

fn missing(fs: &Fs, parent: Ino, name: &str) {
    assert!(matches!(fs.overlay.lookup(parent, OsStr::new(name)), Err(Error::NotFound)), "{name} is there");
}

fn found(fs: &Fs, parent: Ino, name: &str) {
    let attr = fs.overlay.lookup(parent, OsStr::new(name)).unwrap();
    fs.overlay.forget(attr.ino, 1);
}

/// What the first look into `d` costs, once the root is known.
fn first_visit(s: &Stack) -> BTreeMap<&'static str, usize> {
    let fs = s.mount();
    missing(&fs, ROOT, "nothing");
    calls(|| missing(&fs, fs.ino("d").unwrap(), "nothing"))
}

#[test]
fn the_first_visit_asks_each_layer_once_and_none_that_lacks_the_directory() {
    let (few, more) = (first_visit(&stack(20)), first_visit(&stack(30)));
    let all = few.keys().chain(more.keys()).copied();
    let of = |calls: &BTreeMap<_, usize>, call| calls.get(call).copied().unwrap_or(0);
    let per_layer: BTreeMap<_, _> = all.map(|call| (call, of(&more, call) - of(&few, call))).collect();
    // Ten more that have it, ten more that lack it: to see what merges, and to list it, whose end is a call of its own.
    for (call, count) in per_layer {
        let expected = match call {
            "openat2" | "openat" | "getdents64" => 20,
            "listxattr" | "statx" | "lseek" => 10,
            _ => 0,
        };
        assert!(count <= expected, "{call}: {count} calls for ten layers");
    }
    assert!(of(&more, "getdents64") <= 2 * 31 && of(&more, "getdents64") >= 31);
}

#[test]
fn layers_that_lack_the_directory_make_no_difference() {
    let s = stack(10);
    let before = first_visit(&s);
    let deep = Stack::new(60);
    deep.upper().file("d/upper", "");
    for n in 1..=10 {
        deep.lower(6 * n).file(&format!("d/f{n}"), "");
    }
    deep.lower(1).file("elsewhere/f", "");
    assert_eq!(before, first_visit(&deep));
}

#[test]
fn after_the_first_visit_no_layer_is_asked_for_what_is_not_there() {
    for with in [2, 30] {
        let s = stack(with);
        let fs = s.mount();
        let d = fs.ino("d").unwrap();
        missing(&fs, d, "nothing");
        let names = ["no", "f0", "f31", "elsewhere", ".wh.f1", "upper2"];
        assert_eq!(calls(|| names.iter().for_each(|name| missing(&fs, d, name))), BTreeMap::new(), "{with} layers");
        let listed = || {
            let mut count = 0;
            let sink = &mut |_: &Listed<'_>| {
                count += 1;
                true
            };
            fs.overlay.read_dir(d, 2, false, sink).unwrap();
            assert_eq!(count, with + 1);
        };
        assert_eq!(calls(listed), BTreeMap::new(), "listing again, {with} layers");
    }
}

#[test]
fn what_a_name_costs_does_not_depend_on_the_number_of_layers() {
    let cost = |with: usize, name: &str| {
        let s = stack(with);
        let fs = s.mount();
        let d = fs.ino("d").unwrap();
        missing(&fs, d, "nothing");
        (calls(|| found(&fs, d, name)), calls(|| found(&fs, d, name)))
    };
    // More than a few layers: descriptors of a directory in each are not kept.
    for (name_of_few, name_of_many) in [("upper", "upper"), ("f1", "f1"), ("f10", "f30")] {
        let ((first, again), many) = (cost(10, name_of_few), cost(30, name_of_many));
        assert_eq!((first.clone(), again.clone()), many, "{name_of_few}");
        assert!(first.values().sum::<usize>() <= 2, "{first:?}");
        assert_eq!(again, BTreeMap::from([("statx", 1)]), "{name_of_few}");
        // No more than where they are.
        let few = cost(2, name_of_few.replace("f10", "f2").as_str());
        assert!(few.0.values().sum::<usize>() <= first.values().sum(), "{few:?}");
    }
}
