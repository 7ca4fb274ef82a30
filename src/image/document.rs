//! Manifests and indexes, of OCI and Docker alike, kept with the bytes they came in.

use super::digest::{AnyDigest, Digest};
use super::error::{Error, Result};
use super::platform::Platform;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Deref;

/// The most bytes that a manifest, index or configuration may have.
pub const DOCUMENT_LIMIT: u64 = 4 << 20;
/// The most bytes that `manifest.json` of a docker-archive may have.
pub const ARCHIVE_MANIFEST_LIMIT: u64 = 1 << 20;

/// Media types, as they stand in documents.
pub mod media {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer without compression; `+gzip` and `+zstd` are appended.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer without compression.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

    /// Docker's word for a layer of OCI.
    #[must_use]
    pub fn of_docker(oci: &str) -> Option<&'static str> {
        LAYERS.iter().find(|(of_oci, _)| *of_oci == oci).map(|(_, of_docker)| *of_docker)
    }

    /// OCI's word for a layer of Docker.
    #[must_use]
    pub fn of_oci(docker: &str) -> Option<&'static str> {
        LAYERS.iter().find(|(_, of_docker)| *of_docker == docker).map(|(of_oci, _)| *of_oci)
    }

    const LAYERS: [(&str, &str); 2] = [(OCI_LAYER, DOCKER_LAYER), (OCI_LAYER_GZIP, DOCKER_LAYER_GZIP)];

    /// Whether this is an index or a manifest list.
    #[must_use]
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_LIST)
    }

    /// Whether this is an image manifest.
    #[must_use]
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    /// Whether this is the configuration of a container image.
    #[must_use]
    pub fn is_config(media_type: &str) -> bool {
        matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
    }
}

/// Reads `null` as the default: every optional field of image documents may be `null`.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A size in bytes: a whole number that is not negative.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    let number = i64::deserialize(deserializer)?;
    u64::try_from(number).map_err(|_| serde::de::Error::custom(format!("size {number} is negative")))
}

/// What kind of thing is named by a digest, and how large it is.
///
/// `D` is [`AnyDigest`] in an index, where entries that nobody asks for may use other algorithms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an object")]
pub struct Descriptor<D = Digest> {
    /// The kind; empty when it was not given.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The digest of the bytes as they are stored.
    pub digest: D,
    /// Their number.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Where else the blob can be had (foreign layers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The blob itself in base64; not used here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The kind of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What the image is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Fields not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl<D> Descriptor<D> {
    /// A descriptor with nothing optional.
    pub fn new(media_type: &str, digest: D, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: None,
            annotations: None,
            data: None,
            artifact_type: None,
            platform: None,
            extra: Map::new(),
        }
    }

    /// The annotation `key`; empty ones are as good as none.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }
}

/// A manifest: the configuration and the layers of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an object")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u64,
    /// [`media::OCI_MANIFEST`] or [`media::DOCKER_MANIFEST`]; empty when it was not given.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The kind of an artifact that is no container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields not known here, `subject` among them.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// An OCI manifest for a configuration and layers; the same input gives the same bytes.
    ///
    /// This is what is made up for images from a docker-archive, which has no manifest, and what a commit makes.
    pub fn make(config: Descriptor, layers: Vec<Descriptor>) -> Result<Document<Self>> {
        Self::make_kind(media::OCI_MANIFEST, config, layers)
    }

    /// The same in Docker's form: what a commit makes on an image with such a manifest.
    pub fn make_docker(config: Descriptor, layers: Vec<Descriptor>) -> Result<Document<Self>> {
        Self::make_kind(media::DOCKER_MANIFEST, config, layers)
    }

    fn make_kind(kind: &str, config: Descriptor, layers: Vec<Descriptor>) -> Result<Document<Self>> {
        Document::make(Self {
            schema_version: 2,
            media_type: kind.into(),
            artifact_type: None,
            config,
            layers,
            annotations: None,
            extra: Map::new(),
        })
    }

    /// Whether this is the manifest of a container image, not of some other artifact.
    #[must_use]
    pub fn is_image(&self) -> bool {
        self.config.media_type.is_empty() || media::is_config(&self.config.media_type)
    }
}

/// An index or manifest list: one image for several platforms, or the contents of a layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an object")]
pub struct Index {
    /// Always 2.
    pub schema_version: u64,
    /// [`media::OCI_INDEX`] or [`media::DOCKER_LIST`]; empty when it was not given.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests, or further indexes.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor<AnyDigest>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A document and the exact bytes it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<T> {
    bytes: Vec<u8>,
    digest: Digest,
    value: T,
}

impl<T> Document<T> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of the bytes; for a configuration, the image id.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A descriptor of the bytes.
    pub fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor::new(media_type, self.digest, self.bytes.len() as u64)
    }
}

