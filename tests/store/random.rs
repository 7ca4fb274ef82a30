//! Random changes in a mount, and what the inspecting commands say of it meanwhile.

use super::live::{listed, walk};
use super::mounts::Mounts;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const STACKS: u64 = 12;
const STEPS: u64 = 30;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        // Knuth's MMIX generator; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    /// A path, which need not exist.
    fn path(&mut self, top: &Path) -> PathBuf {
        let dir = self.pick(&["", "", "d", "d/in", "e", "in", "in/in"]);
        top.join(dir).join(self.pick(&["a", "b", "c", "d", "e", "in"]))
    }
}

/// One change. That it often fails is part of the game.
fn change(rng: &mut Rng, top: &Path) -> io::Result<()> {
    let (one, other) = (rng.path(top), rng.path(top));
    match rng.below(12) {
        0..3 => File::options().append(true).open(one)?.write_all(b"more"),
        3..5 => fs::hard_link(one, other),
        5 => fs::write(one, "new"),
        6 => fs::remove_file(one),
        7 => fs::create_dir(one),
        8 => fs::remove_dir_all(one),
        9 => fs::set_permissions(one, Permissions::from_mode(0o600 + rng.below(64) as u32)),
        10 => symlink("../a", one),
        _ => fs::rename(one, other),
    }
}

/// Every file counts at one of its names, which no other names as its hard link if that one is seen.
fn check_counting(document: &Value, top: &Path, name: &str) {
    let entries = document["entries"].as_array().unwrap();
    let path = |entry: &Value| entry["path"].as_str().unwrap().to_owned();
    let mut files: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry["kind"] == "file") {
        files.entry(fs::metadata(top.join(&path(entry)[1..])).unwrap().ino()).or_default().push(entry);
    }
    let mut counted = Vec::new();
    for names in files.values() {
        let counts = |entry: &&&Value| entry["cumulative"] == entry["size"];
        // Where one of them has no hard link, that one; of copies that only the index has none has one.
        let own: Vec<_> = names.iter().filter(|entry| entry["hard_link"].is_null()).collect();
        let at: Vec<_> = names.iter().filter(counts).collect();
        assert!(at.len() == 1 || names[0]["size"] == 0, "{name}: {names:?}");
        assert!(own.len() != 1 || own[0]["cumulative"] == own[0]["size"], "{name}: {names:?}");
        counted.push((path(at[0]), at[0]["size"].as_u64().unwrap()));
    }
    for entry in entries.iter().filter(|entry| entry["kind"] == "directory") {
        let dir = path(entry);
        let below = counted.iter().filter(|(path, _)| path.starts_with(&format!("{}/", dir.trim_end_matches('/'))));
        assert_eq!(entry["cumulative"], below.map(|(_, size)| size).sum::<u64>(), "{name}: {dir}");
    }
}

