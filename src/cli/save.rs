//! `laminafs save`: images go into an archive.

use super::context::Context;
use super::names::{find_image, store_with_image};
use super::output::{Kind, OutputFile};
use crate::image::document::ManifestOrIndex;
use crate::image::writer::{self, ArchiveFormat, ImageToSave};
use crate::image::{Config, Digest, Document, Manifest, Reference};
use crate::store::{Pin, Store};
use anyhow::bail;
use clap::{Args, ValueEnum};
use std::io::BufWriter;
use std::path::PathBuf;

/// Arguments of `laminafs save`.
#[derive(Debug, Args)]
#[command(
    after_help = "An image given by name is saved with that name, one given by id without. Layers are written bit for bit as \
    they came in, and the same images always give the same archive.\n\n\
    Examples:\n  \
    laminafs save -o debian.tar debian:12\n  \
    laminafs save --format oci debian:12 alpine | zstd > two.tar.zst\n  \
    laminafs save debian:12 | docker load"
)]
pub struct SaveArgs {
    /// Write this file instead of standard output; it appears when it is complete
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// docker: for docker load of any age, podman and skopeo; oci: an OCI image layout without manifest.json
    #[arg(long, value_enum, default_value_t, value_name = "docker|oci", hide_possible_values = true)]
    format: Format,
    /// A name, an id or its beginning
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Docker,
    Oci,
}

/// An image that stays in the store while it is written.
struct Saved {
    id: Digest,
    manifest: Document<Manifest>,
    config: Document<Config>,
    references: Vec<Reference>,
    _pin: Pin,
}

/// Writes all of them, or nothing.
pub fn run(args: &SaveArgs, context: &Context) -> anyhow::Result<()> {
    let mut images: Vec<Saved> = Vec::new();
    let [first, ..] = args.images.as_slice() else { return Ok(()) };
    let store = store_with_image(context, first)?;
    for text in &args.images {
        add(&store, text, &mut images)?;
    }
    let format = match args.format {
        Format::Docker => ArchiveFormat::Docker,
        Format::Oci => ArchiveFormat::Oci,
    };
    let images: Vec<ImageToSave<'_>> = images
        .iter()
        .map(|i| ImageToSave { manifest: &i.manifest, config: &i.config, references: &i.references })
        .collect();
    let out = BufWriter::with_capacity(64 << 10, OutputFile::create(args.output.as_deref(), Kind::Archive)?);
    let out = writer::write_archive(out, format, &images, |layer| {
        store
            .blob(&layer.digest)
            .map_err(|e| crate::image::Error::Io { what: "reading a layer".into(), source: std::io::Error::other(e) })
    })?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.finish()
}

/// Adds an image, or a name to one that is there.
fn add(store: &Store, text: &str, images: &mut Vec<Saved>) -> anyhow::Result<()> {
    let image = find_image(store, text)?;
    let id = image.record.id;
    let name = text.parse::<Reference>().ok().filter(|name| image.tags.iter().any(|tag| tag.name == *name));
    if let Some(known) = images.iter_mut().find(|known| known.id == id) {
        known.references.extend(name.filter(|name| !known.references.contains(name)));
        return Ok(());
    }
    let pin = store.pin(&id, None)?;
    let manifest = match ManifestOrIndex::parse(store.manifest(&image.record)?, "", "the manifest")? {
        ManifestOrIndex::Manifest(manifest) => manifest,
        ManifestOrIndex::Index(_) => bail!("{text}: its manifest is an index; verify the store"),
    };
    let config = Document::parse_config(store.config(&image.record)?)?;
    images.push(Saved { id, manifest, config, references: name.into_iter().collect(), _pin: pin });
    Ok(())
}
