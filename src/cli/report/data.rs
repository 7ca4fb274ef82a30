//! What the page has embedded, as model.js reads it.

use super::rows::{Attributes, Row, Rows, state};
use super::text;
use crate::cli::layers::made_by;
use crate::cli::output::SCHEMA;
use crate::image::{Config, Document, format};
use crate::provenance::{Bounds, Bytes, Fate, Loss, Merged, NodeId, Reason, Result, total};
use rustc_hash::FxHashMap;
use serde::Serialize;

/// What a page may hold: some megabytes, also of an image with millions of entries.
const BOUNDS: Bounds = Bounds { cost: 4 << 20, sums: 40_000, losses: 20 };
/// Steps of the history that are embedded, the last ones.
const STEPS: usize = 1000;

/// All that the page knows.
#[derive(Debug, Serialize)]
pub struct Data {
    schema: u32,
    tool: &'static str,
    /// What was looked into.
    pub name: String,
    /// How it is named on a command line; `None` for directories.
    target: Option<String>,
    image: Option<String>,
    /// Bytes in all layers.
    pub totals: Totals,
    /// The layers, the lowest first.
    pub layers: Vec<LayerRow>,
    history: Vec<Step>,
    more_history: usize,
    attrs: Vec<Attributes>,
    nodes: Vec<Row>,
    /// Node, layer, state, entries, bytes.
    rest: Vec<(usize, usize, u8, u64, u64)>,
    losses: Vec<LossRow>,
    summed: Summed,
}

/// Bytes of files by what became of them; and how many paths are visible.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    /// Bytes that the view shows.
    pub visible: u64,
    /// Bytes that something in a layer above took the place of.
    pub hidden: u64,
    /// Bytes that a layer above deletes.
    pub deleted: u64,
    paths: u64,
}

impl Totals {
    fn add(&mut self, fate: Fate, bytes: u64) {
        let sum = match fate {
            Fate::Visible => &mut self.visible,
            Fate::Hidden => &mut self.hidden,
            Fate::Deleted => &mut self.deleted,
        };
        *sum = total([*sum, bytes]);
    }
}

/// A layer.
#[derive(Debug, Serialize)]
pub struct LayerRow {
    /// The command that made it, or what else is known.
    pub command: String,
    compressed: Option<u64>,
    /// Its bytes.
    #[serde(flatten)]
    pub totals: Totals,
    added: u64,
    changed: u64,
    taken_away: u64,
}

/// A step of the history.
#[derive(Debug, Serialize)]
struct Step {
    created: Option<String>,
    command: Option<String>,
    layer: Option<usize>,
}

/// Bytes that nobody sees.
#[derive(Debug, Serialize)]
struct LossRow {
    node: usize,
    layer: usize,
    why: String,
    files: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Summed {
    paths: u64,
    bytes: u64,
}

/// Collects it.
///
/// # Errors
/// Those of reading, where contents have to be compared.
pub fn collect(merged: &Merged, target: Option<String>, config: Option<&Document<Config>>) -> Result<Data> {
    let bytes = Bytes::new(merged, &merged.waste()?.hidden);
    let (totals, by_layer) = totals(merged, &bytes);
    let layers =
        merged.layers().iter().zip(merged.summaries()).zip(by_layer).map(|((layer, summary), totals)| LayerRow {
            command: text::command(&made_by(&layer.facts)),
            compressed: layer.facts.compressed,
            totals,
            added: summary.added,
            changed: summary.changed,
            taken_away: summary.deleted,
        });
    let outline = merged.outline(&bytes, BOUNDS);
    let at: FxHashMap<NodeId, usize> = outline.listed.iter().enumerate().map(|(at, node)| (*node, at)).collect();
    let mut rows = Rows::new(merged, &bytes);
    let nodes = outline.listed.iter().map(|node| rows.row(*node, at[&merged.parent(*node)])).collect::<Result<_>>()?;
    let (history, more_history) = config.map(|config| history(config, merged.layers().len())).unwrap_or_default();
    let sum =
        |(at, sum): &(usize, crate::provenance::Sum)| (*at, sum.layer.index(), state(sum.fate), sum.entries, sum.bytes);
    Ok(Data {
        schema: SCHEMA,
        tool: concat!("laminafs ", env!("CARGO_PKG_VERSION")),
        name: format::name(merged.name.as_bytes()).into_owned(),
        target,
        image: merged.image.map(|id| id.to_string()),
        totals,
        layers: layers.collect(),
        history,
        more_history,
        attrs: rows.attrs,
        nodes,
        rest: outline.rest.iter().map(sum).collect(),
        losses: outline.losses.iter().map(|loss| loss_row(loss, at[&loss.path])).collect(),
        summed: Summed { paths: outline.unlisted, bytes: total(outline.rest.iter().map(|(_, sum)| sum.bytes)) },
    })
}

fn loss_row(loss: &Loss, node: usize) -> LossRow {
    let what = match loss.reason {
        Reason::Superseded | Reason::ParentReplaced => "replaced",
        Reason::MetadataOnly => "copied for its attributes",
        Reason::Identical => "written again unchanged",
        Reason::Deleted | Reason::ParentDeleted => "deleted",
        Reason::ParentOpaque => "made opaque",
    };
    let why = format!("{what} by layer {}", loss.by);
    LossRow { node, layer: loss.layer.index(), why, files: loss.files, bytes: loss.bytes }
}

/// Of everything, and of each layer.
fn totals(merged: &Merged, bytes: &Bytes<'_>) -> (Totals, Vec<Totals>) {
    let mut all = Totals::default();
    let mut by_layer: Vec<Totals> = merged.layers().iter().map(|_| Totals::default()).collect();
    for node in merged.nodes() {
        let found = merged.occurrences(node);
        for one in found {
            let (fate, size) = bytes.of(node, one);
            all.add(fate, size);
            by_layer[one.layer().index()].add(fate, size);
        }
        all.paths += u64::from(node != NodeId::ROOT && merged.visible(node, merged.top()).is_some());
    }
    (all, by_layer)
}

/// The last steps up to a layer, and how many more there are before.
fn history(config: &Document<Config>, layers: usize) -> (Vec<Step>, usize) {
    let mut steps = config.steps(&[]);
    // Of `IMAGE@N` the steps above do not belong to it.
    let above = steps.iter().position(|step| step.layer.is_some_and(|layer| layer.index >= layers));
    steps.truncate(above.unwrap_or(steps.len()));
    let more = steps.len().saturating_sub(STEPS);
    let step = |step: crate::image::config::Step<'_>| Step {
        created: step.history.and_then(|h| h.created.as_deref().map(text::command)),
        command: step.history.and_then(|h| h.created_by.as_deref().map(text::command)),
        layer: step.layer.map(|layer| layer.index),
    };
    (steps.into_iter().skip(more).map(step).collect(), more)
}
