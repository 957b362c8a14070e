//! What a call answered, as HTTP says it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body as _, Frame};
use proto::MethodKind;
use tonic::body::Body;
use tonic::{Code, Status};

use super::messages::{Call, take_frame, to_json};
use crate::unsent::{self, Claimed};
use crate::{budget, limits};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The response of a service, translated. A stream's first message decides whether it begins.
pub async fn translate(response: Response<Body>, call: Arc<Call>) -> Response<Body> {
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
    {
        return if call.gives_stream { stream_error(&status) } else { error(&status) };
    }
    let mut lines =
        Lines { body: response.into_body(), call, bytes: BytesMut::new(), ended: false };
    let first = std::future::poll_fn(|cx| lines.poll_message(cx)).await;
    let gives_stream = lines.call.gives_stream;
    match first {
        Some(Ok(json)) if gives_stream => {
            let body = Body::new(Begun { first: Some(line("result", &json)), rest: lines });
            unsent::in_pieces(answer(StatusCode::OK, body), MethodKind::BidiStream)
        }
        Some(Ok(json)) => whole_answer(json),
        Some(Err(status)) if gives_stream => stream_error(&status),
        Some(Err(status)) => error(&status),
        None if gives_stream => answer(StatusCode::OK, Body::empty()),
        None => error(&Status::internal("the service did not answer")),
    }
}

/// What counts until it is sent, as the answers of calls do.
fn whole_answer(json: Vec<u8>) -> Response<Body> {
    let mut claim = budget::ANSWERS.claim();
    if json.len() > limits::ANSWER_PIECE_BYTES
        && let Err(exhausted) = unsent::grow(&mut claim, json.len())
    {
        return error(&exhausted.into());
    }
    let mut response = answer(StatusCode::OK, Body::new(whole(json)));
    response.extensions_mut().insert(Claimed::new(claim));
    unsent::in_pieces(response, MethodKind::Unary)
}

/// A failed call.
pub fn error(status: &Status) -> Response<Body> {
    answer(http_status(status.code()), Body::new(whole(error_json(status))))
}

/// A stream that failed before it began.
fn stream_error(status: &Status) -> Response<Body> {
    let line = line("error", &error_json(status));
    answer(http_status(status.code()), Body::new(whole(line.to_vec())))
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn error_json(status: &Status) -> Vec<u8> {
    let message = serde_json::json!(status.message());
    format!(r#"{{"code":{},"message":{message}}}"#, status.code() as i32).into_bytes()
}

/// `{"result":..}` and a line's end.
fn line(kind: &str, json: &[u8]) -> Bytes {
    [b"{\"", kind.as_bytes(), b"\":", json, b"}\n"].concat().into()
}

fn whole(bytes: Vec<u8>) -> crate::body::RequestBody {
    crate::body::RequestBody::Whole(Some(bytes.into()))
}

/// As grpc-gateway's table has it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).expect("three digits are a status"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The messages of a gRPC response.
struct Lines {
    body: Body,
    call: Arc<Call>,
    bytes: BytesMut,
    ended: bool,
}

impl Lines {
    /// The next message as JSON, or the error that ended the response.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, Status>>> {
        loop {
            if let Some(message) = take_frame(&mut self.bytes) {
                if self.bytes.is_empty() || message.len() > limits::ANSWER_PIECE_BYTES {
                    // What is left would keep all that was read.
                    self.bytes = BytesMut::from(&self.bytes[..]);
                }
                return Poll::Ready(Some(to_json(&self.call.response, message)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let failed = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => None,
                Some(Err(status)) => Some(status),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.bytes.extend_from_slice(&data);
                        continue;
                    }
                    Err(frame) => frame
                        .trailers_ref()
                        .and_then(Status::from_header_map)
                        .filter(|status| status.code() != Code::Ok),
                },
            };
            self.ended = true;
            return Poll::Ready(failed.map(Err));
        }
    }
}

/// A stream in JSON, a line for each message.
struct Begun {
    first: Option<Bytes>,
    rest: Lines,
}

impl hyper::body::Body for Begun {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let next = match this.first.take() {
            Some(first) => Some(first),
            None => ready!(this.rest.poll_message(cx)).map(|message| match message {
                Ok(json) => line("result", &json),
                Err(status) => line("error", &error_json(&status)),
            }),
        };
        Poll::Ready(next.map(|line| Ok(Frame::data(line))))
    }
}
