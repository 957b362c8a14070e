//! `json`: one line, as Go's `encoding/json` writes the structs of etcd's client.
//!
//! That is: proto field names, zero fields left out where Go's tags say so, numbers as numbers, bytes
//! in base64, `<`, `>`, `&` and the two line separators escaped. The structs mirror Go's: those about
//! keys are here, those about endpoints and members in `cluster`.

mod auth;
mod cluster;
mod lease;
mod maintenance;

use std::io::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use proto::EncodedKeyValue;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::response_op::Response;
use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

use crate::failure::{Exit, Failure, header};
use crate::format::{Answer, Watched, parse};

/// `hex` means nothing here but for the list of members.
pub(super) fn render(hex: bool, answer: &Answer<'_>) -> Result<Vec<u8>, Failure> {
    match answer {
        Answer::Get(response) => encode(&Range::of(response)?),
        Answer::Put(response) => encode(&Put::of(response)?),
        Answer::Delete(response) => encode(&Delete::of(response)?),
        Answer::Txn(response) => encode(&Txn::of(response)?),
        Answer::Watch(watched) => encode(&Watch::of(watched)?),
        Answer::LeaseGranted(granted) => encode(&lease::Granted::of(granted)?),
        Answer::LeaseRevoked(revoked) => encode(&lease::Revoked::of(&revoked.response)?),
        Answer::LeaseKept(kept) => encode(&lease::Kept::of(kept)?),
        Answer::LeaseTime(time) => encode(&lease::Time::of(&time.response)?),
        Answer::Leases(list) => encode(&lease::Leases::of(list)?),
        Answer::Health(list) => encode_list(list.iter().map(cluster::Health::of)),
        Answer::Status(list) => encode_list(list.iter().map(cluster::EndpointStatus::of)),
        Answer::HashKv(list) => encode_list(list.iter().map(cluster::EndpointHash::of)),
        Answer::Members(list) if hex => cluster::members_in_hex(list),
        Answer::Members(list) => encode(&cluster::Members::of(list)?),
        Answer::MemberAdded(added) => encode(&cluster::MemberAdded::of(&added.response)?),
        Answer::MemberChanged(changed) => encode(&cluster::Members::of(&changed.members)?),
        Answer::Auth(answer) => encode(&auth::Auth::of(answer)?),
        Answer::LeaderMoved(moved) => encode(&cluster::LeaderMoved::of(&moved.response)),
        Answer::Alarms(list) => encode(&maintenance::Alarms::of(list)),
        Answer::Downgraded(done) => encode(&maintenance::Downgraded::of(&done.response)),
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
