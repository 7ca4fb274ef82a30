//! Where the panes are, on screens of any size.

use super::state::Focus;
use ratatui::layout::{Margin, Rect};

/// A pane with its frame, and what is inside of it. One that is not on the screen is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pane {
    pub outer: Rect,
    pub inner: Rect,
}

impl Pane {
    fn new(outer: Rect, framed: bool) -> Self {
        Self { outer, inner: if framed { outer.inner(Margin::new(1, 1)) } else { outer } }
    }

    pub fn is_framed(&self) -> bool {
        self.outer != self.inner
    }
}

/// Where everything is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Panes {
    pub title: Rect,
    pub layers: Pane,
    pub tree: Pane,
    pub details: Pane,
    pub status: Rect,
}

/// The least screen with all panes side by side.
const WIDE: (u16, u16) = (60, 14);
/// The least screen with frames.
const FRAMED: (u16, u16) = (30, 8);

/// Divides the screen: all panes where there is room for them, else that with the focus.
pub fn panes(area: Rect, focus: Focus) -> Panes {
    let row = |y: u16, height: u16| Rect { y: area.y + y, height, ..area };
    let (title, status) = (u16::from(area.height > 3), u16::from(area.height > 1));
    let body = row(title, area.height - title - status);
    let mut panes = Panes { title: row(0, title), status: row(area.height - status, status), ..Panes::default() };
    if area.width < WIDE.0 || area.height < WIDE.1 {
        let pane = Pane::new(body, area.width >= FRAMED.0 && area.height >= FRAMED.1);
        match focus {
            Focus::Layers => panes.layers = pane,
            Focus::Tree => panes.tree = pane,
            Focus::Details => panes.details = pane,
        }
        return panes;
    }
    let below = (body.height / 3).clamp(5, 12);
    let left = (body.width * 2 / 5).clamp(24, 56);
    let top = Rect { height: body.height - below, ..body };
    panes.layers = Pane::new(Rect { width: left, ..top }, true);
    panes.tree = Pane::new(Rect { x: top.x + left, width: top.width - left, ..top }, true);
    panes.details = Pane::new(Rect { y: top.bottom(), height: below, ..body }, true);
    panes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_stay_on_the_screen_and_apart() {
        for width in 0..140 {
            for height in 0..50 {
                let area = Rect::new(0, 0, width, height);
                for focus in [Focus::Layers, Focus::Tree, Focus::Details] {
                    let panes = panes(area, focus);
                    let all = [panes.title, panes.layers.outer, panes.tree.outer, panes.details.outer, panes.status];
                    let taken: u32 = all.iter().map(|rect| rect.area()).sum();
                    assert_eq!(taken, area.area(), "{width}x{height}: {panes:?}");
                    for (at, rect) in all.iter().enumerate() {
                        assert_eq!(area.union(*rect), area);
                        assert!(all[at + 1..].iter().all(|other| rect.intersection(*other).is_empty()));
                    }
                }
            }
        }
    }

    #[test]
    fn an_ordinary_terminal_shows_all_panes_and_a_tiny_one_that_with_the_focus() {
        let ordinary = panes(Rect::new(0, 0, 80, 24), Focus::Tree);
        assert!(ordinary.layers.inner.width >= 24 && ordinary.tree.inner.width >= 40);
        let tiny = panes(Rect::new(0, 0, 20, 5), Focus::Details);
        assert_eq!(tiny.details.inner, Rect::new(0, 1, 20, 3));
        assert!(tiny.tree.outer.is_empty());
    }
}
