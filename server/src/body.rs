//! The body of a request to a service: from a connection, or made by the JSON gateway.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::Status;

use crate::budget::{self, Claim};
use crate::limits;
use crate::metrics::{Messages, Method};
use crate::received::Received;

/// One type for both, so that all services are built once.
pub enum RequestBody {
    Incoming(Received),
    /// One piece.
    Whole(Option<Bytes>),
    /// Messages as they come, and what is claimed for the buffer they are read into.
    Pieces(mpsc::Receiver<Bytes>, Claim),
    /// A stream whose messages are counted.
    Counted(Box<(RequestBody, Method, Messages)>),
}

impl RequestBody {
    pub fn pieces(pieces: mpsc::Receiver<Bytes>) -> RequestBody {
        RequestBody::Pieces(pieces, budget::READ_BUFFERS.claim())
    }

    /// Counts the messages of a method that takes a stream of them.
    pub fn counted(self, method: Method) -> RequestBody {
        let body = match self {
            RequestBody::Incoming(received) => RequestBody::Incoming(received.stream()),
            body => body,
        };
        RequestBody::Counted(Box::new((body, method, Messages::default())))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            RequestBody::Incoming(body) => body.poll_frame(cx),
            RequestBody::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            RequestBody::Pieces(pieces, buffer) => {
                let Some(piece) = ready!(pieces.poll_recv(cx)) else { return Poll::Ready(None) };
                let bytes = piece.len();
                if bytes > limits::READ_BUFFER_BYTES_FREE.max(buffer.size())
                    && let Err(exhausted) = buffer.resize(bytes)
                {
                    return Poll::Ready(Some(Err(exhausted.into())));
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            RequestBody::Counted(counted) => {
                let (body, method, messages) = &mut **counted;
                let polled = Pin::new(body).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &polled
                    && let Some(data) = frame.data_ref()
                {
                    method.received(messages.begun(data));
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Incoming(body) => body.is_end_stream(),
            RequestBody::Whole(bytes) => bytes.is_none(),
            RequestBody::Pieces(..) => false,
            RequestBody::Counted(counted) => counted.0.is_end_stream(),
        }
    }
}
