//! Runs steps against both servers and compares; stops at the first difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    CompactionRequest, RangeRequest, WatchCancelRequest, WatchCreateRequest,
};

use super::generate::{Generator, View};
use super::side::Side;
use super::watcher::{Agreed, Change, Watched};
use super::{Step, shrink};
use crate::Target;

/// The run's own stream: one watcher of everything, from the beginning.
pub(crate) const EVERYTHING: usize = 1000;
/// The stream of short-lived watchers that show when all older ones have caught up.
const CANARY: usize = 1001;
/// All streams are compared at least this often.
const COMPARE_EVERY: usize = 200;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub left: Target,
    pub right: Target,
    /// More flags for the right server.
    pub right_args: Vec<String>,
    pub seed: u64,
    pub steps: usize,
    /// How often a difference is replayed to find a shorter list of steps; 0 leaves it as it is.
    pub shrink_runs_max: usize,
    /// Told the number of steps done, now and then.
    pub progress: fn(usize),
}

/// Where the servers differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The steps up to the difference, or fewer that show it as well.
    pub steps: Vec<Step>,
    /// Index of the step in the original run.
    pub at: usize,
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "difference at step {}, shown by these {}:", self.at, self.steps.len())?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        write!(f, "{}", self.what)
    }
}

/// What a run did: how often each kind of answer was compared, so that a run that only compared
/// errors is seen as what it is.
pub type Compared = BTreeMap<String, usize>;

/// Runs the plan.
///
/// # Errors
/// When the run itself fails: a server does not start, or ends.
pub fn run(plan: &Plan) -> Result<Result<Compared, Difference>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut pair = Pair::start(plan).await?;
        let mut generator = Generator::new(plan.seed);
        let mut steps = Vec::new();
        for index in 0..plan.steps {
            let step = generator.next(pair.view());
            steps.push(step.clone());
            let last = index + 1 == plan.steps;
            if let Err(difference) = pair.step(index, &step, last).await {
                pair.check_alive()?;
                drop(pair);
                let what = format!("{difference:#}");
                let difference = Difference { steps, at: index, what };
                return Ok(Err(shrink::shrink(plan, difference).await?));
            }
            if (index + 1) % 1000 == 0 {
                (plan.progress)(index + 1);
            }
        }
        Ok(Ok(pair.compared))
    })
}

/// Runs a given list of steps; the difference is in the error.
pub(crate) async fn replay(plan: &Plan, steps: &[Step]) -> Result<Result<()>> {
    let mut pair = Pair::start(plan).await?;
    for (index, step) in steps.iter().enumerate() {
        let outcome = pair.step(index, step, index + 1 == steps.len()).await;
        if outcome.is_err() {
            return Ok(outcome);
        }
    }
    Ok(Ok(()))
}

/// The two servers, and what they agree on so far.
struct Pair {
    left: Side,
    right: Side,
    revision: i64,
    compacted: i64,
    /// A compaction may still run in the background.
    compacting: bool,
    streams: BTreeMap<usize, Agreed>,
    history: Vec<Change>,
    compared: Compared,
}

impl Pair {
    async fn start(plan: &Plan) -> Result<Self> {
        let left = Side::start("left", plan.left, &[]).await?;
        let right = Side::start("right", plan.right, &plan.right_args).await?;
        let mut pair = Self {
            left,
            right,
            revision: 1,
            compacted: -1,
            compacting: false,
            streams: BTreeMap::new(),
            history: Vec::new(),
            compared: Compared::new(),
        };
        let zero = b"\0".to_vec();
        let request = WatchCreateRequest {
            key: zero.clone(),
            range_end: zero,
            prev_kv: true,
            ..Default::default()
        };
        pair.watch_create(EVERYTHING, &request).await?;
        Ok(pair)
    }

    fn view(&self) -> View {
        let own = |stream: &usize| *stream < EVERYTHING;
        let watchers = self
            .streams
            .iter()
            .filter(|(stream, _)| own(stream))
            .flat_map(|(stream, agreed)| agreed.watchers.keys().map(|id| (*stream, *id)));
        let watchers = watchers.collect();
        View { revision: self.revision, compacted: self.compacted, watchers }
    }

    fn check_alive(&mut self) -> Result<()> {
        for side in [&mut self.left, &mut self.right] {
            let (name, tail) = (side.name.clone(), side.node.log_tail());
            ensure!(side.node.is_running(), "{name} has ended:\n{tail}");
        }
        Ok(())
    }

