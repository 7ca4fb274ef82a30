//! Images in a docker-archive: `manifest.json` names the configuration and the layers of each.

use super::files::{Budget, Files, blob_name};
use super::spool::Packing;
use super::{ImageInSource, LayerBlob, Wanted, check_platform, is_wanted, no_image};
use crate::image::config::Config;
use crate::image::digest::{DiffId, Digest};
use crate::image::document::{
    ARCHIVE_MANIFEST_LIMIT, ArchiveImage, DOCUMENT_LIMIT, Document, media, parse_archive_manifest,
};
use crate::image::error::{Error, Result};
use crate::image::reference::Reference;
use std::io::Read;

/// The entries of `manifest.json`; none when there is no such file.
pub(super) fn entries(files: &Files, budget: &Budget) -> Result<Option<Vec<ArchiveImage>>> {
    let bytes = files.read("manifest.json", ARCHIVE_MANIFEST_LIMIT, budget)?;
    bytes.map(|bytes| parse_archive_manifest(&bytes)).transpose()
}

pub(super) fn images(files: &Files, wanted: Wanted<'_>) -> Result<Vec<ImageInSource>> {
    let budget = Budget::new();
    let mut images: Vec<ImageInSource> = Vec::new();
    let mut all_names = Vec::new();
    for entry in entries(files, &budget)?.unwrap_or_default() {
        let names = Names::of(&entry.repo_tags, wanted);
        all_names.extend(entry.repo_tags.iter().cloned());
        if wanted.reference.is_some() && names.references.is_empty() {
            continue;
        }
        let mut image = image(files, &entry, &budget)?;
        check_platform(wanted, &image.platform)?;
        names.add_to(&mut image);
        match images.iter_mut().find(|i| i.config.digest() == image.config.digest()) {
            Some(same) => names.add_to(same),
            None => images.push(image),
        }
    }
    if images.is_empty() && wanted.reference.is_some() {
        return Err(no_image(files, wanted, &all_names));
    }
    Ok(images)
}

/// The names of one image.
pub(super) struct Names {
    references: Vec<Reference>,
    unusable: Vec<String>,
}

impl Names {
    /// Those of `tags` that are wanted.
    pub fn of(tags: &[String], wanted: Wanted<'_>) -> Self {
        let mut names = Self { references: Vec::new(), unusable: Vec::new() };
        for tag in tags {
            match tag.parse::<Reference>() {
                Ok(reference) if is_wanted(wanted, tag, Some(&reference)) => names.references.push(reference),
                Ok(_) => {}
                Err(_) => names.unusable.push(tag.clone()),
            }
        }
        names
    }

    /// Adds them to an image that does not have them yet.
    pub fn add_to(&self, image: &mut ImageInSource) {
        for reference in &self.references {
            if !image.references.contains(reference) {
                image.references.push(reference.clone());
            }
        }
        for name in &self.unusable {
            if !image.unusable_names.contains(name) {
                image.unusable_names.push(name.clone());
            }
        }
    }
}

fn image(files: &Files, entry: &ArchiveImage, budget: &Budget) -> Result<ImageInSource> {
    let what = || crate::image::format::printable(&entry.config);
    let bytes = files
        .read(&entry.config, DOCUMENT_LIMIT, budget)?
        .ok_or_else(|| Error::Missing { container: files.name().into(), what: what() })?;
    let config: Document<Config> = Document::parse_config(bytes)?;
    if let Some(expected) = digest_in_name(&entry.config)
        && expected != config.digest()
    {
        return Err(Error::DigestMismatch { what: what(), expected, found: config.digest() });
    }
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != entry.layers.len() {
        let why = format!("{} has {} layers, but manifest.json {}", what(), diff_ids.len(), entry.layers.len());
        return Err(files.fail(&why));
    }
    let layers = diff_ids.iter().zip(&entry.layers).enumerate();
    let layers = layers.map(|(index, (id, name))| layer(files, index, *id, name)).collect::<Result<Vec<_>>>()?;
    let mut image = ImageInSource {
        references: Vec::new(),
        unusable_names: Vec::new(),
        platform: config.platform(),
        config,
        manifest: None,
        made_up: true,
        layers,
    };
    let known: Option<Vec<(Digest, u64)>> = image.layers.iter().map(|l| l.digest.map(|d| (d, l.size))).collect();
    if let Some(known) = known {
        image.manifest = Some(image.manifest_for(&known)?);
    }
    Ok(image)
}

/// The digest that a file is named after: `blobs/sha256/HEX`, `HEX.json`, `HEX.tar`.
fn digest_in_name(name: &str) -> Option<Digest> {
    let hex = match name.strip_prefix("blobs/sha256/") {
        Some(hex) => hex,
        None => name.strip_suffix(".json")?,
    };
    Digest::from_hex(hex)
}

fn layer(files: &Files, index: usize, diff_id: DiffId, name: &str) -> Result<LayerBlob> {
    let Some(mut reader) = files.find(name)? else {
        let what = format!("layer {} ({})", index + 1, crate::image::format::printable(name));
        return Err(Error::Missing { container: files.name().into(), what });
    };
    let size = reader.len();
    let mut start = Vec::new();
    reader.by_ref().take(6).read_to_end(&mut start).map_err(Error::io(files.name()))?;
    // A layer without compression is its own diff id; of the others the name may tell.
    let (media_type, digest) = match Packing::of(&start) {
        Ok(Packing::None) => (media::OCI_LAYER, Some(diff_id.0)),
        Ok(Packing::Gzip) => (media::OCI_LAYER_GZIP, digest_in_name(name)),
        Ok(Packing::Zstd) => (media::OCI_LAYER_ZSTD, digest_in_name(name)),
        Err(why) => return Err(files.fail(&format!("layer {}: {why}", index + 1))),
    };
    Ok(LayerBlob { index, diff_id, digest, size, media_type: media_type.into(), urls: Vec::new(), member: name.into() })
}

/// The names that `manifest.json` beside an OCI layout has for a configuration (Docker 25 and later).
pub(super) fn tags_of(entries: &[ArchiveImage], config: Digest) -> impl Iterator<Item = &String> {
    let name = blob_name(config);
    entries.iter().filter(move |e| e.config == name).flat_map(|e| &e.repo_tags)
}
