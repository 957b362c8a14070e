//! Clients that write, read, watch and compact, and remember every answer, until the server dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use harness::Client;
use harness::history::author::{Author, Mix};
use harness::history::facts::{Compaction, Key, Outcome, Round};
use harness::history::knowledge::Knowledge;
use harness::history::wire::{self, Failure, Query, Seen, Watcher};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a killed server's connections may take to end.
const LINGER: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// A call that fails now is a finding.
    Healthy,
    /// The fault is on its way; whoever fails goes home.
    Struck,
    /// Everybody ends after the call at hand.
    Finish,
    /// Nobody waits for answers any longer.
    Abandon,
}

/// Running clients.
pub(crate) struct Load {
    stage: watch::Sender<Stage>,
    tasks: JoinSet<Part>,
    common: Arc<Knowledge>,
    /// Refusals before the start.
    no_space_before: u64,
}

/// What one client brings home.
#[derive(Default)]
struct Part {
    round: Round,
    failures: Vec<String>,
}

/// What all clients brought home.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) round: Round,
    /// Calls that failed while nothing was wrong.
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// Starts everybody; `from` is the first revision that nobody has seen yet.
    pub(crate) async fn start(
        endpoint: &str,
        mix: Mix,
        seed: u64,
        from: i64,
        common: &Arc<Knowledge>,
    ) -> Result<Self> {
        let (stage, _) = watch::channel(Stage::Healthy);
        common.told(from - 1);
        common.watched.fetch_max(from - 1, Ordering::SeqCst);
        let no_space_before = common.no_space.load(Ordering::SeqCst);
        let (tasks, common) = (JoinSet::new(), common.clone());
        let mut load = Self { stage, tasks, common, no_space_before };
        let desk = Desk { common: load.common.clone(), stage: load.stage.subscribe() };
        let mut client = Client::connect(endpoint).await?;
        let watcher = Watcher::start(&mut client, from).await?;
        load.tasks.spawn(follow(desk.clone(), client, watcher));
        for number in 0..mix.writers {
            let rng = StdRng::seed_from_u64(seed ^ ((number + 1) << 32));
            let client = Client::connect(endpoint).await?;
            let writer = Writer { author: Author::new(mix, rng), client };
            load.tasks.spawn(writer.run(desk.clone()));
        }
        for number in 0..mix.readers {
            let rng = StdRng::seed_from_u64(seed ^ ((number + 101) << 32));
            let client = Client::connect(endpoint).await?;
            load.tasks.spawn(read(desk.clone(), client, rng, mix.keys, from));
        }
        if mix.compact {
            let rng = StdRng::seed_from_u64(seed ^ (201 << 32));
            let client = Client::connect(endpoint).await?;
            load.tasks.spawn(compact(desk, client, rng));
        }
        Ok(load)
    }

    /// Writes refused so far for lack of space.
    pub(crate) fn no_space(&self) -> u64 {
        self.common.no_space.load(Ordering::SeqCst) - self.no_space_before
    }

    /// From now on failures are what was asked for.
    pub(crate) fn strike(&self) {
        self.stage.send_replace(Stage::Struck);
    }

    /// Lets everybody finish the call at hand. For a server that is alive.
    pub(crate) async fn finish(mut self) -> Gathered {
        self.stage.send_replace(Stage::Finish);
        let mut gathered = Gathered::default();
        self.gather(&mut gathered).await;
        gathered
    }

    /// Collects what everybody has. A dead server's connections end by themselves, after what was
    /// in them has been read; nobody waits longer than that.
    pub(crate) async fn abandon(mut self) -> Gathered {
        let mut gathered = Gathered::default();
        let _ = tokio::time::timeout(LINGER, self.gather(&mut gathered)).await;
        self.stage.send_replace(Stage::Abandon);
        self.gather(&mut gathered).await;
        gathered
    }

    async fn gather(&mut self, gathered: &mut Gathered) {
        while let Some(part) = self.tasks.join_next().await {
            let part = part.expect("a client does not panic");
            gathered.round.writes.extend(part.round.writes);
            gathered.round.reads.extend(part.round.reads);
            gathered.round.compactions.extend(part.round.compactions);
            gathered.round.live.extend(part.round.live);
            gathered.failures.extend(part.failures);
        }
    }
}

/// A client's view of the run.
#[derive(Clone)]
struct Desk {
    common: Arc<Knowledge>,
    stage: watch::Receiver<Stage>,
}

impl Desk {
    fn may_go_on(&self) -> bool {
        *self.stage.borrow() < Stage::Finish
    }