    /// One step; the error says what differs.
    async fn step(&mut self, index: usize, step: &Step, last: bool) -> Result<()> {
        match step {
            Step::Compact(request) => {
                self.settle_compaction().await?;
                self.compare_streams().await?;
                self.catch_up().await?;
                if self.was_put_again(request.revision) {
                    return Ok(());
                }
                let answer = self.call(index, step).await?;
                if !answer.starts_with("error") {
                    self.compacted = request.revision;
                    self.compacting = !request.physical;
                }
            }
            Step::Line(line) => {
                if line.starts_with("alarm activate corrupt") {
                    // Nothing would tell when a compaction is done.
                    self.settle_compaction().await?;
                }
                self.call(index, step).await?;
                // Elections answer with the header of a call before their last.
                let key = b"nothing".to_vec();
                let look = Step::Range(RangeRequest { key, ..RangeRequest::default() });
                self.call(index, &look).await?;
            }
            Step::HashKv(_) => {
                self.settle_compaction().await?;
                self.call(index, step).await?;
            }
            Step::WatchCreate { stream, request } => {
                let agreed = self.streams.entry(*stream).or_default();
                if !agreed.lapsed.contains(&request.watch_id) {
                    self.watch_create(*stream, request).await?;
                }
            }
            Step::WatchCancel { stream, id } => self.watch_cancel(*stream, *id).await?,
            Step::WatchProgress { stream } => self.progress(*stream).await?,
            Step::WatchClose { stream } => {
                self.compare_streams().await?;
                self.streams.remove(stream);
                self.left.streams.remove(stream);
                self.right.streams.remove(stream);
            }
            _ => {
                self.call(index, step).await?;
            }
        }
        if last || index % COMPARE_EVERY == COMPARE_EVERY - 1 {
            self.compare_streams().await?;
        }
        Ok(())
    }

    /// Whether the transaction of a revision put a key that it had deleted.
    fn was_put_again(&self, revision: i64) -> bool {
        let since = self.history.iter().rev().take_while(|change| change.revision >= revision);
        let changes: Vec<_> = since.filter(|change| change.revision == revision).collect();
        let put = |key: &[u8]| changes.iter().any(|change| !change.deleted && change.key == key);
        changes.iter().any(|change| change.deleted && put(&change.key))
    }

    /// The same call on both; returns the answer that both gave.
    async fn call(&mut self, index: usize, step: &Step) -> Result<String> {
        let (left, right) = (self.left.call(index, step), self.right.call(index, step));
        let ((left, revision), (right, _)) = tokio::join!(left, right);
        self.revision = self.revision.max(revision);
        self.same(&left, &right)?;
        // Errors by their text, answers by the name of the call.
        let error = left.starts_with("error");
        let kind = if error { &left } else { left.split(' ').next().unwrap_or_default() };
        self.count(kind, 1);
        Ok(left)
    }

    fn count(&mut self, kind: &str, times: usize) {
        *self.compared.entry(kind.to_owned()).or_default() += times;
    }

    fn same(&self, left: &str, right: &str) -> Result<()> {
        let (a, b) = (&self.left.name, &self.right.name);
        ensure!(left == right, "--- {a}\n{left}\n--- {b}\n{right}");
        Ok(())
    }

    async fn watch_create(&mut self, stream: usize, request: &WatchCreateRequest) -> Result<()> {
        let now = self.revision;
        let left = self.left.create(stream, request, now);
        let right = self.right.create(stream, request, now);
        let (left, right) = tokio::join!(left, right);
        let ((id, left), (_, right)) = (left?, right?);
        self.same(&left, &right)?;
        self.count(if id == -1 { "watchers refused" } else { "watchers" }, 1);
        let from = if request.start_revision == 0 { now + 1 } else { request.start_revision };
        let agreed = self.streams.entry(stream).or_default();
        if id == -1 {
            return Ok(());
        }
        if from < self.compacted {
            agreed.lapsed.insert(id);
            self.wait_canceled(stream, id).await?;
            return self.compare_watcher(stream, id);
        }
        agreed.watchers.insert(id, Watched { request: request.clone(), from });
        Ok(())
    }

    async fn watch_cancel(&mut self, stream: usize, id: i64) -> Result<()> {
        let agreed = self.streams.entry(stream).or_default();
        if agreed.lapsed.contains(&id) {
            return Ok(());
        }
        let known = agreed.watchers.contains_key(&id);
        // The events before the cancellation come before its answer, if they were waited for.
        if known {
            self.compare_streams().await?;
        }
        for side in [&mut self.left, &mut self.right] {
            let request = WatchCancelRequest { watch_id: id };
            side.stream(stream).stream.send(Some(RequestUnion::CancelRequest(request)))?;
        }
        if known {
            self.wait_canceled(stream, id).await?;
            self.compare_watcher(stream, id)?;
            self.streams.entry(stream).or_default().watchers.remove(&id);
        }
        Ok(())
    }

