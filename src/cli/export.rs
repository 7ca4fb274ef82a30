//! `laminafs export`: a merged tree as one tar.

use super::context::Context;
use super::hints::{not_in_store, nothing_named, with_hint};
use super::output::{Kind, OutputFile};
use super::reading::{WritableTree, stack_of};
use crate::changes::{Stack, Union};
use crate::image::location::{ImageArg, Location};
use crate::store::{Error, Store};
use clap::Args;
use std::ffi::OsStr;
use std::io::BufWriter;
use std::path::PathBuf;

/// Arguments of `laminafs export`.
#[derive(Debug, Args)]
#[command(
    after_help = "The archive has no layers, whiteouts or history: it is what a mount would show. A writable layer may be \
    mounted. Of a writable layer and an image of one name the writable layer is taken.\n\n\
    Examples:\n  \
    laminafs export debian:12 | tar -t\n  \
    laminafs export -o web.tar web\n  \
    laminafs export debian:12@1 | laminafs import - debian:base"
)]
pub struct ExportArgs {
    /// Write this file instead of standard output; it appears when it is complete
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A writable layer or an image; @N takes the first N layers of an image
    #[arg(value_name = "NAME|IMAGE[@N]")]
    name: String,
}

/// Writes the tree.
pub fn run(args: &ExportArgs, context: &Context) -> anyhow::Result<()> {
    let store = context.store_to_list()?.ok_or_else(|| nothing_named(&args.name, None))?;
    match store.writable(&args.name) {
        Err(Error::NoWritable(_)) => {}
        found => {
            found?;
            let tree = WritableTree::open(&store, &args.name)?;
            return write(args, &tree.stack(), || Ok(store.still_there(tree.reading())?));
        }
    }
    image(args, &store)
}

fn image(args: &ExportArgs, store: &Store) -> anyhow::Result<()> {
    let (name, layers) = match ImageArg::parse(OsStr::new(&args.name))? {
        ImageArg { location: Location::Store(name), layers } => (name, layers),
        ImageArg { location, .. } => return Err(not_in_store(&args.name, &location)),
    };
    let image = match store.find(&name) {
        Err(Error::NoImage(_)) if layers.is_none() => return Err(nothing_named(&name, Some(store))),
        found => found.map_err(|error| with_hint(error, store))?,
    };
    let pin = store.pin(&image.record.id, layers)?;
    write(args, &stack_of(&pin), || Ok(()))
}

/// Writes everything in `stack`; `check` says at the end whether that was right.
fn write(args: &ExportArgs, stack: &Stack<'_>, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let union = Union::of_all(stack)?;
    let out = BufWriter::with_capacity(256 << 10, OutputFile::create(args.output.as_deref(), Kind::Archive)?);
    let out = union.pack(out, None)?.out;
    check()?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.finish()
}
