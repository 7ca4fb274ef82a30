//! Three small layers, and a browser that is driven by keys.

use super::super::draw;
use super::super::keys;
use super::super::state::{Outcome, State};
use super::super::theme::Theme;
use super::super::worker::answer;
use crate::image::format::steers_terminal;
use crate::provenance::{Facts, LayerDirectory, Merged};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use unicode_width::UnicodeWidthStr;

/// Paths of the lowest layer and how long the files are; a directory has a slash at the end.
const BASE: &[(&[u8], usize)] = &[
    (b"etc/hosts", 100),
    (b"etc/passwd", 10),
    (b"usr/bin/tool", 1000),
    (b"usr/share/big", 5000),
    (b"usr/share/doc/README", 300),
    (b"odd/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 1),
    (b"odd/e\xcc\x81e\xcc\x81", 2),
    (b"odd/\x1b[31mred\x07", 3),
    (b"odd/not \xff text", 4),
    (b"odd/\xe2\x80\xaeturned", 5),
];
const MIDDLE: &[(&[u8], usize)] =
    &[(b"etc/passwd", 20), (b"etc/.wh.hosts", 0), (b"usr/share/.wh..wh..opq", 0), (b"usr/share/new", 700)];
const TOP: &[(&[u8], usize)] = &[(b"app/run", 50), (b"app/empty/", 0)];

/// The mode mask is the process's, and other tests clear it.
fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn fill(dir: &Path, entries: &[(&[u8], usize)]) {
    for (path, len) in entries {
        let place = dir.join(OsStr::from_bytes(path));
        let directory = if path.ends_with(b"/") { &place } else { place.parent().unwrap() };
        std::fs::create_dir_all(directory).unwrap();
        directory.ancestors().take_while(|above| *above != dir).for_each(|above| set_mode(above, 0o755));
        if !path.ends_with(b"/") {
            std::fs::write(&place, vec![b'x'; *len]).unwrap();
            set_mode(&place, 0o644);
        }
    }
}

/// Layers in a temporary directory.
pub struct Stack {
    _dir: tempfile::TempDir,
    merged: Merged,
}

impl std::ops::Deref for Stack {
    type Target = Merged;

    fn deref(&self) -> &Merged {
        &self.merged
    }
}

/// Reads layers of these entries, the lowest first.
pub fn merge(layers: &[&[(&[u8], usize)]]) -> Stack {
    let dir = tempfile::tempdir().unwrap();
    let mut directories = Vec::new();
    for (number, entries) in layers.iter().enumerate() {
        let path = dir.path().join(number.to_string());
        std::fs::create_dir(&path).unwrap();
        fill(&path, entries);
        let facts = Facts { command: Some(format!("RUN step {number}\u{1b}]0;title\u{7}")), ..Facts::default() };
        directories.push(LayerDirectory { facts, ..LayerDirectory::new(path) });
    }
    Stack { _dir: dir, merged: Merged::of_directories("a \u{1b}[5mstack", None, directories).unwrap() }
}

pub fn sample() -> Stack {
    merge(&[BASE, MIDDLE, TOP])
}

/// A browser on a screen.
pub struct Browser<'a> {
    pub state: State<'a>,
    pub size: (u16, u16),
}

impl<'a> Browser<'a> {
    pub fn new(merged: &'a Merged) -> Self {
        Self { state: State::new(merged, Theme::new(true)), size: (80, 24) }
    }

    /// Presses keys: characters as they are, others by name in angle brackets, as `<Down>` or `<C-c>`. What goes on without
    /// keys is waited for.
    pub fn press(&mut self, text: &str) -> Outcome {
        let (mut rest, mut outcome) = (text, Outcome::Continue);
        while let Some(c) = rest.chars().next() {
            let len = if c == '<' { rest.find('>').unwrap() + 1 } else { c.len_utf8() };
            let key = key(&rest[..len]);
            rest = &rest[len..];
            self.screen();
            if let Some(action) = keys::action(key, self.state.tree.filter.typing) {
                outcome = self.state.apply(action);
            }
        }
        while self.state.is_busy() {
            self.state.work();
        }
        outcome
    }

    /// The cells of the screen. Whatever is shown, nothing in them can steer a terminal.
    pub fn buffer(&mut self) -> Buffer {
        while let Some(request) = self.state.request() {
            self.state.take(answer(self.state.merged, request));
        }
        let mut terminal = Terminal::new(TestBackend::new(self.size.0, self.size.1)).unwrap();
        let drawn = terminal.draw(|frame| {
            let panes = self.state.arrange(frame.area());
            draw::frame(&self.state, &panes, frame);
        });
        let buffer = drawn.unwrap().buffer.clone();
        assert_eq!(buffer.area, Rect::new(0, 0, self.size.0, self.size.1));
        assert!(!buffer.content.iter().any(|cell| cell.symbol().contains(steers_terminal)));
        buffer
    }

    /// The lines of the screen.
    pub fn screen(&mut self) -> Vec<String> {
        let buffer = self.buffer();
        let line = |y: u16| {
            let (mut text, mut x) = (String::new(), 0);
            while x < self.size.0 {
                let symbol = buffer[(x, y)].symbol();
                text += symbol;
                x += u16::try_from(symbol.width().max(1)).unwrap();
            }
            text
        };
        (0..self.size.1).map(line).collect()
    }

    /// The lines of the tree: mark, name, indented by depth.
    pub fn tree(&mut self) -> Vec<String> {
        self.size = (200, 100);
        let lines = self.screen();
        let rows = lines[3..].iter().map(|line| line.chars().skip(57).collect::<String>());
        let rows = rows.take_while(|row| !row.starts_with('─'));
        let row = |row: String| {
            let name: String = row.chars().skip(16).collect();
            format!("{}{}", row.chars().next().unwrap(), name.trim_end_matches(['│', ' ']))
        };
        rows.map(row).filter(|row| !row.trim().is_empty()).collect()
    }
}

fn key(name: &str) -> KeyEvent {
    let (code, modifiers) = match name {
        "<Up>" => (KeyCode::Up, KeyModifiers::NONE),
        "<Down>" => (KeyCode::Down, KeyModifiers::NONE),
        "<Home>" => (KeyCode::Home, KeyModifiers::NONE),
        "<End>" => (KeyCode::End, KeyModifiers::NONE),
        "<PageDown>" => (KeyCode::PageDown, KeyModifiers::NONE),
        "<Enter>" => (KeyCode::Enter, KeyModifiers::NONE),
        "<Esc>" => (KeyCode::Esc, KeyModifiers::NONE),
        "<Tab>" => (KeyCode::Tab, KeyModifiers::NONE),
        "<BackTab>" => (KeyCode::BackTab, KeyModifiers::SHIFT),
        "<Backspace>" => (KeyCode::Backspace, KeyModifiers::NONE),
        "<C-c>" => (KeyCode::Char('c'), KeyModifiers::CONTROL),
        "<C-z>" => (KeyCode::Char('z'), KeyModifiers::CONTROL),
        other => (KeyCode::Char(other.chars().next().unwrap()), KeyModifiers::NONE),
    };
    KeyEvent::new(code, modifiers)
}
