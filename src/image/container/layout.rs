//! Images in an OCI layout: `index.json` names manifests, or indexes of manifests for several platforms.

use super::docker::{self, Names};
use super::files::{Budget, Files, blob_name};
use super::{ImageInSource, LayerBlob, Wanted, check_platform, is_wanted, no_image};
use crate::image::config::Config;
use crate::image::digest::{AnyDigest, Digest};
use crate::image::document::{
    DOCUMENT_LIMIT, Descriptor, Document, Index, Manifest, ManifestOrIndex, check_size, media,
};
use crate::image::error::{Error, Result};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use std::path::Path;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const ATTESTATION: &str = "vnd.docker.reference.type";
const NESTING_LIMIT: u32 = 8;
const ENTRIES_LIMIT: usize = 10_000;

type Entry = Descriptor<AnyDigest>;

pub(super) fn images(files: &Files, path: &Path, wanted: Wanted<'_>) -> Result<Vec<ImageInSource>> {
    let layout = Layout { files, budget: Budget::new(), wanted };
    layout.check_version()?;
    let index = layout.index()?;
    let tags = docker::entries(files, &layout.budget)?.unwrap_or_default();
    let names: Vec<String> = index.manifests.iter().filter_map(name_of).map(str::to_owned).collect();
    let mut images: Vec<(Digest, ImageInSource)> = Vec::new();
    let mut found = false;
    for group in groups(&index.manifests) {
        let name = name_of(group[0]);
        let reference = name.and_then(|n| reference_of(group[0], n, path));
        if wanted.reference.is_some() && !name.is_some_and(|n| is_wanted(wanted, n, reference.as_ref())) {
            continue;
        }
        found = true;
        let Some(Chosen { digest, manifest, by_platform }) = layout.resolve(&group)? else { continue };
        let position = match images.iter().position(|(known, _)| *known == digest) {
            Some(position) => position,
            None => {
                let Some(image) = layout.image(manifest, by_platform)? else { continue };
                images.push((digest, image));
                images.len() - 1
            }
        };
        let image = &mut images[position].1;
        match (name, reference) {
            (_, Some(reference)) if !image.references.contains(&reference) => image.references.push(reference),
            (Some(name), None) => image.unusable_names.push(name.to_owned()),
            _ => {}
        }
    }
    if !found && wanted.reference.is_some() {
        return Err(no_image(files, wanted, &names));
    }
    for (_, image) in &mut images {
        let tags: Vec<String> = docker::tags_of(&tags, image.config.digest()).cloned().collect();
        Names::of(&tags, wanted).add_to(image);
    }
    Ok(images.into_iter().map(|(_, image)| image).collect())
}

/// The name of an entry: containerd and Docker write the whole name beside the tag.
fn name_of(entry: &Entry) -> Option<&str> {
    entry.annotation(CONTAINERD_NAME).or_else(|| entry.annotation(REF_NAME))
}

fn reference_of(entry: &Entry, name: &str, path: &Path) -> Option<Reference> {
    match entry.annotation(CONTAINERD_NAME) {
        Some(whole) => whole.parse().ok(),
        None => Reference::from_ref_name(name, path).ok(),
    }
}

/// Entries of one name that differ in their platform are one image; all others are images of their own.
fn groups(entries: &[Entry]) -> Vec<Vec<&Entry>> {
    let mut groups: Vec<Vec<&Entry>> = Vec::new();
    for entry in entries {
        let known = |e: &Entry| e.platform.as_ref().is_some_and(|p| !p.is_unknown());
        let joins = |group: &Vec<&Entry>| {
            name_of(group[0]) == name_of(entry)
                && group.iter().all(|other| known(other) && other.platform != entry.platform)
        };
        match groups.iter_mut().find(|g| known(entry) && joins(g)) {
            Some(group) => group.push(entry),
            None => groups.push(vec![entry]),
        }
    }
    groups
}

/// A manifest, and whether it was chosen for its platform rather than being the only one.
struct Chosen {
    digest: Digest,
    manifest: Document<Manifest>,
    by_platform: bool,
}

/// An entry that can be chosen, and what it is for.
struct Leaf {
    platform: Platform,
    digest: Digest,
    manifest: Document<Manifest>,
}

struct Layout<'a> {
    files: &'a Files,
    budget: Budget,
    wanted: Wanted<'a>,
}

