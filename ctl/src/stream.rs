//! The watch stream: many watchers on one gRPC stream, made again when the connection breaks.
//!
//! [`Watches`] knows the next revision each watcher needs. After a break it connects to the next
//! endpoint and creates the watchers again from there, so that nothing is lost or told twice.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use crate::failure::{Failure, connection_error, server_text};
use crate::format::Watched;
use crate::print;
use crate::session::{Connection, Session};

/// Names a watcher across reconnects; in order of creation.
pub(crate) type WatcherId = usize;

/// How a member ends the watches of those who want to know that it has no leader.
const NO_LEADER: &str = "etcdserver: no leader";
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Something that one watcher hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Events(WatcherId, Watched),
    Progress(Watched),
    /// The watcher is gone; the text says why.
    Canceled(WatcherId, Watched, String),
}

#[derive(Debug)]
pub(crate) struct Watches {
    session: Session,
    watchers: BTreeMap<WatcherId, Watcher>,
    last_id: WatcherId,
    stream: Option<Stream>,
    /// How the last stream ended, until its watchers are cared for.
    lost: Option<Lost>,
    /// The server has answered on this stream's connection once: a break is worth a new attempt.
    established: bool,
}

#[derive(Debug)]
struct Lost {
    status: Status,
    /// The user knows.
    told: bool,
}

#[derive(Debug)]
struct Watcher {
    request: WatchCreateRequest,
    server_id: Option<i64>,
}

/// One gRPC stream. A task owns its receiving half, so that waiting for an answer can be given up.
#[derive(Debug)]
struct Stream {
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
    /// Watchers whose creation was not answered yet; answers come in this order.
    creating: VecDeque<WatcherId>,
}

impl Watches {
    pub(crate) fn new(session: Session) -> Self {
        let (watchers, established) = (BTreeMap::new(), false);
        Self { session, watchers, last_id: 0, stream: None, lost: None, established }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    pub(crate) fn add(&mut self, request: WatchCreateRequest) -> WatcherId {
        self.last_id += 1;
        self.watchers.insert(self.last_id, Watcher { request: request.clone(), server_id: None });
        let id = self.last_id;
        if let Some(stream) = self.stream() {
            stream.create(id, request);
        }
        id
    }

    /// The stream, made if there was none; `None` while a lost one is about to be made again, with
    /// all watchers there are then.
    fn stream(&mut self) -> Option<&mut Stream> {
        match self.lost {
            Some(_) => None,
            None => {
                Some(self.stream.get_or_insert_with(|| Stream::open(self.session.connection())))
            }
        }
    }

    /// Asks how far the watchers are; they all hear it.
    pub(crate) fn request_progress(&mut self) {
        if let Some(stream) = self.stream() {
            stream.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        }
    }

    /// Waits for what the watchers hear next. May be dropped while waiting, nothing is lost then.
    pub(crate) async fn next(&mut self) -> Result<Vec<Heard>, Failure> {
        loop {
            let heard = if self.lost.is_some() {
                self.recover().await?
            } else {
                let Some(stream) = &mut self.stream else {
                    // Nothing was asked for yet, so nothing will come.
                    return std::future::pending().await;
                };
                let ended = || Err(Status::unavailable("the stream ended"));
                match stream.responses.recv().await.unwrap_or_else(ended) {
                    Ok(response) => {
                        self.established = true;
                        self.receive(response)
                    }
                    Err(status) => {
                        self.stream = None;
                        self.lost = Some(Lost { status, told: false });
                        Vec::new()
                    }
                }
            };
            if !heard.is_empty() {
                return Ok(heard);
            }
        }
    }

    fn receive(&mut self, response: WatchResponse) -> Vec<Heard> {
        let header = response.header.unwrap_or_default();
        if response.created {
            return self.created(response);
        }
        if response.canceled {
            let reason = cancel_text(&response);
            let watched = Watched {
                header,
                events: Some(response.events),
                compact_revision: response.compact_revision,
                canceled: true,
            };
            let id = self.find(response.watch_id);
            return id.map(|id| self.remove(id, watched, reason)).into_iter().collect();
        }
        let progress = response.events.is_empty();
        let after = response.events.iter().filter_map(|event| event.kv.as_ref()?.parse().ok());
        let last = after.map(|kv| kv.mod_revision).max().unwrap_or(header.revision);
        let ids: Vec<WatcherId> = match self.find(response.watch_id) {
            Some(id) => vec![id],
            // Progress that was asked for is nobody's in particular.
            None if progress => self.watchers.keys().copied().collect(),
            None => Vec::new(),
        };
        let hear = |id| {
            let watcher = self.watchers.get_mut(&id)?;
            watcher.request.start_revision = watcher.request.start_revision.max(last + 1);
            let events = Some(response.events.clone());
            let watched = Watched { header, events, ..Watched::default() };
            Some(if progress { Heard::Progress(watched) } else { Heard::Events(id, watched) })
        };
        ids.into_iter().filter_map(hear).collect()
    }

    fn created(&mut self, response: WatchResponse) -> Vec<Heard> {
        let id = self.stream.as_mut().and_then(|stream| stream.creating.pop_front());
        let Some(id) = id else { return Vec::new() };
        if response.canceled {
            let watched = Watched { canceled: true, ..Watched::default() };
            return vec![self.remove(id, watched, response.cancel_reason)];
        }
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.server_id = Some(response.watch_id);
            if watcher.request.start_revision == 0 {
                let now = response.header.map_or(0, |header| header.revision);
                watcher.request.start_revision = now + 1;
            }
        }
        Vec::new()
    }

