//! How a member finds out who it is, and what it says when the options cannot be right.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use harness::{Client, Node, NodeOptions, Target, free_port};
use proto::etcdserverpb::{PutRequest, RangeRequest, ResponseHeader, StatusRequest};
use tonic::Code;

/// A member that waits for a leader serves clients after five seconds, as etcd does.
const SERVES_WITHIN: Duration = Duration::from_secs(20);

fn kvd() -> NodeOptions {
    NodeOptions::new(Target::Kvd)
}

/// `n1` with its own port and two more that nobody listens on.
fn one_of_three() -> NodeOptions {
    let mut options = kvd();
    let ports = [options.peer_port, free_port(), free_port()];
    let list: Vec<String> =
        (1..).zip(ports).map(|(n, port)| format!("n{n}=http://127.0.0.1:{port}")).collect();
    options.initial_cluster = Some(list.join(","));
    options
}

fn spawned(options: NodeOptions) -> Node {
    let mut node = Node::prepare(options).unwrap();
    node.spawn().unwrap();
    node
}

/// The last line of a process that does not start, which must end with etcd's exit code.
fn refused(options: NodeOptions) -> String {
    refuses(&mut Node::prepare(options).unwrap())
}

fn refuses(node: &mut Node) -> String {
    node.spawn().unwrap();
    let status = node.wait_exit(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(1), "{}", node.log());
    node.log().lines().last().unwrap_or_default().to_owned()
}

/// A client of a member that need not have a leader.
async fn client(node: &Node) -> Client {
    let deadline = Instant::now() + SERVES_WITHIN;
    loop {
        match Client::connect(&node.endpoint()).await {
            Ok(client) => return client,
            Err(error) if Instant::now() > deadline => panic!("{error:#}\n{}", node.log_tail()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn header(client: &mut Client) -> ResponseHeader {
    let status = client.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    status.header.unwrap()
}

#[tokio::test]
async fn one_of_three_starts_and_answers_what_needs_no_leader() {
    let node = spawned(one_of_three());
    let mut client = client(&node).await;
    let status = client.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, status.errors), (0, vec!["etcdserver: no leader".to_owned()]));
    let range = RangeRequest { key: "a".into(), serializable: true, ..Default::default() };
    assert_eq!(client.kv.range(range.clone()).await.unwrap().get_ref().count, 0);
    let range = RangeRequest { serializable: false, ..range };
    assert_eq!(client.kv.range(range).await.unwrap_err().code(), Code::Unavailable);
    let put = PutRequest { key: "a".into(), ..Default::default() };
    assert_eq!(client.kv.put(put).await.unwrap_err().code(), Code::DeadlineExceeded);
}

/// A unit file keeps its flags when the cluster has changed since.
#[tokio::test]
async fn a_restart_ignores_what_the_flags_say_about_the_cluster() {
    let mut node = Node::start(kvd()).unwrap();
    let before = {
        let mut client = client(&node).await;
        let put = PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
        client.kv.put(put).await.unwrap();
        header(&mut client).await
    };
    let other = format!("x=http://127.0.0.1:{}", free_port());
    for (flags, list) in [
        (vec!["--initial-cluster-token=another"], None),
        (vec!["--initial-cluster-state=existing"], Some(other.clone())),
        (vec![], Some(other)),
        (vec![], Some(String::new())),
    ] {
        node.stop().unwrap();
        node.options_mut().args = flags.into_iter().map(str::to_owned).collect();
        node.options_mut().initial_cluster = list;
        node.start_again().unwrap();
        let mut client = client(&node).await;
        let after = header(&mut client).await;
        assert_eq!((after.cluster_id, after.member_id), (before.cluster_id, before.member_id));
        let range = RangeRequest { key: "a".into(), ..Default::default() };
        assert_eq!(client.kv.range(range).await.unwrap().get_ref().count, 1);
    }
}

#[test]
fn wrong_lists_are_told_with_what_to_do() {
    let with = |list: &str| NodeOptions { initial_cluster: Some(list.to_owned()), ..kvd() };
    let options = kvd();
    let own = format!("http://127.0.0.1:{}", options.peer_port);
    let list = format!("n1={own},n2={own}");
    for (options, want) in [
        (with("other=http://127.0.0.1:1"), "it does not name this member, \"n1\", only other"),
        (with("n1=http://127.0.0.1:1"), "give both the same URLs"),
        (with(""), "it names no member"),
        (NodeOptions { initial_cluster: Some(list), ..options }, "for \"n1\" and for \"n2\""),
        (kvd().arg("--initial-cluster-state=existing"), "name all of its members"),
    ] {
        let said = refused(options);
        assert!(said.starts_with("kvd: --initial-cluster: "), "{said}");
        assert!(said.contains(want), "{said}");
    }
}

/// Two clusters never merge, whatever the lists say.
#[test]
fn a_member_of_another_cluster_in_the_list_is_told() {
    let running = Node::start(kvd()).unwrap();
    let list = |options: &NodeOptions| {
        format!("n1={},n2=http://127.0.0.1:{}", running.peer_url(), options.peer_port)
    };
    let mut options = NodeOptions { name: "n2".into(), ..kvd() };
    options.initial_cluster = Some(list(&options));
    let said = refused(options.clone());
    assert!(said.contains("is a member of the running cluster"), "{said}");
    assert!(said.contains("kvctl member add n2 --peer-urls=http://127.0.0.1:"), "{said}");

    // To be let in is not for the one who wants in to decide.
    let said = refused(options.clone().arg("--initial-cluster-state=existing"));
    assert!(said.contains("\"n2\" with the URLs http://127.0.0.1:"), "{said}");
    assert!(said.contains("kvctl member add n2"), "{said}");

    options.initial_cluster =
        Some(format!("n2=http://127.0.0.1:{},n1=http://127.0.0.1:1", options.peer_port));
    let said = refused(options.arg("--initial-cluster-state=existing"));
    assert!(said.contains("no other member of it says who is in the cluster"), "{said}");
    assert!(said.contains("http://127.0.0.1:1: "), "{said}");
}

/// Answers every request with the same text, until the test ends.
fn answers_always(port: u16, text: String) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = |mut stream: TcpStream| {
                let _ = stream.read(&mut [0; 4096])?;
                stream.write_all(text.as_bytes())?;
                stream.shutdown(Shutdown::Write)
            };
            // Whoever hangs up early has heard enough.
            let _ = stream.and_then(answer);
        }
    });
}

