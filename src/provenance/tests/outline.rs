//! Outlines of random stacks: what is listed and what is summed are together all that there is, in every size.

use super::random::stack;
use super::sources;
use crate::provenance::{Bounds, Bytes, End, Fate, Kind, Merged, NodeId, Outline};
use std::collections::BTreeMap;

fn check(check: impl Fn(&Merged, &str)) {
    for seed in 1000..1012 {
        let dir = tempfile::tempdir().unwrap();
        check(&sources::directories(dir.path(), &stack(seed).1), &format!("stack {seed}"));
    }
}

fn outline(merged: &Merged, cost: u64, sums: usize) -> Outline {
    let hidden = merged.waste().unwrap().hidden;
    merged.outline(&Bytes::new(merged, &hidden), Bounds { cost, sums, losses: 5 })
}

/// Bytes by layer and fate, of what is listed and what is summed.
fn totals(merged: &Merged, outline: &Outline) -> BTreeMap<(u16, Fate), u64> {
    let hidden = merged.waste().unwrap().hidden;
    let bytes = Bytes::new(merged, &hidden);
    let mut totals = BTreeMap::new();
    let mut add = |layer: u16, fate, n| *totals.entry((layer, fate)).or_default() += n;
    for node in &outline.listed {
        for found in merged.occurrences(*node) {
            let (fate, n) = bytes.of(*node, found);
            add(found.layer().get(), fate, n);
        }
    }
    for (_, sum) in &outline.rest {
        add(sum.layer.get(), sum.fate, sum.bytes);
    }
    totals.retain(|_, n| *n > 0);
    totals
}

#[test]
fn nothing_is_lost_however_little_is_listed() {
    check(|merged, name| {
        let all = outline(merged, u64::MAX, usize::MAX);
        assert_eq!(all.listed, merged.nodes().collect::<Vec<_>>(), "{name}");
        assert!(all.rest.is_empty() && all.unlisted == 0, "{name}");
        let whole = totals(merged, &all);
        let waste = merged.waste().unwrap();
        let wasted: u64 = whole.iter().filter(|((_, fate), _)| *fate != Fate::Visible).map(|(_, n)| n).sum();
        assert_eq!(wasted, waste.wasted, "{name}");
        assert_eq!(whole.values().sum::<u64>(), waste.total, "{name}");
        for (cost, sums) in [(0, usize::MAX), (300, usize::MAX), (1500, usize::MAX), (1500, 2)] {
            let some = outline(merged, cost, sums);
            assert_eq!(totals(merged, &some), whole, "{name}, {cost} {sums}");
            assert_eq!(some.listed.len() as u64 + some.unlisted, merged.len() as u64, "{name}");
            assert_eq!(some.losses, all.losses, "{name}");
        }
    });
}

#[test]
fn parents_and_the_largest_losses_are_listed() {
    check(|merged, name| {
        let some = outline(merged, 400, usize::MAX);
        assert_eq!(some.listed[0], NodeId::ROOT, "{name}");
        for node in &some.listed {
            assert!(some.listed.contains(&merged.parent(*node)), "{name}");
        }
        for loss in &some.losses {
            assert!(some.listed.contains(&loss.path), "{name}");
        }
        assert!(some.rest.iter().all(|(at, _)| *at < some.listed.len()), "{name}");
        assert!(some.losses.windows(2).all(|two| two[0].bytes >= two[1].bytes), "{name}");
    });
}

#[test]
fn entries_are_counted_once() {
    check(|merged, name| {
        let none = outline(merged, 0, usize::MAX);
        let counted: u64 = none.rest.iter().map(|(_, sum)| sum.entries).sum();
        let counts =
            |one: &&crate::provenance::Occurrence| one.end != End::Merged && merged.entry(one).kind != Kind::Whiteout;
        let listed = |node: &NodeId| none.listed.contains(node);
        let unlisted = merged.nodes().filter(|node| !listed(node));
        let there: usize = unlisted.map(|node| merged.occurrences(node).iter().filter(counts).count()).sum();
        assert_eq!(counted, there as u64, "{name}");
    });
}

#[test]
fn the_number_of_sums_is_bounded() {
    // Many directories, and in each several layers with files.
    let files: Vec<String> = (0..40).flat_map(|dir| (0..5).map(move |file| format!("d{dir}/f{file}"))).collect();
    let layer = |number| {
        let mut tar = tar::Builder::new(Vec::new());
        for path in &files {
            let mut header = tar::Header::new_gnu();
            header.set_size(10);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("{path}-{number}"), &[b'x'; 10][..]).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let merged = sources::directories(dir.path(), &(0..6).map(layer).collect::<Vec<_>>());
    let unbounded = outline(&merged, 6000, usize::MAX);
    assert!(unbounded.rest.len() > 100, "{}", unbounded.rest.len());
    let bounded = outline(&merged, 6000, 30);
    assert!(bounded.rest.len() <= 30, "{}", bounded.rest.len());
    assert_eq!(totals(&merged, &bounded), totals(&merged, &unbounded));
}
