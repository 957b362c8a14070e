//! openraft's contract for storage, on the real log and the real state machine in real folders.

use std::io;
use std::sync::Arc;

use openraft::alias::{LogIdOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::errors::ErrorSource;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageError};
use proto::etcdserverpb::PutRequest;
use proto::internal::{Command, command::Op};
use store::boot::{self, Places};
use store::datadir::DataDir;
use store::disk::RealDisk;
use store::mvcc::{RevisionEvents, StoreOptions};
use store::wal::{Wal, WalOptions};
use tempfile::TempDir;

use super::machine::Publish;
use super::types::{self, Entry, Proposal, Types};
use super::{Forwarded, Log, Machine, Room};
use crate::auth::{Gate, Passwords, Tokens};
use crate::lease::Lessor;
use crate::limits;
use crate::poke::Poke;
use crate::replica::{Current, Outboxes};
use crate::snapshots::Snapshots;
use crate::space::Space;

const NO_BOUND: Room = Room { little: usize::MAX, long: usize::MAX };

struct Nobody;

impl Publish for Nobody {
    fn publish(&self, _run: Vec<Arc<RevisionEvents>>) {}

    fn jump(&self, _revision: i64) {}
}

/// The folder outlives what is open in it: fields are dropped in order.
struct Guard {
    wal: Wal,
    _data_dir: DataDir,
    _folder: TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.wal.close();
    }
}

/// The log, for a suite that begins some logs in the middle, which no member's log does and ours
/// refuses: such a log first purges what is missing, and does not mention it.
struct AnyStart {
    log: Log,
    missing: Option<LogIdOf<Types>>,
}

impl RaftLogStorage<Types> for AnyStart {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let mut state = self.log.get_log_state().await?;
        for id in [&mut state.last_purged_log_id, &mut state.last_log_id] {
            *id = id.take().filter(|id| Some(id) != self.missing.as_ref());
        }
        Ok(state)
    }

    async fn get_log_reader(&mut self) -> Log {
        self.log.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        self.log.save_vote(vote).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let Some(first) = entries.first().map(|entry| entry.log_id)
            && let Some(before) = first.index.checked_sub(1)
            && self.log.get_log_state().await?.last_log_id.is_none()
        {
            let id = openraft::LogId::new(first.leader_id, before);
            self.log.purge(id).await?;
            self.missing = Some(id);
        }
        self.log.append(entries, callback).await
    }

    async fn truncate_after(&mut self, id: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        self.log.truncate_after(id).await
    }

    async fn purge(&mut self, id: LogIdOf<Types>) -> Result<(), io::Error> {
        self.missing = None;
        self.log.purge(id).await
    }

    async fn save_committed(&mut self, id: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        self.log.save_committed(id).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<Types>>, io::Error> {
        self.log.read_committed().await
    }
}

struct Builder;

impl StoreBuilder<Types, AnyStart, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, AnyStart, Machine), StorageError<Types>> {
        open(NO_BOUND).map_err(|error| {
            StorageError::write(openraft::impls::BoxedErrorSource::from_error(&error))
        })
    }
}

fn open(room: Room) -> Result<(Guard, AnyStart, Machine), io::Error> {
    let folder = tempfile::tempdir()?;
    let data_dir = DataDir::open(folder.path().join("data")).map_err(io::Error::other)?;
    let fatal = |fatal: store::Fatal| panic!("{fatal}");
    let (wal, recovered) = Wal::open(Arc::new(RealDisk), &data_dir.wal(), WalOptions::new(fatal))
        .map_err(io::Error::other)?;
    let places = Places::of(&data_dir);
    let options = boot::Options {
        store: StoreOptions::default(),
        engine: Default::default(),
        stall: limits::ENGINE_STALL_TIMEOUT,
    };
    let (store, _) = boot::open(&places, recovered.purged, &options).map_err(io::Error::other)?;
    let space = Space::new(data_dir.path().to_owned(), wal.clone());
    let snapshots = Snapshots::open(places, options, space).map_err(io::Error::other)?;
    let (outboxes, _) = Outboxes::new(0);
    let log = AnyStart { log: Log::new(wal.clone(), None, recovered.committed), missing: None };
    let current = Arc::new(Current::new(store));
    let (poke, _) = Poke::new();
    let forwarded = Arc::new(Forwarded::new(1));
    let machine = Machine {
        gate: Arc::new(Gate::new(current.clone(), Tokens::None, Passwords::new(4))),
        lessor: Arc::new(Lessor::new(current.clone())),
        current,
        publish: Arc::new(Nobody),
        outboxes,
        forwarded,
        snapshots: Arc::new(snapshots),
        poke,
        room,
        applied_bytes: 0,
    };
    Ok((Guard { wal, _data_dir: data_dir, _folder: folder }, log, machine))
}

#[test]
fn log_and_state_machine_keep_the_contract_of_openraft() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.expect("a runtime").block_on(Suite::test_all(Builder));
    done.expect("the suite passes");
}

