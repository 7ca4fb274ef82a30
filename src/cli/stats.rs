//! `laminafs stats`: what the daemon of a mount holds in memory, which features it uses, and what the kernel asked it.

use super::output::{self, SCHEMA, Table};
use crate::fuse::about::{self, Stats};
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `laminafs stats`.
#[derive(Debug, Args)]
#[command(
    after_help = "The kernel answers by itself what it knows; a request is what it had to ask the daemon, which is what \
    most operations of a FUSE file system cost. Asking for these figures is some `getxattr`.\n\n\
    Features are those that the kernel offers to FUSE file systems, by the names in linux/fuse.h, and those of the file \
    systems of the layers. used: it is there and used; unused: it is there, this mount does without; partly: for some \
    layers or files only; missing: it is not there; untried: nothing has needed it yet.\n\nExample:\n  \
    laminafs stats /mnt"
)]
pub struct StatsArgs {
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    /// Where it is mounted
    mountpoint: PathBuf,
}

/// Prints it.
pub fn run(args: &StatsArgs) -> anyhow::Result<()> {
    let path = &args.mountpoint;
    let stats = about::stats(path).with_context(|| format!("cannot ask the mount at {}", path.display()))?;
    let Some(stats) = stats else {
        bail!("{} is not the root of a laminafs mount; mounts of images are listed by 'laminafs ps'", path.display());
    };
    if args.json {
        return output::document(&json!({ "schema": SCHEMA, "stats": stats }));
    }
    let mut table = Table::new(&["HELD", "COUNT"]);
    for (what, count) in held(&stats) {
        table.row([what, &count.to_string()]);
    }
    let features = |of: &str, words: &BTreeMap<String, String>| {
        let mut table = Table::new(&[of, "STATE"]);
        words.iter().for_each(|(name, word)| table.row([name, word]));
        table.render()
    };
    let (kernel, below) = (features("KERNEL", &stats.features.fuse), features("LAYERS", &stats.features.layers));
    let mut requests: Vec<_> = stats.requests.iter().filter(|(_, count)| **count > 0).collect();
    requests.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut asked = Table::new(&["REQUEST", "COUNT"]);
    for (kind, count) in requests {
        asked.row([kind, &count.to_string()]);
    }
    output::print(&[table.render(), kernel, below, asked.render()].join("\n"))
}

fn held(stats: &Stats) -> [(&'static str, u64); 4] {
    [
        ("known inodes", stats.known_inodes),
        ("indexed entries", stats.indexed_entries),
        ("cached descriptors", stats.cached_descriptors),
        ("pinned descriptors", stats.pinned_descriptors),
    ]
}
