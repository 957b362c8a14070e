//! Tables that are Markdown and line up as plain text, too.

use std::fmt::Write;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

pub(crate) struct Table {
    align: Vec<Align>,
    /// The first one is the head.
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[(&str, Align)]) -> Self {
        let align = head.iter().map(|(_, align)| *align).collect();
        Self { align, rows: vec![head.iter().map(|(name, _)| (*name).to_owned()).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.align.len(), "a row has a cell for each column");
        self.rows.push(cells.into());
    }

    pub(crate) fn markdown(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<_> = (0..self.align.len()).map(width).collect();
        let mut text = String::new();
        for (place, row) in self.rows.iter().enumerate() {
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.align) {
                let _ = match align {
                    Align::Left => write!(text, "| {cell:<width$} "),
                    Align::Right => write!(text, "| {cell:>width$} "),
                };
            }
            text.push_str("|\n");
            if place == 0 {
                for (width, align) in widths.iter().zip(&self.align) {
                    let colon = if *align == Align::Right { ":" } else { "-" };
                    let _ = write!(text, "|{}{colon}", "-".repeat(width + 1));
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(["a".into(), "12345".into()]);
        assert_eq!(table.markdown(), "| name |     n |\n|------|------:|\n| a    | 12345 |\n");
    }
}
