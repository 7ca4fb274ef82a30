//! What can go wrong, as sentences that name the path and what to do.

use super::parallel::Failure;
use crate::image::MOST_LAYERS;
use crate::image::format::{self, layer_count};
use crate::sys::{self, Errno};
use std::path::{Path, PathBuf};

/// The result of an operation on the store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on the store failed. The message is a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {doing} {path}: {source}{hint}", path = format::path(path), hint = hint(source))]
    Io {
        /// What was done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it failed with.
        source: std::io::Error,
    },
    /// The store was written by a newer program.
    #[error("the store {path} has format {found}, this program knows up to {known}; use a newer laminafs", path = format::path(path))]
    NewerFormat {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest known here.
        known: u64,
    },
    /// The directory holds something else.
    #[error("{path} is not a laminafs store: {why}; give an empty or new directory", path = format::path(path))]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What speaks against it.
        why: String,
    },
    /// A file of the store does not hold what it should.
    #[error("{path} is damaged: {why}; `laminafs verify --repair` takes it out", path = format::path(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Bytes that came in are not what was announced.
    #[error("{what}: {property} is {found}, expected {expected}; the image is damaged, fetch it again")]
    Mismatch {
        /// Which object.
        what: String,
        /// Which of its properties.
        property: &'static str,
        /// As announced.
        expected: String,
        /// As found.
        found: String,
    },
    /// No image of that name, id or digest.
    #[error("no such image: {0}; `laminafs images` lists what there is")]
    NoImage(String),
    /// A blob that should be there is not.
    #[error("blob {0} is not in the store; load the image again")]
    NoBlob(crate::image::digest::Digest),
    /// A layer that should be there is not.
    #[error("layer {0} is not in the store; load the image again")]
    NoLayer(crate::image::digest::ChainId),
    /// A name that cannot be given to an image.
    #[error("{0} cannot be given to an image: a name has a tag and no digest, as in alpine:3.20")]
    NotATag(String),
    /// An id prefix that several images share.
    #[error("{prefix} is the beginning of several image ids: {}; give more digits", candidates.join(", "))]
    Ambiguous {
        /// As given.
        prefix: String,
        /// The ids.
        candidates: Vec<String>,
    },
    /// The image is needed.
    #[error("image {image} is in use by {}; remove that first, or use -f to remove the name only", by.join(", "))]
    ImageInUse {
        /// Name or id.
        image: String,
        /// What needs it.
        by: Vec<String>,
    },
    /// Removal by id of an image that several repositories name.
    #[error("image {image} has names in several repositories: {}; remove these, or use -f", names.join(", "))]
    SeveralNames {
        /// The id.
        image: String,
        /// The names.
        names: Vec<String>,
    },
    /// The image has fewer layers.
    #[error("image {image} has {}, not {wanted}", layer_count(*has))]
    FewerLayers {
        /// Name or id.
        image: String,
        /// How many it has.
        has: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// No writable layer of that name.
    #[error("no such writable layer: {0}; `laminafs ps -a` lists what there is")]
    NoWritable(String),
    /// A writable layer of that name is there.
    #[error(
        "there is a writable layer {0}; mount it again without naming an image (laminafs mount --name {0} MOUNTPOINT), or choose another name"
    )]
    NameTaken(String),
    /// A name that a writable layer cannot have.
    #[error(
        "{0:?} cannot be the name of a writable layer: use letters, digits, '_', '.' and '-', at most 128, beginning with a letter or digit"
    )]
    BadName(String),
    /// The writable layer is mounted, or being changed.
    #[error("writable layer {name} is {}", busy(mountpoint.as_deref()))]
    Busy {
        /// Its name.
        name: String,
        /// Where it is mounted, if that is known.
        mountpoint: Option<PathBuf>,
    },
    /// An image is not what it should be.
    #[error("{0}")]
    Image(#[from] crate::image::Error),
    /// An image of more layers than [`MOST_LAYERS`].
    #[error("it has {0} layers, and {MOST_LAYERS} at most are taken; join some of them")]
    TooManyLayers(usize),
    /// A layer cannot be unpacked.
    #[error("{what}: {source}")]
    Layer {
        /// Which layer.
        what: String,
        /// Why.
        source: crate::archive::Error,
    },
    /// Given up because another layer of the same image failed, which is the error that is told; or because of
    /// [`super::Stop::ask`].
    #[error("given up before it was done")]
    GivenUp,
    /// A thread that unpacked a layer broke down; this is a fault in laminafs.
    #[error("a thread that unpacked a layer ended unexpectedly; please report this")]
    Thread,
}

impl Error {
    /// Whether a system call failed with `errno`.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        matches!(self, Error::Io { source, .. } if source.raw_os_error() == Some(errno.raw_os_error()))
    }

    /// Whether it says something of this process, or of the machine, and nothing of what was to be read.
    pub(super) fn is_of_the_process(&self) -> bool {
        let few = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        matches!(self, Error::GivenUp) || few.into_iter().any(|errno| self.is(errno))
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, why: impl std::fmt::Display) -> Self {
        Error::Damaged { path: path.into(), why: why.to_string() }
    }
}

impl Failure for Error {
    fn broken() -> Self {
        Self::Thread
    }

    fn is_consequence(&self) -> bool {
        matches!(self, Self::GivenUp)
    }
}

fn hint(source: &std::io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "; `laminafs prune` removes what nothing uses",
        Some(libc::EACCES | libc::EPERM) => "; the store belongs to another user, give another one with --root",
        Some(libc::EROFS) => "; the store must be writable",
        _ => "",
    }
}

fn busy(mountpoint: Option<&Path>) -> String {
    match mountpoint {
        Some(path) => format!("mounted on {0}; unmount it with: laminafs umount {0}", path.display()),
        None => "in use by another laminafs; try again when that has ended".to_owned(),
    }
}

/// Turns a failed system call into an error that names what was done to `path`.
pub(super) fn io(doing: &'static str, path: &Path) -> impl Fn(sys::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source: source.into() }
}
