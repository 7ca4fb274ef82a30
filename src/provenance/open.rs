//! From where layers are to their merged tree.

use super::index::Index;
use super::layer::{EntryId, Facts, Layer};
use super::merged::Merged;
use super::origin::{Blob, Directory, Origin, Root};
use super::tar::{self, Budget, Unsettled};
use super::tree::Number;
use super::walk;
use super::{Error, Result, settle};
use crate::archive::{Expected, Limits};
use crate::image::container::{ImageInSource, Source};
use crate::image::{Config, Digest, Document, MOST_LAYERS};
use crate::store::in_parallel;
use crate::sys::Errno;
use rustc_hash::FxHashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A layer that is a directory, as a mount would stack it.
#[derive(Clone, Debug, Default)]
pub struct LayerDirectory {
    /// The directory.
    pub path: PathBuf,
    /// Owners, modes and device numbers are in `user.containers.override_stat`.
    pub override_stat: bool,
    /// Nothing of it is merged: it only holds data of metacopy files. Such layers are below all others.
    pub data_only: bool,
    /// Of a writable layer: its work directory, whose index of hard links says under which further names its files are seen.
    pub work: Option<PathBuf>,
    /// What is known of the layer; the directory itself is filled in.
    pub facts: Facts,
}

impl LayerDirectory {
    /// A directory of which nothing else is known.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }

    /// The lowest `wanted` of a stack's layers (all for `None`), and what only holds their data. `name` is what messages call
    /// the stack.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn lowest(name: &str, mut stack: Vec<Self>, wanted: Option<usize>) -> Result<Vec<Self>> {
        let data_only = stack.iter().filter(|layer| layer.data_only).count();
        let has = stack.len() - data_only;
        match wanted {
            Some(wanted) if wanted > has => return Err(Error::NoSuchLayer { name: name.to_owned(), has, wanted }),
            Some(wanted) => stack.truncate(data_only + wanted),
            None => {}
        }
        Ok(stack)
    }
}

/// How many threads read layers.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Merged {
    /// Reads layer directories, the lowest first. Contents are not read; nothing is changed, not even access times where
    /// that is allowed. `name` is what messages call it, `image` the image whose layers they are.
    ///
    /// # Errors
    /// [`Error::Read`] names the directory that could not be read. One in a layer that may not be is taken for empty;
    /// [`Merged::check_read`] and [`Merged::check_way`] say whether an answer needs it.
    pub fn of_directories(name: &str, image: Option<Digest>, layers: Vec<LayerDirectory>) -> Result<Self> {
        let (data_only, layers): (Vec<_>, Vec<_>) = layers.into_iter().partition(|layer| layer.data_only);
        let data_only = data_only.iter().rev().map(|layer| Root::open(&layer.path)).collect::<Result<Vec<_>>>()?;
        let directories = open(&layers)?;
        let read = walk::read(&directories, !data_only.is_empty(), threads())?;
        let index = Index::of(&directories, &read)?;
        let mut unread = Vec::new();
        for (number, read) in (0..).map(Number::at).zip(&read) {
            unread.extend(read.unread.iter().map(|(entry, error)| (number, EntryId(*entry), *error)));
        }
        let layers = layers.into_iter().zip(directories).zip(read).map(|((layer, directory), read)| Layer {
            facts: Facts { directory: Some(layer.path), ..layer.facts },
            named: read.entries.len(),
            entries: read.entries,
            text: read.text,
            digests: Vec::new(),
            sources: FxHashMap::default(),
            origin: Origin::Directory(directory),
        });
        Self::new(name.to_owned(), image, layers.collect(), index)?.on(data_only).without(unread)
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
        Self::of_image_within(name, source, image, layers, (limits, &Budget::default()))
    }

    /// The same with another budget of memory.
    pub(super) fn of_image_within(
        name: &str,
        source: &Arc<Source>,
        image: &ImageInSource,
        layers: Option<usize>,
        (limits, budget): (&Limits, &Budget),
    ) -> Result<Self> {
        let has = image.layers.len();
        let wanted = layers.unwrap_or(has);
        let chosen = image.layers.get(..wanted).ok_or(Error::NoSuchLayer { name: name.to_owned(), has, wanted })?;
        if chosen.len() > MOST_LAYERS {
            return Err(Error::TooLarge("the archive has more than 1,000 layers; look at fewer of them (TARGET@N)"));
        }
        let blobs: Vec<Blob> = chosen
            .iter()
            .map(|layer| Blob { source: source.clone(), layer: layer.clone(), limits: limits.clone() })
            .collect();
        let (mut layers, facts) = (Vec::new(), facts(&image.config));
        let read = in_parallel(threads(), blobs.len(), &|n| blobs[n].read(budget))?;
        for ((read, blob), facts) in read.into_iter().zip(blobs).zip(facts) {
            let facts = Facts { blob: Some(read.read.blob), compressed: Some(read.read.size), ..facts };
            let Unsettled { entries, text, digests, links, .. } = read;
            let sources = FxHashMap::default();
            let (named, origin) = (entries.len(), Origin::Blob(blob));
            layers.push(Layer { facts, entries, named, text, digests, sources, origin });
            settle::settle(&mut layers, links, budget)?;
        }
        Self::new(name.to_owned(), Some(image.config.digest()), layers, Index::default())
    }
}

