//! Between JSON and protobuf, by the descriptors.

use std::sync::{Arc, LazyLock};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use tonic::Status;

use super::boundary::Boundary;
use super::read_piece;
use crate::received::Received;

/// What goes in and what comes out of a call.
pub struct Call {
    pub request: MessageDescriptor,
    pub response: MessageDescriptor,
    pub takes_stream: bool,
    pub gives_stream: bool,
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(proto::DESCRIPTORS).expect("what the build compiled can be read")
});

const IN: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);
const OUT: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

/// The call of a path like `/etcdserverpb.KV/Range`.
pub fn call(path: &str) -> Option<Arc<Call>> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let service = POOL.get_service_by_name(service)?;
    let method = service.methods().find(|known| known.name() == method)?;
    Some(Arc::new(Call {
        request: method.input(),
        response: method.output(),
        takes_stream: method.is_client_streaming(),
        gives_stream: method.is_server_streaming(),
    }))
}

/// With the header that gRPC has before every message.
pub fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME_HEADER_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.extend_from_slice(message);
    frame.freeze()
}

const FRAME_HEADER_BYTES: usize = 5;

/// Takes the first message out of a response's bytes, if it is whole.
pub fn take_frame(bytes: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(bytes.get(1..FRAME_HEADER_BYTES)?.try_into().ok()?) as usize;
    if bytes.len() < FRAME_HEADER_BYTES + length {
        return None;
    }
    bytes.advance(FRAME_HEADER_BYTES);
    Some(bytes.split_to(length).freeze())
}

/// A message as JSON.
pub fn to_json(kind: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, Status> {
    let failed = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message = DynamicMessage::decode(kind.clone(), message).map_err(|e| failed(&e))?;
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    message.serialize_with_options(&mut serializer, &OUT).map_err(|e| failed(&e))?;
    Ok(json)
}

/// The JSON values of a request's body, one after the other.
pub struct Values<B = Incoming> {
    body: Received<B>,
    bytes: BytesMut,
    boundary: Boundary,
    bytes_max: usize,
    /// There may be more than one, with any time between them.
    is_stream: bool,
}

impl<B> Values<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    /// A message may take as much in JSON as base64 and escapes make of it.
    pub fn new(body: Received<B>, message_bytes_max: usize, is_stream: bool) -> Values<B> {
        let (bytes, boundary) = Default::default();
        Values { body, bytes, boundary, bytes_max: message_bytes_max * 2, is_stream }
    }

    /// The next one as protobuf; None at the end of the body.
    pub async fn next(&mut self, kind: &MessageDescriptor) -> Result<Option<Bytes>, Status> {
        loop {
            if self.boundary.is_whole(&self.bytes)
                && let Some((message, length)) = first(&self.bytes, kind)?
            {
                self.bytes.advance(length);
                self.body.message_ended(self.bytes.len());
                return Ok(Some(message));
            }
            if self.is_stream && self.boundary.is_before_value() {
                self.bytes = BytesMut::new();
                self.boundary = Boundary::default();
                self.body.message_ended(0);
            }
            if !read_piece(&mut self.body, &mut self.bytes, self.bytes_max).await? {
                let Some((message, _)) = first(&self.bytes, kind)? else { return Ok(None) };
                self.bytes.clear();
                self.body.message_ended(0);
                return Ok(Some(message));
            }
        }
    }
}

/// The first value and how many bytes it takes; None if nothing but blanks is there.
pub(super) fn first(
    bytes: &[u8],
    kind: &MessageDescriptor,
) -> Result<Option<(Bytes, usize)>, Status> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let wrong = |error: serde_json::Error| Status::invalid_argument(error.to_string());
    // Where it ends is found out by a look at it as plain JSON: a message is made of the value alone.
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Skipped>();
    values.next().transpose().map_err(wrong)?;
    let length = values.byte_offset();
    let mut json = serde_json::Deserializer::from_slice(&bytes[..length]);
    let message =
        DynamicMessage::deserialize_with_options(kind.clone(), &mut json, &IN).map_err(wrong)?;
    Ok(Some((message.encode_to_vec().into(), length)))
}

