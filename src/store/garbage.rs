//! Removal: names, images, and what nothing refers to any more (docs/STORE.md sections 3 and 4).

use super::error::{Error, Result};
use super::image::{Tag, file_name};
use super::lock::{Key, Lock, Locks};
use super::record::ImageRecord;
use super::temp::Trash;
use super::{Store, tree};
use crate::image::Reference;
use crate::image::digest::{ChainId, Digest};
use crate::sys::LockKind;
use rustc_hash::{FxHashMap, FxHashSet};

/// What [`Store::prune`] removes beside unused layers and blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// All images that no writable layer stands on, not only those without a name.
    pub all: bool,
    /// Before that, all writable layers that are not mounted.
    pub writable: bool,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names.
    pub untagged: Vec<Reference>,
    /// Images.
    pub images: Vec<Digest>,
    /// Layers, the topmost of an image first.
    pub layers: Vec<ChainId>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Writable layers.
    pub writable: Vec<String>,
    /// Bytes that were won on disk.
    pub reclaimed: u64,
}

/// All that refers to something, at a moment when nothing is taken away or published.
struct Roots {
    images: Vec<ImageRecord>,
    tags: Vec<Tag>,
    /// Image and topmost layer of the writable layers, with their names.
    writable: Vec<(String, Digest, Option<ChainId>)>,
    /// Each layer that is there: the one below, and the bytes on disk.
    layers: FxHashMap<ChainId, (Option<ChainId>, u64)>,
}

/// What must stay.
#[derive(Default)]
struct Keep {
    layers: FxHashSet<ChainId>,
    blobs: FxHashSet<Digest>,
}

impl Roots {
    /// Fails when anything cannot be read, because what it refers to is then unknown.
    fn read(store: &Store) -> Result<Self> {
        let writable = store.writables()?.into_iter().map(|w| (w.record.name, w.record.image, w.record.chain));
        let mut layers = FxHashMap::default();
        for chain in store.layer_ids()? {
            if let Some(record) = store.layer(&chain)? {
                layers.insert(chain, (record.parent, record.disk));
            }
        }
        let (images, tags) = (store.image_records()?, store.tags()?);
        Ok(Self { images, tags, writable: writable.collect(), layers })
    }

    fn users(&self, image: &Digest) -> Vec<String> {
        let of = self.writable.iter().filter(|(_, id, _)| id == image);
        of.map(|(name, ..)| format!("writable layer {name}")).collect()
    }

    fn keep(&self) -> Keep {
        let mut keep = Keep::default();
        for image in &self.images {
            keep.blobs.extend(image.blobs());
            keep.layers.extend(image.layers.iter().map(|l| l.chain_id));
        }
        for (_, _, chain) in &self.writable {
            let mut next = *chain;
            while let Some(chain) = next {
                keep.layers.insert(chain);
                next = self.layers.get(&chain).and_then(|(parent, _)| *parent);
            }
        }
        keep
    }

    /// How many layers are below.
    fn depth(&self, chain: &ChainId) -> usize {
        let below = |chain: &ChainId| self.layers.get(chain).and_then(|(parent, _)| *parent);
        // A chain that is longer than there are layers would be a ring.
        std::iter::successors(below(chain), below).take(self.layers.len()).count()
    }
}

