//! A connection against a peer that is played by hand, frame by frame.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::frame::{self, HEADER_BYTES, Header, flag, kind, setting};
use super::{Call, Connection, End, Method, Sink};

#[derive(Default)]
struct Heard {
    messages: Vec<Vec<u8>>,
    ends: Vec<End>,
}

impl Sink for Heard {
    fn message(&mut self, _client: u32, message: &[u8]) {
        self.messages.push(message.to_vec());
    }

    fn end(&mut self, end: End) {
        self.ends.push(end);
    }
}

struct Peer(TcpStream);

impl Peer {
    /// A connection and its peer, which has read the preface and the first two frames.
    fn connected() -> (Connection, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = Connection::open(listener.local_addr().unwrap()).unwrap();
        // Blocking, so that both sides go in step.
        connection.socket().set_nonblocking(false).unwrap();
        assert!(connection.flush().unwrap());
        let mut peer = Self(listener.accept().unwrap().0);
        let mut preface = vec![0; frame::PREFACE.len()];
        peer.0.read_exact(&mut preface).unwrap();
        assert_eq!(preface, frame::PREFACE);
        assert_eq!(peer.read().0.kind, kind::SETTINGS);
        assert_eq!(peer.read().0.kind, kind::WINDOW_UPDATE);
        (connection, peer)
    }

    fn read(&mut self) -> (Header, Vec<u8>) {
        let mut bytes = [0; HEADER_BYTES];
        self.0.read_exact(&mut bytes).unwrap();
        let header = Header::parse(&bytes).unwrap();
        let mut payload = vec![0; header.length];
        self.0.read_exact(&mut payload).unwrap();
        (header, payload)
    }

    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, flags, stream, payload);
        self.0.write_all(&bytes).unwrap();
    }
}

fn put(client: u32, message: &[u8]) -> Call<'_> {
    Call {
        client,
        started: Instant::now(),
        method: Method::Put,
        message,
        collects: true,
        reply_bytes_min: 1,
    }
}

#[test]
fn a_call_is_answered() {
    let (mut connection, mut peer) = Peer::connected();
    let mut heard = Heard::default();
    connection.call(&put(7, b"request"));
    connection.flush().unwrap();
    assert_eq!(peer.read().0.kind, kind::HEADERS);
    let (header, payload) = peer.read();
    assert_eq!((header.kind, header.flags, header.stream), (kind::DATA, flag::END_STREAM, 1));
    assert_eq!(payload, b"\0\0\0\0\x07request");

    peer.write(kind::HEADERS, flag::END_HEADERS, 1, &[0x88]);
    peer.write(kind::DATA, 0, 1, b"\0\0\0\0\x02ok");
    peer.write(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[]);
    while heard.ends.is_empty() {
        connection.receive(&mut heard).unwrap();
    }
    assert_eq!(heard.messages, [b"ok"]);
    assert_eq!((heard.ends[0].client, heard.ends[0].bytes), (7, 7));
}

#[test]
fn a_refused_call_ends_without_bytes() {
    let (mut connection, mut peer) = Peer::connected();
    let mut heard = Heard::default();
    connection.call(&put(0, b"a"));
    connection.call(&put(1, b"b"));
    connection.flush().unwrap();
    peer.write(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &[0x88]);
    peer.write(kind::RST_STREAM, 0, 1, &[0, 0, 0, 7]);
    while heard.ends.len() < 2 {
        connection.receive(&mut heard).unwrap();
    }
    let ends: Vec<_> = heard.ends.iter().map(|end| (end.client, end.bytes)).collect();
    assert_eq!(ends, [(1, 0), (0, 0)]);
}

#[test]
fn a_body_waits_for_the_peers_window() {
    let (mut connection, mut peer) = Peer::connected();
    let mut heard = Heard::default();
    // Ten bytes a stream, in effect until the peer grants more.
    let setting = [&setting::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &[0, 0, 0, 10]].concat();
    peer.write(kind::SETTINGS, 0, 0, &setting);
    connection.receive(&mut heard).unwrap();
    connection.call(&put(0, b"0123456789"));
    connection.flush().unwrap();
    assert_eq!(peer.read().0.flags, flag::ACK);
    assert_eq!(peer.read().0.kind, kind::HEADERS);
    let (header, payload) = peer.read();
    assert_eq!((header.flags, payload.as_slice()), (0, &b"\0\0\0\0\x0a01234"[..]));

    peer.write(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]);
    connection.receive(&mut heard).unwrap();
    connection.flush().unwrap();
    let (header, payload) = peer.read();
    assert_eq!((header.flags, payload.as_slice()), (flag::END_STREAM, &b"56789"[..]));
}

#[test]
fn pings_are_answered_and_a_farewell_is_an_error() {
    let (mut connection, mut peer) = Peer::connected();
    let mut heard = Heard::default();
    peer.write(kind::PING, 0, 0, b"12345678");
    connection.receive(&mut heard).unwrap();
    connection.flush().unwrap();
    let (header, payload) = peer.read();
    assert_eq!((header.kind, header.flags, payload.as_slice()), (kind::PING, 1, &b"12345678"[..]));

    peer.write(kind::GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0benough");
    let error = connection.receive(&mut heard).unwrap_err();
    assert!(error.to_string().contains("enough"), "{error}");
}
