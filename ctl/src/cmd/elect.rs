//! `elect`: takes part in an election, or observes it.

use std::time::Duration;

use clap::Args;
use proto::etcdserverpb::RangeRequest;
use proto::etcdserverpb::RangeResponse;
use proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ResignRequest};

use crate::failure::{Exit, Failure};
use crate::format::{Answer, Style, Subject};
use crate::options::{GlobalArgs, Options};
use crate::presence::{Presence, Signals, interrupted, wait_for};
use crate::print;
use crate::session::{Call, Session};

/// Seconds that a leader may be silent, as in etcdctl.
const TTL: i64 = 60;
/// How long a command that was interrupted tries to leave the queue.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl elect [OPTIONS] <NAME> [PROPOSAL]",
    after_help = "With a proposal kvctl leads once it is elected, prints its key, and resigns on SIGINT or SIGTERM.

Examples:
  kvctl elect leader \"$(hostname)\"
  kvctl elect --listen leader        prints who leads, and each change"
)]
pub(crate) struct Elect {
    /// Name of the election, and what to say as its leader
    #[arg(value_name = "NAME [PROPOSAL]", hide = true)]
    args: Vec<String>,
    /// Observation mode
    #[arg(short, long)]
    listen: bool,
}

impl Elect {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let (name, proposal) = match (self.args.as_slice(), self.listen) {
            ([name], true) => (name.clone(), None),
            ([name, proposal], false) => (name.clone(), Some(proposal.clone())),
            ([_], false) => {
                return Err(Failure::bad_arguments(
                    "no proposal argument but -l not set; pass what to say, or -l to listen",
                ));
            }
            ([_, _], true) => {
                return Err(Failure::bad_arguments(
                    "proposal given but -l is set; whoever listens says nothing",
                ));
            }
            _ => {
                return Err(Failure::bad_arguments(
                    "elect takes one election name argument and an optional proposal argument",
                ));
            }
        };
        let options = globals.resolve()?;
        options.style.check(Subject::Keys)?;
        match proposal {
            Some(proposal) => campaign(options, name.into_bytes(), proposal.into_bytes()).await,
            None => observe(options, name.into_bytes()).await,
        }
    }
}

async fn campaign(options: Options, name: Vec<u8>, value: Vec<u8>) -> Result<(), Failure> {
    let style = options.style;
    let mut signals = Signals::new()?;
    let (mut presence, mut session) = Presence::begin(options, TTL).await?;
    let lease = presence.lease;
    let elected = wait_for(&mut session, |to| {
        let (name, value) = (name.clone(), value.clone());
        async move { to.election().campaign(CampaignRequest { name, lease, value }).await }
    });
    let waited = async {
        tokio::select! {
            elected = elected => Some(elected),
            () = signals.next() => None,
        }
    };
    let expired = || Failure::answer(Exit::Error, "elect: session expired");
    let leader = match presence.beside(waited).await?.ok_or_else(expired)? {
        Some(elected) => elected?.leader.unwrap_or_default(),
        None => {
            // What the server does not hear of goes with the lease.
            let left = leave(&mut session, &name, lease);
            let _ = tokio::time::timeout(LEAVE_WITHIN, left).await;
            return Err(interrupted());
        }
    };
    let own = read(&mut session, &leader.key).await?;
    print::answer(style, &Answer::Get(&own))?;
    presence.beside(signals.next()).await?.ok_or_else(expired)?;
    resign(&mut session, leader).await
}

async fn read(session: &mut Session, key: &[u8]) -> Result<RangeResponse, Failure> {
    let request = RangeRequest { key: key.to_vec(), ..RangeRequest::default() };
    let call = session.call(Call::Read, |to| {
        let request = request.clone();
        async move { to.kv().range(request).await }
    });
    call.await
}

async fn resign(session: &mut Session, leader: LeaderKey) -> Result<(), Failure> {
    let request = ResignRequest { leader: Some(leader) };
    let call = session.call(Call::PatientWrite, |to| {
        let request = request.clone();
        async move { to.election().resign(request).await }
    });
    call.await.map(drop)
}

/// Leaves the queue before being elected.
async fn leave(session: &mut Session, name: &[u8], lease: i64) -> Result<(), Failure> {
    let key = [name, format!("/{lease:x}").as_bytes()].concat();
    let own = read(session, &key).await?;
    let created = own.kvs.first().and_then(|kv| kv.parse().ok()).map(|kv| kv.create_revision);
    match created {
        Some(rev) => resign(session, LeaderKey { name: name.to_vec(), key, rev, lease }).await,
        None => Ok(()),
    }
}

/// Prints who leads, and each change, until a signal comes.
async fn observe(options: Options, name: Vec<u8>) -> Result<(), Failure> {
    let style = options.style;
    let mut signals = Signals::new()?;
    let mut session = Session::open(options).await?;
    tokio::select! {
        failed = follow(style, &mut session, name) => failed,
        () = signals.next() => Ok(()),
    }
}

async fn follow(style: Style, session: &mut Session, name: Vec<u8>) -> Result<(), Failure> {
    loop {
        let mut told = wait_for(session, |to| {
            let request = LeaderRequest { name: name.clone() };
            async move { to.election().observe(request).await }
        })
        .await?;
        // A member that stops ends the stream, with an error or without.
        while let Ok(Some(leader)) = told.message().await {
            let kvs = leader.kv.into_iter().collect();
            let range = RangeResponse { header: leader.header, kvs, ..RangeResponse::default() };
            print::answer(style, &Answer::Get(&range))?;
        }
        let endpoint = session.endpoint();
        print::note(&format!("kvctl: {endpoint} does not tell any more; trying again"));
        tokio::time::sleep(LEAVE_WITHIN).await;
        // None may be there yet.
        let _ = session.reopen().await;
    }
}
