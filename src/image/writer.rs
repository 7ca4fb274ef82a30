//! Writing images into an archive: the same images give the same bytes.

use super::config::Config;
use super::digest::{AnyDigest, Digest, HashingReader};
use super::document::{ArchiveImage, Descriptor, Document, Index, Manifest, media};
use super::error::{Error, Result};
use super::reference::Reference;
use serde_json::Map;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use tar::{EntryType, Header};

/// The kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI image layout in a tar.
    Oci,
    /// The same with a `manifest.json`, as Docker writes it since 25; older ones, podman and skopeo read it too.
    Docker,
}

/// An image to write.
#[derive(Debug, Clone, Copy)]
pub struct ImageToSave<'a> {
    /// Its manifest.
    pub manifest: &'a Document<Manifest>,
    /// Its configuration.
    pub config: &'a Document<Config>,
    /// Its names.
    pub references: &'a [Reference],
}

/// One member of the archive.
enum Member<'a> {
    Directory,
    Bytes(&'a [u8]),
    Blob(&'a Descriptor),
}

/// Writes images into one archive, each blob once, layers bit for bit as `open` gives them.
///
/// `open` is called once for each different layer, in the order of the digests. Size and digest of what it gives are
/// checked; on an error the archive is incomplete and has no end. Nothing in the archive depends on time, user or
/// machine, or on anything but the images and their order.
pub fn write_archive<W: Write, R: Read>(
    out: W,
    format: ArchiveFormat,
    images: &[ImageToSave<'_>],
    mut open: impl FnMut(&Descriptor) -> Result<R>,
) -> Result<W> {
    for image in images {
        check(image)?;
    }
    let index = index_of(images)?;
    let list = archive_manifest(images)?;
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let mut members: BTreeMap<String, Member<'_>> = BTreeMap::new();
    members.insert("blobs/".into(), Member::Directory);
    members.insert("blobs/sha256/".into(), Member::Directory);
    members.insert("index.json".into(), Member::Bytes(index.bytes()));
    members.insert("oci-layout".into(), Member::Bytes(layout));
    if format == ArchiveFormat::Docker {
        members.insert("manifest.json".into(), Member::Bytes(&list));
    }
    for image in images {
        for layer in &image.manifest.layers {
            members.insert(blob(layer.digest), Member::Blob(layer));
        }
        members.insert(blob(image.config.digest()), Member::Bytes(image.config.bytes()));
        members.insert(blob(image.manifest.digest()), Member::Bytes(image.manifest.bytes()));
    }
    let mut tar = Tar { out };
    for (name, member) in &members {
        match member {
            Member::Directory => tar.header(name, EntryType::Directory, 0)?,
            Member::Bytes(bytes) => {
                tar.header(name, EntryType::Regular, bytes.len() as u64)?;
                tar.bytes(bytes)?;
                tar.pad(bytes.len() as u64)?;
            }
            Member::Blob(layer) => {
                let reader = open(layer)?;
                tar.header(name, EntryType::Regular, layer.size)?;
                tar.blob(layer, reader)?;
            }
        }
    }
    tar.bytes(&[0; 1024])?;
    tar.out.flush().map_err(Error::io(WRITING))?;
    Ok(tar.out)
}

const WRITING: &str = "writing the archive";

fn blob(digest: Digest) -> String {
    super::container::blob_name(digest)
}

/// The manifest has to be that of the configuration, or no reader could open what is written.
fn check(image: &ImageToSave<'_>) -> Result<()> {
    let (expected, found) = (image.manifest.config.digest, image.config.digest());
    if expected != found {
        return Err(Error::DigestMismatch { what: "the image configuration".into(), expected, found });
    }
    Ok(())
}

/// An entry for each name of each image; one without name for an image that has none.
///
/// The whole name stands in `ref.name`, where podman looks for it, and in containerd's annotation.
fn index_of(images: &[ImageToSave<'_>]) -> Result<Document<Index>> {
    let mut manifests = Vec::new();
    for image in images {
        let kind = if image.manifest.media_type.is_empty() { media::OCI_MANIFEST } else { &image.manifest.media_type };
        let digest = AnyDigest::Sha256(image.manifest.digest());
        let entry = Descriptor::new(kind, digest, image.manifest.bytes().len() as u64);
        if image.references.is_empty() {
            manifests.push(entry);
            continue;
        }
        for reference in image.references {
            let name = reference.to_string();
            let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
            let annotations = keys.map(|key| (key.to_owned(), name.clone()));
            manifests.push(Descriptor { annotations: Some(annotations.into()), ..entry.clone() });
        }
    }
    Document::make(Index {
        schema_version: 2,
        media_type: media::OCI_INDEX.into(),
        manifests,
        annotations: None,
        extra: Map::new(),
    })
}

fn archive_manifest(images: &[ImageToSave<'_>]) -> Result<Vec<u8>> {
    let entries = images.iter().map(|image| ArchiveImage {
        config: blob(image.config.digest()),
        // Docker has no place for a name by digest here.
        repo_tags: image.references.iter().filter(|r| r.tag().is_some()).map(tagged).collect(),
        layers: image.manifest.layers.iter().map(|l| blob(l.digest)).collect(),
    });
    let entries: Vec<ArchiveImage> = entries.collect();
    serde_json::to_vec(&entries).map_err(|e| Error::document("manifest.json", e.to_string()))
}

fn tagged(reference: &Reference) -> String {
    format!("{}:{}", reference.familiar_name(), reference.tag().unwrap_or("latest"))
}

struct Tar<W> {
    out: W,
}

impl<W: Write> Tar<W> {
    fn header(&mut self, name: &str, kind: EntryType, size: u64) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(name).map_err(Error::io(WRITING))?;
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.bytes(header.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::io(WRITING))
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let rest = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.bytes(&[0; 512][..rest])
    }

    fn blob<R: Read>(&mut self, layer: &Descriptor, reader: R) -> Result<()> {
        let what = || format!("layer {}", layer.digest);
        let mut reader = HashingReader::new(reader.take(layer.size.saturating_add(1)));
        let mut buffer = vec![0; 256 << 10];
        let mut written = 0;
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io(what())(e)),
            };
            written += n as u64;
            if written > layer.size {
                break;
            }
            self.bytes(&buffer[..n])?;
        }
        let (found, count) = reader.finish();
        if count != layer.size {
            return Err(Error::SizeMismatch { what: what(), expected: layer.size, found: count });
        }
        if found != layer.digest {
            return Err(Error::DigestMismatch { what: what(), expected: layer.digest, found });
        }
        self.pad(layer.size)
    }
}
