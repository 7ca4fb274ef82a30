//! Repair: what is damaged goes to quarantine, what can be made again is made again. Nothing is deleted.

use super::Store;
use super::dir::Dir;
use super::error::{Error, Result};
use super::incoming::{Documents, Incoming, IncomingLayer};
use super::lock::{Key, Locks};
use super::record::{self, ImageRecord, now};
use super::temp::random_hex;
use super::verify::{Fault, Object, Verified};
use crate::archive::Limits;
use crate::image::digest::ChainId;
use crate::sys::LockKind;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What [`Store::repair`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What was found.
    pub faults: Vec<Fault>,
    /// Where damaged objects were put; `None` when there was nothing to move.
    pub quarantine: Option<PathBuf>,
    /// Layers that were unpacked again from their blobs.
    pub rebuilt: Vec<ChainId>,
    /// Layers that got an inventory, in place of a wrong one or none.
    pub inventories: Vec<ChainId>,
    /// The state afterwards: what could not be repaired is in its faults.
    pub left: Verified,
}

impl Store {
    /// Verifies, moves what is damaged to `quarantine`, unpacks damaged layers again where their blobs are good, and makes the
    /// inventories of sound ones.
    ///
    /// Idempotent. What is mounted or being loaded is left alone, and so are writable layers; both stay among the faults.
    pub fn repair(&self) -> Result<Repaired> {
        let (found, inventories) = self.verify_and(true)?;
        if found.is_sound() {
            return Ok(Repaired { inventories, left: found, ..Repaired::default() });
        }
        let mut done = Repaired { faults: found.faults, inventories, ..Repaired::default() };
        // Inventories are made already, and nothing else depends on them.
        if done.faults.iter().any(|fault| !matches!(fault.object, Object::Inventory(_))) {
            self.put_away_and_rebuild(&mut done)?;
        }
        done.left = self.verify()?;
        Ok(done)
    }

    /// Moves what is damaged, makes again what can be, and moves what lacks something then.
    fn put_away_and_rebuild(&self, done: &mut Repaired) -> Result<()> {
        let mut quarantine = Quarantine { store: self, locks: self.locks()?, dir: None, why: String::new(), moved: 0 };
        let broken = |fault: &&Fault| matches!(fault.object, Object::Blob(_) | Object::Layer(_) | Object::Stray);
        quarantine.take(done.faults.iter().filter(broken))?;
        // The record of a sound image is still there, and says which layers are missing now.
        for record in self.sound_records()? {
            match self.rebuild(&record) {
                Ok(rebuilt) => done.rebuilt.extend(rebuilt),
                Err(e) => {
                    // It is said why what is there was put there, and the rest stays for the next time.
                    quarantine.finish()?;
                    return Err(e);
                }
            }
        }
        // A layer that goes takes the ground from the one on it.
        while quarantine.take(self.orphans()?.iter())? > 0 {}
        // What still lacks something, then the names of what that took away.
        for _ in 0..2 {
            let faults = self.verify()?.faults;
            let broken =
                |fault: &&Fault| matches!(fault.object, Object::Image(_) | Object::Reference(_) | Object::Layer(_));
            quarantine.take(faults.iter().filter(broken))?;
        }
        done.quarantine = quarantine.finish()?;
        Ok(())
    }

    /// Layers whose record says that they stand on one that is not there.
    fn orphans(&self) -> Result<Vec<Fault>> {
        let layers = self.layers()?;
        let mut found = Vec::new();
        for chain in self.layer_ids()? {
            let parent = match self.layer(&chain) {
                // It is a fault of its own.
                Err(Error::Damaged { .. }) => None,
                record => record?.and_then(|record| record.parent),
            };
            let Some(parent) = parent else { continue };
            if !layers.has(parent.0.hex())? {
                let what = format!("the layer {parent} below it is missing");
                found.push(Fault { path: layers.at(chain.0.hex()), what, object: Object::Layer(chain) });
            }
        }
        Ok(found)
    }

    /// The records that can be read.
    pub(super) fn sound_records(&self) -> Result<Vec<ImageRecord>> {
        let mut records = Vec::new();
        for id in self.image_ids()? {
            match self.image_record(&id) {
                Err(Error::Damaged { .. }) => {}
                record => records.extend(record?),
            }
        }
        Ok(records)
    }

    /// Whether an image or a reference that was found faulty is sound now: a load may have brought what it lacked.
    ///
    /// The caller holds the store exclusively, so that it stays so.
    fn was_mended(&self, object: &Object) -> Result<bool> {
        let found = match object {
            Object::Image(id) => match self.image_record(id) {
                Ok(Some(record)) => self.check_image(id, &record)?,
                Err(Error::Damaged { why, .. }) => Some(why),
                Ok(None) => return Ok(false),
                Err(e) => return Err(e),
            },
            Object::Reference(file) => match record::read(&self.refs()?, file) {
                Ok(Some(tag)) => self.check_reference(OsStr::new(file), &tag)?,
                Err(Error::Damaged { why, .. }) => Some(why),
                Ok(None) => return Ok(false),
                Err(e) => return Err(e),
            },
            Object::Blob(_) | Object::Layer(_) | Object::Inventory(_) | Object::Writable | Object::Stray => {
                return Ok(false);
            }
        };
        Ok(found.is_none())
    }