impl Layout<'_> {
    fn check_version(&self) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Version {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let bytes = self.read("oci-layout", 1 << 12)?;
        let layout: Version =
            serde_json::from_slice(&bytes).map_err(|e| Error::document("oci-layout", e.to_string()))?;
        if !layout.version.starts_with("1.") {
            let version = crate::image::format::printable(&layout.version);
            return Err(Error::document("oci-layout", format!("version {version} is not known; 1.0.0 is")));
        }
        Ok(())
    }

    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.files.read(name, limit, &self.budget)?;
        bytes.ok_or_else(|| Error::Missing { container: self.files.name().into(), what: name.into() })
    }

    fn index(&self) -> Result<Document<Index>> {
        match ManifestOrIndex::parse(self.read("index.json", DOCUMENT_LIMIT)?, "", "index.json")? {
            ManifestOrIndex::Index(index) if index.manifests.len() > ENTRIES_LIMIT => {
                Err(Error::document("index.json", format!("it has more than {ENTRIES_LIMIT} entries")))
            }
            ManifestOrIndex::Index(index) => Ok(index),
            ManifestOrIndex::Manifest(_) => Err(Error::document("index.json", "it is a manifest, not an index")),
        }
    }

    /// A document by its digest, checked; none when it is not in the container.
    fn blob<D>(&self, digest: Digest, descriptor: &Descriptor<D>, what: &str) -> Result<Option<Vec<u8>>> {
        check_size(descriptor.size, DOCUMENT_LIMIT, what)?;
        let Some(bytes) = self.files.read(&blob_name(digest), DOCUMENT_LIMIT, &self.budget)? else { return Ok(None) };
        if bytes.len() as u64 != descriptor.size {
            let (expected, found) = (descriptor.size, bytes.len() as u64);
            return Err(Error::SizeMismatch { what: format!("{what} {digest}"), expected, found });
        }
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(Error::DigestMismatch { what: what.into(), expected: digest, found });
        }
        Ok(Some(bytes))
    }

    /// A manifest or index; none when it is something else, or not there although it may be.
    fn document(&self, entry: &Entry, optional: bool) -> Result<Option<(Digest, ManifestOrIndex)>> {
        let known = media::is_manifest(&entry.media_type) || media::is_index(&entry.media_type);
        if !known && !entry.media_type.is_empty() {
            return Ok(None);
        }
        let digest = entry.digest.sha256()?;
        let what = if media::is_index(&entry.media_type) { "the image index" } else { "the image manifest" };
        match self.blob(digest, entry, what)? {
            Some(bytes) => {
                let document = ManifestOrIndex::parse(bytes, &entry.media_type, &format!("{what} {digest}"))?;
                Ok(Some((digest, document)))
            }
            None if optional => Ok(None),
            None => {
                let container = self.files.name().into();
                Err(Error::Missing { container, what: format!("{what} {digest}") })
            }
        }
    }

    /// The manifest that is wanted among entries that are one image; none when that is no container image.
    fn resolve(&self, group: &[&Entry]) -> Result<Option<Chosen>> {
        let host = Platform::host();
        let want = self.wanted.platform.unwrap_or(&host);
        if let [entry] = group {
            match self.document(entry, false)? {
                None => return Ok(None),
                Some((digest, ManifestOrIndex::Manifest(manifest))) => {
                    return Ok(Some(Chosen { digest, manifest, by_platform: false }));
                }
                Some((_, ManifestOrIndex::Index(_))) => {}
            }
        }
        let mut leaves = Vec::new();
        for entry in group {
            self.collect(entry, 0, &mut leaves)?;
        }
        if leaves.is_empty() {
            return Ok(None);
        }
        let offered: Vec<Platform> = leaves.iter().map(|l| l.platform.clone()).collect();
        let chosen = want.choose(offered.iter().zip(0..))?;
        let Leaf { digest, manifest, .. } = leaves.swap_remove(chosen);
        Ok(Some(Chosen { digest, manifest, by_platform: true }))
    }

    /// Adds the images behind an entry that are in the container: an index may name platforms that were not saved.
    fn collect(&self, entry: &Entry, depth: u32, leaves: &mut Vec<Leaf>) -> Result<()> {
        if depth > NESTING_LIMIT {
            return Err(self.files.fail("indexes are nested too deeply"));
        }
        let attestation = entry.annotation(ATTESTATION).is_some()
            || entry.platform.as_ref().is_some_and(|p| p.is_unknown() && !p.os.is_empty());
        if attestation || entry.digest.sha256().is_err() {
            return Ok(());
        }
        match self.document(entry, true)? {
            None => {}
            Some((_, ManifestOrIndex::Index(index))) => {
                for entry in &index.manifests {
                    self.collect(entry, depth + 1, leaves)?;
                }
            }
            Some((digest, ManifestOrIndex::Manifest(manifest))) => {
                let platform = match &entry.platform {
                    Some(platform) if !platform.is_unknown() => Some(platform.clone()),
                    _ => match self.config(&manifest) {
                        Err(Error::Missing { .. }) => None,
                        config => config?.map(|c| c.platform()),
                    },
                };
                leaves.extend(platform.map(|platform| Leaf { platform, digest, manifest }));
            }
        }
        Ok(())
    }

    /// The configuration of an image; none when the manifest is that of some other artifact.
    fn config(&self, manifest: &Manifest) -> Result<Option<Document<Config>>> {
        if !manifest.is_image() {
            return Ok(None);
        }
        let what = "the image configuration";
        let digest = manifest.config.digest;
        let bytes = self
            .blob(digest, &manifest.config, what)?
            .ok_or_else(|| Error::Missing { container: self.files.name().into(), what: format!("{what} {digest}") })?;
        Document::parse_config(bytes).map(Some)
    }

    fn image(&self, manifest: Document<Manifest>, by_platform: bool) -> Result<Option<ImageInSource>> {
        let Some(config) = self.config(&manifest)? else { return Ok(None) };
        // An index knows the variant of an architecture where many configurations do not.
        if !by_platform {
            check_platform(self.wanted, &config.platform())?;
        }
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let (blobs, ids) = (manifest.layers.len(), diff_ids.len());
            return Err(self
                .files
                .fail(&format!("manifest {} has {blobs} layers, but its configuration {ids}", manifest.digest())));
        }
        let layers = manifest.layers.iter().zip(diff_ids).enumerate();
        let layers = layers
            .map(|(index, (blob, diff_id))| LayerBlob {
                index,
                diff_id: *diff_id,
                digest: Some(blob.digest),
                size: blob.size,
                media_type: blob.media_type.clone(),
                urls: blob.urls.clone().unwrap_or_default(),
                member: blob_name(blob.digest),
            })
            .collect();
        Ok(Some(ImageInSource {
            references: Vec::new(),
            unusable_names: Vec::new(),
            platform: config.platform(),
            config,
            manifest: Some(manifest),
            made_up: false,
            layers,
        }))
    }
}
