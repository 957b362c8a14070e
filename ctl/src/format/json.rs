//! `json`: one line, as Go's `encoding/json` writes the structs of etcd's client.
//!
//! That is: proto field names, zero fields left out where Go's tags say so, numbers as numbers, bytes
//! in base64, `<`, `>`, `&` and the two line separators escaped. The structs mirror Go's.

use std::io::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use proto::EncodedKeyValue;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::response_op::Response;
use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

use crate::failure::{Exit, Failure, header};
use crate::format::{Answer, EndpointHash, EndpointStatus, Watched, parse};
use crate::go;

pub(super) fn render(answer: &Answer<'_>) -> Result<Vec<u8>, Failure> {
    match answer {
        Answer::Get(response) => encode(&Range::of(response)?),
        Answer::Put(response) => encode(&Put::of(response)?),
        Answer::Delete(response) => encode(&Delete::of(response)?),
        Answer::Txn(response) => encode(&Txn::of(response)?),
        Answer::Watch(watched) => encode(&Watch::of(watched)?),
        Answer::Health(list) => encode_list(list.iter().map(|health| Health {
            endpoint: &health.endpoint,
            health: health.healthy,
            took: go::format_duration(health.took),
            error: &health.error,
        })),
        Answer::Status(list) => encode_list(list.iter().map(EndpointStatusJson::of)),
        Answer::HashKv(list) => encode_list(list.iter().map(EndpointHashJson::of)),
    }
}

/// Go writes a list that nothing was appended to as `null`.
fn encode_list<T: Serialize>(list: impl Iterator<Item = T>) -> Result<Vec<u8>, Failure> {
    let list: Vec<T> = list.collect();
    if list.is_empty() { encode(&None::<T>) } else { encode(&list) }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, GoFormatter))
        .map_err(|error| Failure::new(Exit::Error, format!("cannot write json: {error}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Go escapes what could end a script or a line in HTML and JavaScript.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let special = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        for part in fragment.split_inclusive(special) {
            match part.char_indices().next_back() {
                Some((index, last)) if special.contains(&last) => {
                    writer.write_all(&part.as_bytes()[..index])?;
                    write!(writer, "\\u{:04x}", u32::from(last))?;
                }
                _ => CompactFormatter.write_string_fragment(writer, part)?,
            }
        }
        Ok(())
    }
}

/// Go's `omitempty`.
fn empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Base64Display::new(bytes, &STANDARD))
}

#[derive(Serialize)]
struct Header {
    #[serde(skip_serializing_if = "empty")]
    cluster_id: u64,
    #[serde(skip_serializing_if = "empty")]
    member_id: u64,
    #[serde(skip_serializing_if = "empty")]
    revision: i64,
    #[serde(skip_serializing_if = "empty")]
    raft_term: u64,
}

impl Header {
    fn of(header: &pb::ResponseHeader) -> Self {
        Self {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: header.revision,
            raft_term: header.raft_term,
        }
    }

    fn required(from: Option<&pb::ResponseHeader>) -> Result<Self, Failure> {
        header(from).map(Self::of)
    }
}

#[derive(Serialize)]
struct KeyValue {
    #[serde(skip_serializing_if = "<[u8]>::is_empty", serialize_with = "base64")]
    key: bytes::Bytes,
    #[serde(skip_serializing_if = "empty")]
    create_revision: i64,
    #[serde(skip_serializing_if = "empty")]
    mod_revision: i64,
    #[serde(skip_serializing_if = "empty")]
    version: i64,
    #[serde(skip_serializing_if = "<[u8]>::is_empty", serialize_with = "base64")]
    value: bytes::Bytes,
    #[serde(skip_serializing_if = "empty")]
    lease: i64,
}

impl KeyValue {
    fn of(kv: &EncodedKeyValue) -> Result<Self, Failure> {
        let kv = parse(kv)?;
        Ok(Self {
            key: kv.key,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: kv.value,
            lease: kv.lease,
        })
    }

    fn list(kvs: &[EncodedKeyValue]) -> Result<Vec<Self>, Failure> {
        kvs.iter().map(Self::of).collect()
    }

    fn optional(kv: Option<&EncodedKeyValue>) -> Result<Option<Self>, Failure> {
        kv.map(Self::of).transpose()
    }
}

#[derive(Serialize)]
struct Range {
    header: Header,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kvs: Vec<KeyValue>,
    #[serde(skip_serializing_if = "empty")]
    more: bool,
    #[serde(skip_serializing_if = "empty")]
    count: i64,
}

impl Range {
    fn of(from: &pb::RangeResponse) -> Result<Self, Failure> {
        Ok(Self {
            header: Header::required(from.header.as_ref())?,
            kvs: KeyValue::list(&from.kvs)?,
            more: from.more,
            count: from.count,
        })
    }
}

#[derive(Serialize)]
struct Put {
    header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<KeyValue>,
}

impl Put {
    fn of(from: &pb::PutResponse) -> Result<Self, Failure> {
        Ok(Self {
            header: Header::required(from.header.as_ref())?,
            prev_kv: KeyValue::optional(from.prev_kv.as_ref())?,
        })
    }
}

#[derive(Serialize)]
struct Delete {
    header: Header,
    #[serde(skip_serializing_if = "empty")]
    deleted: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<KeyValue>,
}

