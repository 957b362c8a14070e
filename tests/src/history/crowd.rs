//! Clients of several members that go on, elsewhere, when a call fails, and remember every answer.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Client;
use crate::history::author::{Author, Mix};
use crate::history::facts::{Compaction, Outcome, Read, Round, Watched};
use crate::history::knowledge::Knowledge;
use crate::history::wire::{self, Failure, Query, Seen, Watcher};

/// How long clients wait for an answer, in ms: some are patient, some are not.
const PATIENCE_MS: std::ops::Range<u64> = 300..4000;
/// The same for the patient half of those who ask one member only: longer than it may be silent.
const PATIENCE_FAITHFUL: Duration = Duration::from_secs(30);
/// Before a client that failed tries the next member.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the watches may take to show what was written last.
const WATCH_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Work,
    /// Writers and readers go home after the call at hand.
    Rest,
    /// Watches go home once they have seen this revision.
    End(i64),
}

/// Running clients.
pub struct Crowd {
    desk: Desk,
    stage: watch::Sender<Stage>,
    workers: JoinSet<Round>,
    watches: JoinSet<Result<Vec<Watched>, String>>,
}

/// A client's view of the run.
#[derive(Clone)]
struct Desk {
    knowledge: Arc<Knowledge>,
    endpoints: Arc<Vec<String>>,
    stage: watch::Receiver<Stage>,
    acknowledged: Arc<Acknowledged>,
    /// How far the watch of each member is.
    watched: Arc<Vec<AtomicI64>>,
    /// Reads that each member has answered.
    read: Arc<Vec<watch::Sender<u64>>>,
}

/// When writes were sent and acknowledged.
#[derive(Default)]
struct Acknowledged {
    times: Mutex<Vec<(Instant, Instant)>>,
    one_more: Notify,
}

impl Crowd {
    /// Starts everybody, inside of a runtime; `from` is the first revision nobody has seen yet.
    pub fn start(
        endpoints: Vec<String>,
        mix: Mix,
        seed: u64,
        from: i64,
        knowledge: &Arc<Knowledge>,
    ) -> Self {
        let (sender, stage) = watch::channel(Stage::Work);
        knowledge.told(from - 1);
        let watched = endpoints.iter().map(|_| AtomicI64::new(from - 1)).collect();
        let read = endpoints.iter().map(|_| watch::channel(0).0).collect();
        let desk = Desk {
            knowledge: knowledge.clone(),
            endpoints: Arc::new(endpoints),
            stage,
            acknowledged: Arc::default(),
            watched: Arc::new(watched),
            read: Arc::new(read),
        };
        let (mut workers, mut watches) = (JoinSet::new(), JoinSet::new());
        for place in 0..desk.endpoints.len() {
            watches.spawn(desk.clone().follow(place, from));
        }
        let rng = |number: u64| StdRng::seed_from_u64(seed ^ ((number + 1) << 32));
        for (place, number) in (0..mix.writers).enumerate() {
            let hand = Hand::new(desk.clone(), place, rng(number));
            workers.spawn(hand.write(Author::new(mix, rng(number + 50))));
        }
        for (place, number) in (0..mix.readers).enumerate() {
            let hand = Hand::new(desk.clone(), place, rng(number + 100));
            workers.spawn(hand.read(mix, from));
        }
        let (place, count) = mix.faithful;
        for number in 0..count {
            let hand = Hand::new(desk.clone(), place, rng(number + 300));
            workers.spawn(Hand { is_faithful: true, ..hand }.read(mix, from));
        }
        if mix.compact {
            workers.spawn(Hand::new(desk.clone(), 0, rng(200)).compact());
        }
        Self { desk, stage: sender, workers, watches }
    }

    /// Returns once so many writes are acknowledged that were sent after `moment`; says how long
    /// after it the first of these answers came.
    pub async fn wait_writes(&self, count: usize, moment: Instant) -> Duration {
        loop {
            let one_more = self.desk.acknowledged.one_more.notified();
            let times = self.times();
            let mut later = times.iter().filter(|(sent, _)| *sent > moment).map(|(_, at)| *at);
            if later.clone().count() >= count
                && let Some(first) = later.next()
            {
                return later.fold(first, Instant::min) - moment;
            }
            one_more.await;
        }
    }

    /// The longest time after `moment` in which no write was acknowledged; when it began, from
    /// then, and how long it was.
    pub fn longest_gap(&self, moment: Instant) -> (Duration, Duration) {
        let mut times: Vec<Instant> = self.times().iter().map(|(_, at)| *at).collect();
        times.retain(|at| *at >= moment);
        times.sort_unstable();
        times.insert(0, moment);
        let gaps = times.windows(2).map(|pair| (pair[0] - moment, pair[1] - pair[0]));
        gaps.max_by_key(|(_, gap)| *gap).unwrap_or_default()
    }

