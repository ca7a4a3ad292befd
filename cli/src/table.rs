//! Text tables for terminals, aligned by the width of the characters.

use crate::text::{display_width, replace_control_chars, truncate};

/// Maximum width of a cell in columns.
const CELL_COLUMNS_MAX: usize = 72;
/// Space between two columns.
const GAP: &str = "  ";

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alignment {
    Left,
    Right,
}

/// Table of text cells. Replaces control characters and truncates long cells.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Alignment)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table without rows.
    pub(crate) fn new(columns: &[(&str, Alignment)]) -> Self {
        let columns =
            columns.iter().map(|(title, alignment)| ((*title).to_owned(), *alignment)).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row. It must have one cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| truncate(&replace_control_chars(&cell), CELL_COLUMNS_MAX))
                .collect(),
        );
    }

    /// Formats the table. It is empty without titles and rows.
    pub(crate) fn render(&self) -> String {
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| title.clone()).collect();
        let has_titles = titles.iter().any(|title| !title.is_empty());
        let lines = has_titles.then_some(&titles).into_iter().chain(&self.rows);
        let mut widths = vec![0; self.columns.len()];
        for line in lines.clone() {
            for (column_width, cell) in widths.iter_mut().zip(line) {
                *column_width = display_width(cell).max(*column_width);
            }
        }
        let mut text = String::new();
        for line in lines {
            let mut written = String::new();
            for ((cell, (_, alignment)), column_width) in
                line.iter().zip(&self.columns).zip(&widths)
            {
                let padding = " ".repeat(column_width.saturating_sub(display_width(cell)));
                match alignment {
                    Alignment::Left => written += &format!("{cell}{padding}{GAP}"),
                    Alignment::Right => written += &format!("{padding}{cell}{GAP}"),
                }
            }
            text += written.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_display_width() {
        let mut table = Table::new(&[
            ("words", Alignment::Right),
            ("source", Alignment::Left),
            ("", Alignment::Left),
        ]);
        table.row(["7".into(), "図書館.txt".into(), "a".into()]);
        table.row(["1,000".into(), "e\u{301}.txt".into(), "b".into()]);
        table.row(["-".into(), "\u{1b}[2J\nx".into(), String::new()]);
        let expected = "words  source\n    7  図書館.txt  a\n1,000  e\u{301}.txt       b\n    -  \u{fffd}[2J\u{fffd}x\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn tables_without_titles_have_no_header() {
        let mut table = Table::new(&[("", Alignment::Left), ("", Alignment::Right)]);
        table.row(["a".into(), "1".into()]);
        table.row(["bb".into(), "10".into()]);
        assert_eq!(table.render(), "a    1\nbb  10\n");
        assert_eq!(Table::new(&[("", Alignment::Left)]).render(), "");
    }

    #[test]
    fn long_cells_are_truncated() {
        let mut table = Table::new(&[("", Alignment::Left)]);
        table.row(["x".repeat(10_000)]);
        assert_eq!(display_width(table.render().trim_end()), CELL_COLUMNS_MAX);
    }
}
