//! For what the store reads: its log, snapshot files, commands.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseCheckpoint, LeaseCheckpointRequest,
    LeaseGrantRequest, LeaseRevokeRequest, RangeRequest, RequestOp, TxnRequest,
};
use proto::internal::{Command, MemberAttributes, MemberUpdate, command::Op};
use store::LogId;
use store::disk::{Disk, SimulatedDisk};
use store::snapshot::save;
use store::wal::{Wal, WalOptions};

use crate::image;
use crate::machine::{self, Machine, everything, put};
use crate::pieces;

const SEGMENT_BYTES: usize = 4096;

type Failed = Box<dyn Error>;

/// Logs of one and several segments, with votes, truncations and purges, whole and torn.
pub fn wal() -> Result<Vec<Vec<u8>>, Failed> {
    let dir = Path::new("/wal");
    let mut seeds = Vec::new();
    for entries in [0_u64, 1, 9, 40] {
        let disk = SimulatedDisk::new();
        let options = WalOptions { segment_bytes: 4096, ..WalOptions::new(|_| {}) };
        let (wal, _) = Wal::open(Arc::new(disk.clone()), dir, options)?;
        for index in 1..=entries {
            let payload = Bytes::from(vec![index as u8; index as usize * 7]);
            wal.append(
                vec![(LogId { term: index.div_ceil(8).max(index / 21 * 4), index }, payload)],
                Box::new(|_| {}),
            );
            if index % 5 == 0 {
                let (tell, told) = mpsc::channel();
                let done = move |result: std::io::Result<()>| drop(tell.send(result));
                wal.save_vote(Bytes::from_static(b"a vote"), Box::new(done));
                told.recv()??;
            }
            if index == 20 {
                wal.save_committed(LogId { term: 2, index: 12 });
                wal.truncate_after(19);
                wal.append(vec![(LogId { term: 4, index: 20 }, Bytes::new())], Box::new(|_| {}));
                wal.purge(LogId { term: 2, index: 12 });
            }
        }
        wal.close();
        drop(wal);
        seeds.extend([segments(&disk, dir, 0)?, segments(&disk, dir, 1)?]);
    }
    Ok(seeds)
}

fn segments(disk: &SimulatedDisk, dir: &Path, how: u8) -> Result<Vec<u8>, Failed> {
    let mut input = vec![how];
    let mut names = disk.list(dir)?;
    names.retain(|name| name.ends_with(".wal"));
    names.sort();
    for name in names {
        let file = disk.file(&dir.join(name)).ok_or("the file was listed")?;
        let used = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        pieces::add(&mut input, (file.len() / SEGMENT_BYTES - 1) as u8, &file[..used]);
    }
    Ok(input)
}

/// Files of an empty store and of one with a bit of everything.
pub fn snapshot() -> Result<Vec<Vec<u8>>, Failed> {
    let mut full = Machine::default();
    for command in all_commands() {
        full.command(&command.encode_to_vec());
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("saved.db");
    let mut seeds = Vec::new();
    for machine in [Machine::default(), full] {
        let source = machine.store().snapshot_source();
        save(&source, &path, &mut |_| ControlFlow::Continue(()))?;
        let pages = image::to_pages(&std::fs::read(&path)?);
        seeds.extend([0, 1, 3].map(|how| [&[how][..], &pages].concat()));
    }
    Ok(seeds)
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn delete(key: &[u8], range_end: &[u8]) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: true }
}

