//! gRPC calls: how many began, how they ended, and the messages of streams.

use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::Frame;
use proto::{METHODS, MethodKind};
use tonic::body::Body;
use tonic::{Code, Status};

use super::kinds::{Grid, Histogram};
use super::text::Text;

/// What is counted of a method.
struct Counts {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    /// Only with `--metrics=extensive`.
    durations: Histogram,
}

static COUNTS: [Counts; METHODS.len()] = [const {
    Counts {
        started: AtomicU64::new(0),
        received: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        handled: [const { AtomicU64::new(0) }; CODES.len()],
        durations: Histogram::new(Grid::CALL),
    }
}; METHODS.len()];

/// By their numbers, in Go's spelling.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A method that exists.
#[derive(Clone, Copy)]
pub struct Method(usize);

impl Method {
    /// By the path of a request. The first ones are those that are called most.
    pub fn of(path: &str) -> Option<Method> {
        METHODS.iter().position(|method| method.path == path).map(Method)
    }

    pub fn path(self) -> &'static str {
        METHODS[self.0].path
    }

    pub fn kind(self) -> MethodKind {
        METHODS[self.0].kind
    }

    /// Whether its service claims room for what is large, and else answers little.
    pub fn claims_room(self) -> bool {
        let proto::Method { path, kind, .. } = METHODS[self.0];
        kind == MethodKind::Unary && path.starts_with("/etcdserverpb.KV/")
    }

    /// A call begins, of a client of this version. Its message, if it is one, is as good as read.
    pub fn started(self, version: Option<&str>) {
        let unary = self.kind() != MethodKind::BidiStream;
        COUNTS[self.0].started.fetch_add(1, Relaxed);
        COUNTS[self.0].received.fetch_add(u64::from(unary), Relaxed);
        client_version(version, self.kind());
    }

    pub fn received(self, messages: u64) {
        COUNTS[self.0].received.fetch_add(messages, Relaxed);
    }

    /// A call that is over, and when it began if that is of interest.
    fn handled(self, code: Code, began: Option<Instant>) {
        let counts = &COUNTS[self.0];
        counts.handled[code as usize].fetch_add(1, Relaxed);
        if let Some(began) = began {
            counts.durations.took(began.elapsed());
        }
    }

    /// A response that is about to be sent. That of a single message is as good as sent; a stream is
    /// counted while it goes on.
    pub fn answered(self, response: Response<Body>, began: Option<Instant>) -> Response<Body> {
        let failed = code(response.headers());
        match (self.kind(), failed) {
            (MethodKind::Unary, code) => {
                let code = code.unwrap_or(Code::Ok);
                COUNTS[self.0].sent.fetch_add(u64::from(code == Code::Ok), Relaxed);
                self.handled(code, began);
                response
            }
            (_, Some(code)) => {
                self.handled(code, began);
                response
            }
            _ => response.map(|body| counted_body(body, self, began)),
        }
    }
}

/// What a response's headers or trailers say, if they do.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

/// The body of a stream's response, with its messages counted and, in the end, how it ended.
fn counted_body(body: Body, method: Method, began: Option<Instant>) -> Body {
    Body::new(Counted { body, method, began, ended: false, messages: Messages::default() })
}

struct Counted {
    body: Body,
    method: Method,
    began: Option<Instant>,
    ended: bool,
    messages: Messages,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let ended = match &polled {
            Poll::Pending => None,
            Poll::Ready(None) => Some(Code::Ok),
            Poll::Ready(Some(Err(status))) => Some(status.code()),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let sent = this.messages.begun(data);
                    COUNTS[this.method.0].sent.fetch_add(sent, Relaxed);
                }
                frame.trailers_ref().map(|trailers| code(trailers).unwrap_or(Code::Ok))
            }
        };
        if let Some(code) = ended.filter(|_| !this.ended) {
            this.ended = true;
            this.method.handled(code, this.began);
        }
        polled
    }
}

impl Drop for Counted {
    /// A client that went away.
    fn drop(&mut self) {
        if !self.ended {
            self.method.handled(Code::Cancelled, self.began);
        }
    }
}

/// How many versions of clients are told apart; those after them are counted as unknown.
const VERSIONS_MAX: usize = 16;

/// Calls of clients that name their version, unary ones and streams.
static VERSIONS: [(OnceLock<String>, [AtomicU64; 2]); VERSIONS_MAX] =
    [const { (OnceLock::new(), [const { AtomicU64::new(0) }; 2]) }; VERSIONS_MAX];

const UNKNOWN_VERSION: &str = "unknown";

