//! The list of layers, the lowest first as in `laminafs layers`.

use super::super::layout::Pane;
use super::super::state::{Focus, State};
use super::super::text::{cut, cut_front};
use super::{border, put};
use crate::cli::layers::made_by;
use crate::image::format::{printable, size3};
use crate::provenance::Number;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub fn draw(state: &State<'_>, pane: Pane, buffer: &mut Buffer) {
    border(state, pane, "Layers", Focus::Layers, buffer);
    let shown = state.layers.shown(state.merged.layers().len());
    for (row, line) in pane.inner.rows().zip(shown) {
        let Some(number) = Number::new(line + 1) else { return };
        layer(state, number, row, buffer);
        if line == state.layers.at {
            buffer.set_style(row, state.theme.selected(state.focus == Focus::Layers));
        }
    }
}

fn layer(state: &State<'_>, number: Number, row: Rect, buffer: &mut Buffer) {
    // Layers above the selected one are not in the view.
    let style = if state.number() < Some(number) { state.theme.dim() } else { ratatui::style::Style::new() };
    let size = size3(state.summaries[number.index()].counts.bytes);
    let digits = state.merged.layers().len().to_string().len();
    let x = put(buffer, row, 0, &format!("{number:>digits$} {size:>7}  "), style);
    let facts = &state.merged.layer(number).facts;
    let made_by = printable(&made_by(facts));
    let (what, room) = (short(&made_by), usize::from(row.width.saturating_sub(x)));
    let what = if facts.command.is_some() { cut(what, room) } else { cut_front(what, room) };
    put(buffer, row, x, &what, style);
}

/// A command without what builders put around it.
fn short(command: &str) -> &str {
    let command = command.strip_suffix(" # buildkit").unwrap_or(command);
    let prefixes = ["RUN /bin/sh -c ", "/bin/sh -c #(nop) ", "/bin/sh -c "];
    prefixes.iter().find_map(|prefix| command.strip_prefix(prefix)).unwrap_or(command).trim_start()
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn commands_begin_with_what_differs() {
        assert_eq!(short("RUN /bin/sh -c apt-get update # buildkit"), "apt-get update");
        assert_eq!(short("/bin/sh -c #(nop)  CMD [\"bash\"]"), "CMD [\"bash\"]");
        assert_eq!(short("COPY . /srv"), "COPY . /srv");
    }
}
