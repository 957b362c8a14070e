//! For what the server reads: messages of members, the gateway's bodies, configurations, connections.

use prost::Message;
use proto::internal::{LogId, MemberNode, Membership, Vote, VoterSet};
use proto::peer;

use super::core::all_commands;

fn vote() -> Option<Vote> {
    Some(Vote { term: 3, member_id: 5, committed: true })
}

fn membership() -> Membership {
    let node = |id| MemberNode {
        id,
        peer_urls: vec![format!("http://m{id}:2380")],
        name: format!("m{id}"),
        to_vote: id == 3,
    };
    let sets = [vec![1, 2], vec![1, 2, 3]].map(|ids| VoterSet { ids });
    Membership { configs: sets.into(), nodes: [1, 2, 3].map(node).into() }
}

/// What entries hold: nothing, commands, commands that came over another member, memberships.
fn payloads() -> Vec<Vec<u8>> {
    let mut payloads = vec![vec![0]];
    for command in all_commands() {
        let bytes = command.encode_to_vec();
        payloads.push([&[1][..], &bytes].concat());
        payloads.push([&[3][..], &[7; 16], &bytes].concat());
    }
    payloads.push([&[2][..], &membership().encode_to_vec()].concat());
    payloads
}

pub fn peer() -> Vec<Vec<u8>> {
    let identity = Some(peer::Identity { cluster_id: 1, from: 2, to: 3, from_log: 4, to_log: 5 });
    let id = |index| Some(LogId { term: 3, index });
    let entry =
        |(index, payload): (u64, Vec<u8>)| peer::Entry { term: 3, index, payload: payload.into() };
    let entries = (9..).zip(payloads()).map(entry).collect();
    let append =
        peer::AppendRequest { identity, vote: vote(), previous: id(8), entries, committed: id(7) };
    let campaign =
        peer::VoteRequest { identity, vote: vote(), last: id(8), leadership_transfer: true };
    let voted = peer::VoteResponse { vote: vote(), granted: true, last: id(8) };
    let transfer =
        peer::TransferLeaderRequest { identity, from_leader: vote(), to_member: 5, last: id(8) };
    let appended = peer::AppendResponse {
        result: Some(peer::append_response::Result::Partly(LogId { term: 3, index: 9 })),
    };
    let replicated = peer::ReplicateResponse {
        result: Some(peer::replicate_response::Result::Conflict(LogId { term: 3, index: 9 })),
    };
    let head = peer::SnapshotHead { identity, vote: vote(), applied: id(8), bytes: 100 };
    let piece = peer::SnapshotPiece { piece: Some(peer::snapshot_piece::Piece::Head(head)) };
    let proposals = payloads().into_iter().map(Into::into).collect();
    let propose = peer::ProposeRequest { identity, term: 3, proposals };
    let messages = [
        append.encode_to_vec(),
        campaign.encode_to_vec(),
        voted.encode_to_vec(),
        transfer.encode_to_vec(),
        appended.encode_to_vec(),
        replicated.encode_to_vec(),
        piece.encode_to_vec(),
        propose.encode_to_vec(),
        vote().unwrap_or_default().encode_to_vec(),
        membership().encode_to_vec(),
    ];
    (0_u8..).zip(messages).map(|(kind, bytes)| [&[kind][..], &bytes].concat()).collect()
}

/// Of each path an empty message, and a few with all that JSON has.
pub fn gateway() -> Vec<Vec<u8>> {
    let bodies = [
        r#"{"key":"YQ==","range_end":"Yg==","limit":"7","sort_order":"DESCEND","keysOnly":true}"#,
        r#"{"key":"YQ","value":"YmFy","lease":"-7","prev_kv":true,"unheard_of":[1,{"a":null}]}"#,
        r#"{"compare":[{"key":"YQ==","result":"EQUAL","target":"VERSION","version":"1"}],
            "success":[{"request_txn":{"success":[{"requestPut":{"key":"Yg=="}}]}}]}"#,
        r#"{"create_request":{"key":"YQ==","filters":["NOPUT"],"start_revision":3}}
           {"cancel_request":{"watch_id":"3"}} {"progress_request":{}}"#,
        r#"{"name":"\u0061\n","options":{"no_password":false},"ID":"18446744073709551615"}"#,
    ];
    let mut seeds: Vec<Vec<u8>> = (0..60).map(|path| [&[path, 255][..], b"{}"].concat()).collect();
    for (path, body) in [0, 1, 3, 5, 30].into_iter().zip(bodies) {
        seeds.extend([1, 7, 255].map(|piece| [&[path, piece][..], body.as_bytes()].concat()));
    }
    for command in all_commands() {
        seeds.push([&[3, 0][..], &command.encode_to_vec()].concat());
    }
    seeds
}

pub fn config() -> Vec<Vec<u8>> {
    let flags = "--name=m1\n--data-dir\nd\n-listen-client-urls=http://127.0.0.1:0,unix://k:1\n\
                 --advertise-client-urls=http://127.0.0.1:2379\n--max-request-bytes=1.5MiB\n\
                 --initial-cluster=m1=http://a:2380,m2=https://[::1]:2380\n--quota-backend-bytes=0\n\
                 --auto-compaction-retention=5m\n--heartbeat-interval=100";
    let variables = "ETCD_NAME=m2\nKVD_LOG_LEVEL=debug\nETCD_ELECTION_TIMEOUT=1000\nETCD_NAMES=x";
    let file = "name: m3\nmax-txn-ops: 12\nlog-outputs: [stderr, 'stdout']\n\
                client-transport-security:\n  cert-file: \"c.pem\"\n  key-file: k.pem\n\
                watch-progress-notify-interval: 5000000000\n# a comment\npre-vote: yes\n";
    [
        [flags, variables, file],
        [flags, "", ""],
        ["", variables, ""],
        ["", "", file],
        ["--help", "", ""],
        ["--version", "", ""],
    ]
    .map(|texts| texts.join("\0").into_bytes())
    .into()
}

/// A request as clients of HTTP/2 begin, with an authority that is a URL and without, and HTTP/1.
pub fn connection() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let authority = |value: &[u8]| {
        [&[0x83, 0x86, 0x44, 4][..], b"/a/b", &[0x41, value.len() as u8], value].concat()
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let with = |value: &[u8]| {
        [
            &preface[..],
            &frame(4, 0, 0, &[]),
            &frame(1, 4, 1, &authority(value)),
            &frame(0, 1, 1, &[0; 5]),
            &frame(6, 0, 0, &[8; 8]),
            &frame(1, 0x2c, 3, &[&[2, 0, 0, 0, 0, 9][..], &authority(value), &[0, 0]].concat()),
            &frame(3, 0, 3, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    let huffman = [0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x01];
    [
        with(b"a:1"),
        with(b"http://a:1"),
        with(b"unix://socket"),
        with(&huffman),
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
    ]
    .into_iter()
    .flat_map(|bytes| [1, 7, 255].map(|piece| [&[piece][..], &bytes].concat()))
    .collect()
}
