//! Who pings too often is sent away, by the rules and with the words of grpc-go.

use harness::{Node, NodeOptions, Target};
use prost::Message as _;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

use crate::wire::{DATA, GOAWAY, PING, Wire, call, field, frame, request};

const GRPC: &[u8] = b"\x0f\x10\x10application/grpc";

fn node(args: &[&str]) -> Node {
    let mut options = NodeOptions::new(Target::from_env().unwrap());
    options.args.extend(args.iter().map(ToString::to_string));
    Node::start(options).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Opens a watch that has been answered.
fn watch(wire: &mut Wire, stream: u32) {
    let create = WatchCreateRequest { key: b"a".to_vec(), ..Default::default() };
    let message =
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let data = frame(DATA, 0, stream, &[&[0], &length[..], &message].concat());
    let fields = [&field(0, 1, "a")[..], GRPC].concat();
    wire.send(&[call(stream, "/etcdserverpb.Watch/Watch", &fields), data].concat());
    assert!(WatchResponse::decode(&wire.answer(stream)[..]).unwrap().created);
}

/// Asks for the status.
fn status(wire: &mut Wire, stream: u32) {
    let fields = [&field(0, 1, "a")[..], GRPC].concat();
    wire.send(&request(stream, "/etcdserverpb.Maintenance/Status", &fields));
    wire.answer(stream);
}

/// Pings and waits for the answer; what the server says when it has had enough.
fn ping(wire: &mut Wire) -> Result<(), Vec<u8>> {
    wire.send(&frame(PING, 0, 0, b"8 bytes."));
    loop {
        let frame = wire.receive();
        match frame.kind {
            PING if frame.flags == 1 => {
                assert_eq!(frame.payload, b"8 bytes.");
                return Ok(());
            }
            GOAWAY => return Err(frame.payload),
            _ => {}
        }
    }
}

/// Pings until it is sent away: how many pings were answered.
fn pings_until_sent_away(mut wire: Wire, last_stream: u8) -> usize {
    let mut answered = 0;
    loop {
        match ping(&mut wire) {
            Ok(()) => answered += 1,
            Err(goaway) => {
                let last_stream = [0, 0, 0, last_stream];
                let expected = [&last_stream, &[0, 0, 0, 11], &b"too_many_pings"[..]].concat();
                assert_eq!(goaway.escape_ascii().to_string(), expected.escape_ascii().to_string());
                wire.end();
                return answered;
            }
        }
        assert!(answered < 20, "it may ping for ever");
    }
}

#[test]
fn the_fourth_ping_in_a_row_is_the_last() {
    let node = node(&[]);
    assert_eq!(pings_until_sent_away(Wire::connect(&node), 0), 4);
    let mut wire = Wire::connect(&node);
    watch(&mut wire, 1);
    assert_eq!(pings_until_sent_away(wire, 1), 4);
}

#[test]
fn whoever_is_answered_may_ping_again() {
    let node = node(&[]);
    let mut wire = Wire::connect(&node);
    for stream in [1, 3, 5] {
        status(&mut wire, stream);
        for _ in 0..3 {
            ping(&mut wire).unwrap();
        }
    }
    status(&mut wire, 7);
    assert_eq!(pings_until_sent_away(wire, 7), 4);
}

#[test]
fn a_stream_may_ping_every_so_often() {
    let node = node(&["--grpc-keepalive-min-time=1ms"]);
    let mut wire = Wire::connect(&node);
    watch(&mut wire, 1);
    for _ in 0..20 {
        ping(&mut wire).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Nothing is open here: pings are no use.
    let mut wire = Wire::connect(&node);
    status(&mut wire, 1);
    assert_eq!(pings_until_sent_away(wire, 1), 4);
}

/// Every option that says how long, at the longest that is accepted and at none.
#[test]
fn whoever_never_answers_pings_may_stay() {
    const LONGEST: &str = "2562047h";
    for timeout in ["0s", LONGEST] {
        let timeout = format!("--grpc-keepalive-timeout={timeout}");
        let mut args = vec!["--grpc-keepalive-interval=1s", &timeout];
        let longest = [
            "grpc-keepalive-min-time",
            "watch-progress-notify-interval",
            "auto-compaction-retention",
            "corrupt-check-time",
            "compact-hash-check-time",
            "warning-apply-duration",
            "warning-unary-request-duration",
        ]
        .map(|option| format!("--{option}={LONGEST}"));
        if Target::from_env().unwrap() == Target::Kvd {
            args.extend(longest.iter().map(String::as_str));
        }
        let node = node(&args);
        let mut silent = Wire::connect(&node);
        loop {
            let frame = silent.receive();
            if frame.kind == PING && frame.flags == 0 {
                break;
            }
        }
        let mut wire = Wire::connect(&node);
        watch(&mut wire, 1);
        status(&mut wire, 3);
        status(&mut silent, 1);
    }
}

/// Whatever clients are asked for.
#[test]
fn silent_members_are_pinged() {
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let node = node(&["--grpc-keepalive-interval=0s"]);
    let mut silent = Wire::connect_to(node.options().peer_port);
    loop {
        let frame = silent.receive();
        if frame.kind == PING && frame.flags == 0 {
            break;
        }
    }
}
