//! One connection: requests into an output buffer, frames out of an input buffer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::frame::{self, Header, flag, kind, setting};
use super::stream::{End, MESSAGE_PREFIX_BYTES, Stream, Streams};
use super::{Method, hpack};

/// What we let the peer send unasked, per stream and per connection: in effect no limit.
const RECEIVE_WINDOW: u32 = 1 << 30;
/// Half of it is granted again when half is used.
const GRANT: u32 = RECEIVE_WINDOW / 2;
/// Both windows before anybody says otherwise.
const WINDOW_DEFAULT: u32 = 65_535;
const INPUT_BYTES: usize = 128 * 1024;

/// A request to send.
pub(crate) struct Call<'a> {
    pub(crate) client: u32,
    pub(crate) started: Instant,
    pub(crate) method: Method,
    pub(crate) message: &'a [u8],
    /// Hand each response message to the sink instead of only counting its bytes.
    pub(crate) collects: bool,
    /// A shorter answer counts as a failure.
    pub(crate) reply_bytes_min: u64,
}

/// Who hears about responses.
pub(crate) trait Sink {
    fn message(&mut self, client: u32, message: &[u8]);
    fn end(&mut self, end: End);
}

pub(crate) struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    /// Bytes at the front of `input` that are not parsed yet.
    filled: usize,
    output: Vec<u8>,
    written: usize,
    headers: hpack::Encoder,
    streams: Streams,
    streams_max: usize,
    /// Request bodies, or their rests, that the peer's windows did not admit at once.
    waiting: VecDeque<Body>,
    send_window: i64,
    stream_window: i64,
    ungranted: u32,
}

