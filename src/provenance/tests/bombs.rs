//! Archives that are small, and would take much time or memory to look into.

use super::sources;
use crate::archive::{Expected, Limits};
use crate::provenance::follow::LOOKED_UP;
use crate::provenance::tar::{Budget, DIGEST, read};
use crate::provenance::{Bounds, Bytes, Merged, Reason};
use tar::{Builder, EntryType, Header};

fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(0);
    header.set_entry_type(kind);
    match kind {
        EntryType::Link | EntryType::Symlink => builder.append_link(&mut header, path, target).unwrap(),
        _ => builder.append_data(&mut header, path, std::io::empty()).unwrap(),
    }
}

fn tar_of(entries: impl IntoIterator<Item = (EntryType, String, String)>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    entries.into_iter().for_each(|(kind, path, target)| add(&mut builder, kind, &path, &target));
    builder.into_inner().unwrap()
}

/// Of directories that only names imply, those below are looked up where their parent was found, not from the root on; of
/// targets of hard links, too, in whatever order they come.
#[test]
fn deep_paths_in_many_layers_are_walked_once() {
    let deep = |branch: &str| format!("{branch}/{}", "d/".repeat(240));
    let mut tars = Vec::new();
    for n in 0..64 {
        let mut entries = vec![(EntryType::Regular, format!("{}file-{n}", deep("a")), String::new())];
        entries.push((EntryType::Regular, format!("{}file-{n}", deep("b")), String::new()));
        for k in 0..if n == 63 { 2000 } else { 0 } {
            let branch = if k % 2 == 0 { "a" } else { "b" };
            entries.push((EntryType::Link, format!("link-{k}"), format!("{}file-{}", deep(branch), k % 62)));
        }
        tars.push(tar_of(entries));
    }
    let dir = tempfile::tempdir().unwrap();
    let merged = sources::archive(dir.path(), &tars);
    let node = merged.find(format!("{}file-5", deep("b")).as_bytes()).unwrap();
    assert_eq!(merged.occurrences(node)[0].layer().get(), 6);
    let copies = merged.layers()[63].counts();
    assert_eq!((copies.files, copies.hard_links), (2002, 1938));
    // Two ways of 240 directories in each layer, looked for in all layers below. From the root on it was thirty times as much.
    let most = 2 * 242 * (0..64).sum::<usize>() + 2 * 242 * 64;
    assert!(LOOKED_UP.get() < most, "{} of {most}", LOOKED_UP.get());
}

/// Files that are holes, and claim to be as long as a file can be.
#[test]
fn lengths_beyond_all_measure_add_up() {
    let huge = i64::MAX.to_string();
    let hole = |name: &str| {
        let mut builder = Builder::new(Vec::new());
        let pax = [("GNU.sparse.size", huge.as_bytes()), ("GNU.sparse.map", b"0,0".as_slice())];
        builder.append_pax_extensions(pax).unwrap();
        add(&mut builder, EntryType::Regular, name, "");
        builder.into_inner().unwrap()
    };
    let of = |names: &[&str]| {
        let tars = names.iter().map(|name| hole(name));
        // Without the zeros at the end of each but the last.
        let mut all: Vec<u8> = tars.flat_map(|tar| tar[..tar.len() - 1024].to_vec()).collect();
        all.extend([0; 1024]);
        all
    };
    let limits = Limits { bytes: u64::MAX, ..Limits::default() };
    let dir = tempfile::tempdir().unwrap();
    let names = ["d/a", "d/b", "d/c", "e"];
    let merged = sources::archive_within(dir.path(), &[of(&names), of(&names), of(&["d/a"])], &limits);
    assert_eq!(merged.layers()[0].counts().bytes, u64::MAX);
    let top = merged.top();
    let d = merged.find(b"d").unwrap();
    assert_eq!(merged.sizes(top)[d.index()], u64::MAX);
    let step = merged.step(merged.number(2).unwrap());
    assert_eq!((step.size(d), step.own_size(d)), (u64::MAX, u64::MAX));
    let waste = merged.waste().unwrap();
    assert_eq!((waste.total, waste.wasted, waste.bytes(Reason::Superseded)), (u64::MAX, u64::MAX, u64::MAX));
    assert!((0.0..=1.0).contains(&waste.efficiency()) && (0.0..=1.0).contains(&waste.efficiency_dive));
    assert_eq!(merged.summaries()[0].hidden, u64::MAX);
    let outline = merged.outline(&Bytes::new(&merged, &waste.hidden), Bounds { cost: 0, sums: 100, losses: 0 });
    assert_eq!(outline.rest.iter().filter(|(_, sum)| sum.bytes == u64::MAX).count(), 2);
}

