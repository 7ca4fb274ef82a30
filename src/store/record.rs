//! Records: small JSON files with a `schema` number.

use super::dir::Dir;
use super::error::{Error, Result};
use crate::image::digest::{ChainId, DiffId, Digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The `schema` that is written.
pub(super) const SCHEMA: u32 = 1;

/// What is known of an unpacked layer (`layer.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    pub(super) schema: u32,
    /// Identity of this layer on top of those below; the name of its directory.
    pub chain_id: ChainId,
    /// Digest of its tar stream.
    pub diff_id: DiffId,
    /// Digest of the blob that it was unpacked from.
    pub blob: Digest,
    /// Length of that blob in bytes.
    pub blob_size: u64,
    /// The layer below; absent for the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChainId>,
    /// Length of the tar stream in bytes.
    pub tar_size: u64,
    /// Bytes in its regular files, each inode once.
    pub content: u64,
    /// Bytes that are allocated for the directory and all in it, each inode once.
    pub disk: u64,
    /// Number of names in it.
    pub entries: u64,
    /// Whether owners and devices are in `user.containers.override_stat`; kernel overlayfs cannot show such a layer.
    pub override_stat: bool,
    /// Digest of the directory in the canonical form of docs/STORE.md section 6.
    pub tree: Digest,
    /// When it was unpacked, in seconds since 1970.
    pub created: u64,
}

/// A layer of an image, as its record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// Which unpacked layer.
    pub chain_id: ChainId,
    /// Digest of its tar stream.
    pub diff_id: DiffId,
    /// Digest of its blob in this image's manifest.
    pub blob: Digest,
    /// Length of that blob in bytes.
    pub blob_size: u64,
}

/// What is known of an image (`images/sha256/HEX`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub(super) schema: u32,
    /// The image id: the digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<ImageLayer>,
    /// When it was loaded, in seconds since 1970.
    pub loaded: u64,
}

impl ImageRecord {
    /// All blobs that belong to the image: manifest, configuration, layers.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        [self.manifest, self.id].into_iter().chain(self.layers.iter().map(|l| l.blob))
    }
}

/// The record `name` of `dir`; `None` when it is not there.
pub(super) fn read<T: DeserializeOwned>(dir: &Dir, name: impl AsRef<OsStr>) -> Result<Option<T>> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let Some(bytes) = dir.read(name.as_ref())? else { return Ok(None) };
    let damaged = |why: String| Error::damaged(dir.at(name.as_ref()), why);
    let version: Version = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if version.schema != SCHEMA {
        return Err(damaged(format!("it has schema {}, not {SCHEMA}", version.schema)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(e.to_string()))
}

/// What becomes of a record that is damaged: an error ends the listing, else it is left out.
pub(super) type OnDamage<'a> = &'a mut dyn FnMut(Error) -> Result<()>;

/// What was read; none where `damaged` has it left out.
pub(super) fn unless_damaged<T>(read: Result<Option<T>>, damaged: OnDamage<'_>) -> Result<Option<T>> {
    match read {
        Err(error @ Error::Damaged { .. }) => damaged(error).map(|()| None),
        read => read,
    }
}

/// Lists what is not damaged, and an error for each that is.
pub(super) fn sound<T>(list: impl FnOnce(OnDamage<'_>) -> Result<T>) -> Result<(T, Vec<Error>)> {
    let mut damaged = Vec::new();
    let found = list(&mut |error| {
        damaged.push(error);
        Ok(())
    })?;
    Ok((found, damaged))
}

/// The bytes of a record.
pub(super) fn bytes<T: Serialize>(dir: &Dir, record: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(record).map_err(|e| Error::damaged(dir.path(), e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes a record in `temp`, and renames it to `new` in `dir`, which is synced.
///
/// False when there is one already and it is not to be replaced.
pub(super) fn publish<T: Serialize>(
    temp: &Dir,
    record: &T,
    dir: &Dir,
    new: impl AsRef<OsStr>,
    replace: bool,
) -> Result<bool> {
    temp.remove("record")?;
    temp.write("record", &bytes(temp, record)?)?;
    let placed =
        if replace { temp.rename("record", dir, new).map(|()| true)? } else { temp.rename_new("record", dir, new)? };
    dir.sync()?;
    Ok(placed)
}

/// A path in a record: a text, or an array of its bytes where it is not UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PathForm {
    Text(String),
    Bytes(Vec<u8>),
}

/// For `serialize_with`.
pub(super) fn write_path<S: Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let bytes = path.as_os_str().as_bytes();
    path.to_str()
        .map_or_else(|| PathForm::Bytes(bytes.into()), |text| PathForm::Text(text.into()))
        .serialize(serializer)
}

/// For `deserialize_with`.
pub(super) fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<PathBuf, D::Error> {
    Ok(match PathForm::deserialize(deserializer)? {
        PathForm::Text(text) => text.into(),
        PathForm::Bytes(bytes) => OsString::from_vec(bytes).into(),
    })
}

/// The time now, in seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
