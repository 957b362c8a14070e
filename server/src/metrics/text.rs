//! Prometheus' text format.

use std::fmt::Write as _;

use super::kinds::{Counter, Histogram};

/// The page as it is written.
#[derive(Default)]
pub struct Text(String);

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    pub fn into_string(self) -> String {
        self.0
    }

    /// Before the series of a name.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn series(&mut self, name: &str, labels: Labels<'_>, value: impl Into<Value>) {
        self.0.push_str(name);
        self.labels(labels, None);
        let _ = writeln!(self.0, " {}", value.into().0);
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: impl Into<Value>) {
        self.family(name, "gauge", help);
        self.series(name, &[], value);
    }

    pub fn counter(&mut self, name: &str, help: &str, value: &Counter) {
        self.count(name, help, value.get());
    }

    pub fn count(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.series(name, &[], value);
    }

    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        self.distribution(name, &[], histogram);
    }

    /// The series of one histogram.
    pub fn distribution(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let (counts, sum) = histogram.read();
        let bounds = (0..histogram.grid.buckets).map(|bucket| histogram.grid.bound(bucket));
        let bounds: Vec<f64> = bounds.collect();
        self.buckets(name, labels, &bounds, &counts, sum);
    }

    /// `counts` has one number more than there are bounds, of what is above them all.
    pub fn buckets(
        &mut self,
        name: &str,
        labels: Labels<'_>,
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        let mut below = 0;
        for (place, count) in counts.iter().enumerate() {
            below += count;
            let bound = bounds.get(place).map_or("+Inf".to_owned(), f64::to_string);
            let _ = write!(self.0, "{name}_bucket");
            self.labels(labels, Some(&bound));
            let _ = writeln!(self.0, " {below}");
        }
        for (suffix, value) in [("sum", sum), ("count", below as f64)] {
            let _ = write!(self.0, "{name}_{suffix}");
            self.labels(labels, None);
            let _ = writeln!(self.0, " {value}");
        }
    }

    fn labels(&mut self, labels: Labels<'_>, bound: Option<&str>) {
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in all {
            let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(self.0, "{before}{name}=\"{value}\"");
            before = ',';
        }
        if before == ',' {
            self.0.push('}');
        }
    }
}

/// What a series can have.
pub struct Value(String);

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value(value.to_string())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value(value.to_string())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value(value.to_string())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value(value.to_string())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value(u8::from(value).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::kinds::Grid;

    #[test]
    fn histograms_are_cumulative_and_labels_escaped() {
        let mut text = Text::default();
        let histogram = Histogram::new(Grid::LEASE);
        [1, 2, 9].into_iter().for_each(|value| histogram.add(value));
        text.distribution("h", &[("op", "a\"b\\")], &histogram);
        let text = text.into_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 24 + 1 + 2);
        let first = r#"h_bucket{op="a\"b\\",le="1"} 1"#;
        assert_eq!(lines[..2], [first, r#"h_bucket{op="a\"b\\",le="2"} 2"#]);
        let last = [
            r#"h_bucket{op="a\"b\\",le="+Inf"} 3"#,
            r#"h_sum{op="a\"b\\"} 12"#,
            r#"h_count{op="a\"b\\"} 3"#,
        ];
        assert_eq!(lines[24..], last);
    }
}
