//! The storage of podman, buildah and CRI-O (containers/storage with the overlay driver).
//!
//! `overlay-images/images.json`, `overlay-containers/containers.json` and `overlay-layers/layers.json` are lists of what
//! there is; `overlay/ID/diff` is a layer. What belongs to containers that end with the machine is in the
//! `volatile-*.json` beside them. An engine can look into several storages: layers of an image can be in another one than
//! the image, as the layer of a container can stand on those of an image that is elsewhere.

use super::read::{Storage, chain};
use super::{Error, Found, Result, is_id_prefix, lowest, only};
use crate::image::digest::Digest;
use crate::image::{Config, Document, Reference};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

const IMAGES: &str = "overlay-images/images.json";
/// A directory for each image.
const IMAGE_FILES: &str = "overlay-images";
const LAYERS: &str = "overlay-layers/layers.json";
const VOLATILE_LAYERS: &str = "overlay-layers/volatile-layers.json";
const CONTAINERS: &str = "overlay-containers/containers.json";
const VOLATILE_CONTAINERS: &str = "overlay-containers/volatile-containers.json";
/// Says `true` where a FUSE program mounts for the engine.
const MOUNT_PROGRAM: &str = "overlay/.has-mount-program";

/// The registry of images that were built here.
const LOCAL: &str = "localhost";

/// An image or a container.
#[derive(Deserialize)]
struct Item {
    id: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    layer: Option<String>,
    /// Of a container: the id of its image.
    #[serde(default)]
    image: Option<String>,
}

#[derive(Deserialize)]
struct Layer {
    id: String,
    #[serde(default)]
    parent: Option<String>,
}

/// The storages of one engine: what one lacks the next can have.
struct Storages {
    first: Storage,
    further: Vec<Storage>,
}

impl Storages {
    /// Opens those that are there; one has to be.
    fn open(roots: &[PathBuf]) -> Result<Self> {
        let (mut opened, mut missing) = (Vec::new(), None);
        for root in roots {
            match Storage::open(root) {
                Err(e @ Error::NoDirectory { .. }) => missing = missing.or(Some(e)),
                storage => opened.push(storage?),
            }
        }
        let mut opened = opened.into_iter();
        let first = opened.next().ok_or_else(|| missing.unwrap_or(Error::NoDirectory { path: PathBuf::new() }))?;
        Ok(Self { first, further: opened.collect() })
    }

    fn iter(&self) -> impl Iterator<Item = &Storage> {
        std::iter::once(&self.first).chain(&self.further)
    }

    /// A list of all of them together; `None` when none has it.
    fn list<T: DeserializeOwned>(&self, rel: &str) -> Result<Option<Vec<T>>> {
        let mut all = None;
        for storage in self.iter() {
            if let Some(own) = storage.json::<Vec<T>>(rel)? {
                all.get_or_insert_with(Vec::new).extend(own);
            }
        }
        Ok(all)
    }

    /// The first that has a directory; the first of all where none has it.
    fn holder(&self, rel: &str) -> Result<&Storage> {
        for storage in self.iter() {
            if storage.directory(rel)?.is_some() {
                return Ok(storage);
            }
        }
        Ok(&self.first)
    }
}

