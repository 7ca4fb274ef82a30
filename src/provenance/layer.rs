//! One layer by itself: its entries in a flat array, whatever it was read from.

use super::entry::{Entry, Kind, NONE, Text};
use super::error::{Error, Result};
use super::origin::Origin;
use super::total::total;
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::layer::redirect::Redirect;
use rustc_hash::FxHashMap;
use std::path::PathBuf;

/// An entry of a layer, by its place in [`Layer`]. The root is [`EntryId::ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub(super) u32);

impl EntryId {
    /// The root of the layer, which every layer has.
    pub const ROOT: Self = Self(0);

    /// The place in an array that has something for each entry.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of a layer beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Digest of its uncompressed tar.
    pub diff_id: Option<DiffId>,
    /// Its identity with all below it.
    pub chain_id: Option<ChainId>,
    /// Digest of the blob as it is stored or sent, compressed or not.
    pub blob: Option<Digest>,
    /// Length of that blob in bytes.
    pub compressed: Option<u64>,
    /// The command that made it, as the configuration of the image has it.
    pub command: Option<String>,
    /// Its directory; `None` for a layer in an archive.
    pub directory: Option<PathBuf>,
    /// It is the writable layer of a mount.
    pub writable: bool,
    /// Another program unpacked it, and may have lost something: it need not be what others unpack of the same archive.
    pub foreign: bool,
}

impl Facts {
    /// Whether two layers are known to hold the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.chain_id.is_some() && self.chain_id == other.chain_id && !self.foreign && !other.foreign
    }
}

/// How many entries of each kind a layer has, its root not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Names of regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, named pipes and sockets.
    pub others: u64,
    /// Further names of files that were counted.
    pub hard_links: u64,
    /// Deleted names.
    pub whiteouts: u64,
    /// Opaque directories.
    pub opaque: u64,
    /// Bytes in regular files, each file once: what the layer takes when it is unpacked.
    pub bytes: u64,
}

/// A layer: its facts, and its entries as a tree.
#[derive(Debug)]
pub struct Layer {
    /// What is known beside the entries.
    pub facts: Facts,
    pub(super) entries: Vec<Entry>,
    /// How many of them have names. Behind those come the files that a writable layer has in its index of hard links only;
    /// their path is that in the index.
    pub(super) named: usize,
    pub(super) text: Vec<u8>,
    pub(super) digests: Vec<Digest>,
    /// Of files that are copies of one below: its layer, counted from 0, and entry.
    pub(super) sources: FxHashMap<EntryId, (usize, EntryId)>,
    pub(super) origin: Origin,
}

impl Layer {
    /// The entry `id`.
    #[must_use]
    pub fn entry(&self, id: EntryId) -> &Entry {
        &self.entries[id.index()]
    }