/// Compares by each of the targets, changes and reads in both branches, one within another.
fn txn() -> TxnRequest {
    let compare = |target: CompareTarget, against| Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: b"a".into(),
        range_end: Vec::new(),
        target_union: Some(against),
    };
    let inner = TxnRequest {
        success: vec![op(Request::RequestPut(put(b"c", b"3", 0)))],
        ..TxnRequest::default()
    };
    TxnRequest {
        compare: vec![
            compare(CompareTarget::Version, TargetUnion::Version(1)),
            compare(CompareTarget::Create, TargetUnion::CreateRevision(2)),
            compare(CompareTarget::Mod, TargetUnion::ModRevision(2)),
            compare(CompareTarget::Value, TargetUnion::Value(b"1".into())),
            compare(CompareTarget::Lease, TargetUnion::Lease(0)),
        ],
        success: vec![
            op(Request::RequestPut(put(b"b", b"2", 7))),
            op(Request::RequestRange(everything())),
            op(Request::RequestTxn(inner)),
        ],
        failure: vec![op(Request::RequestDeleteRange(delete(b"a", b"z")))],
    }
}

fn read_only() -> TxnRequest {
    let success = vec![op(Request::RequestRange(everything()))];
    TxnRequest { success, ..TxnRequest::default() }
}

pub fn requests() -> Vec<Vec<u8>> {
    let sorted = RangeRequest {
        limit: 2,
        sort_order: 2,
        sort_target: 4,
        min_mod_revision: 2,
        ..everything()
    };
    let past = RangeRequest { revision: 2, keys_only: true, count_only: true, ..everything() };
    let compaction = CompactionRequest { revision: 4, physical: true };
    let all: Vec<(u8, Vec<u8>)> = vec![
        (machine::PUT, put(b"a", b"1", 0).encode_to_vec()),
        (machine::GRANT, LeaseGrantRequest { id: 7, ttl: 60 }.encode_to_vec()),
        (machine::TXN, txn().encode_to_vec()),
        (machine::RANGE, everything().encode_to_vec()),
        (machine::RANGE, sorted.encode_to_vec()),
        (machine::PUT, put(b"a", &[b'v'; 2000], 7).encode_to_vec()),
        (machine::KEEP_HOUSE, Vec::new()),
        (machine::RANGE, past.encode_to_vec()),
        (machine::TXN, read_only().encode_to_vec()),
        (machine::STREAM, everything().encode_to_vec()),
        (machine::COMPACT, compaction.encode_to_vec()),
        (machine::DELETE, delete(b"a", b"c").encode_to_vec()),
        (machine::REVOKE, LeaseRevokeRequest { id: 7 }.encode_to_vec()),
        (machine::KEEP_HOUSE, Vec::new()),
    ];
    let input = |parts: &[(u8, Vec<u8>)]| {
        let mut input = Vec::new();
        parts.iter().for_each(|(kind, bytes)| pieces::add(&mut input, *kind, bytes));
        input
    };
    vec![input(&all), input(&all[..4]), input(&all[..1])]
}

pub fn all_commands() -> Vec<Command> {
    let attributes = MemberAttributes {
        id: 5,
        name: "m5".into(),
        client_urls: vec!["http://m5:2379".into()],
        log: 9,
    };
    let checkpoints = vec![LeaseCheckpoint { id: 7, remaining_ttl: 30 }];
    let update = MemberUpdate { id: 5, peer_urls: vec!["http://m5:2380".into()] };
    [
        Op::Put(put(b"a", b"1", 0)),
        Op::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }),
        Op::Txn(txn()),
        Op::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints }),
        Op::Put(put(b"d", &[b'v'; 3000], 7)),
        Op::DeleteRange(delete(b"b", b"")),
        Op::MemberAttributes(attributes),
        Op::MemberUpdate(update),
        Op::Compaction(CompactionRequest { revision: 3, physical: false }),
    ]
    .map(Command::from)
    .into()
}

pub fn commands() -> Vec<Vec<u8>> {
    let mut together = Vec::new();
    let mut seeds = Vec::new();
    for command in all_commands() {
        pieces::add(&mut together, machine::COMMAND, &command.encode_to_vec());
        seeds.push(together.clone());
    }
    let revoke = Command::from(Op::LeaseRevoke(LeaseRevokeRequest { id: 7 }));
    pieces::add(&mut together, machine::COMMAND, &revoke.encode_to_vec());
    seeds.push(together);
    seeds
}
