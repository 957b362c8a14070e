//! Answers as text: every field that is set, in one fixed form, the same on every run.
//!
//! What differs from run to run is replaced by a letter where it is what it should be: `C` the
//! cluster id, `M` the member id, `T` the raft term. Any other id or term is printed as it came.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::EncodedKeyValue;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, DowngradeResponse, HashKvResponse,
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse, Member, PutResponse, RangeResponse, ResponseHeader, ResponseOp,
    StatusResponse, TxnResponse, WatchResponse,
};
use proto::mvccpb::Event;
use proto::mvccpb::event::EventType;

/// Longer runs of one byte are printed as `x*1000`.
const RUN_MIN: usize = 32;

/// What the server under test calls itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids {
    pub cluster: u64,
    pub member: u64,
    pub term: u64,
}

/// Keys and values: bare if they are plain words, else quoted with escapes.
pub fn bytes(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-./".contains(b);
    if bytes.len() >= RUN_MIN && bytes.iter().all(|b| *b == bytes[0]) {
        return format!("{}*{}", bytes[..1].escape_ascii(), bytes.len());
    }
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    format!("\"{}\"", bytes.escape_ascii())
}

pub fn header(header: Option<&ResponseHeader>, ids: &Ids) -> String {
    let Some(header) = header else { return "no header".to_owned() };
    let mut parts = Vec::new();
    let mut id = |letter: &str, name: &str, value: u64, expected: u64| {
        if value != 0 && value == expected {
            parts.push(letter.to_owned());
        } else if value != 0 {
            parts.push(format!("{name}={value}"));
        }
    };
    id("C", "cluster_id", header.cluster_id, ids.cluster);
    id("M", "member_id", header.member_id, ids.member);
    id("T", "raft_term", header.raft_term, ids.term);
    if header.revision != 0 {
        parts.push(format!("rev={}", header.revision));
    }
    format!("{{{}}}", parts.join(" "))
}

pub fn key_value(encoded: &EncodedKeyValue) -> String {
    let Ok(kv) = encoded.parse() else { return format!("undecodable {:?}", encoded.as_bytes()) };
    let mut text = bytes(&kv.key);
    let numbers = [
        ("create", kv.create_revision),
        ("mod", kv.mod_revision),
        ("version", kv.version),
        ("lease", kv.lease),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
        let _ = write!(text, " {name}={number}");
    }
    if !kv.value.is_empty() {
        let _ = write!(text, " value={}", bytes(&kv.value));
    }
    text
}

pub fn event(event: &Event) -> String {
    let kind = match event.r#type() {
        EventType::Put if event.r#type == 0 => "put".to_owned(),
        EventType::Delete => "delete".to_owned(),
        EventType::Put => format!("type={}", event.r#type),
    };
    let kv = event.kv.as_ref().map_or_else(|| "no kv".to_owned(), key_value);
    let previous = event.prev_kv.as_ref().map(|kv| format!(" prev {{{}}}", key_value(kv)));
    format!("{kind} {kv}{}", previous.unwrap_or_default())
}

pub fn put(answer: &PutResponse, ids: &Ids) -> String {
    let mut text = format!("put {}", header(answer.header.as_ref(), ids));
    if let Some(kv) = &answer.prev_kv {
        let _ = write!(text, " prev {{{}}}", key_value(kv));
    }
    text
}

pub fn range(answer: &RangeResponse, ids: &Ids) -> String {
    let mut text = format!("range {}", header(answer.header.as_ref(), ids));
    let _ = write!(text, " count={}", answer.count);
    if answer.more {
        text.push_str(" more");
    }
    for kv in &answer.kvs {
        let _ = write!(text, "\n  {}", key_value(kv));
    }
    text
}

pub fn delete(answer: &DeleteRangeResponse, ids: &Ids) -> String {
    let mut text = format!("del {}", header(answer.header.as_ref(), ids));
    let _ = write!(text, " deleted={}", answer.deleted);
    for kv in &answer.prev_kvs {
        let _ = write!(text, "\n  prev {{{}}}", key_value(kv));
    }
    text
}

