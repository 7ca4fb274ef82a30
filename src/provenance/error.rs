//! Why layers cannot be inspected, as sentences for the user.

use crate::image::format::{self, layer_count};
use crate::{archive, engine, image, store, sys};
use std::path::PathBuf;

/// The result of reading layers.
pub type Result<T> = std::result::Result<T, Error>;

/// Why layers cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in a layer directory cannot be read.
    #[error("{path}: {source}", path = format::path(path))]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: sys::Error,
    },
    /// A layer in an archive cannot be read.
    #[error("{what}: {source}")]
    Layer {
        /// Which.
        what: String,
        /// Why.
        source: archive::Error,
    },
    /// An object cannot be shown.
    #[error("{path} {what}")]
    Entry {
        /// Its path.
        path: String,
        /// Why.
        what: String,
    },
    /// Of a live mount: what was listed is not there any more.
    #[error("{path} was removed or exchanged while it was read", path = format::path(path))]
    Changed {
        /// What.
        path: PathBuf,
    },
    /// A file of metadata only, whose data are not to be found.
    #[error("{path} has its data in a layer that is not here")]
    NoData {
        /// Its path.
        path: String,
    },
    /// More than this program can hold.
    #[error("too large to be inspected: {0}")]
    TooLarge(&'static str),
    /// There are fewer layers.
    #[error("{name} has {}, not {wanted}", layer_count(*has))]
    NoSuchLayer {
        /// What was asked for.
        name: String,
        /// How many there are.
        has: usize,
        /// Which one was asked for.
        wanted: usize,
    },
    /// Who takes the contents of a file does not take them.
    #[error("cannot write: {0}")]
    Write(#[source] std::io::Error),
    /// A worker ended early.
    #[error("a thread that read layers broke down")]
    Thread,
    /// The image or container of images cannot be read.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The engine's storage cannot be read.
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

impl store::Failure for Error {
    fn broken() -> Self {
        Self::Thread
    }
}
