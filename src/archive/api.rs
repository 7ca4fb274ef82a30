//! What the store calls.

use super::form::Form;
use super::{Error, Pending, Result};
use crate::image::digest::{DiffId, Digest};
use crate::sys::Fd;
use std::io::Read;

/// How a blob is compressed, as its first bytes say; the media type is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar stream, or nothing at all.
    None,
    /// One or several gzip members.
    Gzip,
    /// One or several zstd frames, skippable ones among them.
    Zstd,
}

/// What a blob must turn out to be; what is `None` is not compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Digest of the blob as stored.
    pub blob: Option<Digest>,
    /// Its length in bytes; reading stops one byte after it.
    pub size: Option<u64>,
    /// Digest of the uncompressed stream.
    pub diff_id: Option<DiffId>,
}

/// What is too much. The defaults are generous for real layers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of extension headers (PAX, GNU long names) that belong to one entry.
    pub metadata: u64,
    /// Extension headers in a row.
    pub headers: u32,
    /// Bytes of a path.
    pub path: usize,
    /// Directories in a path.
    pub depth: usize,
    /// Parts of the targets of symbolic links that all paths of a layer together may go through.
    pub links: u64,
    /// Entries in the map of a sparse file.
    pub sparse: usize,
    /// Entries in a layer; and, beside them, directories that only the names of others imply.
    pub entries: u64,
    /// Bytes of the uncompressed stream, and of a sparse file.
    pub bytes: u64,
    /// How many times longer than the blob the stream may be, once it is longer than 64 MiB.
    pub ratio: u64,
    /// Bytes behind the end of the archive: `/dev/zero` begins like an archive without entries.
    pub padding: u64,
}

impl Limits {
    /// For what was accepted before, or was made here: a file with a large hole shrinks more than anything that is offered.
    #[must_use]
    pub fn of_own_content() -> Self {
        Self { entries: u64::MAX, bytes: u64::MAX, ratio: u64::MAX, padding: u64::MAX, ..Self::default() }
    }

    /// A path can go through forty links, and each of them through two thousand parts of names.
    pub(crate) fn check_links(&self, parts: u64, entry: &[u8]) -> Result<()> {
        if parts <= self.links {
            return Ok(());
        }
        let what = format!("is one entry too many that leads through symbolic links: more than {} steps", self.links);
        Err(Error::entry(entry, what))
    }

    /// A name can imply as many directories as it has parts, so that they are counted like entries.
    pub(crate) fn check_implied(&self, directories: u64) -> Result<()> {
        if directories <= self.entries {
            return Ok(());
        }
        let what = format!("more than {} directories that only the names of entries imply", self.entries);
        Err(Error::Limit(what.into()))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            metadata: 1 << 20,
            headers: 16,
            path: 4096,
            depth: 256,
            links: 50_000_000,
            sparse: 10_000,
            entries: 5_000_000,
            bytes: 1 << 40,
            ratio: 1000,
            padding: 64 << 20,
        }
    }
}

/// How to unpack one layer.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The form that the layer directory gets ([`Form::probe`]).
    pub form: Form,
    /// What is compared at the end.
    pub expected: Expected,
    /// What is too much.
    pub limits: &'a Limits,
    /// Called with the number of blob bytes read so far, from another thread, every few hundred KiB.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
}

/// Digests and lengths of a blob in both forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Digest of the blob as stored.
    pub blob: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Digest of the uncompressed stream, to its last byte.
    pub diff_id: DiffId,
    /// Length of the uncompressed stream in bytes.
    pub tar_size: u64,
    /// How the blob is compressed.
    pub compression: Compression,
}

/// What a layer consists of, counted by the entries of its tar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All entries that were applied; global headers and leftovers of aufs are none.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes in them, holes included.
    pub bytes: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Hard links.
    pub links: u64,
    /// Devices and FIFOs.
    pub devices: u64,
    /// Whiteouts and opaque markers.
    pub whiteouts: u64,
    /// Extended attributes that could not be kept: refused by the file system or by this program. Each was logged.
    pub lost_xattrs: u64,
}

/// What [`unpack`] found out.
#[derive(Debug)]
#[must_use = "the layer is not finished before `complete` has worked off what is pending"]
pub struct Unpacked {
    /// What the blob is.
    pub digests: Digests,
    /// What is in it.
    pub counts: Counts,
    /// What [`complete`] has to do.
    pub pending: Pending,
}

/// Unpacks a layer blob into the empty directory `layer`, and compares sizes and digests when it has read all of it.
///
/// `blob` is read to its end (or one byte past the expected size) by a second thread, which also inflates it; this
/// thread hashes and writes. Nothing outside `layer` is touched. Nothing is synced.
///
/// # Errors
/// On any error `layer` holds rubbish that the caller removes. When the blob has the wrong digest, that is the error,
/// whatever else was wrong with its contents.
pub fn unpack(blob: impl Read + Send, layer: Fd<'_>, options: &Options<'_>) -> Result<Unpacked> {
    super::stream::unpack(blob, layer, options)
}

/// Finishes a layer that [`unpack`] has written, given the finished layers below it, the topmost first.
///
/// Hard links whose target is in none of its own entries become copies of the file below, joined with each other.
/// Directories that no entry describes get the attributes of the directory below, or are 0755 of root from 1970.
/// Whiteouts are written where something below would show through, and nowhere else. Nothing is synced.
///
/// # Errors
/// On any error `layer` holds rubbish that the caller removes.
pub fn complete(layer: Fd<'_>, below: &[Fd<'_>], form: Form, pending: Pending) -> Result<()> {
    super::complete::complete(layer, below, form, pending)
}

/// Reads a blob to its end and returns its digests; the tar stream in it is not looked at.
///
/// # Errors
/// As [`unpack`], without those about entries.
pub fn digests(blob: impl Read + Send, expected: Expected, limits: &Limits) -> Result<Digests> {
    super::stream::digests(blob, expected, limits)
}
