//! HTTP/2 by hand: what no client library sends or shows.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use harness::Node;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header literal whose name is in the table; `kind` is 0x40 to remember it, 0 not to.
pub(super) fn field(kind: u8, name: u8, value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [&[kind | name, length], value.as_bytes()].concat()
}

/// The headers of a call: POST, http, the path, what is given, and `te: trailers`, which is a new
/// name.
pub(super) fn call(stream: u32, path: &str, fields: &[u8]) -> Vec<u8> {
    let path = field(0, 4, path);
    let fields = [b"\x83\x86", &path[..], fields, b"\x00\x02te\x08trailers"];
    frame(HEADERS, END_HEADERS, stream, &fields.concat())
}

/// A call with an empty message.
pub(super) fn request(stream: u32, path: &str, fields: &[u8]) -> Vec<u8> {
    [call(stream, path, fields), frame(DATA, END_STREAM, stream, &[0; 5])].concat()
}

/// A frame that was received.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// A connection of our own.
pub(super) struct Wire(TcpStream);

impl Wire {
    pub(super) fn connect(node: &Node) -> Wire {
        Wire::connect_to(node.options().client_port)
    }

    pub(super) fn connect_to(port: u16) -> Wire {
        let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        connection.set_nodelay(true).unwrap();
        let mut wire = Wire(connection);
        wire.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        wire
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(super) fn receive(&mut self) -> Frame {
        let mut header = [0; 9];
        self.0.read_exact(&mut header).unwrap();
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).unwrap();
        Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }
    }

    /// Reads up to the first message on this stream.
    pub(super) fn answer(&mut self, stream: u32) -> Vec<u8> {
        loop {
            let frame = self.receive();
            assert!(frame.kind != RST_STREAM && frame.kind != GOAWAY, "{frame:?}");
            if frame.kind == DATA && frame.stream == stream {
                return frame.payload[5..].to_vec();
            }
        }
    }

    /// Reads to the end of the connection, which must not be a reset.
    pub(super) fn end(mut self) {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
        self.0.read_to_end(&mut Vec::new()).unwrap();
    }
}
