//! A watch stream that is always read, and waited on with a deadline.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchProgressRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use crate::Client;

/// The id of progress responses that speak for the whole stream.
const ALL_WATCHERS: i64 = -1;
/// An answer that has not come by then is a failure.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A server says nothing when it is asked for progress too early: it is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// One `Watch` call. A task of its own reads all responses as they come.
#[derive(Debug)]
pub struct WatchStream {
    requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
    /// Progress requests of the test itself whose answer it wants to see.
    wanted_progress: usize,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for WatchStream {
    /// Resets the stream: what a client does that goes away.
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl WatchStream {
    /// Opens the stream. Servers send nothing, not even headers, before the first response, so
    /// there is nothing to wait for yet.
    pub fn open(client: &Client) -> Self {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let (incoming, responses) = mpsc::unbounded_channel();
        let mut watch = client.watch.clone();
        let read = async move {
            let mut stream = match watch.watch(UnboundedReceiverStream::new(outgoing)).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => {
                    let _ = incoming.send(Err(status));
                    return;
                }
            };
            while let Some(response) = stream.next().await {
                // The receiver may be gone: then the reader is stopped as well.
                let _ = incoming.send(response);
            }
        };
        let reader = tokio::spawn(read);
        Self { requests: Some(requests), responses, wanted_progress: 0, reader }
    }

    pub fn send(&mut self, request: Option<RequestUnion>) -> Result<()> {
        let requests = self.requests.as_ref().context("the stream is half closed")?;
        requests.send(WatchRequest { request_union: request }).context("the stream has ended")
    }

    /// Asks once; the answer, if there is one, comes out of [`WatchStream::receive`].
    pub fn request_progress(&mut self) -> Result<()> {
        self.wanted_progress += 1;
        self.ask_progress()
    }

    /// Asks once, for readers of all responses.
    pub fn ask_progress(&mut self) -> Result<()> {
        self.send(Some(RequestUnion::ProgressRequest(WatchProgressRequest {})))
    }

    /// Ends the client's side.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response.
    pub async fn receive(&mut self) -> Result<WatchResponse> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let response = self.receive_until(deadline).await?;
            let response = response.context("no response in time")?;
            if response.watch_id != ALL_WATCHERS || response.created {
                return Ok(response);
            }
            // Answers to fences that asked more than once are nobody's business.
            if self.wanted_progress > 0 {
                self.wanted_progress -= 1;
                return Ok(response);
            }
        }
    }

    /// Asks for progress until the server says that all watchers have everything up to
    /// `revision`; returns that answer after all that came before it.
    pub async fn fence(&mut self, revision: i64) -> Result<Vec<WatchResponse>> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let mut came = Vec::new();
        while Instant::now() < deadline {
            self.ask_progress()?;
            let again = Instant::now() + ASK_AGAIN_AFTER;
            while let Some(response) = self.receive_until(again).await? {
                let at = response.header.as_ref().map_or(0, |header| header.revision);
                let progress = response.watch_id == ALL_WATCHERS && !response.created;
                if progress && at < revision {
                    continue;
                }
                came.push(response);
                if progress {
                    return Ok(came);
                }
            }
        }
        bail!("the server did not report progress to revision {revision}; before that: {came:?}")
    }

    /// The next response of any kind, or none by the deadline.
    pub async fn receive_until(&mut self, deadline: Instant) -> Result<Option<WatchResponse>> {
        match timeout_at(deadline, self.responses.recv()).await {
            Err(_) => Ok(None),
            Ok(None) => bail!("the stream has ended"),
            Ok(Some(Err(status))) => bail!("the stream has ended: {}", crate::text::error(&status)),
            Ok(Some(Ok(response))) => Ok(Some(response)),
        }
    }
}
