//! The first and the last line of the screen.

use super::super::state::{Focus, State};
use super::super::text::{cut, width};
use super::put;
use crate::image::format::printable;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

/// What is looked into.
pub fn title(state: &State<'_>, row: Rect, buffer: &mut Buffer) {
    let name = printable(&state.merged.name);
    let x = put(buffer, row, 1, &cut(&name, usize::from(row.width).saturating_sub(2)), state.theme.strong());
    let layers = state.merged.layers().len();
    let layers = format!("  {layers} layer{}", if layers == 1 { "" } else { "s" });
    put(buffer, row, x, &layers, state.theme.dim());
}

/// The filter while it is typed or in force, a notice, or hints. Returns where the cursor is.
pub fn line(state: &State<'_>, row: Rect, buffer: &mut Buffer) -> Option<Position> {
    let filter = &state.tree.filter;
    if let Some(notice) = &state.notice {
        put(buffer, row, 1, &cut(&printable(notice), usize::from(row.width).saturating_sub(2)), Style::new());
        return None;
    }
    if state.waste.is_none() && (filter.typing || !filter.text.is_empty()) {
        return filter_line(state, row, buffer);
    }
    hints(state, row, buffer);
    None
}

fn filter_line(state: &State<'_>, row: Rect, buffer: &mut Buffer) -> Option<Position> {
    let filter = &state.tree.filter;
    let x = put(buffer, row, 0, "/", state.theme.key());
    let text = printable(&filter.text);
    let behind = put(buffer, row, x, &text, state.theme.strong());
    let found = match filter.count() {
        _ if filter.is_busy() => "searching…".to_owned(),
        Some(1) => "1 match".to_owned(),
        Some(count) => format!("{count} matches"),
        None => "type a part of a name, or of a path with its slash".to_owned(),
    };
    let keys = if filter.typing { "Enter keep  Esc clear" } else { "Esc clear" };
    put(buffer, row, behind + 2, &format!("{found}   {keys}"), state.theme.dim());
    let at = x + u16::try_from(width(&text)).unwrap_or(u16::MAX).min(row.width.saturating_sub(2));
    (filter.typing && !row.is_empty()).then_some(Position::new(row.x + at, row.y))
}

fn hints(state: &State<'_>, row: Rect, buffer: &mut Buffer) {
    let tree = [
        ("?", "help"),
        ("q", "quit"),
        ("/", "filter"),
        ("v", if state.tree.only_changes() { "merged" } else { "changes" }),
        ("s", "sort"),
        ("w", "waste"),
        ("[ ]", "layer"),
        ("Tab", "pane"),
        ("p", "provider"),
    ];
    let waste = [("?", "help"), ("q", "quit"), ("Enter", "show in the tree"), ("w", "back"), ("Tab", "pane")];
    let text = [("?", "help"), ("q", "quit"), ("↑ ↓", "scroll"), ("Tab", "pane")];
    let hints: &[_] = match (&state.waste, state.focus) {
        (_, Focus::Details) => &text,
        (Some(_), _) => &waste,
        (None, _) => &tree,
    };
    let mut x = 1;
    for (key, what) in hints {
        if usize::from(x) + width(key) + width(what) + 1 > usize::from(row.width) {
            return;
        }
        x = put(buffer, row, x, key, state.theme.key()) + 1;
        x = put(buffer, row, x, what, Style::new()) + 2;
    }
}
