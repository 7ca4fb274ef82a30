//! `laminafs commit`: the changes in a writable layer become a layer of a new image.

use super::context::Context;
use super::import::media_type;
use super::interrupt::Interrupt;
use super::names::new_name;
use super::output;
use super::progress::{self, Layers};
use super::reading::WritableTree;
use crate::archive::{Compression, Compressor, Limits};
use crate::changes::{Rule, Union};
use crate::image::commit::{self, Commit, NewLayer};
use crate::image::document::ManifestOrIndex;
use crate::image::time::Timestamp;
use crate::image::{Config, Document, Manifest, Reference};
use crate::store::{Documents, Error, ImageRecord, Incoming, IncomingLayer, Loaded, Step, Store};
use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use std::io::{self, BufWriter, PipeReader, PipeWriter, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What goes to the other thread at once.
const PIECE: usize = 256 << 10;

/// Arguments of `laminafs commit`.
#[derive(Debug, Args)]
#[command(
    after_help = "The layer may be mounted; stop what writes there, or files may be caught half written. The writable layer \
    stays as it is. The same changes give the same layer; with SOURCE_DATE_EPOCH set (seconds since 1970) the same image: \
    it is the time of the image, and no file is newer.\n\n\
    Examples:\n  \
    laminafs commit -m 'with nginx' web site:1\n  \
    laminafs commit -c 'CMD [\"nginx\"]' -c 'EXPOSE 80' web site:2"
)]
pub struct CommitArgs {
    /// A comment for the history of the image
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Who made the image, as in: Jane Doe <jane@example.com>
    #[arg(short, long, value_name = "AUTHOR")]
    author: Option<String>,
    /// Change how the image is run, as an instruction of a Dockerfile does (CMD, ENV, ...); may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// How the layer is compressed
    #[arg(long, value_enum, default_value_t, value_name = "gzip|zstd|none", hide_possible_values = true)]
    compression: Kind,
    /// A writable layer
    name: String,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    image: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Kind {
    #[default]
    Gzip,
    Zstd,
    None,
}

impl Kind {
    fn compression(self) -> Compression {
        match self {
            Self::Gzip => Compression::Gzip,
            Self::Zstd => Compression::Zstd,
            Self::None => Compression::None,
        }
    }
}

/// The image below.
struct Base {
    record: ImageRecord,
    manifest: Document<Manifest>,
    config: Document<Config>,
}

/// Commits, and prints the id of the image.
pub fn run(args: &CommitArgs, context: &Context) -> anyhow::Result<()> {
    let reference = args.image.as_deref().map(new_name).transpose()?;
    let epoch = output::source_date()?;
    let store = context.store_to_read(|| Error::NoWritable(args.name.clone()))?;
    let tree = WritableTree::open(&store, &args.name)?;
    let record = &tree.reading().writable().record;
    let base = base(&store, &tree)?;
    let union = Union::of_changes(&tree.stack())?;
    let changed = union.is_changed(Rule::Exact)?;
    let commit = Commit {
        created: epoch.unwrap_or_else(Timestamp::now),
        author: args.author.clone(),
        comment: args.message.clone(),
    };
    let config = commit.config(&base.config, record.layers, &args.change, !changed)?;
    let work = Work { args, store: &store, tree: &tree, union: &union, base: &base, epoch, layers: record.layers };
    let interrupt = Interrupt::watch(&store)?;
    let loaded = if changed { work.with_layer(config, reference) } else { work.load(config, None, reference) };
    let loaded = interrupt.heed(loaded)??;
    output::line(&loaded.id.to_string())
}

fn base(store: &Store, tree: &WritableTree) -> anyhow::Result<Base> {
    let writable = &tree.reading().writable().record;
    let image = match store.find(&writable.image.to_string()) {
        Err(Error::NoImage(_)) => bail!(
            "the image that {} stands on, {}, is not in the store any more; load it again",
            writable.name,
            writable.image
        ),
        found => found?,
    };
    let manifest = match ManifestOrIndex::parse(store.manifest(&image.record)?, "", "the manifest")? {
        ManifestOrIndex::Manifest(manifest) => manifest,
        ManifestOrIndex::Index(_) => bail!("{}: its manifest is an index; verify the store", image.display()),
    };
    let config = Document::parse_config(store.config(&image.record)?)?;
    Ok(Base { record: image.record, manifest, config })
}

struct Work<'a> {
    args: &'a CommitArgs,
    store: &'a Store,
    tree: &'a WritableTree,
    union: &'a Union,
    base: &'a Base,
    epoch: Option<Timestamp>,
    /// How many of the image's layers it stands on.
    layers: usize,
}

