//! Reading ranges: at one revision, in bounded steps, values that are not in RAM read unlocked.
//!
//! A range walks the index, gathers candidates and counts; then arranges them as asked; then
//! reads what is missing. Counting passes over whole leaves that did not change since.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;

use proto::EncodedKeyValue;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

use super::generations::{Lineage, Record, Slot};
use super::index::{Leafwise, Visit};
use super::leaf::{KeyParts, Leaf};
use super::pins::Pin;
use super::rows;
use super::state::State;
use super::store::{Step, Store};
use super::{check, span_end};
use crate::{Fatal, ReadError, Refusal};

/// Keys and leaves looked at under one lock.
pub(super) const STEP_KEYS: usize = 512;
/// Rows read from the engine between two yields, and their bytes, but for the last row.
const STEP_FETCHES: usize = 32;
const STEP_FETCH_BYTES: usize = 1 << 20;

/// A range on its way; see [`Store::range`].
pub struct RangeRead {
    store: Arc<Store>,
    work: RangeWork,
    /// Held while there is more to read than RAM gave at once.
    _pin: Option<Pin>,
}

impl Store {
    /// Begins a range at the current revision, or at the one asked for.
    ///
    /// # Errors
    /// When the request is malformed, or its revision is compacted or in the future.
    pub fn range(self: &Arc<Self>, request: &RangeRequest) -> Result<RangeRead, Refusal> {
        check::range(request)?;
        let state = self.state();
        let work = RangeWork::begin(&state, request, state.revision, state.compacted)?;
        let pin = (!work.is_done()).then(|| self.pin(work.plan.revision));
        Ok(RangeRead { store: self.clone(), work, _pin: pin })
    }
}

impl RangeRead {
    /// Does a bounded piece of work. Callers let others run between two calls.
    pub fn step(&mut self) -> Result<Step<RangeResponse>, ReadError> {
        Ok(self.work.step(&self.store)?)
    }

    /// About what it holds in memory so far, rows that others hold too included.
    pub fn held_bytes(&self) -> usize {
        self.work.held_bytes()
    }
}

/// A range apart from what keeps its rows in place.
pub(super) struct RangeWork {
    plan: Plan,
    stage: Stage,
    found: Vec<Candidate>,
    /// Live keys seen.
    count: i64,
    /// Of keys and rows in `found`.
    bytes: usize,
}

/// The request, decided.
struct Plan {
    revision: i64,
    /// The revision the response reports.
    current: i64,
    /// Keys in the response at most.
    limit: usize,
    /// Keys to gather, the smallest ones.
    gather: usize,
    keys_only: bool,
    sort: Option<(SortTarget, SortOrder)>,
    filter: Filter,
}

/// Bounds on revisions; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Filter {
    min_mod: i64,
    max_mod: i64,
    min_create: i64,
    max_create: i64,
}

enum Stage {
    Walk {
        from: Vec<u8>,
        end: Option<Vec<u8>>,
    },
    /// Reads the rows that arranging must see, from this position on.
    Peek(usize),
    /// Reads the rows of the response, from this position on.
    Fetch(usize),
    Done,
}

/// A key that is live at the revision.
struct Candidate {
    record: Record,
    lineage: Option<Lineage>,
    row: Row,
}

enum Row {
    Here(EncodedKeyValue),
    /// In the engine, under this key.
    Away(Box<[u8]>),
}

impl RangeWork {
    /// A range that finds nothing.
    pub(super) fn nothing(current: i64) -> Self {
        let plan = Plan::new(&RangeRequest::default(), current, current);
        Self { plan, stage: Stage::Done, found: Vec::new(), count: 0, bytes: 0 }
    }

    /// Checks the revision against `current` and `compacted`, and does the first step.
    pub(super) fn begin(
        state: &State,
        request: &RangeRequest,
        current: i64,
        compacted: i64,
    ) -> Result<Self, Refusal> {
        if request.revision > current {
            return Err(Refusal::FutureRevision);
        }
        let revision = if request.revision > 0 { request.revision } else { current };
        if revision < compacted {
            return Err(Refusal::Compacted);
        }
        let plan = Plan::new(request, revision, current);
        let mut work = Self { plan, stage: Stage::Done, found: Vec::new(), count: 0, bytes: 0 };
        match &request.range_end[..] {
            [] => work.gather_one(state, &request.key),
            end => work.gather(state, &request.key, span_end(end)),
        }
        Ok(work)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes + self.found.capacity() * size_of::<Candidate>()
    }