    fn find(&self, server_id: i64) -> Option<WatcherId> {
        let mut watchers = self.watchers.iter();
        watchers.find(|(_, watcher)| watcher.server_id == Some(server_id)).map(|(id, _)| *id)
    }

    fn remove(&mut self, id: WatcherId, watched: Watched, reason: String) -> Heard {
        self.watchers.remove(&id);
        Heard::Canceled(id, watched, reason)
    }

    /// Makes the stream again, or ends all watchers if the server does not want them.
    /// Given up while it waits, it goes on from there when it is called again.
    async fn recover(&mut self) -> Result<Vec<Heard>, Failure> {
        let Some(status) = self.lost.as_ref().map(|lost| lost.status.clone()) else {
            return Ok(Vec::new());
        };
        let endpoint = self.session.endpoint().to_owned();
        let connection = connection_error(&status);
        // etcdctl ends when its member has no leader, even if another endpoint's has.
        let found = status.message() == NO_LEADER && self.session.find_better().await;
        let passing = matches!(status.code(), Code::Unavailable | Code::Internal)
            && (found || status.message() != NO_LEADER);
        if connection.is_none() && !passing {
            self.lost = None;
            let reason = server_text(&status);
            let ids: Vec<WatcherId> = self.watchers.keys().copied().collect();
            let canceled = || Watched { canceled: true, ..Watched::default() };
            return Ok(ids
                .into_iter()
                .map(|id| self.remove(id, canceled(), reason.clone()))
                .collect());
        }
        if !self.established && !found {
            return Err(Failure::of_call(&endpoint, &status));
        }
        let reason = connection.unwrap_or_else(|| status.message().to_owned());
        if self.lost.as_mut().is_some_and(|lost| !std::mem::replace(&mut lost.told, true)) {
            let what = format!("kvctl: lost the watch at {endpoint} ({reason}); connecting again");
            print::note(&what);
        }
        if !found {
            self.reopen().await;
        }
        print::note(&format!("kvctl: watching again at {}", self.session.endpoint()));
        let mut stream = Stream::open(self.session.connection());
        for (id, watcher) in &mut self.watchers {
            watcher.server_id = None;
            stream.create(*id, watcher.request.clone());
        }
        (self.stream, self.lost) = (Some(stream), None);
        Ok(Vec::new())
    }

    /// Tries all endpoints until one answers.
    async fn reopen(&mut self) {
        let mut pause = RECONNECT_PAUSE_MIN;
        loop {
            tokio::time::sleep(pause).await;
            if self.session.reopen().await.is_ok() {
                return;
            }
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }
}

/// Why the server ended a watch, as Go's client says it.
fn cancel_text(response: &WatchResponse) -> String {
    if response.compact_revision != 0 {
        "etcdserver: mvcc: required revision has been compacted".to_owned()
    } else if response.cancel_reason.is_empty() {
        "etcdserver: mvcc: required revision is a future revision".to_owned()
    } else {
        server_text(&Status::failed_precondition(response.cancel_reason.as_str()))
    }
}

impl Stream {
    /// Opens a stream; the server hears of it with the first request.
    fn open(connection: &Connection) -> Self {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let (incoming, responses) = mpsc::unbounded_channel();
        let mut client = connection.watch();
        tokio::spawn(async move {
            let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
            // A member without a leader shall say so instead of staying silent.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            let end = match client.watch(request).await {
                Ok(response) => receive_all(response.into_inner(), &incoming).await,
                Err(status) => status,
            };
            // Nobody listens any more if the command has ended.
            let _ = incoming.send(Err(end));
        });
        Self { requests, responses, creating: VecDeque::new() }
    }

    fn create(&mut self, id: WatcherId, request: WatchCreateRequest) {
        self.creating.push_back(id);
        self.send(RequestUnion::CreateRequest(request));
    }

    /// A stream that has broken says so to the receiver, so sending need not.
    fn send(&self, request: RequestUnion) {
        let _ = self.requests.send(WatchRequest { request_union: Some(request) });
    }
}

/// Passes responses on until the stream ends, and returns how it ended.
async fn receive_all(
    mut responses: tonic::Streaming<WatchResponse>,
    to: &mpsc::UnboundedSender<Result<WatchResponse, Status>>,
) -> Status {
    loop {
        match responses.message().await {
            Ok(Some(response)) => {
                if to.send(Ok(response)).is_err() {
                    return Status::cancelled("the command has ended");
                }
            }
            Ok(None) => return Status::unavailable("the server closed the stream"),
            Err(status) => return status,
        }
    }
}
