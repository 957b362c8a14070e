//! Asks a server for everything that a check needs: the history by a watch, states by reads.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;

use crate::Client;
use crate::history::facts::{ALL, FENCE, Operation, Outcome, Round, Value, Write};
use crate::history::knowledge::Knowledge;
use crate::history::wire::{self, Query, Seen, Watcher};

/// Longer than any history of a round takes.
const REPLAY_WITHIN: Duration = Duration::from_secs(60);
/// How long a member may refuse the first write because it is busy with its start.
const BUSY_WITHIN: Duration = Duration::from_secs(20);
/// Keys in one answer.
const PAGE: i64 = 50;
/// Acknowledged writes that are also read at their revision, besides being seen by the watch.
const SAMPLES: usize = 20;

/// Completes the round with what the server says now.
pub async fn inspect(
    endpoint: &str,
    round: &mut Round,
    common: &Knowledge,
    rng: &mut StdRng,
) -> Result<()> {
    let mut client = Client::connect(endpoint).await?;
    write_fence(&mut client, round, common).await.context("the first write")?;
    let replay = replay(&mut client, round);
    match tokio::time::timeout(REPLAY_WITHIN, replay).await {
        Ok(done) => done.context("the watch of everything")?,
        Err(_) => bail!("a watch does not reach revision {} in {REPLAY_WITHIN:?}", round.fence),
    }
    look_back(&mut client, round, rng).await.context("reads of the past")
}

/// The last write before the history is asked for. On a full disk, where it is refused, a deletion
/// does as well, even of nothing: then its answer tells the revision. A member that has just read
/// a long log may refuse at first.
async fn write_fence(client: &mut Client, round: &mut Round, common: &Knowledge) -> Result<()> {
    let deadline = Instant::now() + BUSY_WITHIN;
    let mut full = false;
    loop {
        let id = common.next_id();
        let value = Value { write: id, operation: 0, bytes: 0 };
        let operation = match full {
            false => Operation::Put { key: FENCE, value },
            true => Operation::Delete { first: FENCE, last: FENCE },
        };
        let mut fence = Write::new(id, vec![operation], common.floor());
        match wire::send(client, &fence).await {
            Ok(outcome) => {
                if let Outcome::Applied(at) | Outcome::Nothing(at) = outcome {
                    round.fence = at;
                    common.told(at);
                }
                fence.outcome = outcome;
                round.writes.push(fence);
                return Ok(());
            }
            Err(refusal) if refusal.is_no_space() && !full => full = true,
            Err(refusal) if refusal.is_busy() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(failure) => {
                // It may have happened, and a later check will want to know whose it is.
                round.writes.push(fence);
                return Err(failure.into());
            }
        }
        fence.outcome = Outcome::Refused;
        round.writes.push(fence);
    }
}

/// From the oldest revision there is to the fence.
async fn replay(client: &mut Client, round: &mut Round) -> Result<()> {
    let mut start = 1;
    loop {
        let mut watcher = Watcher::start(client, start).await?;
        loop {
            match watcher.next().await? {
                Seen::Compacted(at) => {
                    ensure!(at > start, "a watch from {start} was canceled, compacted at {at}");
                    (start, round.compacted) = (at, at);
                    break;
                }
                Seen::Revisions(revisions) => {
                    let last = revisions.last().map_or(0, |revision| revision.number);
                    round.replayed.extend(revisions);
                    if last >= round.fence {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The whole state now and at the compacted revision, some writes at their revision, and what
/// lies outside of the history.
async fn look_back(client: &mut Client, round: &mut Round, rng: &mut StdRng) -> Result<()> {
    let oldest = round.compacted.max(1);
    let mut queries = vec![(ALL, None), (ALL, Some(oldest))];
    let answered: Vec<_> = round
        .writes
        .iter()
        .filter_map(|write| match (&write.outcome, write.operations.first()) {
            (Outcome::Applied(at), Some(Operation::Put { key, .. })) => Some((*key, *at)),
            (Outcome::Applied(at), Some(Operation::Delete { first, .. })) => Some((*first, *at)),
            _ => None,
        })
        .filter(|(_, at)| *at >= oldest && *at <= round.fence)
        .collect();
    for _ in 0..SAMPLES.min(answered.len()) {
        let (key, at) = answered[rng.random_range(0..answered.len())];
        queries.push(((key, key), Some(at)));
    }
    for (range, at) in queries {
        read_all(client, round, range, at).await?;
    }
    let beyond =
        Query { range: ALL, at: Some(round.fence + 1000), serializable: false, limit: 1, floor: 0 };
    ensure!(wire::read(client, beyond).await.is_err(), "a revision of the future can be read");
    if round.compacted > 1 {
        let before = Query { at: Some(round.compacted - 1), ..beyond };
        let refused = wire::read(client, before).await.err();
        ensure!(refused.is_some_and(|why| why.is_compacted()), "a compacted revision can be read");
    }
    Ok(())
}

async fn read_all(
    client: &mut Client,
    round: &mut Round,
    range: (u32, u32),
    at: Option<i64>,
) -> Result<()> {
    let mut first = range.0;
    loop {
        let range = (first, range.1);
        let query = Query { range, at, serializable: false, limit: PAGE, floor: round.fence };
        let (read, more) = wire::read(client, query).await?;
        first = read.range.1.saturating_add(1);
        round.reads.push(read);
        if !more {
            return Ok(());
        }
    }
}