    /// Returns once a member has answered so many more reads.
    pub async fn wait_reads(&self, place: usize, count: u64) {
        let mut read = self.desk.read[place].subscribe();
        let due = *read.borrow() + count;
        read.wait_for(|read| *read >= due).await.expect("the desk keeps the other end");
    }

    fn times(&self) -> Vec<(Instant, Instant)> {
        self.desk.acknowledged.times.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets writers and readers finish the call at hand. The watches go on.
    pub async fn rest(&mut self) -> Round {
        self.stage.send_replace(Stage::Rest);
        let mut round = Round::default();
        while let Some(part) = self.workers.join_next().await {
            let part = part.expect("a client does not panic");
            round.writes.extend(part.writes);
            round.reads.extend(part.reads);
            round.compactions.extend(part.compactions);
        }
        round
    }

    /// Lets the watches see everything up to the round's fence.
    ///
    /// # Errors
    /// What a watch saw that cannot be.
    pub async fn end(mut self, round: &mut Round) -> Result<(), Vec<String>> {
        self.stage.send_replace(Stage::End(round.fence));
        let mut problems = Vec::new();
        while let Some(part) = self.watches.join_next().await {
            match part.expect("a watch does not panic") {
                Ok(watched) => round.watched.extend(watched),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl Desk {
    fn may_go_on(&self) -> bool {
        *self.stage.borrow() == Stage::Work
    }

    /// Watches all keys at one member, over as many connections as it takes.
    async fn follow(mut self, place: usize, from: i64) -> Result<Vec<Watched>, String> {
        let who = format!("the watch of member {}", place + 1);
        let mut parts = vec![Watched { who, from, ..Watched::default() }];
        let mut stage = self.stage.clone();
        let hurry = async {
            let _ = stage.wait_for(|stage| matches!(stage, Stage::End(_))).await;
            sleep(WATCH_WITHIN).await;
        };
        tokio::select! {
            followed = self.follow_on(place, &mut parts) => followed?,
            // The checker says what is missing.
            () = hurry => {}
        }
        Ok(parts)
    }

    async fn follow_on(&mut self, place: usize, parts: &mut Vec<Watched>) -> Result<(), String> {
        let mut connection: Option<(Client, Watcher)> = None;
        loop {
            let end = match *self.stage.borrow_and_update() {
                Stage::End(fence) => fence,
                _ => i64::MAX,
            };
            let last = self.watched[place].load(Ordering::SeqCst);
            if last >= end {
                return Ok(());
            }
            let Some((_, watcher)) = &mut connection else {
                connection = self.watch(place, last + 1).await;
                continue;
            };
            let seen = tokio::select! {
                seen = watcher.next() => seen,
                _ = self.stage.changed() => continue,
            };
            match seen {
                Ok(Seen::Revisions(revisions)) => {
                    let last = revisions.last().map_or(0, |revision| revision.number);
                    self.knowledge.told(last);
                    self.watched[place].store(last, Ordering::SeqCst);
                    let part = parts.last_mut().expect("there is a first one");
                    part.revisions.extend(revisions);
                }
                Ok(Seen::Compacted(at)) => {
                    let part = parts.last_mut().expect("there is a first one");
                    part.is_cut_short = true;
                    let next = Watched { who: part.who.clone(), from: at, ..Watched::default() };
                    parts.push(next);
                    self.watched[place].store(at - 1, Ordering::SeqCst);
                    connection = None;
                }
                Err(failure) if failure.downcast_ref::<Failure>().is_some() => {
                    connection = None;
                    sleep(PAUSE).await;
                }
                // What cannot be is a finding whenever it is seen.
                Err(problem) => return Err(format!("{}: {problem:#}", parts[0].who)),
            }
        }
    }

    async fn watch(&self, place: usize, from: i64) -> Option<(Client, Watcher)> {
        let connect = async {
            let mut client = Client::connect(&self.endpoints[place]).await.ok()?;
            let watcher = Watcher::start(&mut client, from).await.ok()?;
            Some((client, watcher))
        };
        let connection = timeout(Duration::from_millis(PATIENCE_MS.end), connect).await.ok()?;
        if connection.is_none() {
            sleep(PAUSE).await;
        }
        connection
    }
}

/// One who calls: at one member as long as that answers, then at the next.
struct Hand {
    desk: Desk,
    place: usize,
    rng: StdRng,
    client: Option<Client>,
    /// Does not go to another member.
    is_faithful: bool,
}

impl Hand {
    fn new(desk: Desk, place: usize, rng: StdRng) -> Self {
        let place = place % desk.endpoints.len();
        Self { desk, place, rng, client: None, is_faithful: false }
    }

    async fn connected(&mut self) -> Option<Client> {
        if self.client.is_none() {
            let connect = Client::connect(&self.desk.endpoints[self.place]);
            let patience = Duration::from_millis(PATIENCE_MS.start);
            self.client = timeout(patience, connect).await.ok().and_then(Result::ok);
        }
        if self.client.is_none() {
            self.move_on().await;
        }
        self.client.clone()
    }

    /// The next call goes to another member, by a new connection.
    async fn move_on(&mut self) {
        self.client = None;
        if !self.is_faithful {
            self.place = (self.place + 1) % self.desk.endpoints.len();
        }
        sleep(PAUSE).await;
    }

    fn patience(&mut self) -> Duration {
        if self.is_faithful && self.rng.random_bool(0.5) {
            return PATIENCE_FAITHFUL;
        }
        Duration::from_millis(self.rng.random_range(PATIENCE_MS))
    }

    async fn write(mut self, mut author: Author) -> Round {
        let mut round = Round::default();
        while self.desk.may_go_on() {
            let Some(mut client) = self.connected().await else { continue };
            let knowledge = &self.desk.knowledge;
            let mut write = author.write(knowledge.next_id(), knowledge.floor());
            let sent = Instant::now();
            let patience = self.patience();
            match timeout(patience, wire::send(&mut client, &write)).await {
                Ok(Ok(outcome)) => {
                    if let Outcome::Applied(at) | Outcome::Nothing(at) = outcome {
                        self.desk.knowledge.told(at);
                        author.learn(&write, at);
                    }
                    write.outcome = outcome;
                    self.desk.acknowledged.add(sent);
                }
                Ok(Err(refusal)) if refusal.is_refusal() => write.outcome = Outcome::Refused,
                Ok(Err(_)) | Err(_) => self.move_on().await,
            }
            round.writes.push(write);
        }
        round
    }

    async fn read(mut self, mix: Mix, from: i64) -> Round {
        let mut round = Round::default();
        while self.desk.may_go_on() {
            let Some(mut client) = self.connected().await else { continue };
            let query = self.query(mix, from);
            let patience = self.patience();
            match timeout(patience, wire::read(&mut client, query)).await {
                Ok(Ok((mut answer, _))) => {
                    if query.serializable {
                        // It may be old; that it is true as of then is checked all the same.
                        answer = Read { floor: 0, ..answer };
                    }
                    self.desk.knowledge.told(answer.revision);
                    round.reads.push(answer);
                    self.desk.read[self.place].send_modify(|read| *read += 1);
                }
                Ok(Err(overtaken)) if overtaken.is_compacted() => {}
                Ok(Err(_)) | Err(_) => self.move_on().await,
            }
        }
        round
    }

    fn query(&mut self, mix: Mix, from: i64) -> Query {
        let (rng, knowledge) = (&mut self.rng, &self.desk.knowledge);
        let first = rng.random_range(0..mix.keys);
        let last = first + if rng.random_bool(0.5) { 0 } else { rng.random_range(1..20) };
        let serializable = rng.random_bool(0.2);
        let floor = knowledge.floor();
        let oldest = from.max(knowledge.compaction.load(Ordering::SeqCst));
        let at = (rng.random_bool(0.2) && oldest < floor).then(|| rng.random_range(oldest..=floor));
        Query { range: (first, last), at, serializable, limit: 0, floor }
    }

    async fn compact(mut self) -> Round {
        let mut round = Round::default();
        while self.desk.may_go_on() {
            let pause = Duration::from_millis(self.rng.random_range(50..500));
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.desk.stage.changed() => break,
            }
            // Mostly not beyond what all watches have seen, and never beyond the best of them:
            // the history must stay whole.
            let seen = self.desk.watched.iter().map(|seen| seen.load(Ordering::SeqCst));
            let limit = if self.rng.random_bool(0.9) { seen.min() } else { seen.max() };
            let revision = limit.unwrap_or(0) - self.rng.random_range(0..300);
            if revision <= self.desk.knowledge.compaction.load(Ordering::SeqCst).max(1) {
                continue;
            }
            let Some(mut client) = self.connected().await else { continue };
            self.desk.knowledge.will_compact(revision);
            let physical = self.rng.random_bool(0.3);
            let patience = self.patience();
            let answer = timeout(patience, wire::compact(&mut client, revision, physical)).await;
            let acknowledged = matches!(answer, Ok(Ok(())));
            round.compactions.push(Compaction { revision, acknowledged });
            if !acknowledged {
                self.move_on().await;
            }
        }
        round
    }
}

impl Acknowledged {
    fn add(&self, sent: Instant) {
        let now = Instant::now();
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push((sent, now));
        self.one_more.notify_waiters();
    }
}
