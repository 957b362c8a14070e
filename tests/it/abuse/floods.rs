//! More and larger messages than there is room for.

use std::io::Read as _;
use std::net::TcpStream;

use harness::Client;
use proto::etcdserverpb::PutRequest;
use tokio::task::JoinSet;

use super::{Victim, hang_up, send};
use crate::wire::{DATA, SETTINGS, call, field, frame};

const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const GRPC: &[u8] = b"\x0f\x10\x10application/grpc";
const VALUE_BYTES: usize = 1_400_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_from_all_sides() {
    const CLIENTS: usize = 100;
    const PUTS: usize = 6;
    let victim = Victim::start(&[]);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let endpoint = victim.node.endpoint();
        clients.spawn(async move {
            let mut client = Client::connect(&endpoint).await.unwrap();
            let key = format!("large {number}").into_bytes();
            let mut puts = JoinSet::new();
            for _ in 0..PUTS {
                let (mut kv, key) = (client.kv.clone(), key.clone());
                puts.spawn(async move {
                    let value = vec![b'v'; VALUE_BYTES];
                    kv.put(PutRequest { key, value, ..Default::default() }).await
                });
            }
            let answers = puts.join_all().await;
            let value = vec![b'v'; VALUE_BYTES + (1 << 20)];
            let too_large = client.kv.put(PutRequest { key, value, ..Default::default() }).await;
            let message = too_large.unwrap_err().message().to_owned();
            let refused = ["larger than max", "request is too large", "too many requests"];
            assert!(refused.iter().any(|words| message.contains(words)), "{message}");
            answers
        });
    }
    victim.serves().await;
    let answers: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    println!("{} of {} puts were refused", refused.len(), answers.len());
    for status in &refused {
        let message = status.message();
        let slow = ["timed out", "deadline", "in time"].iter().any(|words| message.contains(words));
        assert!(slow || message == "etcdserver: too many requests", "{status:?}");
    }
    assert!(answers.len() > refused.len(), "some get through");
    victim.recovers("large requests").await;
}

/// What a connection may still send, as the server says.
struct Credit {
    stream: TcpStream,
    bytes: usize,
}

impl Credit {
    /// Its settings count once they were acknowledged.
    fn of(stream: TcpStream) -> Credit {
        let mut credit = Credit { stream, bytes: 65_535 };
        while credit.receive() != Some(SETTINGS) {}
        assert!(send(&mut credit.stream, &frame(SETTINGS, ACK, 0, &[])));
        credit
    }

    /// Reads a frame: of what kind it is.
    fn receive(&mut self) -> Option<u8> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).ok()?;
        let [a, b, c, kind, _, id @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        if kind == WINDOW_UPDATE && id == [0; 4] {
            let more: [u8; 4] = payload.try_into().expect("four bytes");
            self.bytes += u32::from_be_bytes(more) as usize;
        }
        Some(kind)
    }

    /// Reads until this much may be sent; false if that is never said.
    fn wait_for(&mut self, bytes: usize) -> bool {
        while self.bytes < bytes {
            if self.receive().is_none() {
                return false;
            }
        }
        true
    }

    fn data(&mut self, number: u32, bytes: &[u8]) -> bool {
        let sent = self.wait_for(bytes.len());
        self.bytes = self.bytes.saturating_sub(bytes.len());
        sent && send(&mut self.stream, &frame(DATA, 0, number, bytes))
    }
}

/// Each stream sends most of a message, and no more: all together 750 MB.
#[tokio::test]
async fn messages_that_do_not_come_to_their_end() {
    const CONNECTIONS: usize = 25;
    const STREAMS: u32 = 30;
    const PART: usize = 16_000;
    const PARTS: usize = 62;
    let victim = Victim::start(&[]);
    let message_length = u32::try_from(VALUE_BYTES).unwrap().to_be_bytes();
    let first = [&[0][..], &message_length, &[0; 8_000]].concat();
    let rest = vec![0; PART];
    let fields = [&field(0, 1, "a")[..], GRPC].concat();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut credit = Credit::of(victim.speak(&[]));
        for number in (0..STREAMS).map(|nth| 2 * nth + 1) {
            let opened = call(number, "/etcdserverpb.KV/Put", &fields);
            // What is refused is reset; the rest of it is passed over.
            assert!(send(&mut credit.stream, &opened) && credit.data(number, &first));
            let sent = (0..PARTS).take_while(|_| credit.data(number, &rest)).count();
            assert_eq!(sent, PARTS, "the connection stays");
        }
        connections.push(credit.stream);
    }
    victim.serves().await;
    hang_up(connections);
    victim.recovers("unfinished messages").await;
}
