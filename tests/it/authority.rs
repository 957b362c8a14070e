//! Clients that name a URL where HTTP/2 wants a host are served: grpc-go never looks at it, and
//! etcdctl 3.4 does so for `endpoint status` and `endpoint hashkv`, and names paths of sockets too.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use harness::{Node, NodeOptions, Target, etcd_is_required};
use prost::Message as _;
use proto::etcdserverpb::StatusResponse;

use crate::wire::{Wire, field, request};

/// Debian's etcdctl, the oldest one that is still around.
const ETCDCTL: &str = "/usr/bin/etcdctl";

fn node() -> Node {
    let target = Target::from_env().unwrap();
    Node::start_one(target).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_url_as_authority_is_served() {
    let node = node();
    let mut wire = Wire::connect(&node);
    let path = "/etcdserverpb.Maintenance/Status";
    // The content type is 31 in the table.
    let url = field(0x40, 1, &node.endpoint());
    let first = request(1, path, &[&url[..], b"\x5f\x10application/grpc"].concat());
    // Both are remembered: 62 is the newest, the content type; 63 the authority.
    let second = request(3, path, &[0x80 | 63, 0x80 | 62]);
    // And once more not to be remembered, byte by byte.
    let third = request(5, path, &[&field(0, 1, &node.endpoint())[..], &[0x80 | 62]].concat());
    let answer =
        |wire: &mut Wire, stream| StatusResponse::decode(&wire.answer(stream)[..]).unwrap();
    wire.send(&first);
    let status = answer(&mut wire, 1);
    assert_ne!(status.leader, 0);
    wire.send(&second);
    assert_eq!(answer(&mut wire, 3).version, status.version);
    for byte in third {
        wire.send(&[byte]);
    }
    assert_eq!(answer(&mut wire, 5).version, status.version);
}

/// Whether there is an etcdctl to run; without one the test is passed over, unless it must run.
fn has_etcdctl() -> bool {
    let has = Path::new(ETCDCTL).exists();
    assert!(has || !etcd_is_required(), "no {ETCDCTL}, and KVD_REQUIRE_ETCD is set");
    has
}

fn etcdctl(node: &Node, words: &[&str]) -> Command {
    let mut command = Command::new(ETCDCTL);
    command.env("ETCDCTL_API", "3").args(["--endpoints", &node.endpoint()]).args(words);
    command
}

/// Runs a command that must succeed, and returns its output.
fn run(node: &Node, words: &[&str], input: &str) -> String {
    let mut command = etcdctl(node, words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn check(node: &Node, words: &str, expected: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    assert_eq!(run(node, &words, ""), expected, "{words:?}");
}

/// The first lines of a watch.
fn watched(node: &Node, words: &[&str], count: usize) -> Vec<String> {
    let mut child = etcdctl(node, words).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // The test may have enough, and the process is killed in the middle of a line then.
        for line in lines.map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let next = |_| receiver.recv_timeout(Duration::from_secs(10)).unwrap_or_default();
    let seen = (0..count).map(next).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    seen
}

#[test]
fn etcdctl_of_debian_reads_and_writes() {
    if !has_etcdctl() {
        return;
    }
    let node = node();
    check(&node, "put a 1", "OK\n");
    check(&node, "put a 2 --prev-kv", "OK\na\n1\n");
    check(&node, "get a", "a\n2\n");
    check(&node, "get a --rev 2 --print-value-only", "1\n");
    let txn = "value(\"a\") = \"2\"\n\nput b 3\nget a\n\ndel a\n\n";
    assert_eq!(run(&node, &["txn"], txn), "SUCCESS\n\nOK\n\na\n2\n");
    check(&node, "del a --prev-kv", "1\na\n2\n");
    let seen = watched(&node, &["watch", "--prefix", "", "--rev", "3"], 9);
    assert_eq!(seen, ["PUT", "a", "2", "PUT", "b", "3", "DELETE", "a", ""]);
    check(&node, "compaction 4", "compacted revision 4\n");
    let refused = etcdctl(&node, &["get", "a", "--rev", "3"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("mvcc: required revision has been compacted"), "{said}");
}

#[test]
fn etcdctl_of_debian_looks_after_the_member() {
    if !has_etcdctl() {
        return;
    }
    let node = node();
    check(&node, "put a 1", "OK\n");
    let file = node.dir().join("saved").display().to_string();
    for format in ["simple", "json", "fields", "table", "protobuf"] {
        for words in ["endpoint status", "endpoint hashkv", "endpoint health", "member list"] {
            // etcdctl itself has no protobuf for the first three.
            if format != "protobuf" || words == "member list" {
                let words: Vec<&str> = words.split(' ').chain(["-w", format]).collect();
                run(&node, &words, "");
            }
        }
    }
    for words in ["status", "hashkv"] {
        let said = run(&node, &["endpoint", words], "");
        assert!(said.starts_with(&format!("{}, ", node.endpoint())), "{said}");
    }
    run(&node, &["snapshot", "save", &file], "");
    // Hash, revision, keys and size.
    let figures = run(&node, &["snapshot", "status", &file], "");
    assert_eq!(figures.split(", ").nth(1), Some("2"), "{figures}");
}

#[test]
fn etcdctl_of_debian_comes_through_a_socket() {
    if !has_etcdctl() {
        return;
    }
    let mut node = Node::prepare(NodeOptions::new(Target::from_env().unwrap())).unwrap();
    let socket = format!("unix://{}", node.dir().join("kvd.sock").display());
    let urls = format!("--listen-client-urls={},{socket}", node.endpoint());
    node.options_mut().args.push(urls);
    node.start_again().unwrap_or_else(|error| panic!("{error:#}"));
    for words in ["put a 1", "get a", "endpoint status", "endpoint hashkv", "member list"] {
        let words: Vec<&str> =
            ["--endpoints", &socket].into_iter().chain(words.split(' ')).collect();
        let output = Command::new(ETCDCTL).env("ETCDCTL_API", "3").args(&words).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
    }
}
