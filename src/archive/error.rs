//! Why a layer could not be read or written.

use crate::image::digest::Digest;
use crate::sys;
use std::borrow::Cow;
use std::{fmt, io};

/// The result of reading or writing a layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a layer could not be read or written. The message does not name the layer; the caller knows which it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading the blob failed.
    #[error("reading the layer: {0}")]
    Read(#[source] io::Error),
    /// The compressed data are damaged, cut off, or of a kind that is not supported.
    #[error("{0}")]
    Compression(Cow<'static, str>),
    /// The blob has another length. Reading stops one byte after the expected end.
    #[error("size mismatch: expected {expected} bytes, found {}", Found(*.found, *.more))]
    Size {
        /// What the descriptor says, in bytes.
        expected: u64,
        /// How many were read.
        found: u64,
        /// There are more than that.
        more: bool,
    },
    /// The blob, or the tar stream in it, is not what its digest says.
    #[error("{what} mismatch: expected {expected}, found {found}")]
    Digest {
        /// `digest` (of the blob) or `diff_id` (of the tar stream).
        what: &'static str,
        /// What was promised.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
    /// The archive is malformed outside any entry that has a name.
    #[error("malformed tar archive at byte {at}: {what}")]
    Malformed {
        /// Offset in the uncompressed stream.
        at: u64,
        /// What is wrong.
        what: Cow<'static, str>,
    },
    /// An entry is malformed, refused, or contradicts the others.
    #[error("entry '{name}': {what}")]
    Entry {
        /// Its name, with unprintable bytes escaped.
        name: String,
        /// What is wrong.
        what: Cow<'static, str>,
    },
    /// A limit of [`super::Limits`] was passed.
    #[error("the layer is too large: {0}")]
    Limit(Cow<'static, str>),
    /// The system refused to make an entry.
    #[error("entry '{name}': {source}")]
    Write {
        /// Its name, with unprintable bytes escaped.
        name: String,
        /// What failed.
        source: sys::Error,
    },
    /// The list of what is left to do, a temporary file, could not be written or read.
    #[error("temporary file: {0}")]
    Spool(#[source] io::Error),
    /// Whoever was told the entries wants no more.
    #[error("stopped")]
    Stopped,
    /// Nothing that belongs to one entry.
    #[error(transparent)]
    System(#[from] sys::Error),
}

impl Error {
    /// An error about the entry `name`.
    pub(crate) fn entry(name: &[u8], what: impl Into<Cow<'static, str>>) -> Self {
        Self::Entry { name: shown(name), what: what.into() }
    }

    /// A system call that failed for the entry `name`.
    pub(super) fn write(name: &[u8], source: sys::Error) -> Self {
        Self::Write { name: shown(name), source }
    }

    /// Whether the blob may be to blame, so that its digest should be looked at before this is reported.
    pub(crate) fn blames_the_blob(&self) -> bool {
        use Error::{Limit, Read, Spool, Stopped, System, Write};
        !matches!(self, Read(_) | Write { .. } | Spool(_) | Stopped | System(_) | Limit(_))
    }
}

struct Found(u64, bool);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1 { write!(f, "more") } else { self.0.fmt(f) }
    }
}

/// A name fit for a message ([`name`](crate::image::format::name)), and not endless.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = crate::image::format::name(&name[..name.len().min(LONGEST)]);
    if name.len() > LONGEST { format!("{text}...") } else { text.into_owned() }
}
