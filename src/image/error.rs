//! What can be wrong with an image or the container it comes in; each message is a sentence for the user.

use super::digest::{Digest, DigestError};
use super::reference::ReferenceError;

/// Why an image could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path where there is one.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A document is not what the specification describes.
    #[error("{what} is not valid: {why}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A document is larger than is accepted.
    #[error("{what} has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// Which document.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A digest is malformed or of another algorithm.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// An image name is malformed.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Bytes do not have the digest they should have.
    #[error("{what} should have digest {expected}, but has {found}")]
    DigestMismatch {
        /// Which blob.
        what: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A blob does not have the size it should have.
    #[error("{what} should have {expected} bytes, but has {found}")]
    SizeMismatch {
        /// Which blob.
        what: String,
        /// The size that was promised.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// The container is damaged or of a kind that is not read here.
    #[error("{container}: {why}")]
    Container {
        /// The directory, file or stream.
        container: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something that a document names is not in the container.
    #[error("{container}: {what} is missing")]
    Missing {
        /// The directory, file or stream.
        container: String,
        /// What is missing.
        what: String,
    },
    /// No image for the wanted platform.
    #[error("no image for platform {wanted}; there is: {available}")]
    NoPlatform {
        /// The platform asked for.
        wanted: String,
        /// What there is instead, separated by commas.
        available: String,
    },
    /// No image under the wanted name.
    #[error("{container} has no image {wanted}; there is: {available}")]
    NoImage {
        /// The directory, file or stream.
        container: String,
        /// The name asked for.
        wanted: String,
        /// The names there are, separated by commas.
        available: String,
    },
    /// Text that should be a platform is not.
    #[error("'{0}' is not a platform; write os/architecture or os/architecture/variant, as in linux/arm64/v8")]
    Platform(String),
    /// Text that should name an image or its place does not.
    #[error("'{text}' does not name an image: {why}")]
    Location {
        /// The argument.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Result of working with image data.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// A document that breaks a rule.
    pub(crate) fn document(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Document { what: what.into(), why: why.into() }
    }

    /// The same, saying which container the document is in that breaks a rule.
    pub(crate) fn within(self, container: &str) -> Self {
        match self {
            Self::Document { what, why } => Self::Document { what: format!("{what} in {container}"), why },
            Self::DigestMismatch { what, expected, found } => {
                Self::DigestMismatch { what: format!("{what} in {container}"), expected, found }
            }
            other => other,
        }
    }

    /// A damaged container, or one of a kind that is not read here.
    pub(crate) fn container(container: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Container { container: container.into(), why: why.into() }
    }
}
