//! Every call as JSON over HTTP, as etcd's gateway has it: POST the request, get the response.
//!
//! ```text
//!  POST /v3/kv/range  {"key":"YQ=="}        routes.rs   which call of which service that is
//!          │ messages.rs: JSON -> protobuf, by the descriptors of the .proto files
//!          ▼
//!  /etcdserverpb.KV/Range                   the same services that gRPC reaches, and all their checks
//!          │ messages.rs: protobuf -> JSON
//!          ▼
//!  {"header":{..},"kvs":[..],"count":"1"}   reply.rs    one response, or a line for each of a stream
//! ```
//! No message is named here: a field that is added to a `.proto` file is there. JSON is what the
//! protobuf documentation says, with the names of the `.proto` files: 64-bit integers as strings, bytes
//! in base64, fields that have their default left out. The descriptors are read when they are used
//! first; who never asks pays nothing.
//!
//! Not there: WebSockets, which etcd's gateway also takes for streams.

mod boundary;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod messages;
mod reply;
mod routes;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use hyper::body::{Body, Incoming};
use tokio::sync::mpsc;
use tonic::Status;

use self::messages::{Call, Values, framed};
use crate::body::RequestBody;
use crate::budget::{self, Claim};
use crate::limits;
use crate::pages::Answer;
use crate::received::Received;
use crate::services::Services;

/// Marks what came this way, so that nobody is taken for the user whose certificate the connection
/// shows; as in etcd.
pub const GATEWAY_HEADER: HeaderName = HeaderName::from_static("grpcgateway-accept");

/// Requests of long ago, when the paths began otherwise.
pub fn rename_old_path<B>(request: &mut Request<B>) {
    let Some(rest) = request.uri().path().strip_prefix("/v3beta/") else { return };
    if let Ok(path) = format!("/v3/{rest}").parse::<PathAndQuery>() {
        *request.uri_mut() = Uri::from(path);
    }
}

/// Answers a request below `/v3/`.
pub fn answer(services: Services, request: Request<Incoming>) -> Answer {
    let found = routes::find(request.uri().path());
    let Some((path, call)) = found else {
        return refused(Status::not_found("Not Found"));
    };
    if request.method() != Method::POST {
        let mut response = reply::error(&Status::unimplemented("Method Not Allowed"));
        *response.status_mut() = http::StatusCode::NOT_IMPLEMENTED;
        return Box::pin(std::future::ready(Ok(response)));
    }
    Box::pin(async move {
        match call_service(services, path, call.clone(), request).await {
            Ok(response) => Ok(reply::translate(response, call).await),
            Err(status) => Ok(reply::error(&status)),
        }
    })
}

fn refused(status: Status) -> Answer {
    Box::pin(std::future::ready(Ok(reply::error(&status))))
}

async fn call_service(
    services: Services,
    path: &'static str,
    call: Arc<Call>,
    request: Request<Incoming>,
) -> Result<http::Response<tonic::body::Body>, Status> {
    let (parts, body) = request.into_parts();
    let body = Received::new(body);
    let mut values = Values::new(body, services.message_bytes_max, call.takes_stream);
    let body = if call.takes_stream {
        let (sender, pieces) = mpsc::channel(limits::GATEWAY_MESSAGES_AHEAD);
        tokio::spawn(pass_on(values, call, sender));
        RequestBody::pieces(pieces)
    } else {
        let message = values.next(&call.request).await?.unwrap_or_default();
        RequestBody::Whole(Some(framed(&message)))
    };
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    *request.headers_mut() = metadata(&parts.headers);
    match services.call(request).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

/// Hands the messages of a stream on as they come. One that makes no sense ends it, as in etcd.
async fn pass_on(mut values: Values, call: Arc<Call>, sender: mpsc::Sender<Bytes>) {
    loop {
        let message = match counted(values.next(&call.request).await) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(status) => return tracing::debug!("gateway: {}", status.message()),
        };
        if sender.send(message).await.is_err() {
            return;
        }
    }
}

/// A message that counts until its call takes it.
struct Counted {
    message: Bytes,
    _claim: Claim,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

fn counted(message: Result<Option<Bytes>, Status>) -> Result<Option<Bytes>, Status> {
    let Some(message) = message? else { return Ok(None) };
    let message = framed(&message);
    let mut claim = budget::REQUESTS.claim();
    claim.resize(message.len())?;
    Ok(Some(Bytes::from_owner(Counted { message, _claim: claim })))
}

/// What a call is told beside its message: the token, and what the client says with the gateway's own
/// prefix.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(TE, HeaderValue::from_static("trailers"));
    metadata.insert(GATEWAY_HEADER, HeaderValue::from_static("*/*"));
    if let Some(token) = headers.get(AUTHORIZATION) {
        metadata.insert(AUTHORIZATION, token.clone());
    }
    for (name, value) in headers {
        let name = name.as_str().strip_prefix("grpc-metadata-");
        if let Some(Ok(name)) = name.map(|name| HeaderName::from_bytes(name.as_bytes())) {
            metadata.insert(name, value.clone());
        }
    }
    metadata
}

/// Reads a body up to a limit, a piece at a time.
async fn read_piece<B>(
    body: &mut Received<B>,
    into: &mut BytesMut,
    max: usize,
) -> Result<bool, Status>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    let next = std::future::poll_fn(|cx| body.poll_frame(cx)).await;
    let Some(frame) = next else { return Ok(false) };
    let frame = frame?;
    if let Some(data) = frame.data_ref() {
        if into.len() + data.len() > max {
            let size = into.len() + data.len();
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({size} vs. {max})"
            )));
        }
        into.extend_from_slice(data);
    }
    Ok(true)
}
