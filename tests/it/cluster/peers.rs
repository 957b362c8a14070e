//! Messages between members that are not for the one they reach: of a cluster that had the address
//! before, or for a member that had it. Others that speak to a member's peer port.

use harness::http::Ask;
use proto::internal::{LogId, Vote};
use proto::peer::change_members_request::Change;
use proto::peer::peer_client::PeerClient;
use proto::peer::snapshot_piece::Piece;
use proto::peer::{
    AppendRequest, ChangeMembersRequest, Identity, ProposeRequest, ReadIndexRequest, SnapshotHead,
    SnapshotPiece, TransferLeaderRequest, VoteRequest,
};
use tonic::Code;
use tonic::transport::Channel;

use super::*;

/// A term that would end every other.
const TERM: u64 = 1 << 40;

/// What a member answers to each kind of message.
async fn answers(peer: &mut PeerClient<Channel>, identity: Identity) -> Vec<Status> {
    let from = identity.from;
    let identity = || Some(identity);
    let vote = || Some(Vote { term: TERM, member_id: from, committed: true });
    let last = Some(LogId { term: TERM, index: TERM });
    let append = || AppendRequest { identity: identity(), vote: vote(), ..Default::default() };
    let campaign =
        || VoteRequest { identity: identity(), vote: vote(), last, ..Default::default() };
    let transfer =
        TransferLeaderRequest { identity: identity(), from_leader: vote(), to_member: from, last };
    let head = SnapshotHead { identity: identity(), vote: vote(), applied: last, bytes: 1 };
    let snapshot = [
        SnapshotPiece { piece: Some(Piece::Head(head)) },
        SnapshotPiece { piece: Some(Piece::Data(b"?".as_slice().into())) },
    ];
    let change = ChangeMembersRequest { identity: identity(), change: Some(Change::Remove(from)) };
    let propose = ProposeRequest { identity: identity(), term: TERM, proposals: Vec::new() };
    let stream = peer.replicate(tokio_stream::once(append())).await.unwrap();
    vec![
        stream.into_inner().message().await.unwrap_err(),
        peer.append(append()).await.unwrap_err(),
        peer.vote(campaign()).await.unwrap_err(),
        peer.pre_vote(campaign()).await.unwrap_err(),
        peer.transfer_leader(transfer).await.unwrap_err(),
        peer.install_snapshot(tokio_stream::iter(snapshot)).await.unwrap_err(),
        peer.propose(propose).await.unwrap_err(),
        peer.read_index(ReadIndexRequest { identity: identity() }).await.unwrap_err(),
        peer.change_members(change).await.unwrap_err(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_somebody_else_are_refused() {
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let cluster = start();
    let leader = cluster.leader().await.unwrap();
    put(&cluster, leader, "a", "1").await;
    let term = cluster.term(leader).await.unwrap();
    for place in cluster.places() {
        let header = cluster.status(place).await.unwrap().header.unwrap();
        let other = cluster.id((place + 1) % 3).await.unwrap();
        let right = Identity {
            cluster_id: header.cluster_id,
            from: other,
            to: header.member_id,
            ..Identity::default()
        };
        let port = cluster.node(place).options().peer_port;
        let mut peer = PeerClient::connect(format!("http://127.0.0.1:{port}")).await.unwrap();
        let wrong = [
            (Identity { cluster_id: 7, ..right }, "cluster ID mismatch: "),
            (Identity { to: other, ..right }, "member ID mismatch: "),
            (Identity { from: 7, to_log: 7, ..right }, "log mismatch: "),
        ];
        for (identity, why) in wrong {
            for status in answers(&mut peer, identity).await {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
                assert!(status.message().starts_with(why), "{status:?}");
            }
        }
    }
    assert_eq!(cluster.leader().await.unwrap(), leader);
    assert_eq!(cluster.term(leader).await.unwrap(), term);
    put(&cluster, leader, "a", "2").await;
    cluster.wait_in_step().await.unwrap();
}

/// What anybody may say of itself is not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_are_counted() {
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let cluster = start();
    let leader = cluster.leader().await.unwrap();
    put(&cluster, leader, "a", "1").await;
    cluster.wait_in_step().await.unwrap();
    let options = cluster.node(leader).options();
    let peer = format!("127.0.0.1:{}", options.peer_port);
    for id in 1..=300 {
        let headers = [("user-agent", &*format!("kvd-member/{id:x}"))];
        let answer = Ask { headers: &headers, ..Ask::get(&peer, "/version") }.send().unwrap();
        assert_eq!(answer.status, 200);
    }
    let client = format!("127.0.0.1:{}", options.client_port);
    let page = Ask::get(&client, "/metrics").send().unwrap().text().unwrap();
    let name = "etcd_network_peer_received_bytes_total{";
    let series: Vec<&str> = page.lines().filter(|line| line.starts_with(name)).collect();
    assert_eq!(series.len(), 2, "{series:?}");
    for place in cluster.places().filter(|place| *place != leader) {
        let id = format!("From=\"{:x}\"", cluster.id(place).await.unwrap());
        assert!(series.iter().any(|line| line.contains(&id)), "{id}: {series:?}");
    }
}