/// Whatever an archive has many of is counted.
#[test]
fn memory_is_bounded() {
    let long = |n: usize| format!("{n:0200}");
    let many = |kind, path: &dyn Fn(usize) -> String, target: &dyn Fn(usize) -> String| {
        tar_of((0..2000).map(|n| (kind, path(n), target(n))))
    };
    let none = |_: usize| String::new();
    let cases = [
        ("entries", many(EntryType::Regular, &|n| n.to_string(), &none)),
        ("names", many(EntryType::Regular, &long, &none)),
        ("one name", many(EntryType::Regular, &|_| "a".into(), &none)),
        ("directories", many(EntryType::Directory, &|n| n.to_string(), &none)),
        (
            "implied directories",
            tar_of((0..9).map(|n| (EntryType::Regular, format!("{n}/{}x", "d/".repeat(200)), none(0)))),
        ),
        ("targets", tar_of((0..200).map(|n| (EntryType::Symlink, n.to_string(), "t/".repeat(2000))))),
        ("whiteouts", many(EntryType::Regular, &|n| format!(".wh.{}", long(n)), &none)),
        ("links", many(EntryType::Link, &|n| n.to_string(), &long)),
    ];
    for (what, tar) in &cases {
        let read = |most| read(tar.as_slice(), Expected::default(), &Limits::default(), &Budget::new(most));
        let error = read(400 << 10).map(|_| ()).expect_err(what).to_string();
        assert!(error.contains("more than 0 MiB of memory; look at fewer layers (TARGET@N)"), "{what}: {error}");
        assert!(read(8 << 20).is_ok(), "{what}");
    }
    let limits = Limits { entries: 1000, ..Limits::default() };
    let implied = read(cases[4].1.as_slice(), Expected::default(), &limits, &Budget::default());
    let error = implied.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("more than 1000 directories that only the names of entries imply"), "{error}");
}

#[test]
fn links_on_the_way_are_bounded_as_when_they_are_loaded() {
    let limits = Limits { links: 100_000, ..Limits::default() };
    let mut entries = vec![(EntryType::Directory, "d".to_owned(), String::new())];
    entries.push((EntryType::Symlink, "l0".to_owned(), ".".to_owned()));
    for n in 1..40 {
        entries.push((EntryType::Symlink, format!("l{n}"), format!("{}l{}", "d/../".repeat(800), n - 1)));
    }
    let read = |files: usize| {
        let files = (0..files).map(|n| (EntryType::Regular, format!("l39/f{n}"), String::new()));
        let tar = tar_of(entries.iter().cloned().chain(files));
        read(tar.as_slice(), Expected::default(), &limits, &Budget::default()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(read(1), Ok(()));
    assert!(read(3).unwrap_err().contains("entry 'l39/f1': is one entry too many"));
}

/// Those of directories, and of files that are hard links, that are described by a layer below.
#[test]
fn digests_of_layers_below_are_counted() {
    let of = |xattr: bool| {
        let attrs = [("SCHILY.xattr.user.a", b"1".as_slice())];
        let mut base = Builder::new(Vec::new());
        for n in 0..100 {
            if xattr {
                base.append_pax_extensions(attrs).unwrap();
            }
            add(&mut base, EntryType::Directory, &format!("d{n}"), "");
        }
        let implied = (0..100).map(|n| (EntryType::Symlink, format!("d{n}/link"), "to".to_owned()));
        let dir = tempfile::tempdir().unwrap();
        let (source, image) = sources::image(dir.path(), &[base.into_inner().unwrap(), tar_of(implied)]);
        let budget = Budget::default();
        Merged::of_image_within("archive", &source, &image, None, (&Limits::default(), &budget)).unwrap();
        budget.taken()
    };
    assert_eq!(of(true) - of(false), 2 * 100 * DIGEST as u64);
}

/// What was taken while a layer was read is given back, but for what is kept; and layers share the budget.
#[test]
fn layers_share_the_budget() {
    let tar = tar_of((0..1000).map(|n| (EntryType::Regular, n.to_string(), String::new())));
    let budget = Budget::new(1 << 20);
    let mut layers = 0;
    let error = loop {
        match read(tar.as_slice(), Expected::default(), &Limits::default(), &budget) {
            Ok(_) => layers += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!((2..10).contains(&layers), "{layers}");
    assert!(error.starts_with("the layer is too large: with the layers read before it"), "{error}");
}
