//! Streams that are opened and left, too many of them, or opened and reset at once.

use std::io::Read as _;
use std::net::TcpStream;

use super::{Victim, hang_up, has_goaway, send, wait_closed};
use crate::wire::{DATA, HEADERS, RST_STREAM, call, field, frame};

const GRPC: &[u8] = b"\x0f\x10\x10application/grpc";
/// `H2_STREAMS_MAX` and `STREAMS_MAX` of `server/src/limits.rs`.
const ON_ONE_MAX: u32 = 8 << 10;
const ON_ALL_MAX: u32 = 16 << 10;

fn open(number: u32) -> Vec<u8> {
    call(number, "/etcdserverpb.KV/Put", &[&field(0, 1, "a")[..], GRPC].concat())
}

fn streams(count: u32) -> Vec<u8> {
    (0..count).flat_map(|nth| open(2 * nth + 1)).collect()
}

/// Reads until this has been said of a stream; what was said of it.
fn hear(stream: &mut TcpStream, wanted: impl Fn(u8, u32) -> bool) -> Vec<u8> {
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).expect("the server says what becomes of a stream");
        let [a, b, c, kind, _, id @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).unwrap();
        if wanted(kind, u32::from_be_bytes(id)) {
            return payload;
        }
    }
}

/// Headers, and never a body: each connection has a bound, and all of them together.
#[tokio::test]
async fn half_open_streams() {
    let victim = Victim::start(&[]);
    let mut connections = Vec::new();
    for _ in 0..ON_ALL_MAX / ON_ONE_MAX {
        let mut stream = victim.speak(&[]);
        assert!(send(&mut stream, &streams(ON_ONE_MAX + 1)));
        let refused = 2 * ON_ONE_MAX + 1;
        let code = hear(&mut stream, |kind, id| kind == RST_STREAM && id == refused);
        assert_eq!(code, [0, 0, 0, 7], "REFUSED_STREAM");
        connections.push(stream);
    }
    // There is no room for another call, which is told so, whoever asks.
    let mut stream = victim.speak(&[]);
    let asked = [open(1), frame(DATA, 1, 1, &[0; 5])].concat();
    assert!(send(&mut stream, &asked));
    let answer = hear(&mut stream, |kind, id| kind == HEADERS && id == 1);
    assert!(answer.len() > 10, "headers with a status: {answer:?}");
    println!("{ON_ALL_MAX} half-open streams: {} MB", victim.peak_bytes() >> 20);
    hang_up(vec![stream]);
    hang_up(connections);
    victim.recovers("half-open streams").await;
}

/// Opened and reset in the same breath: the connection is ended.
#[tokio::test]
async fn streams_that_are_reset_at_once() {
    let victim = Victim::start(&[]);
    let storm = |first: u32| -> Vec<u8> {
        let streams = (first..first + 1000).map(|nth| 2 * nth + 1);
        let pair = |id| [open(id), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat();
        streams.flat_map(pair).collect()
    };
    for _ in 0..20 {
        let mut stream = victim.speak(&[]);
        let sent = (0..100).all(|round| send(&mut stream, &storm(1000 * round)));
        if sent {
            // Nothing of it was too much for it: it is still of use.
            assert!(send(&mut stream, &open(400_001)));
            hang_up(vec![stream]);
        } else {
            wait_closed(stream);
        }
        victim.serves().await;
    }
    victim.recovers("streams reset").await;
}

/// So many of them that the server has to say no, on a connection that reads nothing.
#[tokio::test]
async fn pings_and_settings_whose_answers_nobody_reads() {
    const PING: u8 = 6;
    const SETTINGS: u8 = 4;
    let victim = Victim::start(&[]);
    for kind in [PING, SETTINGS] {
        let payload: &[u8] = if kind == PING { b"8 bytes." } else { &[] };
        let many = frame(kind, 0, 0, payload).repeat(10_000);
        let mut stream = victim.speak(&[]);
        stream.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        let taken = (0..200).take_while(|_| send(&mut stream, &many)).count();
        victim.serves().await;
        if kind == PING {
            let mut said = Vec::new();
            // How it ends is of no interest, only that it does.
            let _ = stream.read_to_end(&mut said);
            assert!(taken < 200 || has_goaway(&said), "pings without end");
        } else {
            hang_up(vec![stream]);
        }
    }
    victim.recovers("pings and settings").await;
}
