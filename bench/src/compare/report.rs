//! The result of a comparison as a Markdown table and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::rows::{Better, Floor, Unit};
use super::verdict::Verdict;
use crate::measure::Machine;
use crate::table::{Align, Table};

#[derive(Serialize)]
pub(crate) struct Server {
    pub(crate) path: String,
    /// As the running server says.
    pub(crate) version: String,
}

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) etcd: Server,
    pub(crate) kvd: Server,
    /// The turns of the servers within a row.
    pub(crate) order: String,
    pub(crate) quick: bool,
    pub(crate) members: usize,
    /// CPU that other processes took meanwhile: the more, the less the figures say.
    pub(crate) other_cores: f64,
    pub(crate) verdicts: Vec<Verdict>,
    /// Runs that could not be finished, and why.
    pub(crate) failures: Vec<String>,
}

impl Report {
    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data has a JSON form")
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = self.head();
        text.push_str(&self.table().markdown());
        let missed = |verdict: &&Verdict| verdict.floor_met == Some(false);
        let judged = self.verdicts.iter().filter(|verdict| verdict.floor_met.is_some()).count();
        let missed = self.verdicts.iter().filter(missed).count();
        let _ = writeln!(text, "\n{} of {judged} floors hold.", judged - missed);
        for failure in &self.failures {
            let _ = writeln!(text, "- not finished: {failure}");
        }
        text
    }

    fn head(&self) -> String {
        let Machine { cpu, cores, memory_mb, kernel, device, fdatasync_us, date } = &self.machine;
        let device = device.as_deref().unwrap_or("none");
        let quick = match self.quick {
            true => ", quick: a first look, with 100k keys where it says 1M",
            false => "",
        };
        let members = match self.members {
            1 => String::new(),
            members => format!(", {members} members each"),
        };
        format!(
            "kvd {} against etcd {}{members}, {date} UTC, turns {}{quick}\n\n\
             Machine: {cpu}, {cores} cores shared with the load generator, {memory_mb} MB, \
             Linux {kernel}; device {device}, fdatasync {fdatasync_us:.0} us; other processes used \
             {:.2} cores meanwhile\n\n\
             Command: `{}`\n\n",
            self.kvd.version, self.etcd.version, self.order, self.other_cores, self.command,
        )
    }

    fn table(&self) -> Table {
        use Align::{Left, Right};
        let mut table = Table::new(&[
            ("", Left),
            ("etcd", Right),
            ("kvd", Right),
            ("kvd / etcd", Right),
            ("floor", Right),
            ("", Left),
            ("budget", Right),
            ("", Left),
            ("spread", Right),
        ]);
        let mut row = None;
        for verdict in &self.verdicts {
            let metric = &verdict.metric;
            let indent = if row == Some(metric.row) { "- " } else { "" };
            row = Some(metric.row);
            let figure = |figure: Option<f64>| {
                figure.map_or_else(|| "n/a".into(), |figure| format_figure(figure, metric.unit))
            };
            let bound = if metric.better == Better::More { ">=" } else { "<=" };
            table.row([
                format!("{indent}{}", metric.label),
                figure(verdict.etcd_mean),
                figure(verdict.kvd_mean),
                verdict.ratio.map_or_else(|| "n/a".into(), |ratio| format!("{ratio:.2}x")),
                match metric.floor {
                    Some(Floor::Ratio(floor)) => format!("{bound} {floor:.1}x"),
                    Some(Floor::Value(floor)) => format!("{bound} {}", figure(Some(floor))),
                    None => String::new(),
                },
                judgement(metric.floor.is_some(), verdict.floor_met, "pass", "FAIL"),
                metric
                    .budget
                    .map_or_else(String::new, |budget| format!("{bound} {}", figure(Some(budget)))),
                judgement(metric.budget.is_some(), verdict.budget_met, "met", "not met"),
                verdict
                    .spread
                    .map_or_else(String::new, |spread| format!("{:.0} %", spread * 100.0)),
            ]);
        }
        table
    }
}

fn judgement(judged: bool, holds: Option<bool>, yes: &str, no: &str) -> String {
    match (judged, holds) {
        (true, Some(true)) => yes.into(),
        (true, Some(false)) => no.into(),
        (true, None) => "?".into(),
        (false, _) => String::new(),
    }
}

/// Three digits or so, and the unit.
fn format_figure(figure: f64, unit: Unit) -> String {
    let digits = |figure: f64| match figure.abs() {
        large if large >= 100.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    };
    match unit {
        Unit::PerSecond if figure >= 10_000.0 => format!("{} k/s", digits(figure / 1e3)),
        Unit::PerSecond => format!("{}/s", digits(figure)),
        Unit::Micros if figure >= 10_000.0 => format!("{} ms", digits(figure / 1e3)),
        Unit::Micros => format!("{} us", digits(figure)),
        Unit::Seconds => format!("{} s", digits(figure)),
        Unit::Bytes => format!("{} B", digits(figure)),
        Unit::Megabytes => format!("{} MB", digits(figure)),
        Unit::Count => digits(figure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_few_digits_and_a_unit() {
        let check = |figure, unit, wanted| assert_eq!(format_figure(figure, unit), wanted);
        check(45_678.0, Unit::PerSecond, "45.7 k/s");
        check(2987.4, Unit::PerSecond, "2987/s");
        check(13.26, Unit::Micros, "13.3 us");
        check(72_300.0, Unit::Micros, "72.3 ms");
        check(0.0123, Unit::Count, "0.01");
        check(28.64, Unit::Megabytes, "28.6 MB");
        check(1.234, Unit::Seconds, "1.23 s");
    }

    #[test]
    fn judgements() {
        assert_eq!(judgement(true, Some(true), "pass", "FAIL"), "pass");
        assert_eq!(judgement(true, None, "pass", "FAIL"), "?");
        assert_eq!(judgement(false, None, "pass", "FAIL"), "");
    }
}
