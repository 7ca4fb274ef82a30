//! Random stacks, read from directories and from archives, against [`Brute`].

use super::brute::{self, Brute, Hidden, Object};
use super::generate::{Layer, Rng};
use super::sources;
use crate::provenance::{
    Action, Content, Delta, Kind, Mark, Merged, NodeId, Number, Occurrence, Side, View, differences,
};
use std::collections::{BTreeMap, BTreeSet};

const STACKS: u64 = 100;

/// A stack, and the tars of its layers.
pub fn stack(seed: u64) -> (Brute, Vec<Vec<u8>>) {
    let (mut rng, mut brute, mut tars) = (Rng::new(seed), Brute::default(), Vec::new());
    for number in 0..rng.below(5) as usize + 2 {
        let layer = Layer::random(&mut rng, number, &brute.files_below());
        tars.push(layer.tar(&mut rng));
        brute.apply(&layer);
    }
    (brute, tars)
}

#[test]
fn random_stacks_are_what_applying_their_layers_one_by_one_gives() {
    for seed in 0..STACKS {
        let dir = tempfile::tempdir().unwrap();
        let (brute, tars) = stack(seed);
        let read = [sources::directories(dir.path(), &tars), sources::archive(dir.path(), &tars)];
        check_moments(&read[0], &read[1], &format!("stack {seed}"));
        for merged in read {
            let name = format!("stack {seed}, {}", merged.name);
            check_views(&brute, &merged, &name);
            check_steps(&brute, &merged, &name);
            check_summaries(&brute, &merged, &name);
            check_waste(&brute, &merged, &name);
            check_whence(&brute, &merged, &name);
            check_trace(&brute, &merged, &name);
        }
    }
}

/// Two moments of one stack, of which not everything is compared, differ in what they differ in when they are of two stacks.
fn check_moments(one: &Merged, other: &Merged, name: &str) {
    let told = |a: Side<'_>, b: Side<'_>| {
        let mut told = Vec::new();
        let mut each = |delta: Delta<'_>| {
            told.push((text(&delta.path(a, b)), delta.before.is_some(), delta.after.is_some(), delta.difference));
            Ok(())
        };
        differences(a, b, &mut each).unwrap();
        told
    };
    for from in one.numbers() {
        for to in one.numbers() {
            let side = |merged, number| Side { merged, view: View::UpTo(number) };
            let wanted = told(side(one, from), side(other, to));
            assert_eq!(told(side(one, from), side(one, to)), wanted, "{name}, {from} and {to}");
        }
    }
}