impl<T: Serialize> Document<T> {
    /// A new document from a value that was made here: fields in the order of their declaration, no white space.
    pub fn make(value: T) -> Result<Self> {
        let bytes = serde_json::to_vec(&value).map_err(|e| Error::document("the new document", e.to_string()))?;
        Ok(Self { digest: Digest::of(&bytes), bytes, value })
    }
}

impl<T: DeserializeOwned> Document<T> {
    pub(crate) fn read(bytes: Vec<u8>, what: &str) -> Result<Self> {
        check_size(bytes.len() as u64, DOCUMENT_LIMIT, what)?;
        let value = serde_json::from_slice(&bytes).map_err(|e| Error::document(what, e.to_string()))?;
        Ok(Self { digest: Digest::of(&bytes), bytes, value })
    }
}

impl<T> Deref for Document<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Fails when a document is larger than `limit`.
pub(crate) fn check_size(size: u64, limit: u64, what: &str) -> Result<()> {
    if size > limit {
        return Err(Error::TooLarge { what: what.into(), size, limit });
    }
    Ok(())
}

/// What a digest in an index led to.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "never kept: one exists while a document is read")]
pub enum ManifestOrIndex {
    /// One image.
    Manifest(Document<Manifest>),
    /// Several.
    Index(Document<Index>),
}

/// The fields that tell the kinds of documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an object")]
struct Probe {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default, deserialize_with = "null_default")]
    media_type: String,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

impl ManifestOrIndex {
    /// Reads a manifest or an index that was announced as `media_type` (empty: unannounced); `what` names it in errors.
    ///
    /// A document that could be taken for both, or whose own `mediaType` is not the announced one, is refused
    /// (CVE-2021-41190): two readers could see two different images in it.
    pub fn parse(bytes: Vec<u8>, media_type: &str, what: &str) -> Result<Self> {
        check_size(bytes.len() as u64, DOCUMENT_LIMIT, what)?;
        let probe: Probe = serde_json::from_slice(&bytes).map_err(|e| Error::document(what, e.to_string()))?;
        let is_index = probe.check(media_type).map_err(|why| Error::document(what, why))?;
        if is_index {
            Document::read(bytes, what).map(Self::Index)
        } else {
            Document::read(bytes, what).map(Self::Manifest)
        }
    }
}

impl Probe {
    /// Whether the document is an index; what is wrong with it when it may be neither or both.
    fn check(&self, announced: &str) -> std::result::Result<bool, String> {
        let own = self.media_type.as_str();
        if self.fs_layers.is_some() || self.schema_version == Some(1) {
            return Err("it is a Docker manifest of schema 1, which is not read; write the image again".into());
        }
        if self.schema_version != Some(2) {
            return Err("its schemaVersion is not 2".into());
        }
        if self.manifests.is_some() && (self.layers.is_some() || self.config.is_some()) {
            return Err("it is a manifest and an index at once".into());
        }
        if !announced.is_empty() && !own.is_empty() && announced != own {
            let (own, announced) = (super::format::printable(own), super::format::printable(announced));
            return Err(format!("its mediaType is {own}, but it was announced as {announced}"));
        }
        let kind = if own.is_empty() { announced } else { own };
        let by_fields = match (self.manifests.is_some(), self.config.is_some()) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        let by_name = match kind {
            k if media::is_index(k) => Some(true),
            k if media::is_manifest(k) => Some(false),
            _ => None,
        };
        match (by_fields, by_name) {
            (Some(fields), Some(name)) if fields != name => {
                Err(format!("its mediaType is {kind}, but its fields are those of another kind"))
            }
            (Some(index), _) => Ok(index),
            (None, Some(true)) => Ok(true),
            (None, _) => Err("it has neither config nor manifests".into()),
        }
    }
}

/// An entry of `manifest.json` in a docker-archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[serde(expecting = "an object")]
pub struct ArchiveImage {
    /// The member with the configuration.
    pub config: String,
    /// Its names; `null` for none.
    #[serde(deserialize_with = "null_default", default)]
    pub repo_tags: Vec<String>,
    /// The members with the layers, the lowest first.
    #[serde(deserialize_with = "null_default", default)]
    pub layers: Vec<String>,
}

/// Reads `manifest.json` of a docker-archive.
pub fn parse_archive_manifest(bytes: &[u8]) -> Result<Vec<ArchiveImage>> {
    check_size(bytes.len() as u64, ARCHIVE_MANIFEST_LIMIT, "manifest.json")?;
    serde_json::from_slice(bytes).map_err(|e| Error::document("manifest.json", e.to_string()))
}

#[cfg(test)]
mod tests;
