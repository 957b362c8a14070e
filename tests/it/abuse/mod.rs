//! Clients that mean harm, or act as if: what they take is bounded, others are served meanwhile, and
//! when they have gone all of it is given back.
//!
//! Each attack runs against a process of its own, through sockets where no client library would do
//! such a thing. A clock decides nothing: what has to happen is waited for.

mod connections;
mod floods;
mod frames;
mod gateway;
mod readers;
mod streams;
mod watchers;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use harness::{Client, Node, NodeOptions, Target};
use proto::etcdserverpb::{PutRequest, RangeRequest};

use crate::wire::{GOAWAY, PREFACE, SETTINGS, frame};

/// What a member may take at most in any of the attacks, none of which takes all of what
/// `CLIENT_BYTES_MAX` of `server/src/limits.rs` allows. Without bounds they would take gigabytes.
const RSS_BYTES_MAX: u64 = 896 << 20;

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(300);

/// Files that come and go in a member that nobody asks anything.
const FILES_SPARE: usize = 16;

/// A member that is attacked.
struct Victim {
    node: Node,
    files: usize,
}

impl Victim {
    fn start(args: &[&str]) -> Victim {
        let mut options = NodeOptions::new(Target::Kvd);
        options.args.extend(args.iter().map(ToString::to_string));
        Victim::of(Node::start(options).unwrap_or_else(|error| panic!("{error:#}")))
    }

    fn of(node: Node) -> Victim {
        let files = open_files(&node);
        Victim { node, files }
    }

    /// Somebody else puts and gets, on a connection of its own.
    async fn serves(&self) {
        let put = PutRequest { key: "other".into(), value: "1".into(), ..Default::default() };
        let range = RangeRequest { key: "other".into(), ..Default::default() };
        let work = async {
            let mut client = Client::connect(&self.node.endpoint()).await.unwrap();
            while let Err(status) = client.kv.put(put.clone()).await {
                // That is an answer, too: it is to come again.
                assert_eq!(status.message(), "etcdserver: too many requests");
            }
            assert_eq!(client.kv.range(range).await.unwrap().get_ref().count, 1);
        };
        tokio::time::timeout(PATIENCE, work).await.expect("others are served");
    }

    fn connect(&self) -> TcpStream {
        connect(self.node.options().client_port)
    }

    /// With HTTP/2's beginning, and settings.
    fn speak(&self, settings: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).unwrap();
        stream
    }

    fn peak_bytes(&self) -> u64 {
        status_line(&self.node, "VmHWM:") * 1024
    }

    /// The attackers have gone: what was theirs goes, too, and nothing was too much.
    #[expect(clippy::print_stdout, reason = "figures for whoever wants to see them")]
    async fn recovers(mut self, attack: &str) {
        self.serves().await;
        let deadline = Instant::now() + PATIENCE;
        while open_files(&self.node) > self.files + FILES_SPARE {
            assert!(Instant::now() < deadline, "{} files stay open", open_files(&self.node));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (peak, now) = (self.peak_bytes(), status_line(&self.node, "VmRSS:") * 1024);
        println!("{attack}: {} MB at most, {} MB afterwards", peak >> 20, now >> 20);
        assert!(peak <= RSS_BYTES_MAX, "{attack}: {peak} bytes");
        assert!(self.node.is_running(), "{}", self.node.log_tail());
        let stopped = self.node.stop().unwrap();
        assert!(stopped.success(), "{}", self.node.log_tail());
        assert!(!self.node.log().contains("panicked"), "{}", self.node.log_tail());
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn open_files(node: &Node) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.pid().unwrap())).unwrap().count()
}

/// Kilobytes.
fn status_line(node: &Node, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Waits until the server has closed this connection, whatever it says before. A client that sends
/// to a connection that is gone is reset.
fn wait_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it stays open: {error}"),
    }
    said
}

/// Sends all of it, or as much as is taken before the connection is closed.
fn send(mut stream: impl std::io::Write, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

/// Whether the server said that it ends this connection.
fn has_goaway(mut said: &[u8]) -> bool {
    while let Some(([a, b, c, kind, ..], _)) = said.split_first_chunk::<9>() {
        if *kind == GOAWAY {
            return true;
        }
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        said = said.get(9 + length..).unwrap_or_default();
    }
    false
}

/// No more is sent, so that the server ends the connection.
fn hang_up(streams: Vec<TcpStream>) {
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