fn object(merged: &Merged, found: &Occurrence, content: Content) -> Object {
    let (entry, layer) = (merged.entry(found), merged.layer(found.layer()));
    let data = match content {
        Content::Bytes(bytes) => bytes,
        _ => layer.target(found.entry).to_vec(),
    };
    Object {
        kind: entry.kind.word(),
        mode: entry.mode.into(),
        uid: entry.uid.into(),
        mtime: entry.mtime.sec.try_into().unwrap(),
        data: text(&data),
        layer: found.layer().get().into(),
        first: text(&layer.path(layer.first_name(found.entry))),
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8(path.to_vec()).unwrap()
}

/// Every view shows what the map holds at that moment.
fn check_views(brute: &Brute, merged: &Merged, name: &str) {
    for number in merged.numbers() {
        let walk = merged.walk(NodeId::ROOT, number, None).skip(1);
        let seen: Vec<_> = walk.map(|(node, found, _)| (node, found)).collect();
        let contents = merged.contents(&seen, 1 << 20).unwrap();
        let objects = seen
            .iter()
            .zip(contents)
            .map(|((node, found), content)| (text(&merged.path(*node)), object(merged, found, content)));
        assert_eq!(objects.collect::<brute::View>(), brute.views[number.index()], "{name}, up to layer {number}");
        let sizes = merged.sizes(number);
        let sizes = seen.iter().map(|(node, _)| (text(&merged.path(*node)), sizes[node.index()]));
        let wanted = Brute::sizes(&brute.views[number.index()]);
        assert_eq!(sizes.collect::<BTreeMap<_, _>>(), wanted, "{name}, up to layer {number}");
    }
}

/// A step marks what differs between the view with a layer and the one without, and adds up the files of each directory.
fn check_steps(brute: &Brute, merged: &Merged, name: &str) {
    let nothing = brute::View::new();
    for number in merged.numbers() {
        let (step, sizes) = (merged.step(number), merged.sizes(number));
        let before = number.index().checked_sub(1).map_or(&nothing, |below| &brute.views[below]);
        let after = &brute.views[number.index()];
        let differs = |path: &str| match (before.get(path), after.get(path)) {
            (Some(old), Some(new)) => old.layer != new.layer && !same_directory(old, new),
            (old, new) => old.is_some() != new.is_some(),
        };
        let all: BTreeSet<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
        for node in merged.nodes().skip(1) {
            let path = text(&merged.path(node));
            let said = step.mark(node);
            let below = format!("{path}/");
            let inside = || all.iter().any(|other| other.starts_with(&below) && differs(other));
            let wanted = match (before.get(&path), after.get(&path)) {
                (None, None) => Mark::Absent,
                (None, Some(_)) => Mark::Added,
                (Some(_), None) => Mark::Removed,
                // Whether it is opaque the views show.
                (Some(_), Some(new)) if new.kind == "directory" && said == Mark::Changed => Mark::Changed,
                _ if differs(&path) => Mark::Changed,
                _ if inside() => Mark::Inside,
                _ => Mark::Same,
            };
            assert_eq!(said, wanted, "{name}: {path} in layer {number}");
            if after.contains_key(&path) {
                assert_eq!(step.size(node), sizes[node.index()], "{name}: {path} in layer {number}");
            }
        }
        let own = after.iter().filter(|(path, object)| object.kind == "file" && differs(path));
        let own: BTreeSet<(usize, &str, usize)> = own.map(|(_, o)| (o.layer, o.first.as_str(), o.data.len())).collect();
        let own: u64 = own.iter().map(|file| file.2 as u64).sum();
        assert_eq!(step.own_size(NodeId::ROOT), own, "{name}: layer {number}");
    }
}

/// Counted is what the views of two layers differ in, as `diff` lists it.
fn check_summaries(brute: &Brute, merged: &Merged, name: &str) {
    let nothing = brute::View::new();
    for (at, summary) in merged.summaries().iter().enumerate() {
        let before = at.checked_sub(1).map_or(&nothing, |below| &brute.views[below]);
        let after = &brute.views[at];
        let added = after.keys().filter(|path| !before.contains_key(*path));
        let deleted = before.keys().filter(|path| {
            let stays = |dir: &str| after.get(dir).is_some_and(|object| object.kind == "directory");
            !after.contains_key(*path) && path.rsplit_once('/').is_none_or(|(dir, _)| stays(dir))
        });
        let counted = (added.count() as u64, deleted.count() as u64);
        assert_eq!((summary.added, summary.deleted), counted, "{name}: layer {}", at + 1);
        let side = |number: Number| Side { merged, view: number.into() };
        let Some(below) = Number::new(at) else { continue };
        let mut listed = (0, 0);
        differences(side(below), side(Number::new(at + 1).unwrap()), &mut |delta| {
            listed.0 += u64::from(delta.before.is_none());
            listed.1 += u64::from(delta.after.is_none());
            Ok(())
        })
        .unwrap();
        assert_eq!(counted, listed, "{name}: layer {}", at + 1);
    }
}

fn same_directory(one: &Object, other: &Object) -> bool {
    let attributes = |object: &Object| (object.kind == "directory", object.mode, object.uid);
    attributes(one) == attributes(other) && one.kind == "directory"
}

/// Waste is what is left over when the layers are applied.
fn check_waste(brute: &Brute, merged: &Merged, name: &str) {
    let waste = merged.waste().unwrap();
    let mut hidden: Vec<Hidden> = waste
        .hidden
        .iter()
        .map(|h| {
            let path = text(&merged.path(h.node));
            (h.layer.get().into(), path, h.by.get().into(), h.reason, h.bytes)
        })
        .collect();
    hidden.sort();
    assert_eq!(hidden, brute.hidden(), "{name}");
    assert_eq!(waste.total, brute.total(), "{name}");
    let seen = brute.views.last().unwrap().values().filter(|o| o.kind == "file");
    let files: BTreeSet<(usize, &str, usize)> = seen.map(|o| (o.layer, o.first.as_str(), o.data.len())).collect();
    assert_eq!(waste.total - waste.wasted, files.iter().map(|f| f.2 as u64).sum::<u64>(), "{name}");
    assert_eq!(waste.total - waste.wasted, merged.sizes(merged.top())[0], "{name}");
}

/// Every layer is said to do at every path what the map shows.
fn check_whence(brute: &Brute, merged: &Merged, name: &str) {
    let paths: BTreeSet<&String> = brute.own.iter().flat_map(|own| own.keys()).collect();
    for path in paths {
        let node = merged.find(path.as_bytes()).unwrap();
        let touches = merged.touches(node).unwrap();
        for (at, own) in brute.own.iter().enumerate() {
            let number = Number::new(at + 1).unwrap();
            let below = at.checked_sub(1).and_then(|below| brute.views[below].get(path));
            let touch = touches.iter().find(|touch| touch.layer == number);
            let after = brute.views[at].get(path);
            let wanted = match (below, own.get(path)) {
                (None, Some(_)) => Some(Action::Adds),
                (Some(below), Some(own)) => Some(action(below, own, touch.map(|touch| touch.action))),
                (Some(_), None) if after.is_none() => match touch.map(|touch| touch.action) {
                    hides @ Some(Action::Deletes | Action::HidesParent(_)) => hides,
                    other => panic!("{name}: layer {number} hides {path}, not {other:?}"),
                },
                // A whiteout of nothing, or of something at a directory above.
                _ => touch.filter(|touch| touch.found.is_none_or(|f| merged.entry(f).is_whiteout())).map(|t| t.action),
            };
            assert_eq!(touch.map(|touch| touch.action), wanted, "{name}: {path} in layer {number}");
        }
    }
}

/// A path is traced to where it leads, and what layers have at the path itself is told if it is not seen.
fn check_trace(brute: &Brute, merged: &Merged, name: &str) {
    let (top, view) = (merged.top(), brute.views.last().unwrap());
    let paths: BTreeSet<&String> = brute.own.iter().flat_map(|own| own.keys()).collect();
    for (path, follow) in paths.into_iter().flat_map(|path| [(path, false), (path, true)]) {
        let (node, itself) = merged.trace(path.as_bytes(), top, follow).unwrap();
        let (node, itself) = (text(&merged.path(node)), itself.map(|node| text(&merged.path(node))));
        if let Some(leads_to) = Brute::resolve(view, path, follow) {
            assert_eq!(node, leads_to, "{name}: {path}, {follow}");
        }
        let hidden = (node != *path && !view.contains_key(path)).then(|| path.clone());
        assert_eq!(itself, hidden, "{name}: {path}, {follow}");
    }
}

fn action(below: &Object, own: &Object, said: Option<Action>) -> Action {
    let attributes = |o: &Object| (o.mode, o.uid, o.mtime);
    match () {
        () if below.kind != own.kind => Action::ChangesType(match below.kind {
            "file" => Kind::File,
            "directory" => Kind::Directory,
            "symlink" => Kind::Symlink,
            _ => Kind::Fifo,
        }),
        // Whether it is opaque the views show.
        () if own.kind == "directory" && said == Some(Action::Replaces) => Action::Replaces,
        () if below.data != own.data => Action::ChangesContent,
        () if attributes(below) != attributes(own) => Action::ChangesAttributes,
        () => Action::Repeats,
    }
}
