//! Watchers of a prefix, each on a stream of its own. Events are counted, not decoded; the first
//! watcher also reads when the value it is told of was sent.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

use super::keys::prefix_end;
use super::{Request, Workload};
use crate::h2::Method;
use crate::load::Tally;

pub(super) const STAMP_BYTES: usize = 8;

/// Tags of `WatchResponse`.
const CREATED: u32 = 3;
const CANCELED: u32 = 4;
const EVENTS: u32 = 11;

/// What stamps count from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Writes the present over the front of `value`.
pub(super) fn stamp(value: &mut [u8]) {
    let nanos = u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX);
    value[..STAMP_BYTES].copy_from_slice(&nanos.to_be_bytes());
}

/// The time since a value was stamped; None when it never was.
fn age(value: &[u8]) -> Option<Duration> {
    let sent = Duration::from_nanos(u64::from_be_bytes(*value.first_chunk::<STAMP_BYTES>()?));
    EPOCH.elapsed().checked_sub(sent)
}

pub(crate) struct Watchers {
    message: Vec<u8>,
}

impl Watchers {
    pub(crate) fn new(prefix: &str) -> Self {
        let create = WatchCreateRequest {
            key: prefix.into(),
            range_end: prefix_end(prefix.as_bytes()),
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        Self { message: request.encode_to_vec() }
    }
}

impl Workload for Watchers {
    fn request(&mut self, _client: u32, message: &mut Vec<u8>) -> Request {
        message.extend_from_slice(&self.message);
        Request { method: Method::Watch, collects: true, reply_bytes_min: 1 }
    }

    fn reply(&mut self, client: u32, message: &[u8], tally: &mut Tally) {
        tally.bytes += message.len() as u64;
        match count(message) {
            Some(Seen { canceled: false, created, events }) => {
                tally.opened += u64::from(created);
                tally.operations += events;
            }
            Some(Seen { canceled: true, .. }) | None => tally.failed += 1,
        }
        if client == 0 {
            let response = WatchResponse::decode(message).unwrap_or_default();
            let kvs = response.events.iter().filter_map(|event| event.kv.as_ref()?.parse().ok());
            kvs.filter_map(|kv| age(&kv.value)).for_each(|age| tally.record(age));
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    created: bool,
    canceled: bool,
    events: u64,
}

/// Walks the fields of a `WatchResponse` without decoding what is in them.
fn count(mut message: &[u8]) -> Option<Seen> {
    let mut seen = Seen::default();
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message).ok()?;
        match (tag, wire_type) {
            (CREATED, WireType::Varint) => seen.created = decode_varint(&mut message).ok()? != 0,
            (CANCELED, WireType::Varint) => seen.canceled = decode_varint(&mut message).ok()? != 0,
            _ => {
                seen.events += u64::from(tag == EVENTS);
                skip_field(wire_type, tag, &mut message, DecodeContext::default()).ok()?;
            }
        }
    }
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::ResponseHeader;
    use proto::mvccpb::Event;
    use proto::{EncodedKeyValue, KeyValue};

    fn response(events: usize) -> WatchResponse {
        let header = ResponseHeader { revision: 300, ..ResponseHeader::default() };
        let kv = KeyValue { key: "k".into(), value: vec![b'v'; 300].into(), ..KeyValue::default() };
        let kv = Some(EncodedKeyValue::new(&kv));
        let event = Event { kv, ..Event::default() };
        WatchResponse {
            header: Some(header),
            watch_id: 7,
            events: vec![event; events],
            ..WatchResponse::default()
        }
    }

    #[test]
    fn events_are_counted_without_decoding() {
        for events in [0, 1, 5] {
            let seen = count(&response(events).encode_to_vec()).unwrap();
            assert_eq!(seen, Seen { events: events as u64, ..Seen::default() });
        }
        let created = WatchResponse { created: true, ..response(0) };
        assert!(count(&created.encode_to_vec()).unwrap().created);
        assert_eq!(count(&response(1).encode_to_vec()[..40]), None);
    }

    #[test]
    fn a_stamp_tells_an_age() {
        let mut value = [0xff; 16];
        assert_eq!(age(&value), None);
        stamp(&mut value);
        assert!(age(&value).unwrap() < Duration::from_secs(10));
    }
}
