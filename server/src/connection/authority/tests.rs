//! Whatever the bytes and however they arrive: nothing but URLs is replaced, and nothing panics.

use std::task::Waker;

use proptest::prelude::*;

use super::*;

/// What etcdctl 3.4 sends for `endpoint status` to `http://127.0.0.1:24101`.
const ETCDCTL: &[u8] = b"\
    \x00\x00\x00\x04\x01\x00\x00\x00\x00\
    \x00\x00\x77\x01\x04\x00\x00\x00\x01\x83\x86\x45\x97\x60\xa9\x24\x88\x2d\x9d\xcb\x65\x71\xaf\
    \xa0\x66\xa9\x25\xa8\x75\x10\xac\x6e\x48\xd3\x6a\x3f\x41\x90\x9d\x29\xae\xe3\x0c\x04\x4e\xae\
    \x05\xc0\xb8\x6e\x09\xa0\x80\x3f\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64\x7a\x8b\
    \x9a\xca\xc8\xb4\xc7\x60\x2b\xb2\xca\xec\xff\x40\x02\x74\x65\x86\x4d\x83\x35\x05\xb1\x1f\x40\
    \x89\x9a\xca\xc8\xb2\x4d\x49\x4f\x6a\x7f\x86\x69\xf7\xdd\x79\xc6\xed\x40\x8d\x25\x06\x2d\x49\
    \x58\x75\x99\x6e\xe5\xb1\x06\x3d\x5f\x03\x33\x2e\x34\
    \x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00";

/// Bytes that arrive in pieces.
struct Pieces(std::vec::IntoIter<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.next() {
            buffer.put_slice(&piece);
        }
        Poll::Ready(Ok(()))
    }
}

/// All that is read when these bytes arrive in pieces of these sizes, the last again and again.
fn read(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().copied();
    let mut size = 1;
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size);
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    let mut stream = PlainAuthority::new(Pieces(pieces.into_iter()));
    let mut all = Vec::new();
    loop {
        let mut room = [0; 64];
        let mut buffer = ReadBuf::new(&mut room);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(result) = Pin::new(&mut stream).poll_read(&mut cx, &mut buffer) else {
            panic!("there is always something to read");
        };
        result.unwrap();
        if buffer.filled().is_empty() {
            return all;
        }
        all.extend_from_slice(buffer.filled());
    }
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, 1]);
    frame.extend(payload);
    frame
}

/// What comes out for one HEADERS frame after the preface.
fn headers(flags: u8, payload: &[u8]) -> Vec<u8> {
    let bytes = [PREFACE, &frame(HEADERS, flags, payload)].concat();
    read(&bytes, &[7])[PREFACE.len()..].to_vec()
}