impl Work<'_> {
    /// One thread writes the layer into a pipe. The store reads it like any other, with all checks, so that its directory
    /// is what every load of the new image would make.
    fn with_layer(&self, config: Config, reference: Option<Reference>) -> anyhow::Result<Loaded> {
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        let finished = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let packing = std::thread::Builder::new().name("pack".into());
            let packing =
                packing.spawn_scoped(scope, move || self.pack(writer, finished)).context("cannot start a thread")?;
            let loaded = self.load(config, Some(Checked { reader, finished }), reference);
            let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (packed, loaded) {
                // Nobody reads any more: the reason is on the other side.
                (Err(e), Err(other)) if is_broken_pipe(&e) => Err(other),
                (Err(e), _) => Err(e),
                (Ok(()), loaded) => loaded,
            }
        })
    }

    fn pack(&self, pipe: PipeWriter, finished: &AtomicBool) -> anyhow::Result<()> {
        let pipe = BufWriter::with_capacity(PIECE, pipe);
        let latest = self.epoch.map(Timestamp::unix);
        let out = Compressor::new(pipe, self.args.compression.compression())?;
        let out = self.union.pack(out, latest)?.out;
        self.store.still_there(self.tree.reading())?;
        let pipe = out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        finished.store(true, Ordering::Release);
        drop(pipe);
        Ok(())
    }

    fn load(&self, config: Config, new: Option<Checked<'_>>, reference: Option<Reference>) -> anyhow::Result<Loaded> {
        let (is_new, new) = (new.is_some(), Mutex::new(new));
        let mut layers: Vec<IncomingLayer<'_>> = self
            .base
            .record
            .layers
            .iter()
            .take(self.layers)
            .map(|layer| {
                let open =
                    || Ok(Box::new(self.store.blob(&layer.blob).map_err(io::Error::other)?) as Box<dyn Read + Send>);
                let (diff_id, blob, size) = (Some(layer.diff_id), Some(layer.blob), Some(layer.blob_size));
                IncomingLayer { diff_id, blob, size, open: Box::new(open) }
            })
            .collect();
        let count = layers.len();
        if is_new {
            let open = || {
                let taken = new.lock().map(|mut new| new.take());
                let reader = taken.ok().flatten().ok_or_else(|| io::Error::other("it was read already"))?;
                Ok(Box::new(reader) as Box<dyn Read + Send>)
            };
            layers.push(IncomingLayer { diff_id: None, blob: None, size: None, open: Box::new(open) });
        }
        let (manifest, media_type) = (&self.base.manifest, media_type(self.args.compression.compression()));
        let documents = Documents::Made(Box::new(move |found| {
            let layer = found.get(count).filter(|_| is_new);
            let layer = layer.map(|l| NewLayer { diff_id: l.diff_id, blob: l.blob, size: l.size, media_type });
            commit::documents(manifest, config, layer)
        }));
        let bars = progress::wanted(false).then(|| Layers::new([None]));
        let step = |n, step: Step| bars.iter().filter(|_| n == count).for_each(|bars| bars.step(0, step));
        let references = reference.into_iter().collect();
        let incoming = Incoming { documents, layers, references, limits: Limits::of_own_content() };
        let loaded = self.store.load(incoming, Some(&step));
        loaded.with_context(|| format!("cannot commit {}", self.args.name))
    }
}

/// The other end of the pipe: that it was closed is the end of the layer only if all of it was written.
struct Checked<'a> {
    reader: PipeReader,
    finished: &'a AtomicBool,
}

impl Read for Checked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buf)? {
            0 if !buf.is_empty() && !self.finished.load(Ordering::Acquire) => {
                Err(io::Error::other("the layer could not be written to its end"))
            }
            n => Ok(n),
        }
    }
}

/// Whether writing failed because nobody reads.
fn is_broken_pipe(e: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    match e.downcast_ref::<crate::changes::Error>() {
        Some(crate::changes::Error::Write(e)) => broken(e),
        _ => e.downcast_ref::<io::Error>().is_some_and(broken),
    }
}
