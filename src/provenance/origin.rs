//! Where the contents of a layer are, for those who ask for them later.

use super::walk::Directory;
use crate::archive::Limits;
use crate::image::container::{LayerBlob, Source};
use std::sync::Arc;

/// What a layer was read from.
#[derive(Debug)]
pub(super) enum Origin {
    /// A directory.
    Directory(Directory),
    /// A blob of a layout or an archive, which is read again from its beginning.
    Blob(Blob),
}

/// A layer in a container of images.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub source: Arc<Source>,
    pub layer: LayerBlob,
    pub limits: Limits,
}
