//! The help, over everything else.

use super::super::cursor::Cursor;
use super::super::keys::{HELP, MARKS};
use super::super::state::State;
use super::put;
use ratatui::buffer::Buffer;
use ratatui::layout::{Margin, Rect};
use ratatui::style::Style;
use ratatui::widgets::{Block, Clear, Widget};

/// Columns for the keys.
const KEYS: u16 = 18;

/// Lines of the help.
pub fn height() -> usize {
    HELP.len() + MARKS.len() + 1
}

/// Where it is on a screen.
pub fn area(screen: Rect) -> Rect {
    let (width, height) = (screen.width.min(78), screen.height.min(u16::try_from(height()).unwrap_or(u16::MAX) + 2));
    let (x, y) = (screen.x + (screen.width - width) / 2, screen.y + (screen.height - height) / 2);
    Rect { x, y, width, height }
}

pub fn draw(state: &State<'_>, cursor: &Cursor, buffer: &mut Buffer) {
    let area = area(buffer.area);
    Clear.render(area, buffer);
    Block::bordered().border_style(state.theme.frame(true)).title(" Keys ").render(area, buffer);
    let marks = MARKS.iter().map(|(letter, text)| (letter.to_string(), *text));
    let keys = HELP.iter().map(|(keys, text)| ((*keys).to_owned(), *text));
    let lines = keys.chain([(String::new(), "")]).chain(marks);
    for (row, (key, text)) in area.inner(Margin::new(1, 1)).rows().zip(lines.skip(cursor.top)) {
        let behind = put(buffer, row, 1, &key, state.theme.key());
        put(buffer, row, behind.max(KEYS) + 1, text, Style::new());
    }
}
