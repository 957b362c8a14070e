//! kvd beside etcd: the same loads on fresh directories of the same file system, in turns.
//!
//! Within a row the servers take turns A B B A, so that a machine that slowly gets faster or slower
//! favours neither. Every figure is the mean of a server's turns, and the table says how far they
//! were apart: a ratio that differs from 1 by less than that says nothing. Rows that take long and
//! depend little on the machine's mood run each server once.
//!
//! The load generator shares the cores with the server, as a small machine's clients do not. It is
//! cheap (see `h2`), but throughput ratios are bounded by it; CPU per operation is not.
//!
//! # Caveats
//! - The device's counters see every process. Let nothing else run.
//! - Two short turns are few. Where a verdict is close, run the row again with `--only`.

mod cells;
mod cluster;
mod report;
mod rows;
mod verdict;

pub(crate) use report::Report;
pub(crate) use rows::Row;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use harness::Target;

use crate::cli;
use crate::measure::{Machine, Others};
use crate::print;
use cells::{Contender, Figures, Size};
use report::Server;
use rows::METRICS;
use verdict::Verdict;

/// One finished turn.
struct Turn {
    row: Row,
    target: Target,
    figures: Figures,
}

pub(crate) fn run(options: &cli::Compare) -> Result<Report> {
    for program in [&options.kvd, &options.etcd] {
        ensure!(program.is_file(), "no program at {}", program.display());
    }
    let dir = options.dir.canonicalize().with_context(|| options.dir.display().to_string())?;
    let contender = |target, program| Contender { target, program, parent: &dir };
    let etcd = contender(Target::Etcd, &options.etcd);
    let kvd = contender(Target::Kvd, &options.kvd);
    let server = |contender: &Contender<'_>| -> Result<Server> {
        let path = contender.program.display().to_string();
        Ok(Server { path, version: contender.version()? })
    };
    let mut report = Report {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: Machine::look(&dir)?,
        etcd: server(&etcd)?,
        kvd: server(&kvd)?,
        order: if options.quick { "A B".into() } else { "A B B A".into() },
        quick: options.quick,
        members: options.members,
        other_cores: 0.0,
        verdicts: Vec::new(),
        failures: Vec::new(),
    };
    let of_cluster = options.members > 1;
    let mut rows = options.only.clone();
    if rows.is_empty() {
        let all = Row::value_variants().iter().copied();
        rows = all.filter(|row| row.is_of_cluster() == of_cluster).collect();
    }
    if let Some(row) = rows.iter().find(|row| row.is_of_cluster() != of_cluster) {
        bail!("{} and --members {} do not go together", row_name(*row), options.members);
    }
    let size = if options.quick { Size::QUICK } else { Size::FULL };
    let others = Others::watch()?;
    let mut turns = Vec::new();
    for &row in &rows {
        for contender in order(row, options.quick).map(|a| if a { &etcd } else { &kvd }) {
            let name = format!("{} {}", row_name(row), contender.target.name());
            print::progress(&name);
            let figures = match options.members {
                1 => cells::run(row, contender, &size),
                members => cluster::run(row, contender, members, &size),
            };
            match figures {
                Ok(figures) => turns.push(Turn { row, target: contender.target, figures }),
                Err(error) => {
                    print::progress(&format!("{name}: {error:#}"));
                    report.failures.push(format!("{name}: {error:#}"));
                }
            }
        }
    }
    report.other_cores = others.cores()?;
    report.verdicts = verdicts(&rows, &turns, options.quick);
    Ok(report)
}

/// Whose turn it is: true is etcd's.
fn order(row: Row, quick: bool) -> impl Iterator<Item = bool> {
    let once = quick || matches!(row, Row::Keys | Row::Idle);
    [true, false, false, true].into_iter().take(if once { 2 } else { 4 })
}

fn verdicts(rows: &[Row], turns: &[Turn], quick: bool) -> Vec<Verdict> {
    let of_rows = METRICS.iter().filter(|metric| rows.contains(&metric.row));
    let judge = |metric: &rows::Metric| {
        let figures = |target| {
            let turns = turns.iter().filter(|turn| turn.row == metric.row && turn.target == target);
            let all = turns.flat_map(|turn| &turn.figures);
            all.filter(|(id, _)| *id == metric.id).map(|(_, figure)| *figure).collect()
        };
        let smaller = quick && metric.row == Row::Keys;
        let metric = if smaller { metric.unjudged() } else { *metric };
        Verdict::new(metric, figures(Target::Etcd), figures(Target::Kvd))
    };
    of_rows.map(judge).collect()
}

fn row_name(row: Row) -> String {
    row.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_joined_by_row_target_and_metric() {
        let turn = |row, target, figure| Turn { row, target, figures: vec![("rss", figure)] };
        let turns = [
            turn(Row::Idle, Target::Etcd, 28.0),
            turn(Row::Idle, Target::Kvd, 7.0),
            turn(Row::Keys, Target::Kvd, 200.0),
        ];
        let verdicts = verdicts(&[Row::Idle], &turns, true);
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].ratio, Some(0.25));
        assert_eq!(verdicts[0].floor_met, Some(true));
    }

    #[test]
    fn drift_favours_nobody() {
        let places = |etcd| order(Row::Range, false).enumerate().filter(move |turn| turn.1 == etcd);
        let sum = |etcd| places(etcd).map(|(place, _)| place).sum::<usize>();
        assert_eq!(sum(true), sum(false));
        assert_eq!(order(Row::Range, true).count(), 2);
    }
}
