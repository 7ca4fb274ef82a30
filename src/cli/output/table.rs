//! Docker's tables.

use crate::image::format::printable;
use unicode_width::UnicodeWidthStr;

/// The least width of a column.
const MIN_WIDTH: usize = 10;
/// The least number of blanks between columns.
const PADDING: usize = 3;

/// A table with a header in capitals, columns flush left, as wide as their widest cell and three blanks. Wide characters
/// take two columns of the terminal, combining ones none (Docker counts all as one, and its lines are out of step then).
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|h| (*h).to_owned()).collect()] }
    }

    /// Adds a row, with a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.rows.push(cells.into_iter().map(|cell| printable(cell.as_ref())).collect());
    }

    /// The table as text. There are no blanks at the ends of lines.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.width()).max().unwrap_or(0);
            MIN_WIDTH.max(widest + PADDING)
        };
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let pad = |(cell, width): (&String, &usize)| format!("{cell}{:1$}", "", width.saturating_sub(cell.width()));
            let cells = row.iter().zip(&widths).map(pad);
            format!("{}\n", cells.collect::<String>().trim_end_matches(' '))
        };
        self.rows.iter().map(line).collect()
    }

    /// Prints it.
    pub fn print(&self) -> anyhow::Result<()> {
        super::print(&self.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_those_of_docker() {
        let mut table = Table::new(&["REPOSITORY", "TAG", "SIZE"]);
        table.row(["alpine", "3.20", "7.8MB"]);
        table.row(["a-rather-long-name", "\u{1b}[31m", ""]);
        table.row(["käse", "…", "1B"]);
        table.row(["日本", "e\u{301}", "2B"]);
        let expected = "REPOSITORY           TAG          SIZE\n\
                        alpine               3.20         7.8MB\n\
                        a-rather-long-name   \\u{1b}[31m\n\
                        käse                 …            1B\n\
                        日本                 e\u{301}            2B\n";
        assert_eq!(table.render(), expected);
        assert_eq!(Table::new(&["A", "B"]).render(), "A         B\n");
    }
}
