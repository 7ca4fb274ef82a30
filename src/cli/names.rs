//! Image arguments of commands that work on the store.

use super::context::Context;
use super::hints::{not_in_store, with_hint};
use crate::image::Reference;
use crate::image::location::{ImageArg, Location};
use crate::store::{Error, Image, Store};
use anyhow::bail;
use std::ffi::OsStr;

/// The image of the store that an argument names: a name, an id or its beginning, or `NAME@DIGEST`.
pub fn find_image(store: &Store, text: &str) -> anyhow::Result<Image> {
    check_in_store(text)?;
    store.find(text).map_err(|error| with_hint(error, store))
}

/// The store, in which such an image may be. None is made.
pub fn store_with_image(context: &Context, text: &str) -> anyhow::Result<Store> {
    check_in_store(text)?;
    context.store_to_read(|| Error::NoImage(text.to_owned()))
}

/// Fails for `oci:DIR` and such, which are never names.
pub fn check_in_store(text: &str) -> anyhow::Result<()> {
    match ImageArg::parse(OsStr::new(text))? {
        ImageArg { location: Location::Store(_), layers: None } => Ok(()),
        ImageArg { location: Location::Store(name), .. } => {
            bail!("{text}: a number of layers can only be given where an image is mounted or looked into; leave {name}")
        }
        ImageArg { location, .. } => Err(not_in_store(text, &location)),
    }
}

/// A name that an image shall get.
pub fn new_name(text: &str) -> anyhow::Result<Reference> {
    match ImageArg::parse(OsStr::new(text))? {
        ImageArg { location: Location::Store(_), layers: None } => {
            let name: Reference = text.parse()?;
            // As docker refuses it.
            if name.familiar_name() == "sha256" {
                bail!("{text} cannot be the name of an image: it would be taken for an id");
            }
            Ok(name)
        }
        ImageArg { location: Location::Store(_), layers: Some(_) } => {
            bail!("{text} cannot be the name of an image: a number after '@' counts layers")
        }
        _ => bail!("{text} cannot be the name of an image: the word before the colon is a transport"),
    }
}
