//! An image comes in (docs/STORE.md section 3).

use super::Store;
use super::dir::Dir;
use super::error::{Error, Result, io};
use super::incoming::{Documents, FoundLayer, Incoming, IncomingLayer, Progress, Step};
use super::inventory;
use super::lock::{Key, Lock, Locks};
use super::parallel::in_parallel;
use super::record::{self, ImageLayer, ImageRecord, LayerRecord, SCHEMA, now};
use super::temp::Temp;
use super::tree::{self, Facts};
use super::unpack::{Task, Unpacking};
use crate::archive::{self, Form, Limits, Owners, Pending};
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::image::{Config, Document, MOST_LAYERS, Manifest, Reference};
use crate::sys::{self, LockKind};
use std::sync::atomic::AtomicBool;

/// What [`Store::load`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub id: Digest,
    /// Its layers, the lowest first, and whether each was unpacked by this call.
    pub layers: Vec<(ChainId, bool)>,
    /// Names that were those of another image before, and of which.
    pub moved: Vec<(Reference, Digest)>,
}

impl Store {
    /// Takes an image into the store: blobs, unpacked layers, record and names.
    ///
    /// Idempotent: what is there is neither read nor written again. Atomic for readers: layers, the image and each name appear whole,
    /// in this order. Another load of the same layers waits, then finds them. The image cannot be removed meanwhile.
    ///
    /// # Errors
    /// [`Error::Layer`] names the layer whose blob is not what it should be or cannot be unpacked, [`Error::Mismatch`]
    /// documents that do not fit the layers, [`Error::GivenUp`] that [`Store::stop`] was asked for. On every error before the image is published nothing is left behind.
    pub fn load(&self, incoming: Incoming<'_>, progress: Option<Progress<'_>>) -> Result<Loaded> {
        let Incoming { documents, layers, references, limits } = incoming;
        references.iter().try_for_each(super::image::check_tag)?;
        self.stop.check()?;
        if layers.len() > MOST_LAYERS {
            return Err(Error::TooManyLayers(layers.len()));
        }
        let mut load = Load::new(self, layers)?;
        let known = match &documents {
            Documents::Given { config, .. } => load.pin_image(Digest::of(config))?,
            Documents::Made(_) => None,
        };
        load.look(known.as_ref())?;
        load.unpack(&limits, progress)?;
        load.settle()?;
        load.complete()?;
        let (manifest, config) = match documents {
            Documents::Given { manifest, config } => (manifest, config),
            Documents::Made(make) => make(&load.found()?)?,
        };
        let id = load.documents(manifest, config, known)?;
        load.publish()?;
        load.publish_image(id)?;
        let moved = load.name(id, &references)?;
        let layers = load.layers.iter().filter_map(|l| Some((l.chain?, l.unpacked))).collect();
        Ok(Loaded { id, layers, moved })
    }
}

/// A layer on its way.
struct Layer<'a> {
    incoming: IncomingLayer<'a>,
    chain: Option<ChainId>,
    diff_id: Option<DiffId>,
    blob: Option<Digest>,
    size: u64,
    tar_size: u64,
    /// It is in the store.
    published: bool,
    /// Its blob is to be read into the store.
    fetch: bool,
    /// Layer and blob are in the store, but nobody has seen yet that they belong together.
    check: bool,
    /// This load unpacked it.
    unpacked: bool,
    pending: Option<Pending>,
}

/// One running load. Dropping it lets the locks go and removes what was not published.
struct Load<'s, 'i> {
    store: &'s Store,
    layers: Vec<Layer<'i>>,
    /// Blobs in the temporary directory: name there, digest.
    blobs: Vec<(String, Digest)>,
    record: Option<ImageRecord>,
    form: Option<Form>,
    temp: Option<Temp>,
    held: Vec<Lock>,
    locks: Locks,
}