    async fn wait_canceled(&mut self, stream: usize, id: i64) -> Result<()> {
        let now = self.revision;
        for side in [&mut self.left, &mut self.right] {
            side.wait(stream, now, "a cancellation", |log| {
                log.watchers.get(&id).is_some_and(|told| told.canceled)
            })
            .await?;
        }
        Ok(())
    }

    /// Progress of a stream on which etcd reports it.
    async fn progress(&mut self, stream: usize) -> Result<()> {
        let now = self.revision;
        if self.streams.get(&stream).is_some_and(|agreed| agreed.reports_progress(now)) {
            for side in [&mut self.left, &mut self.right] {
                side.progress(stream, now).await?;
            }
            // All that came before the report is all there is.
            self.compare_everything().await?;
            self.compare_stream(stream)?;
        }
        Ok(())
    }

    /// Waits until all watchers are told all they must be told, and compares.
    async fn compare_streams(&mut self) -> Result<()> {
        self.compare_everything().await?;
        let streams: Vec<usize> = self.streams.keys().copied().collect();
        for number in streams {
            let agreed = self.streams.get(&number).cloned().unwrap_or_default();
            for (id, watched) in &agreed.watchers {
                let Some(last) = watched.last_of(&self.history) else { continue };
                let what = format!("the event of revision {last} for watcher {id}");
                for side in [&mut self.left, &mut self.right] {
                    side.wait(number, self.revision, &what, |log| {
                        log.watchers.get(id).is_some_and(|told| told.has(last))
                    })
                    .await?;
                }
            }
            self.compare_stream(number)?;
        }
        Ok(())
    }

    /// The run's own watcher: its events are the history.
    async fn compare_everything(&mut self) -> Result<()> {
        let now = self.revision;
        for side in [&mut self.left, &mut self.right] {
            side.wait(EVERYTHING, now, "an event of the watcher of everything", |log| {
                now == 1 || log.watchers.values().all(|told| told.has(now))
            })
            .await?;
        }
        let changes = std::mem::take(&mut self.left.stream(EVERYTHING).log.changes);
        self.right.stream(EVERYTHING).log.changes.clear();
        self.history.extend(changes);
        self.compare_stream(EVERYTHING)
    }

    fn compare_stream(&mut self, number: usize) -> Result<()> {
        let ids: Vec<i64> = self.left.stream(number).log.watchers.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.compare_watcher(number, id))
    }

    /// Compares what a watcher was told on both sides, and forgets it.
    fn compare_watcher(&mut self, number: usize, id: i64) -> Result<()> {
        let mut told = [&mut self.left, &mut self.right].map(|side| {
            let watcher = side.stream(number).log.watchers.get_mut(&id);
            watcher.map(|told| std::mem::take(&mut told.items)).unwrap_or_default()
        });
        if told[0] == told[1] {
            let kind = if number == EVERYTHING { "changes" } else { "watch events" };
            self.count(kind, told[0].len());
            return Ok(());
        }
        let same = told[0].iter().zip(&told[1]).take_while(|(a, b)| a == b).count();
        for items in &mut told {
            items.drain(..same);
        }
        let mut what = format!("watcher {id} of stream s{number} is told");
        for (side, items) in [&self.left, &self.right].iter().zip(&told) {
            let _ =
                write!(what, "\n--- {}, after {same} the same\n{}", side.name, items.join("\n"));
        }
        anyhow::bail!(what)
    }

    /// Waits until no watcher is behind any more. What it shows is a younger watcher that is not.
    async fn catch_up(&mut self) -> Result<()> {
        if self.revision == 1 {
            return Ok(());
        }
        let start_revision = self.revision;
        let zero = b"\0".to_vec();
        let request = WatchCreateRequest {
            key: zero.clone(),
            range_end: zero,
            start_revision,
            ..Default::default()
        };
        self.watch_create(CANARY, &request).await?;
        self.compare_streams().await?;
        let canary = self.streams.get(&CANARY).and_then(|agreed| agreed.watchers.keys().next());
        let id = *canary.context("the canary was just created")?;
        self.watch_cancel(CANARY, id).await?;
        let streams: Vec<usize> = self.streams.keys().copied().collect();
        for stream in streams {
            self.progress(stream).await?;
        }
        Ok(())
    }

    /// Waits until a compaction is done in the background as well: compacting the same again
    /// physically is refused, after it is.
    async fn settle_compaction(&mut self) -> Result<()> {
        if std::mem::take(&mut self.compacting) {
            let again = CompactionRequest { revision: self.compacted, physical: true };
            self.call(0, &Step::Compact(again)).await?;
        }
        Ok(())
    }
}
