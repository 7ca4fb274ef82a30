//! Cases from a seed. The generator keeps a rough idea of what exists (not who may do what), so that most steps meet
//! something; the rest aim at random names.

mod layers;
mod steps;

use std::collections::BTreeMap;

use super::case::Case;
use super::ops::{Op, Step};
use super::rng::Rng;
use super::text::{Bytes, Data, Mode, Place, Slot, When, Who};

#[derive(Clone, Copy, PartialEq)]
enum Thing {
    Directory,
    File,
    Other,
}

pub const SLOTS: u8 = 5;

const NAMES: &[&[u8]] = &[b"a", b"b", b"c", b"d", b"e", b"f"];
const ODD_NAMES: &[&[u8]] = &[
    b"\xff\xfe",
    b"new\nline",
    b"two words",
    b"...",
    b".hidden",
    "\u{e9}\u{4e2d}".as_bytes(),
    &[b'n'; 255],
    b"-x\t\\%",
];

/// Beyond NAME_MAX, and paths that do not end in a plain name.
const BAD_PATHS: &[&[u8]] = &[&[b'l'; 256], b"a/", b"a/.", b"b/..", b"", b"a//b", b"f/x", b".", b"a/b/"];

/// Whether hard links are made. The index that keeps the names of a lower file together does not come along when an upper
/// directory becomes a layer, and then it shows which of the names were linked up before, which differs: so there are
/// links, or layers that were upper directories, but not links of the latter.
#[derive(Clone, Copy, PartialEq)]
enum Links {
    /// In the layers; nothing rotates.
    Everywhere,
    /// Only in upper; it becomes a layer once.
    Made,
    /// None; rotation at any time.
    Never,
}

/// What a slot probably holds.
#[derive(Clone, Copy, Default, PartialEq)]
struct Held {
    directory: bool,
    read: bool,
    write: bool,
}

/// What is probably mapped.
#[derive(Clone, Copy, PartialEq)]
struct HeldMap {
    write: bool,
}

pub struct Generator {
    rng: Rng,
    links: Links,
    rotations: usize,
    /// The extended attribute that was set last.
    attribute: Option<(Vec<u8>, Bytes)>,
    things: BTreeMap<Vec<u8>, Thing>,
    slots: [Option<Held>; SLOTS as usize],
    maps: [Option<HeldMap>; SLOTS as usize],
}

/// The case that belongs to a seed.
pub fn case(seed: u64, length: usize) -> Case {
    let mut rng = Rng::new(seed);
    let links = *rng.pick(&[Links::Everywhere, Links::Made, Links::Never]);
    let (slots, maps) = ([None; SLOTS as usize], [None; SLOTS as usize]);
    let mut generator = Generator { rng, links, rotations: 0, attribute: None, things: BTreeMap::new(), slots, maps };
    let umask = *generator.rng.pick(&[0o022, 0o022, 0o022, 0, 0o077, 0o027]);
    let count = 1 + generator.rng.below(5);
    let mut layers: Vec<_> = (0..count).map(|_| generator.layer()).collect();
    layers.reverse();
    let mut steps = Vec::new();
    while steps.len() < length {
        steps.extend(generator.steps());
    }
    Case { umask, watch: generator.rng.chance(30), layers, steps }
}

