//! `laminafs tag`: a further name for an image.

use super::context::Context;
use super::names::{find_image, new_name};
use clap::Args;

/// Arguments of `laminafs tag`.
#[derive(Debug, Args)]
#[command(after_help = "A name that another image has is taken from it.\n\n\
    Example:\n  laminafs tag debian:12 localhost/base:stable")]
pub struct TagArgs {
    /// An image: a name, an id or its beginning
    #[arg(value_name = "IMAGE")]
    source: String,
    /// Its new name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: String,
}

/// Names an image.
pub fn run(args: &TagArgs, context: &Context) -> anyhow::Result<()> {
    let name = new_name(&args.name)?;
    let store = context.store()?;
    let image = find_image(&store, &args.source)?;
    store.tag(&image.record.id, &name)?;
    Ok(())
}