    pub(super) fn step(&mut self, store: &Store) -> Result<Step<RangeResponse>, Fatal> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Done => return Ok(Step::Done(self.respond())),
            Stage::Walk { from, end } => self.gather(&store.state(), &from, end.as_deref()),
            Stage::Peek(next) => match self.fetch(store, next, usize::MAX, false)? {
                Some(next) => self.stage = Stage::Peek(next),
                None => self.arrange(),
            },
            Stage::Fetch(next) => {
                let Plan { limit, keys_only, .. } = self.plan;
                let next = self.fetch(store, next, limit, keys_only)?;
                self.stage = next.map_or(Stage::Done, Stage::Fetch);
            }
        }
        match self.is_done() {
            true => Ok(Step::Done(self.respond())),
            false => Ok(Step::More),
        }
    }

    fn gather_one(&mut self, state: &State, key: &[u8]) {
        let found = state.index.find(key).and_then(|slot| slot.at(self.plan.revision));
        if let Some((record, lineage)) = found.filter(|(record, _)| !record.is_tombstone()) {
            self.count = 1;
            if self.plan.gather > 0 {
                let row = match state.row(record.revision()) {
                    Some(row) => Row::Here(row.kv.clone()),
                    None => Row::Away(key.into()),
                };
                self.found = vec![Candidate { record, lineage, row }];
            }
        }
        self.gathered();
    }

    fn gather(&mut self, state: &State, from: &[u8], end: Option<&[u8]>) {
        let mut gather = Gather { work: self, state, budget: STEP_KEYS };
        match state.index.walk(from, end, &mut gather) {
            Some(from) => self.stage = Stage::Walk { from, end: end.map(<[u8]>::to_vec) },
            None => self.gathered(),
        }
    }

    /// All candidates are known: decides what to read next.
    fn gathered(&mut self) {
        let by = self.plan.sort.map(|(target, _)| target);
        let needs_lineage = matches!(by, Some(SortTarget::Version | SortTarget::Create))
            || self.plan.filter.by_create();
        let unknown = |candidate: &Candidate| {
            candidate.is_away()
                && (by == Some(SortTarget::Value) || needs_lineage && candidate.lineage.is_none())
        };
        match self.found.iter().any(unknown) {
            true => self.stage = Stage::Peek(0),
            false => self.arrange(),
        }
    }

    fn arrange(&mut self) {
        let Plan { limit, sort, filter, .. } = self.plan;
        if filter != Filter::NONE {
            self.found.retain(|candidate| filter.admits(candidate));
        }
        if let Some((target, order)) = sort {
            self.found.sort_by(|a, b| match order {
                SortOrder::Descend => compare(target, b, a),
                _ => compare(target, a, b),
            });
        }
        let away = self.found.iter().take(limit).any(Candidate::is_away);
        self.stage = if away { Stage::Fetch(0) } else { Stage::Done };
    }

    /// Reads rows from position `next` to `end`, a bounded number; where to go on.
    fn fetch(
        &mut self,
        store: &Store,
        next: usize,
        end: usize,
        keys_only: bool,
    ) -> Result<Option<usize>, Fatal> {
        let mut rows = STEP_FETCHES;
        let bytes_max = self.bytes + STEP_FETCH_BYTES;
        for (position, candidate) in self.found.iter_mut().enumerate().take(end).skip(next) {
            let Row::Away(key) = &candidate.row else { continue };
            if rows == 0 || self.bytes >= bytes_max {
                return Ok(Some(position));
            }
            rows -= 1;
            let (record, lineage) = (candidate.record, candidate.lineage);
            let row = match keys_only {
                true => store.fetch_head(record, key, lineage)?,
                false => store.fetch(record, key, lineage)?,
            };
            self.bytes += row.as_bytes().len();
            candidate.row = Row::Here(row);
        }
        Ok(None)
    }

    fn respond(&mut self) -> RangeResponse {
        let Plan { limit, keys_only, .. } = self.plan;
        let more = self.found.len() > limit;
        let kvs = std::mem::take(&mut self.found).into_iter().take(limit);
        let kvs = kvs.map(|candidate| match candidate.row {
            Row::Here(row) if keys_only => rows::without_value(&row),
            Row::Here(row) => row,
            Row::Away(_) => unreachable!("all rows of the response were read"),
        });
        RangeResponse {
            header: Some(ResponseHeader { revision: self.plan.current, ..Default::default() }),
            kvs: kvs.collect(),
            more,
            count: self.count,
        }
    }
}

