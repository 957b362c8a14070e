//! The text of an answer, as etcdutl 3.6 writes it.

use serde::Serialize;

use crate::failure::{Exit, Failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Fields,
    Json,
    Table,
}

impl Format {
    pub(crate) fn parse(name: &str) -> Result<Self, Failure> {
        let why = match name {
            "simple" => return Ok(Self::Simple),
            "fields" => return Ok(Self::Fields),
            "json" => return Ok(Self::Json),
            "table" => return Ok(Self::Table),
            "protobuf" => "protobuf not supported as output format".to_owned(),
            _ => format!("unsupported output format {name:?}"),
        };
        let message = format!("{why}; pass --write-out=simple, fields, json or table");
        Err(Failure::new(Exit::BadFeature, message))
    }

    pub(crate) fn render(self, answer: &impl Answer) -> String {
        let cells = answer.cells();
        match self {
            Self::Simple => {
                let cells: Vec<&str> = cells.iter().map(|(_, cell)| cell.as_str()).collect();
                cells.join(", ") + "\n"
            }
            Self::Table => table(&cells),
            Self::Fields => answer
                .fields()
                .iter()
                .map(|(name, value)| format!("\"{name}\" : {value}\n"))
                .collect(),
            Self::Json => {
                serde_json::to_string(answer).expect("numbers and texts are always JSON") + "\n"
            }
        }
    }
}

/// Something to print.
pub(crate) trait Answer: Serialize {
    /// Titles and values of the table's columns.
    fn cells(&self) -> Vec<(&'static str, String)>;
    fn fields(&self) -> Vec<(&'static str, String)>;
}

/// One row under its titles.
fn table(cells: &[(&str, String)]) -> String {
    let widths: Vec<usize> =
        cells.iter().map(|(title, cell)| title.len().max(cell.chars().count())).collect();
    let border: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let border = border + "+\n";
    let mut titles = String::new();
    let mut values = String::new();
    for ((title, cell), width) in cells.iter().zip(widths) {
        titles += &format!("| {title:^width$} ");
        values += &format!("| {cell:>width$} ");
    }
    format!("{border}{titles}|\n{border}{values}|\n{border}")
}

/// A size as etcdutl humanizes it: powers of 1000, one digit after the point below 10.
pub(crate) fn humanize_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    // Floating point as the original, so that rounding (999,950 is "1000 kB") agrees.
    let size = bytes as f64;
    let exponent = (size.ln() / 1000f64.ln()).floor();
    let value = (size / 1000f64.powf(exponent) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent as usize];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drawn_as_etcdutl_does() {
        let cells = [("HASH", "83fe273".to_owned()), ("REVISION", "10".to_owned())];
        assert_eq!(
            table(&cells),
            "\
+---------+----------+
|  HASH   | REVISION |
+---------+----------+
| 83fe273 |       10 |
+---------+----------+
"
        );
    }

    #[test]
    fn sizes_are_humanized_as_etcdutl_does() {
        let sizes = [0, 9, 10, 999, 1000, 20_480, 999_950].map(humanize_bytes);
        assert_eq!(sizes, ["0 B", "9 B", "10 B", "999 B", "1.0 kB", "20 kB", "1000 kB"]);
    }
}
