//! Colours, from the sixteen that the terminal's user chose; none with `NO_COLOR` (no-color.org). What a colour says is
//! said by a letter as well.

use crate::provenance::Mark;
use ratatui::style::{Color, Modifier, Style};

/// Which styles there are.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    pub fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub fn mark(self, mark: Mark) -> Style {
        match mark {
            Mark::Added => self.colour(Color::Green),
            Mark::Changed => self.colour(Color::Yellow),
            Mark::Removed => self.colour(Color::Red),
            Mark::Inside | Mark::Same | Mark::Absent => Style::new(),
        }
    }

    /// Names of directories that are not changed.
    pub fn directory(self) -> Style {
        self.colour(Color::Blue).add_modifier(Modifier::BOLD)
    }

    /// What matters less.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The frame of a pane.
    pub fn frame(self, focus: bool) -> Style {
        if focus { self.colour(Color::Cyan).add_modifier(Modifier::BOLD) } else { self.dim() }
    }

    /// Keys in hints.
    pub fn key(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// The selected line; in a pane without the focus it stands back.
    pub fn selected(self, focus: bool) -> Style {
        // Over whatever the line has, so that it is one bar.
        let plain = Style::new().fg(Color::Reset).remove_modifier(Modifier::DIM);
        match focus {
            true => plain.add_modifier(Modifier::REVERSED),
            false if self.colours => plain.bg(Color::DarkGray).fg(Color::White),
            false => plain.add_modifier(Modifier::UNDERLINED),
        }
    }
}

/// The letter for what a layer does to a path, as in `laminafs diff`.
pub fn letter(mark: Mark) -> &'static str {
    match mark {
        Mark::Added => "A",
        Mark::Changed => "C",
        Mark::Removed => "D",
        Mark::Inside => "·",
        Mark::Same | Mark::Absent => " ",
    }
}