impl Plan {
    fn new(request: &RangeRequest, revision: i64, current: i64) -> Self {
        let order = SortOrder::try_from(request.sort_order).unwrap_or_default();
        let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
        let filter = Filter {
            min_mod: request.min_mod_revision,
            max_mod: request.max_mod_revision,
            min_create: request.min_create_revision,
            max_create: request.max_create_revision,
        };
        let limit = match usize::try_from(request.limit) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(limit) => limit,
        };
        // One key more than the limit tells that there is more. Without an order but with a
        // target, etcd sorts the first `limit + 1` keys, and so the answer depends on it.
        let gather = match (request.count_only, order) {
            (true, _) => 0,
            (false, SortOrder::None) if filter == Filter::NONE => limit.saturating_add(1),
            _ => usize::MAX,
        };
        let sort = match (order, target) {
            (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => None,
            sorted => Some((sorted.1, sorted.0)),
        };
        Self { revision, current, limit, gather, keys_only: request.keys_only, sort, filter }
    }
}

impl Filter {
    const NONE: Self = Self { min_mod: 0, max_mod: 0, min_create: 0, max_create: 0 };

    fn by_create(&self) -> bool {
        self.min_create != 0 || self.max_create != 0
    }

    fn admits(&self, candidate: &Candidate) -> bool {
        let within = |revision: i64, min: i64, max: i64| {
            (min == 0 || revision >= min) && (max == 0 || revision <= max)
        };
        within(candidate.record.main, self.min_mod, self.max_mod)
            && (!self.by_create()
                || within(candidate.lineage().created, self.min_create, self.max_create))
    }
}

impl Candidate {
    fn is_away(&self) -> bool {
        matches!(self.row, Row::Away(_))
    }

    fn lineage(&self) -> Lineage {
        match (&self.lineage, &self.row) {
            (Some(lineage), _) => *lineage,
            (None, Row::Here(row)) => rows::own_fields(row).lineage,
            (None, Row::Away(_)) => unreachable!("read before it was asked for"),
        }
    }

    fn value(&self) -> &[u8] {
        match &self.row {
            Row::Here(row) => &row.as_bytes()[rows::own_fields(row).value],
            Row::Away(_) => unreachable!("read before it was asked for"),
        }
    }
}

/// Candidates are gathered in key order and sorting is stable, so equal means by key; a descending
/// order of keys turns the sequence round.
fn compare(target: SortTarget, a: &Candidate, b: &Candidate) -> Ordering {
    match target {
        SortTarget::Key => a.key().cmp(b.key()),
        SortTarget::Version => a.lineage().version.cmp(&b.lineage().version),
        SortTarget::Create => a.lineage().created.cmp(&b.lineage().created),
        SortTarget::Mod => a.record.main.cmp(&b.record.main),
        SortTarget::Value => a.value().cmp(b.value()),
    }
}

impl Candidate {
    fn key(&self) -> &[u8] {
        match &self.row {
            Row::Here(row) => &row.as_bytes()[rows::own_fields(row).key],
            Row::Away(key) => key,
        }
    }
}

/// Collects candidates on a walk.
struct Gather<'w, 's> {
    work: &'w mut RangeWork,
    state: &'s State,
    budget: usize,
}

impl<'s> Visit<'s> for Gather<'_, 's> {
    fn leaf(&mut self, leaf: &Leaf) -> Leafwise {
        let full = self.work.found.len() >= self.work.plan.gather;
        if !full || leaf.newest() > self.work.plan.revision {
            return Leafwise::Enter;
        }
        if self.budget == 0 {
            return Leafwise::Stop;
        }
        self.budget -= 1;
        self.work.count += i64::from(leaf.live());
        Leafwise::Skip
    }

    fn slot(&mut self, key: KeyParts<'s>, slot: &'s Slot) -> ControlFlow<()> {
        if self.budget == 0 {
            return ControlFlow::Break(());
        }
        self.budget -= 1;
        let found = slot.at(self.work.plan.revision);
        if let Some((record, lineage)) = found.filter(|(record, _)| !record.is_tombstone()) {
            self.work.count += 1;
            if self.work.found.len() < self.work.plan.gather {
                let row = match self.state.row(record.revision()) {
                    Some(row) => Row::Here(row.kv.clone()),
                    None => Row::Away(key.to_vec().into()),
                };
                self.work.bytes += match &row {
                    Row::Here(row) => row.as_bytes().len(),
                    Row::Away(key) => key.len(),
                };
                self.work.found.push(Candidate { record, lineage, row });
            }
        }
        ControlFlow::Continue(())
    }
}
