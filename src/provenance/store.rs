//! Images and writable layers of the store.

use super::open::{self, LayerDirectory, Stack};
use super::{Merged, Result};
use crate::image::{Config, Document};
use crate::store::{Error, Image, Reading, Store};

impl Merged {
    /// The first `layers` layers of an image in the store (all for `None`). The caller pins it ([`Store::pin`]), so that
    /// nobody removes what is being read.
    ///
    /// # Errors
    /// As [`Merged::of_directories`], and when the image or a layer is missing or damaged.
    pub fn of_image(name: &str, store: &Store, image: &Image, layers: Option<usize>) -> Result<Self> {
        let directories = image_layers(store, image, layers)?;
        Self::of_directories(name, Some(image.record.id), directories)
    }

    /// A writable layer of the store on what it stands on; the lowest `layers` of that stack (all for `None`).
    ///
    /// # Errors
    /// As [`Merged::of_directories`], and [`super::Error::NoSuchLayer`].
    pub fn of_writable(name: &str, store: &Store, reading: &Reading, layers: Option<usize>) -> Result<Self> {
        let pin = reading.pin();
        let writable = reading.writable();
        let image = match store.find(&writable.record.image.to_string()) {
            Ok(image) => Some(image),
            Err(Error::NoImage(_)) => None,
            // The layers are there without it; only what it says of them is missing.
            Err(e) => {
                log::warn!("{name}: {e}");
                None
            }
        };
        let (upper, work) = (Some(writable.upper.as_path()), Some(writable.work.as_path()));
        let stack = Stack { lower: pin.lower(), data_only: &[], upper, work, override_stat: pin.override_stat() };
        let mut directories = LayerDirectory::lowest(name, stack.layers(), layers)?;
        if let Some(image) = &image {
            // The image can be gone, its layers not.
            for (layer, known) in directories.iter_mut().zip(image_layers(store, image, Some(writable.record.layers))?)
            {
                layer.facts = known.facts;
            }
        }
        Self::of_directories(name, image.map(|image| image.record.id), directories)
    }
}

fn image_layers(store: &Store, image: &Image, layers: Option<usize>) -> Result<Vec<LayerDirectory>> {
    let config: Document<Config> = Document::parse_config(store.config(&image.record)?)?;
    let mut facts = open::facts(&config).into_iter();
    let mut paths = store.layer_dirs(&image.record, layers)?;
    paths.reverse();
    let mut directories = Vec::new();
    for (path, layer) in paths.into_iter().zip(&image.record.layers) {
        let override_stat = store.layer(&layer.chain_id)?.is_some_and(|record| record.override_stat);
        let mut facts = facts.next().unwrap_or_default();
        (facts.blob, facts.compressed) = (Some(layer.blob), Some(layer.blob_size));
        directories.push(LayerDirectory { override_stat, facts, ..LayerDirectory::new(path) });
    }
    Ok(directories)
}