pub fn txn(answer: &TxnResponse, ids: &Ids) -> String {
    let branch = if answer.succeeded { "succeeded" } else { "failed" };
    let mut text = format!("txn {} {branch}", header(answer.header.as_ref(), ids));
    let texts: Vec<String> = answer.responses.iter().map(|op| operation(op, ids)).collect();
    // A hundred equal answers are one line.
    for same in texts.chunk_by(|one, next| one == next) {
        let times = if same.len() > 1 { format!(" (*{})", same.len()) } else { String::new() };
        let (first, rest) = same[0].split_once('\n').unwrap_or((&same[0], ""));
        let _ = write!(text, "\n  {first}{times}");
        for line in rest.lines() {
            let _ = write!(text, "\n  {line}");
        }
    }
    text
}

fn operation(op: &ResponseOp, ids: &Ids) -> String {
    match &op.response {
        None => "empty".to_owned(),
        Some(Response::ResponseRange(answer)) => range(answer, ids),
        Some(Response::ResponsePut(answer)) => put(answer, ids),
        Some(Response::ResponseDeleteRange(answer)) => delete(answer, ids),
        Some(Response::ResponseTxn(answer)) => txn(answer, ids),
    }
}

pub fn compact(answer: &CompactionResponse, ids: &Ids) -> String {
    format!("compact {}", header(answer.header.as_ref(), ids))
}

pub fn hash_kv(answer: &HashKvResponse, ids: &Ids) -> String {
    let header = header(answer.header.as_ref(), ids);
    let (hash, compacted, revision) = (answer.hash, answer.compact_revision, answer.hash_revision);
    format!("hashkv {header} hash={hash} compact_revision={compacted} hash_revision={revision}")
}

pub fn downgrade(answer: &DowngradeResponse, ids: &Ids) -> String {
    format!("downgrade {} version={}", header(answer.header.as_ref(), ids), answer.version)
}

/// etcd has them in no order.
pub fn alarm(answer: &AlarmResponse, ids: &Ids) -> String {
    let mut lines: Vec<String> = answer
        .alarms
        .iter()
        .map(|alarm| {
            let member = match alarm.member_id {
                own if own == ids.member => "M".to_owned(),
                other => other.to_string(),
            };
            format!("\n  {:?} of {member}", alarm.alarm())
        })
        .collect();
    lines.sort();
    format!("alarm {}{}", header(answer.header.as_ref(), ids), lines.concat())
}

/// An id that the server chose is another one on every run.
pub fn lease_grant(answer: &LeaseGrantResponse, chosen: bool, ids: &Ids) -> String {
    let id = match chosen && answer.id > 0 {
        true => "L".to_owned(),
        false => answer.id.to_string(),
    };
    let error = if answer.error.is_empty() { "" } else { " with an error" };
    format!("grant {} id={id} ttl={}{error}", header(answer.header.as_ref(), ids), answer.ttl)
}

pub fn lease_revoke(answer: &LeaseRevokeResponse, ids: &Ids) -> String {
    format!("revoke {}", header(answer.header.as_ref(), ids))
}

pub fn lease_keep_alive(answer: &LeaseKeepAliveResponse, ids: &Ids) -> String {
    let (id, ttl) = (answer.id, answer.ttl);
    format!("keepalive {} id={id} ttl={ttl}", header(answer.header.as_ref(), ids))
}

/// How much is left depends on how fast the machine is, up to an election timeout more than granted.
pub fn lease_time_to_live(answer: &LeaseTimeToLiveResponse, ids: &Ids) -> String {
    let granted = answer.granted_ttl;
    let left = match (granted - 5..=granted + 1).contains(&answer.ttl) && answer.ttl > 0 {
        true => "whole".to_owned(),
        false => answer.ttl.to_string(),
    };
    let header = header(answer.header.as_ref(), ids);
    let mut text = format!("ttl {header} id={} ttl={left} granted={granted}", answer.id);
    // etcd has them in no order.
    let mut keys: Vec<String> = answer.keys.iter().map(|key| bytes(key)).collect();
    keys.sort();
    if !keys.is_empty() {
        let _ = write!(text, " keys {}", keys.join(" "));
    }
    text
}

