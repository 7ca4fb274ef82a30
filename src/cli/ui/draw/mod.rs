//! From the state to the cells of the screen. Names and commands pass [`printable`] here, whatever is in them.

pub mod help;
mod layers;
mod status;
mod tree;
mod waste;

use super::layout::{Pane, Panes};
use super::state::{Focus, State};
use super::text::cut;
use super::theme::Theme;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Widget};

/// Draws everything. `panes` is what [`State::arrange`] said for this frame.
pub fn frame(state: &State<'_>, panes: &Panes, frame: &mut Frame<'_>) {
    let buffer = frame.buffer_mut();
    status::title(state, panes.title, buffer);
    match &state.waste {
        Some(waste) => {
            waste::reasons(state, waste, panes.layers, buffer);
            waste::files(state, waste, panes.tree, buffer);
        }
        None => {
            layers::draw(state, panes.layers, buffer);
            tree::draw(state, panes.tree, buffer);
        }
    }
    details(state, panes.details, buffer);
    let cursor = status::line(state, panes.status, buffer);
    if let Some(help) = &state.help {
        help::draw(state, help, buffer);
    } else if let Some(position) = cursor {
        frame.set_cursor_position(position);
    }
}

/// What is shown while `name` is being read.
pub fn reading(name: &str, theme: Theme, frame: &mut Frame<'_>) {
    let mut rows = frame.area().rows();
    let buffer = frame.buffer_mut();
    if let Some(row) = rows.next() {
        put(
            buffer,
            row,
            1,
            &cut(&format!("reading {name} ..."), usize::from(row.width).saturating_sub(2)),
            theme.strong(),
        );
    }
    if let Some(row) = rows.next_back() {
        let x = put(buffer, row, 1, "q", theme.key());
        put(buffer, row, x + 1, "quit", Style::new());
    }
}

/// Lines above the list in the tree pane: the names of the columns, where there is room.
pub fn header_height(panes: &Panes) -> usize {
    usize::from(panes.tree.inner.height > 5)
}

/// The frame of a pane, with its title.
fn border(state: &State<'_>, pane: Pane, title: &str, focus: Focus, buffer: &mut Buffer) {
    if pane.is_framed() {
        let style = state.theme.frame(state.focus == focus);
        let title = cut(title, usize::from(pane.inner.width).saturating_sub(2));
        Block::bordered()
            .border_style(style)
            .title(Line::styled(format!(" {title} "), style))
            .render(pane.outer, buffer);
    }
}

fn details(state: &State<'_>, pane: Pane, buffer: &mut Buffer) {
    let title = if state.is_about_path() { "Details" } else { "Layer" };
    let (top, len) = (state.details.top, state.details_text.len());
    let more = if len > usize::from(pane.inner.height) { format!("{title} ({}/{len})", top + 1) } else { title.into() };
    border(state, pane, &more, Focus::Details, buffer);
    for (row, line) in pane.inner.rows().zip(state.details_text.iter().skip(top)) {
        line.render(row, buffer);
    }
}

/// Writes text at a column of a line, as far as it goes; returns the column behind it.
fn put(buffer: &mut Buffer, row: Rect, x: u16, text: &str, style: Style) -> u16 {
    let room = row.width.saturating_sub(x);
    if room == 0 || row.is_empty() {
        return x;
    }
    let (end, _) = buffer.set_stringn(row.x + x, row.y, text, usize::from(room), style);
    end - row.x
}
