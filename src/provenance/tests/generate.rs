//! Random layers: what is in them, and the tar that says so.

use std::collections::BTreeMap;
use tar::{EntryType, Header};

/// xorshift64*.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    File(String),
    Directory,
    Symlink(String),
    Fifo,
    /// A hard link to a path of the same layer.
    Link(String),
    /// A hard link to a path of the layers below.
    LinkBelow(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub what: What,
    pub mode: u32,
    pub uid: u64,
    pub mtime: u64,
    /// A directory that the tar does not name.
    pub implied: bool,
    pub opaque: bool,
}

/// A layer: its objects by path, and its whiteouts.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    pub items: BTreeMap<String, Item>,
    pub whiteouts: Vec<String>,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Layer {
    /// A random layer with this number; hard links may lead to `below`, the files of the layers below.
    pub fn random(rng: &mut Rng, number: usize, below: &[String]) -> Self {
        let mut layer = Self::default();
        layer.fill(rng, "", 0);
        layer.add_links(rng, number, below);
        layer
    }

    fn fill(&mut self, rng: &mut Rng, dir: &str, depth: u32) {
        for name in NAMES {
            let path = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
            if rng.one_in(7) {
                self.whiteouts.push(path.clone());
            }
            let what = match rng.below(12) {
                // Contents and times repeat, so that layers say the same again now and then.
                0..=2 => What::File("x".repeat(rng.below(3) as usize + 1)),
                3..=5 if depth < 3 => What::Directory,
                6 if rng.one_in(3) => What::Symlink(pick(rng, &["a/../nowhere", "b", "../c", "/d/a"])),
                7 if rng.one_in(3) => What::Fifo,
                _ => continue,
            };
            let is_dir = what == What::Directory;
            let opaque = is_dir && rng.one_in(5);
            let item = Item {
                mode: if rng.one_in(4) { 0o700 } else { 0o755 },
                uid: rng.below(2),
                mtime: 1_700_000_000 + rng.below(2),
                implied: false,
                opaque,
                what,
            };
            self.items.insert(path.clone(), item);
            if is_dir {
                let before = self.items.len() + self.whiteouts.len();
                self.fill(rng, &path, depth + 1);
                let filled = self.items.len() + self.whiteouts.len() > before;
                self.items.get_mut(&path).unwrap().implied = (filled || opaque) && rng.one_in(4);
            }
        }
    }

    fn add_links(&mut self, rng: &mut Rng, number: usize, below: &[String]) {
        let own: Vec<String> =
            self.items.iter().filter(|(_, item)| matches!(item.what, What::File(_))).map(|(p, _)| p.clone()).collect();
        let dirs: Vec<String> =
            self.items.iter().filter(|(_, item)| item.what == What::Directory).map(|(p, _)| p.clone()).collect();
        for n in 0..3 {
            let dir = if dirs.is_empty() || rng.one_in(2) { String::new() } else { pick(rng, &dirs) + "/" };
            let path = format!("{dir}link-{number}-{n}");
            let what = if rng.one_in(2) && !own.is_empty() {
                What::Link(pick(rng, &own))
            } else {
                let target = if below.is_empty() { continue } else { pick(rng, below) };
                // In this layer the target must neither be there nor lie below something else than a directory.
                let is_other = |path: &str| self.items.get(path).is_some_and(|item| item.what != What::Directory);
                if ancestors(&target).any(is_other) || self.items.contains_key(&target) {
                    continue;
                }
                What::LinkBelow(target)
            };
            let item = Item { what, mode: 0, uid: 0, mtime: 0, implied: false, opaque: false };
            self.items.insert(path, item);
        }
    }

    /// The tar: objects and markers in some order, directories before what is in them, links before their targets too.
    pub fn tar(&self, rng: &mut Rng) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let (mut links, mut markers) = (Vec::new(), Vec::new());
        for path in &self.whiteouts {
            let (dir, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(dir, name)| (dir, name));
            markers.push(format!("{dir}/.wh.{name}").trim_start_matches('/').to_owned());
        }
        for (path, item) in &self.items {
            if item.opaque {
                markers.push(format!("{path}/.wh..wh..opq"));
            }
            match &item.what {
                What::Link(target) | What::LinkBelow(target) => links.push((path, target)),
                _ if item.implied => {}
                what => {
                    if rng.one_in(6) {
                        // Something that the real entry replaces.
                        append(&mut builder, path, &item_of("replaced"), &[]);
                    }
                    let content = if let What::File(content) = what { content.as_bytes() } else { &[] };
                    append(&mut builder, path, item, content);
                }
            }
        }
        for (path, target) in links {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        }
        for marker in markers {
            append(&mut builder, &marker, &item_of(""), &[]);
        }
        builder.into_inner().unwrap()
    }
}

fn item_of(content: &str) -> Item {
    Item { what: What::File(content.into()), mode: 0o644, uid: 0, mtime: 0, implied: false, opaque: false }
}

pub fn ancestors(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn pick<T: ToString>(rng: &mut Rng, from: &[T]) -> String {
    from[rng.below(from.len() as u64) as usize].to_string()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, item: &Item, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_mode(item.mode);
    header.set_uid(item.uid);
    header.set_gid(item.uid);
    header.set_mtime(item.mtime);
    header.set_size(content.len() as u64);
    let kind = match &item.what {
        What::Directory => EntryType::Directory,
        What::Symlink(_) => EntryType::Symlink,
        What::Fifo => EntryType::Fifo,
        _ => EntryType::Regular,
    };
    header.set_entry_type(kind);
    match &item.what {
        What::Symlink(target) => builder.append_link(&mut header, path, target).unwrap(),
        _ => builder.append_data(&mut header, path, content).unwrap(),
    }
}
