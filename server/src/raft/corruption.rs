//! Whether all members hold the same data. The leader compares hashes, and raises the alarm of whoever
//! differs from the majority.
//!
//! - Each compaction hashes what it covers, before it removes anything, and the hash is kept. Comparing
//!   those costs a question to each member; who is late is asked again a while later.
//! - Once an hour, if no compaction was compared meanwhile, each member hashes all of its data as of one
//!   revision. That takes a while, in steps beside everything else.
//! - A member may compare its data with the others' when it starts, and ends if it differs.
//!
//! Hashes are compared only of the same revision above the same compaction; whoever cannot give one is
//! skipped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType};
use proto::internal::{Command, command::Op};
use proto::peer;
use store::ReadError;
use store::mvcc::{HashKv, Step, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::core::{Core, Handle};
use super::links::{Lane, Links, within};
use super::types::Proposal;
use crate::limits;

/// When to compare.
pub struct Checks {
    /// Between two looks at the hashes of compactions; `None`: they are not compared.
    pub compactions: Option<Duration>,
    /// Between two hashes of everything.
    pub all: Option<Duration>,
    /// When this member starts.
    pub at_start: bool,
    /// The compaction that is complete here.
    pub compacted: watch::Receiver<i64>,
}

struct Checker {
    raft: Core,
    handle: Handle,
    links: Links,
    /// The newest compaction that all members agree on.
    agreed: i64,
    /// All members agreed on one since the last look at everything.
    compared: bool,
}

/// Starts the task that compares, on the raft thread.
pub fn start((raft, handle, links): (&Core, &Handle, &Links), checks: Checks) {
    let (raft, handle, links) = (raft.clone(), handle.clone(), links.clone());
    let checker = Checker { raft, handle, links, agreed: 0, compared: false };
    tokio::spawn(checker.run(checks));
}

impl Checker {
    async fn run(mut self, mut checks: Checks) {
        if checks.at_start {
            self.compare_at_start().await;
        }
        let (mut again, mut all) = (every(checks.compactions), every(checks.all));
        loop {
            tokio::select! {
                changed = checks.compacted.changed() => match changed {
                    Ok(()) if checks.compactions.is_some() => {
                        // The others are about as far.
                        tokio::time::sleep(limits::COMPACTION_CHECK_DELAY).await;
                        self.compare_compactions().await;
                    }
                    Ok(()) => {}
                    // The process ends.
                    Err(_) => return,
                },
                () = tick(&mut again) => self.compare_compactions().await,
                () = tick(&mut all) => {
                    if !std::mem::take(&mut self.compared) {
                        self.compare_all().await;
                    }
                }
            }
        }
    }

    fn leads(&self) -> bool {
        self.handle.standing().leader == self.handle.member_id
    }

    /// The newest compaction that all members have a hash of, unless they have agreed on it before.
    async fn compare_compactions(&mut self) {
        let hashes = self.handle.current.load().compaction_hashes();
        for hash in hashes.into_iter().take_while(|hash| hash.hash_revision > self.agreed) {
            if !self.leads() {
                return;
            }
            let peers = self.ask(hash.hash_revision).await;
            match self.judge(hash, &peers) {
                Verdict::Equal { all: true } => {
                    (self.agreed, self.compared) = (hash.hash_revision, true);
                    return;
                }
                Verdict::Equal { all: false } => {}
                Verdict::Diverging(_) | Verdict::Unclear => return,
            }
        }
    }

    async fn compare_all(&mut self) {
        if !self.leads() || self.others().is_empty() {
            return;
        }
        if let Some(own) = own_hash(self.handle.current.load()).await {
            let peers = self.ask(own.hash_revision).await;
            self.judge(own, &peers);
        }
    }

    async fn compare_at_start(&self) {
        let Some(own) = own_hash(self.handle.current.load()).await else { return };
        let peers = self.ask(own.hash_revision).await;
        let differs = |hash: &HashKv| is_comparable(&own, hash) && own.hash != hash.hash;
        let differing = peers.iter().find(|(_, hash)| hash.as_ref().is_some_and(differs));
        if let Some((peer, _)) = differing {
            crate::stop::because(&format!(
                "the data of this member differs from that of member {peer:x} at revision {}: \
                 stop it, move its data directory away, and add it anew",
                own.hash_revision
            ));
        }
        tracing::info!("this member's data agrees with that of the members that answered");
    }

    fn others(&self) -> Vec<u64> {
        let members = self.handle.current.load().members().into_iter().map(|member| member.id);
        members.filter(|id| *id != self.handle.member_id).collect()
    }

    /// Asks all other members at once.
    async fn ask(&self, revision: i64) -> Vec<(u64, Option<HashKv>)> {
        let mut calls = JoinSet::new();
        for id in self.others() {
            let mut link = self.links.to(id, Lane::Request);
            calls.spawn(async move {
                let request = peer::HashRequest { identity: Some(link.identity()), revision };
                match within(limits::HASH_TIMEOUT, link.client.hash(request)).await {
                    Ok(peer::HashResponse { hash, compact_revision, hash_revision }) => {
                        (id, Some(HashKv { hash, compact_revision, hash_revision }))
                    }
                    Err(error) => {
                        let peer = format!("{id:x}");
                        tracing::debug!(peer, revision, %error, "a member gives no hash");
                        (id, None)
                    }
                }
            });
        }
        calls.join_all().await
    }

    fn judge(&self, own: HashKv, peers: &[(u64, Option<HashKv>)]) -> Verdict {
        let verdict = verdict((self.handle.member_id, own), peers);
        let revision = own.hash_revision;
        match &verdict {
            Verdict::Equal { all } => {
                tracing::debug!(revision, all, "members agree on their data");
            }
            Verdict::Diverging(ids) => {
                for id in ids {
                    let member = format!("{id:x}");
                    tracing::error!(
                        member,
                        revision,
                        "the data of a member differs from that of the majority: nothing is \
                         changed any more; remove the member, add it anew, and disarm the alarm"
                    );
                    self.raise(*id);
                }
            }
            Verdict::Unclear => {
                tracing::error!(
                    revision,
                    "the members' data differ, and no majority agrees: nothing is changed any more"
                );
                self.raise(0);
            }
        }
        verdict
    }

    /// Raises the alarm of a member, or of the whole cluster for 0, unless it is there.
    fn raise(&self, member_id: u64) {
        let alarm = AlarmType::Corrupt.into();
        let alarms = self.handle.current.load().alarms(alarm);
        if alarms.iter().any(|alarm| alarm.member_id == member_id) {
            return;
        }
        let action = AlarmAction::Activate.into();
        let op = Op::Alarm(AlarmRequest { action, member_id, alarm });
        let (raft, proposal) = (self.raft.clone(), Proposal::new(&Command::from(op)));
        // One that is lost is made up for by the next look.
        tokio::spawn(async move { raft.client_write_ff(proposal, None).await });
    }
}

fn every(period: Option<Duration>) -> Option<Interval> {
    let period = period?;
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

async fn own_hash(store: Arc<Store>) -> Option<HashKv> {
    hash(store, 0).await.ok()
}

/// The hash of a store at a revision, taken beside everything else.
pub async fn hash(store: Arc<Store>, revision: i64) -> Result<HashKv, String> {
    let work = move || {
        let mut read = store.hash_kv(revision).map_err(ReadError::from)?;
        loop {
            match read.step()? {
                Step::Done(hash) => return Ok(hash),
                Step::More => std::thread::yield_now(),
            }
        }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(hash)) => Ok(hash),
        Ok(Err(ReadError::Refused(refusal))) => Err(refusal.to_string()),
        Ok(Err(ReadError::Fatal(fatal))) => crate::stop::fatal(&fatal),
        Err(error) => Err(error.to_string()),
    }
}

/// What the hashes say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Those that could be compared are equal.
    Equal { all: bool },
    /// These differ from the majority.
    Diverging(Vec<u64>),
    /// They differ, and there is no majority.
    Unclear,
}