type Skipped = serde::de::IgnoredAny;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::body::RequestBody;

    /// A stream that began with this, whose messages have no time at all.
    async fn stream(sent: &'static str) -> (Values<RequestBody>, mpsc::Sender<Bytes>) {
        let (sender, pieces) = mpsc::channel(1);
        sender.send(sent.into()).await.unwrap();
        let body = Received::within(RequestBody::pieces(pieces), Duration::ZERO);
        (Values::new(body, 1 << 20, true), sender)
    }

    #[tokio::test]
    async fn a_stream_rests_between_its_values_and_not_within_them() {
        let kind = &call("/etcdserverpb.Lease/LeaseKeepAlive").unwrap().request;
        let (mut late, _begun) = stream(r#"{"ID":"1"} {"ID""#).await;
        let (mut resting, more) = stream("{\"ID\":\"1\"}\r\n").await;
        for values in [&mut late, &mut resting] {
            assert!(values.next(kind).await.unwrap().is_some());
        }
        tokio::select! {
            biased;
            ended = resting.next(kind) => panic!("it may rest: {ended:?}"),
            ended = late.next(kind) => {
                assert_eq!(ended.unwrap_err().code(), tonic::Code::DeadlineExceeded);
            }
        }
        more.send("\n{\"ID\":\"2\"}".into()).await.unwrap();
        assert!(resting.next(kind).await.unwrap().is_some());
        more.send("{".into()).await.unwrap();
        let ended = resting.next(kind).await.unwrap_err();
        assert_eq!(ended.code(), tonic::Code::DeadlineExceeded);
    }

    fn json_of(path: &str, json: &str) -> String {
        let call = call(path).unwrap();
        let (message, _) = first(json.as_bytes(), &call.request).unwrap().unwrap();
        String::from_utf8(to_json(&call.request, message).unwrap()).unwrap()
    }

    #[test]
    fn both_spellings_go_in_and_etcds_comes_out() {
        let range = "/etcdserverpb.KV/Range";
        let json = r#"{"key":"YQ","rangeEnd":"Yg==","limit":7,"sort_order":"DESCEND","nobody":1}"#;
        let want = r#"{"key":"YQ==","range_end":"Yg==","limit":"7","sort_order":"DESCEND"}"#;
        assert_eq!(json_of(range, json), want);
        assert_eq!(json_of("/etcdserverpb.Lease/LeaseGrant", r#"{"TTL":"5"}"#), r#"{"TTL":"5"}"#);
        assert_eq!(
            json_of(range, r#"{"sort_target":1,"limit":"0"}"#),
            r#"{"sort_target":"VERSION"}"#
        );
    }

    #[test]
    fn values_follow_each_other_in_any_pieces() {
        let kind = &call("/etcdserverpb.Watch/Watch").unwrap().request;
        let json = br#" {"progress_request":{}} {"cancel_request":{"watch_id":"3"}}"#;
        for cut in 0..json.len() {
            assert_eq!(Boundary::default().is_whole(&json[..cut]), cut >= 24, "{cut}");
        }
        let (_, length) = first(json, kind).unwrap().unwrap();
        let (second, _) = first(&json[length..], kind).unwrap().unwrap();
        let json = String::from_utf8(to_json(kind, second).unwrap()).unwrap();
        assert_eq!(json, r#"{"cancel_request":{"watch_id":"3"}}"#);
        for wrong in
            ["{", "[]", r#"{"progress_request":3}"#, "x", r#"{"cancel_request":{"watch_id":"y"}}"#]
        {
            assert!(first(wrong.as_bytes(), kind).is_err(), "{wrong}");
        }
        assert!(first(b" \n", kind).unwrap().is_none());
    }
}
