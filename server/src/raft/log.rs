//! The write-ahead log as openraft's log storage: conversion and nothing else.
//!
//! Appends only queue; the log's own thread writes, syncs and reports. Votes are awaited; that the
//! one voted for was elected is no vote, and is written together with its first entries.

use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::alias::{LogIdOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use store::wal::Wal;
use store::{Fatal, LogId};
use tokio::sync::oneshot;

use super::types::{self, Entry, Types};
use crate::limits;

/// Handle of the log; reader and writer in one, as cheap to clone as the log itself.
#[derive(Clone)]
pub struct Log {
    wal: Wal,
    /// The newest vote given to the log, which is the one on disk once its write was awaited.
    vote: Option<VoteOf<Types>>,
    /// That vote was given and is on disk; that it elected somebody is still to be written.
    elected: bool,
    committed: Option<LogId>,
}

impl Log {
    /// `vote` and `committed` are what the log held when it was opened.
    pub fn new(wal: Wal, vote: Option<VoteOf<Types>>, committed: Option<LogId>) -> Self {
        Self { wal, vote, elected: false, committed }
    }

    /// Up to where the log is on the disk.
    pub fn flushed(&self) -> u64 {
        self.wal.flushed_index()
    }

    /// Entries of our positions `first..end`, at least one and then up to `bytes_max`.
    fn read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let entries = self.wal.read(first, end, bytes_max).map_err(to_io)?;
        entries.into_iter().map(|(id, payload)| entry(id, payload)).collect()
    }

    /// The existing part of an openraft range, as our positions.
    fn clamp(&self, range: impl RangeBounds<u64>) -> (u64, u64) {
        let first = match range.start_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => index.saturating_add(2),
            Bound::Unbounded => 1,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(2),
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => u64::MAX,
        };
        let purged = self.wal.purged().map_or(0, |id| id.index);
        let last = self.wal.last().map_or(0, |id| id.index);
        (first.max(purged + 1), end.min(last + 1))
    }
}

fn entry(id: LogId, payload: bytes::Bytes) -> io::Result<Entry> {
    let payload = types::decode_payload(payload)
        .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, format!("log {id}: {what}")))?;
    let raft_id = types::raft_id(id).expect("the log has no entry before 1");
    Ok(Entry::new(raft_id, payload))
}

fn to_io(fatal: Fatal) -> io::Error {
    io::Error::other(fatal)
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        let (first, end) = self.clamp(range);
        let mut entries = Vec::new();
        // One read ends where what is in memory begins, and openraft wants all of the range.
        let mut next = first;
        while next < end {
            let group = self.read(next, end, usize::MAX)?;
            if group.is_empty() {
                break;
            }
            next += group.len() as u64;
            entries.extend(group);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let (first, end) = self.clamp(start..end);
        if first >= end {
            return Ok(Vec::new());
        }
        self.read(first, end, limits::APPEND_BYTES_MAX)
    }

    /// Reads as it goes, so that replaying a long log holds one group of entries at a time.
    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl futures_core::Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        let (mut next, end) = self.clamp(range);
        let log = self.clone();
        let mut group = Vec::new().into_iter();
        tokio_stream::iter(std::iter::from_fn(move || {
            if let Some(entry) = group.next() {
                return Some(Ok(entry));
            }
            if next >= end {
                return None;
            }
            match log.read(next, end, limits::APPLY_BYTES_MAX) {
                Ok(entries) => {
                    next += entries.len() as u64;
                    group = entries.into_iter();
                    group.next().map(Ok)
                }
                Err(error) => {
                    next = end;
                    Some(Err(error))
                }
            }
        }))
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types>>, io::Error> {
        Ok(self.vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let purged = self.wal.purged().and_then(types::raft_id);
        let last = self.wal.last().and_then(types::raft_id).or(purged);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        let given = self.vote.is_some_and(|given| given.leader_id() == vote.leader_id());
        if given && vote.is_committed() {
            // Term and candidate are on disk, and nothing else binds this member.
            self.elected |= self.vote.replace(*vote) != Some(*vote);
            return Ok(());
        }
        let (done, saved) = oneshot::channel();
        let completion = Box::new(move |result| {
            // The receiver is gone only when the core is, and then nobody relies on the vote.
            let _ = done.send(result);
        });
        self.wal.save_vote(types::encode_vote(vote), completion);
        saved.await.map_err(|_| io::Error::other("the log stopped"))??;
        (self.vote, self.elected) = (Some(*vote), false);
        Ok(())
    }

    async fn save_committed(&mut self, id: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        let Some(id) = id.as_ref().map(types::log_id) else { return Ok(()) };
        self.committed = Some(id);
        self.wal.save_committed(id);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<Types>>, io::Error> {
        Ok(self.committed.and_then(types::raft_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries
            .into_iter()
            .map(|entry| (types::log_id(&entry.log_id()), types::encode_payload(&entry.payload)))
            .collect();
        if std::mem::take(&mut self.elected)
            && let Some(vote) = &self.vote
        {
            // The entries are not reported before this is synced.
            self.wal.save_vote(types::encode_vote(vote), Box::new(|_| {}));
        }
        self.wal.append(records, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, id: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        self.wal.truncate_after(id.map_or(0, |id| types::log_id(&id).index));
        Ok(())
    }

    async fn purge(&mut self, id: LogIdOf<Types>) -> Result<(), io::Error> {
        let id = types::log_id(&id);
        tracing::info!(index = id.index, "log purged");
        self.wal.purge(id);
        Ok(())
    }
}
