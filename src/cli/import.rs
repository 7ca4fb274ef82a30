//! `laminafs import`: a root file system in a tar becomes an image of one layer.

use super::context::Context;
use super::interrupt::{Interrupt, SlowInput};
use super::limits::{LimitArgs, advise};
use super::names::new_name;
use super::progress::{self, Layers};
use super::{complain, output};
use crate::archive::Compression;
use crate::image::config::{History, RootFs, RunConfig};
use crate::image::document::media;
use crate::image::time::Timestamp;
use crate::image::{Config, Descriptor, Document, Manifest, Platform, Result, change};
use crate::store::{Documents, FoundLayer, Incoming, IncomingLayer, Step};
use anyhow::{Context as _, bail};
use clap::Args;
use clap::error::ErrorKind;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Mutex;

/// Arguments of `laminafs import`.
#[derive(Debug, Args)]
#[command(
    after_help = "The tar may be compressed with gzip or zstd; it is kept as it is. With SOURCE_DATE_EPOCH set (seconds since \
    1970) the same tar gives the same image.\n\n\
    Examples:\n  \
    debootstrap stable root && tar -C root -c . | laminafs import - debian:mine\n  \
    laminafs import -c 'CMD [\"/bin/sh\"]' -c 'ENV LANG=C.UTF-8' rootfs.tar.zst alpine:mine"
)]
pub struct ImportArgs {
    /// Change how the image is run, as an instruction of a Dockerfile does (CMD, ENV, ...); may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A comment for the history of the image
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// What the image is for, instead of this machine: os/architecture[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    limits: LimitArgs,
    /// A tar of a root file system; - is standard input
    file: PathBuf,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Imports, and prints the id of the image.
pub fn run(args: &ImportArgs, context: &Context) -> anyhow::Result<()> {
    let references = args.name.as_deref().map(new_name).transpose()?;
    let config = config(args)?;
    let (tar, size) = open(args)?;
    let (tar, compression) = look_into(tar).with_context(|| format!("cannot read {}", args.file.display()))?;
    let store = context.store()?;
    // What is opened is read once.
    let tar = Mutex::new(Some(tar));
    let layer = IncomingLayer {
        diff_id: None,
        blob: None,
        size,
        open: Box::new(|| {
            let taken = tar.lock().map(|mut tar| tar.take());
            taken.ok().flatten().ok_or_else(|| io::Error::other("it was read already"))
        }),
    };
    let incoming = Incoming {
        documents: Documents::Made(Box::new(move |found| documents(config, compression, found))),
        layers: vec![layer],
        references: references.into_iter().collect(),
        limits: args.limits.limits(),
    };
    let bars = progress::wanted(false).then(|| Layers::new([None]));
    let step = |layer, step: Step| bars.iter().for_each(|bars| bars.step(layer, step));
    let interrupt = Interrupt::watch(&store)?;
    let loaded = store.load(incoming, Some(&step)).map_err(advise);
    drop(bars);
    let loaded = interrupt.heed(loaded)?;
    let loaded = loaded.with_context(|| format!("cannot import {}", args.file.display()))?;
    let layer = loaded.layers.first().map(|(chain, _)| store.layer(chain)).transpose()?.flatten();
    if layer.is_some_and(|layer| layer.entries == 0) {
        complain("note: there is nothing in the tar; the image is empty");
    }
    output::line(&loaded.id.to_string())
}

type Tar = Box<dyn Read + Send>;

/// The tar, and its length if that is known.
fn open(args: &ImportArgs) -> anyhow::Result<(Tar, Option<u64>)> {
    let name = args.file.to_string_lossy();
    if name == "-" {
        if io::stdin().is_terminal() {
            let text = "a tar cannot be read from a terminal; give a file, or pipe one in, as in: tar -c . | laminafs import -\n";
            return Err(clap::Error::raw(ErrorKind::ValueValidation, text).into());
        }
        return Ok((Box::new(SlowInput(io::stdin().as_fd().try_clone_to_owned()?.into())), None));
    }
    let opened = File::open(&args.file).and_then(|file| Ok((file.metadata()?, file)));
    match opened {
        Ok((found, _)) if found.is_dir() => {
            bail!("{name} is a directory; import takes a tar of it: tar -C {name} -c . | laminafs import -")
        }
        Ok((found, file)) if found.is_file() => Ok((Box::new(file), Some(found.len()))),
        Ok((_, file)) => Ok((Box::new(SlowInput(file)), None)),
        Err(_) if name.contains("://") => {
            bail!("{name}: nothing is fetched here; use: curl {name} | laminafs import -")
        }
        Err(e) => Err(e).with_context(|| format!("cannot open {name}")),
    }
}

/// The configuration but for the layer.
fn config(args: &ImportArgs) -> anyhow::Result<Config> {
    let created = output::source_date()?.unwrap_or_else(Timestamp::now).to_string();
    let mut run = RunConfig::default();
    change::apply(&mut run, &args.change)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let comment = args.message.clone().unwrap_or_else(|| match args.file.file_name() {
        Some(name) if name != "-" => format!("Imported from {}", name.to_string_lossy()),
        _ => "Imported from -".into(),
    });
    let history = History { created: Some(created.clone()), comment: Some(comment), ..History::default() };
    Ok(Config {
        created: Some(created),
        os: platform.os,
        architecture: platform.architecture,
        variant: Some(platform.variant).filter(|variant| !variant.is_empty()),
        config: Some(run),
        history: Some(vec![history]),
        ..Config::default()
    })
}

/// Finds out how it is compressed, and returns it as it was.
fn look_into(mut tar: Tar) -> io::Result<(Tar, Compression)> {
    let mut start = Vec::new();
    tar.by_ref().take(4).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    Ok((Box::new(io::Cursor::new(start).chain(tar)), compression))
}

/// What OCI calls a layer that is compressed like this.
pub fn media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => media::OCI_LAYER,
        Compression::Gzip => media::OCI_LAYER_GZIP,
        Compression::Zstd => media::OCI_LAYER_ZSTD,
    }
}

/// Manifest and configuration, once the layer is known.
fn documents(mut config: Config, compression: Compression, found: &[FoundLayer]) -> Result<(Vec<u8>, Vec<u8>)> {
    let media_type = media_type(compression);
    let layers = found.iter().map(|layer| Descriptor::new(media_type, layer.blob, layer.size)).collect();
    config.rootfs = RootFs { diff_ids: found.iter().map(|layer| layer.diff_id).collect(), ..RootFs::default() };
    let config = Document::make(config)?;
    let manifest = Manifest::make(config.descriptor(media::OCI_CONFIG), layers)?;
    Ok((manifest.bytes().to_vec(), config.bytes().to_vec()))
}
