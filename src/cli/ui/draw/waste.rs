//! The waste view: the sum and the reasons in place of the layers, the files in place of the tree.

use super::super::layout::Pane;
use super::super::state::{Focus, State};
use super::super::text::{cut, cut_front};
use super::super::waste::{WastePane, words};
use super::{border, put};
use crate::cli::entries::shown;
use crate::image::format::{printable, size3};
use crate::provenance::total;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// The files, the largest first.
pub fn files(state: &State<'_>, waste: &WastePane, pane: Pane, buffer: &mut Buffer) {
    let bytes: u64 = total(waste.files.iter().map(|file| file.bytes));
    border(state, pane, &format!("{} that nobody can see", size3(bytes)), Focus::Tree, buffer);
    let mut area = pane.inner.rows();
    if pane.inner.height > 5 {
        area.next().into_iter().for_each(|row| {
            put(buffer, row, 0, "   SIZE LAYER   BY WHY             PATH", state.theme.dim());
        });
    }
    if waste.files.is_empty() {
        area.next().into_iter().for_each(|row| {
            put(buffer, row, 2, "nothing: all that is in the layers can be seen", state.theme.dim());
        });
        return;
    }
    for (row, at) in area.zip(waste.cursor.shown(waste.files.len())) {
        let file = &waste.files[at];
        let mut x = put(buffer, row, 0, &format!("{:>7} ", size3(file.bytes)), Style::new());
        if row.width >= 40 {
            let why = format!("{:>5} {:>4} {:<15} ", file.layer.get(), file.by.get(), words(file.reason));
            x = put(buffer, row, x, &why, state.theme.dim());
        }
        let path = shown(&state.merged.path(file.node));
        put(buffer, row, x, &cut_front(&path, usize::from(row.width.saturating_sub(x))), Style::new());
        if at == waste.cursor.at {
            buffer.set_style(row, state.theme.selected(state.focus == Focus::Tree));
        }
    }
}

/// The scores, and the bytes for each reason.
pub fn reasons(state: &State<'_>, waste: &WastePane, pane: Pane, buffer: &mut Buffer) {
    border(state, pane, "Waste", Focus::Layers, buffer);
    let mut area = pane.inner.rows();
    let mut say = |text: &str, style: Style| {
        if let Some(row) = area.next() {
            text_line(row, text, style, buffer);
        }
    };
    match &waste.waste {
        None => say("comparing contents…", state.theme.dim()),
        Some(Err(error)) => say(&printable(error), Style::new()),
        Some(Ok(found)) => {
            say(&format!("{} of {} wasted", size3(found.wasted), size3(found.total)), state.theme.strong());
            let scores = format!("efficiency {:.4}, as dive: {:.4}", found.efficiency(), found.efficiency_dive);
            say(&scores, Style::new());
        }
    }
    say("", Style::new());
    say("   SIZE  FILES WHY", state.theme.dim());
    for (reason, bytes, count) in waste.reasons() {
        say(&format!("{:>7} {count:>6} {}", size3(bytes), words(reason)), Style::new());
    }
}

fn text_line(row: Rect, text: &str, style: Style, buffer: &mut Buffer) {
    put(buffer, row, 0, &cut(text, usize::from(row.width)), style);
}
