//! Go's text forms, because etcdctl's answers are made of them.
//!
//! `fields` prints keys as `%q`, `took` is a `time.Duration`, sizes are humanized, flags are read by
//! `strconv` and `time.ParseDuration`, and typed lines are split and scanned as `fmt.Sscanf` does.
//! Each file here is one of these forms; they are plain functions over bytes and know nothing of etcd.

mod duration;
mod number;
mod quote;
mod size;

pub(crate) use duration::{format_duration, parse_duration};
pub(crate) use number::{parse_bool, parse_int, parse_uint};
pub(crate) use quote::{quote, scan_quoted};
pub(crate) use size::humanize_bytes;