impl<'s, 'i> Load<'s, 'i> {
    fn new(store: &'s Store, layers: Vec<IncomingLayer<'i>>) -> Result<Self> {
        let layer = |incoming: IncomingLayer<'i>| Layer {
            chain: None,
            diff_id: incoming.diff_id,
            blob: incoming.blob,
            size: incoming.size.unwrap_or(0),
            tar_size: 0,
            published: false,
            fetch: false,
            check: false,
            unpacked: false,
            pending: None,
            incoming,
        };
        let layers = layers.into_iter().map(layer).collect();
        let (locks, held) = (store.locks()?, Vec::new());
        let mut load = Self { store, layers, blobs: Vec::new(), record: None, form: None, temp: None, held, locks };
        load.hold_known_layers()?;
        Ok(load)
    }

    /// The directory for what is not published yet; made when first needed.
    fn temp(&mut self) -> Result<&Dir> {
        if self.temp.is_none() {
            self.temp = Some(Temp::new(&self.store.root, &self.locks)?);
        }
        self.temp.as_ref().map(|t| &t.dir).ok_or(Error::Thread)
    }

    /// Locks the layers whose chain id is known, from the lowest up.
    fn hold_known_layers(&mut self) -> Result<()> {
        let mut below = None;
        for number in 0..self.layers.len() {
            let Some(diff_id) = self.layers.get(number).and_then(|l| l.diff_id) else { return Ok(()) };
            below = Some(self.hold(number, diff_id, below)?);
        }
        Ok(())
    }

    /// Sets the chain id of a layer and locks it: shared when it is there, exclusive when it has to be made.
    fn hold(&mut self, number: usize, diff_id: DiffId, below: Option<ChainId>) -> Result<ChainId> {
        let chain = below.map_or_else(|| ChainId::base(diff_id), |b| b.with(diff_id));
        let key = Key::layer(&chain);
        let (lock, record) = loop {
            let shared = self.locks.lock(key, LockKind::Shared)?;
            if let Some(record) = self.store.layer(&chain)? {
                break (shared, Some(record));
            }
            // Not turned into the other kind, because that is not atomic either: somebody may make it in between.
            drop(shared);
            let exclusive = self.locks.lock(key, LockKind::Exclusive)?;
            if self.store.layer(&chain)?.is_none() {
                break (exclusive, None);
            }
        };
        self.held.push(lock);
        if let Some(layer) = self.layers.get_mut(number) {
            (layer.chain, layer.published) = (Some(chain), record.is_some());
            if let Some(record) = record.filter(|r| layer.blob.is_none_or(|b| b == r.blob)) {
                (layer.blob, layer.size) = (Some(record.blob), record.blob_size);
            }
        }
        Ok(chain)
    }

    /// Keeps the image `id` and its record, if there is one, from being removed.
    fn pin_image(&mut self, id: Digest) -> Result<Option<ImageRecord>> {
        self.pin(Key::image(&id))?;
        match self.store.image_record(&id) {
            // It will be written anew.
            Err(Error::Damaged { .. }) => Ok(None),
            other => other,
        }
    }

    fn pin(&mut self, key: Key) -> Result<()> {
        self.held.push(self.locks.lock(key, LockKind::Shared)?);
        Ok(())
    }

    /// Decides which blobs are to be read; those that are there, and those of `known`, stay there.
    fn look(&mut self, known: Option<&ImageRecord>) -> Result<()> {
        for digest in known.into_iter().flat_map(ImageRecord::blobs) {
            self.pin(Key::blob(&digest))?;
        }
        for number in 0..self.layers.len() {
            let Some(digest) = self.layers.get(number).and_then(|l| l.blob) else { continue };
            self.pin(Key::blob(&digest))?;
            let size = self.store.blob_size(&digest)?;
            self.check_size(number, &digest, size)?;
            let other = known.and_then(|k| k.layers.get(number)).is_some_and(|l| l.blob != digest);
            let check = size.is_some() && !self.is_pair(number, digest)?;
            if let Some(layer) = self.layers.get_mut(number) {
                layer.fetch = size.is_none() && !other;
                layer.check = check;
                layer.size = size.unwrap_or(layer.size);
            }
        }
        for layer in &mut self.layers {
            layer.fetch |= layer.blob.is_none();
        }
        Ok(())
    }

    /// A blob in the store that does not even have the announced length is not taken for good.
    fn check_size(&self, number: usize, digest: &Digest, found: Option<u64>) -> Result<()> {
        let announced =
            self.layers.get(number).filter(|l| l.incoming.blob == Some(*digest)).and_then(|l| l.incoming.size);
        match (announced, found) {
            (Some(announced), Some(found)) if announced != found => {
                let why = format!("it has {found} bytes, not {announced}");
                Err(Error::damaged(self.store.blobs()?.at(digest.hex()), why))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is known that the blob holds the tar stream of this layer.
    fn is_pair(&self, number: usize, blob: Digest) -> Result<bool> {
        let Some((chain, diff_id)) = self.layers.get(number).and_then(|l| Some((l.chain?, l.diff_id?))) else {
            return Ok(false);
        };
        match self.store.layer(&chain)? {
            // It will be read anyway.
            None => return Ok(true),
            Some(record) if record.blob == blob => return Ok(true),
            Some(_) => {}
        }
        let mut pairs = self.store.sound_records()?.into_iter().flat_map(|image| image.layers);
        Ok(pairs.any(|layer| layer.blob == blob && layer.diff_id == diff_id))
    }

    /// Reads what is missing, several layers at once.
    fn unpack(&mut self, limits: &Limits, progress: Option<Progress<'_>>) -> Result<()> {
        let task =
            |(number, l): (usize, &Layer<'_>)| Task { number, tree: !l.published, blob: l.fetch, check: l.check };
        let (tasks, present): (Vec<_>, Vec<_>) =
            self.layers.iter().enumerate().map(task).partition(|task| task.tree || task.blob || task.check);
        if let Some(progress) = progress {
            present.iter().for_each(|task| progress(task.number, Step::Present));
        }
        if tasks.is_empty() {
            return Ok(());
        }
        let threads = self.store.threads;
        let probe = archive::Form::probe(self.temp()?.fd());
        let form = probe.map_err(|source| Error::Layer { what: "the store".into(), source })?;
        self.form = Some(form);
        let temp = &self.temp.as_ref().ok_or(Error::Thread)?.dir;
        let unpacking =
            Unpacking { temp, form, limits, progress, failed: AtomicBool::new(false), stop: &self.store.stop };
        let layers = &self.layers;
        let read = in_parallel::<_, Error>(threads, tasks.len(), &|n| {
            let task = tasks.get(n).copied().ok_or(Error::Thread)?;
            unpacking.run(task, &layers.get(task.number).ok_or(Error::Thread)?.incoming)
        })?;
        for (task, read) in tasks.into_iter().zip(read) {
            let Some(layer) = self.layers.get_mut(task.number) else { continue };
            (layer.diff_id, layer.blob) = (Some(read.digests.diff_id), Some(read.digests.blob));
            (layer.size, layer.tar_size) = (read.digests.size, read.digests.tar_size);
            (layer.pending, layer.unpacked) = (read.pending, task.tree);
            if task.blob {
                self.blobs.push((format!("{}.blob", task.number), read.digests.blob));
            }
        }
        Ok(())
    }

    /// Locks what is known only now: layers without announced digest, and their blobs.
    fn settle(&mut self) -> Result<()> {
        let mut below = None;
        for number in 0..self.layers.len() {
            let Some(layer) = self.layers.get(number) else { continue };
            let (chain, diff_id, blob) = (layer.chain, layer.diff_id.ok_or(Error::Thread)?, layer.blob);
            self.pin(Key::blob(&blob.ok_or(Error::Thread)?))?;
            if chain.is_some() {
                below = chain;
                continue;
            }
            below = Some(self.hold(number, diff_id, below)?);
            if let Some(layer) = self.layers.get_mut(number).filter(|l| l.published) {
                // Somebody had it already: what was unpacked is thrown away.
                (layer.unpacked, layer.pending) = (false, None);
            }
        }
        Ok(())
    }

    /// Finishes the unpacked layers from the lowest up, measures them and writes their records.
    fn complete(&mut self) -> Result<()> {
        if !self.layers.iter().any(|l| l.unpacked) {
            return Ok(());
        }
        let form = self.form.ok_or(Error::Thread)?;
        let (published, temp) = (self.store.layers()?, self.temp()?.open(".")?);
        let mut done: Vec<Dir> = Vec::new();
        for (number, layer) in self.layers.iter_mut().enumerate() {
            self.store.stop.check()?;
            let dir = if layer.unpacked {
                temp.open(format!("{number}/diff"))?
            } else {
                published.open(format!("{}/diff", layer.chain.ok_or(Error::Thread)?.0.hex()))?
            };
            if let Some(pending) = layer.pending.take() {
                let below: Vec<_> = done.iter().rev().map(Dir::fd).collect();
                let what = || layer.incoming.describe(number);
                archive::complete(dir.fd(), &below, form, pending)
                    .map_err(|source| Error::Layer { what: what(), source })?;
            }
            done.push(dir);
        }
        let fresh: Vec<usize> =
            (0..self.layers.len()).filter(|n| self.layers.get(*n).is_some_and(|l| l.unpacked)).collect();
        let measured = measure(self.store, &temp, &fresh, &done)?;
        for (number, facts) in fresh.into_iter().zip(measured) {
            let record = self.layer_record(number, &facts, form)?;
            let dir = temp.open(number.to_string())?;
            dir.write_unsynced("layer.json", &record::bytes(&dir, &record)?)?;
        }
        Ok(())
    }

    fn layer_record(&self, number: usize, facts: &Facts, form: Form) -> Result<LayerRecord> {
        let found = *self.found()?.get(number).ok_or(Error::Thread)?;
        Ok(LayerRecord {
            schema: SCHEMA,
            chain_id: found.chain_id,
            diff_id: found.diff_id,
            blob: found.blob,
            blob_size: found.size,
            parent: number.checked_sub(1).and_then(|n| self.layers.get(n)?.chain),
            tar_size: self.layers.get(number).map_or(0, |l| l.tar_size),
            content: facts.content,
            disk: facts.disk,
            entries: facts.entries,
            override_stat: form.owners == Owners::OverrideStat,
            tree: facts.tree,
            created: now(),
        })
    }

    fn found(&self) -> Result<Vec<FoundLayer>> {
        let found =
            |l: &Layer<'_>| Some(FoundLayer { chain_id: l.chain?, diff_id: l.diff_id?, blob: l.blob?, size: l.size });
        self.layers.iter().map(|l| found(l).ok_or(Error::Thread)).collect()
    }

    /// Checks the documents against the layers and prepares them and the image record.
    fn documents(&mut self, manifest: Vec<u8>, config: Vec<u8>, known: Option<ImageRecord>) -> Result<Digest> {
        let found = self.found()?;
        let (id, manifest_digest) = (Digest::of(&config), Digest::of(&manifest));
        let known = match known {
            Some(known) => Some(known),
            None => self.pin_image(id)?,
        };
        for (name, digest, bytes) in [("manifest", manifest_digest, &manifest), ("config", id, &config)] {
            self.pin(Key::blob(&digest))?;
            let wanted = known.as_ref().is_none_or(|k| k.blobs().any(|b| b == digest));
            if wanted && self.store.blob_size(&digest)?.is_none() {
                self.temp()?.write_unsynced(name, bytes)?;
                self.blobs.push((name.to_owned(), digest));
            }
        }
        check_documents(manifest, config, id, &found)?;
        if known.is_none() {
            let layers = found.iter().map(|l| ImageLayer {
                chain_id: l.chain_id,
                diff_id: l.diff_id,
                blob: l.blob,
                blob_size: l.size,
            });
            let layers = layers.collect();
            self.record = Some(ImageRecord { schema: SCHEMA, id, manifest: manifest_digest, layers, loaded: now() });
        }
        Ok(id)
    }

    /// Makes all durable, then gives blobs and layers their places.
    fn publish(&mut self) -> Result<()> {
        let Some(temp) = self.temp.as_ref().map(|t| &t.dir) else { return Ok(()) };
        self.store.stop.check()?;
        sys::syncfs(temp.fd()).map_err(io("sync", temp.path()))?;
        let (blobs, layers) = (self.store.blobs()?, self.store.layers()?);
        for (name, digest) in &self.blobs {
            // One that is there has the same bytes.
            temp.rename_new(name, &blobs, digest.hex())?;
        }
        blobs.sync()?;
        for (number, layer) in self.layers.iter().enumerate().filter(|(_, l)| l.unpacked) {
            temp.rename_new(number.to_string(), &layers, layer.chain.ok_or(Error::Thread)?.0.hex())?;
        }
        layers.sync()
    }

    fn publish_image(&mut self, id: Digest) -> Result<()> {
        let Some(record) = self.record.take() else { return Ok(()) };
        let store = self.store;
        let _publishing = self.locks.lock(Key::STORE, LockKind::Shared)?;
        // Another load may have been faster; its manifest stays.
        let replace = matches!(store.image_record(&id), Err(Error::Damaged { .. }));
        record::publish(self.temp()?, &record, &store.images_dir()?, id.hex(), replace).map(drop)
    }

    fn name(&mut self, id: Digest, references: &[Reference]) -> Result<Vec<(Reference, Digest)>> {
        let mut moved = Vec::new();
        let store = self.store;
        for reference in references {
            let _publishing = self.locks.lock(Key::STORE, LockKind::Shared)?;
            let old = match store.reference(reference) {
                Err(Error::Damaged { .. }) => None,
                other => other?,
            };
            if old.as_ref().is_some_and(|tag| tag.image == id) {
                continue;
            }
            store.write_reference(self.temp()?, reference, &id)?;
            moved.extend(old.map(|tag| (reference.clone(), tag.image)));
        }
        Ok(moved)
    }
}

/// Measures finished layers while the disk writes them, and writes their inventories.
fn measure(store: &Store, temp: &Dir, fresh: &[usize], dirs: &[Dir]) -> Result<Vec<Facts>> {
    let one = |n: usize| {
        let number = *fresh.get(n).ok_or(Error::Thread)?;
        let mut facts = tree::facts(dirs.get(number).ok_or(Error::Thread)?, &store.stop)?;
        let listing = std::mem::take(&mut facts.listing);
        let inventory = inventory::file(&facts.tree, &listing);
        temp.open(number.to_string())?.write_unsynced(inventory::FILE, &inventory)?;
        Ok(facts)
    };
    let all = || in_parallel::<_, Error>(store.threads, fresh.len(), &one);
    if store.threads <= 1 {
        return all();
    }
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| sys::syncfs(temp.fd()));
        let facts = all();
        writing.join().map_err(|_| Error::Thread)?.map_err(io("sync", temp.path()))?;
        facts
    })
}

/// Whether manifest, configuration and layers belong together.
fn check_documents(manifest: Vec<u8>, config: Vec<u8>, id: Digest, found: &[FoundLayer]) -> Result<()> {
    let differs = |what: &str, property, expected: String, found: String| {
        if expected == found {
            return Ok(());
        }
        Err(Error::Mismatch { what: what.to_owned(), property, expected, found })
    };
    let list = |digests: Vec<String>| digests.join(" ");
    let config: Document<Config> = Document::parse_config(config)?;
    let diff_ids = config.rootfs.diff_ids.iter().map(DiffId::to_string).collect();
    let unpacked = found.iter().map(|l| l.diff_id.to_string()).collect();
    differs("configuration", "the list of diff_ids", list(diff_ids), list(unpacked))?;
    let manifest: Document<Manifest> = Document::read(manifest, "the manifest")?;
    differs("manifest", "the digest of the configuration", manifest.config.digest.to_string(), id.to_string())?;
    let blobs = manifest.layers.iter().map(|l| l.digest.to_string()).collect();
    let read = found.iter().map(|l| l.blob.to_string()).collect();
    differs("manifest", "the list of layers", list(blobs), list(read))
}
