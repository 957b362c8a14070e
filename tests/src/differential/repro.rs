//! Steps in the language of the golden scripts, so that a difference can be kept as a script.

use std::fmt;

use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
};

use super::{Step, json};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(request) => f.write_str(&put(request)),
            Self::Range(request) => f.write_str(&range(request)),
            Self::Delete(request) => f.write_str(&delete(request)),
            Self::Txn(request) => f.write_str(&txn(request)),
            Self::Compact(request) => {
                let physical = if request.physical { " physical" } else { "" };
                write!(f, "compact {}{physical}", request.revision)
            }
            Self::HashKv(request) => write!(f, "hashkv {}", request.revision),
            Self::LeaseGrant(request) => write!(f, "lease grant {} {}", request.ttl, request.id),
            Self::LeaseRevoke(request) => write!(f, "lease revoke {}", request.id),
            Self::LeaseTimeToLive(request) => {
                write!(f, "lease ttl {}{}", request.id, if request.keys { " keys" } else { "" })
            }
            Self::LeaseLeases => f.write_str("lease list"),
            Self::LeaseKeepAlive { ids } => {
                let ids = ids.iter().map(|id| Some(id.to_string()));
                write!(f, "lease keep {}", join(ids))
            }
            Self::Line(line) => f.write_str(line),
            Self::Json(step) => match json::request(step) {
                Some((path, body)) => write!(f, "# POST {path} {body}"),
                None => write!(f, "# no request in JSON: {step}"),
            },
            Self::WatchCreate { stream, request } => {
                write!(f, "watch s{stream} create {}", watch(request))
            }
            Self::WatchCancel { stream, id } => write!(f, "watch s{stream} cancel {id}"),
            Self::WatchProgress { stream } => write!(f, "watch s{stream} fence"),
            Self::WatchClose { stream } => write!(f, "# stream s{stream} ends"),
        }
    }
}

/// A word of a script.
fn word(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-./".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let escaped: String = bytes.iter().map(|b| format!("\\x{b:02x}")).collect();
    format!("\"{escaped}\"")
}

/// The words that are there, in order.
fn join(words: impl IntoIterator<Item = Option<String>>) -> String {
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn option(name: &str, value: i64) -> Option<String> {
    (value != 0).then(|| format!("{name}={value}"))
}

fn flag(name: &str, set: bool) -> Option<String> {
    set.then(|| name.to_owned())
}

fn end(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| word(bytes))
}

fn put(request: &PutRequest) -> String {
    // Long values are all the same byte in scripts; here they are not, which rarely matters.
    let long = request.value.len() > 100;
    let value = if long { format!("fill={}", request.value.len()) } else { word(&request.value) };
    join([
        Some(format!("put {} {value}", word(&request.key))),
        option("lease", request.lease),
        flag("prev_kv", request.prev_kv),
        flag("ignore_value", request.ignore_value),
        flag("ignore_lease", request.ignore_lease),
    ])
}

fn range(request: &RangeRequest) -> String {
    join([
        Some(format!("range {}", word(&request.key))),
        end(&request.range_end),
        option("limit", request.limit),
        option("rev", request.revision),
        option("order", i64::from(request.sort_order)),
        option("target", i64::from(request.sort_target)),
        flag("serializable", request.serializable),
        flag("keys_only", request.keys_only),
        flag("count_only", request.count_only),
        option("min_mod", request.min_mod_revision),
        option("max_mod", request.max_mod_revision),
        option("min_create", request.min_create_revision),
        option("max_create", request.max_create_revision),
    ])
}

fn delete(request: &DeleteRangeRequest) -> String {
    join([
        Some(format!("del {}", word(&request.key))),
        end(&request.range_end),
        flag("prev_kv", request.prev_kv),
    ])
}

fn watch(request: &WatchCreateRequest) -> String {
    let filters = request.filters.iter().map(|filter| Some(format!("filter={filter}")));
    let words = [
        Some(word(&request.key)),
        end(&request.range_end),
        option("start", request.start_revision),
        option("id", request.watch_id),
        flag("progress", request.progress_notify),
        flag("prev_kv", request.prev_kv),
        flag("fragment", request.fragment),
    ];
    join(words.into_iter().chain(filters))
}

fn txn(request: &TxnRequest) -> String {
    let mut text = "txn".to_owned();
    for one in &request.compare {
        text.push_str(&format!(" (if {})", compare(one)));
    }
    for (name, branch) in [("then", &request.success), ("else", &request.failure)] {
        for op in branch {
            text.push_str(&format!(" ({name}{})", operation(op)));
        }
    }
    text
}

fn operation(op: &RequestOp) -> String {
    match &op.request {
        None => String::new(),
        Some(Request::RequestPut(request)) => format!(" {}", put(request)),
        Some(Request::RequestRange(request)) => format!(" {}", range(request)),
        Some(Request::RequestDeleteRange(request)) => format!(" {}", delete(request)),
        Some(Request::RequestTxn(request)) => format!(" {}", txn(request)),
    }
}

fn compare(compare: &Compare) -> String {
    let operand = match &compare.target_union {
        None => String::new(),
        Some(TargetUnion::Version(number)) => format!("version={number}"),
        Some(TargetUnion::CreateRevision(number)) => format!("create={number}"),
        Some(TargetUnion::ModRevision(number)) => format!("mod={number}"),
        Some(TargetUnion::Value(value)) => format!("value={}", word(value)),
        Some(TargetUnion::Lease(number)) => format!("lease={number}"),
    };
    join([
        Some(format!("{} {}", compare.target, word(&compare.key))),
        end(&compare.range_end),
        Some(format!("?{} {operand}", compare.result)),
    ])
}
