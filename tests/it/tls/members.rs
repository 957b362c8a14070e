//! Members that reach each other over TLS.

use harness::certs::{Authority, Subject};
use harness::{Client, Node, NodeOptions, Target, free_port};
use proto::etcdserverpb::{PutRequest, RangeRequest};

use super::*;

/// Three members on `https://` peer URLs, each with its flags; started, not awaited.
fn spawn_members(flags: impl Fn(usize) -> Vec<String>) -> Vec<Node> {
    let target = Target::from_env().unwrap();
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let url = |place: usize| format!("https://127.0.0.1:{}", ports[place]);
    let list: Vec<String> = (0..3).map(|place| format!("n{place}={}", url(place))).collect();
    (0..3)
        .map(|place| {
            let mut options = NodeOptions::new(target);
            options.name = format!("n{place}");
            options.peer_port = ports[place];
            options.advertised_peer_url = Some(url(place));
            options.initial_cluster = Some(list.join(","));
            options.args = vec![format!("--listen-peer-urls={}", url(place))];
            options.args.extend(flags(place));
            let mut node = Node::prepare(options).unwrap();
            node.spawn().unwrap();
            node
        })
        .collect()
}

fn wait_ready(nodes: &mut [Node]) {
    for node in nodes {
        node.wait_ready().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// What is put at one member is read at the others.
async fn check_replication(nodes: &[Node], key: &str) {
    let mut client = Client::connect(&nodes[0].endpoint()).await.unwrap();
    let put = PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
    client.kv.put(put).await.unwrap();
    for node in nodes {
        let mut client = Client::connect(&node.endpoint()).await.unwrap();
        let range = RangeRequest { key: key.into(), ..Default::default() };
        assert_eq!(client.kv.range(range).await.unwrap().get_ref().count, 1);
    }
}

fn flags_of(pair: &Pair, ca: &Authority) -> Vec<String> {
    vec![
        format!("--peer-cert-file={}", pair.cert.display()),
        format!("--peer-key-file={}", pair.key.display()),
        format!("--peer-trusted-ca-file={}", ca.cert.display()),
        "--peer-client-cert-auth".to_owned(),
    ]
}

#[tokio::test]
async fn members_trust_each_other_by_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let pair = |place: usize| {
        let subject = Subject { common_name: "member", ..Subject::default() };
        ca.issue(&format!("n{place}"), &subject).unwrap()
    };
    let mut nodes = spawn_members(|place| {
        let mut flags = flags_of(&pair(place), &ca);
        flags.push("--peer-cert-allowed-cn=member".to_owned());
        flags
    });
    wait_ready(&mut nodes);
    check_replication(&nodes, "a").await;
    // Renewed certificates are used without a restart of anybody else.
    for place in 0..3 {
        pair(place);
    }
    nodes[2].kill().unwrap();
    nodes[2].start_again().unwrap_or_else(|error| panic!("{error:#}"));
    check_replication(&nodes, "b").await;
}

#[tokio::test]
async fn members_make_certificates_if_asked_to() {
    let mut nodes = spawn_members(|_| vec!["--peer-auto-tls".to_owned()]);
    wait_ready(&mut nodes);
    check_replication(&nodes, "a").await;
}

/// Two are a quorum; the third is kept out for its name, and everybody's log says so.
#[tokio::test]
async fn a_member_with_a_wrong_certificate_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let mut nodes = spawn_members(|place| {
        let common_name = if place == 2 { "intruder" } else { "member" };
        let subject = Subject { common_name, ..Subject::default() };
        let mut flags = flags_of(&ca.issue(&format!("n{place}"), &subject).unwrap(), &ca);
        flags.push("--peer-cert-allowed-cn=member".to_owned());
        flags
    });
    wait_ready(&mut nodes[..2]);
    check_replication(&nodes[..2], "a").await;
    if nodes[0].options().target == Target::Etcd {
        return;
    }
    let words = "its certificate's common name \"intruder\" is not among the allowed ones";
    let deadline = Instant::now() + NOTICED_WITHIN;
    while !nodes[..2].iter().any(|node| node.log().contains(words)) {
        assert!(Instant::now() < deadline, "{}", nodes[0].log_tail());
        std::thread::yield_now();
    }
}

/// A certificate for another address, unless nobody looks.
#[tokio::test]
async fn members_call_from_where_their_certificates_say() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let subject = Subject { common_name: "member", ..Subject::default() };
    let server = ca.issue("server", &subject).unwrap();
    let elsewhere = Subject { common_name: "member", hosts: &["192.0.2.7"], ..Subject::default() };
    let caller = ca.issue("caller", &elsewhere).unwrap();
    let flags = |skip: bool| {
        let (server, caller, ca) = (server.clone(), caller.clone(), ca.cert.clone());
        move |place: usize| {
            let mut flags = vec![
                format!("--peer-cert-file={}", server.cert.display()),
                format!("--peer-key-file={}", server.key.display()),
                format!("--peer-trusted-ca-file={}", ca.display()),
            ];
            if place == 2 {
                flags.push(format!("--peer-client-cert-file={}", caller.cert.display()));
                flags.push(format!("--peer-client-key-file={}", caller.key.display()));
            }
            if skip {
                flags.push("--peer-skip-client-san-verification".to_owned());
            }
            flags
        }
    };
    let mut nodes = spawn_members(flags(true));
    wait_ready(&mut nodes);
    check_replication(&nodes, "a").await;
    drop(nodes);
    let mut nodes = spawn_members(flags(false));
    wait_ready(&mut nodes[..2]);
    if nodes[0].options().target == Target::Etcd {
        return;
    }
    let words = "its certificate is for 192.0.2.7, and it calls from 127.0.0.1";
    let deadline = Instant::now() + NOTICED_WITHIN;
    while !nodes[..2].iter().any(|node| node.log().contains(words)) {
        assert!(Instant::now() < deadline, "{}", nodes[0].log_tail());
        std::thread::yield_now();
    }
}
