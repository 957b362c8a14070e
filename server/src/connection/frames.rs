//! HTTP/2's frames (RFC 9113) as far as the bytes of a connection are looked at here.

/// What a client starts with that speaks HTTP/2.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length (3 bytes), type, flags, stream (4 bytes).
pub const FRAME_HEADER_BYTES: usize = 9;
/// The largest frame that we accept, which is HTTP/2's default.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 10;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const RST_STREAM: u8 = 0x3;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;

/// Of a PING.
pub const ACK: u8 = 0x1;
/// Of DATA and HEADERS.
pub const END_STREAM: u8 = 0x1;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

/// What precedes a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload.
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl FrameHeader {
    pub fn decode(bytes: [u8; FRAME_HEADER_BYTES]) -> FrameHeader {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit is reserved.
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        FrameHeader { length, kind, flags, stream }
    }
}

/// A walk over one direction of a connection, from frame to frame, in pieces of any size.
#[derive(Debug, Default)]
pub struct Walk {
    header: [u8; FRAME_HEADER_BYTES],
    /// How much of `header` was seen.
    seen: usize,
    /// Bytes before the next header.
    passing: usize,
}

impl Walk {
    /// Whether the next byte begins a frame.
    pub fn is_between_frames(&self) -> bool {
        self.seen == 0 && self.passing == 0
    }

    /// The header that ends in these bytes, which are moved behind it. None: they all passed.
    pub fn next_header(&mut self, bytes: &mut &[u8]) -> Option<FrameHeader> {
        let passed = self.passing.min(bytes.len());
        self.passing -= passed;
        *bytes = &bytes[passed..];
        let count = (FRAME_HEADER_BYTES - self.seen).min(bytes.len());
        self.header[self.seen..self.seen + count].copy_from_slice(&bytes[..count]);
        self.seen += count;
        *bytes = &bytes[count..];
        if self.seen < FRAME_HEADER_BYTES {
            return None;
        }
        self.seen = 0;
        let header = FrameHeader::decode(self.header);
        self.passing = header.length;
        Some(header)
    }
}