#[tokio::test]
async fn a_wiped_founder_is_refused_by_those_that_know_it() {
    let mut node = Node::prepare(one_of_three()).unwrap();
    node.spawn().unwrap();
    let identity = header(&mut client(&node).await).await;
    node.kill().unwrap();
    fs::remove_dir_all(node.data_dir()).unwrap();
    let list = node.options().initial_cluster.clone().unwrap();
    let port = list.rsplit_once(':').unwrap().1.parse().unwrap();
    let members = format!(
        r#"[{{"id":{},"peerURLs":["{}"],"name":"n1","clientURLs":["{}"]}}]"#,
        identity.member_id,
        node.peer_url(),
        node.endpoint()
    );
    let cluster_id = identity.cluster_id;
    answers_always(
        port,
        format!(
            "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: {cluster_id:x}\r\nX-Kvd-Version: 1\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{members}",
            members.len()
        ),
    );
    let said = refuses(&mut node);
    let id = format!("{:x}", identity.member_id);
    assert!(said.contains(&format!("member {id} has already been bootstrapped")), "{said}");
    assert!(said.contains(&format!("kvctl member remove {id}")), "{said}");
    assert!(said.contains("kvctl member add n1"), "{said}");
    assert!(said.contains("--initial-cluster-state=existing"), "{said}");
}

/// Without its log it may have voted and acknowledged what it no longer knows.
#[test]
fn a_member_without_its_log_does_not_go_on() {
    let mut node = Node::start(kvd()).unwrap();
    node.stop().unwrap();
    let log = node.data_dir().join("wal");
    fs::remove_dir_all(&log).unwrap();
    fs::remove_dir_all(node.data_dir().join("db")).unwrap();
    // Trying again changes nothing.
    for _ in 0..2 {
        let said = refuses(&mut node);
        assert!(said.contains("the log is gone"), "{said}");
        assert!(said.contains("kvctl member remove"), "{said}");
    }
}

/// What others ask on the peer port, in the form that etcd gives it.
#[tokio::test]
async fn the_peer_port_lists_the_members() {
    let node = Node::start(kvd()).unwrap();
    let mut client = client(&node).await;
    let identity = header(&mut client).await;
    let mut stream = TcpStream::connect(("127.0.0.1", node.options().peer_port)).unwrap();
    stream.write_all(b"GET /members HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("x-etcd-cluster-id: {:x}\r\n", identity.cluster_id)), "{head}");
    let want = format!(
        r#"[{{"id":{},"peerURLs":["{}"],"name":"n1","clientURLs":["{}"]}}]"#,
        identity.member_id,
        node.peer_url(),
        node.endpoint()
    );
    assert_eq!(body, want);
}