fn root(op: Op) -> Step {
    Step { who: Who::Root, op }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&b| b == b'/').map_or(b"", |at| &path[..at])
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn below(path: &[u8], directory: &[u8]) -> bool {
    path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

/// Words of steps.
impl Generator {
    fn name(&mut self) -> Vec<u8> {
        let from = if self.rng.chance(8) { ODD_NAMES } else { NAMES };
        self.rng.pick(from).to_vec()
    }

    fn existing(&mut self, wanted: impl Fn(Thing) -> bool) -> Option<Vec<u8>> {
        let all: Vec<_> = self.things.iter().filter(|(_, thing)| wanted(**thing)).map(|(path, _)| path).collect();
        if all.is_empty() { None } else { Some(self.rng.pick(&all).to_vec()) }
    }

    /// A directory that exists, often the root.
    fn directory(&mut self) -> Vec<u8> {
        if self.rng.chance(30) {
            return Vec::new();
        }
        self.existing(|t| t == Thing::Directory).unwrap_or_default()
    }

    /// A name that may or may not exist, in a directory that does.
    fn fresh(&mut self) -> Vec<u8> {
        let directory = self.directory();
        let name = self.name();
        if directory.iter().filter(|&&b| b == b'/').count() >= 3 { name } else { join(&directory, &name) }
    }

    fn any(&mut self) -> Vec<u8> {
        if self.rng.chance(15) {
            return self.fresh();
        }
        self.existing(|_| true).unwrap_or_else(|| self.rng.pick(NAMES).to_vec())
    }

    fn file(&mut self) -> Vec<u8> {
        if self.rng.chance(10) {
            return self.any();
        }
        self.existing(|t| t == Thing::File).unwrap_or_else(|| self.rng.pick(NAMES).to_vec())
    }

    /// A path as a place: sometimes odd, sometimes from a directory that is held open.
    fn place(&mut self, path: Vec<u8>) -> Place {
        if self.rng.chance(2) {
            return Place::new(self.rng.pick(BAD_PATHS));
        }
        if self.rng.chance(8)
            && let Some(slot) = self.slot_of(|held| held.directory)
        {
            return Place { slot: Some(slot), path: self.name() };
        }
        if path.is_empty() { Place::new(".") } else { Place { slot: None, path } }
    }

    fn slot(&mut self) -> Slot {
        Slot(self.rng.below(usize::from(SLOTS)) as u8)
    }

    fn slot_of(&mut self, wanted: impl Fn(Held) -> bool) -> Option<Slot> {
        let all: Vec<_> = (0..SLOTS).filter(|&s| self.slots[usize::from(s)].is_some_and(&wanted)).collect();
        if all.is_empty() { None } else { Some(Slot(*self.rng.pick(&all))) }
    }

    fn data(&mut self) -> Data {
        let len = *self.rng.pick(&[0, 1, 10, 100, 4096, 5000, 70_000]);
        Data { len, seed: self.rng.below(256) as u8 }
    }

    fn offset(&mut self) -> u64 {
        *self.rng.pick(&[0, 0, 0, 1, 50, 4095, 4096, 9000, 131_072])
    }

    fn file_mode(&mut self) -> Mode {
        Mode(*self.rng.pick(&[0o644, 0o666, 0o600, 0o666, 0o755, 0o4755, 0o2755, 0o6777, 0o444, 0o000]))
    }

    fn directory_mode(&mut self) -> Mode {
        Mode(*self.rng.pick(&[0o755, 0o777, 0o777, 0o1777, 0o700, 0o2775, 0o2777, 0o770, 0o555]))
    }

    fn when(&mut self) -> When {
        match self.rng.below(6) {
            0 => When::Now,
            1 => When::Omit,
            2 => When::At(-1_000_000_000, 250),
            3 => When::At(-1, 999_999_999),
            4 => When::At(4_102_444_800, 5),
            _ => When::At(1_000_000_000 + self.rng.below(1000) as i64, self.rng.below(1_000_000_000) as u32),
        }
    }

    fn who(&mut self) -> Who {
        *self.rng.pick(&[Who::Root, Who::Root, Who::Root, Who::Root, Who::Alice, Who::Alice, Who::Bob])
    }
}

/// What steps do to the idea of the tree.
impl Generator {
    fn put(&mut self, path: &[u8], thing: Thing) {
        self.things.insert(path.to_vec(), thing);
    }

    fn drop_tree(&mut self, path: &[u8]) {
        self.things.retain(|p, _| p != path && !below(p, path));
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path.is_empty() || self.things.get(path) == Some(&Thing::Directory)
    }

    fn take_tree(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Thing)> {
        let taken: Vec<_> = self.things.iter().filter(|(p, _)| *p == path || below(p, path)).collect();
        let taken: Vec<_> = taken.into_iter().map(|(p, t)| (p[path.len()..].to_vec(), *t)).collect();
        self.drop_tree(path);
        taken
    }

    fn put_tree(&mut self, path: &[u8], tree: Vec<(Vec<u8>, Thing)>) {
        for (rest, thing) in tree {
            self.things.insert([path, &rest].concat(), thing);
        }
    }
}
