//! `laminafs diff`: what changed in a writable layer, or between any two things with layers.

mod compare;
mod unified;
mod writable;

use super::context::Context;
use super::target::{PlaceArgs, usage};
use clap::Args;
use std::ffi::OsString;

/// Arguments of `laminafs diff`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs diff [--json] NAME|MOUNTPOINT\n       laminafs diff [OPTIONS] A B",
    after_help = "A stands for added, C for changed, D for deleted. As with docker diff, directories in which something \
    changed are listed, and what was in a deleted directory is not. A writable layer may be mounted.\n\n\
    With one argument, a writable layer, or what is mounted at a path (./mnt), is compared with what it stands on. With two, A and B are what the other \
    inspecting commands take as TARGET: images wherever they are, writable layers, paths of mounts; with @N the view up to \
    layer N, with #N layer N alone. Behind what changed stands in brackets what differs, unless it is the content alone.\n\n\
    Examples:\n  \
    laminafs diff web\n  \
    laminafs diff web | grep -v '^C'\n  \
    laminafs diff --stat debian:11 debian:12\n  \
    laminafs diff --content web@2 web\n  \
    laminafs diff 'docker-archive:old.tar#3' 'docker-archive:new.tar#3'"
)]
pub struct DiffArgs {
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    /// With A and B: how many bytes each path and all together became more or less
    #[arg(long, conflicts_with_all = ["json", "content"])]
    stat: bool,
    /// With A and B: what changed in files of text, as diff -u prints it
    #[arg(long, conflicts_with_all = ["json"])]
    content: bool,
    #[command(flatten)]
    places: PlaceArgs,
    /// A writable layer or the path of a mount, or two targets
    #[arg(required = true, num_args = 1..=2, value_name = "NAME|A B")]
    names: Vec<OsString>,
}

/// Prints the changes, in the order of their paths.
pub fn run(args: &DiffArgs, context: &Context) -> anyhow::Result<()> {
    match args.names.as_slice() {
        [a, b] => compare::run(args, a, b, context),
        [name] if args.stat || args.content => {
            let name = name.display();
            Err(usage(&format!("--stat and --content compare two targets; name a second one behind {name}")))
        }
        [name] => writable::run(name, args.json, context),
        _ => Ok(()),
    }
}