    /// How many entries there are, the root included, and those of files without a name: ids are below this.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.len() <= 1
    }

    /// The ids of all entries with a name; parents come before what is in them.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = EntryId> + use<> {
        (0..u32::try_from(self.named).unwrap_or(NONE)).map(EntryId)
    }

    /// Whether the layer has a name for it. Of a writable layer a file can be in the index of hard links only; it is seen
    /// under names of layers below.
    #[must_use]
    pub fn is_named(&self, id: EntryId) -> bool {
        id.index() < self.named
    }

    /// The name of an entry; empty for the root.
    #[must_use]
    pub fn name(&self, id: EntryId) -> &[u8] {
        self.piece(self.entry(id).name)
    }

    /// The directory that an entry is in; the root is in itself.
    #[must_use]
    pub fn parent(&self, id: EntryId) -> EntryId {
        EntryId(self.entry(id).parent)
    }

    /// The target of a symbolic link; empty for anything else.
    #[must_use]
    pub fn target(&self, id: EntryId) -> &[u8] {
        let entry = self.entry(id);
        if entry.kind == Kind::Symlink { self.piece(entry.target) } else { &[] }
    }

    /// Where a directory, or the data of a metacopy file, are in the layers below.
    pub(super) fn redirect(&self, id: EntryId) -> Option<Redirect> {
        let entry = self.entry(id);
        let can = entry.is_dir() && !entry.opaque || entry.metacopy;
        if can && entry.target.len > 0 { Redirect::parse(self.piece(entry.target)) } else { None }
    }

    /// What is in a directory, in the byte order of the names.
    pub fn children(&self, id: EntryId) -> impl ExactSizeIterator<Item = EntryId> + use<> {
        let (start, len) = self.entry(id).children;
        (start..start + len).map(EntryId)
    }

    /// The entry of that name in a directory.
    #[must_use]
    pub fn child(&self, dir: EntryId, name: &[u8]) -> Option<EntryId> {
        let (start, len) = self.entry(dir).children;
        let range = start as usize..(start + len) as usize;
        let at = self.entries[range].binary_search_by(|entry| self.piece(entry.name).cmp(name)).ok()?;
        Some(EntryId(start + u32::try_from(at).unwrap_or(NONE)))
    }

    /// The path of an entry in its layer, without a slash at either end.
    #[must_use]
    pub fn path(&self, id: EntryId) -> Vec<u8> {
        parts(&self.entries, &self.text, id.0).join(&b'/')
    }

    /// The first name of the same file: the entry itself unless it is a hard link.
    #[must_use]
    pub fn first_name(&self, id: EntryId) -> EntryId {
        match self.entry(id).first {
            NONE => id,
            first => EntryId(first),
        }
    }

    /// Whether the file has several names.
    #[must_use]
    pub fn has_names(&self, id: EntryId) -> bool {
        self.entry(id).first != NONE
    }

    /// Counts the entries.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let nameless = self.entries.iter().skip(self.named).map(Entry::bytes).sum();
        let mut counts = Counts { bytes: nameless, ..Counts::default() };
        for id in self.ids().skip(1) {
            let entry = self.entry(id);
            counts.opaque += u64::from(entry.opaque);
            let first = self.first_name(id) == id;
            counts.hard_links += u64::from(!first);
            match entry.kind {
                Kind::File => counts.files += 1,
                Kind::Directory => counts.directories += 1,
                Kind::Symlink => counts.symlinks += 1,
                Kind::Whiteout => counts.whiteouts += 1,
                Kind::Char | Kind::Block | Kind::Fifo | Kind::Socket => counts.others += 1,
            }
            if first {
                counts.bytes = total([counts.bytes, entry.bytes()]);
            }
        }
        counts
    }

    pub(super) fn piece(&self, text: Text) -> &[u8] {
        piece(&self.text, text)
    }

    /// The file below that this one is a copy of: layer, counted from 0, and entry.
    pub(super) fn source(&self, id: EntryId) -> Option<(usize, EntryId)> {
        if self.entry(id).copied { self.sources.get(&self.first_name(id)).copied() } else { None }
    }

    pub(super) fn digest(&self, index: u32) -> Option<Digest> {
        self.digests.get(index as usize).copied()
    }
}

pub(super) fn piece(text: &[u8], at: Text) -> &[u8] {
    let start = at.start as usize;
    &text[start..start + usize::from(at.len)]
}

/// Adds a piece to the text of a layer. Names are shorter than 64 KiB everywhere.
pub(super) fn add_text(text: &mut Vec<u8>, piece: &[u8]) -> Result<Text> {
    let start = u32::try_from(text.len()).ok().filter(|start| *start < NONE - (1 << 16));
    let start = start.ok_or(Error::TooLarge("the names in one layer are longer than 4 GiB together"))?;
    let len = u16::try_from(piece.len());
    let len = len.map_err(|_| Error::TooLarge("a symbolic link or redirect in a layer is longer than 64 KiB"))?;
    text.extend_from_slice(piece);
    Ok(Text { start, len })
}

/// The names on the way from the root to an entry.
pub(super) fn parts<'a>(entries: &[Entry], text: &'a [u8], mut at: u32) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while at != 0 {
        let Entry { name, parent, .. } = entries[at as usize];
        parts.push(piece(text, name));
        at = parent;
    }
    parts.reverse();
    parts
}

/// Joins the names of each file, which go by a key: the first in the order of paths stands for all.
pub(super) fn join_names(entries: &mut [Entry], text: &[u8], names: impl IntoIterator<Item = ((u64, u64), u32)>) {
    let mut files: FxHashMap<(u64, u64), Vec<u32>> = FxHashMap::default();
    for (key, entry) in names {
        files.entry(key).or_default().push(entry);
    }
    for names in files.into_values() {
        let first = match names.as_slice() {
            [] | [_] => NONE,
            several => several.iter().copied().min_by_key(|entry| parts(entries, text, *entry)).unwrap_or(NONE),
        };
        names.into_iter().for_each(|entry| entries[entry as usize].first = first);
    }
}
