//! `laminafs rm`: removes writable layers.

use super::context::Context;
use super::{Failure, complain, for_each, output, umount};
use crate::store::{Error, Store};
use clap::Args;

/// Arguments of `laminafs rm`.
#[derive(Debug, Args)]
#[command(after_help = "What was written into them goes with them; `laminafs commit` makes an image of it first.\n\n\
    Examples:\n  \
    laminafs rm web\n  \
    laminafs rm -f web                   also while it is mounted\n  \
    laminafs rm $(laminafs ps -aq)")]
pub struct RmArgs {
    /// Unmount first what is mounted; no failure if there is no such writable layer
    #[arg(short, long)]
    force: bool,
    /// Writable layers, as `laminafs ps -a` lists them
    #[arg(required = true)]
    names: Vec<String>,
}

/// Removes each of them and prints its name.
pub fn run(args: &RmArgs, context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    for_each(&args.names, |name| match remove(&store, name, args.force) {
        Err(e) if args.force && matches!(e.downcast_ref(), Some(Error::NoWritable(_))) => {
            complain(&format!("note: {e}"));
            Ok(())
        }
        removed => removed.and_then(|()| output::line(name)),
    })
}

fn remove(store: &Store, name: &str, force: bool) -> anyhow::Result<()> {
    let mount = store.writable(name)?.mount.filter(|_| force);
    if let Some(mount) = &mount {
        umount::unmount_writable(store, name, mount, false)?;
    }
    match store.remove_writable(name) {
        // It went with its mount.
        Err(Error::NoWritable(_)) if mount.is_some() => Ok(()),
        other => Ok(other?),
    }
}
