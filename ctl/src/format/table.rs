//! `table`: ASCII borders, centred capital headers, cells to the right, wrapped at 30 columns.

use crate::failure::Failure;
use crate::format::{Answer, Format, Style, Subject, hash_cells, member_cells, status_cells};
use crate::go;

const WRAP_WIDTH: usize = 30;

pub(super) fn render(answer: &Answer<'_>) -> Result<Vec<u8>, Failure> {
    let (header, rows): (&[&str], Vec<Vec<String>>) = match answer {
        Answer::Health(list) => {
            let cells = list.iter().map(|health| {
                let took = go::format_duration(health.took);
                vec![
                    health.endpoint.clone(),
                    health.healthy.to_string(),
                    took,
                    health.error.clone(),
                ]
            });
            (&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], cells.collect())
        }
        Answer::Status(list) => (&STATUS_HEADER, list.iter().map(status_cells).collect()),
        Answer::HashKv(list) => {
            (&["ENDPOINT", "HASH", "HASH REVISION"], list.iter().map(hash_cells).collect())
        }
        Answer::Members(list) => (&MEMBER_HEADER, list.members.iter().map(member_cells).collect()),
        _ => {
            let style = Style { format: Format::Table, hex: false, value_only: false };
            return style.check(Subject::Keys).map(|()| Vec::new());
        }
    };
    Ok(draw(header, &rows).into_bytes())
}

const MEMBER_HEADER: [&str; 6] =
    ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];

const STATUS_HEADER: [&str; 16] = [
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];

fn draw(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Vec<String>>> =
        rows.iter().map(|row| row.iter().map(|cell| wrap(cell)).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|title| width(title)).collect();
    for row in &rows {
        for (column, lines) in widths.iter_mut().zip(row) {
            *column = lines.iter().map(|line| width(line)).max().unwrap_or(0).max(*column);
        }
    }

    let border = widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("+");
    let border = format!("+{border}+\n");
    let mut out = border.clone();
    let titles = header.iter().zip(&widths).map(|(title, w)| centred(title, *w));
    push_line(&mut out, titles);
    out.push_str(&border);
    for row in &rows {
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..height {
            let cells = row.iter().zip(&widths).map(|(lines, w)| {
                let line = lines.get(index).map_or("", String::as_str);
                " ".repeat(w - width(line)) + line
            });
            push_line(&mut out, cells);
        }
    }
    out + &border
}

fn push_line(out: &mut String, cells: impl Iterator<Item = String>) {
    for cell in cells {
        out.push_str("| ");
        out.push_str(&cell);
        out.push(' ');
    }
    out.push_str("|\n");
}

/// The odd blank goes to the right.
fn centred(title: &str, to: usize) -> String {
    let gap = to - width(title);
    " ".repeat(gap / 2) + title + &" ".repeat(gap - gap / 2)
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Breaks a cell at blanks so that its lines differ least from the width: the sum of the squared gaps
/// is minimal, the last line is free. A word longer than the width widens the cell.
fn wrap(cell: &str) -> Vec<String> {
    let words: Vec<&str> = cell.split([' ', '\n']).collect();
    let widest = words.iter().map(|word| width(word)).max().unwrap_or(0);
    let limit = width(cell).min(WRAP_WIDTH).max(widest);
    let length = |from: usize, to: usize| {
        words[from..to].iter().map(|word| width(word)).sum::<usize>() + (to - from - 1)
    };
    let count = words.len();
    // Best cost of the words from here on, and where their first line ends.
    let mut best = vec![(u64::MAX, count); count];
    for from in (0..count).rev() {
        if length(from, count) <= limit {
            best[from] = (0, count);
            continue;
        }
        for to in from + 1..count {
            let used = length(from, to);
            let too_long = if used > limit { 100_000 } else { 0 };
            let cost = (used.abs_diff(limit) as u64).pow(2) + too_long + best[to].0;
            if cost < best[from].0 {
                best[from] = (cost, to);
            }
        }
    }
    let mut lines = Vec::new();
    let mut from = 0;
    while from < count {
        let to = best[from].1;
        lines.push(words[from..to].join(" "));
        from = to;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_cells_wrap_evenly() {
        assert_eq!(wrap(""), [""]);
        assert_eq!(wrap("context deadline exceeded"), ["context deadline exceeded"]);
        assert_eq!(
            wrap("etcdserver: mvcc: database space exceeded now"),
            ["etcdserver: mvcc: database", "space exceeded now"]
        );
        let word = "a-single-word-that-is-longer-than-thirty-columns";
        assert_eq!(wrap(word), [word]);
    }

    #[test]
    fn a_table_is_drawn_as_etcdctl_does() {
        let rows = vec![vec!["127.0.0.1:2379".into(), "2720038981".into(), "3".into()]];
        assert_eq!(
            draw(&["ENDPOINT", "HASH", "HASH REVISION"], &rows),
            "\
+----------------+------------+---------------+
|    ENDPOINT    |    HASH    | HASH REVISION |
+----------------+------------+---------------+
| 127.0.0.1:2379 | 2720038981 |             3 |
+----------------+------------+---------------+
"
        );
        assert_eq!(draw(&["A"], &[]), "+---+\n| A |\n+---+\n+---+\n");
    }
}
