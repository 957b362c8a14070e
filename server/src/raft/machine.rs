//! The state machine as openraft drives it: apply what was committed, tell watchers, answer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures_core::Stream;
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use store::LogId;
use store::mvcc::{Input, RevisionEvents};
use tokio_stream::StreamExt;

use super::forward::Forwarded;
use super::types::{self, Entry, Outcome, Types};
use crate::auth::Gate;
use crate::lease::Lessor;
use crate::metrics::METRICS;
use crate::poke::Poke;
use crate::replica::{Current, Outboxes, Waiter};
use crate::snapshots::Snapshots;
use crate::{limits, slow};

/// A verified snapshot file. Opening it is left to whoever sends or installs it.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    pub path: PathBuf,
}

/// Who hears of applied revisions. Called on the apply thread after the store was changed and
/// before the writers are answered; must not block.
pub trait Publish: Send + Sync {
    fn publish(&self, run: Vec<Arc<RevisionEvents>>);
    /// The store was replaced by one at a newer revision.
    fn jump(&self, revision: i64);
}

impl Publish for crate::watch::Hub {
    fn publish(&self, run: Vec<Arc<RevisionEvents>>) {
        self.publish(run);
    }

    fn jump(&self, revision: i64) {
        self.jump(revision);
    }
}

/// The only writer of the store.
pub struct Machine {
    pub current: Arc<Current>,
    pub publish: Arc<dyn Publish>,
    pub lessor: Arc<Lessor>,
    pub gate: Arc<Gate>,
    pub outboxes: Arc<Outboxes>,
    pub forwarded: Arc<Forwarded>,
    pub snapshots: Arc<Snapshots>,
    pub poke: Poke,
    pub room: Room,
    /// Bytes of commands applied since the room was looked at last: members that catch up, and slow
    /// ones, are handed their entries a few at a time.
    pub applied_bytes: usize,
}

/// Bytes of rows in memory above which applying waits for a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// A little: whoever waits for an answer must not wait for a slow disk's whole checkpoint.
    pub little: usize,
    /// For as long as may be: nobody else keeps the leader from sending more.
    pub long: usize,
}

impl Machine {
    fn apply_entry(&self, entry: &Entry) -> Result<store::mvcc::Applied, io::Error> {
        let store = self.current.load();
        let id = types::log_id(&entry.log_id);
        let applied = match &entry.payload {
            EntryPayload::Blank => store.apply(id, Input::Blank),
            EntryPayload::Normal(proposal) => {
                let command = proposal.command().map_err(|error| {
                    let what = format!("log entry {id} is not a command: {error}");
                    io::Error::new(io::ErrorKind::InvalidData, what)
                })?;
                let began = Instant::now();
                let applied = store.apply(id, Input::Command(&command));
                if let Ok(applied) = &applied {
                    let took = began.elapsed();
                    METRICS.applied(&command, applied, took);
                    slow::applied(&command, applied, took);
                    self.lessor.applied(&command, &applied.outcome);
                    self.gate.applied(id, &command, &applied.outcome);
                }
                applied
            }
            EntryPayload::Membership(membership) => {
                store.apply(id, Input::Membership(&types::membership_message(membership)))
            }
        };
        applied.map_err(io::Error::other)
    }
}

/// What one committed run leaves to hand out.
#[derive(Default)]
struct Run {
    events: Vec<Arc<RevisionEvents>>,
    answers: Vec<(ApplyResponder<Types>, Outcome)>,
    /// To clients of this member whose proposals went over the leader.
    forwarded: Vec<(Waiter, Outcome)>,
    /// Of the commands and of the answers.
    bytes: usize,
    began: Option<Instant>,
}

impl Run {
    fn is_long(&self) -> bool {
        self.answers.len() + self.forwarded.len() >= RUN_ENTRIES_MAX
            || self.events.len() >= RUN_ENTRIES_MAX
            || self.bytes >= RUN_BYTES_MAX
    }
}

