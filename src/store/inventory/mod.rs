//! The inventory of a layer: what its directory holds, in one file beside it (docs/STORE.md section 7).
//!
//! It has what [`crate::layer::xattr::Attributes`] and `statx(2)` say, not what that means: readers see the same in it as in the directory,
//! whatever they believe of it.

use super::dir::Dir;
use super::error::{Error, Result};
use super::record::{self, LayerRecord};
use super::tree::Facts;
use crate::image::digest::Digest;
use crate::sys::{self, At, Stat, process};
use std::path::Path;
use std::sync::OnceLock;

mod format;

pub use format::{Blocks, RecordedAttributes, RecordedObject};
pub(super) use format::{Entry, Writer};

/// The file, in the directory of a layer.
pub(super) const FILE: &str = "inventory";

/// How every version begins.
const MAGIC: &[u8] = b"laminafs inventory ";
/// How this one does.
const VERSION: &[u8; 21] = b"laminafs inventory 1\n";
/// Version, and the digest of what follows.
const HEADER: usize = VERSION.len() + DIGEST;
const DIGEST: usize = 32;
/// More bytes than an entry takes: its name, the target of a link or a redirect, and little else.
const LONGEST: u64 = 16 << 10;

/// The inventory of a layer, read and compared with its checksum.
#[derive(Debug)]
pub struct Inventory {
    bytes: Vec<u8>,
    /// The names of attributes, in the order of their numbers.
    names: Vec<Vec<u8>>,
    /// Where the blocks begin behind them.
    blocks: usize,
}

impl Inventory {
    /// The inventory of a layer of a store whose directory is `diff`, with the attributes `root`; `None` when that is no layer of
    /// a store, or has no inventory that was made by this version, this user and a process that sees ids and attributes as this
    /// one does. What others can list is what they want to be seen, not what is in the directory.
    ///
    /// # Errors
    /// [`Error::Damaged`] for an inventory that is not that of this directory; errors of reading.
    pub fn of_layer(diff: &Path, root: &Stat) -> Result<Option<Self>> {
        let Some(parent) = diff.parent().filter(|_| diff.ends_with("diff")) else { return Ok(None) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        // A directory of somebody else need not be readable.
        let Ok(dir) = Dir::open_root(parent) else { return Ok(None) };
        let Ok(Some(_)) = dir.stat(FILE).map(|file| file.filter(|file| file.uid == process::effective_user())) else {
            return Ok(None);
        };
        let Some(record) = record::read::<LayerRecord>(&dir, "layer.json")? else { return Ok(None) };
        let Some(inventory) = Self::read(&dir, record.entries)?.filter(Self::is_own_view) else { return Ok(None) };
        let here = sys::stat(At::Name(dir.fd(), "diff".as_ref())).is_ok_and(|s| (s.dev, s.ino) == (root.dev, root.ino));
        let seen = |s: &Stat| (s.mode, s.uid, s.gid, s.mtime);
        let recorded = inventory.blocks().next().and_then(|block| Some(block.first()?.stat));
        if !here || inventory.tree() != record.tree || recorded.as_ref().map(seen) != Some(seen(root)) {
            return Err(Error::damaged(dir.at(FILE), "it is that of another directory"));
        }
        Ok(Some(inventory))
    }

    /// The inventory in the directory of a layer with so many entries; `None` when it has none of this version.
    pub(super) fn read(dir: &Dir, entries: u64) -> Result<Option<Self>> {
        let longest = LONGEST.saturating_mul(entries.saturating_add(2));
        let Some(bytes) = dir.read_up_to(FILE, longest)? else { return Ok(None) };
        if bytes.starts_with(MAGIC) && !bytes.starts_with(VERSION) {
            return Ok(None);
        }
        let damaged = || Error::damaged(dir.at(FILE), "its bytes changed after they were written");
        Self::parse(bytes).ok_or_else(damaged).map(Some)
    }

    /// Takes the bytes of an inventory; `None` when they are not what was written.
    #[must_use]
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        let (checksum, body) = bytes.strip_prefix(VERSION)?.split_first_chunk()?;
        if Digest::of(body) != Digest::from_bytes(*checksum) {
            return None;
        }
        let (names, blocks) = format::names(body.get(2 * DIGEST..)?)?;
        Some(Self { names, blocks, bytes })
    }

    /// What is in it, a block for each directory.
    #[must_use]
    pub fn blocks(&self) -> Blocks<'_> {
        Blocks::new(&self.names, self.listing().get(self.blocks..).unwrap_or_default())
    }

    /// The digest of the directory (docs/STORE.md section 6).
    pub(super) fn tree(&self) -> Digest {
        self.digest(HEADER)
    }

    /// What [`Writer::finish`] returned.
    pub(super) fn listing(&self) -> &[u8] {
        self.bytes.get(HEADER + 2 * DIGEST..).unwrap_or_default()
    }

    /// Whether whoever wrote it saw ids and attributes as this process does.
    fn is_own_view(&self) -> bool {
        self.digest(HEADER + DIGEST) == own_view()
    }

    fn digest(&self, at: usize) -> Digest {
        Digest::from_bytes(self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default())
    }
}

/// The digest of [`process::view`], which takes some ten system calls, once for all layers: this program never changes it.
fn own_view() -> Digest {
    static VIEW: OnceLock<Digest> = OnceLock::new();
    *VIEW.get_or_init(|| Digest::of(&process::view()))
}

/// The bytes of the file for a directory with the digest `tree`.
pub(super) fn file(tree: &Digest, listing: &[u8]) -> Vec<u8> {
    let mut bytes = [&VERSION[..], &[0; DIGEST], tree.bytes(), own_view().bytes(), listing].concat();
    if let Some((header, body)) = bytes.split_at_mut_checked(HEADER) {
        let checksum = Digest::of(body);
        header.iter_mut().rev().zip(checksum.bytes().iter().rev()).for_each(|(byte, digit)| *byte = *digit);
    }
    bytes
}

/// Writes the inventory of a layer anew: the old one or the new one is there, whatever happens.
pub(super) fn replace(temp: &Dir, dir: &Dir, facts: &Facts) -> Result<()> {
    temp.write(FILE, &file(&facts.tree, &facts.listing))?;
    temp.rename(FILE, dir, FILE)?;
    dir.sync()
}

/// Makes a layer of a store of the directory `diff` in `layer`, as a load records it.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn describe(layer: &Path) {
    use crate::image::digest::{ChainId, DiffId};
    let dir = Dir::open_root(layer).unwrap();
    let facts = super::tree::facts(&dir.open("diff").unwrap(), &super::Stop::default()).unwrap();
    let record = LayerRecord {
        schema: record::SCHEMA,
        chain_id: ChainId::base(DiffId(facts.tree)),
        diff_id: DiffId(facts.tree),
        blob: facts.tree,
        blob_size: 0,
        parent: None,
        tar_size: 0,
        content: facts.content,
        disk: facts.disk,
        entries: facts.entries,
        override_stat: false,
        tree: facts.tree,
        created: 0,
    };
    for file in [FILE, "layer.json"] {
        dir.remove(file).unwrap();
    }
    dir.write(FILE, &file(&facts.tree, &facts.listing)).unwrap();
    dir.write("layer.json", &record::bytes(&dir, &record).unwrap()).unwrap();
}