impl Store {
    /// Removes what `text` names: a name, or with an id (or its beginning) an image with all its names. An image goes with its last
    /// name, and with it the layers and blobs that only it has.
    ///
    /// With `force` an image that is in use loses its names and stays.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::Ambiguous`]; without `force` also [`Error::ImageInUse`], and [`Error::SeveralNames`] for an id.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Removed> {
        let locks = self.locks()?;
        let store = locks.lock(Key::STORE, LockKind::Exclusive)?;
        let mut roots = Roots::read(self)?;
        let image = self.find(text)?;
        let id = image.record.id;
        let named: Option<Tag> = match text.parse::<Reference>() {
            Ok(name) => self.reference(&name)?,
            Err(_) => None,
        };
        let by_name = named.is_some();
        let going: Vec<Tag> = named.map_or_else(|| image.tags.clone(), |tag| vec![tag]);
        let last = going.len() == image.tags.len();
        let mut repositories: Vec<String> = going.iter().map(|tag| tag.name.name()).collect();
        repositories.dedup();
        if !by_name && !force && repositories.len() > 1 {
            let names = going.iter().map(|tag| tag.name.familiar()).collect();
            return Err(Error::SeveralNames { image: text.to_owned(), names });
        }
        let mut removal = Removal::new(self, &locks)?;
        let free = if last { self.free_image(&locks, &roots, &id) } else { Ok(None) };
        let free = match free {
            Err(Error::ImageInUse { .. }) if force && !going.is_empty() => None,
            other => other?,
        };
        removal.untag(&going)?;
        if free.is_some() {
            removal.image(&id)?;
            roots.images.retain(|other| other.id != id);
            let mut layers: Vec<ChainId> = image.record.layers.iter().map(|l| l.chain_id).collect();
            layers.reverse();
            removal.objects(&roots, &layers, &image.record.blobs().collect::<Vec<_>>())?;
        }
        drop(free);
        drop(store);
        Ok(removal.finish())
    }

    /// The lock that keeps others from using the image while it goes.
    fn free_image(&self, locks: &Locks, roots: &Roots, id: &Digest) -> Result<Option<Lock>> {
        let mut by = roots.users(id);
        let lock = if by.is_empty() { locks.try_lock(Key::image(id), LockKind::Exclusive)? } else { None };
        if lock.is_none() {
            if by.is_empty() {
                by.push("a mount or a running load".to_owned());
            }
            return Err(Error::ImageInUse { image: id.short(), by });
        }
        Ok(lock)
    }

    /// Removes images that nothing uses, and all layers and blobs that nothing refers to.
    ///
    /// What a running load or a mount needs stays. Each part is done when it is done: after an error a second call goes on.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a record that cannot be read; then nothing of the kind it may refer to was removed.
    pub fn prune(&self, what: Prune) -> Result<Removed> {
        let locks = self.locks()?;
        let (writable, mut reclaimed) = if what.writable { self.prune_writable(&locks)? } else { Default::default() };
        let store = locks.lock(Key::STORE, LockKind::Exclusive)?;
        let mut roots = Roots::read(self)?;
        let mut removal = Removal::new(self, &locks)?;
        let mut held = Vec::new();
        for id in roots.images.iter().map(|image| image.id).collect::<Vec<_>>() {
            let (tags, rest): (Vec<_>, Vec<_>) = roots.tags.into_iter().partition(|tag| tag.image == id);
            roots.tags = rest;
            if !tags.is_empty() && !what.all {
                continue;
            }
            match self.free_image(&locks, &roots, &id) {
                Err(Error::ImageInUse { .. }) => continue,
                lock => held.push(lock?),
            }
            removal.untag(&tags)?;
            removal.image(&id)?;
            roots.images.retain(|image| image.id != id);
        }
        let mut layers: Vec<ChainId> = roots.layers.keys().copied().collect();
        layers.sort_by_cached_key(|chain| (std::cmp::Reverse(roots.depth(chain)), *chain));
        removal.objects(&roots, &layers, &self.blob_ids()?)?;
        drop(held);
        drop(store);
        let mut removed = removal.finish();
        reclaimed += removed.reclaimed;
        (removed.writable, removed.reclaimed) = (writable, reclaimed);
        Ok(removed)
    }

    fn prune_writable(&self, locks: &Locks) -> Result<(Vec<String>, u64)> {
        let (mut names, mut reclaimed) = (Vec::new(), 0);
        for writable in self.writables()? {
            let name = writable.record.name;
            let _lock = match self.hold_writable(locks, &name) {
                Err(Error::Busy { .. } | Error::NoWritable(_)) => continue,
                lock => lock?,
            };
            reclaimed += tree::disk(&self.writable_dir()?.open(&name)?)?;
            self.take_writable(locks, &name)?;
            names.push(name);
        }
        Ok((names, reclaimed))
    }

    pub(super) fn layer_ids(&self) -> Result<Vec<ChainId>> {
        let names = self.layers()?.names()?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name.to_str()?)).map(ChainId).collect())
    }

    pub(super) fn blob_ids(&self) -> Result<Vec<Digest>> {
        let names = self.blobs()?.names()?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name.to_str()?)).collect())
    }
}

/// Objects on their way out, under the exclusive lock of the store.
struct Removal<'a> {
    store: &'a Store,
    locks: &'a Locks,
    trash: Trash<'a>,
    removed: Removed,
}

impl<'a> Removal<'a> {
    fn new(store: &'a Store, locks: &'a Locks) -> Result<Self> {
        Ok(Self { store, locks, trash: Trash::new(&store.root, locks)?, removed: Removed::default() })
    }

    fn untag(&mut self, tags: &[Tag]) -> Result<()> {
        let dir = self.store.refs()?;
        for tag in tags {
            self.trash.take(&dir, file_name(&tag.name))?;
            self.removed.untagged.push(tag.name.clone());
        }
        dir.sync()
    }

    fn image(&mut self, id: &Digest) -> Result<()> {
        let dir = self.store.images_dir()?;
        self.trash.take(&dir, id.hex())?;
        dir.sync()?;
        self.removed.images.push(*id);
        Ok(())
    }

    /// Takes those of the layers and blobs that nothing refers to and nobody has pinned.
    fn objects(&mut self, roots: &Roots, layers: &[ChainId], blobs: &[Digest]) -> Result<()> {
        let mut keep = roots.keep();
        let dir = self.store.layers()?;
        for chain in layers {
            // One that is not there was quarantined; another name for the same is in `layers` only once.
            let Some((parent, disk)) = roots.layers.get(chain) else { continue };
            let kept = keep.layers.contains(chain);
            let lock = if kept { None } else { self.locks.try_lock(Key::layer(chain), LockKind::Exclusive)? };
            let Some(_lock) = lock else {
                // In use: no layer is ever without those below it.
                keep.layers.extend(*parent);
                continue;
            };
            self.trash.take(&dir, chain.0.hex())?;
            self.removed.layers.push(*chain);
            self.removed.reclaimed += disk;
        }
        dir.sync()?;
        let dir = self.store.blobs()?;
        let mut seen = FxHashSet::default();
        for digest in blobs.iter().filter(|digest| !keep.blobs.contains(digest)) {
            if !seen.insert(digest) {
                continue;
            }
            let Some(_lock) = self.locks.try_lock(Key::blob(digest), LockKind::Exclusive)? else { continue };
            let Some(stat) = dir.stat(digest.hex())? else { continue };
            self.trash.take(&dir, digest.hex())?;
            self.removed.blobs.push(*digest);
            self.removed.reclaimed += stat.size;
        }
        dir.sync()
    }

    /// Deletes what was taken out. The caller has let the store go.
    fn finish(self) -> Removed {
        self.trash.empty();
        self.removed
    }
}
