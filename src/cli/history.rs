//! `laminafs history`: how an image came about.

use super::context::Context;
use super::names::{find_image, store_with_image};
use super::output::{self, ListArgs, SCHEMA, Shape, Table};
use crate::image::config::{LayerOf, Step};
use crate::image::format::{ago, ellipsis, one_line, size3};
use crate::image::time::Timestamp;
use crate::image::{Config, Digest, Document};
use crate::store::Store;
use clap::{ArgAction, Args};
use serde_json::{Value, json};

/// The width of the column with the commands.
const COMMAND_WIDTH: usize = 45;

/// Arguments of `laminafs history`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  laminafs history --no-trunc debian:12")]
pub struct HistoryArgs {
    /// Print sizes and dates as people read them
    #[arg(short = 'H', long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "true|false", hide_possible_values = true)]
    human: bool,
    #[command(flatten)]
    list: ListArgs,
    /// A name, an id or its beginning
    image: String,
}

/// A step, and the bytes in the files of its layer.
struct Row<'a> {
    step: Step<'a>,
    size: Option<u64>,
}

/// Lists the steps, the newest first.
pub fn run(args: &HistoryArgs, context: &Context) -> anyhow::Result<()> {
    let store = store_with_image(context, &args.image)?;
    let image = find_image(&store, &args.image)?;
    let id = image.record.id;
    let config: Document<Config> = Document::parse_config(store.config(&image.record)?)?;
    let mut rows = Vec::new();
    for step in config.steps(&[]) {
        rows.push(Row { size: size(&store, step.layer.as_ref(), step.lacks_layer())?, step });
    }
    if args.list.shape() == Shape::Document {
        let steps: Vec<Value> = rows.iter().map(entry).collect();
        return output::document(&json!({ "schema": SCHEMA, "image": id, "steps": steps }));
    }
    rows.reverse();
    let cells = |(n, row)| row_cells(row, if n == 0 { Some(id) } else { None }, args);
    let cells: Vec<Cells> = rows.iter().enumerate().map(cells).collect();
    match args.list.shape() {
        Shape::Quiet => output::lines(cells.iter().map(|row| &row.id)),
        Shape::Objects => output::object_lines(cells.iter().map(docker_object)),
        _ => table(&cells, args.human).print(),
    }
}

/// Bytes of a layer; none for one that should be there and is not.
fn size(store: &Store, layer: Option<&LayerOf<'_>>, lacks_layer: bool) -> anyhow::Result<Option<u64>> {
    let Some(layer) = layer else { return Ok((!lacks_layer).then_some(0)) };
    Ok(store.layer(&layer.chain_id)?.map(|record| record.content))
}

/// A row as Docker shows it.
struct Cells {
    id: String,
    created: Option<Timestamp>,
    created_by: String,
    size: String,
    comment: String,
}

fn row_cells(row: &Row<'_>, id: Option<Digest>, args: &HistoryArgs) -> Cells {
    let trunc = !args.list.no_trunc;
    let history = row.step.history;
    let created_by = history.map(|h| one_line(h.created_by.as_deref().unwrap_or_default()));
    let created_by = created_by.unwrap_or_else(|| "<missing>".into());
    let missing = || "<missing>".to_owned();
    Cells {
        id: id.map_or_else(missing, |id| if trunc { id.short() } else { id.to_string() }),
        created: history.and_then(|h| h.created.as_deref()?.parse().ok()),
        created_by: if trunc { ellipsis(&created_by, COMMAND_WIDTH) } else { created_by },
        size: row.size.map_or_else(missing, |size| if args.human { size3(size) } else { size.to_string() }),
        comment: one_line(history.and_then(|h| h.comment.as_deref()).unwrap_or_default()),
    }
}

fn table(rows: &[Cells], human: bool) -> Table {
    let created = if human { "CREATED" } else { "CREATED AT" };
    let mut table = Table::new(&["IMAGE", created, "CREATED BY", "SIZE", "COMMENT"]);
    let now = Timestamp::now();
    for row in rows {
        let created = if human { ago(row.created, now) } else { at(row.created) };
        table.row([&row.id, &created, &row.created_by, &row.size, &row.comment]);
    }
    table
}

/// To the second, as Docker shows it.
fn at(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "N/A".into(), |time| Timestamp::from_unix(time.unix()).to_string())
}

/// As `docker history --format json`.
fn docker_object(row: &Cells) -> Value {
    json!({
        "Comment": row.comment,
        "CreatedAt": at(row.created),
        "CreatedBy": row.created_by,
        "CreatedSince": ago(row.created, Timestamp::now()),
        "ID": row.id,
        "Size": row.size,
    })
}

/// A step in docs/JSON.md.
fn entry(row: &Row<'_>) -> Value {
    let layer = row.step.layer.map(
        |layer| json!({ "index": layer.index, "diff_id": layer.diff_id, "chain_id": layer.chain_id, "size": row.size }),
    );
    let of = |text: fn(&crate::image::History) -> Option<&String>| row.step.history.and_then(text);
    json!({
        "created": of(|h| h.created.as_ref()),
        "created_by": of(|h| h.created_by.as_ref()),
        "author": of(|h| h.author.as_ref()),
        "comment": of(|h| h.comment.as_ref()),
        "layer": layer,
    })
}
