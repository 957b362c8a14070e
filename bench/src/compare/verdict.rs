//! Figures of both servers made into a ratio and judged.

use serde::Serialize;

use super::rows::{Better, Floor, Metric};

/// A metric of both servers, from all runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    #[serde(flatten)]
    pub(crate) metric: Metric,
    /// One figure for each run; none where a server has no such thing.
    pub(crate) etcd: Vec<f64>,
    pub(crate) kvd: Vec<f64>,
    pub(crate) etcd_mean: Option<f64>,
    pub(crate) kvd_mean: Option<f64>,
    /// kvd's mean to etcd's.
    pub(crate) ratio: Option<f64>,
    /// How far a server's runs are apart, as a part of their mean; the worse server's.
    pub(crate) spread: Option<f64>,
    pub(crate) floor_met: Option<bool>,
    pub(crate) budget_met: Option<bool>,
}

impl Verdict {
    pub(crate) fn new(metric: Metric, etcd: Vec<f64>, kvd: Vec<f64>) -> Self {
        let (etcd_mean, kvd_mean) = (mean(&etcd), mean(&kvd));
        let ratio = match (etcd_mean, kvd_mean) {
            (Some(etcd), Some(kvd)) if etcd > 0.0 => Some(kvd / etcd),
            _ => None,
        };
        let holds = |figure: f64, bound: f64| match metric.better {
            Better::More => figure >= bound,
            Better::Less => figure <= bound,
        };
        let floor_met = match metric.floor {
            Some(Floor::Ratio(bound)) => ratio.map(|ratio| holds(ratio, bound)),
            Some(Floor::Value(bound)) => kvd_mean.map(|kvd| holds(kvd, bound)),
            None => None,
        };
        let budget_met = metric.budget.zip(kvd_mean).map(|(bound, kvd)| holds(kvd, bound));
        let spread = [spread(&etcd), spread(&kvd)].into_iter().flatten().reduce(f64::max);
        Self { metric, etcd, kvd, etcd_mean, kvd_mean, ratio, spread, floor_met, budget_met }
    }
}

fn mean(figures: &[f64]) -> Option<f64> {
    let count = figures.len() as f64;
    (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / count)
}

fn spread(figures: &[f64]) -> Option<f64> {
    let mean = mean(figures).filter(|mean| figures.len() > 1 && *mean > 0.0)?;
    let least = figures.iter().copied().reduce(f64::min)?;
    let most = figures.iter().copied().reduce(f64::max)?;
    Some((most - least) / mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::rows::{METRICS, Row};

    fn metric(row: Row, id: &str) -> Metric {
        *METRICS.iter().find(|metric| metric.row == row && metric.id == id).unwrap()
    }

    #[test]
    fn more_is_better_for_a_rate() {
        let rate = metric(Row::Put100, "rate");
        let verdict = Verdict::new(rate, vec![20_000.0, 22_000.0], vec![40_000.0, 46_000.0]);
        assert_eq!(verdict.ratio.map(|ratio| (ratio * 1000.0).round()), Some(2048.0));
        assert_eq!((verdict.floor_met, verdict.budget_met), (Some(true), Some(false)));
        assert_eq!(verdict.spread.map(|spread| (spread * 100.0).round()), Some(14.0));
    }

    #[test]
    fn less_is_better_for_a_cost() {
        let cpu = metric(Row::Put100, "cpu");
        let verdict = Verdict::new(cpu, vec![50.0], vec![20.0]);
        assert_eq!((verdict.floor_met, verdict.budget_met), (Some(true), Some(true)));
        assert_eq!(verdict.spread, None);
        let verdict = Verdict::new(cpu, vec![50.0], vec![21.0]);
        assert_eq!((verdict.floor_met, verdict.budget_met), (Some(false), Some(false)));
    }

    #[test]
    fn a_floor_may_be_a_figure_of_kvd_alone() {
        let verdict = Verdict::new(metric(Row::Idle, "rss"), Vec::new(), vec![12.0]);
        assert_eq!(verdict.ratio, None);
        assert_eq!((verdict.floor_met, verdict.budget_met), (Some(true), Some(false)));
    }

    #[test]
    fn nothing_measured_is_nothing_judged() {
        let verdict = Verdict::new(metric(Row::Keys, "snapshot"), vec![1.5], Vec::new());
        assert_eq!((verdict.ratio, verdict.floor_met, verdict.budget_met), (None, None, None));
    }
}
