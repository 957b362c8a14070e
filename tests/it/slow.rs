//! Requests that take longer than the options allow are logged, without what is in them.

use std::time::Instant;

use harness::http::Ask;
use harness::{Client, Node, NodeOptions, PATIENCE, Target};
use proto::etcdserverpb::{PutRequest, RangeRequest};

const APPLY: &str = "apply request took too long";
const CALL: &str = "request stats";
const PUTS: u64 = 200;

/// A server with these bounds, and a few hundred requests to it.
async fn asked(apply: &str, call: &str) -> (Node, Instant) {
    let mut options = NodeOptions::new(Target::from_env().unwrap());
    options.args = vec![
        format!("--warning-apply-duration={apply}"),
        format!("--warning-unary-request-duration={call}"),
    ];
    let began = Instant::now();
    let node = Node::start(options).unwrap_or_else(|error| panic!("{error:#}"));
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    for _ in 0..PUTS {
        let put = PutRequest {
            key: b"where".as_slice().into(),
            value: b"a secret".as_slice().into(),
            ..Default::default()
        };
        client.kv.put(put).await.unwrap();
    }
    let range = RangeRequest { key: b"where".as_slice().into(), ..Default::default() };
    client.kv.range(range).await.unwrap();
    (node, began)
}

fn lines(node: &Node, words: &str) -> u64 {
    node.log().lines().filter(|line| line.contains(words)).count() as u64
}

/// As `/metrics` has it.
fn slow_applies(node: &Node) -> u64 {
    let text = Ask::get(&node.endpoint(), "/metrics").send().unwrap().text().unwrap();
    let name = "etcd_server_slow_apply_total ";
    let count = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    count.parse().unwrap()
}

#[tokio::test]
async fn each_option_has_lines_of_its_own() {
    for (apply, call, words, others) in [("1ns", "1h", APPLY, CALL), ("1h", "1ns", CALL, APPLY)] {
        let (node, began) = asked(apply, call).await;
        let deadline = Instant::now() + PATIENCE;
        while lines(&node, words) == 0 {
            assert!(Instant::now() < deadline, "no {words:?} in\n{}", node.log_tail());
            tokio::task::yield_now().await;
        }
        assert_eq!(lines(&node, others), 0, "{}", node.log_tail());
        assert!(!node.log().contains("a secret"), "{}", node.log_tail());
        match apply {
            // And the range.
            "1ns" => assert!(slow_applies(&node) > PUTS),
            _ => assert_eq!(slow_applies(&node), 0),
        }
        // However slow all is, there is not one for each request.
        if node.options().target == Target::Kvd {
            let most = began.elapsed().as_secs() + 2;
            assert!(lines(&node, words) <= most, "more than {most}\n{}", node.log_tail());
        }
    }
}
