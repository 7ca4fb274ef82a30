//! `laminafs inspect`: everything about images and writable layers, with Docker's keys.

use super::context::Context;
use super::names::find_image;
use super::{Failure, for_each, images, output};
use crate::image::{Config, Document};
use crate::store::{Error, Image, Store, Writable};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Arguments of `laminafs inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Printed is a JSON array with an object for each argument, with the keys of docker inspect.\n\n\
    Examples:\n  \
    laminafs inspect debian:12\n  \
    laminafs inspect debian:12 | jq -r '.[].RootFS.Layers[]'"
)]
pub struct InspectArgs {
    /// Only things of this kind; without it, a writable layer goes before an image of the same name
    #[arg(long = "type", value_enum, value_name = "image|writable", hide_possible_values = true)]
    kind: Option<Kind>,
    /// Names or ids of images, names of writable layers
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Images
    Image,
    /// Writable layers
    Writable,
}

/// Prints what is found, also when something is not.
pub fn run(args: &InspectArgs, context: &Context) -> Result<(), Failure> {
    let store = context.store_to_list()?;
    let mut found = Vec::new();
    let result = for_each(&args.names, |name| {
        let missing = || match args.kind {
            Some(Kind::Writable) => Error::NoWritable(name.to_owned()),
            _ => Error::NoImage(name.to_owned()),
        };
        found.push(look(store.as_ref().ok_or_else(missing)?, name, args.kind)?);
        Ok(())
    });
    output::indented(&found)?;
    result
}

fn look(store: &Store, name: &str, kind: Option<Kind>) -> anyhow::Result<Value> {
    let writable = || store.writable(name).map_err(anyhow::Error::from).and_then(|w| of_writable(store, &w));
    match kind {
        Some(Kind::Image) => of_image(store, &find_image(store, name)?),
        Some(Kind::Writable) => writable(),
        None => match store.writable(name) {
            Err(Error::NoWritable(_)) => of_image(store, &find_image(store, name)?),
            _ => writable(),
        },
    }
}

/// Docker's keys that are not always there are left out when there is nothing to say.
fn of_image(store: &Store, image: &Image) -> anyhow::Result<Value> {
    let record = &image.record;
    let manifest = store.manifest(record)?;
    let config: Document<Config> = Document::parse_config(store.config(record)?)?;
    let media_type = serde_json::from_slice::<Value>(&manifest)?["mediaType"].clone();
    let repositories: BTreeSet<String> = image.tags.iter().map(|tag| tag.name.familiar_name()).collect();
    let digests = repositories.into_iter().map(|name| format!("{name}@{}", record.manifest));
    let tagged = image.tags.iter().map(|tag| tag.tagged).max();
    let comment = config.history.iter().flatten().next_back().and_then(|h| h.comment.clone());
    let mut object = json!({
        "Id": record.id,
        "RepoTags": image.tags.iter().map(|tag| tag.name.familiar()).collect::<Vec<_>>(),
        "RepoDigests": digests.collect::<Vec<_>>(),
        "Created": config.created,
        "Config": config.config,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": images::size(store, image)?,
        "GraphDriver": driver(&store.layer_dirs(record, None)?, &[]),
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        "Metadata": { "LastTagTime": tagged.map(output::time) },
        "Descriptor": { "mediaType": media_type, "digest": record.manifest, "size": manifest.len() },
    });
    let optional = [
        ("Comment", comment),
        ("Author", config.author.clone()),
        ("Variant", config.variant.clone()),
        ("OsVersion", config.os_version.clone()),
    ];
    for (key, value) in optional {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            object[key] = value.into();
        }
    }
    Ok(object)
}

fn of_writable(store: &Store, writable: &Writable) -> anyhow::Result<Value> {
    let record = &writable.record;
    let mut lower = Vec::new();
    let mut next = record.chain;
    while let Some(chain) = next {
        lower.push(store.layer_dir(&chain));
        next = store.layer(&chain)?.ok_or(Error::NoLayer(chain))?.parent;
    }
    let mount = writable.mount.as_ref();
    let mountpoint = mount.map(|mount| mount.mountpoint.clone());
    let mut directories = vec![("UpperDir", writable.upper.clone()), ("WorkDir", writable.work.clone())];
    directories.extend(mountpoint.map(|path| ("MergedDir", path)));
    let status = match (mount, writable.busy) {
        (Some(_), _) => "mounted",
        (None, true) => "busy",
        (None, false) => "unmounted",
    };
    Ok(json!({
        "Id": record.id,
        "Created": output::time(record.created),
        "Name": record.name,
        "Image": record.image,
        "ImageLayers": record.layers,
        "State": {
            "Status": status,
            "Running": mount.is_some(),
            "Pid": mount.filter(|m| !m.kernel).map_or(0, |m| m.pid),
            "StartedAt": mount.map(|m| output::time(m.since)),
        },
        "HostConfig": { "AutoRemove": record.ephemeral },
        "GraphDriver": driver(&lower, &directories),
    }))
}

/// The directories as Docker's overlay2 names them; lower ones topmost first.
fn driver(lower: &[PathBuf], others: &[(&str, PathBuf)]) -> Value {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut data = Map::new();
    data.insert("LowerDir".into(), lower.iter().map(text).collect::<Vec<_>>().join(":").into());
    data.extend(others.iter().map(|(key, path)| ((*key).to_owned(), text(path).into())));
    json!({ "Name": "laminafs", "Data": data })
}