/// Counts a call of a client with this version. The first to come with a version writes it down.
fn client_version(version: Option<&str>, kind: MethodKind) {
    let version = version.filter(|text| text.len() <= 32).unwrap_or(UNKNOWN_VERSION);
    let place = usize::from(!matches!(kind, MethodKind::Unary));
    for (known, counts) in &VERSIONS[..VERSIONS_MAX - 1] {
        if known.get_or_init(|| version.to_owned()) == version {
            counts[place].fetch_add(1, Relaxed);
            return;
        }
    }
    let (rest, counts) = &VERSIONS[VERSIONS_MAX - 1];
    rest.get_or_init(|| UNKNOWN_VERSION.to_owned());
    counts[place].fetch_add(1, Relaxed);
}

/// Kind of call, version, count; what was never counted is left out, as in etcd.
pub fn versions() -> Vec<(&'static str, String, u64)> {
    let mut all: Vec<(&'static str, String, u64)> = Vec::new();
    for (version, counts) in &VERSIONS {
        let Some(version) = version.get() else { continue };
        for (kind, count) in ["unary", "stream"].into_iter().zip(counts) {
            let count = count.load(Relaxed);
            match all.iter_mut().find(|(k, v, _)| *k == kind && v == version) {
                Some((_, _, sum)) => *sum += count,
                None if count > 0 => all.push((kind, version.clone(), count)),
                None => {}
            }
        }
    }
    all
}

/// Where in the messages of a stream its bytes are.
#[derive(Default)]
pub struct Messages {
    header: [u8; 5],
    /// Bytes of the header that were seen.
    seen: usize,
    /// Bytes of the message that were not.
    left: usize,
    /// Bytes of the message.
    length: usize,
}

impl Messages {
    /// How many messages have their header end in these bytes.
    pub fn begun(&mut self, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.header[self.seen] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if self.seen == self.header.len() {
                let [_, length @ ..] = self.header;
                self.left = u32::from_be_bytes(length) as usize;
                self.length = self.left;
                self.seen = 0;
                count += 1;
            }
        }
        count
    }

    /// Bytes that have come of a message that is not whole, its header included.
    pub fn unfinished(&self) -> usize {
        match self.left {
            0 => self.seen,
            left => self.header.len() + self.length - left,
        }
    }
}

/// All methods, also those that were never called, as in etcd.
pub fn write(text: &mut Text, extensive: bool) {
    type Read = fn(&Counts) -> u64;
    let simple: [(&str, &str, Read); 3] = [
        ("grpc_server_started_total", "Calls that began.", |c| c.started.load(Relaxed)),
        ("grpc_server_msg_received_total", "Messages of clients.", |c| c.received.load(Relaxed)),
        ("grpc_server_msg_sent_total", "Messages to clients.", |c| c.sent.load(Relaxed)),
    ];
    for (name, help, read) in simple {
        text.family(name, "counter", help);
        for (method, counts) in METHODS.iter().zip(&COUNTS) {
            text.series(name, &labels(method), read(counts));
        }
    }
    let name = "grpc_server_handled_total";
    text.family(name, "counter", "Calls that ended, by how.");
    for (method, counts) in METHODS.iter().zip(&COUNTS) {
        for (code, count) in CODES.iter().zip(&counts.handled) {
            let [kind, service, method] = labels(method);
            text.series(name, &[("grpc_code", *code), method, service, kind], count.load(Relaxed));
        }
    }
    if extensive {
        let name = "grpc_server_handling_seconds";
        text.family(name, "histogram", "How long calls took.");
        for (method, counts) in METHODS.iter().zip(&COUNTS) {
            text.distribution(name, &labels(method), &counts.durations);
        }
    }
}

fn labels(method: &proto::Method) -> [(&'static str, &'static str); 3] {
    let kind = match method.kind {
        MethodKind::Unary => "unary",
        MethodKind::ServerStream => "server_stream",
        MethodKind::BidiStream => "bidi_stream",
    };
    let (service, name) = method.path[1..].split_once('/').expect("a path has two parts");
    [("grpc_type", kind), ("grpc_service", service), ("grpc_method", name)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_in_any_pieces() {
        let mut bytes = Vec::new();
        for length in [0u8, 3, 1] {
            bytes.extend_from_slice(&[0, 0, 0, 0, length]);
            bytes.extend(std::iter::repeat_n(9, usize::from(length)));
        }
        for cut in 0..bytes.len() {
            let mut messages = Messages::default();
            let (one, other) = bytes.split_at(cut);
            let begun = messages.begun(one);
            let ends = [0, 5, 13, 19];
            let last = ends.iter().rfind(|end| **end <= cut).unwrap();
            assert_eq!(messages.unfinished(), cut - last, "{cut}");
            assert_eq!(begun + messages.begun(other), 3, "{cut}");
        }
    }

    #[test]
    fn a_path_names_its_method() {
        let method = Method::of("/etcdserverpb.KV/Put").unwrap();
        assert!(matches!(method.kind(), MethodKind::Unary));
        assert!(Method::of("/etcdserverpb.KV/Nothing").is_none());
        assert!(Method::of("/kvd.peer.Peer/Append").is_none());
    }
}