/// etcd has those in no order either that end at about the same time.
pub fn lease_leases(answer: &LeaseLeasesResponse, ids: &Ids) -> String {
    let mut leases: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
    leases.sort_unstable();
    let leases: Vec<String> = leases.iter().map(i64::to_string).collect();
    let text = format!("leases {} {}", header(answer.header.as_ref(), ids), leases.join(" "));
    text.trim_end().to_owned()
}

pub fn watch(answer: &WatchResponse, ids: &Ids) -> String {
    let mut text = format!("watch {} id={}", header(answer.header.as_ref(), ids), answer.watch_id);
    let flags =
        [("created", answer.created), ("canceled", answer.canceled), ("fragment", answer.fragment)];
    for (name, _) in flags.iter().filter(|(_, set)| *set) {
        let _ = write!(text, " {name}");
    }
    if answer.compact_revision != 0 {
        let _ = write!(text, " compact_revision={}", answer.compact_revision);
    }
    if !answer.cancel_reason.is_empty() {
        let _ = write!(text, " reason=\"{}\"", answer.cancel_reason);
    }
    for one in &answer.events {
        let _ = write!(text, "\n  {}", event(one));
    }
    text
}

/// Members by the names that a script gives them, because ids hold the time.
#[derive(Clone, Debug, Default)]
pub struct MemberNames {
    pub names: BTreeMap<u64, String>,
    /// The harness's own choice, of which only the number shows.
    pub own_peer_url: String,
}

/// The list of members in an answer, in the order of the script's names, as ids have a new order
/// on every run.
pub fn members(
    call: &str,
    answer: Option<&ResponseHeader>,
    members: &[Member],
    (ids, names): (&Ids, &MemberNames),
) -> String {
    let mut lines: Vec<String> = members.iter().map(|one| member(one, names)).collect();
    lines.sort();
    let mut text = format!("{call} {}", header(answer, ids));
    for line in lines {
        let _ = write!(text, "\n  {line}");
    }
    if !members.is_sorted_by_key(|member| member.id) {
        text.push_str("\n  not in the order of ids");
    }
    text
}

pub fn member(member: &Member, names: &MemberNames) -> String {
    let id = names.names.get(&member.id).cloned().unwrap_or_else(|| member.id.to_string());
    let peers = match member.peer_ur_ls.iter().all(|url| *url == names.own_peer_url) {
        true => member.peer_ur_ls.len().to_string(),
        false => member.peer_ur_ls.join(","),
    };
    let clients = member.client_ur_ls.len();
    let name = if member.name.is_empty() { "unnamed" } else { &member.name };
    let mut text = format!("{id} {name} peer_urls={peers} client_urls={clients}");
    if member.is_learner {
        text.push_str(" learner");
    }
    text
}

/// Sizes and indexes are this member's own, so only whether they are plausible shows.
pub fn status(answer: &StatusResponse, ids: &Ids) -> String {
    let header = header(answer.header.as_ref(), ids);
    let leader =
        if answer.leader == ids.member { "M".to_owned() } else { answer.leader.to_string() };
    let sizes = answer.db_size > 0 && (1..=answer.db_size).contains(&answer.db_size_in_use);
    let indexes = answer.raft_applied_index > 0 && answer.raft_applied_index <= answer.raft_index;
    let minor = answer.version.rsplit_once('.').map_or("", |(minor, _)| minor);
    let mut text = format!("status {header} leader={leader} version={minor}");
    let _ = write!(text, " sizes_ok={sizes} indexes_ok={indexes}");
    let _ = write!(text, " term_ok={}", answer.raft_term == ids.term);
    let own = ids.member.to_string();
    let mut errors: Vec<String> =
        answer.errors.iter().map(|error| error.replace(&own, "M")).collect();
    // etcd has them in no order.
    errors.sort();
    let _ = write!(text, " learner={} errors={errors:?}", answer.is_learner);
    let downgrade = answer.downgrade_info.clone().unwrap_or_default();
    if downgrade.enabled || !downgrade.target_version.is_empty() {
        let _ = write!(text, " downgrade={:?} {}", downgrade.target_version, downgrade.enabled);
    }
    text
}

pub fn error(status: &tonic::Status) -> String {
    format!("error {:?} \"{}\"", status.code(), status.message())
}
