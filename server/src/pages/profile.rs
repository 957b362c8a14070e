//! `/debug/pprof/`: where the processor's time goes, in the format of Go's pprof, for `go tool pprof
//! http://host:2379/debug/pprof/profile?seconds=30` and what else reads it. Only if asked for.

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use pprof::{ProfilerGuardBuilder, Report};
use prost::Message;
use tonic::body::Body;

use super::{Answer, TEXT, error, page, ready};
use crate::body::RequestBody;

/// Samples in a second, as Go takes them.
const FREQUENCY: i32 = 100;
const SECONDS_DEFAULT: u64 = 30;
const SECONDS_MAX: u64 = 600;

/// A page below `/debug/pprof/`.
pub fn answer(name: &str, query: &str) -> Answer {
    match name {
        "" => ready(page(StatusCode::OK, TEXT, "profile?seconds=30\ncmdline\n".to_owned())),
        "cmdline" => {
            let words: Vec<String> = std::env::args().collect();
            ready(page(StatusCode::OK, TEXT, words.join("\0")))
        }
        "profile" => {
            let asked = query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
            let seconds = asked.map_or(Some(SECONDS_DEFAULT), |text| text.parse().ok());
            match seconds.filter(|seconds| (1..=SECONDS_MAX).contains(seconds)) {
                Some(seconds) => Box::pin(async move { Ok(profile(seconds).await) }),
                None => {
                    let text = format!("seconds must be a number from 1 to {SECONDS_MAX}\n");
                    ready(error(StatusCode::BAD_REQUEST, text))
                }
            }
        }
        _ => ready(super::not_found()),
    }
}

async fn profile(seconds: u64) -> http::Response<Body> {
    let failed = |why: &dyn std::fmt::Display| {
        error(StatusCode::INTERNAL_SERVER_ERROR, format!("no profile: {why}\n"))
    };
    // Where the libraries' locks are, a stack is better not walked.
    let guard = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(&["libc", "libgcc", "pthread", "vdso"])
        .build();
    let guard = match guard {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    // Finding the names of all functions takes a while.
    let encoded = tokio::task::spawn_blocking(move || {
        guard.report().build().map(|report| encode(&report, Duration::from_secs(seconds)))
    });
    match encoded.await {
        Ok(Ok(bytes)) => {
            let mut response =
                http::Response::new(Body::new(RequestBody::Whole(Some(bytes.into()))));
            let kind = http::HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

/// As pprof's own description of its format has it.
#[derive(Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Clone, Copy, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

/// Each string once; the first is empty, as the format wants it.
#[derive(Default)]
struct Strings {
    places: HashMap<String, i64>,
    all: Vec<String>,
}

impl Strings {
    fn place(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.all.len() as i64;
        self.all.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

fn encode(report: &Report, duration: Duration) -> Vec<u8> {
    let mut strings = Strings::default();
    strings.place("");
    let mut value =
        |kind: &str, unit: &str| ValueType { kind: strings.place(kind), unit: strings.place(unit) };
    let (samples, cpu) = (value("samples", "count"), value("cpu", "nanoseconds"));
    let period = 1_000_000_000 / i64::from(FREQUENCY);
    let mut profile = Profile {
        sample_type: vec![samples, cpu],
        duration_nanos: duration.as_nanos() as i64,
        period_type: Some(cpu),
        period,
        ..Profile::default()
    };
    // A function and its location have the same number: that of its name, behind those above.
    let mut known = HashMap::new();
    for (frames, count) in &report.data {
        let names = frames.frames.iter().flatten().map(|symbol| symbol.name());
        let thread = format!("[{}]", frames.thread_name_or_id());
        let mut location_id = Vec::new();
        for name in names.chain([thread]) {
            let name = strings.place(&name);
            let id = name as u64;
            if known.insert(id, ()).is_none() {
                profile.function.push(Function { id, name });
                profile.location.push(Location { id, line: vec![Line { function_id: id }] });
            }
            location_id.push(id);
        }
        let count = *count as i64;
        profile.sample.push(Sample { location_id, value: vec![count, count * period] });
    }
    profile.string_table = strings.all;
    profile.encode_to_vec()
}
