//! `laminafs share`: which images of the store have layers in common, and what that saves.

use super::context::Context;
use super::names::{find_image, store_with_image};
use super::output::{self, SCHEMA, Table};
use super::{Failure, tell_damaged};
use crate::image::format::{size3, size4};
use crate::image::{ChainId, DiffId};
use crate::store::{Error, Image, Store};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Arguments of `laminafs share`.
#[derive(Debug, Args)]
#[command(
    after_help = "A layer is shared when it and all layers below it are the same. SIZE is what the layer takes on disk, \
    SAVED what it would take more if every image had a copy. With several images only what these share is listed, with one \
    what it shares with any other.\n\n\
    Examples:\n  \
    laminafs share\n  \
    laminafs share debian:12 web:2"
)]
pub struct ShareArgs {
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    /// Names, ids or their beginnings; without one, all images
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// A layer that several images have.
struct Shared<'a> {
    chain: ChainId,
    diff_id: DiffId,
    disk: u64,
    /// How many layers lie below it.
    height: usize,
    images: Vec<&'a Image>,
}

impl Shared<'_> {
    fn saved(&self) -> u64 {
        self.disk * (self.images.len() as u64 - 1)
    }
}

/// Lists the shared layers.
pub fn run(args: &ShareArgs, context: &Context) -> Result<(), Failure> {
    let store = match args.images.first() {
        Some(name) => store_with_image(context, name)?,
        None => match context.store_to_list()? {
            Some(store) => store,
            None => return Ok(print(&[], args)?),
        },
    };
    let mut chosen = Vec::new();
    for name in &args.images {
        let image = find_image(&store, name)?;
        if !chosen.iter().any(|known: &Image| known.record.id == image.record.id) {
            chosen.push(image);
        }
    }
    let (all, mut damaged) = if chosen.len() > 1 { (chosen.clone(), Vec::new()) } else { store.sound_images()? };
    let mut shared = shared(&store, &all, &mut damaged)?;
    if let [only] = chosen.as_slice() {
        shared.retain(|layer| layer.images.iter().any(|image| image.record.id == only.record.id));
    }
    print(&shared, args)?;
    tell_damaged(&damaged)
}

fn print(shared: &[Shared<'_>], args: &ShareArgs) -> anyhow::Result<()> {
    let saved: u64 = shared.iter().map(Shared::saved).sum();
    if args.json {
        let layers: Vec<Value> = shared.iter().map(object).collect();
        return output::document(&json!({ "schema": SCHEMA, "saved": saved, "layers": layers }));
    }
    let mut table = Table::new(&["LAYER", "SIZE", "SAVED", "IMAGES"]);
    for layer in shared {
        let id = if args.no_trunc { layer.diff_id.to_string() } else { layer.diff_id.0.short() };
        let names: Vec<String> = layer.images.iter().map(|image| image.display()).collect();
        table.row([id, size3(layer.disk), size3(layer.saved()), names.join(", ")]);
    }
    output::print(&format!("{}\nSaved by sharing: {}\n", table.render(), size4(saved)))
}

/// The layers that more than one of these images has, the lowest first, then the largest; without those whose records are
/// `damaged`.
fn shared<'a>(store: &Store, images: &'a [Image], damaged: &mut Vec<Error>) -> anyhow::Result<Vec<Shared<'a>>> {
    let mut layers: BTreeMap<String, Shared<'a>> = BTreeMap::new();
    for image in images {
        for (height, layer) in image.record.layers.iter().enumerate() {
            let (chain, diff_id) = (layer.chain_id, layer.diff_id);
            let new = || Shared { chain, diff_id, disk: 0, height, images: Vec::new() };
            layers.entry(chain.to_string()).or_insert_with(new).images.push(image);
        }
    }
    let mut shared: Vec<Shared<'a>> = Vec::new();
    for layer in layers.into_values().filter(|layer| layer.images.len() > 1) {
        match store.layer(&layer.chain) {
            Err(error @ Error::Damaged { .. }) => damaged.push(error),
            record => shared.push(Shared { disk: record?.map_or(0, |record| record.disk), ..layer }),
        }
    }
    shared.sort_by_key(|layer| (layer.height, std::cmp::Reverse(layer.disk)));
    Ok(shared)
}

fn object(layer: &Shared<'_>) -> Value {
    let images = layer.images.iter().map(|image| {
        let names: Vec<String> = image.tags.iter().map(|tag| tag.name.to_string()).collect();
        json!({ "id": image.record.id, "names": names })
    });
    json!({
        "chain_id": layer.chain,
        "diff_id": layer.diff_id,
        "disk": layer.disk,
        "saved": layer.saved(),
        "images": images.collect::<Vec<_>>(),
    })
}
