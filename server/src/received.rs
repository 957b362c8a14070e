//! Messages on their way in: what has come of those that are not whole counts, and they have their time.
//!
//! A client may send the beginning of a message on each of its streams and leave it at that. What is
//! beyond [`limits::UNFINISHED_BYTES_FREE`] of each counts for all together ([`budget::REQUESTS`]), and
//! a message that does not come to its end in [`limits::MESSAGE_TIMEOUT`] ends its call. What a stream
//! keeps to read its messages into counts as long as it is open ([`budget::READ_BUFFERS`]).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use crate::budget::{self, Claim};
use crate::limits;
use crate::metrics::Messages;

/// A request's body from a connection.
pub struct Received {
    body: Incoming,
    /// Of a stream: where in its messages it is. Between two it may rest. And what is claimed for the
    /// buffer its messages are read into, which never becomes smaller.
    messages: Option<(Messages, Claim)>,
    /// Bytes of the message that is not whole.
    unfinished: usize,
    claim: Claim,
    /// When the rest should be there. Only while somebody waits for it.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Received {
    pub fn new(body: Incoming) -> Received {
        let claim = budget::REQUESTS.claim();
        Received { body, messages: None, unfinished: 0, claim, deadline: None }
    }

    /// The same for a method that takes a stream of messages.
    pub fn stream(mut self) -> Received {
        self.messages = Some((Messages::default(), budget::READ_BUFFERS.claim()));
        self
    }

    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => self.poll_deadline(cx),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(Status::from_error(Box::new(error)))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let taken = frame.data_ref().map_or(Ok(()), |data| self.take(data));
                Poll::Ready(Some(taken.map(|()| frame)))
            }
        }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), Status> {
        self.unfinished = match &mut self.messages {
            None => self.unfinished + data.len(),
            Some((messages, buffer)) => {
                messages.begun(data);
                let unfinished = messages.unfinished();
                let bytes = unfinished.max(data.len());
                if bytes > limits::READ_BUFFER_BYTES_FREE.max(buffer.size()) {
                    buffer.resize(bytes)?;
                }
                unfinished
            }
        };
        if self.messages.is_some() {
            // The next message has its own time.
            self.deadline = None;
        }
        let counted = self.unfinished.saturating_sub(limits::UNFINISHED_BYTES_FREE);
        if counted != self.claim.size() {
            self.claim.resize(counted)?;
        }
        Ok(())
    }

    fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.messages.is_some() && self.unfinished == 0 {
            return Poll::Pending;
        }
        let deadline =
            self.deadline.get_or_insert_with(|| Box::pin(sleep(limits::MESSAGE_TIMEOUT)));
        match deadline.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let late = "etcdserver: the request did not come to its end in time";
                Poll::Ready(Some(Err(Status::deadline_exceeded(late))))
            }
        }
    }
}
