//! Everything that would keep a start from working.

use std::fmt::Write as _;

use serde_json::json;

use super::{Output, Report, preflight};
use crate::config::settings::Settings;
use crate::config::{Config, Error, build};

/// What was found. Only problems keep a start from working.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Error>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

pub(super) fn report(settings: Settings, output: Output) -> Report {
    let (rest, mut findings) = examine(&settings);
    if let Some(Rest { settings, config, left_out }) = rest {
        let mut found = preflight::look(&settings, &config);
        found.problems.retain(|problem| !mentions_any(problem, &left_out));
        findings.problems.append(&mut found.problems);
        findings.warnings.append(&mut found.warnings);
    }
    let code = u8::from(!findings.problems.is_empty());
    let stdout = match output {
        Output::Json => as_json(&findings),
        _ => as_text(&findings),
    };
    Report { stdout, stderr: String::new(), code }
}

/// What is left of the settings without those that cannot be used.
pub(super) struct Rest {
    settings: Settings,
    config: Config,
    left_out: Vec<&'static str>,
}

/// Builds the configuration, again and again without what was wrong, until nothing is. None if that
/// does not end well: then the last problem says why.
pub(super) fn examine(settings: &Settings) -> (Option<Rest>, Findings) {
    let mut findings = Findings { problems: settings.problems.clone(), ..Findings::default() };
    let mut settings = settings.clone();
    let mut left_out: Vec<&'static str> = Vec::new();
    loop {
        let error = match build::build(settings.clone()) {
            Ok(config) => {
                findings.warnings.clone_from(&config.warnings);
                findings.notes.clone_from(&config.notes);
                return (Some(Rest { settings, config, left_out }), findings);
            }
            Err(error) => error,
        };
        let culprits = settings.culprits(&error);
        // What follows from an option that was left out is not a mistake of its own.
        if !mentions_any(&error, &left_out) {
            findings.problems.push(error);
        }
        if culprits.is_empty() {
            return (None, findings);
        }
        for name in culprits {
            settings.forget(name);
            left_out.push(name);
        }
    }
}

impl Settings {
    /// The given options that an error is about: the one at its place, else those that it names.
    fn culprits(&self, error: &Error) -> Vec<&'static str> {
        let at = self.all_given().find(|(_, given)| error.is_about(&given.origin.to_string()));
        match at {
            Some((name, _)) => vec![name],
            None => self
                .all_given()
                .map(|(name, _)| name)
                .filter(|name| mentions(&error.to_string(), name))
                .collect(),
        }
    }
}

fn mentions_any(error: &Error, names: &[&str]) -> bool {
    let text = error.to_string();
    names.iter().any(|name| mentions(&text, name))
}

/// Whether the text has `--name`, and not only as the beginning of a longer name.
fn mentions(text: &str, name: &str) -> bool {
    let flag = format!("--{name}");
    text.match_indices(&flag).any(|(at, _)| {
        let next = text[at + flag.len()..].chars().next();
        next.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-')
    })
}

fn as_text(findings: &Findings) -> String {
    let Findings { problems, warnings, notes } = findings;
    let mut out = String::new();
    for problem in problems {
        let _ = writeln!(out, "problem: {problem}");
    }
    for warning in warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    for note in notes {
        let _ = writeln!(out, "note: {note}");
    }
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let verdict = match problems.len() {
        0 => "a start would work".to_owned(),
        number => count(number, "problem"),
    };
    let _ = writeln!(out, "{verdict}, {}", count(warnings.len(), "warning"));
    out
}

fn as_json(findings: &Findings) -> String {
    let problems: Vec<_> = findings
        .problems
        .iter()
        .map(|error| json!({ "what": error.what, "why": error.why, "remedy": error.remedy }))
        .collect();
    let Findings { warnings, notes, .. } = findings;
    let ok = problems.is_empty();
    format!(
        "{:#}\n",
        json!({ "ok": ok, "problems": problems, "warnings": warnings, "notes": notes })
    )
}
