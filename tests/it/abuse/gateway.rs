//! The gateway and the pages: heads and bodies that are too large, too deep, too slow.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use harness::Client;
use harness::http::Ask;
use proto::etcdserverpb::PutRequest;

use super::{Victim, hang_up, send, wait_closed};
use crate::wire::{DATA, END_STREAM, HEADERS, RST_STREAM, call, field, frame};

/// Twice what a message may have, and more.
const TOO_LARGE: usize = 6 << 20;

fn answer(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A server that refuses what is still being sent may reset the connection.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn bodies_that_are_too_large_or_too_deep() {
    let victim = Victim::start(&[]);
    let endpoint = victim.node.endpoint();
    for _ in 0..30 {
        let mut stream = victim.connect();
        let head =
            format!("POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: {TOO_LARGE}\r\n\r\n");
        assert!(send(&mut stream, head.as_bytes()));
        let body = [b"{\"value\":\"", &vec![b'v'; TOO_LARGE][..]].concat();
        let _ = send(&mut stream, &body[..TOO_LARGE]);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let said = answer(&mut stream);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 429 "), "{said}");
    }
    for body in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "\"".repeat(3)] {
        let mut refused = Ask::post(&endpoint, "/v3/kv/range", &body).send().unwrap();
        let (status, said) = (refused.status, refused.text());
        assert_eq!(status, 400, "{said:?}");
    }
    victim.recovers("bodies").await;
}

#[tokio::test]
async fn a_body_in_single_bytes_takes_no_longer_than_its_bytes() {
    const BYTES: usize = 100_000;
    let victim = Victim::start(&[]);
    let json = format!("{{\"key\":\"YQ==\",\"nobody\":\"{}\"}}", "x".repeat(BYTES));
    let mut chunked: Vec<u8> =
        b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            .to_vec();
    for byte in json.bytes() {
        chunked.extend_from_slice(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']);
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let mut stream = victim.connect();
    stream.write_all(&chunked).unwrap();
    let said = answer(&mut stream);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    victim.recovers("single bytes").await;
}

#[tokio::test]
async fn heads_that_are_too_large() {
    let victim = Victim::start(&[]);
    let many: String = (0..5_000).map(|number| format!("x-{number}: y\r\n")).collect();
    let one = format!("x: {}\r\n", "y".repeat(1 << 20));
    let path = "a".repeat(1 << 20);
    for head in [
        format!("GET /health HTTP/1.1\r\n{many}\r\n"),
        format!("GET /health HTTP/1.1\r\n{one}\r\n"),
        format!("GET /{path} HTTP/1.1\r\n\r\n"),
    ] {
        for _ in 0..20 {
            let mut stream = victim.connect();
            let _ = send(&mut stream, head.as_bytes());
            let said = String::from_utf8_lossy(&wait_closed(stream)).into_owned();
            let refused = said.starts_with("HTTP/1.1 431") || said.starts_with("HTTP/1.1 414");
            assert!(said.is_empty() || refused, "{said}");
        }
    }
    victim.recovers("heads").await;
}

const STREAMS: usize = 10;
/// Room for the answer that a watcher was created, and not for the first event.
const WINDOW_BYTES: u16 = 1 << 10;

/// Watches over so many connections.
fn watch(victim: &Victim, connections: usize, request: &str) -> Vec<TcpStream> {
    let window = [&[0, 4, 0, 0][..], &WINDOW_BYTES.to_be_bytes()].concat();
    let connection = |_| {
        let mut stream = victim.speak(&window);
        for number in (0..STREAMS as u32).map(|nth| 2 * nth + 1) {
            let data = frame(DATA, 0, number, request.as_bytes());
            let call = call(number, "/v3/watch", &field(0, 1, "a"));
            assert!(send(&mut stream, &[call, data].concat()));
        }
        stream
    };
    (0..connections).map(connection).collect()
}

/// Reads until each stream of a connection was sent so many bytes or was ended. How many bytes each was
/// sent is in `sent`.
fn wait_sent(mut stream: &TcpStream, sent: &mut [usize; STREAMS], bytes: usize) {
    while sent.iter().any(|sent| *sent < bytes) {
        let mut header = [0; 9];
        stream.read_exact(&mut header).unwrap();
        let [a, b, c, kind, flags, .., number] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).unwrap();
        let nth = usize::from(number / 2);
        match kind {
            RST_STREAM => sent[nth] = usize::MAX,
            DATA | HEADERS if flags & END_STREAM != 0 => sent[nth] = usize::MAX,
            DATA => sent[nth] = sent[nth].saturating_add(payload.len()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_nobody_reads() {
    const CONNECTIONS: usize = 70;
    let victim = Victim::start(&[]);
    let mut client = Client::connect(&victim.node.endpoint()).await.unwrap();
    let watches = watch(&victim, CONNECTIONS, r#"{"create_request":{"key":"YQ=="}}"#);
    let mut sent = vec![[0; STREAMS]; CONNECTIONS];
    for (stream, sent) in watches.iter().zip(&mut sent) {
        wait_sent(stream, sent, 1);
    }
    let value = vec![b'v'; 5 << 18];
    client.kv.put(PutRequest { key: "a".into(), value, ..Default::default() }).await.unwrap();
    for (stream, sent) in watches.iter().zip(&mut sent) {
        wait_sent(stream, sent, WINDOW_BYTES.into());
    }
    victim.serves().await;
    hang_up(watches);
    victim.recovers("gateway watches unread").await;
}