impl Delete {
    fn of(from: &pb::DeleteRangeResponse) -> Result<Self, Failure> {
        Ok(Self {
            header: Header::required(from.header.as_ref())?,
            deleted: from.deleted,
            prev_kvs: KeyValue::list(&from.prev_kvs)?,
        })
    }
}

#[derive(Serialize)]
struct Txn {
    header: Header,
    #[serde(skip_serializing_if = "empty")]
    succeeded: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<Operation>,
}

/// A oneof has no tag in Go: its name is the field's.
#[derive(Serialize)]
struct Operation {
    #[serde(rename = "Response")]
    response: Option<OperationResponse>,
}

#[derive(Serialize)]
enum OperationResponse {
    #[serde(rename = "response_range")]
    Range(Range),
    #[serde(rename = "response_put")]
    Put(Put),
    #[serde(rename = "response_delete_range")]
    Delete(Delete),
    #[serde(rename = "response_txn")]
    Txn(Txn),
}

impl Txn {
    fn of(from: &pb::TxnResponse) -> Result<Self, Failure> {
        let responses = from.responses.iter().map(|operation| {
            let response = operation.response.as_ref().map(OperationResponse::of).transpose()?;
            Ok(Operation { response })
        });
        Ok(Self {
            header: Header::required(from.header.as_ref())?,
            succeeded: from.succeeded,
            responses: responses.collect::<Result<_, Failure>>()?,
        })
    }
}

impl OperationResponse {
    fn of(from: &Response) -> Result<Self, Failure> {
        Ok(match from {
            Response::ResponseRange(range) => Self::Range(Range::of(range)?),
            Response::ResponsePut(put) => Self::Put(Put::of(put)?),
            Response::ResponseDeleteRange(delete) => Self::Delete(Delete::of(delete)?),
            Response::ResponseTxn(txn) => Self::Txn(Txn::of(txn)?),
        })
    }
}

/// A struct of Go's client, not of the wire: no tags, so the names are Go's and nothing is left out.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Watch {
    header: Header,
    events: Option<Vec<Event>>,
    compact_revision: i64,
    canceled: bool,
    created: bool,
}

#[derive(Serialize)]
struct Event {
    #[serde(skip_serializing_if = "empty")]
    r#type: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv: Option<KeyValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<KeyValue>,
}

impl Watch {
    fn of(from: &Watched) -> Result<Self, Failure> {
        let event = |event: &proto::mvccpb::Event| {
            Ok(Event {
                r#type: event.r#type,
                kv: KeyValue::optional(event.kv.as_ref())?,
                prev_kv: KeyValue::optional(event.prev_kv.as_ref())?,
            })
        };
        let events = from.events.as_ref().map(|events| events.iter().map(event).collect());
        Ok(Self {
            header: Header::of(&from.header),
            events: events.transpose()?,
            compact_revision: from.compact_revision,
            canceled: from.canceled,
            created: false,
        })
    }
}

#[derive(Serialize)]
struct Health<'a> {
    endpoint: &'a str,
    health: bool,
    took: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct EndpointStatusJson<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "Status")]
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    header: Header,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "empty")]
    db_size: i64,
    #[serde(skip_serializing_if = "empty")]
    leader: u64,
    #[serde(skip_serializing_if = "empty")]
    raft_index: u64,
    #[serde(skip_serializing_if = "empty")]
    raft_term: u64,
    #[serde(skip_serializing_if = "empty")]
    raft_applied_index: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
    #[serde(skip_serializing_if = "empty")]
    db_size_in_use: i64,
    #[serde(skip_serializing_if = "empty")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    storage_version: &'a str,
    #[serde(skip_serializing_if = "empty")]
    db_size_quota: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    downgrade_info: Option<DowngradeInfo<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DowngradeInfo<'a> {
    #[serde(skip_serializing_if = "empty")]
    enabled: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    target_version: &'a str,
}

impl<'a> EndpointStatusJson<'a> {
    fn of(of: &'a EndpointStatus) -> Self {
        let from = &of.status;
        let status = Status {
            header: Header::of(&of.header),
            version: &from.version,
            db_size: from.db_size,
            leader: from.leader,
            raft_index: from.raft_index,
            raft_term: from.raft_term,
            raft_applied_index: from.raft_applied_index,
            errors: &from.errors,
            db_size_in_use: from.db_size_in_use,
            is_learner: from.is_learner,
            storage_version: &from.storage_version,
            db_size_quota: from.db_size_quota,
            downgrade_info: from.downgrade_info.as_ref().map(|info| DowngradeInfo {
                enabled: info.enabled,
                target_version: &info.target_version,
            }),
        };
        Self { endpoint: &of.endpoint, status }
    }
}

#[derive(Serialize)]
struct EndpointHashJson<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "HashKV")]
    hash: Hash,
}

#[derive(Serialize)]
struct Hash {
    header: Header,
    #[serde(skip_serializing_if = "empty")]
    hash: u32,
    #[serde(skip_serializing_if = "empty")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "empty")]
    hash_revision: i64,
}

impl<'a> EndpointHashJson<'a> {
    fn of(of: &'a EndpointHash) -> Self {
        let hash = Hash {
            header: Header::of(&of.header),
            hash: of.hash.hash,
            compact_revision: of.hash.compact_revision,
            hash_revision: of.hash.hash_revision,
        };
        Self { endpoint: &of.endpoint, hash }
    }
}