fn words<'a>(paths: impl Iterator<Item = &'a String>) -> String {
    paths.map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// What `whence` says that is in a layer is there on disk, at that path. How much of it was moved.
fn check_places(whence: &Value, layers: &[PathBuf], name: &str) -> usize {
    let mut moved = 0;
    for path in whence["paths"].as_array().unwrap() {
        let touches = path["layers"].as_array().unwrap();
        let is_nameless = |touch: &Value| touch["by_index"] == true && touch["entry"]["hard_link"].is_null();
        for touch in touches {
            let layer = &layers[touch["layer"].as_u64().unwrap() as usize - 1];
            let on_disk = |path: &Value| layer.join(&path.as_str().unwrap()[1..]).symlink_metadata();
            let name = format!("{name}: {touch}");
            if is_nameless(touch) {
                // The copy has a name in the index only.
                assert!(on_disk(&touch["at"]).is_err(), "{name}");
                continue;
            }
            let found = on_disk(&touch["at"]).expect(&name);
            match (touch["entry"]["kind"].as_str(), touch["action"].as_str().unwrap()) {
                (Some("file"), _) => assert_eq!(touch["entry"]["size"], found.len(), "{name}"),
                (Some("directory"), _) | (None, "moves_parent") => assert!(found.is_dir(), "{name}"),
                (Some("whiteout"), _) => assert_eq!(found.rdev(), 0, "{name}"),
                _ => {}
            }
            let by_nameless = touches.iter().any(|by| is_nameless(by) && by["layer"] == touch["hidden_by"]);
            if !touch["hidden_at"].is_null() && !by_nameless {
                let layer = &layers[touch["hidden_by"].as_u64().unwrap() as usize - 1];
                layer.join(&touch["hidden_at"].as_str().unwrap()[1..]).symlink_metadata().expect(&name);
            }
            moved += usize::from(touch["action"] == "moves_parent");
        }
        // What is seen from another place was brought from there by some layer.
        let seen = touches.iter().find(|touch| touch["visible"] == true).unwrap();
        let told = |how: &str| touches.iter().any(|touch| touch["action"] == how);
        let explained = told("moves_parent") || seen["by_index"] == true;
        assert!(seen["at"] == path["path"] || explained, "{name}: {path}");
    }
    moved
}

#[test]
fn what_a_mount_shows_after_random_changes() {
    let bed = Mounts::new();
    let (mut by_index, mut moved) = (0, 0);
    for seed in 0..STACKS {
        let (mut rng, dir) = (Rng(seed), bed.p(&format!("stack{seed}")));
        let tree = |name: &str| dir.join(name);
        ["1/d/in", "1/e", "2/d", "u", "w", "m"].iter().for_each(|name| fs::create_dir_all(tree(name)).unwrap());
        fs::write(tree("1/a"), "one").unwrap();
        for name in ["1/b", "1/d/a", "1/e/c", "1/d/in/e"] {
            fs::hard_link(tree("1/a"), tree(name)).unwrap();
        }
        fs::write(tree("2/c"), "two").unwrap();
        fs::hard_link(tree("2/c"), tree("2/d/b")).unwrap();
        // One file in two layers is one file.
        fs::hard_link(tree("1/a"), tree("2/e")).unwrap();
        let top = tree("m");
        let stack = format!("{}:{}", tree("2").display(), tree("1").display());
        let (upper, work) = (tree("u").display().to_string(), tree("w").display().to_string());
        bed.ok(&format!("mount -o lowerdir={stack},upperdir={upper},workdir={work} {}", top.display()));
        match seed % 3 {
            1 => fs::rename(top.join("d"), top.join("in")).unwrap(),
            2 => fs::rename(top.join("d/in"), top.join("in")).unwrap(),
            _ => {}
        }
        let done = (0..STEPS).filter(|_| change(&mut rng, &top).is_ok()).count();
        assert!(done > 2, "stack {seed}: {done}");
        let seen = walk(&top);
        let files: Vec<&String> =
            seen.iter().filter(|(_, what)| what.starts_with("file")).map(|(path, _)| path).collect();
        let text: String = files.iter().map(|path| fs::read_to_string(top.join(&path[1..])).unwrap()).collect();
        let paths = words(files.iter().copied());
        for target in [top.display().to_string(), format!("--lower {stack} --upper {upper} --work {work}")] {
            let document = bed.json(&format!("ls -R --json --cumulative {target}"));
            assert_eq!(listed(&document), seen, "stack {seed} as {target}");
            check_counting(&document, &top, &format!("stack {seed} as {target}"));
            if !files.is_empty() {
                assert_eq!(bed.ok(&format!("cat {target} {paths}")), text, "stack {seed} as {target}");
            }
            let waste = bed.json(&format!("waste --json {target}"));
            let visible = waste["total_bytes"].as_u64().unwrap() - waste["wasted_bytes"].as_u64().unwrap();
            assert_eq!(document["entries"][0]["cumulative"], json!(visible), "stack {seed} as {target}");
        }
        let place = top.display();
        let whence = bed.json(&format!("whence --json {place} {}", words(seen.keys())));
        moved += check_places(&whence, &[tree("1"), tree("2"), tree("u")], &format!("stack {seed}"));
        let layers = bed.json(&format!("layers --json {place}"));
        let told = bed.json(&format!("diff --json {place}"));
        let kinds: Vec<&Value> = told["changes"].as_array().unwrap().iter().map(|change| &change["kind"]).collect();
        for kind in ["added", "deleted"] {
            let count = kinds.iter().filter(|told| ***told == kind).count();
            assert_eq!(layers["layers"][2][kind], count, "stack {seed}: {kind}");
        }
        let whence = bed.ok(&format!("whence {place} / {paths}"));
        by_index += whence.matches("by the index of hard links").count();
        bed.ok(&format!("umount {}", top.display()));
    }
    assert!(by_index > STACKS as usize && moved > 10, "{by_index} {moved}");
}
