//! Messages on their way in: what has come of those that are not whole counts, and they have their time.
//!
//! A client may send the beginning of a message on each of its streams and leave it at that. What is
//! beyond [`limits::UNFINISHED_BYTES_FREE`] of each counts for all together ([`budget::REQUESTS`]), and
//! a message that does not come to its end in [`limits::MESSAGE_TIMEOUT`] ends its call. What a stream
//! keeps to read its messages into counts as long as it is open ([`budget::READ_BUFFERS`]).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use crate::budget::{self, Claim};
use crate::limits;
use crate::metrics::Messages;

/// A request's body from a connection.
pub struct Received<B = Incoming> {
    body: B,
    /// Of a stream: where in its messages it is. Between two it may rest. And what is claimed for the
    /// buffer its messages are read into, which never becomes smaller.
    messages: Option<(Messages, Claim)>,
    /// Bytes of the message that is not whole.
    unfinished: usize,
    claim: Claim,
    /// What a message may take, and when the rest of this one should be there. Only while somebody waits
    /// for it.
    timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whoever reads it finds no message begun.
    rests: bool,
}

impl<B> Received<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    pub fn new(body: B) -> Received<B> {
        Received::within(body, limits::MESSAGE_TIMEOUT)
    }

    pub fn within(body: B, timeout: Duration) -> Received<B> {
        let (messages, deadline) = Default::default();
        let claim = budget::REQUESTS.claim();
        Received { body, messages, unfinished: 0, claim, timeout, deadline, rests: false }
    }

    /// The same for a method that takes a stream of messages.
    pub fn stream(mut self) -> Received<B> {
        self.messages = Some((Messages::default(), budget::READ_BUFFERS.claim()));
        self
    }

    /// A message of another kind of stream was whole, and so many bytes of the next one have come: it has
    /// its own time, which does not begin before it does.
    pub fn message_ended(&mut self, begun: usize) {
        self.unfinished = begun;
        self.rests = begun == 0;
        self.deadline = None;
        // A smaller claim always has room.
        let _ = self.claim.resize(begun.saturating_sub(limits::UNFINISHED_BYTES_FREE));
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
                Poll::Ready(Some(Err(Status::from_error(error.into()))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let taken = frame.data_ref().map_or(Ok(()), |data| self.take(data));
                Poll::Ready(Some(taken.map(|()| frame)))
            }
        }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), Status> {
        self.rests = false;
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
        if self.rests || self.messages.is_some() && self.unfinished == 0 {
            return Poll::Pending;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.timeout)));
        match deadline.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let late = "etcdserver: the request did not come to its end in time";
                Poll::Ready(Some(Err(Status::deadline_exceeded(late))))
            }
        }
    }
}
