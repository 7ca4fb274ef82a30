//! `laminafs rmi`: names and images go.

use super::context::Context;
use super::names::check_in_store;
use super::{Failure, complain, for_each, output};
use crate::image::Reference;
use crate::store::{Error, Removed};
use clap::Args;

/// Arguments of `laminafs rmi`.
#[derive(Debug, Args)]
#[command(after_help = "An image goes with its last name, and with it the layers that no other image has.\n\n\
    Examples:\n  \
    laminafs rmi debian:12\n  \
    laminafs rmi -f 4f2a                  the image with all its names\n  \
    laminafs rmi $(laminafs images -q)")]
pub struct RmiArgs {
    /// Remove the names of an image that is in use, and all names when an id is given; no failure if there is no such image
    #[arg(short, long)]
    force: bool,
    /// A name, an id or its beginning
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes each; after a failure it goes on with the next.
pub fn run(args: &RmiArgs, context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    for_each(&args.images, |text| {
        check_in_store(text)?;
        match store.remove_image(text, args.force) {
            Err(e @ Error::NoImage(_)) if args.force => {
                complain(&format!("note: {e}"));
                Ok(())
            }
            removed => output::lines(lines(&removed?, "Untagged", "Deleted")),
        }
    })
}

/// What went, as Docker says it; blobs are not mentioned.
pub fn lines(removed: &Removed, untagged: &str, deleted: &str) -> Vec<String> {
    let names = removed.untagged.iter().map(Reference::familiar).map(|name| format!("{untagged}: {name}"));
    let images = removed.images.iter().map(|id| format!("{deleted}: {id}"));
    let layers = removed.layers.iter().map(|chain| format!("{deleted}: {chain}"));
    names.chain(images).chain(layers).collect()
}
