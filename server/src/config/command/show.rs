//! Every option with its value and where that came from.

use std::fmt::Write as _;

use serde_json::json;

use super::check::examine;
use super::{Output, Report};
use crate::config::options::{self, GROUPS, Kind, Opt, State};
use crate::config::settings::{Origin, Settings};
use crate::config::value;

const MASK: &str = "******";
/// A longer value pushes its own origin to the right, not everybody's.
const VALUE_WIDTH: usize = 48;

/// One option as it is.
struct Row<'a> {
    option: &'static Opt,
    /// Masked if it is a secret.
    value: String,
    /// None: the default.
    origin: Option<&'a Origin>,
}

pub(super) fn report(settings: &Settings, output: Output, given_only: bool) -> Report {
    let rows: Vec<Row<'_>> = options::all()
        .filter_map(|option| row(settings, option))
        .filter(|row| !given_only || row.origin.is_some())
        .collect();
    // What is shown may still not work: a start would say so, so this does, too.
    let findings = examine(settings).1;
    let mut stderr = String::new();
    for problem in &findings.problems {
        let _ = writeln!(stderr, "problem: {problem}");
    }
    let stdout = match output {
        Output::Text => table(&rows),
        Output::Json => as_json(&rows),
        Output::Yaml => as_yaml(&rows),
    };
    Report { stdout, stderr, code: u8::from(!findings.problems.is_empty()) }
}

/// What has no effect is of interest only if somebody gave it.
fn row<'a>(settings: &'a Settings, option: &'static Opt) -> Option<Row<'a>> {
    let given = settings.given(option.name);
    if given.is_none() && !matches!(option.state, State::Used) {
        return None;
    }
    let value = match given {
        Some(given) if option.secret && !given.text.is_empty() => MASK.into(),
        Some(given) => given.text.trim().to_owned(),
        None => default(settings, option),
    };
    Some(Row { option, value, origin: given.map(|given| &given.origin) })
}

/// Some defaults follow from other options.
fn default(settings: &Settings, option: &Opt) -> String {
    let name = settings.text("name");
    match option.name {
        "initial-cluster" => {
            let urls = value::list(settings.text("initial-advertise-peer-urls"));
            urls.map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
        }
        _ => option.default.replace("${name}", name),
    }
}

impl Row<'_> {
    fn origin(&self) -> String {
        match self.origin {
            None => "default".into(),
            Some(Origin::Flag(flag)) => format!("flag {flag}"),
            Some(Origin::Variable(name)) => format!("environment {name}"),
            Some(Origin::File { path, line, .. }) => format!("file {path}:{line}"),
        }
    }

    /// Why the value changes nothing, if so.
    fn remark(&self) -> Option<String> {
        // The default, spelled out, is what kvd does anyway.
        if value::same(self.option.kind, &self.value, self.option.default) {
            return None;
        }
        match self.option.state {
            State::Used => None,
            State::Accepted(why) => Some(format!("no effect: {why}")),
            State::Refused(what) => Some(format!("{what} is not supported")),
        }
    }
}

fn table(rows: &[Row<'_>]) -> String {
    let width = |width: usize, text: &str| width.max(text.chars().count());
    let names = rows.iter().fold(6, |max, row| width(max, row.option.name));
    let values = rows.iter().fold(5, |max, row| width(max, &row.value)).min(VALUE_WIDTH);
    let mut out = format!("{:names$}  {:values$}  ORIGIN\n", "OPTION", "VALUE");
    for row in rows {
        let remark = row.remark().map(|remark| format!(" ({remark})")).unwrap_or_default();
        let (name, value, origin) = (row.option.name, &row.value, row.origin());
        let _ = writeln!(out, "{name:names$}  {value:values$}  {origin}{remark}");
    }
    out
}

fn as_json(rows: &[Row<'_>]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (kind, place) = match row.origin {
                None => ("default", String::new()),
                Some(Origin::Flag(flag)) => ("flag", flag.clone()),
                Some(Origin::Variable(name)) => ("environment", name.clone()),
                Some(Origin::File { path, line, .. }) => ("file", format!("{path}:{line}")),
            };
            let effect = match row.option.state {
                State::Used => "used",
                State::Accepted(_) => "none",
                State::Refused(_) => "refused",
            };
            json!({
                "name": row.option.name,
                "value": row.value,
                "origin": kind,
                "place": place,
                "effect": effect,
                "remark": row.remark().unwrap_or_default(),
            })
        })
        .collect();
    format!("{:#}\n", json!({ "options": rows }))
}

/// A config file that says the same, with the origins as comments.
fn as_yaml(rows: &[Row<'_>]) -> String {
    let mut out = String::new();
    // One section's keys are next to each other, also where the table has them apart.
    let mut sections: Vec<&str> = Vec::new();
    for group in GROUPS {
        let of_group =
            rows.iter().filter(|row| group.options.iter().any(|o| o.name == row.option.name));
        let plain: Vec<&Row<'_>> = of_group.filter(|row| !row.option.key.contains('.')).collect();
        if plain.iter().any(|row| is_written(row)) {
            let _ = writeln!(out, "# {}", group.title);
        }
        for row in plain {
            write_key(row, row.option.key, 0, &mut out);
        }
    }
    for row in rows.iter().filter(|row| is_written(row)) {
        if let Some((section, _)) = row.option.key.rsplit_once('.')
            && !sections.contains(&section)
        {
            sections.push(section);
        }
    }
    sections.sort_unstable();
    let mut open: Vec<&str> = Vec::new();
    for section in sections {
        let path: Vec<&str> = section.split('.').collect();
        let common = open.iter().zip(&path).take_while(|(one, other)| one == other).count();
        for (depth, name) in path.iter().enumerate().skip(common) {
            let _ = writeln!(out, "{}{name}:", "  ".repeat(depth));
        }
        for row in rows {
            if let Some((_, key)) = row.option.key.rsplit_once('.').filter(|(s, _)| *s == section) {
                write_key(row, key, path.len(), &mut out);
            }
        }
        open = path;
    }
    out
}

/// A file cannot name another one, and what is empty needs no line.
fn is_written(row: &Row<'_>) -> bool {
    row.option.name != "config-file" && !row.value.is_empty()
}

fn write_key(row: &Row<'_>, key: &str, depth: usize, out: &mut String) {
    if !is_written(row) {
        return;
    }
    let indent = "  ".repeat(depth);
    // A mask in a file would be taken for the value.
    let hidden = if row.option.secret { "# " } else { "" };
    let remark = row.remark().map(|remark| format!(", {remark}")).unwrap_or_default();
    let value = match row.option.kind {
        Kind::Bool => value::boolean(&row.value).map_or(quoted(&row.value), |on| on.to_string()),
        Kind::Integer(..) => row.value.clone(),
        Kind::Bytes | Kind::Milliseconds if row.value.parse::<i64>().is_ok() => row.value.clone(),
        Kind::List => {
            let words: Vec<String> = value::list(&row.value).map(quoted).collect();
            format!("[{}]", words.join(", "))
        }
        _ => quoted(&row.value),
    };
    let _ = writeln!(out, "{indent}{hidden}{key}: {value}  # {}{remark}", row.origin());
}

/// What JSON quotes, YAML reads.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}