/// Opens layer directories.
fn open(layers: &[LayerDirectory]) -> Result<Vec<Directory>> {
    let open = |layer: &LayerDirectory| {
        let index = layer.work.as_deref().map_or(Ok(None), open_index)?;
        Ok(Directory { root: Root::open(&layer.path)?, dialects: Vec::new(), index })
    };
    let mut directories = layers.iter().map(open).collect::<Result<Vec<_>>>()?;
    if layers.iter().any(|layer| layer.override_stat) {
        let dialects = walk::dialects(&directories)?;
        for (directory, _) in directories.iter_mut().zip(layers).filter(|(_, layer)| layer.override_stat) {
            directory.dialects.clone_from(&dialects);
        }
    }
    Ok(directories)
}

/// The index of hard links in a work directory, which has none before the first mount.
fn open_index(work: &Path) -> Result<Option<Root>> {
    match Root::open(work)?.directory("index") {
        Err(Error::Read { source, .. }) if source.is(Errno::NOENT) => Ok(None),
        opened => opened.map(Some),
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

    fn read(&self, budget: &Budget) -> Result<Unsettled> {
        let reader = self.source.open_layer(&self.layer)?;
        let read = tar::read(reader, self.expected(), &self.limits, budget);
        read.map_err(|source| Error::Layer { what: self.layer.describe(), source })
    }
}

/// Directories as mount options name them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stack<'a> {
    /// Topmost first.
    pub lower: &'a [PathBuf],
    /// Layers below those that only hold data, topmost first.
    pub data_only: &'a [PathBuf],
    /// The writable directory.
    pub upper: Option<&'a Path>,
    /// Its work directory; `None` also where the index of hard links is not used.
    pub work: Option<&'a Path>,
    /// [`LayerDirectory::override_stat`] of all of them.
    pub override_stat: bool,
}

impl Stack<'_> {
    /// The same, the lowest first.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerDirectory> {
        let layer =
            |path: &Path| LayerDirectory { override_stat: self.override_stat, ..LayerDirectory::new(path.to_owned()) };
        let data_only = self.data_only.iter().rev().map(|path| LayerDirectory { data_only: true, ..layer(path) });
        let lower = self.lower.iter().rev().map(|path| layer(path));
        let upper = self.upper.map(|path| LayerDirectory {
            work: self.work.map(Path::to_owned),
            facts: Facts { writable: true, ..Facts::default() },
            ..layer(path)
        });
        data_only.chain(lower).chain(upper).collect()
    }
}
