//! What can go wrong, as sentences that name the path.

use crate::overlay;
use std::borrow::Cow;
use std::io;

/// Result of comparing or packing.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a tree could not be compared or packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer could not be opened.
    #[error(transparent)]
    Open(#[from] overlay::OpenError),
    /// Something in the tree could not be read.
    #[error("/{path}: {source}")]
    Read {
        /// Its path, with unprintable bytes escaped.
        path: String,
        /// What failed.
        source: overlay::Error,
    },
    /// What was there a moment ago is not now: somebody changes the tree.
    #[error("/{path} went away while it was read; stop what writes there, or unmount it, and try again")]
    Gone {
        /// Its path, with unprintable bytes escaped.
        path: String,
    },
    /// Somebody changed the tree.
    #[error("/{path} {what} while it was read; stop what writes there, or unmount it, and try again")]
    Unsteady {
        /// Its path, with unprintable bytes escaped.
        path: String,
        /// What happened to it.
        what: Cow<'static, str>,
    },
    /// There is no way to write it into a layer.
    #[error("/{path} {what}")]
    Unwritable {
        /// Its path, with unprintable bytes escaped.
        path: String,
        /// Why.
        what: &'static str,
    },
    /// The archive could not be written.
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
    /// Whoever was told the changes wants no more.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// For [`Result::map_err`]: `path` could not be read.
    pub(super) fn read(path: &[u8]) -> impl FnOnce(overlay::Error) -> Self + '_ {
        |source| match source.errno() {
            libc::ENOENT | libc::ESTALE => Self::Gone { path: shown(path) },
            _ => Self::Read { path: shown(path), source },
        }
    }

    /// `path` changed under us.
    pub(super) fn unsteady(path: &[u8], what: &'static str) -> Self {
        Self::Unsteady { path: shown(path), what: what.into() }
    }
}

/// A path fit for a message.
pub(super) fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}
