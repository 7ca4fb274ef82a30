//! Checking that everything is as recorded (docs/STORE.md section 6).

use super::dir::{Dir, is_hex};
use super::error::{Error, Result, io};
use super::image::{Tag, file_name};
use super::layout;
use super::lock::{Key, Locks};
use super::parallel::in_parallel;
use super::record::{self, ImageRecord};
use super::verify_layer::{CheckedLayer, check_layer};
use super::{Store, WritableRecord, names};
use crate::image::digest::{ChainId, DiffId, Digest, Hashing};
use crate::image::format;
use crate::image::{Config, Document, Manifest};
use crate::sys::{self, LockKind};
use rustc_hash::FxHashSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// What a fault is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Blob(Digest),
    Layer(ChainId),
    /// That of a sound layer.
    Inventory(ChainId),
    Image(Digest),
    /// The file of a reference.
    Reference(String),
    Writable,
    /// Something that does not belong into the store.
    Stray,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub path: PathBuf,
    /// What, as a part of a sentence.
    pub what: String,
    pub(super) object: Object,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", format::path(&self.path), self.what)
    }
}

/// What [`Store::verify`] looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// What is wrong; empty for a sound store.
    pub faults: Vec<Fault>,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Layers that were walked.
    pub layers: usize,
    /// Images, references and writable layers.
    pub images: usize,
    /// References.
    pub references: usize,
    /// Writable layers.
    pub writable: usize,
    /// Layers and blobs that nothing refers to; `prune` removes them.
    pub unreferenced: usize,
    /// Entries of `tmp`: of running processes, or left by killed ones.
    pub leftovers: usize,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Store {
    /// Reads everything and compares it with what is recorded. Changes nothing; loads and removals may go on meanwhile.
    ///
    /// # Errors
    /// Only when something cannot be looked at; what is wrong is in the result.
    pub fn verify(&self) -> Result<Verified> {
        Ok(self.verify_and(false)?.0)
    }

    /// The same; with `mend`, inventories that are missing or wrong are made, and the layers returned that got one.
    pub(super) fn verify_and(&self, mend: bool) -> Result<(Verified, Vec<ChainId>)> {
        let locks = self.locks()?;
        let mend = mend && !locks.read_only();
        let mut check = Check { store: self, locks, mend, mended: Vec::new(), result: Verified::default() };
        check.strays()?;
        check.blobs()?;
        check.layers()?;
        let records = {
            let _reading = check.locks.lock(Key::STORE, LockKind::Shared)?;
            check.references()?;
            check.writable()?;
            check.images()?
        };
        check.unreferenced(&records)?;
        Ok((check.result, check.mended))
    }
}

/// What is wrong with one object, apart from its bytes.
impl Store {
    /// What is wrong with an image.
    pub(super) fn check_image(&self, id: &Digest, record: &ImageRecord) -> Result<Option<String>> {
        if record.id != *id {
            return Ok(Some(format!("its record is that of {}", record.id)));
        }
        for digest in record.blobs() {
            if self.blob_size(&digest)?.is_none() {
                return Ok(Some(format!("blob {digest} is missing; load the image again")));
            }
        }
        for layer in &record.layers {
            if !self.layers()?.has(layer.chain_id.0.hex())? {
                return Ok(Some(format!("layer {} is missing; load the image again", layer.chain_id)));
            }
        }
        Ok(self.check_documents(record).err().map(|e| e.to_string()))
    }

    /// Whether the record says what the documents say.
    fn check_documents(&self, record: &ImageRecord) -> Result<()> {
        let path = self.images_dir()?.at(record.id.hex());
        let config: Document<Config> = Document::parse_config(self.config(record)?)?;
        let manifest: Document<Manifest> = Document::read(self.manifest(record)?, "the manifest")?;
        let diff_ids: Vec<DiffId> = record.layers.iter().map(|l| l.diff_id).collect();
        let chains: Vec<ChainId> = record.layers.iter().map(|l| l.chain_id).collect();
        let blobs: Vec<Digest> = record.layers.iter().map(|l| l.blob).collect();
        if config.rootfs.diff_ids != diff_ids || ChainId::of_layers(&diff_ids) != chains {
            return Err(Error::damaged(path, "its layers are not those of the configuration"));
        }
        if manifest.config.digest != record.id || !manifest.layers.iter().map(|l| l.digest).eq(blobs) {
            return Err(Error::damaged(path, "its blobs are not those of the manifest"));
        }
        Ok(())
    }

