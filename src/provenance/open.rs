//! From where layers are to their merged tree.

use super::layer::{Facts, Layer};
use super::merged::Merged;
use super::origin::{Blob, Origin};
use super::tar::{self, Unsettled};
use super::walk::{self, Directory};
use super::{Error, Result, settle};
use crate::archive::{Expected, Limits};
use crate::image::container::{ImageInSource, Source};
use crate::image::{Config, Digest, Document};
use crate::sys;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A layer that is a directory, as a mount would stack it.
#[derive(Clone, Debug, Default)]
pub struct LayerDirectory {
    /// The directory.
    pub path: PathBuf,
    /// Owners, modes and device numbers are in `user.containers.override_stat`.
    pub override_stat: bool,
    /// What is known of the layer; the directory itself is filled in.
    pub facts: Facts,
}

impl LayerDirectory {
    /// A directory of which nothing else is known.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Merged {
    /// Reads layer directories, the lowest first. Contents are not read; nothing is changed, not even access times where
    /// that is allowed. `name` is what messages call it, `image` the image whose layers they are.
    ///
    /// # Errors
    /// [`Error::Read`] names the directory that could not be read.
    pub fn of_directories(name: &str, image: Option<Digest>, layers: Vec<LayerDirectory>) -> Result<Self> {
        let mut directories = Vec::new();
        for LayerDirectory { path, override_stat, .. } in &layers {
            let root = sys::open_root(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let (root, path) = (Arc::new(root), path.clone());
            directories.push(Directory { root, path, override_stat: *override_stat });
        }
        let read = walk::read(&directories, threads())?;
        let layers = layers.into_iter().zip(directories).zip(read).map(|((layer, directory), read)| Layer {
            facts: Facts { directory: Some(layer.path), ..layer.facts },
            entries: read.entries,
            text: read.text,
            digests: Vec::new(),
            sources: FxHashMap::default(),
            origin: Origin::Directory(directory),
        });
        Self::new(name.to_owned(), image, layers.collect())
    }

    /// Reads the layers of an image in an archive or layout, the lowest `layers` of them (all for `None`), without
    /// unpacking them anywhere. Every blob is read once, and sizes and digests are compared, as when it is loaded.
    ///
    /// # Errors
    /// [`Error::Layer`] for what `load` would refuse; [`Error::NoSuchLayer`].
    pub fn of_image_in(
        name: &str,
        source: &Arc<Source>,
        image: &ImageInSource,
        layers: Option<usize>,
        limits: &Limits,
    ) -> Result<Self> {
        let has = image.layers.len();
        let wanted = layers.unwrap_or(has);
        let chosen = image.layers.get(..wanted).ok_or(Error::NoSuchLayer { name: name.to_owned(), has, wanted })?;
        let blobs: Vec<Blob> = chosen
            .iter()
            .map(|layer| Blob { source: source.clone(), layer: layer.clone(), limits: limits.clone() })
            .collect();
        let (mut layers, facts) = (Vec::new(), facts(&image.config));
        for ((read, blob), facts) in in_parallel(&blobs)?.into_iter().zip(blobs).zip(facts) {
            let facts = Facts { blob: Some(read.read.blob), compressed: Some(read.read.size), ..facts };
            let Unsettled { entries, text, digests, links, .. } = read;
            let sources = FxHashMap::default();
            layers.push(Layer { facts, entries, text, digests, sources, origin: Origin::Blob(blob) });
            settle::settle(&mut layers, links)?;
        }
        Self::new(name.to_owned(), Some(image.config.digest()), layers)
    }
}

/// What a configuration tells of each of its layers, the lowest first.
#[must_use]
pub fn facts(config: &Document<Config>) -> Vec<Facts> {
    let layers = config.layers(&[]).into_iter();
    let mut facts: Vec<Facts> = layers
        .map(|layer| Facts { diff_id: Some(layer.diff_id), chain_id: Some(layer.chain_id), ..Facts::default() })
        .collect();
    for step in config.steps(&[]) {
        let made = step.layer.and_then(|layer| facts.get_mut(layer.index));
        if let (Some(facts), Some(history)) = (made, step.history) {
            facts.command.clone_from(&history.created_by);
        }
    }
    facts
}

impl Blob {
    /// What the blob must turn out to be.
    pub fn expected(&self) -> Expected {
        let layer = &self.layer;
        Expected { blob: layer.digest, size: Some(layer.size), diff_id: Some(layer.diff_id) }
    }

    fn read(&self) -> Result<Unsettled> {
        let reader = self.source.open_layer(&self.layer)?;
        let read = tar::read(reader, self.expected(), &self.limits);
        read.map_err(|source| Error::Layer { what: self.layer.describe(), source })
    }
}

/// Reads several layers at once; after a failure no further one is begun.
fn in_parallel(blobs: &[Blob]) -> Result<Vec<Unsettled>> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done: Vec<Mutex<Option<Result<Unsettled>>>> = blobs.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(blob), Some(place)) = (blobs.get(at), done.get(at)) else { return };
            let read = blob.read();
            stop.fetch_or(read.is_err(), Ordering::Relaxed);
            *place.lock() = Some(read);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads().min(blobs.len())).map(|_| scope.spawn(work)).collect();
        work();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| Error::Thread))
    })?;
    let mut layers = Vec::new();
    for place in done {
        // Those after a failure are not there, and the failure comes first.
        layers.extend(place.into_inner().transpose()?);
    }
    if layers.len() == blobs.len() { Ok(layers) } else { Err(Error::Thread) }
}

/// Directories as `--lower A:B` and mount options name them: topmost first.
#[must_use]
pub fn stack_of(lower: &[PathBuf], upper: Option<&Path>, override_stat: bool) -> Vec<LayerDirectory> {
    let lower = lower.iter().rev().map(|path| LayerDirectory { override_stat, ..LayerDirectory::new(path.clone()) });
    let upper = upper.map(|path| LayerDirectory {
        override_stat,
        facts: Facts { writable: true, ..Facts::default() },
        ..LayerDirectory::new(path.to_owned())
    });
    lower.chain(upper).collect()
}
