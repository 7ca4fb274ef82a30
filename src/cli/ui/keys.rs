//! Which key does what.

use super::cursor::Motion;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What keys ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Quit,
    Suspend,
    Redraw,
    Help,
    /// Leave what is on top: the help, the filter, the waste view.
    Back,
    NextPane,
    PreviousPane,
    Go(Motion),
    /// Show what is in a directory, or go into it.
    Open,
    /// Hide what is in a directory, or go to the one above.
    Close,
    /// A directory: open or close; a file: the layer that gives it.
    Enter,
    OpenAll,
    CloseAll,
    LayerAbove,
    LayerBelow,
    Provider,
    ToggleChanges,
    ToggleSort,
    ToggleWaste,
    StartFilter,
    Type(char),
    Erase,
    EraseAll,
}

/// The help: keys, and what they do.
pub const HELP: &[(&str, &str)] = &[
    ("↑ ↓  k j", "up, down"),
    ("PgUp PgDn  ^B ^F", "a page up, down"),
    ("^U ^D", "half a page up, down"),
    ("Home End  g G", "first, last"),
    ("Tab  Shift-Tab", "next, previous pane"),
    ("→ l", "open a directory, or go into it"),
    ("← h", "close it, or go to the one above"),
    ("Enter  Space", "open or close a directory; of a file: as p"),
    ("e", "open the directory and all in it"),
    ("c", "close all directories"),
    ("] [", "layer above, below"),
    ("p", "go to the layer that gives what is selected"),
    ("v", "all that is merged, or only what the layer changes"),
    ("s", "sort by size, or by name"),
    ("/", "show only names with a text in them; with a slash: paths"),
    ("Esc", "leave the filter, the waste view, this help"),
    ("w", "what nobody can see: by reason, and the largest"),
    ("^L", "draw the screen again"),
    ("^Z", "suspend"),
    ("q  ^C", "quit"),
];

/// The help: letters in front of names.
pub const MARKS: &[(char, &str)] = &[
    ('A', "added by the layer"),
    ('C', "changed by it"),
    ('D', "deleted by it"),
    ('·', "something in the directory is"),
];

/// Escape and a letter that the terminal sends at once, on a slow line or when they are pressed quickly, are read as that
/// letter with Alt, which stands for nothing here: the two keys.
pub fn apart(key: KeyEvent) -> impl Iterator<Item = KeyEvent> {
    let both = matches!(key.code, KeyCode::Char(_)) && key.modifiers.contains(KeyModifiers::ALT);
    let escape = both.then(|| KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
    escape.into_iter().chain([KeyEvent { modifiers: key.modifiers - KeyModifiers::ALT, ..key }])
}

/// What a key does, while a filter is being typed or not.
pub fn action(key: KeyEvent, typing: bool) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char(c) if control => with_control(c, typing),
        KeyCode::Char(c) if typing => Some(Action::Type(c)),
        KeyCode::Char(c) => letter(c),
        KeyCode::Backspace if typing => Some(Action::Erase),
        KeyCode::Left | KeyCode::Right if typing => None,
        KeyCode::Up => Some(Action::Go(Motion::Up)),
        KeyCode::Down => Some(Action::Go(Motion::Down)),
        KeyCode::PageUp => Some(Action::Go(Motion::PageUp)),
        KeyCode::PageDown => Some(Action::Go(Motion::PageDown)),
        KeyCode::Home => Some(Action::Go(Motion::Home)),
        KeyCode::End => Some(Action::Go(Motion::End)),
        KeyCode::Right => Some(Action::Open),
        KeyCode::Left | KeyCode::Backspace => Some(Action::Close),
        KeyCode::Enter => Some(Action::Enter),
        KeyCode::Tab => Some(Action::NextPane),
        KeyCode::BackTab => Some(Action::PreviousPane),
        KeyCode::Esc => Some(Action::Back),
        KeyCode::F(1) => Some(Action::Help),
        _ => None,
    }
}

fn with_control(c: char, typing: bool) -> Option<Action> {
    Some(match c {
        'c' => Action::Quit,
        'z' => Action::Suspend,
        'l' => Action::Redraw,
        // Backspace, as some terminals send it.
        'h' if typing => Action::Erase,
        'u' | 'w' if typing => Action::EraseAll,
        'b' => Action::Go(Motion::PageUp),
        'f' => Action::Go(Motion::PageDown),
        'u' => Action::Go(Motion::HalfUp),
        'd' => Action::Go(Motion::HalfDown),
        'p' => Action::Go(Motion::Up),
        'n' => Action::Go(Motion::Down),
        _ => return None,
    })
}

fn letter(c: char) -> Option<Action> {
    Some(match c {
        'q' => Action::Quit,
        '?' => Action::Help,
        'k' => Action::Go(Motion::Up),
        'j' => Action::Go(Motion::Down),
        'g' => Action::Go(Motion::Home),
        'G' => Action::Go(Motion::End),
        'l' => Action::Open,
        'h' => Action::Close,
        ' ' => Action::Enter,
        'e' => Action::OpenAll,
        'c' => Action::CloseAll,
        ']' => Action::LayerAbove,
        '[' => Action::LayerBelow,
        'p' => Action::Provider,
        'v' => Action::ToggleChanges,
        's' => Action::ToggleSort,
        'w' => Action::ToggleWaste,
        '/' => Action::StartFilter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, modifiers: KeyModifiers, typing: bool) -> Option<Action> {
        action(KeyEvent::new(code, modifiers), typing)
    }

    #[test]
    fn letters_are_commands_unless_a_filter_is_typed() {
        let letter = KeyCode::Char('q');
        assert_eq!(press(letter, KeyModifiers::NONE, false), Some(Action::Quit));
        assert_eq!(press(letter, KeyModifiers::NONE, true), Some(Action::Type('q')));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL, true), Some(Action::Quit));
        assert_eq!(press(KeyCode::Char('G'), KeyModifiers::SHIFT, false), Some(Action::Go(Motion::End)));
        assert_eq!(press(KeyCode::Char('u'), KeyModifiers::CONTROL, true), Some(Action::EraseAll));
        assert_eq!(press(KeyCode::Char('u'), KeyModifiers::CONTROL, false), Some(Action::Go(Motion::HalfUp)));
    }

    #[test]
    fn escape_and_a_letter_that_come_together_are_both() {
        let keys = |code, modifiers| apart(KeyEvent::new(code, modifiers)).map(|key| key.code).collect::<Vec<_>>();
        let letter = KeyCode::Char('x');
        assert_eq!(keys(letter, KeyModifiers::ALT), [KeyCode::Esc, letter]);
        assert_eq!(keys(letter, KeyModifiers::NONE), [letter]);
        assert_eq!(keys(KeyCode::Up, KeyModifiers::ALT), [KeyCode::Up]);
    }
}
