//! The tree: what the view of a layer shows, and what the layer does to it.

use super::super::layout::Pane;
use super::super::rows::{Lines, Row, Sort};
use super::super::state::{Focus, State};
use super::super::text::cut;
use super::super::theme::letter;
use super::{border, put};
use crate::cli::entries::name_text;
use crate::image::format::size3;
use crate::provenance::{Kind, Mark, NodeId, Number};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

pub fn draw(state: &State<'_>, pane: Pane, buffer: &mut Buffer) {
    // Without layers nothing is selected.
    let number = state.number().unwrap_or(state.merged.top());
    border(state, pane, &title(state, number), Focus::Tree, buffer);
    let mut area = pane.inner.rows();
    let lines = state.tree.lines();
    if pane.inner.height > 5 {
        let header = if lines.sort == Sort::Size { "    SIZE↓ LAYER NAME" } else { "     SIZE LAYER NAME↓" };
        area.next().into_iter().for_each(|row| {
            put(buffer, row, 0, header, state.theme.dim());
        });
    }
    let rows = state.tree.rows();
    let shown = state.tree.cursor.shown(rows.len());
    if rows.is_empty() {
        let nothing = if state.tree.filter.count() == Some(0) { "nothing matches" } else { "nothing" };
        area.next().into_iter().for_each(|row| {
            put(buffer, row, 2, nothing, state.theme.dim());
        });
        return;
    }
    for (area, at) in area.zip(shown) {
        line(state, &lines, number, rows[at], area, buffer);
        if at == state.tree.cursor.at {
            buffer.set_style(area, state.theme.selected(state.focus == Focus::Tree));
        }
    }
}

fn title(state: &State<'_>, number: Number) -> String {
    let tree = &state.tree;
    let total = size3(tree.lines().size(NodeId::ROOT));
    match (tree.only_changes(), number.get()) {
        _ if state.number().is_none() => format!("No layers: {total}"),
        (true, _) => format!("Changes of layer {number}: {total}"),
        (false, 1) => format!("Layer 1: {total}"),
        (false, _) => format!("Layers 1 to {number} merged: {total}"),
    }
}

fn line(state: &State<'_>, lines: &Lines<'_>, number: Number, row: Row, area: Rect, buffer: &mut Buffer) {
    let (merged, theme) = (state.merged, state.theme);
    let mark = lines.step.mark(row.node);
    let below = number.below();
    let found = match mark {
        Mark::Removed => below.and_then(|below| merged.visible(row.node, below)),
        _ => merged.visible(row.node, number),
    };
    let Some(found) = found else { return };
    let is_dir = merged.entry(found).is_dir();
    let style = theme.mark(mark);
    put(buffer, area, 0, letter(mark), style.patch(theme.strong()));
    let size = match merged.entry(found).kind {
        Kind::File | Kind::Directory => size3(lines.size(row.node)),
        _ => String::new(),
    };
    let mut x = put(buffer, area, 1, &format!(" {size:>7}"), Style::new());
    if area.width >= 30 {
        x = put(buffer, area, x, &format!(" {:>5}", found.layer().get()), theme.dim());
    }
    let deepest = usize::from(area.width) / 2;
    let indent = 1 + (usize::from(row.depth) * 2).min(deepest.saturating_sub(usize::from(x)));
    let arrow = match lines.has_children(row) {
        false => "  ",
        true if state.tree.is_open(row.node) => "▾ ",
        true => "▸ ",
    };
    x = put(buffer, area, x + u16::try_from(indent).unwrap_or(0), arrow, theme.dim());
    let mut name = name_text(merged, merged.name(row.node), found).into_owned();
    if is_dir {
        name.push('/');
    }
    let style =
        if is_dir && !matches!(mark, Mark::Added | Mark::Changed | Mark::Removed) { theme.directory() } else { style };
    put(buffer, area, x, &cut(&name, usize::from(area.width.saturating_sub(x))), style);
}
