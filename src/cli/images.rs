//! `laminafs images`: what is in the store.

use super::context::Context;
use super::output::{self, ListArgs, SCHEMA, Shape, Table};
use super::{Failure, tell_damaged};
use crate::image::format::{ago, size3};
use crate::image::time::Timestamp;
use crate::image::{Digest, Reference};
use crate::store::{self, Error, Image, ImageLayer, Store};
use clap::Args;
use serde::Serialize;
use serde_json::json;

/// Arguments of `laminafs images`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    laminafs images\n  \
    laminafs images debian          all tags of debian\n  \
    laminafs images debian:12       this one\n  \
    laminafs images --json | jq -r '.images[].id'")]
pub struct ImagesArgs {
    /// Also show images without a name
    #[arg(short, long)]
    all: bool,
    /// Show the digests of the manifests
    #[arg(long)]
    digests: bool,
    #[command(flatten)]
    list: ListArgs,
    /// Only images of this repository, or with this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// A row: an image under one of its names.
struct Row<'a> {
    image: &'a Image,
    name: Option<&'a Reference>,
    size: Option<u64>,
}

/// Lists images, the newest first.
pub fn run(args: &ImagesArgs, context: &Context) -> Result<(), Failure> {
    let wanted = args.name.as_deref().map(Wanted::parse).transpose()?;
    let Some(store) = context.store_to_list()? else { return Ok(print(&[], args)?) };
    let (images, mut damaged) = store.sound_images()?;
    let mut rows = Vec::new();
    for image in &images {
        let names: Vec<Option<&Reference>> = match image.tags.as_slice() {
            [] if args.all || wanted.as_ref().is_some_and(|w| w.digest.is_some()) => vec![None],
            tags => tags.iter().map(|tag| Some(&tag.name)).collect(),
        };
        let names = names.into_iter().filter(|name| wanted.as_ref().is_none_or(|w| w.matches(image, *name)));
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            let size = match size(&store, image) {
                Err(error @ Error::Damaged { .. }) => {
                    damaged.push(error);
                    None
                }
                size => size?,
            };
            rows.extend(names.into_iter().map(|name| Row { image, name, size }));
        }
    }
    print(&rows, args)?;
    tell_damaged(&damaged)
}

fn print(rows: &[Row<'_>], args: &ImagesArgs) -> anyhow::Result<()> {
    let trunc = !args.list.no_trunc;
    match args.list.shape() {
        Shape::Quiet => output::lines(once_each(rows).map(|row| id(row.image, trunc))),
        Shape::Table => table(rows, args.digests, trunc).print(),
        Shape::Objects => output::object_lines(rows.iter().map(|row| docker_object(row, trunc))),
        Shape::Document => {
            let images: Vec<_> = once_each(rows).map(ImageDocument::new).collect();
            output::document(&json!({ "schema": SCHEMA, "images": images }))
        }
    }
}

/// Which images are wanted.
struct Wanted {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Wanted {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let name: Reference = text.parse()?;
        // Without a tag in the text all tags are meant, not `latest`.
        let last = text.rsplit('/').next().unwrap_or_default();
        let tag = name.tag().filter(|_| last.contains(':')).map(str::to_owned);
        Ok(Self { repository: name.name(), tag: tag.filter(|_| name.digest().is_none()), digest: name.digest() })
    }

    fn matches(&self, image: &Image, name: Option<&Reference>) -> bool {
        self.digest.is_none_or(|digest| image.record.manifest == digest)
            && name.is_some_and(|n| {
                n.name() == self.repository && self.tag.as_deref().is_none_or(|tag| n.tag() == Some(tag))
            })
    }
}

/// The first row of each image.
fn once_each<'a, 'b>(rows: &'b [Row<'a>]) -> impl Iterator<Item = &'b Row<'a>> {
    let repeated = |at: usize| at > 0 && rows[at - 1].image.record.id == rows[at].image.record.id;
    rows.iter().enumerate().filter(move |(at, _)| !repeated(*at)).map(|(_, row)| row)
}

/// Bytes in the files of all layers; none when a layer is missing.
pub fn size(store: &Store, image: &Image) -> store::Result<Option<u64>> {
    let mut sum = 0;
    for layer in &image.record.layers {
        let Some(record) = store.layer(&layer.chain_id)? else { return Ok(None) };
        sum += record.content;
    }
    Ok(Some(sum))
}

fn id(image: &Image, trunc: bool) -> String {
    if trunc { image.record.id.short() } else { image.record.id.to_string() }
}

fn table(rows: &[Row<'_>], digests: bool, trunc: bool) -> Table {
    let now = Timestamp::now();
    let mut header = vec!["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
    header.retain(|column| digests || *column != "DIGEST");
    let mut table = Table::new(&header);
    for row in rows {
        let digest = digests.then(|| row.image.record.manifest.to_string());
        let cells = [row.repository(), row.tag()].into_iter().chain(digest);
        table.row(cells.chain([id(row.image, trunc), ago(row.image.created, now), row.size()]));
    }
    table
}

impl Row<'_> {
    fn repository(&self) -> String {
        self.name.map_or_else(|| "<none>".into(), Reference::familiar_name)
    }

    fn tag(&self) -> String {
        self.name.and_then(Reference::tag).unwrap_or("<none>").to_owned()
    }

    fn size(&self) -> String {
        self.size.map_or_else(|| "N/A".into(), size3)
    }
}

/// As `docker images --format json`.
fn docker_object(row: &Row<'_>, trunc: bool) -> serde_json::Value {
    json!({
        "Containers": "N/A",
        "CreatedAt": row.image.created.map_or_else(|| "N/A".into(), output::docker_time),
        "CreatedSince": ago(row.image.created, Timestamp::now()),
        "Digest": row.image.record.manifest,
        "ID": id(row.image, trunc),
        "Repository": row.repository(),
        "SharedSize": "N/A",
        "Size": row.size(),
        "Tag": row.tag(),
        "UniqueSize": "N/A",
    })
}

/// An image in docs/JSON.md.
#[derive(Serialize)]
struct ImageDocument<'a> {
    id: Digest,
    names: Vec<&'a Reference>,
    manifest: Digest,
    created: Option<String>,
    loaded: String,
    size: Option<u64>,
    layers: &'a [ImageLayer],
}

impl<'a> ImageDocument<'a> {
    fn new(row: &Row<'a>) -> Self {
        let record = &row.image.record;
        Self {
            id: record.id,
            names: row.image.tags.iter().map(|tag| &tag.name).collect(),
            manifest: record.manifest,
            created: row.image.created.map(|time| time.to_string()),
            loaded: output::time(record.loaded),
            size: row.size,
            layers: &record.layers,
        }
    }
}
