//! `laminafs report`: a page, or a picture, that shows an image layer by layer.

mod colours;
mod data;
mod page;
mod rows;
mod svg;
mod text;

use super::context::Context;
use super::output::{Kind, OutputFile};
use super::target::{TARGETS, TargetArgs};
use crate::image::format;
use clap::Args;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// Arguments of `laminafs report`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs report [OPTIONS] TARGET[@N]\n       laminafs report [OPTIONS] --lower DIR[:DIR...]",
    after_help = format!("The page is one file, and loads nothing: bars of the layers, a map of the tree by size, which layer gives \
    a path, what no one sees, the history. The same layers give the same bytes. Of large images the smaller entries are summed in \
    their directories; the page says how many, and stays below 10 MB.\n\n\
    {TARGETS}\n\n\
    Examples:\n  \
    laminafs report -o debian.html debian:12\n  \
    laminafs report docker-archive:web.tar > web.html\n  \
    laminafs report --svg -o layers.svg debian:12")
)]
pub struct ReportArgs {
    /// Write this file instead of standard output; it appears when it is complete, in place of one that is there
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only the bars of the layers, as an SVG picture
    #[arg(long)]
    svg: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// What to look into
    #[arg(value_name = "TARGET")]
    words: Vec<OsString>,
}

/// Writes the page.
pub fn run(args: &ReportArgs, context: &Context) -> anyhow::Result<()> {
    let mut out = OutputFile::create(args.output.as_deref(), Kind::Page)?;
    let target = args.target.open_alone(&args.words, context)?;
    let named = args.words.first().map(|word| format::name(word.as_encoded_bytes()).into_owned());
    let data = data::collect(&target.merged, named, target.config.as_ref())?;
    let written = if args.svg { svg::bars(&data) } else { page::page(&data.name, &data)? };
    target.check()?;
    match out.write_all(written.as_bytes()) {
        // Who reads the page has seen enough.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(()),
        written => written?,
    }
    out.finish()
}
