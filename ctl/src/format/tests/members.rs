//! Answers about members in all formats, as etcdctl 3.6.16 printed them.

use proto::etcdserverpb::{Member, MemberAddResponse, MemberListResponse, MoveLeaderResponse};

use super::*;

const HEADER: ResponseHeader = ResponseHeader {
    cluster_id: 0x67f6_a845_fdd0_327d,
    member_id: 0xe7b0_a8de_767f_518d,
    revision: 0,
    raft_term: 9,
};
const LEARNER: u64 = 0x8b9b_4116_fca3_e3e7;

fn member(id: u64, name: &str, peer_port: u16) -> Member {
    Member {
        id,
        name: name.into(),
        peer_ur_ls: vec![format!("http://127.0.0.1:{peer_port}")],
        client_ur_ls: vec![format!("http://127.0.0.1:{}", peer_port - 1)],
        is_learner: false,
    }
}

/// A learner that was added and never started.
fn learner() -> Member {
    Member { client_ur_ls: Vec::new(), is_learner: true, ..member(LEARNER, "", 25163) }
}

fn list() -> MemberListResponse {
    let members = vec![
        member(0x3b1c_3555_5a8f_24c6, "n3", 25132),
        member(0x4006_3336_b75e_9c99, "n2", 25122),
        learner(),
        member(HEADER.member_id, "n1", 25112),
    ];
    MemberListResponse { header: Some(HEADER), members }
}

fn render_with(format: Format, hex: bool, answer: &Answer<'_>) -> Vec<u8> {
    Style { format, hex, value_only: false }.render(answer).unwrap()
}

#[test]
fn members_in_simple_and_table() {
    let list = list();
    assert_eq!(
        render(Format::Simple, &Answer::Members(&list)),
        "\
3b1c35555a8f24c6, started, n3, http://127.0.0.1:25132, http://127.0.0.1:25131, false
40063336b75e9c99, started, n2, http://127.0.0.1:25122, http://127.0.0.1:25121, false
8b9b4116fca3e3e7, unstarted, , http://127.0.0.1:25163, , true
e7b0a8de767f518d, started, n1, http://127.0.0.1:25112, http://127.0.0.1:25111, false
"
    );
    let mut list = list;
    list.members.remove(2);
    list.members.push(Member {
        id: 0xf87d_9956_216a_3d0b,
        peer_ur_ls: vec!["http://127.0.0.1:25161".into(), "http://127.0.0.1:25162".into()],
        ..Member::default()
    });
    assert_eq!(
        render(Format::Table, &Answer::Members(&list)),
        "\
+------------------+-----------+------+-----------------------------------------------+------------------------+------------+
|        ID        |  STATUS   | NAME |                  PEER ADDRS                   |      CLIENT ADDRS      | IS LEARNER |
+------------------+-----------+------+-----------------------------------------------+------------------------+------------+
| 3b1c35555a8f24c6 |   started |   n3 |                        http://127.0.0.1:25132 | http://127.0.0.1:25131 |      false |
| 40063336b75e9c99 |   started |   n2 |                        http://127.0.0.1:25122 | http://127.0.0.1:25121 |      false |
| e7b0a8de767f518d |   started |   n1 |                        http://127.0.0.1:25112 | http://127.0.0.1:25111 |      false |
| f87d9956216a3d0b | unstarted |      | http://127.0.0.1:25161,http://127.0.0.1:25162 |                        |      false |
+------------------+-----------+------+-----------------------------------------------+------------------------+------------+
"
    );
}

#[test]
fn members_in_fields() {
    let mut list = list();
    list.members.drain(1..2);
    list.members.pop();
    assert_eq!(
        render(Format::Fields, &Answer::Members(&list)),
        r#""ClusterID" : 7491360048741888637
"MemberID" : 16695029492086690189
"RaftTerm" : 9
"ID" : 4259337988293469382
"Name" : "n3"
"PeerURL" : "http://127.0.0.1:25132"
"ClientURL" : "http://127.0.0.1:25131"
"IsLearner" : false

"ID" : 10059705759645819879
"Name" : ""
"PeerURL" : "http://127.0.0.1:25163"
"IsLearner" : true

"#
    );
    let hex = render_with(Format::Fields, true, &Answer::Members(&list));
    let hex = String::from_utf8(hex).unwrap();
    assert!(hex.contains("\n\"ID\" : 8b9b4116fca3e3e7\n"), "{hex}");
}

