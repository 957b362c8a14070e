//! The plain model, a script that exercises everything, and what a disk holds read without the
//! log's own index.

use std::collections::BTreeMap;

use crate::wal::record::Record;
use crate::wal::recover::recover;
use crate::wal::scan::Scan;

use super::*;

pub(super) const SEGMENT: u64 = 4096;

/// What a log must contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) vote: Option<Bytes>,
    pub(super) purged: LogId,
    pub(super) last: LogId,
    pub(super) entries: BTreeMap<u64, (LogId, Bytes)>,
}

impl Model {
    pub(super) fn entry(&mut self, entry: (LogId, Bytes)) {
        self.last = entry.0;
        self.entries.insert(entry.0.index, entry);
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        self.entries.split_off(&(index + 1));
        self.last = self.entries.last_key_value().map_or(self.purged, |(_, entry)| entry.0);
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        self.entries = self.entries.split_off(&(upto.index + 1));
        self.purged = upto;
        if self.entries.is_empty() {
            self.last = upto;
        }
    }
}

/// Drives a log and knows after each step what it must contain; marks on the disk which step was
/// acknowledged.
pub(super) struct Driver {
    pub(super) wal: Wal,
    disk: SimulatedDisk,
    /// `states[n]` holds after `n` steps; an append of several entries is several steps.
    pub(super) states: Arc<Mutex<Vec<Model>>>,
    /// Completions in the order they fired: the step, and whether it was durable.
    pub(super) reports: Arc<Mutex<Vec<(usize, bool)>>>,
    pub(super) fatals: Arc<Mutex<Vec<String>>>,
}

impl Driver {
    pub(super) fn open(disk: &SimulatedDisk, options: WalOptions) -> Result<Self, Fatal> {
        let state = contents(&disk.copy())?;
        let fixture = open_with(Arc::new(disk.clone()), dir(), options)?;
        Ok(Self {
            wal: fixture.wal,
            disk: disk.clone(),
            states: Arc::new(Mutex::new(vec![state])),
            reports: Arc::default(),
            fatals: fixture.fatals,
        })
    }

    pub(super) fn state(&self) -> Model {
        self.states.lock().unwrap().last().unwrap().clone()
    }

    fn step(&self, change: impl FnOnce(&mut Model)) {
        let mut states = self.states.lock().unwrap();
        let mut next = states.last().unwrap().clone();
        change(&mut next);
        states.push(next);
    }

    fn completion(&self) -> Completion {
        let step = self.states.lock().unwrap().len() - 1;
        let (reports, disk) = (Arc::clone(&self.reports), self.disk.clone());
        Box::new(move |result| {
            if result.is_ok() {
                disk.mark(step as u64);
            }
            reports.lock().unwrap().push((step, result.is_ok()));
        })
    }

    pub(super) fn append(&self, count: u64, term: u64) {
        let first = self.state().last.index + 1;
        let batch = entries(term, first..first + count);
        for entry in &batch {
            self.step(|model| model.entry(entry.clone()));
        }
        self.wal.append(batch, self.completion());
    }

    pub(super) fn append_large(&self, bytes: usize, term: u64) {
        let entry = (id(term, self.state().last.index + 1), Bytes::from(vec![0xA5; bytes]));
        self.step(|model| model.entry(entry.clone()));
        self.wal.append(vec![entry], self.completion());
    }

    pub(super) fn vote(&self, vote: impl Into<Bytes>) {
        let vote = vote.into();
        self.step(|model| model.vote = Some(vote.clone()));
        self.wal.save_vote(vote, self.completion());
    }

    pub(super) fn truncate_after(&self, index: u64) {
        self.step(|model| model.truncate_after(index));
        self.wal.truncate_after(index);
    }

    pub(super) fn purge(&self, upto: LogId) {
        self.step(|model| model.purge(upto));
        self.wal.purge(upto);
    }

    /// Waits until everything so far is durable, or the log has failed.
    pub(super) fn settle(&self) -> bool {
        let flushed = self.wal.wait_flushed(self.state().last.index);
        flushed && self.fatals.lock().unwrap().is_empty()
    }

    pub(super) fn acknowledged(&self) -> usize {
        let reports = self.reports.lock().unwrap();
        reports.iter().filter(|(_, ok)| *ok).map(|(step, _)| *step).max().unwrap_or(0)
    }

    /// Everything a log does, over several segments, some of them recycled.
    pub(super) fn run_script(&self) {
        self.vote("first vote");
        for _ in 0..4 {
            self.append(3, 1);
            self.settle();
        }
        // Groups of several calls, as they come.
        for _ in 0..6 {
            self.append(5, 1);
            self.vote("second vote");
        }
        self.settle();
        self.truncate_after(30);
        self.append(12, 2);
        self.settle();
        self.wal.save_committed(id(1, 20));
        self.append(20, 2);
        self.settle();
        self.purge(id(1, 25));
        self.append(1, 2);
        self.settle();
        self.wal.wait_reserve();
        self.append(30, 3);
        self.settle();
        self.append_large(5000, 3);
        self.append(10, 3);
        self.settle();
        let last = self.state().last.index;
        self.truncate_after(last - 4);
        self.vote("third vote");
        self.append(25, 4);
        self.settle();
        self.purge(id(3, 70));
        self.append(2, 5);
        self.settle();
        self.wal.wait_reserve();
        for _ in 0..10 {
            self.append(4, 5);
            self.settle();
        }
    }
}

/// What the disk holds, read record by record. Repairs the disk as opening does.
pub(super) fn contents(disk: &SimulatedDisk) -> Result<Model, Fatal> {
    let recovery = recover(disk, dir(), SEGMENT)?;
    let mut model = Model::default();
    for segment in &recovery.segments {
        let mut scan = Scan::new(Arc::clone(segment), 0, 1 << 16);
        while let Some((decoded, _)) = scan.next()? {
            match decoded.record {
                Record::Start { state, .. } => {
                    if model.last.index == 0 {
                        model.last = state.last;
                        model.purged = state.purged;
                    }
                    model.vote = state.vote.map(Bytes::from);
                }
                Record::Entry { id, payload } => {
                    model.entry((id, Bytes::copy_from_slice(payload)));
                }
                Record::Vote(vote) => model.vote = Some(Bytes::copy_from_slice(vote)),
                Record::Truncate(id) => model.truncate_after(id.index),
                Record::Purge(id) => model.purge(id),
                Record::Committed(_) => {}
                Record::Seal => break,
            }
        }
    }
    let state = &recovery.replay.state;
    assert_eq!((model.last, model.purged), (state.last, state.purged));
    assert_eq!(model.vote.as_deref(), state.vote.as_deref());
    Ok(model)
}

/// The log must hold one of these states.
pub(super) fn expect_one_of(model: &Model, states: &[Model], context: &str) {
    let found = states.iter().any(|state| state == model);
    assert!(
        found,
        "{context}: the log ends at {} (purged {}), none of the {} allowed states, {} to {}",
        model.last,
        model.purged,
        states.len(),
        states[0].last,
        states[states.len() - 1].last
    );
}
