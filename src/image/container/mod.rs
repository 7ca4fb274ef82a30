//! The containers that images come in: OCI layouts and docker-archives, as directories, tars and streams.
//!
//! A [`Source`] says which images there are ([`Source::images`]) and opens their layers ([`Source::open_layer`]), several
//! at once if wanted: every reader has its own position. Documents are checked against their digests here; the bytes of a
//! layer are not, because their reader sees them all anyway and has to check digest, size and diff id while it does.

mod docker;
mod files;
mod layout;
mod spool;
mod tarindex;
#[cfg(test)]
mod tests;

pub use files::LayerReader;
pub(super) use files::blob_name;
pub use spool::Spool;

use super::config::Config;
use super::digest::{DiffId, Digest};
use super::document::{Descriptor, Document, Manifest, media};
use super::error::{Error, Result};
use super::platform::Platform;
use super::reference::Reference;
use files::Files;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How images are described in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `oci-layout`, `index.json` and `blobs/`.
    Oci,
    /// `manifest.json`.
    Docker,
}

/// Which images of a container are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// For this platform; none is the machine's own, and images that come for one platform only are taken as they are.
    pub platform: Option<&'a Platform>,
    /// Only the image of this name: a ref.name as it stands there, an image name, or an image id or its beginning, where
    /// only one has it. None is all of them.
    pub reference: Option<&'a str>,
}

/// A container with images, open for reading.
#[derive(Debug)]
pub struct Source {
    files: Files,
    format: Format,
    /// What to call images that have a bare tag only.
    path: PathBuf,
}

/// An image in a [`Source`].
#[derive(Debug, Clone)]
pub struct ImageInSource {
    /// Its names, in the order they stand there.
    pub references: Vec<Reference>,
    /// Names that are none by Docker's rules; worth a warning.
    pub unusable_names: Vec<String>,
    /// What it is for.
    pub platform: Platform,
    /// The configuration; its digest is the image id.
    pub config: Document<Config>,
    /// The manifest as it came. A docker-archive has none: then this is one made up by [`Manifest::make`] with OCI media
    /// types, or none when the digest of a layer is not known yet: see [`ImageInSource::manifest_for`].
    pub manifest: Option<Document<Manifest>>,
    /// Whether the manifest was made up.
    pub made_up: bool,
    /// The layers, the lowest first; as many as the configuration has diff ids.
    pub layers: Vec<LayerBlob>,
}

/// A layer of an image in a [`Source`].
#[derive(Debug, Clone, PartialEq)]
pub struct LayerBlob {
    /// Its place in the image, 0 is the lowest.
    pub index: usize,
    /// The digest of the uncompressed tar, as the configuration has it.
    pub diff_id: DiffId,
    /// The digest of the bytes in the container, if they come with one.
    pub digest: Option<Digest>,
    /// The number of bytes in the container.
    pub size: u64,
    /// The kind, as announced. How the layer is compressed is better seen from its first bytes.
    pub media_type: String,
    /// Where else it can be had, when it is not in the container.
    pub urls: Vec<String>,
    member: String,
}

impl LayerBlob {
    /// `layer 2 (sha256:...)`, counted from 1, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("layer {} ({})", self.index + 1, self.digest.unwrap_or(self.diff_id.0))
    }
}

impl ImageInSource {
    /// The manifest, made up from what was found while reading the layers (digest and size of each blob) if there is none.
    pub fn manifest_for(&self, found: &[(Digest, u64)]) -> Result<Document<Manifest>> {
        if let Some(manifest) = &self.manifest {
            return Ok(manifest.clone());
        }
        let layers = self.layers.iter().zip(found);
        let layers = layers.map(|(layer, (digest, size))| Descriptor::new(&layer.media_type, *digest, *size)).collect();
        Manifest::make(self.config.descriptor(media::OCI_CONFIG), layers)
    }
}

impl Source {
    /// Opens a directory, a file or a FIFO; `format` insists on one. Streams and compressed archives go through `spool`.
    ///
    /// An archive that is both, as Docker 25 and later write it, is read as [`Format::Oci`] unless told otherwise: its
    /// manifests are there then, and names from `manifest.json` are added.
    pub fn open(path: &Path, format: Option<Format>, spool: Spool<'_>) -> Result<Self> {
        let name = path.display().to_string();
        let kind = std::fs::metadata(path).map_err(Error::io(&name))?;
        if kind.is_dir() {
            return Self::new(Files::directory(path)?, format, path);
        }
        let mut file = File::open(path).map_err(Error::io(&name))?;
        if !kind.is_file() {
            return Self::from_reader(&mut file, path, format, spool);
        }
        if files::packing_of(&file, &name)? == spool::Packing::None {
            return Self::new(Files::archive(file, &name)?, format, path);
        }
        Self::from_reader(&mut file, path, format, spool)
    }

    /// Reads an archive from a stream, through a temporary file. `name` stands in messages, and in the names of images
    /// that have a bare tag only.
    pub fn from_reader(reader: &mut dyn Read, name: &Path, format: Option<Format>, spool: Spool<'_>) -> Result<Self> {
        let text = name.display().to_string();
        let (file, index) = spool.take(reader, &text)?;
        Self::new(Files::indexed(file, index, &text), format, name)
    }

