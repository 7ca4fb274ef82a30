//! `laminafs cat`: the content of files in a merged view.

use super::context::Context;
use super::entries::shown;
use super::ls::{ViewArgs, find};
use super::target::{TARGETS, TargetArgs};
use super::{Failure, complain, with_causes};
use crate::provenance::{Error, Kind, Merged, View};
use anyhow::bail;
use clap::Args;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// Arguments of `laminafs cat`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs cat [OPTIONS] TARGET[@N] PATH...\n       laminafs cat [OPTIONS] --lower DIR[:DIR...] PATH...",
    after_help = format!("{TARGETS}\n\n\
    Symbolic links are followed inside of the image. The content is written as it is.\n\n\
    Examples:\n  \
    laminafs cat debian:12 /etc/os-release\n  \
    laminafs cat docker-archive:web.tar@1 /etc/passwd")
)]
pub struct CatArgs {
    #[command(flatten)]
    view: ViewArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// TARGET, then the paths
    #[arg(value_name = "TARGET PATH", required = true)]
    words: Vec<OsString>,
}

/// Writes the files one after the other.
pub fn run(args: &CatArgs, context: &Context) -> Result<(), Failure> {
    let (target, paths) = args.target.open_partly(&args.words, 1..=usize::MAX, context)?;
    let (merged, view) = (&target.merged, args.view.view(&target)?);
    let mut out = io::stdout().lock();
    let mut written_all = Ok(());
    for path in paths {
        let Err(error) = write(merged, view, path.as_bytes(), &mut out) else { continue };
        match error.downcast() {
            Ok(Error::Write(e)) => return ended(e),
            other => complain(&with_causes(&other.map_or_else(|error| error, Into::into))),
        }
        written_all = Err(Failure::Told);
    }
    match out.flush() {
        Err(e) => ended(e),
        Ok(()) => written_all,
    }
}

fn write(merged: &Merged, view: View, path: &[u8], out: &mut impl Write) -> anyhow::Result<()> {
    let node = find(merged, path, view, true)?;
    let Some(found) = merged.seen(node, view) else { return Ok(()) };
    match merged.entry(found).kind {
        Kind::Directory => bail!("{} is a directory", shown(&merged.path(node))),
        _ => Ok(merged.write_content(node, found, out)?),
    }
}

/// Nothing more can be written. A reader that goes away is no failure.
fn ended(error: io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(anyhow::Error::from(error).context("cannot write to standard output").into()),
    }
}
