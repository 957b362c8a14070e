//! The output formats: an [`Answer`] becomes the exact bytes that etcdctl 3.6 prints for it.
//!
//! One format a file, each a pure function of the answer; `print.rs` writes the bytes. The unit tests
//! hold single answers; that whole sessions are byte-equal to etcdctl is checked by the `ctl` scripts
//! in `tests/`.
//!
//! Not every format can show every answer: `table` shows endpoints and the list of members,
//! `protobuf` everything but endpoints, `fields` no change of the cluster. etcdctl notices after the
//! call, [`Style::check`] before it, so that a `put -w table` that fails has not put anything. Exit
//! codes are the same.

mod auth;
mod fields;
mod json;
mod protobuf;
mod simple;
mod table;

use std::time::Duration;

pub(crate) use auth::AuthAnswer;

use proto::KeyValue;
use proto::etcdserverpb::{
    AlarmMember, AlarmResponse, AlarmType, DeleteRangeResponse, DowngradeResponse, HashKvResponse,
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse, Member, MemberAddResponse, MemberListResponse, MoveLeaderResponse,
    PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse,
};
use proto::mvccpb::Event;

use crate::failure::{Exit, Failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Format {
    pub(crate) fn parse(name: &str) -> Result<Self, Failure> {
        match name {
            "simple" => Ok(Self::Simple),
            "fields" => Ok(Self::Fields),
            "json" => Ok(Self::Json),
            "protobuf" => Ok(Self::Protobuf),
            "table" => Ok(Self::Table),
            _ => Err(Failure::new(
                Exit::BadFeature,
                format!(
                    "unsupported output format {name:?}; \
                     pass --write-out=simple, fields, json, protobuf or table"
                ),
            )),
        }
    }
}

/// What there is to print.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    Get(&'a RangeResponse),
    Put(&'a PutResponse),
    Delete(&'a DeleteRangeResponse),
    Txn(&'a TxnResponse),
    Watch(&'a Watched),
    LeaseGranted(&'a LeaseGrantResponse),
    LeaseRevoked(&'a LeaseRevoked),
    LeaseKept(&'a LeaseKeepAliveResponse),
    LeaseTime(&'a LeaseTime),
    Leases(&'a LeaseLeasesResponse),
    Health(&'a [Health]),
    Status(&'a [EndpointStatus]),
    HashKv(&'a [EndpointHash]),
    Members(&'a MemberListResponse),
    MemberAdded(&'a MemberAdded),
    MemberChanged(&'a MemberChanged),
    LeaderMoved(&'a LeaderMoved),
    Auth(&'a AuthAnswer),
    Alarms(&'a AlarmResponse),
    Downgraded(&'a Downgraded),
}

/// What a watcher hears at once. `events` is `None` only if the watch was refused.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) header: ResponseHeader,
    pub(crate) events: Option<Vec<Event>>,
    pub(crate) compact_revision: i64,
    pub(crate) canceled: bool,
}

/// The answer does not say which.
#[derive(Debug)]
pub(crate) struct LeaseRevoked {
    pub(crate) id: i64,
    pub(crate) response: LeaseRevokeResponse,
}

/// What is left of a lease, and whether its keys were asked for.
#[derive(Debug)]
pub(crate) struct LeaseTime {
    pub(crate) response: LeaseTimeToLiveResponse,
    pub(crate) keys: bool,
}

/// Whether an endpoint takes part in the cluster's work; `error` says why not.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) healthy: bool,
    pub(crate) took: Duration,
    pub(crate) error: String,
}

#[derive(Debug)]
pub(crate) struct EndpointStatus {
    pub(crate) endpoint: String,
    pub(crate) header: ResponseHeader,
    pub(crate) status: StatusResponse,
}

#[derive(Debug)]
pub(crate) struct EndpointHash {
    pub(crate) endpoint: String,
    pub(crate) header: ResponseHeader,
    pub(crate) hash: HashKvResponse,
}

/// A new member, with what was said of it that the server does not know.
#[derive(Debug)]
pub(crate) struct MemberAdded {
    pub(crate) name: String,
    pub(crate) peer_urls: String,
    pub(crate) response: MemberAddResponse,
}

/// A member that is no longer what it was. The answers to all changes are alike: header and members.
#[derive(Debug)]
pub(crate) struct MemberChanged {
    pub(crate) id: u64,
    /// What happened to it, up to the name of the cluster: "removed from".
    pub(crate) what: &'static str,
    pub(crate) members: MemberListResponse,
}

#[derive(Debug)]
pub(crate) struct LeaderMoved {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) response: MoveLeaderResponse,
}

/// A downgrade that was validated, enabled or canceled.
#[derive(Debug)]
pub(crate) struct Downgraded {
    pub(crate) what: &'static str,
    pub(crate) response: DowngradeResponse,
}

/// Which formats can show an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Keys,
    Lease,
    LeaseRevoked,
    Endpoints,
    Members,
    /// Users, and whether they count.
    Users,
    /// Something that happened to the cluster.
    Change,
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) format: Format,
    pub(crate) hex: bool,
    pub(crate) value_only: bool,
}

impl Style {
    /// Refuses a format that cannot show answers about `subject`.
    pub(crate) fn check(self, subject: Subject) -> Result<(), Failure> {
        let (name, instead) = match (self.format, subject) {
            (Format::Table, Subject::Keys) => ("table", "simple, fields, json or protobuf"),
            (Format::Table, Subject::Lease) => ("table", "simple, fields, json or protobuf"),
            (Format::Table, Subject::Users) => ("table", "simple, json or protobuf"),
            (Format::Fields, Subject::Users) => ("fields", "simple, json or protobuf"),
            (Format::Table, Subject::LeaseRevoked) => ("table", "simple, fields or json"),
            (Format::Protobuf, Subject::LeaseRevoked) => ("protobuf", "simple, fields or json"),
            (Format::Table, Subject::Change) => ("table", "simple, json or protobuf"),
            (Format::Fields, Subject::Change) => ("fields", "simple, json or protobuf"),
            (Format::Protobuf, Subject::Endpoints) => ("protobuf", "simple, fields, json or table"),
            _ => return Ok(()),
        };
        Err(Failure::new(
            Exit::BadFeature,
            format!("{name} not supported as output format of this command; pass -w {instead}"),
        ))
    }

    /// The bytes for stdout; for `simple` health, what goes to stderr is not among them.
    pub(crate) fn render(self, answer: &Answer<'_>) -> Result<Vec<u8>, Failure> {
        match self.format {
            Format::Simple => simple::render(self, answer),
            Format::Fields => fields::render(self.hex, answer),
            Format::Json => json::render(self.hex, answer),
            Format::Protobuf => protobuf::render(answer),
            Format::Table => table::render(answer),
        }
    }
}

/// Go's `%016x` of a signed number: the sign counts.
pub(crate) fn lease_id(id: i64) -> String {
    match id < 0 {
        true => format!("-{:015x}", id.unsigned_abs()),
        false => format!("{id:016x}"),
    }
}

/// The pair that an answer carries.
fn parse(kv: &proto::EncodedKeyValue) -> Result<KeyValue, Failure> {
    kv.parse().map_err(|error| {
        Failure::new(Exit::Error, format!("the server sent an unreadable key-value pair: {error}"))
    })
}

/// An alarm's name, as in the text form of its message.
fn alarm_name(alarm: &AlarmMember) -> String {
    match AlarmType::try_from(alarm.alarm) {
        Ok(kind) => kind.as_str_name().to_owned(),
        Err(_) => alarm.alarm.to_string(),
    }
}

/// Cells of a status line, in etcdctl's order.
fn status_cells(of: &EndpointStatus) -> Vec<String> {
    let status = &of.status;
    let percent_unused = match status.db_size {
        0 => 0,
        size => 100 - status.db_size_in_use.saturating_mul(100) / size,
    };
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    let size = |bytes: i64| crate::go::humanize_bytes(bytes.cast_unsigned());
    vec![
        of.endpoint.clone(),
        format!("{:x}", of.header.member_id),
        status.version.clone(),
        status.storage_version.clone(),
        size(status.db_size),
        size(status.db_size_in_use),
        format!("{percent_unused}%"),
        size(status.db_size_quota),
        (status.leader == of.header.member_id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

/// A member is started once it has told its name.
fn member_cells(of: &Member) -> Vec<String> {
    vec![
        format!("{:x}", of.id),
        if of.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
        of.name.clone(),
        of.peer_ur_ls.join(","),
        of.client_ur_ls.join(","),
        of.is_learner.to_string(),
    ]
}

fn hash_cells(of: &EndpointHash) -> Vec<String> {
    vec![of.endpoint.clone(), of.hash.hash.to_string(), of.hash.hash_revision.to_string()]
}

#[cfg(test)]
mod tests;