#[test]
fn members_in_json() {
    let list = list();
    assert_eq!(
        render(Format::Json, &Answer::Members(&list)),
        r#"{"header":{"cluster_id":7491360048741888637,"member_id":16695029492086690189,"raft_term":9},"members":[{"ID":4259337988293469382,"name":"n3","peerURLs":["http://127.0.0.1:25132"],"clientURLs":["http://127.0.0.1:25131"]},{"ID":4613431178385333401,"name":"n2","peerURLs":["http://127.0.0.1:25122"],"clientURLs":["http://127.0.0.1:25121"]},{"ID":10059705759645819879,"peerURLs":["http://127.0.0.1:25163"],"isLearner":true},{"ID":16695029492086690189,"name":"n1","peerURLs":["http://127.0.0.1:25112"],"clientURLs":["http://127.0.0.1:25111"]}]}
"#
    );
    let hex = render_with(Format::Json, true, &Answer::Members(&list));
    assert_eq!(
        String::from_utf8(hex).unwrap(),
        r#"{"header":{"cluster_id":"67f6a845fdd0327d","member_id":"e7b0a8de767f518d","raft_term":9},"members":[{"ID":"3b1c35555a8f24c6","name":"n3","peerURLs":["http://127.0.0.1:25132"],"clientURLs":["http://127.0.0.1:25131"]},{"ID":"40063336b75e9c99","name":"n2","peerURLs":["http://127.0.0.1:25122"],"clientURLs":["http://127.0.0.1:25121"]},{"ID":"8b9b4116fca3e3e7","name":"","peerURLs":["http://127.0.0.1:25163"],"clientURLs":null},{"ID":"e7b0a8de767f518d","name":"n1","peerURLs":["http://127.0.0.1:25112"],"clientURLs":["http://127.0.0.1:25111"]}]}
"#
    );
}

#[test]
fn members_in_protobuf_are_the_message() {
    let list = MemberListResponse { members: vec![learner()], ..list() };
    let hex: String = render_with(Format::Protobuf, false, &Answer::Members(&list))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "0a1708fde4c0eedf88aafb67108da3fdb3e79baad8e7012009\
         122508e7c78fe5efa2d0cd8b011a16687474703a2f2f3132372e302e302e313a32353136332801"
    );
}

#[test]
fn a_new_member_is_told_how_to_start() {
    let mut list = list();
    list.members.swap(0, 2);
    let response =
        MemberAddResponse { header: Some(HEADER), member: Some(learner()), members: list.members };
    let added = |name: &str, response: &MemberAddResponse| MemberAdded {
        name: name.into(),
        peer_urls: "http://127.0.0.1:25163".into(),
        response: response.clone(),
    };
    assert_eq!(
        render(Format::Simple, &Answer::MemberAdded(&added("n \"4\"", &response))),
        r#"Member 8b9b4116fca3e3e7 added as learner to cluster 67f6a845fdd0327d

ETCD_NAME="n \"4\""
ETCD_INITIAL_CLUSTER="n \"4\"=http://127.0.0.1:25163,n2=http://127.0.0.1:25122,n3=http://127.0.0.1:25132,n1=http://127.0.0.1:25112"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://127.0.0.1:25163"
ETCD_INITIAL_CLUSTER_STATE="existing"
"#
    );
    let few = MemberAddResponse { members: vec![learner()], ..response };
    assert_eq!(
        render(Format::Json, &Answer::MemberAdded(&added("n4", &few))),
        r#"{"header":{"cluster_id":7491360048741888637,"member_id":16695029492086690189,"raft_term":9},"member":{"ID":10059705759645819879,"peerURLs":["http://127.0.0.1:25163"],"isLearner":true},"members":[{"ID":10059705759645819879,"peerURLs":["http://127.0.0.1:25163"],"isLearner":true}]}
"#
    );
}

#[test]
fn changes_tell_the_padded_id() {
    let members = MemberListResponse { header: Some(HEADER), members: Vec::new() };
    let changed = MemberChanged { id: 0x1f, what: "removed from", members };
    assert_eq!(
        render(Format::Simple, &Answer::MemberChanged(&changed)),
        "Member               1f removed from cluster 67f6a845fdd0327d\n"
    );
    assert_eq!(
        render(Format::Json, &Answer::MemberChanged(&changed)),
        "{\"header\":{\"cluster_id\":7491360048741888637,\"member_id\":16695029492086690189,\"raft_term\":9}}\n"
    );
}

/// etcd answers this one call without a header.
#[test]
fn a_moved_leader_needs_no_header() {
    let response = MoveLeaderResponse { header: None };
    let moved = LeaderMoved { from: HEADER.member_id, to: 0x40, response };
    let moved = Answer::LeaderMoved(&moved);
    assert_eq!(
        render(Format::Simple, &moved),
        "Leadership transferred from e7b0a8de767f518d to 40\n"
    );
    assert_eq!(render(Format::Json, &moved), "{}\n");
    assert_eq!(render(Format::Protobuf, &moved), "");
}
