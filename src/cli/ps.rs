//! `laminafs ps`: writable layers and where they are mounted.

use super::context::Context;
use super::output::{self, ListArgs, SCHEMA, Shape, Table};
use super::{Failure, tell_damaged};
use crate::image::Digest;
use crate::image::format::{ago, human_duration, size3};
use crate::image::time::Timestamp;
use crate::store::{Image, Writable};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use std::time::Duration;

/// Arguments of `laminafs ps`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    laminafs ps              what is mounted\n  \
    laminafs ps -a           all writable layers\n  \
    laminafs rm $(laminafs ps -aq)")]
pub struct PsArgs {
    /// Also show writable layers that are not mounted
    #[arg(short, long)]
    all: bool,
    /// Show how much each takes on disk, which has to be counted
    #[arg(short, long)]
    size: bool,
    #[command(flatten)]
    list: ListArgs,
}

/// A writable layer and what belongs to it.
struct Row {
    writable: Writable,
    /// The image, if it is still there.
    image: Option<Image>,
    disk: Option<u64>,
}

/// Lists writable layers, the newest first.
pub fn run(args: &PsArgs, context: &Context) -> Result<(), Failure> {
    let Some(store) = context.store_to_list()? else { return Ok(print(&[], args)?) };
    let (images, mut damaged) = store.sound_images()?;
    let (mut writables, more) = store.sound_writables()?;
    damaged.extend(more);
    writables.retain(|w| args.all || w.busy);
    let counted = if args.size { store.writable_usage(writables.clone())? } else { Vec::new() };
    let mut rows = Vec::new();
    for writable in writables {
        let at = images.iter().position(|image| image.record.id == writable.record.image);
        let counted = counted.iter().find(|u| u.writable.record.id == writable.record.id);
        rows.push(Row { image: at.map(|at| images[at].clone()), disk: counted.map(|u| u.disk), writable });
    }
    print(&rows, args)?;
    tell_damaged(&damaged)
}

fn print(rows: &[Row], args: &PsArgs) -> anyhow::Result<()> {
    match args.list.shape() {
        Shape::Quiet => output::lines(rows.iter().map(|row| &row.writable.record.name)),
        Shape::Table => table(rows, args.size, !args.list.no_trunc).print(),
        Shape::Objects => output::object_lines(rows.iter().map(|row| docker_object(row, !args.list.no_trunc))),
        Shape::Document => {
            let writable: Vec<_> = rows.iter().map(WritableDocument::new).collect();
            output::document(&json!({ "schema": SCHEMA, "writable": writable }))
        }
    }
}

fn table(rows: &[Row], sizes: bool, trunc: bool) -> Table {
    let mut header = vec!["NAME", "IMAGE", "CREATED", "STATUS", "MOUNTPOINT", "SIZE"];
    header.truncate(if sizes { 6 } else { 5 });
    let mut table = Table::new(&header);
    for row in rows {
        let cells = [row.writable.record.name.clone(), row.image(trunc), row.age(), row.status(), row.mountpoint()];
        table.row(cells.into_iter().chain(sizes.then(|| row.size())));
    }
    table
}

impl Row {
    /// The name of the image, or its id; with `@N` for fewer than all layers.
    fn image(&self, trunc: bool) -> String {
        let record = &self.writable.record;
        let id = || if trunc { record.image.short() } else { record.image.to_string() };
        let name = self.image.as_ref().and_then(|i| i.tags.first()).map_or_else(id, |tag| tag.name.familiar());
        let all = self.image.as_ref().is_none_or(|i| i.record.layers.len() == record.layers);
        if all { name } else { format!("{name}@{}", record.layers) }
    }

    fn age(&self) -> String {
        ago(Some(timestamp(self.writable.record.created)), Timestamp::now())
    }

    /// As Docker says `Up 2 hours`.
    fn status(&self) -> String {
        let Some(mount) = &self.writable.mount else {
            return if self.writable.busy { "In use" } else { "Not mounted" }.to_owned();
        };
        let now = u64::try_from(Timestamp::now().unix()).unwrap_or_default();
        let since = human_duration(Duration::from_secs(now.saturating_sub(mount.since)));
        format!("Up {}{}", since.to_lowercase(), if mount.kernel { " (kernel)" } else { "" })
    }

    fn mountpoint(&self) -> String {
        self.writable.mount.as_ref().map_or_else(String::new, |mount| mount.mountpoint.to_string_lossy().into_owned())
    }

    fn size(&self) -> String {
        self.disk.map_or_else(|| "N/A".into(), size3)
    }
}

fn timestamp(unix: u64) -> Timestamp {
    Timestamp::from_unix(i64::try_from(unix).unwrap_or(i64::MAX))
}

/// As `docker ps --format json`, where it has the field; a writable layer is what there is of a container here.
fn docker_object(row: &Row, trunc: bool) -> serde_json::Value {
    let record = &row.writable.record;
    json!({
        "CreatedAt": output::docker_time(timestamp(record.created)),
        "ID": if trunc { record.id.get(..12).unwrap_or_default() } else { &record.id },
        "Image": row.image(trunc),
        "Mounts": row.mountpoint(),
        "Names": record.name,
        "RunningFor": row.age(),
        "Size": row.size(),
        "State": if row.writable.busy { "running" } else { "created" },
        "Status": row.status(),
    })
}

/// A writable layer in docs/JSON.md.
#[derive(Serialize)]
struct WritableDocument<'a> {
    name: &'a str,
    id: &'a str,
    image: Digest,
    image_names: Vec<String>,
    layers: usize,
    created: String,
    ephemeral: bool,
    busy: bool,
    mount: Option<MountDocument<'a>>,
    upper: Cow<'a, str>,
    work: Cow<'a, str>,
    disk: Option<u64>,
}

#[derive(Serialize)]
struct MountDocument<'a> {
    mountpoint: Cow<'a, str>,
    pid: u32,
    since: String,
    kernel: bool,
}

impl<'a> WritableDocument<'a> {
    fn new(row: &'a Row) -> Self {
        let Writable { record, busy, mount, upper, work } = &row.writable;
        Self {
            name: &record.name,
            id: &record.id,
            image: record.image,
            image_names: row.image.iter().flat_map(|i| &i.tags).map(|tag| tag.name.to_string()).collect(),
            layers: record.layers,
            created: output::time(record.created),
            ephemeral: record.ephemeral,
            busy: *busy,
            mount: mount.as_ref().map(|m| MountDocument {
                mountpoint: m.mountpoint.to_string_lossy(),
                pid: m.pid,
                since: output::time(m.since),
                kernel: m.kernel,
            }),
            upper: upper.to_string_lossy(),
            work: work.to_string_lossy(),
            disk: row.disk,
        }
    }
}
