//! The details: all about the selected path, or about the selected layer.

use super::state::State;
use super::text::wrap;
use crate::cli::entries::{mode_text, short_time, shown, size_text};
use crate::cli::layers::made_by;
use crate::cli::whence::sentence;
use crate::image::format::{name, printable, size3};
use crate::provenance::{Kind, Merged, NodeId, Number, Occurrence, Touch};
use ratatui::style::Style;
use ratatui::text::Line;
use std::os::unix::ffi::OsStrExt;

/// What a layer does at a path, as `laminafs whence` says it.
#[derive(Debug)]
pub struct Touched {
    layer: Number,
    found: Option<Occurrence>,
    what: String,
}

/// In words.
pub fn touched(merged: &Merged, node: NodeId, touches: &[Touch<'_>]) -> Vec<Touched> {
    let one = |touch: &Touch<'_>| {
        let what = sentence(merged, node, touch);
        Touched { layer: touch.layer, found: touch.found.copied(), what }
    };
    touches.iter().map(one).collect()
}

/// The lines, broken to a width.
pub fn text(state: &State<'_>, width: usize) -> Vec<Line<'static>> {
    let mut text = Text { width, lines: Vec::new() };
    match (state.selected(), state.number()) {
        (Some(node), Some(number)) if state.is_about_path() => about_path(state, node, number, &mut text),
        (_, Some(number)) => about_layer(state, number, &mut text),
        (_, None) => {}
    }
    text.lines
}

struct Text {
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Text {
    fn add(&mut self, text: &str, style: Style) {
        let lines = wrap(&printable(text), self.width);
        self.lines.extend(lines.into_iter().map(|line| Line::styled(line, style)));
    }
}

fn about_layer(state: &State<'_>, number: Number, text: &mut Text) {
    let facts = &state.merged.layer(number).facts;
    let summary = &state.summaries[number.index()];
    let counts = &summary.counts;
    text.add(&made_by(facts), state.theme.strong());
    let changes = format!("{} added, {} changed, {} deleted", summary.added, summary.changed, summary.deleted);
    text.add(&changes, Style::new());
    let compressed = facts.compressed.map_or(String::new(), |bytes| format!(", {} compressed", size3(bytes)));
    let hidden = format!("{}{compressed}, {} of it hidden by layers above", size3(counts.bytes), size3(summary.hidden));
    text.add(&hidden, Style::new());
    let entries = [
        (counts.files, "files"),
        (counts.hard_links, "hard links"),
        (counts.directories, "directories"),
        (counts.symlinks, "symbolic links"),
        (counts.others, "devices, pipes and sockets"),
        (counts.whiteouts, "whiteouts"),
        (counts.opaque, "opaque directories"),
    ];
    let entries = entries.into_iter().filter(|(count, _)| *count > 0);
    let entries: Vec<String> = entries.map(|(count, what)| format!("{count} {what}")).collect();
    text.add(&entries.join(", "), Style::new());
    let known = [
        ("diff id", facts.diff_id.map(|id| id.to_string())),
        ("chain id", facts.chain_id.map(|id| id.to_string())),
        ("blob", facts.blob.map(|digest| digest.to_string())),
        ("directory", facts.directory.as_ref().map(|path| name(path.as_os_str().as_bytes()).into_owned())),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            text.add(&format!("{name:<9} {value}"), state.theme.dim());
        }
    }
}

fn about_path(state: &State<'_>, node: NodeId, number: Number, text: &mut Text) {
    let merged = state.merged;
    let visible = merged.visible(node, number);
    let mut title = shown(&merged.path(node));
    let shown = visible.or_else(|| merged.occurrences(node).last());
    if let Some(target) = shown.map(|found| merged.layer(found.layer()).target(found.entry)).filter(|t| !t.is_empty()) {
        title += &format!(" -> {}", name(target));
    }
    text.add(&title, state.theme.strong());
    let unknown: Vec<Touched>;
    let touches = match state.touched(node) {
        Some(Ok(touches)) => touches,
        known => {
            if let Some(Err(error)) = known {
                text.add(error, Style::new());
            }
            let bare = |found: &Occurrence| Touched { layer: found.layer(), found: Some(*found), what: "…".into() };
            unknown = merged.occurrences(node).iter().rev().map(bare).collect();
            &unknown
        }
    };
    let owner_width = touches.iter().filter_map(|touch| touch.found).map(|found| owner(merged, &found).len()).max();
    for touch in touches {
        let here = touch.found.is_some() && touch.found.as_ref() == visible;
        let style = if here { Style::new() } else { state.theme.dim() };
        text.add(&line(merged, touch, here, owner_width.unwrap_or(0)), style);
    }
}

fn owner(merged: &Merged, found: &Occurrence) -> String {
    let entry = merged.entry(found);
    format!("{}:{}", entry.uid, entry.gid)
}

/// A layer, what it has, and what that does. The one that is seen has an arrow.
fn line(merged: &Merged, touch: &Touched, here: bool, owner_width: usize) -> String {
    let start = format!("{}{:>3} ", if here { '►' } else { ' ' }, touch.layer.get());
    let found = touch.found.as_ref().map(|found| (found, merged.entry(found)));
    let Some((found, entry)) = found.filter(|(_, entry)| !entry.is_whiteout()) else {
        return format!("{start}{}", touch.what);
    };
    let owner = owner(merged, found);
    let size = match entry.kind {
        Kind::File => size3(entry.size),
        Kind::Directory => String::new(),
        _ => size_text(entry),
    };
    format!("{start}{} {owner:<owner_width$} {size:>7} {}  {}", mode_text(entry), short_time(entry.mtime), touch.what)
}