struct Body {
    stream: u32,
    window: i64,
    bytes: Vec<u8>,
    sent: usize,
    last: bool,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).with_context(|| format!("connect {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut output = frame::PREFACE.to_vec();
        let mut settings = Vec::new();
        for (id, value) in
            [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, RECEIVE_WINDOW)]
        {
            settings.extend_from_slice(&id.to_be_bytes());
            settings.extend_from_slice(&u32::to_be_bytes(value));
        }
        frame::write(&mut output, kind::SETTINGS, 0, 0, &settings);
        let grant = RECEIVE_WINDOW - WINDOW_DEFAULT;
        frame::write(&mut output, kind::WINDOW_UPDATE, 0, 0, &grant.to_be_bytes());
        Ok(Self {
            socket,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            output,
            written: 0,
            headers: hpack::Encoder::new(address.to_string()),
            streams: Streams::new(),
            streams_max: usize::MAX,
            waiting: VecDeque::new(),
            send_window: i64::from(WINDOW_DEFAULT),
            stream_window: i64::from(WINDOW_DEFAULT),
            ungranted: 0,
        })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Queues a call; `flush` sends it.
    pub(crate) fn call(&mut self, call: &Call<'_>) {
        let end = End {
            client: call.client,
            started: call.started,
            bytes: 0,
            bytes_min: call.reply_bytes_min,
        };
        let stream = self.streams.insert(Stream::new(end, call.collects));
        let start = self.output.len();
        let header = Header { length: 0, kind: kind::HEADERS, flags: flag::END_HEADERS, stream };
        header.write(&mut self.output);
        self.headers.request(call.method, &mut self.output);
        let length = self.output.len() - start - frame::HEADER_BYTES;
        let length = u32::try_from(length).expect("a header block is short");
        self.output[start..start + 3].copy_from_slice(&length.to_be_bytes()[1..]);

        let last = !call.method.is_streaming();
        let length = call.message.len() + MESSAGE_PREFIX_BYTES;
        let size = u32::try_from(call.message.len()).expect("a request is shorter than 4 GiB");
        let mut prefix = [0; MESSAGE_PREFIX_BYTES];
        prefix[1..].copy_from_slice(&size.to_be_bytes());
        let window = self.send_window.min(self.stream_window);
        let fits = length <= frame::PAYLOAD_BYTES_MAX && length as i64 <= window;
        if fits && self.waiting.is_empty() {
            self.send_window -= length as i64;
            let flags = if last { flag::END_STREAM } else { 0 };
            Header { length, kind: kind::DATA, flags, stream }.write(&mut self.output);
            self.output.extend_from_slice(&prefix);
            self.output.extend_from_slice(call.message);
        } else {
            let bytes = [&prefix[..], call.message].concat();
            self.waiting.push_back(Body {
                stream,
                window: self.stream_window,
                bytes,
                sent: 0,
                last,
            });
            self.send_waiting();
        }
    }

    /// Writes what is queued. False when the socket takes no more for now.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("send requests"),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
    }

    /// Reads what has arrived and reports it to `sink`.
    pub(crate) fn receive(&mut self, sink: &mut impl Sink) -> Result<()> {
        loop {
            match self.socket.read(&mut self.input[self.filled..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("receive responses"),
            }
            let more = self.filled == self.input.len();
            self.parse(sink)?;
            if !more {
                return Ok(());
            }
        }
    }

    fn parse(&mut self, sink: &mut impl Sink) -> Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(header) = Header::parse(&input[at..self.filled]) {
            ensure!(
                header.length <= frame::PAYLOAD_BYTES_MAX,
                "the server sent an oversized frame"
            );
            let start = at + frame::HEADER_BYTES;
            let end = start + header.length;
            if end > self.filled {
                break;
            }
            self.frame(header, &input[start..end], sink)?;
            at = end;
        }
        input.copy_within(at..self.filled, 0);
        self.filled -= at;
        self.input = input;
        Ok(())
    }

    fn frame(&mut self, header: Header, payload: &[u8], sink: &mut impl Sink) -> Result<()> {
        match header.kind {
            kind::DATA => self.data(header, payload, sink)?,
            kind::HEADERS if header.flags & flag::END_STREAM != 0 => self.end(header.stream, sink),
            kind::RST_STREAM => self.end(header.stream, sink),
            kind::SETTINGS if header.flags & flag::ACK == 0 => self.settings(payload)?,
            kind::PING if header.flags & flag::ACK == 0 => {
                frame::write(&mut self.output, kind::PING, flag::ACK, 0, payload);
            }
            kind::WINDOW_UPDATE => self.window(header.stream, payload)?,
            kind::GOAWAY => {
                let reason = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
                bail!("the server wants this connection closed: {reason:?}");
            }
            // First headers, continuations and acknowledgements tell us nothing we use.
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, header: Header, payload: &[u8], sink: &mut impl Sink) -> Result<()> {
        ensure!(header.flags & flag::PADDED == 0, "padded frames are not supported");
        let size = u32::try_from(payload.len()).expect("a frame is short");
        self.ungranted += size;
        if self.ungranted >= GRANT {
            let grant = std::mem::take(&mut self.ungranted);
            frame::write(&mut self.output, kind::WINDOW_UPDATE, 0, 0, &grant.to_be_bytes());
        }
        let Some(stream) = self.streams.get(header.stream) else { return Ok(()) };
        stream.ungranted += size;
        if stream.ungranted >= GRANT {
            let grant = std::mem::take(&mut stream.ungranted).to_be_bytes();
            frame::write(&mut self.output, kind::WINDOW_UPDATE, 0, header.stream, &grant);
        }
        let client = stream.end.client;
        stream.data(payload, |message| sink.message(client, message))?;
        if header.flags & flag::END_STREAM != 0 {
            self.end(header.stream, sink);
        }
        Ok(())
    }

    fn end(&mut self, stream: u32, sink: &mut impl Sink) {
        self.waiting.retain(|body| body.stream != stream);
        if let Some(stream) = self.streams.remove(stream) {
            sink.end(stream.end);
        }
    }

    fn settings(&mut self, payload: &[u8]) -> Result<()> {
        for pair in payload.as_chunks::<6>().0 {
            let id = u16::from_be_bytes([pair[0], pair[1]]);
            let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
            match id {
                setting::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.stream_window;
                    self.stream_window += change;
                    self.waiting.iter_mut().for_each(|body| body.window += change);
                }
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value as usize,
                setting::HEADER_TABLE_SIZE => {
                    ensure!(value >= 4096, "the server's header table is too small for us");
                }
                setting::MAX_FRAME_SIZE | setting::ENABLE_PUSH => {}
                _ => {}
            }
        }
        ensure!(
            self.streams.open() <= self.streams_max,
            "the server admits {} calls at a time on a connection: use more --connections",
            self.streams_max,
        );
        frame::write(&mut self.output, kind::SETTINGS, flag::ACK, 0, &[]);
        self.send_waiting();
        Ok(())
    }

    fn window(&mut self, stream: u32, payload: &[u8]) -> Result<()> {
        let grant = payload.first_chunk::<4>().context("a short WINDOW_UPDATE")?;
        let grant = i64::from(u32::from_be_bytes(*grant));
        if stream == 0 {
            self.send_window += grant;
        } else if let Some(body) = self.waiting.iter_mut().find(|body| body.stream == stream) {
            body.window += grant;
        }
        self.send_waiting();
        Ok(())
    }

    /// Sends as much of the waiting bodies, oldest first, as the windows admit.
    fn send_waiting(&mut self) {
        while let Some(body) = self.waiting.front_mut() {
            let window = self.send_window.min(body.window);
            let room = usize::try_from(window).unwrap_or(0).min(frame::PAYLOAD_BYTES_MAX);
            let length = room.min(body.bytes.len() - body.sent);
            if length == 0 {
                return;
            }
            let rest = &body.bytes[body.sent..body.sent + length];
            body.sent += length;
            body.window -= length as i64;
            self.send_window -= length as i64;
            let done = body.sent == body.bytes.len();
            let flags = if done && body.last { flag::END_STREAM } else { 0 };
            frame::write(&mut self.output, kind::DATA, flags, body.stream, rest);
            if done {
                self.waiting.pop_front();
            }
        }
    }
}
