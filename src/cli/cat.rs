//! `laminafs cat`: the content of files in a merged view.

use super::context::Context;
use super::ls::{ViewArgs, find};
use super::target::{TARGETS, TargetArgs};
use crate::provenance::Error;
use anyhow::Context as _;
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
pub fn run(args: &CatArgs, context: &Context) -> anyhow::Result<()> {
    let (target, paths) = args.target.open_partly(&args.words, 1..=usize::MAX, context)?;
    let (merged, view) = (&target.merged, args.view.view(&target)?);
    let mut out = io::stdout().lock();
    for path in paths {
        let node = find(merged, path.as_bytes(), view, true)?;
        let Some(found) = merged.seen(node, view) else { continue };
        match merged.write_content(node, found, &mut out) {
            Err(Error::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    match out.flush() {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        flushed => flushed.context("cannot write to standard output"),
    }
}
