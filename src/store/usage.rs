//! Sizes that add up: every layer directory and every blob counts once (docs/STORE.md section 5).

use super::error::{Error, Result};
use super::image::Image;
use super::lock::Key;
use super::record::{OnDamage, sound, unless_damaged};
use super::{Store, Writable, tree};
use crate::image::digest::{ChainId, Digest};
use crate::sys::LockKind;
use rustc_hash::FxHashMap;

/// Bytes of an image. `shared` and `unique` add up to `size`, `disk_shared` and `disk_unique` to `disk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// Which image.
    pub image: Image,
    /// Bytes in the files of its layers: the size that Docker shows, which adds the lengths of symbolic links.
    pub size: u64,
    /// The part in layers that another image has as well.
    pub shared: u64,
    /// The rest.
    pub unique: u64,
    /// What it takes on disk: layer directories and blobs.
    pub disk: u64,
    /// The part that another image has as well.
    pub disk_shared: u64,
    /// The rest.
    pub disk_unique: u64,
    /// The names of the writable layers that stand on it.
    pub writable: Vec<String>,
    /// A mount or a running load has it, with or without a writable layer.
    pub pinned: bool,
}

impl ImageUsage {
    /// Whether something uses the image.
    #[must_use]
    pub fn active(&self) -> bool {
        self.pinned || !self.writable.is_empty()
    }
}

/// Bytes of a writable layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableUsage {
    /// Which writable layer.
    pub writable: Writable,
    /// Bytes allocated for it.
    pub disk: u64,
}

/// Bytes of the whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The images, the newest first.
    pub images: Vec<ImageUsage>,
    /// The writable layers, the newest first.
    pub writable: Vec<WritableUsage>,
    /// All layer directories.
    pub layers_disk: u64,
    /// Their contents.
    pub layers_size: u64,
    /// All blobs.
    pub blobs_disk: u64,
    /// Layers and blobs that several images have, each once: the `disk_unique` of all images, this and `unreferenced`
    /// are `layers_disk` plus `blobs_disk`.
    pub shared_once: u64,
    /// Layers and blobs that no image refers to.
    pub unreferenced: u64,
    /// What [`Store::prune`] with `all` would win now.
    pub reclaimable: u64,
}

impl Usage {
    /// All writable layers.
    #[must_use]
    pub fn writable_disk(&self) -> u64 {
        self.writable.iter().map(|w| w.disk).sum()
    }

    /// What could be won by removing the writable layers that are not mounted.
    #[must_use]
    pub fn writable_reclaimable(&self) -> u64 {
        self.writable.iter().filter(|w| !w.writable.busy).map(|w| w.disk).sum()
    }
}

/// A layer or a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Object {
    Layer(ChainId),
    Blob(Digest),
}

/// Its bytes, and what refers to it.
#[derive(Default)]
struct Counted {
    size: u64,
    disk: u64,
    images: u32,
    /// Something that is in use needs it.
    needed: bool,
}