    /// The call's answer, or a failure if nobody shall wait for it.
    async fn wait<T>(
        &mut self,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            answer = call => answer,
            _ = self.stage.wait_for(|stage| *stage == Stage::Abandon) => {
                Err(Failure { code: None, message: "abandoned".to_owned() })
            }
        }
    }

    fn note(&self, who: &str, failure: &impl ToString, part: &mut Part) {
        if *self.stage.borrow() == Stage::Healthy {
            part.failures.push(format!("{who} failed: {}", failure.to_string()));
        }
    }
}

async fn follow(mut desk: Desk, _client: Client, mut watcher: Watcher) -> Part {
    let mut part = Part::default();
    loop {
        let seen = tokio::select! {
            biased;
            seen = watcher.next() => seen,
            _ = desk.stage.wait_for(|stage| *stage >= Stage::Finish) => return part,
        };
        match seen {
            Ok(Seen::Revisions(revisions)) => {
                let last = revisions.last().map_or(0, |revision| revision.number);
                part.round.live.extend(revisions);
                desk.common.told(last);
                desk.common.watched.fetch_max(last, Ordering::SeqCst);
            }
            Ok(Seen::Compacted(at)) => {
                desk.note("the watch", &format!("canceled, compacted at {at}"), &mut part);
                return part;
            }
            Err(failure) => {
                match failure.downcast_ref::<Failure>() {
                    Some(ended) => desk.note("the watch", ended, &mut part),
                    // What cannot be is a finding whenever it is seen.
                    None => part.failures.push(format!("the watch: {failure:#}")),
                }
                return part;
            }
        }
    }
}

struct Writer {
    author: Author,
    client: Client,
}

impl Writer {
    async fn run(mut self, mut desk: Desk) -> Part {
        let mut part = Part::default();
        while desk.may_go_on() {
            let id = desk.common.next_id();
            let mut write = self.author.write(id, desk.common.floor());
            let answer = desk.wait(wire::send(&mut self.client, &write)).await;
            match answer {
                Ok(outcome) => {
                    if let Outcome::Applied(at) | Outcome::Nothing(at) = outcome {
                        desk.common.told(at);
                        self.author.learn(&write, at);
                    }
                    write.outcome = outcome;
                    part.round.writes.push(write);
                }
                Err(failure) => {
                    if failure.is_refusal() {
                        write.outcome = Outcome::Refused;
                    }
                    part.round.writes.push(write);
                    let refused = u64::from(failure.is_no_space());
                    desk.common.no_space.fetch_add(refused, Ordering::SeqCst);
                    if !failure.is_refusal() {
                        desk.note(&format!("write {id}"), &failure, &mut part);
                        break;
                    }
                }
            }
        }
        part
    }
}

async fn read(mut desk: Desk, mut client: Client, mut rng: StdRng, keys: Key, from: i64) -> Part {
    let mut part = Part::default();
    while desk.may_go_on() {
        let first = rng.random_range(0..keys);
        let last = first + if rng.random_bool(0.5) { 0 } else { rng.random_range(1..20) };
        let serializable = rng.random_bool(0.2);
        let floor = desk.common.floor();
        let oldest = from.max(desk.common.compaction.load(Ordering::SeqCst));
        let at = (rng.random_bool(0.3) && oldest < floor).then(|| rng.random_range(oldest..=floor));
        // A serializable read may lag behind other members, but there are none.
        let query = Query { range: (first, last), at, serializable, limit: 0, floor };
        match desk.wait(wire::read(&mut client, query)).await {
            Ok((answer, _)) => {
                desk.common.told(answer.revision);
                part.round.reads.push(answer);
            }
            Err(failure) => {
                let compaction = desk.common.compaction.load(Ordering::SeqCst);
                let overtaken = failure.is_compacted() && at.is_some_and(|at| at < compaction);
                if !overtaken {
                    desk.note("a read", &failure, &mut part);
                    break;
                }
            }
        }
    }
    part
}

async fn compact(mut desk: Desk, mut client: Client, mut rng: StdRng) -> Part {
    let mut part = Part::default();
    loop {
        let pause = Duration::from_millis(rng.random_range(20..250));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = desk.stage.wait_for(|stage| *stage >= Stage::Finish) => return part,
        }
        // Never beyond what the watcher has: the history must stay whole.
        let watched = desk.common.watched.load(Ordering::SeqCst);
        let revision = watched - rng.random_range(0..300);
        if revision <= desk.common.compaction.load(Ordering::SeqCst).max(1) {
            continue;
        }
        desk.common.will_compact(revision);
        let physical = rng.random_bool(0.5);
        let answer = desk.wait(wire::compact(&mut client, revision, physical)).await;
        part.round.compactions.push(Compaction { revision, acknowledged: answer.is_ok() });
        if let Err(failure) = answer.or_else(|why| if why.is_busy() { Ok(()) } else { Err(why) }) {
            desk.note("a compaction", &failure, &mut part);
            return part;
        }
    }
}
