//! A selected line in a list, and the part of the list that is on the screen.

/// Where keys move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    Up,
    Down,
    PageUp,
    PageDown,
    HalfUp,
    HalfDown,
    Home,
    End,
}

/// The selected line, and the first one on the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    pub at: usize,
    pub top: usize,
    /// Lines on the screen, as of the last [`Cursor::fit`].
    height: usize,
}

impl Cursor {
    /// On a line.
    pub fn on(at: usize) -> Self {
        Self { at, ..Self::default() }
    }

    /// Moves the selection in a list of that length.
    pub fn go(&mut self, motion: Motion, len: usize) {
        let page = self.height.saturating_sub(1).max(1);
        let half = (self.height / 2).max(1);
        let to = match motion {
            Motion::Up => self.at.saturating_sub(1),
            Motion::Down => self.at.saturating_add(1),
            Motion::PageUp => self.at.saturating_sub(page),
            Motion::PageDown => self.at.saturating_add(page),
            Motion::HalfUp => self.at.saturating_sub(half),
            Motion::HalfDown => self.at.saturating_add(half),
            Motion::Home => 0,
            Motion::End => len,
        };
        self.at = to.min(len.saturating_sub(1));
    }

    /// Moves text without a selection.
    pub fn scroll(&mut self, motion: Motion, len: usize) {
        let last = len.saturating_sub(self.height);
        self.at = self.top;
        self.go(motion, last + 1);
        self.top = self.at;
    }

    /// Keeps the selection on a screen of that height, and in a list of that length.
    pub fn fit(&mut self, len: usize, height: usize) {
        self.height = height;
        self.at = self.at.min(len.saturating_sub(1));
        let lowest = (self.at + 1).saturating_sub(height);
        self.top = self.top.clamp(lowest, self.at.max(lowest)).min(len.saturating_sub(height).max(lowest));
    }

    /// Keeps text without a selection on a screen of that height.
    pub fn scroll_fit(&mut self, len: usize, height: usize) {
        self.height = height;
        self.top = self.top.min(len.saturating_sub(height));
    }

    /// The lines that are on the screen.
    pub fn shown(&self, len: usize) -> std::ops::Range<usize> {
        self.top.min(len)..(self.top + self.height).min(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_stays_on_the_screen() {
        let mut cursor = Cursor::default();
        for (motion, expected) in [
            (Motion::Up, (0, 0)),
            (Motion::Down, (1, 0)),
            (Motion::PageDown, (10, 1)),
            (Motion::PageDown, (19, 10)),
            (Motion::End, (99, 90)),
            (Motion::Down, (99, 90)),
            (Motion::Up, (98, 90)),
            (Motion::HalfUp, (93, 90)),
            (Motion::PageUp, (84, 84)),
            (Motion::HalfDown, (89, 84)),
            (Motion::Home, (0, 0)),
        ] {
            cursor.fit(100, 10);
            cursor.go(motion, 100);
            cursor.fit(100, 10);
            assert_eq!((cursor.at, cursor.top), expected, "{motion:?}");
        }
    }

    #[test]
    fn lists_and_screens_of_any_size() {
        let mut cursor = Cursor { at: 50, top: 45, height: 10 };
        cursor.fit(3, 10);
        assert_eq!((cursor.at, cursor.top, cursor.shown(3)), (2, 0, 0..3));
        cursor.fit(3, 0);
        assert_eq!(cursor.shown(3).len(), 0);
        cursor.fit(0, 10);
        cursor.go(Motion::Down, 0);
        assert_eq!((cursor.at, cursor.shown(0)), (0, 0..0));
    }

    #[test]
    fn text_scrolls_to_its_end_and_no_further() {
        let mut cursor = Cursor::default();
        cursor.fit(1, 4);
        let mut tops = Vec::new();
        for motion in [Motion::Down, Motion::PageDown, Motion::PageDown, Motion::Up, Motion::Home, Motion::End] {
            cursor.scroll(motion, 10);
            tops.push(cursor.top);
        }
        assert_eq!(tops, [1, 4, 6, 5, 0, 6]);
    }
}
