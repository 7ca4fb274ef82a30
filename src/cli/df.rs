//! `laminafs df`: what the store takes on disk.

use super::context::Context;
use super::output::{self, SCHEMA, Shape, ShapeArgs, Table};
use super::{Failure, tell_damaged};
use crate::image::format::{ago, size3, size4};
use crate::image::time::Timestamp;
use crate::image::{Digest, Reference};
use crate::store::{ImageUsage, Usage, Writable};
use clap::Args;
use serde_json::{Value, json};

/// Arguments of `laminafs df`.
#[derive(Debug, Args)]
#[command(
    after_help = "Counted is what is allocated on disk: the directories of layers, the blobs that they came from, and \
    writable layers. Everything counts once: the unique sizes, what several images share, and what belongs to no image add \
    up to the size of all images.\n\n\
    Examples:\n  \
    laminafs df -v\n  \
    laminafs df --json | jq .reclaimable"
)]
pub struct DfArgs {
    /// List every image and every writable layer
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// Adds up.
pub fn run(args: &DfArgs, context: &Context) -> Result<(), Failure> {
    let Some(store) = context.store_to_list()? else { return Ok(print(&Usage::default(), args)?) };
    let (usage, damaged) = store.sound_usage()?;
    print(&usage, args)?;
    tell_damaged(&damaged)
}

fn print(usage: &Usage, args: &DfArgs) -> anyhow::Result<()> {
    match args.shape.shape() {
        Shape::Document => output::document(&document(usage)),
        Shape::Objects => output::object_lines(totals(usage).map(|total| total.docker_object())),
        _ if args.verbose => verbose(usage),
        _ => {
            let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
            for total in totals(usage) {
                table.row([
                    total.kind,
                    &total.count.to_string(),
                    &total.active.to_string(),
                    &size4(total.size),
                    &total.reclaimable(),
                ]);
            }
            table.print()
        }
    }
}

struct Total {
    kind: &'static str,
    count: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

fn totals(usage: &Usage) -> [Total; 2] {
    let images = Total {
        kind: "Images",
        count: usage.images.len(),
        active: usage.images.iter().filter(|image| image.active()).count(),
        size: usage.layers_disk + usage.blobs_disk,
        reclaimable: usage.reclaimable,
    };
    let writable = Total {
        kind: "Writable Layers",
        count: usage.writable.len(),
        active: usage.writable.iter().filter(|w| w.writable.busy).count(),
        size: usage.writable_disk(),
        reclaimable: usage.writable_reclaimable(),
    };
    [images, writable]
}

impl Total {
    /// `2.498GB (94%)`.
    fn reclaimable(&self) -> String {
        let size = size4(self.reclaimable);
        match (u128::from(self.reclaimable) * 100).checked_div(u128::from(self.size)) {
            Some(percent) => format!("{size} ({percent}%)"),
            None => size,
        }
    }

    /// As `docker system df --format json`.
    fn docker_object(&self) -> Value {
        json!({
            "Active": self.active.to_string(),
            "Reclaimable": self.reclaimable(),
            "Size": size4(self.size),
            "TotalCount": self.count.to_string(),
            "Type": self.kind,
        })
    }
}

fn verbose(usage: &Usage) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let header = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "WRITABLE LAYERS"];
    let mut images = Table::new(&header);
    for image in &usage.images {
        let names: Vec<Option<&Reference>> = match image.image.tags.as_slice() {
            [] => vec![None],
            tags => tags.iter().map(|tag| Some(&tag.name)).collect(),
        };
        for name in names {
            images.row(image_cells(image, name, now));
        }
    }
    let mut writable = Table::new(&["NAME", "IMAGE", "SIZE", "CREATED", "STATUS"]);
    for one in &usage.writable {
        let record = &one.writable.record;
        let created = Timestamp::from_unix(i64::try_from(record.created).unwrap_or(i64::MAX));
        let image = image_name(usage, &record.image);
        writable.row([record.name.clone(), image, size3(one.disk), ago(Some(created), now), status(&one.writable)]);
    }
    output::print(&format!(
        "Images space usage:\n\n{}\nShared by several images, counted once: {}\nLayers and blobs of no image: {}\n\n\
         Writable layers space usage:\n\n{}",
        images.render(),
        size4(usage.shared_once),
        size4(usage.unreferenced),
        writable.render(),
    ))
}

fn image_cells(usage: &ImageUsage, name: Option<&Reference>, now: Timestamp) -> [String; 8] {
    let none = || "<none>".to_owned();
    [
        name.map_or_else(none, Reference::familiar_name),
        name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        usage.image.record.id.short(),
        ago(usage.image.created, now),
        size3(usage.disk),
        size3(usage.disk_shared),
        size3(usage.disk_unique),
        usage.writable.len().to_string(),
    ]
}

fn image_name(usage: &Usage, id: &Digest) -> String {
    let image = usage.images.iter().find(|image| image.image.record.id == *id);
    image.map_or_else(|| id.short(), |image| image.image.display())
}

fn status(writable: &Writable) -> String {
    match &writable.mount {
        Some(mount) => format!("Mounted on {}", mount.mountpoint.display()),
        None if writable.busy => "In use".into(),
        None => "Not mounted".into(),
    }
}

/// All numbers, as docs/JSON.md describes them.
fn document(usage: &Usage) -> Value {
    let image = |image: &ImageUsage| {
        json!({
            "id": image.image.record.id,
            "names": image.image.tags.iter().map(|tag| &tag.name).collect::<Vec<_>>(),
            "size": image.size,
            "shared": image.shared,
            "unique": image.unique,
            "disk": image.disk,
            "disk_shared": image.disk_shared,
            "disk_unique": image.disk_unique,
            "writable": image.writable,
            "in_use": image.active(),
        })
    };
    let writable = usage.writable.iter().map(|one| {
        let mountpoint = one.writable.mount.as_ref().map(|mount| mount.mountpoint.to_string_lossy());
        json!({
            "name": one.writable.record.name,
            "image": one.writable.record.image,
            "disk": one.disk,
            "in_use": one.writable.busy,
            "mountpoint": mountpoint,
        })
    });
    json!({
        "schema": SCHEMA,
        "layers_disk": usage.layers_disk,
        "layers_size": usage.layers_size,
        "blobs_disk": usage.blobs_disk,
        "shared_once": usage.shared_once,
        "unreferenced": usage.unreferenced,
        "reclaimable": usage.reclaimable,
        "writable_disk": usage.writable_disk(),
        "writable_reclaimable": usage.writable_reclaimable(),
        "images": usage.images.iter().map(image).collect::<Vec<_>>(),
        "writable": writable.collect::<Vec<_>>(),
    })
}