    fn new(files: Files, format: Option<Format>, path: &Path) -> Result<Self> {
        let oci = files.find("oci-layout")?.is_some() || files.find("index.json")?.is_some();
        let docker = files.find("manifest.json")?.is_some();
        if docker && !oci && files.find("version")?.is_some() {
            let path = path.display();
            let why = "it was written by skopeo as dir:, which is not read here; try";
            return Err(files.fail(&format!("{why} skopeo copy dir:{path} oci:layout")));
        }
        let format = match (format, oci, docker) {
            (Some(Format::Oci) | None, true, _) => Format::Oci,
            (Some(Format::Docker) | None, _, true) => Format::Docker,
            (Some(Format::Oci), _, true) => {
                let why = "it is no OCI image layout but a docker-archive; name it docker-archive:";
                return Err(files.fail(&format!("{why}{}", path.display())));
            }
            (Some(Format::Oci), ..) => {
                return Err(files.fail("it is no OCI image layout: there is no oci-layout in it"));
            }
            (Some(Format::Docker), true, _) => {
                let word = if path.is_dir() { "oci" } else { "oci-archive" };
                let why = "it is no docker-archive but an OCI image layout; name it";
                return Err(files.fail(&format!("{why} {word}:{}", path.display())));
            }
            (Some(Format::Docker), ..) => {
                return Err(files.fail("it is no docker-archive: there is no manifest.json in it"));
            }
            (None, ..) if files.find("repositories")?.is_some() => {
                return Err(
                    files.fail("it was written by a Docker before 1.10, which had no manifest.json; save it again")
                );
            }
            (None, ..) => {
                return Err(files.fail("it holds no images: there is neither oci-layout nor manifest.json in it"));
            }
        };
        Ok(Self { files, format, path: path.to_owned() })
    }

    /// How the images are described.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The images that are wanted, each once, in the order they stand there. Never empty.
    pub fn images(&self, wanted: Wanted<'_>) -> Result<Vec<ImageInSource>> {
        let images = match self.named(wanted) {
            Err(error @ Error::NoImage { .. }) => vec![self.with_id(wanted).ok_or(error)?],
            images => images.map_err(|e| e.within(self.files.name()))?,
        };
        if images.is_empty() {
            return Err(self.files.fail("there is no container image in it"));
        }
        Ok(images)
    }

    fn named(&self, wanted: Wanted<'_>) -> Result<Vec<ImageInSource>> {
        match self.format {
            Format::Oci => layout::images(&self.files, &self.path, wanted),
            Format::Docker => docker::images(&self.files, wanted),
        }
    }

    /// The only image whose id begins with what is wanted. Those without a name can be told apart by nothing else.
    fn with_id(&self, wanted: Wanted<'_>) -> Option<ImageInSource> {
        let text = wanted.reference?;
        let hex = text.strip_prefix("sha256:").unwrap_or(text).to_lowercase();
        if hex.is_empty() || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        // Where the others cannot be read the answer is that there is no such name.
        let images = self.named(Wanted { reference: None, ..wanted }).ok()?;
        let mut found = images.into_iter().filter(|image| image.config.digest().hex().starts_with(&hex));
        found.next().filter(|_| found.next().is_none())
    }

    /// Opens a layer. Its bytes are as many as announced, but not checked against its digest.
    pub fn open_layer(&self, layer: &LayerBlob) -> Result<LayerReader> {
        let Some(reader) = self.files.find(&layer.member)? else {
            let mut what = layer.describe();
            if let Some(url) = layer.urls.first() {
                what = format!("{what}, which has to be fetched from {},", super::format::printable(url));
            }
            return Err(Error::Missing { container: self.files.name().into(), what });
        };
        if reader.len() != layer.size {
            return Err(Error::SizeMismatch { what: layer.describe(), expected: layer.size, found: reader.len() });
        }
        Ok(reader)
    }
}

/// Fails when one was asked for by platform and this is another. Images that do not say are taken.
fn check_platform(wanted: Wanted<'_>, platform: &Platform) -> Result<()> {
    match wanted.platform {
        Some(want) if !platform.is_unknown() => want.choose([(platform, ())]),
        _ => Ok(()),
    }
}

/// Whether a name that stands in a container is the one that is wanted.
fn is_wanted(wanted: Wanted<'_>, name: &str, reference: Option<&Reference>) -> bool {
    let Some(want) = wanted.reference else { return true };
    name == want || reference.is_some_and(|r| want.parse::<Reference>().is_ok_and(|w| w == *r))
}

/// The image that was asked for is not there.
fn no_image(files: &Files, wanted: Wanted<'_>, names: &[String]) -> Error {
    let shown: Vec<String> = names.iter().take(100).map(|n| super::format::printable(n)).collect();
    Error::NoImage {
        container: files.name().into(),
        wanted: wanted.reference.unwrap_or("at all").into(),
        available: if shown.is_empty() { "nothing with a name".into() } else { shown.join(", ") },
    }
}
