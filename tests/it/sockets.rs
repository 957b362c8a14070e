//! Clients on the same machine may come through a Unix socket.

use std::path::PathBuf;

use harness::{Client, Node, NodeOptions, Target};
use proto::etcdserverpb::{PutRequest, RangeRequest};

/// A node that listens on a socket as well, and where that is.
fn node() -> (Node, PathBuf) {
    let mut node = Node::prepare(NodeOptions::new(Target::from_env().unwrap())).unwrap();
    let path = node.dir().join("kvd.sock");
    let urls = format!("{},unix://{}", node.endpoint(), path.display());
    node.options_mut().args.push(format!("--listen-client-urls={urls}"));
    node.start_again().unwrap_or_else(|error| panic!("{error:#}"));
    (node, path)
}

async fn connect(path: &std::path::Path) -> Client {
    Client::connect(&format!("unix://{}", path.display())).await.unwrap()
}

#[tokio::test]
async fn a_socket_serves_like_an_address() {
    let (mut node, path) = node();
    let put = PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
    connect(&path).await.kv.put(put).await.unwrap();
    let range = RangeRequest { key: "a".into(), ..Default::default() };
    let mut other = Client::connect(&node.endpoint()).await.unwrap();
    assert_eq!(other.kv.range(range.clone()).await.unwrap().get_ref().count, 1);
    node.stop().unwrap();
    assert!(!path.exists(), "a clean stop takes the socket away");
    // A killed process leaves it behind, for the next to replace.
    node.start_again().unwrap();
    node.kill().unwrap();
    assert!(path.exists());
    node.start_again().unwrap();
    assert_eq!(connect(&path).await.kv.range(range).await.unwrap().get_ref().count, 1);
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone() {
    let (node, path) = node();
    // etcd takes it away from the one who has it.
    if node.options().target == Target::Etcd {
        return;
    }
    let mut second = Node::prepare(NodeOptions::new(Target::Kvd)).unwrap();
    for taken in [path.clone(), node.log_path()] {
        let url = format!("--listen-client-urls=unix://{}", taken.display());
        second.options_mut().args = vec![url];
        second.spawn().unwrap();
        let status = second.wait_exit(std::time::Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(1), "{}", second.log());
        let name = taken.file_name().unwrap().to_str().unwrap();
        assert!(second.log_tail().contains(name), "{}", second.log());
        assert!(taken.exists());
    }
    assert!(
        connect(&path)
            .await
            .kv
            .range(RangeRequest { key: "a".into(), ..Default::default() })
            .await
            .is_ok()
    );
}
