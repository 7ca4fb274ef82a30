//! Images from a container of `crate::image`, as [`Store::load`] takes them.

use super::Store;
use super::incoming::{Documents, Incoming, IncomingLayer};
use crate::archive::Limits;
use crate::image::Reference;
use crate::image::container::{ImageInSource, Source};
use std::io::Read;
use std::path::PathBuf;

impl Store {
    /// An image of a layout or archive, to be loaded under the names `references`.
    #[must_use]
    pub fn incoming<'a>(
        source: &'a Source,
        image: &'a ImageInSource,
        references: Vec<Reference>,
        limits: Limits,
    ) -> Incoming<'a> {
        let config = image.config.bytes().to_vec();
        let documents = match &image.manifest {
            Some(manifest) => Documents::Given { manifest: manifest.bytes().to_vec(), config },
            None => Documents::Made(Box::new(|found| {
                let blobs: Vec<_> = found.iter().map(|layer| (layer.blob, layer.size)).collect();
                Ok((image.manifest_for(&blobs)?.bytes().to_vec(), config))
            })),
        };
        let layers = image.layers.iter().map(|layer| IncomingLayer {
            diff_id: Some(layer.diff_id),
            blob: layer.digest,
            size: Some(layer.size),
            open: Box::new(move || {
                let reader = source.open_layer(layer).map_err(std::io::Error::other)?;
                Ok(Box::new(reader) as Box<dyn Read + Send>)
            }),
        });
        Incoming { documents, layers: layers.collect(), references, limits }
    }

    /// Where a command may put what it cannot read twice, such as an archive from a pipe: on the file system of the store.
    /// Files there must be without a name (`O_TMPFILE`), as nobody sweeps others.
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        self.root.at("tmp")
    }
}
