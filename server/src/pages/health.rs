//! `/health`, `/livez` and `/readyz`: what probes ask, in etcd's words.

use http::{StatusCode, Uri};
use proto::etcdserverpb::{AlarmType, RangeRequest};
use tonic::Code;
use tonic::body::Body;

use super::{Answer, TEXT, error, not_found, page, ready};
use crate::metrics::METRICS;
use crate::services::Services;

/// What can be wrong with a member, one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, services: &Services) -> Result<(), String> {
        match self {
            Check::DataCorruption if services.replica.store().active_alarms().corrupt => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Check::NonLearner if services.replica.standing().is_learner => {
                Err("not supported for learner".to_owned())
            }
            Check::DataCorruption | Check::NonLearner => Ok(()),
            Check::SerializableRead => read(services, true).await,
            Check::LinearizableRead => read(services, false).await,
        }
    }
}

/// Whether this is a page of this file.
pub fn is_checked(path: &str) -> bool {
    path == "/health" || checks(path).is_some()
}

/// The page and the checks behind a path.
fn checks(path: &str) -> Option<(&'static str, &'static [Check])> {
    let (kind, all, name) = if let Some(name) = path.strip_prefix("/livez") {
        ("livez", LIVEZ, name)
    } else {
        ("readyz", READYZ, path.strip_prefix("/readyz")?)
    };
    if name.is_empty() {
        return Some((kind, all));
    }
    let at = all.iter().position(|check| name.strip_prefix('/') == Some(check.name()))?;
    Some((kind, &all[at..=at]))
}

pub fn answer(services: &Services, uri: &Uri) -> Answer {
    let query: Vec<(String, String)> = parameters(uri.query().unwrap_or_default()).collect();
    let services = services.clone();
    if uri.path() == "/health" {
        return Box::pin(async move { Ok(health(&services, &query).await) });
    }
    let Some((kind, checks)) = checks(uri.path()) else { return ready(not_found()) };
    // The path of a single check is asked for that check.
    let all = uri.path()[1..] == *kind;
    let excluded = |check: &Check| {
        query.iter().any(|(name, value)| name == "exclude" && value == check.name())
    };
    let checks: Vec<Check> =
        checks.iter().copied().filter(|check| !all || !excluded(check)).collect();
    let verbose = query.iter().any(|(name, _)| name == "verbose");
    Box::pin(async move { Ok(run(&services, kind, &checks, verbose).await) })
}

async fn health(services: &Services, query: &[(String, String)]) -> http::Response<Body> {
    let first = query.iter().find(|(name, _)| name == "serializable");
    let serializable = first.is_some_and(|(_, value)| value == "true");
    let excluded = |alarm: &AlarmType| {
        query.iter().any(|(name, value)| name == "exclude" && value == alarm.as_str_name())
    };
    let alarms = services.replica.store().active_alarms();
    let alarms = [(AlarmType::Nospace, alarms.no_space), (AlarmType::Corrupt, alarms.corrupt)];
    let mut active = alarms.iter().filter(|(_, is_active)| *is_active).map(|(alarm, _)| alarm);
    let alarm = active.find(|alarm| !excluded(alarm));
    let reason = if let Some(alarm) = alarm {
        Some(format!("ALARM {}", alarm.as_str_name()))
    } else if !serializable && services.replica.standing().leader == 0 {
        Some("RAFT NO LEADER".to_owned())
    } else {
        read(services, serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
    };
    let healthy = reason.is_none();
    let reason = serde_json::json!(reason.unwrap_or_default());
    let body = format!(r#"{{"health":"{healthy}","reason":{reason}}}"#);
    if healthy {
        METRICS.health.success.add(1);
        return page(StatusCode::OK, TEXT, body);
    }
    METRICS.health.failures.add(1);
    tracing::warn!("/health: {body}");
    error(StatusCode::SERVICE_UNAVAILABLE, body + "\n")
}

async fn run(
    services: &Services,
    kind: &'static str,
    checks: &[Check],
    verbose: bool,
) -> http::Response<Body> {
    let mut report = String::new();
    let mut healthy = true;
    for check in checks {
        let result = check.run(services).await;
        METRICS.health.checked(kind, check.name(), result.is_ok());
        match result {
            Ok(()) => report.push_str(&format!("[+]{} ok\n", check.name())),
            Err(why) => {
                healthy = false;
                report.push_str(&format!("[-]{} failed: {why}\n", check.name()));
            }
        }
    }
    if !healthy {
        tracing::warn!("/{kind}: {}", report.trim_end().replace('\n', ", "));
        return error(StatusCode::SERVICE_UNAVAILABLE, report + "\n");
    }
    let mut response =
        page(StatusCode::OK, TEXT, (if verbose { report } else { String::new() }) + "ok\n");
    let nosniff = http::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// What a client would be told that reads a key.
async fn read(services: &Services, serializable: bool) -> Result<(), String> {
    if !serializable {
        let barrier = services.replica.read_barrier().await;
        barrier.map_err(|why| {
            let status = crate::api::status::unavailable(why);
            match status.code() {
                Code::DeadlineExceeded => "context deadline exceeded".to_owned(),
                _ => status.message().to_owned(),
            }
        })?;
    }
    let request =
        RangeRequest { keys_only: true, limit: 1, key: b"\0".to_vec(), ..Default::default() };
    let mut read = services
        .replica
        .store()
        .range(&request)
        .map_err(|refusal| crate::api::status::refused(refusal).message().to_owned())?;
    crate::api::run(|| read.step()).await.map(drop).map_err(|status| status.message().to_owned())
}

/// Names and values of a query, decoded.
fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (other, _) => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let pairs: Vec<_> = parameters("exclude=NO%53PACE&verbose&&a=b+c%2").collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs, [pair("exclude", "NOSPACE"), pair("verbose", ""), pair("a", "b c%2")]);
    }

    #[test]
    fn each_check_has_a_path() {
        assert_eq!(checks("/readyz").map(|(_, checks)| checks.len()), Some(4));
        assert_eq!(checks("/livez/serializable_read"), Some(("livez", LIVEZ)));
        assert_eq!(checks("/readyz/non_learner"), Some(("readyz", &[Check::NonLearner][..])));
        assert_eq!(checks("/livez/non_learner"), None);
        assert_eq!(checks("/livezz"), None);
    }
}
