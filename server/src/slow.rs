//! Requests that take longer than the options allow, with etcd's words: one line of each kind a second at
//! most, as on a slow card there is one for every request. Values of keys are in none.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::etcdserverpb::RangeRequest;
use proto::internal::Command;
use proto::internal::command::Op;
use store::mvcc::Applied;

use crate::config::Config;
use crate::metrics::{self, METRICS};

/// What is applied, and ranges.
static APPLIES: Bound = Bound::new();
/// Calls with one message and one answer.
static CALLS: Bound = Bound::new();

const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a key that are logged.
const KEY_BYTES_MAX: usize = 128;

/// What takes longer is slow.
struct Bound {
    nanoseconds: AtomicU64,
    /// When there was a line last, and how many there might have been since.
    told: Mutex<(Option<Instant>, u64)>,
}

impl Bound {
    /// Nothing is slow.
    const fn new() -> Bound {
        Bound { nanoseconds: AtomicU64::new(u64::MAX), told: Mutex::new((None, 0)) }
    }

    fn set(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.store(nanoseconds, Relaxed);
    }

    fn duration(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Relaxed))
    }

    fn is_exceeded(&self, took: Duration) -> bool {
        took > self.duration()
    }

    /// Whether there is to be a line, and how many there were to be before and were not.
    fn turn(&self, now: Instant) -> Option<u64> {
        // A poisoned lock means a panic, and a panic aborts the process.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *told;
        if last.is_some_and(|last| now.saturating_duration_since(last) < LINE_INTERVAL) {
            *left_out += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(left_out))
    }
}

/// To be called before there are requests.
pub fn begin(config: &Config) {
    APPLIES.set(config.warning_apply_duration);
    CALLS.set(config.warning_unary_request_duration);
}

/// A command that was applied.
pub fn applied(command: &Command, applied: &Applied, took: Duration) {
    if APPLIES.is_exceeded(took) {
        let refusal = applied.outcome.as_ref().err().map(ToString::to_string);
        tell("", took, refusal, || command.op.as_ref().map(describe).unwrap_or_default());
    }
}

/// A range that was read.
pub fn ranged(range: &RangeRequest, refusal: Option<&tonic::Status>, took: Duration) {
    if APPLIES.is_exceeded(took) {
        let refusal = refusal.map(|status| status.message().to_owned());
        let request = || format!("range:<{}>", keys(&range.key, &range.range_end));
        tell("read-only range ", took, refusal, request);
    }
}

fn tell(prefix: &str, took: Duration, error: Option<String>, request: impl Fn() -> String) {
    METRICS.kv.slow_applies.add(1);
    let Some(left_out) = APPLIES.turn(Instant::now()) else { return };
    tracing::warn!(
        ?took,
        "expected-duration" = ?APPLIES.duration(),
        prefix,
        request = request(),
        error,
        left_out,
        "apply request took too long"
    );
}

/// A call that has its answer.
pub fn answered(path: &str, took: Duration) {
    if !CALLS.is_exceeded(took) {
        return;
    }
    let Some(left_out) = CALLS.turn(Instant::now()) else { return };
    tracing::warn!(
        "time spent" = ?took,
        "expected-duration" = ?CALLS.duration(),
        "response type" = path,
        left_out,
        "request stats"
    );
}

fn describe(op: &Op) -> String {
    match op {
        Op::Put(put) => format!("put:<key:{} value_size:{}>", key(&put.key), put.value.len()),
        Op::DeleteRange(range) => {
            format!("delete_range:<{}>", keys(&range.key, &range.range_end))
        }
        Op::Txn(txn) => format!(
            "txn:<compare:{} success:{} failure:{}>",
            txn.compare.len(),
            txn.success.len(),
            txn.failure.len()
        ),
        other => metrics::name_of(other).to_owned(),
    }
}

fn keys(first: &[u8], end: &[u8]) -> String {
    match end.is_empty() {
        true => format!("key:{}", key(first)),
        false => format!("key:{} range_end:{}", key(first), key(end)),
    }
}

fn key(key: &[u8]) -> String {
    let rest = if key.len() > KEY_BYTES_MAX { "..." } else { "" };
    format!("\"{}{rest}\"", key[..key.len().min(KEY_BYTES_MAX)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_second_says_how_many_there_were() {
        let bound = Bound::new();
        assert!(!bound.is_exceeded(Duration::from_secs(u64::MAX / 2_000_000_000)));
        bound.set(Duration::from_millis(1));
        assert!(bound.is_exceeded(Duration::from_micros(1001)));
        assert!(!bound.is_exceeded(Duration::from_millis(1)));
        let start = Instant::now();
        let at = |milliseconds| bound.turn(start + Duration::from_millis(milliseconds));
        let turns = [0, 1, 999, 1000, 1999, 2000, 3000].map(at);
        assert_eq!(turns, [Some(0), None, None, Some(2), None, Some(1), Some(0)]);
    }

    #[test]
    fn values_are_not_told() {
        let put = proto::etcdserverpb::PutRequest {
            key: b"a\n".as_slice().into(),
            value: b"secret".as_slice().into(),
            ..Default::default()
        };
        assert_eq!(describe(&Op::Put(put)), "put:<key:\"a\\n\" value_size:6>");
        assert_eq!(keys(b"a", b"b"), "key:\"a\" range_end:\"b\"");
        assert_eq!(key(&[b'k'; 1000]).len(), KEY_BYTES_MAX + 5);
    }
}
