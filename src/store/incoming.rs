//! What comes in: an image as [`super::Store::load`] takes it.

use crate::archive::Limits;
use crate::image::Reference;
use crate::image::digest::{ChainId, DiffId, Digest};
use std::io::Read;

/// Opens the blob of a layer anew; called at most once a load.
///
/// Reading that may wait for long does well to end with `ErrorKind::Interrupted` now and then: it is asked again, unless the load is to
/// give up ([`super::Stop`]).
pub type OpenBlob<'a> = Box<dyn Fn() -> std::io::Result<Box<dyn Read + Send + 'a>> + Sync + 'a>;

/// One layer of an image that comes in. What is `None` is not known before the blob is read.
pub struct IncomingLayer<'a> {
    /// Digest of the tar stream.
    pub diff_id: Option<DiffId>,
    /// Digest of the blob.
    pub blob: Option<Digest>,
    /// Length of the blob in bytes.
    pub size: Option<u64>,
    /// Where the blob comes from.
    pub open: OpenBlob<'a>,
}

impl IncomingLayer<'_> {
    /// How messages name it.
    pub(super) fn describe(&self, number: usize) -> String {
        let digest = self.blob.or(self.diff_id.map(|d| d.0));
        digest.map_or_else(|| format!("layer {}", number + 1), |d| format!("layer {} ({d})", number + 1))
    }
}

/// A layer as it was found in the blob or in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundLayer {
    /// Its identity.
    pub chain_id: ChainId,
    /// Digest of the tar stream.
    pub diff_id: DiffId,
    /// Digest of the blob.
    pub blob: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
}

/// Makes manifest and configuration (in this order) once the layers are known.
pub type MakeDocuments<'a> = Box<dyn FnOnce(&[FoundLayer]) -> crate::image::Result<(Vec<u8>, Vec<u8>)> + 'a>;

/// The two documents of an image.
pub enum Documents<'a> {
    /// As they came.
    Given {
        /// The manifest.
        manifest: Vec<u8>,
        /// The configuration; its digest is the image id.
        config: Vec<u8>,
    },
    /// Made from what the layers turned out to be: imports, commits, archives without a manifest.
    Made(MakeDocuments<'a>),
}

/// An image that comes in.
pub struct Incoming<'a> {
    /// Manifest and configuration.
    pub documents: Documents<'a>,
    /// The layers, the lowest first.
    pub layers: Vec<IncomingLayer<'a>>,
    /// The names it gets, each with a tag.
    pub references: Vec<Reference>,
    /// What is too much in a layer.
    pub limits: Limits,
}

/// How far a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is in the store already.
    Present,
    /// So many bytes of the blob were read, of so many if that is known.
    Reading {
        /// Bytes read.
        done: u64,
        /// Length of the blob.
        total: Option<u64>,
    },
    /// All of it was read and verified.
    Read,
}

/// Is told how far each layer (numbered from 0, the lowest) is; called from several threads.
pub type Progress<'a> = &'a (dyn Fn(usize, Step) + Sync);
