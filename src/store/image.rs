//! Images by name, id and digest, and the names they have.

use super::Store;
use super::dir::{Dir, is_hex};
use super::error::{Error, Result};
use super::lock::Key;
use super::record::{self, ImageRecord, OnDamage, SCHEMA, now, sound, unless_damaged};
use super::temp::Temp;
use crate::image::digest::{ChainId, Digest};
use crate::image::time::Timestamp;
use crate::image::{Config, Document, Reference};
use crate::sys::LockKind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A name of an image (`refs/HEX`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    schema: u32,
    /// The full name, with a tag.
    pub name: Reference,
    /// The image that it names.
    pub image: Digest,
    /// When it was given, in seconds since 1970.
    pub tagged: u64,
}

/// An image and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What is recorded of it.
    pub record: ImageRecord,
    /// Its names in the order of their texts; none for a dangling image.
    pub tags: Vec<Tag>,
    /// When it was made, as its configuration says.
    pub created: Option<Timestamp>,
}

impl Image {
    /// The first of its names in the short form of Docker, or the short id.
    #[must_use]
    pub fn display(&self) -> String {
        self.tags.first().map_or_else(|| self.record.id.short(), |tag| tag.name.familiar())
    }
}

impl Store {
    /// All images, the newest first; those made at the same time in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a record that cannot be read. A configuration that cannot be read only leaves out `created`.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.list(&mut Err)
    }

    /// The same without images and names whose records are damaged; an error tells of each of these.
    pub fn sound_images(&self) -> Result<(Vec<Image>, Vec<Error>)> {
        sound(|damaged| self.list(damaged))
    }

    pub(super) fn list(&self, damaged: OnDamage<'_>) -> Result<Vec<Image>> {
        // Nothing is taken away between the two lists.
        let _reading = self.locks()?.lock(Key::STORE, LockKind::Shared)?;
        let mut tags = self.list_tags(damaged)?;
        let mut images = Vec::new();
        for record in self.list_records(damaged)? {
            let (own, rest) = tags.into_iter().partition(|tag: &Tag| tag.image == record.id);
            tags = rest;
            images.push(self.image(record, own));
        }
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.record.id.cmp(&b.record.id)));
        Ok(images)
    }

    fn image(&self, record: ImageRecord, tags: Vec<Tag>) -> Image {
        let config: Option<Document<Config>> =
            self.config(&record).ok().and_then(|bytes| Document::parse_config(bytes).ok());
        Image { created: config.and_then(|c| c.created()), record, tags }
    }

    /// The image that `text` names: a name as Docker reads it, `NAME@DIGEST` (of the manifest, or the id), or an id or
    /// the beginning of one, with or without `sha256:`. A name wins over an id that begins alike.
    ///
    /// # Errors
    /// [`Error::NoImage`]; [`Error::Ambiguous`] with the ids that begin so.
    pub fn find(&self, text: &str) -> Result<Image> {
        let missing = || Error::NoImage(text.to_owned());
        let id = match self.find_by_name(text)? {
            Some(id) => id,
            None => self.find_by_id(text)?.ok_or_else(missing)?,
        };
        // It may have gone since.
        let record = self.image_record(&id)?.ok_or_else(missing)?;
        // Damage elsewhere is no reason not to find it.
        let tags = self.list_tags(&mut |_| Ok(()))?.into_iter().filter(|tag| tag.image == id).collect();
        Ok(self.image(record, tags))
    }

    fn find_by_name(&self, text: &str) -> Result<Option<Digest>> {
        let Ok(reference) = text.parse::<Reference>() else { return Ok(None) };
        let Some(digest) = reference.digest() else {
            return Ok(self.reference(&reference)?.map(|tag| tag.image));
        };
        // What is damaged may be what is asked for.
        let mut damage = None;
        let records = self.list_records(&mut |e| {
            damage.get_or_insert(e);
            Ok(())
        })?;
        let found = records.iter().find(|r| r.manifest == digest || r.id == digest).map(|r| r.id);
        if found.is_none() { damage.map_or(Ok(None), Err) } else { Ok(found) }
    }

    fn find_by_id(&self, text: &str) -> Result<Option<Digest>> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text).to_lowercase();
        if prefix.is_empty() || prefix.len() > 64 || !is_hex(prefix.as_ref(), prefix.len()) {
            return Ok(None);
        }
        let ids: Vec<Digest> = self.image_ids()?.into_iter().filter(|id| id.hex().starts_with(&prefix)).collect();
        match ids.as_slice() {
            [] => Ok(None),
            [id] => Ok(Some(*id)),
            several => {
                let candidates = several.iter().map(Digest::to_string).collect();
                Err(Error::Ambiguous { prefix: text.to_owned(), candidates })
            }
        }
    }

    /// Gives an image a (further) name, and returns the image that had the name before.
    ///
    /// Atomic for readers: the name is that of the old image or of the new one. Idempotent.
    ///
    /// # Errors
    /// [`Error::NoImage`]; [`Error::NotATag`] for a name without tag.
    pub fn tag(&self, image: &Digest, name: &Reference) -> Result<Option<Digest>> {
        check_tag(name)?;
        let locks = self.locks()?;
        let temp = Temp::new(&self.root, &locks)?;
        let _publishing = locks.lock(Key::STORE, LockKind::Shared)?;
        self.image_record(image)?.ok_or_else(|| Error::NoImage(image.to_string()))?;
        let old = match self.reference(name) {
            Err(Error::Damaged { .. }) => None,
            other => other?.map(|tag| tag.image),
        };
        self.write_reference(&temp.dir, name, image)?;
        Ok(old.filter(|old| old != image))
    }

    /// All names, in the order of their texts.
    pub fn tags(&self) -> Result<Vec<Tag>> {
        self.list_tags(&mut Err)
    }

    fn list_tags(&self, damaged: OnDamage<'_>) -> Result<Vec<Tag>> {
        let dir = self.refs()?;
        let mut tags = Vec::new();
        for name in dir.names()?.iter().filter(|name| is_hex(name, 64)) {
            tags.extend(unless_damaged(record::read::<Tag>(&dir, name), damaged)?);
        }
        tags.sort_by_cached_key(|tag| tag.name.to_string());
        Ok(tags)
    }

    /// The directories of the first `layers` layers of an image (of all for `None`), topmost first, as mounts take them.
    ///
    /// # Errors
    /// [`Error::FewerLayers`]; [`Error::NoLayer`] when one is missing.
    pub fn layer_dirs(&self, image: &ImageRecord, layers: Option<usize>) -> Result<Vec<PathBuf>> {
        let chosen = self.first_layers(image, layers)?;
        for chain in &chosen {
            self.layer(chain)?.ok_or(Error::NoLayer(*chain))?;
        }
        Ok(chosen.iter().rev().map(|chain| self.layer_dir(chain)).collect())
    }

    /// The chain ids of the first `layers` layers, the lowest first.
    pub(super) fn first_layers(&self, image: &ImageRecord, layers: Option<usize>) -> Result<Vec<ChainId>> {
        let (has, wanted) = (image.layers.len(), layers.unwrap_or(image.layers.len()));
        let chosen = image.layers.get(..wanted);
        let chosen = chosen.ok_or_else(|| Error::FewerLayers { image: image.id.short(), has, wanted })?;
        Ok(chosen.iter().map(|layer| layer.chain_id).collect())
    }

    /// What is recorded of the image `id`; `None` when it is not there.
    pub(super) fn image_record(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        record::read(&self.images_dir()?, id.hex())
    }

    pub(super) fn image_ids(&self) -> Result<Vec<Digest>> {
        let names = self.images_dir()?.names()?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name.to_str()?)).collect())
    }

    pub(super) fn image_records(&self) -> Result<Vec<ImageRecord>> {
        self.list_records(&mut Err)
    }

    fn list_records(&self, damaged: OnDamage<'_>) -> Result<Vec<ImageRecord>> {
        let dir = self.images_dir()?;
        let mut records = Vec::new();
        for id in self.image_ids()? {
            records.extend(unless_damaged(record::read::<ImageRecord>(&dir, id.hex()), damaged)?);
        }
        Ok(records)
    }

    /// The record of a name; `None` when it names nothing.
    pub(super) fn reference(&self, name: &Reference) -> Result<Option<Tag>> {
        record::read(&self.refs()?, file_name(name))
    }

    /// Points a name to an image. The caller holds the store.
    pub(super) fn write_reference(&self, temp: &Dir, name: &Reference, image: &Digest) -> Result<()> {
        let tag = Tag { schema: SCHEMA, name: name.clone(), image: *image, tagged: now() };
        record::publish(temp, &tag, &self.refs()?, file_name(name), true).map(drop)
    }
}

/// The file of a name: names can be longer than file names may be.
pub(super) fn file_name(name: &Reference) -> String {
    Digest::of(name.to_string().as_bytes()).hex()
}

/// Only `NAME:TAG` can be given to an image.
pub(super) fn check_tag(name: &Reference) -> Result<()> {
    if name.tag().is_none() || name.digest().is_some() {
        return Err(Error::NotATag(name.to_string()));
    }
    Ok(())
}