    /// Unpacks the missing layers of an image whose blobs are all there.
    fn rebuild(&self, record: &ImageRecord) -> Result<Vec<ChainId>> {
        let mut missing = false;
        for layer in &record.layers {
            missing |= !self.layers()?.has(layer.chain_id.0.hex())?;
            if self.blob_size(&layer.blob)?.is_none() {
                return Ok(Vec::new());
            }
        }
        let (Ok(manifest), Ok(config)) = (self.manifest(record), self.config(record)) else { return Ok(Vec::new()) };
        if !missing {
            return Ok(Vec::new());
        }
        let layer = |l: &super::ImageLayer| {
            let blob = l.blob;
            IncomingLayer {
                diff_id: Some(l.diff_id),
                blob: Some(l.blob),
                size: Some(l.blob_size),
                open: Box::new(move || Ok(Box::new(self.blob(&blob).map_err(std::io::Error::other)?))),
            }
        };
        let incoming = Incoming {
            documents: Documents::Given { manifest, config },
            layers: record.layers.iter().map(layer).collect(),
            references: Vec::new(),
            // It was let in once.
            limits: Limits::of_own_content(),
        };
        match self.load(incoming, None) {
            Ok(loaded) => Ok(loaded.layers.into_iter().filter(|(_, unpacked)| *unpacked).map(|(c, _)| c).collect()),
            // A full disk, or too few descriptors, say nothing about the image.
            Err(Error::Layer { what, source }) if !source.blames_the_blob() => Err(Error::Layer { what, source }),
            // It goes to quarantine then.
            Err(e @ (Error::Layer { .. } | Error::Mismatch { .. } | Error::Image(_) | Error::Damaged { .. })) => {
                log::warn!("image {} cannot be made whole: {e}", record.id);
                Ok(Vec::new())
            }
            Err(e) => Err(e),
        }
    }
}

/// A directory of `quarantine`, made when the first object goes there.
struct Quarantine<'a> {
    store: &'a Store,
    locks: Locks,
    dir: Option<Dir>,
    /// What is in it and why, a line each.
    why: String,
    /// How much is in it.
    moved: usize,
}

impl Quarantine<'_> {
    /// Moves what is not in use, and says how much that was.
    fn take<'f>(&mut self, faults: impl Iterator<Item = &'f Fault>) -> Result<usize> {
        let before = self.moved;
        let _removing = self.locks.clone().lock(Key::STORE, LockKind::Exclusive)?;
        for fault in faults {
            let (place, name, new, key) = match &fault.object {
                Object::Blob(d) => (self.store.blobs()?, d.hex(), format!("blob-{}", d.hex()), Some(Key::blob(d))),
                Object::Layer(c) => {
                    (self.store.layers()?, c.0.hex(), format!("layer-{}", c.0.hex()), Some(Key::layer(c)))
                }
                Object::Image(d) => {
                    (self.store.images_dir()?, d.hex(), format!("image-{}", d.hex()), Some(Key::image(d)))
                }
                Object::Reference(n) => (self.store.refs()?, n.clone(), format!("reference-{n}"), None),
                Object::Stray => {
                    self.take_stray(fault)?;
                    continue;
                }
                Object::Inventory(_) | Object::Writable => continue,
            };
            let held = key.map(|key| self.locks.try_lock(key, LockKind::Exclusive)).transpose()?;
            if matches!(held, Some(None)) {
                log::warn!("{} is in use and stays", fault.path.display());
                continue;
            }
            if self.store.was_mended(&fault.object)? {
                log::info!("{} is whole again and stays", fault.path.display());
                continue;
            }
            self.put(&place, Path::new(&name), Path::new(&new), fault)?;
        }
        Ok(self.moved - before)
    }

    fn take_stray(&mut self, fault: &Fault) -> Result<()> {
        let (Some(parent), Some(name)) = (fault.path.parent(), fault.path.file_name()) else { return Ok(()) };
        let rel = parent.strip_prefix(self.store.path()).unwrap_or(Path::new("."));
        let place = self.store.root.open(rel)?;
        self.put(&place, Path::new(name), &Path::new("stray").with_extension(random_hex(8)?), fault)
    }

    fn put(&mut self, place: &Dir, name: &Path, new: &Path, fault: &Fault) -> Result<()> {
        if !place.has(name)? {
            return Ok(());
        }
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => self.store.root.open("quarantine")?.create(format!("{}-{}", now(), random_hex(8)?), 0o700)?,
        };
        let renamed = place.rename(name, &dir, new);
        self.dir = Some(dir);
        renamed?;
        self.moved += 1;
        self.why.push_str(&format!("{}: {fault}\n", new.display()));
        place.sync()
    }

    fn finish(self) -> Result<Option<PathBuf>> {
        let Some(dir) = self.dir else { return Ok(None) };
        dir.write("WHY", self.why.as_bytes())?;
        dir.sync()?;
        self.store.root.open("quarantine")?.sync()?;
        Ok(Some(dir.path().to_owned()))
    }
}
