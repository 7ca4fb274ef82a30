//! Text in columns of the terminal: wide characters take two, combining ones none.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of a text that takes at most `columns`, and what is left of it.
fn split(text: &str, columns: usize) -> (&str, &str) {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken > columns
    });
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

/// Cuts a text to at most `columns`, the last of them `…` when something was cut.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns == 0 {
        return String::new();
    }
    split(text, columns - 1).0.to_owned() + "…"
}

/// Cuts a path to at most `columns` where its end matters most: the first is `…` when something was cut.
pub fn cut_front(path: &str, columns: usize) -> String {
    if width(path) <= columns {
        return path.to_owned();
    }
    if columns == 0 {
        return String::new();
    }
    let mut left = width(path) + 1;
    let start = path.char_indices().find(|(_, c)| {
        let fits = left <= columns;
        left = left.saturating_sub(c.width().unwrap_or(0));
        // A combining character stays with the one before.
        fits && c.width() != Some(0)
    });
    "…".to_owned() + start.map_or("", |(at, _)| &path[at..])
}

/// Breaks a text into lines of at most `columns`, between words where it can be.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let (mut lines, mut rest) = (Vec::new(), text);
    while width(rest) > columns {
        let (fitting, _) = split(rest, columns);
        let word = fitting.rfind(' ').filter(|at| *at > fitting.len() / 2).map_or(fitting.len(), |at| at + 1);
        // A character wider than the line, or one that has no width: it goes by itself.
        let word = if word == 0 { rest.chars().next().map_or(rest.len(), char::len_utf8) } else { word };
        let (line, after) = rest.split_at(word);
        lines.push(line.trim_end().to_owned());
        rest = after.trim_start_matches(' ');
    }
    lines.push(rest.to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_text_keeps_to_its_columns() {
        assert_eq!(cut("README", 6), "README");
        assert_eq!(cut("README.md", 6), "READM…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut_front("/usr/share/doc", 20), "/usr/share/doc");
        assert_eq!(cut_front("/usr/share/doc", 8), "…are/doc");
        assert_eq!(cut_front("/日本語", 5), "…本語");
        assert_eq!(cut_front("/日本語", 4), "…語");
        assert_eq!(cut_front("ae\u{301}b", 2), "…b");
        assert_eq!(cut_front("abc", 0), "");
    }

    #[test]
    fn lines_break_between_words_where_they_can() {
        assert_eq!(wrap("RUN apt-get update", 11), ["RUN apt-get", "update"]);
        assert_eq!(wrap("0123456789", 4), ["0123", "4567", "89"]);
        assert_eq!(wrap("日本語", 3), ["日", "本", "語"]);
        assert_eq!(wrap("", 3), [""]);
        assert!(wrap("日本語 text e\u{301}", 0).iter().all(|line| width(line) <= 2));
    }
}