/// The layers of an image (by name, digest, or the beginning of its id) or else of a container, the lowest `layers` of
/// them. A container has one layer more than its image: what it changed. `roots` are the storages that the engine looks
/// into, in its order; messages name the first that is there.
pub fn containers_storage(roots: &[PathBuf], name: &str, layers: Option<usize>) -> Result<Found> {
    let storages = Storages::open(roots)?;
    let storage = &storages.first;
    let images: Option<Vec<Item>> = storages.list(IMAGES)?;
    let lists: Option<Vec<Layer>> = storages.list(LAYERS)?;
    let (Some(mut images), Some(mut lists)) = (images, lists) else {
        let what = "the storage of podman or buildah";
        return Err(Error::NoStorage { path: storage.path().to_owned(), what, missing: LAYERS });
    };
    // An image that several have is one, and is seen in the first.
    let mut seen = HashSet::new();
    images.retain(|image| seen.insert(image.id.clone()));
    lists.extend(storages.list::<Layer>(VOLATILE_LAYERS)?.unwrap_or_default());
    let (item, is_container) = match image(images, name)? {
        Some(image) => (image, false),
        None => (container(&storages, name)?.ok_or_else(|| storage.not_found(name))?, true),
    };
    let of = if is_container { item.image.as_deref().unwrap_or_default() } else { &item.id };
    let config = storages.iter().find_map(|storage| config(storage, of));
    let top = item.layer.ok_or_else(|| storage.damaged(IMAGES, format!("{name:?} has no layers")))?;
    let mut parents: HashMap<String, Option<String>> = HashMap::new();
    for layer in lists {
        parents.entry(layer.id).or_insert(layer.parent);
    }
    let below = |id: &str| {
        let parent = parents.get(id).ok_or_else(|| storage.damaged(LAYERS, format!("layer {id:?} is missing")))?;
        Ok(parent.clone().filter(|parent| !parent.is_empty()))
    };
    let work = format!("overlay/{top}/work");
    let (mut lower, mut override_stat, mut oci_whiteouts) = (Vec::new(), false, false);
    for id in chain(storage, LAYERS, top, below)? {
        if !is_id(&id) {
            return Err(storage.damaged(LAYERS, format!("{id:?} is not the id of a layer")));
        }
        let diff = format!("overlay/{id}/diff");
        let holder = storages.holder(&diff)?;
        let (path, mark) = holder.layer(&diff)?;
        lower.push(path);
        override_stat |= mark;
        oci_whiteouts |= holder.word(MOUNT_PROGRAM)?.as_deref() == Some("true");
    }
    let config = config.filter(|config| config.rootfs.diff_ids.len() + usize::from(is_container) == lower.len());
    let all = layers.is_none_or(|layers| layers == lower.len());
    let work = if is_container && all { storages.holder(&work)?.directory(&work)? } else { None };
    Ok(Found { id: item.id, config, lower: lowest(lower, layers, name)?, work, oci_whiteouts, override_stat })
}

/// The configuration of an image, whose id is its digest. (Not that of an image in the format of before 2016, nor of one that
/// was pulled in pieces.)
fn config(storage: &Storage, id: &str) -> Option<Document<Config>> {
    let digest = Digest::from_hex(id)?;
    // So are files named whose names have other characters than letters, digits and dots.
    let file = format!("{IMAGE_FILES}/{id}/={}", BASE64.encode(digest.to_string()));
    // The layers are there without it.
    storage.config(&file, digest).unwrap_or_else(|e| {
        log::warn!("{e}");
        None
    })
}

/// Ids of layers are 64 hex digits; those of programs that choose their own may have other letters, never a dot or slash.
fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The image that is meant, in the order in which podman looks.
fn image(images: Vec<Item>, name: &str) -> Result<Option<Item>> {
    let is = |wanted: &Reference| {
        let named =
            |image: &&Item| image.names.iter().flatten().any(|n| n.parse().is_ok_and(|n: Reference| n == *wanted));
        images.iter().position(|image| named(&image))
    };
    let digest = |digest: Digest| {
        let digests = [digest.to_string(), digest.hex()];
        images.iter().position(|i| i.digest.as_ref().is_some_and(|d| digests.contains(d)) || digests.contains(&i.id))
    };
    let wanted = name.parse::<Reference>().ok();
    let local = format!("{LOCAL}/{name}").parse::<Reference>().ok();
    let at = match wanted.as_ref().and_then(Reference::digest) {
        Some(wanted) => digest(wanted),
        None => local.as_ref().and_then(is).or_else(|| wanted.as_ref().and_then(is)),
    };
    let mut images = images;
    if let Some(at) = at {
        return Ok(Some(images.swap_remove(at)));
    }
    let prefix = name.strip_prefix("sha256:").unwrap_or(name).to_owned();
    by_prefix_or(images, name, |image| {
        // `web` is also `registry.example/team/web:latest`, when nothing else is.
        let ends = |n: &str| n.strip_suffix(name).is_some_and(|rest| rest.ends_with('/'));
        (is_id_prefix(&prefix) && image.id.starts_with(&prefix))
            || image.names.iter().flatten().any(|n| ends(n) || n.strip_suffix(":latest").is_some_and(ends))
    })
}

fn container(storages: &Storages, name: &str) -> Result<Option<Item>> {
    let mut all: Vec<Item> = storages.list(CONTAINERS)?.unwrap_or_default();
    all.extend(storages.list(VOLATILE_CONTAINERS)?.unwrap_or_default());
    if let Some(at) = all.iter().position(|c| c.names.iter().flatten().any(|n| n == name)) {
        return Ok(Some(all.swap_remove(at)));
    }
    by_prefix_or(all, name, |container| is_id_prefix(name) && container.id.starts_with(name))
}

fn by_prefix_or(items: Vec<Item>, name: &str, is_meant: impl Fn(&Item) -> bool) -> Result<Option<Item>> {
    let meant = items.into_iter().filter(is_meant).collect();
    only(name, meant, |item| item.names.iter().flatten().next().unwrap_or(&item.id).clone())
}
