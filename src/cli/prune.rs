//! `laminafs prune`: what nothing uses goes.

use super::context::Context;
use super::output::{self, SCHEMA};
use super::rmi;
use crate::image::format::size4;
use crate::store::{Prune, Removed};
use anyhow::bail;
use clap::Args;
use serde_json::json;
use std::io::{self, BufRead, IsTerminal, Write};

/// Arguments of `laminafs prune`.
#[derive(Debug, Args)]
#[command(after_help = "Always removed are layers and blobs that belong to no image, as killed loads leave them.\n\n\
    Examples:\n  \
    laminafs prune                   images without a name\n  \
    laminafs prune -a -f             all images that no writable layer stands on, without asking")]
pub struct PruneArgs {
    /// Also images with names, unless a writable layer stands on them or they are mounted
    #[arg(short, long)]
    all: bool,
    /// Before that, writable layers that are not mounted, with all that was written into them
    #[arg(long)]
    writable: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
}

/// Asks, removes, and tells what went.
pub fn run(args: &PruneArgs, context: &Context) -> anyhow::Result<()> {
    if !args.force {
        ask(args)?;
    }
    let removed = context.store()?.prune(Prune { all: args.all, writable: args.writable })?;
    if args.json {
        return output::document(&json!({
            "schema": SCHEMA,
            "untagged": removed.untagged,
            "images": removed.images,
            "layers": removed.layers,
            "blobs": removed.blobs,
            "writable": removed.writable,
            "reclaimed": removed.reclaimed,
        }));
    }
    output::lines(report(&removed))
}

fn ask(args: &PruneArgs) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("prune asks before it removes, and standard input is not a terminal; give -f to remove without asking");
    }
    let images = match args.all {
        false => "all images without a name that nothing uses",
        true => "all images that no writable layer stands on",
    };
    let writable =
        if args.writable { "all writable layers that are not mounted, with what is in them, and " } else { "" };
    let mut terminal = io::stderr().lock();
    write!(terminal, "WARNING! This will remove {writable}{images}.\nAre you sure you want to continue? [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        bail!("nothing was removed");
    }
    Ok(())
}

fn report(removed: &Removed) -> Vec<String> {
    let mut lines = Vec::new();
    let mut section = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            lines.push(title.to_owned());
            lines.extend(items);
            lines.push(String::new());
        }
    };
    section("Deleted Writable Layers:", removed.writable.clone());
    section("Deleted Images:", rmi::lines(removed, "untagged", "deleted"));
    lines.push(format!("Total reclaimed space: {}", size4(removed.reclaimed)));
    lines
}