#[test]
fn a_range_that_is_partly_in_memory_is_read_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = WalOptions {
        cache_bytes: 100, // entries of one byte
        ..WalOptions::new(|fatal: store::Fatal| panic!("{fatal}"))
    };
    let (wal, _) = Wal::open(Arc::new(RealDisk), folder.path(), options).expect("a log");
    let payload = types::encode_payload(&openraft::EntryPayload::Blank);
    for index in 1..=200 {
        let entry = (store::LogId { term: 1, index }, payload.clone());
        wal.append(vec![entry], Box::new(|result| result.expect("written")));
        assert!(wal.wait_flushed(index));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut log = Log::new(wal.clone(), None, None);
    let read = runtime.block_on(log.try_get_log_entries(10..190)).expect("entries");
    assert_eq!(read.len(), 180);
    wal.close();
}

#[test]
fn a_membership_in_the_log_that_lacks_a_node_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = WalOptions::new(|fatal: store::Fatal| panic!("{fatal}"));
    let (wal, _) = Wal::open(Arc::new(RealDisk), folder.path(), options).expect("a log");
    // A configuration with voter 7, and no node.
    let payload = bytes::Bytes::from_static(b"\x02\x0a\x03\x0a\x01\x07");
    wal.append(vec![(store::LogId { term: 1, index: 1 }, payload)], Box::new(|_| {}));
    assert!(wal.wait_flushed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut log = Log::new(wal.clone(), None, None);
    let error = runtime.block_on(log.try_get_log_entries(0..1)).expect_err("no entry");
    let id = store::LogId { term: 1, index: 1 };
    assert!(error.to_string().starts_with(&format!("log {id}: membership entry: ")), "{error}");
    wal.close();
}

#[test]
fn that_a_vote_elected_somebody_is_written_with_the_first_entries() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        let options = WalOptions::new(|fatal: store::Fatal| panic!("{fatal}"));
        Wal::open(Arc::new(RealDisk), folder.path(), options).expect("a log")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let vote: VoteOf<Types> = openraft::vote::Vote::new(3, 7);
    let elected: VoteOf<Types> = openraft::vote::Vote::new_committed(3, 7);
    let (wal, _) = open();
    let mut log = Log::new(wal.clone(), None, None);
    runtime.block_on(log.save_vote(&vote)).expect("written");
    let before = wal.stats().groups;
    runtime.block_on(log.save_vote(&elected)).expect("remembered");
    assert_eq!(runtime.block_on(log.read_vote()).expect("a vote"), Some(elected));
    assert_eq!(wal.stats().groups, before, "it waits for the first entries");
    let entry = Entry::new(
        types::raft_id(store::LogId { term: 3, index: 1 }).expect("a position"),
        openraft::EntryPayload::Blank,
    );
    runtime.block_on(log.append([entry], IOFlushed::noop())).expect("queued");
    assert!(wal.wait_flushed(1));
    wal.close();
    let (wal, recovered) = open();
    let recovered = recovered.vote.map(|vote| types::decode_vote(&vote).expect("a vote"));
    assert_eq!(recovered, Some(elected));
    wal.close();
    // Of somebody this member did not vote for, all of it is new.
    let (wal, _) = open();
    let mut log = Log::new(wal.clone(), Some(elected), None);
    let before = wal.stats().groups;
    let other: VoteOf<Types> = openraft::vote::Vote::new_committed(4, 8);
    runtime.block_on(log.save_vote(&other)).expect("written");
    assert_eq!(wal.stats().groups, before + 1);
    wal.close();
}

#[test]
fn entries_that_come_one_by_one_wait_for_room_in_memory_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let (_guard, _log, mut machine) = open(Room { little: 0, long: 0 }).expect("a machine");
    let current = machine.current.clone();
    let mut waker = std::task::Context::from_waker(std::task::Waker::noop());
    let mut applied_bytes = 0;
    let value = vec![7; 300 << 10];
    for index in 1..=12 {
        let put = PutRequest { key: b"k".to_vec(), value: value.clone(), ..Default::default() };
        let proposal = Proposal::new(&Command::from(Op::Put(put)));
        let id = types::raft_id(store::LogId { term: 1, index }).expect("a position");
        let entry = Entry::new(id, openraft::EntryPayload::Normal(proposal));
        let mut apply = std::pin::pin!(machine.apply(tokio_stream::iter([Ok((entry, None))])));
        applied_bytes += value.len();
        if applied_bytes < 1 << 20 {
            assert!(apply.as_mut().poll(&mut waker).is_ready(), "entry {index}");
            continue;
        }
        applied_bytes = 0;
        for _ in 0..3 {
            assert!(apply.as_mut().poll(&mut waker).is_pending(), "entry {index} waits");
            current.end_round();
        }
        current.load().checkpoint().expect("written");
        current.end_round();
        assert!(apply.as_mut().poll(&mut waker).is_ready(), "entry {index} has room");
    }
}
