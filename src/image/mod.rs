//! OCI and Docker image data: digests, references, manifests, configurations, and the containers they come in.
//!
//! | question | module |
//! |---|---|
//! | What is a digest, a diff id, a chain id? | [`digest`] |
//! | What does `alpine` mean? | [`mod@reference`] |
//! | What does `oci:dir:tag` or `alpine@3` mean on the command line? | [`location`] |
//! | What is in a manifest or an index? | [`document`] |
//! | What is in an image's configuration, which layer did which command make? | [`config`] |
//! | What does `--change 'ENV A=b'` do to it? | [`change`] |
//! | Which image of an index is for this machine? | [`platform`] |
//! | Which images are in a directory, file or stream, and where are their layers? | [`container`] |
//! | How are images written into an archive? | [`writer`] |
//! | What does a commit make of the documents below? | [`commit`] |
//! | Times, ages and sizes as Docker prints them | [`time`], [`mod@format`] |
//!
//! Everything read here is untrusted. Documents are kept as the bytes they came in, because the digest of those bytes
//! is the identity of an image; nothing is ever re-serialised to compute it.

pub mod change;
pub mod commit;
pub mod config;
pub mod container;
pub mod digest;
pub mod document;
mod error;
pub mod format;
pub mod location;
pub mod platform;
pub mod reference;
pub mod time;
pub mod writer;

/// The most layers that an image may have, in the store, in an archive or in an engine's storage. Docker takes 127, podman and
/// kernel overlayfs 500. Each is a descriptor of every mount, and what looking into all of them costs grows with the square of
/// their number.
pub const MOST_LAYERS: usize = 1000;

pub use config::{Config, History};
pub use digest::{ChainId, DiffId, Digest};
pub use document::{Descriptor, Document, Index, Manifest};
pub use error::{Error, Result};
pub use platform::Platform;
pub use reference::Reference;