    /// What is wrong with a reference whose file has this name.
    pub(super) fn check_reference(&self, file: &OsStr, tag: &Tag) -> Result<Option<String>> {
        if OsStr::new(&file_name(&tag.name)) != file {
            return Ok(Some(format!("it is the file of another name than {}", tag.name)));
        }
        let there = self.images_dir()?.has(tag.image.hex())?;
        Ok((!there).then(|| format!("{} names the missing image {}", tag.name, tag.image)))
    }
}

struct Check<'a> {
    store: &'a Store,
    locks: Locks,
    /// Make inventories.
    mend: bool,
    /// The layers that got one.
    mended: Vec<ChainId>,
    result: Verified,
}

/// Whether an entry of that name belongs into a directory.
type Fits = fn(&OsStr) -> bool;

impl Check<'_> {
    fn fault(&mut self, path: impl Into<PathBuf>, object: Object, what: impl Into<String>) {
        self.result.faults.push(Fault { path: path.into(), what: what.into(), object });
    }

    /// Turns a damaged record into a fault; other errors are the caller's.
    fn sound<T>(&mut self, result: Result<Option<T>>, object: Object) -> Result<Option<T>> {
        match result {
            Err(Error::Damaged { path, why }) => {
                self.fault(path, object, why);
                Ok(None)
            }
            other => other,
        }
    }

    /// Names that no object of the store has.
    fn strays(&mut self) -> Result<()> {
        let digests: Fits = |name| is_hex(name, 64);
        let expected: [(&str, Fits); 6] = [
            (".", layout::is_known),
            ("blobs/sha256", digests),
            ("layers/sha256", digests),
            ("images/sha256", digests),
            ("refs", digests),
            ("writable", |name| name.to_str().is_some_and(names::is_valid)),
        ];
        for (path, fits) in expected {
            let dir = self.store.root.open(path)?;
            for name in dir.names()?.iter().filter(|name| !fits(name)) {
                // As it is written everywhere else: without `.`.
                let path: PathBuf = dir.at(name).components().collect();
                self.fault(path, Object::Stray, "it does not belong into the store");
            }
        }
        self.result.leftovers = self.store.root.open("tmp")?.names()?.len();
        Ok(())
    }

    fn blobs(&mut self) -> Result<()> {
        let (dir, ids) = (self.store.blobs()?, self.store.blob_ids()?);
        let found = in_parallel::<_, Error>(self.store.threads, ids.len(), &|n| match ids.get(n) {
            Some(id) => Ok(hash_blob(&dir, id)?.map(|found| (*id, found))),
            None => Ok(None),
        })?;
        for (id, found) in found.into_iter().flatten() {
            self.result.blobs += 1;
            match found {
                Ok(digest) if digest == id => {}
                Ok(digest) => {
                    self.fault(dir.at(id.hex()), Object::Blob(id), format!("its bytes have digest {digest}"));
                }
                Err(e) => self.fault(dir.at(id.hex()), Object::Blob(id), format!("it cannot be read: {e}")),
            }
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<()> {
        let (store, locks, mend) = (self.store, &self.locks, self.mend);
        let ids = store.layer_ids()?;
        let found = in_parallel::<_, Error>(store.threads, ids.len(), &|n| match ids.get(n) {
            Some(chain) => Ok(Some((*chain, check_layer(store, locks, chain, mend)?))),
            None => Ok(None),
        })?;
        for (chain, CheckedLayer { fault, mended }) in found.into_iter().flatten() {
            self.result.layers += 1;
            self.result.faults.extend(fault);
            self.mended.extend(mended.then_some(chain));
        }
        Ok(())
    }

    fn references(&mut self) -> Result<()> {
        let dir = self.store.refs()?;
        for name in dir.names()?.iter().filter(|name| is_hex(name, 64)) {
            self.result.references += 1;
            let object = Object::Reference(name.to_string_lossy().into_owned());
            let tag: Option<Tag> = self.sound(record::read(&dir, name), object.clone())?;
            let Some(tag) = tag else { continue };
            if let Some(what) = self.store.check_reference(name, &tag)? {
                self.fault(dir.at(name), object, what);
            }
        }
        Ok(())
    }

    fn writable(&mut self) -> Result<()> {
        let all = self.store.writable_dir()?;
        for name in all.names()?.iter().filter_map(|n| n.to_str()).filter(|n| names::is_valid(n)) {
            self.result.writable += 1;
            let found = match self.store.writable(name) {
                Err(Error::NoWritable(_)) => continue,
                other => self.sound(other.map(Some), Object::Writable)?,
            };
            let Some(found) = found else { continue };
            let faults = self.check_writable(&all, name, &found.record)?;
            // One that went meanwhile was looked at while it was being deleted.
            if all.has(name)? {
                self.result.faults.extend(faults);
            }
        }
        Ok(())
    }

    /// What is wrong with a writable layer.
    fn check_writable(&self, all: &Dir, name: &str, record: &WritableRecord) -> Result<Vec<Fault>> {
        let Some(dir) = all.try_open(name)? else { return Ok(Vec::new()) };
        let fault = |path: PathBuf, what: String| Fault { path, what, object: Object::Writable };
        let mut faults = Vec::new();
        for part in ["upper", "work"] {
            if !dir.stat(part)?.is_some_and(|stat| stat.is_dir()) {
                faults.push(fault(dir.at(part), "it is missing".into()));
            }
        }
        if record.name != name {
            faults.push(fault(dir.path().into(), format!("its record is that of {}", record.name)));
        }
        let mut below = 0;
        let mut next = record.chain;
        while let Some(chain) = next {
            below += 1;
            next = match self.store.layer(&chain) {
                // Of a damaged record there is a fault already.
                Err(Error::Damaged { .. }) => break,
                Ok(Some(layer)) if below <= record.layers => layer.parent,
                _ => {
                    let image = record.image;
                    let what = format!("the layer {chain} below it is missing; load its image {image} again");
                    faults.push(fault(dir.path().into(), what));
                    break;
                }
            };
        }
        Ok(faults)
    }

    fn images(&mut self) -> Result<Vec<ImageRecord>> {
        let dir = self.store.images_dir()?;
        let mut records = Vec::new();
        for id in self.store.image_ids()? {
            self.result.images += 1;
            let record: Option<ImageRecord> = self.sound(record::read(&dir, id.hex()), Object::Image(id))?;
            let Some(record) = record else { continue };
            if let Some(what) = self.store.check_image(&id, &record)? {
                self.fault(dir.at(id.hex()), Object::Image(id), what);
            }
            records.push(record);
        }
        Ok(records)
    }

    fn unreferenced(&mut self, records: &[ImageRecord]) -> Result<()> {
        let mut blobs: FxHashSet<Digest> = records.iter().flat_map(ImageRecord::blobs).collect();
        let of = |r: &ImageRecord| r.layers.iter().map(|l| l.chain_id).collect::<Vec<_>>();
        let mut layers: FxHashSet<ChainId> = records.iter().flat_map(of).collect();
        for name in self.store.writable_dir()?.names()? {
            let mut next = self.store.writable(&name.to_string_lossy()).ok().and_then(|w| w.record.chain);
            while let Some(chain) = next.filter(|chain| layers.insert(*chain)) {
                next = self.store.layer(&chain).ok().flatten().and_then(|record| record.parent);
            }
        }
        let extra = self.store.blob_ids()?.into_iter().filter(|id| blobs.insert(*id)).count();
        self.result.unreferenced = extra + self.store.layer_ids()?.into_iter().filter(|id| layers.insert(*id)).count();
        Ok(())
    }
}

/// The digest of a blob's bytes; `None` when it went meanwhile.
fn hash_blob(dir: &Dir, id: &Digest) -> Result<Option<Result<Digest>>> {
    let (name, path) = (id.hex(), dir.at(id.hex()));
    match dir.stat(&name)? {
        None => return Ok(None),
        Some(stat) if !stat.is_file() => return Ok(Some(Err(Error::damaged(path, "it is not a regular file")))),
        Some(_) => {}
    }
    let file = match sys::open_file(dir.fd(), OsStr::new(&name), sys::Access::Read).map_err(io("open", &path)) {
        Ok(file) => file,
        Err(e) if e.is_of_the_process() => return Err(e),
        Err(e) => return Ok(dir.has(&name)?.then_some(Err(e))),
    };
    let (mut hash, mut buffer) = (Hashing::new(), vec![0; 128 << 10]);
    loop {
        match sys::pread(file.as_fd(), &mut buffer, hash.count()) {
            Ok(0) => return Ok(Some(Ok(hash.finish()))),
            Ok(n) => hash.update(buffer.get(..n).unwrap_or_default()),
            Err(e) => {
                let e = io("read", &path)(e);
                return if e.is_of_the_process() { Err(e) } else { Ok(Some(Err(e))) };
            }
        }
    }
}