fn check(flags: u8, payload: &[u8], expected: &[u8]) {
    let (got, expected) = (headers(flags, payload), frame(HEADERS, flags, expected));
    assert_eq!(got.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn etcdctl_names_a_host_then() {
    let authority = b"\x41\x90\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0\xb8\x6e\x09\xa0\x80\x3f";
    let at = ETCDCTL.windows(authority.len()).position(|part| part == authority).unwrap();
    let mut expected = ETCDCTL.to_vec();
    expected.splice(at..at + authority.len(), *b"\x41\x01k");
    expected[11] -= 15;
    let twice = [PREFACE, ETCDCTL, ETCDCTL].concat();
    for size in 1..twice.len() {
        assert_eq!(read(&twice, &[size.min(64)]), [PREFACE, &expected, &expected].concat());
    }
}

#[test]
fn every_kind_of_literal_stays_what_it_is() {
    check(4, b"\x41\x08http://a", b"\x41\x01k");
    check(4, b"\x01\x09https://a", b"\x01\x01k");
    check(4, b"\x11\x08unix://a", b"\x11\x01k");
    check(4, b"\x83\x41\x08http://a\x86", b"\x83\x41\x01k\x86");
    // Huffman: https://a
    check(4, b"\x41\x87\x9d\x29\xad\x17\x18\x60\xff", b"\x41\x01k");
    check(4, b"\x41\x07/n.sock", b"\x41\x01k");
    // Huffman: unix://a, /a
    check(4, b"\x41\x86\xb6\xa3\x79\xb8\xc3\x03", b"\x41\x01k");
    check(4, b"\x41\x82\x60\xff", b"\x41\x01k");
    // After a new name, a long index, and a size of the table.
    check(4, b"\x40\x01x\x01y\x41\x08http://a", b"\x40\x01x\x01y\x41\x01k");
    check(4, b"\xff\x80\x01\x41\x08http://a", b"\xff\x80\x01\x41\x01k");
    check(4, b"\x3f\xe1\x1f\x41\x08http://a", b"\x3f\xe1\x1f\x41\x01k");
}

#[test]
fn padding_and_priority_stay() {
    check(4 | PADDED, b"\x02\x41\x08http://a..", b"\x02\x41\x01k..");
    check(4 | PRIORITY, b"12345\x41\x08http://a", b"12345\x41\x01k");
    check(4 | PADDED | PRIORITY, b"\x0112345\x41\x08http://a.", b"\x0112345\x41\x01k.");
}

#[test]
fn what_continues_in_another_frame_is_replaced_too() {
    check(0, b"\x41\x08http://a\x40\x7fcut off", b"\x41\x01k\x40\x7fcut off");
}

#[test]
fn what_is_no_url_or_cannot_be_read_stays() {
    let long = [b"\x41\x7f\x89\x03http://".as_slice(), &[b'a'; 513]].concat();
    let same: [(u8, &[u8]); 14] = [
        (4, b"\x41\x0b127.0.0.1:1"),
        // Huffman: a host called http, and one called h.
        (4, b"\x41\x87\x9d\x29\xae\xe0\x82\x10\x42"),
        (4, b"\x41\x81\x9f"),
        (4, b"\x42\x08http://a"),
        (4, b"\x00\x0a:authority\x08http://a"),
        (4, b"\x41\x09http://a"),
        (4, b"\x41"),
        (4, b"\x41\x08"),
        (4, b"\xff\xff\xff\xff\xff\x41\x08http://a"),
        (4, b"\x20\x41\x08http://a"),
        (4, &long),
        (4 | PADDED, b"\xff\x41\x08http://a"),
        (4 | PADDED, b"\x00"),
        (4 | PRIORITY, b"1"),
    ];
    for (flags, payload) in same {
        check(flags, payload, payload);
    }
}

#[test]
fn the_first_request_decides() {
    let url = frame(HEADERS, 4, b"\x41\x08http://a");
    let host = frame(HEADERS, 4, b"\x41\x01a");
    let data = frame(0, 0, b"\x41\x08http://a");
    let kvd = frame(HEADERS, 4, b"\x41\x01k");
    let plain = [PREFACE, &data, &host, &url].concat();
    assert_eq!(read(&plain, &[5]), plain);
    let strange = [PREFACE, &data, &url, &data, &host, &url].concat();
    let expected = [PREFACE, &data, &kvd, &data, &host, &kvd].concat();
    assert_eq!(read(&strange, &[5]), expected);
}

#[test]
fn an_ordinary_connection_ends_up_without_any_of_this() {
    for first in [&b"GET / HTTP/1.1\r\n"[..], &[PREFACE, &frame(HEADERS, 4, b"\x82")].concat()] {
        let mut stream = PlainAuthority::new(Pieces(vec![first.to_vec()].into_iter()));
        let mut room = [0; 64];
        let mut cx = Context::from_waker(Waker::noop());
        let read = Pin::new(&mut stream).poll_read(&mut cx, &mut ReadBuf::new(&mut room));
        assert!(read.is_ready());
        assert!(stream.filter.is_none());
    }
}

/// Bytes that are something like frames.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        Just(b"\x41\x08http://a".to_vec()),
        Just(b"\x41\x0b127.0.0.1:1".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let payload = prop::collection::vec(field, 0..4).prop_map(|fields| fields.concat());
    let kind = prop_oneof![Just(HEADERS), any::<u8>()];
    let one = (kind, any::<u8>(), payload).prop_map(|(kind, flags, all)| frame(kind, flags, &all));
    let garbage = prop::collection::vec(any::<u8>(), 0..40);
    (prop::collection::vec(one, 0..6), garbage)
        .prop_map(|(frames, garbage)| [PREFACE, &frames.concat(), &garbage].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn bytes_pass(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), frames()],
        sizes in prop::collection::vec(1_usize..64, 0..40),
    ) {
        let whole = read(&bytes, &[64]);
        prop_assert_eq!(&read(&bytes, &sizes), &whole);
        prop_assert!(whole.len() <= bytes.len());
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        let codes: [&[u8]; 3] = [b"\x9d\x29\xae", b"\x9d\x29\xad", b"\xb6\xa3\x79"];
        // A slash is coded in the first bits of a byte.
        let frames = bytes.strip_prefix(PREFACE).unwrap_or_default();
        let slash = frames.iter().any(|byte| *byte == b'/' || byte >> 2 == 0x60 >> 2);
        if !slash && !codes.into_iter().any(has) {
            prop_assert_eq!(whole, bytes);
        }
    }
}