fn is_comparable(one: &HashKv, other: &HashKv) -> bool {
    (one.hash_revision, one.compact_revision) == (other.hash_revision, other.compact_revision)
}

fn verdict(own: (u64, HashKv), peers: &[(u64, Option<HashKv>)]) -> Verdict {
    let members = peers.len() + 1;
    let mut by_hash = BTreeMap::from([(own.1.hash, vec![own.0])]);
    let mut asked = 1;
    for (id, hash) in peers {
        if let Some(hash) = hash.filter(|hash| is_comparable(&own.1, hash)) {
            by_hash.entry(hash.hash).or_default().push(*id);
            asked += 1;
        }
    }
    if by_hash.len() == 1 {
        return Verdict::Equal { all: asked == members };
    }
    let majority = by_hash.iter().find(|(_, ids)| ids.len() > members / 2).map(|(hash, _)| *hash);
    match majority {
        None => Verdict::Unclear,
        Some(majority) => {
            by_hash.remove(&majority);
            Verdict::Diverging(by_hash.into_values().flatten().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(hash: u32) -> HashKv {
        HashKv { hash, compact_revision: 5, hash_revision: 9 }
    }

    #[test]
    fn whoever_differs_from_the_majority_is_named() {
        let own = (1, hash(7));
        let same = Some(hash(7));
        let other = Some(hash(8));
        for (peers, expected) in [
            (vec![(2, same), (3, same)], Verdict::Equal { all: true }),
            (vec![(2, same), (3, None)], Verdict::Equal { all: false }),
            (vec![(2, same), (3, other)], Verdict::Diverging(vec![3])),
            (vec![(2, other), (3, other)], Verdict::Diverging(vec![1])),
            (vec![(2, None), (3, other)], Verdict::Unclear),
            (vec![(2, other)], Verdict::Unclear),
            (vec![(2, Some(hash(9))), (3, other)], Verdict::Unclear),
            (vec![], Verdict::Equal { all: true }),
        ] {
            assert_eq!(verdict(own, &peers), expected, "{peers:?}");
        }
    }

    #[test]
    fn hashes_of_other_revisions_say_nothing() {
        let own = (1, hash(7));
        let later = HashKv { compact_revision: 6, ..hash(8) };
        let further = HashKv { hash_revision: 10, ..hash(8) };
        let peers = [(2, Some(later)), (3, Some(further))];
        assert_eq!(verdict(own, &peers), Verdict::Equal { all: false });
    }
}
