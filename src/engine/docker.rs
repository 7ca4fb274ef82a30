//! Docker's own storage (graph driver overlay2): names in `image/overlay2/repositories.json`, configurations in
//! `image/overlay2/imagedb`, and in `image/overlay2/layerdb` which directory of `overlay2` holds which layer.
//!
//! Engines that keep images with containerd (the default of new installations since Docker 29) have none of this.

use super::read::{Storage, chain};
use super::{Error, Found, Result, is_id_prefix, lowest, only};
use crate::image::digest::{ChainId, Digest};
use crate::image::{Config, Document, Reference};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

const REPOSITORIES: &str = "image/overlay2/repositories.json";
const CONFIGS: &str = "image/overlay2/imagedb/content/sha256";
const LAYERS: &str = "image/overlay2/layerdb/sha256";
const MOUNTS: &str = "image/overlay2/layerdb/mounts";
const CONTAINERS: &str = "containers";

#[derive(Deserialize)]
struct Repositories {
    /// Repository, then name with tag or digest, then image id.
    #[serde(rename = "Repositories", default)]
    by_name: HashMap<String, HashMap<String, String>>,
}

#[derive(Deserialize)]
struct ContainerConfig {
    #[serde(rename = "Name", default)]
    name: String,
    /// The id of the image that it was made of.
    #[serde(rename = "Image", default)]
    image: String,
}

/// The layers of an image (by name, digest, or the beginning of its id) or else of a container, the lowest `layers` of
/// them. A container has two layers more than its image: what the engine prepared, and what it changed.
pub fn docker_store(root: &Path, name: &str, layers: Option<usize>) -> Result<Found> {
    let storage = Storage::open(root)?;
    let Some(names) = storage.json::<Repositories>(REPOSITORIES)? else {
        let what = "the storage of a Docker engine with the overlay2 driver";
        return Err(Error::NoStorage { path: root.to_owned(), what, missing: REPOSITORIES });
    };
    let (id, directories, config, is_container) = match image(&storage, &names, name)? {
        Some(id) => {
            let config = config(&storage, id)?;
            let config =
                config.ok_or_else(|| storage.damaged(&config_file(id), "the configuration of the image is missing"))?;
            (id.to_string(), image_directories(&storage, &config)?, Some(config), false)
        }
        None => {
            let (id, image) = container(&storage, name)?.ok_or_else(|| storage.not_found(name))?;
            // The layers are there without it.
            let config = image.parse().ok().and_then(|image| or_warn(config(&storage, image)));
            let directories = container_directories(&storage, &id)?;
            let config = config.filter(|config| config.rootfs.diff_ids.len() + 2 == directories.len());
            (id, directories, config, true)
        }
    };
    let all = layers.is_none_or(|layers| layers == directories.len());
    let work = match directories.first().filter(|_| is_container && all) {
        Some(directory) => storage.directory(&format!("overlay2/{directory}/work"))?,
        None => None,
    };
    let (mut lower, mut override_stat) = (Vec::new(), false);
    for directory in directories {
        let (path, mark) = storage.layer(&format!("overlay2/{directory}/diff"))?;
        lower.push(path);
        override_stat |= mark;
    }
    Ok(Found { id, config, lower: lowest(lower, layers, name)?, work, oci_whiteouts: false, override_stat })
}

fn image(storage: &Storage, names: &Repositories, name: &str) -> Result<Option<Digest>> {
    let wanted = name.parse::<Reference>().ok();
    let is = |key: &str| {
        let (Ok(key), Some(wanted)) = (key.parse::<Reference>(), wanted.as_ref()) else { return false };
        match wanted.digest() {
            Some(digest) => key.digest() == Some(digest) && key.name() == wanted.name(),
            None => key == *wanted,
        }
    };
    if let Some((key, id)) = names.by_name.values().flatten().find(|(key, _)| is(key)) {
        let id = id.parse().map_err(|_| storage.damaged(REPOSITORIES, format!("{key:?} has the id {id:?}")))?;
        return Ok(Some(id));
    }
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    if !is_id_prefix(prefix) {
        return Ok(None);
    }
    let ids = storage.names(CONFIGS)?.into_iter().filter(|id| id.starts_with(prefix));
    only(name, ids.filter_map(|id| Digest::from_hex(&id)).collect(), Digest::to_string)
}

fn config_file(id: Digest) -> String {
    format!("{CONFIGS}/{}", id.hex())
}

fn config(storage: &Storage, id: Digest) -> Result<Option<Document<Config>>> {
    storage.config(&config_file(id), id)
}

/// The names of an image's layers in `overlay2`, topmost first.
fn image_directories(storage: &Storage, config: &Config) -> Result<Vec<String>> {
    config.chain_ids().iter().rev().map(|chain| directory(storage, *chain)).collect()
}

/// The name in `overlay2` of a layer.
fn directory(storage: &Storage, chain: ChainId) -> Result<String> {
    id_in(storage, &format!("{LAYERS}/{}/cache-id", chain.0.hex()))
}

/// The id of a directory that stands in a file.
fn id_in(storage: &Storage, file: &str) -> Result<String> {
    let id = storage.word(file)?.ok_or_else(|| storage.damaged(file, "it is missing; the layer is not here"))?;
    let fits = (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(id) } else { Err(storage.damaged(file, format!("{id:?} is not the id of a layer"))) }
}

/// What was read, unless it is damaged: then that is said.
fn or_warn<T>(read: Result<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|e| {
        log::warn!("{e}");
        None
    })
}

/// The id of a container, and of its image; that is empty where the container's configuration is lost.
fn container(storage: &Storage, name: &str) -> Result<Option<(String, String)>> {
    let mut begins = Vec::new();
    for id in storage.names(CONTAINERS)?.into_iter().filter(|id| is_id_prefix(id)) {
        // What it changed is there without it, and other containers are.
        let config: Option<ContainerConfig> = or_warn(storage.json(&format!("{CONTAINERS}/{id}/config.v2.json")));
        let is_named = config.as_ref().is_some_and(|config| config.name.trim_start_matches('/') == name);
        let image = config.map(|config| config.image).unwrap_or_default();
        if is_named {
            return Ok(Some((id, image)));
        }
        if is_id_prefix(name) && id.starts_with(name) {
            begins.push((id, image));
        }
    }
    only(name, begins, |(id, _)| id.clone())
}

/// The same for a container: what it changed, what the engine prepared, and the layers of its image.
fn container_directories(storage: &Storage, id: &str) -> Result<Vec<String>> {
    let mount = |file: &str| format!("{MOUNTS}/{id}/{file}");
    let mut directories = vec![id_in(storage, &mount("mount-id"))?, id_in(storage, &mount("init-id"))?];
    let parent_in = |file: &str| -> Result<Option<String>> {
        let Some(parent) = storage.word(file)? else { return Ok(None) };
        let parent = parent.parse::<Digest>().map_err(|e| storage.damaged(file, e))?;
        Ok(Some(parent.hex()))
    };
    let Some(top) = parent_in(&mount("parent"))? else { return Ok(directories) };
    for hex in chain(storage, LAYERS, top, |hex| parent_in(&format!("{LAYERS}/{hex}/parent")))? {
        directories.push(id_in(storage, &format!("{LAYERS}/{hex}/cache-id"))?);
    }
    Ok(directories)
}