/// Entries applied before their watchers and writers hear of it, in a long committed run.
const RUN_ENTRIES_MAX: usize = 512;
const RUN_BYTES_MAX: usize = 1 << 20;

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>), io::Error> {
        let store = self.current.load();
        let membership = types::stored_membership(store.membership());
        Ok((types::raft_id(store.applied()), membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut run = Run::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            run.began.get_or_insert_with(Instant::now);
            let applied = self.apply_entry(&entry)?;
            run.events.extend(applied.events);
            let outcome = Outcome(applied.outcome);
            if let EntryPayload::Normal(proposal) = &entry.payload {
                run.bytes += proposal.command_len();
            }
            match (&entry.payload, responder) {
                (EntryPayload::Normal(proposal), None) => {
                    if let Some(waiter) = self.forwarded.take(proposal) {
                        run.bytes += outcome.held_bytes();
                        run.forwarded.push((waiter, outcome));
                    }
                }
                (_, Some(responder)) => {
                    run.bytes += outcome.held_bytes();
                    run.answers.push((responder, outcome));
                }
                (_, None) => {}
            }
            if run.is_long() {
                self.end(std::mem::take(&mut run)).await;
            }
        }
        self.end(run).await;
        self.current.notify_applied();
        if self.current.load().checkpoint_due() {
            self.poke.look();
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { current: self.current.clone(), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Types>,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let (snapshots, current) = (self.snapshots.clone(), self.current.clone());
        METRICS.raft.snapshots_installing.add(1);
        // As long as the disk takes; heartbeats must not wait for it.
        let installed = tokio::task::spawn_blocking(move || {
            // What the old store still writes would get in the way of the new one.
            current.load().retire();
            snapshots.install(&snapshot.path)
        });
        let store = installed.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let revision = store.revision();
        self.gate.tokens.passed_over();
        self.current.replace(store);
        self.gate.look();
        self.publish.jump(revision);
        self.current.notify_applied();
        METRICS.raft.snapshots_installing.take(1);
        METRICS.raft.snapshot_installs.add(1);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Types, SnapshotFile>>, io::Error> {
        let applied = self.current.load().applied();
        Ok(self.snapshots.newest(applied).map(|newest| snapshot(&newest)))
    }
}

impl Machine {
    async fn end(&mut self, run: Run) {
        let long = run.is_long();
        self.applied_bytes += run.bytes;
        self.hand_out(run);
        if long || self.applied_bytes >= RUN_BYTES_MAX {
            self.applied_bytes = 0;
            self.wait_for_room().await;
        }
    }

    /// A member that catches up applies faster than its disk takes rows. When too many are in memory
    /// it gives the housekeeper the time for a round, and for more when there are far too many;
    /// whether that could write them or not, as on a full disk, it then goes on.
    async fn wait_for_room(&self) {
        let mut rounds = self.current.rounds();
        for round in 0..limits::ROOM_WAITS_MAX {
            let bound = if round == 0 { self.room.little } else { self.room.long };
            if self.current.load().sizes().recent_bytes as usize <= bound {
                return;
            }
            self.current.notify_applied();
            self.poke.look();
            let _ = tokio::time::timeout(limits::ROOM_WAIT_MAX, rounds.changed()).await;
        }
    }

    /// Watchers first: whoever sees the answer to a write may expect its event to be on the way.
    fn hand_out(&self, run: Run) {
        if !run.events.is_empty() {
            self.publish.publish(run.events);
        }
        for (to, outcome) in run.answers {
            to.send(outcome);
        }
        for (waiter, outcome) in run.forwarded {
            waiter.applied(outcome);
        }
        self.outboxes.flush();
        if let Some(began) = run.began {
            METRICS.disk.runs.took(began.elapsed());
        }
    }
}

/// Writes a snapshot file of the state at its moment.
pub struct Builder {
    current: Arc<Current>,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, SnapshotFile>, io::Error> {
        let store = self.current.load();
        let snapshots = self.snapshots.clone();
        let built = tokio::task::spawn_blocking(move || snapshots.build(&store));
        let written = built.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(snapshot(&written))
    }
}

/// A snapshot file and the state it holds.
#[derive(Clone, Debug)]
pub struct Written {
    pub path: PathBuf,
    pub applied: LogId,
    pub membership: Option<(LogId, proto::internal::Membership)>,
}

fn snapshot(written: &Written) -> SnapshotOf<Types, SnapshotFile> {
    Snapshot {
        meta: types::snapshot_meta(written),
        snapshot: SnapshotFile { path: written.path.clone() },
    }
}
