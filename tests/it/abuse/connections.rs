//! Connections that are opened and then left: idle ones, and those that never say what they want.

use std::io::Write as _;
use std::net::TcpStream;

use harness::certs::{Authority, Subject};
use harness::{Node, NodeOptions, Target, free_port};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Victim, connect, hang_up, wait_closed};
use crate::wire::{PREFACE, SETTINGS, frame};

const IDLE_CONNECTIONS: u64 = 10_000;
/// Files of this process, and of other tests in it.
const FILES_LEFT: u64 = 1_000;
const IDLE_CONNECTIONS_MIN: u64 = 500;

/// As many connections as this machine lets two processes have.
fn connections_possible() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without more, fewer are opened.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = IDLE_CONNECTIONS.min(files.saturating_sub(FILES_LEFT));
    assert!(count >= IDLE_CONNECTIONS_MIN, "{files} files are too few to open anything with");
    count
}

#[tokio::test]
async fn ten_thousand_idle_connections() {
    let victim = Victim::start(&[]);
    let count = connections_possible();
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let open = |_| {
        let mut stream = victim.connect();
        stream.write_all(&hello).unwrap();
        stream
    };
    let streams: Vec<TcpStream> = (0..count).map(open).collect();
    victim.serves().await;
    println!("{} idle connections: {} MB", streams.len(), victim.peak_bytes() >> 20);
    hang_up(streams);
    victim.recovers("idle connections").await;
}

#[tokio::test]
async fn whoever_does_not_say_what_it_speaks_is_cut_off() {
    let victim = Victim::start(&[]);
    let beginnings: [&[u8]; 5] = [
        b"",
        &PREFACE[..1],
        &PREFACE[..23],
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST /v3/kv/put HT",
    ];
    let open = |number: usize| {
        let mut stream = victim.connect();
        stream.write_all(beginnings[number % beginnings.len()]).unwrap();
        stream
    };
    let streams: Vec<TcpStream> = (0..200).map(open).collect();
    victim.serves().await;
    for stream in streams {
        wait_closed(stream);
    }
    victim.recovers("beginnings of connections").await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let pair = ca.issue("server", &Subject::default()).unwrap();
    let mut options = NodeOptions::new(Target::Kvd);
    let (plain, secure) = (options.client_port, free_port());
    options.args = vec![
        format!("--listen-client-urls=http://127.0.0.1:{plain},https://127.0.0.1:{secure}"),
        format!("--cert-file={}", pair.cert.display()),
        format!("--key-file={}", pair.key.display()),
    ];
    let victim = Victim::of(Node::start(options).unwrap());
    // A record of a handshake that is longer than what comes of it, and one that says nothing.
    let beginnings: [&[u8]; 4] =
        [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x01\x40\x00"];
    let open = |number: usize| {
        let mut stream = connect(secure);
        stream.write_all(beginnings[number % beginnings.len()]).unwrap();
        stream
    };
    let streams: Vec<TcpStream> = (0..200).map(open).collect();
    victim.serves().await;
    for stream in streams {
        wait_closed(stream);
    }
    victim.recovers("beginnings of handshakes").await;
}
