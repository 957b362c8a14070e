//! The meta row: the state beside the rows, as of one applied log entry. Written last at each
//! checkpoint, so that an engine is always the state its meta row describes, or rows too many.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::internal;

use super::rows;
use crate::LogId;
use crate::engine::OpenError;

const FORMAT: u32 = 3;

/// The small tables of an etcd snapshot, verbatim: bucket, key, value.
pub type Tables = BTreeMap<String, BTreeMap<Bytes, Bytes>>;

/// A member as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
    /// Which log it votes and acknowledges by; 0 until it says so.
    pub log: u64,
}

/// What index and leases must add up to once they are built. Unknown for a freshly loaded snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    pub live_bytes: u64,
    pub keys: u64,
    pub leases: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub applied: LogId,
    pub membership: Option<(LogId, internal::Membership)>,
    pub members: Vec<Member>,
    pub revision: i64,
    /// The compaction watermark; -1 before the first compaction.
    pub compacted: i64,
    /// The newest compaction whose removal is complete; -1 before the first.
    pub finished: i64,
    pub tables: Tables,
    pub counters: Option<Counters>,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            applied: LogId::default(),
            membership: None,
            members: Vec::new(),
            revision: 1,
            compacted: -1,
            finished: -1,
            tables: Tables::new(),
            counters: None,
        }
    }
}

impl Meta {
    /// The engine row: its key and its value.
    pub(super) fn to_row(&self) -> (Bytes, Bytes) {
        let row = MetaRow {
            format: FORMAT,
            applied: Some(log_id(self.applied)),
            membership_log: self.membership.as_ref().map(|(id, _)| log_id(*id)),
            membership: self.membership.as_ref().map(|(_, membership)| membership.clone()),
            members: self.members.iter().map(MemberRow::from).collect(),
            revision: self.revision,
            compacted: self.compacted,
            finished: self.finished,
            tables: self.tables.iter().flat_map(table_rows).collect(),
            live_bytes: self.counters.map(|counters| counters.live_bytes),
            keys: self.counters.map(|counters| counters.keys),
            leases: self.counters.map(|counters| counters.leases),
        };
        let sealed = rows::seal(rows::META_ROW, row.encode_to_vec());
        (Bytes::from_static(rows::META_ROW), sealed)
    }

    pub(super) fn from_row(row: &[u8]) -> Result<Self, OpenError> {
        let damaged = |what: &str| OpenError::Damaged(format!("the meta row {what}"));
        let body = rows::unseal(rows::META_ROW, row).map_err(|_| damaged("fails its checksum"))?;
        let row = MetaRow::decode(body).map_err(|_| damaged("is malformed"))?;
        if row.format != FORMAT {
            return Err(damaged("has a format this version does not know"));
        }
        let counters = row.live_bytes.zip(row.keys).zip(row.leases);
        let mut tables = Tables::new();
        for table_row in row.tables {
            let table = tables.entry(table_row.bucket).or_default();
            if table_row.present {
                table.insert(table_row.key, table_row.value);
            }
        }
        Ok(Self {
            applied: from_log_id(row.applied),
            membership: row.membership.map(|it| (from_log_id(row.membership_log), it)),
            members: row.members.into_iter().map(Member::from).collect(),
            revision: row.revision,
            compacted: row.compacted,
            finished: row.finished,
            tables,
            counters: counters.map(|((live_bytes, keys), leases)| Counters {
                live_bytes,
                keys,
                leases,
            }),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct MetaRow {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, optional, tag = "2")]
    applied: Option<internal::LogId>,
    #[prost(message, optional, tag = "3")]
    membership_log: Option<internal::LogId>,
    #[prost(message, optional, tag = "4")]
    membership: Option<internal::Membership>,
    #[prost(message, repeated, tag = "5")]
    members: Vec<MemberRow>,
    #[prost(int64, tag = "6")]
    revision: i64,
    #[prost(int64, tag = "7")]
    compacted: i64,
    #[prost(int64, tag = "8")]
    finished: i64,
    #[prost(message, repeated, tag = "9")]
    tables: Vec<TableRow>,
    #[prost(uint64, optional, tag = "10")]
    live_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    keys: Option<u64>,
    #[prost(uint64, optional, tag = "12")]
    leases: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct MemberRow {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    client_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    is_learner: bool,
    #[prost(uint64, tag = "6")]
    log: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TableRow {
    #[prost(string, tag = "1")]
    bucket: String,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    value: Bytes,
    /// False for the one entry that stands for an empty bucket.
    #[prost(bool, tag = "4")]
    present: bool,
}

fn table_rows((bucket, table): (&String, &BTreeMap<Bytes, Bytes>)) -> Vec<TableRow> {
    let row = |key: &Bytes, value: &Bytes, present| TableRow {
        bucket: bucket.clone(),
        key: key.clone(),
        value: value.clone(),
        present,
    };
    match table.is_empty() {
        true => vec![row(&Bytes::new(), &Bytes::new(), false)],
        false => table.iter().map(|(key, value)| row(key, value, true)).collect(),
    }
}

fn log_id(id: LogId) -> internal::LogId {
    internal::LogId { term: id.term, index: id.index }
}

fn from_log_id(id: Option<internal::LogId>) -> LogId {
    id.map_or(LogId::default(), |id| LogId { term: id.term, index: id.index })
}

impl From<&Member> for MemberRow {
    fn from(member: &Member) -> Self {
        let Member { id, name, peer_urls, client_urls, is_learner, log } = member.clone();
        Self { id, name, peer_urls, client_urls, is_learner, log }
    }
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Self {
        let MemberRow { id, name, peer_urls, client_urls, is_learner, log } = row;
        Self { id, name, peer_urls, client_urls, is_learner, log }
    }
}