impl Store {
    /// What the store and each part of it take. Reads records only, but walks the writable layers.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a record that cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        self.count(&mut Err)
    }

    /// The same without what has damaged records; an error tells of each of these. What they need counts as not needed.
    pub fn sound_usage(&self) -> Result<(Usage, Vec<Error>)> {
        sound(|damaged| self.count(damaged))
    }

    fn count(&self, damaged: OnDamage<'_>) -> Result<Usage> {
        let images = self.list(damaged)?;
        let writables = self.list_writables(damaged)?;
        let mut objects = self.objects(damaged)?;
        let locks = self.locks()?;
        let mut pinned = Vec::new();
        for image in &images {
            pinned.push(locks.is_held(Key::image(&image.record.id))?);
        }
        for (image, pinned) in images.iter().zip(&pinned) {
            let used = *pinned || writables.iter().any(|w| w.record.image == image.record.id);
            for object in parts(image) {
                let counted = objects.entry(object).or_default();
                counted.images += 1;
                counted.needed |= used;
            }
        }
        for writable in &writables {
            let mut next = writable.record.chain;
            while let Some(chain) = next {
                objects.entry(Object::Layer(chain)).or_default().needed = true;
                // The damaged ones were told of with the objects.
                next = unless_damaged(self.layer(&chain), &mut |_| Ok(()))?.and_then(|record| record.parent);
            }
        }
        let mut usage = total(&objects);
        for (image, pinned) in images.into_iter().zip(pinned) {
            let names = writables.iter().filter(|w| w.record.image == image.record.id);
            let writable = names.map(|w| w.record.name.clone()).collect();
            usage.images.push(image_usage(image, &objects, writable, pinned));
        }
        usage.writable = self.writable_usage(writables)?;
        Ok(usage)
    }

    /// What writable layers take, without those that are being removed.
    pub fn writable_usage(&self, writables: Vec<Writable>) -> Result<Vec<WritableUsage>> {
        let mut usage = Vec::new();
        for writable in writables {
            let Some(dir) = self.writable_dir()?.try_open(&writable.record.name)? else { continue };
            let disk = match tree::disk(&dir) {
                Ok(disk) => disk,
                // It is being removed.
                Err(_) if !self.writable_dir()?.has(&writable.record.name)? => continue,
                // While it is mounted files come and go.
                Err(_) if writable.busy => 0,
                Err(e) => return Err(e),
            };
            usage.push(WritableUsage { writable, disk });
        }
        Ok(usage)
    }

    /// Every layer and blob that is there.
    fn objects(&self, damaged: OnDamage<'_>) -> Result<FxHashMap<Object, Counted>> {
        let _reading = self.locks()?.lock(Key::STORE, LockKind::Shared)?;
        let mut objects = FxHashMap::default();
        for chain in self.layer_ids()? {
            let Some(record) = unless_damaged(self.layer(&chain), damaged)? else { continue };
            let counted = Counted { size: record.content, disk: record.disk, ..Counted::default() };
            objects.insert(Object::Layer(chain), counted);
        }
        for digest in self.blob_ids()? {
            let disk = self.blob_size(&digest)?.unwrap_or(0);
            objects.insert(Object::Blob(digest), Counted { disk, ..Counted::default() });
        }
        Ok(objects)
    }
}

/// The objects of an image, each once.
fn parts(image: &Image) -> Vec<Object> {
    let record = &image.record;
    let layers = record.layers.iter().map(|l| Object::Layer(l.chain_id));
    let mut parts: Vec<Object> = layers.collect();
    for blob in record.blobs().map(Object::Blob) {
        if !parts.contains(&blob) {
            parts.push(blob);
        }
    }
    parts
}

fn total(objects: &FxHashMap<Object, Counted>) -> Usage {
    let mut usage = Usage::default();
    for (object, counted) in objects {
        match object {
            Object::Layer(_) => {
                usage.layers_disk += counted.disk;
                usage.layers_size += counted.size;
            }
            Object::Blob(_) => usage.blobs_disk += counted.disk,
        }
        match counted.images {
            0 => usage.unreferenced += counted.disk,
            1 => {}
            _ => usage.shared_once += counted.disk,
        }
        if !counted.needed {
            usage.reclaimable += counted.disk;
        }
    }
    usage
}

fn image_usage(image: Image, objects: &FxHashMap<Object, Counted>, writable: Vec<String>, pinned: bool) -> ImageUsage {
    let zero = (0, 0, 0, 0);
    let (shared, unique, disk_shared, disk_unique) =
        parts(&image).iter().filter_map(|object| objects.get(object)).fold(zero, |sum, part| {
            if part.images > 1 {
                (sum.0 + part.size, sum.1, sum.2 + part.disk, sum.3)
            } else {
                (sum.0, sum.1 + part.size, sum.2, sum.3 + part.disk)
            }
        });
    let (size, disk) = (shared + unique, disk_shared + disk_unique);
    ImageUsage { image, size, shared, unique, disk, disk_shared, disk_unique, writable, pinned }
}
