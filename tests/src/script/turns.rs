//! Locks, elections and health in a script: calls that may have to wait, so they can be begun in one step
//! and ended in another.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proto::etcdserverpb::{RangeRequest, ResponseHeader};
use proto::healthpb::{HealthCheckRequest, HealthCheckResponse, HealthListRequest};
use proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use proto::v3lockpb::{LockRequest, UnlockRequest};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use super::lex::Token;
use super::request::Args;
use crate::Client;
use crate::text::{self, Ids};

/// What does not come by then is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls under way, by the names that the script gives them.
#[derive(Default)]
pub(crate) struct Turns {
    calls: BTreeMap<String, JoinHandle<String>>,
    observers: BTreeMap<String, mpsc::UnboundedReceiver<Result<LeaderResponse, Status>>>,
}

type Call = Pin<Box<dyn Future<Output = String> + Send>>;

impl Turns {
    /// `None` if it is none of these commands.
    pub(crate) async fn command(
        &mut self,
        client: &Client,
        ids: Ids,
        (command, rest): (&str, &[Token]),
    ) -> Result<Option<String>> {
        let mut args = Args::new(rest);
        Ok(Some(match command {
            "begin" => {
                let (name, command) = (args.text()?, args.text()?);
                let call = call(client, ids, &command, Args::new(&rest[2..]))?;
                let call = call.with_context(|| format!("{command} cannot be begun"))?;
                self.calls.insert(name, tokio::spawn(call));
                String::new()
            }
            "end" => {
                let call = self.calls.remove(&args.text()?).context("no such call was begun")?;
                tokio::time::timeout(PATIENCE, call).await.context("it does not end")??
            }
            "drop" => {
                let call = self.calls.remove(&args.text()?).context("no such call was begun")?;
                call.abort();
                String::new()
            }
            "observe" => {
                let (name, mut election) = (args.text()?, client.election.clone());
                let request = LeaderRequest { name: args.word()? };
                let (tell, told) = mpsc::unbounded_channel();
                tokio::spawn(async move {
                    let mut stream = match election.observe(request).await {
                        Ok(stream) => stream.into_inner(),
                        Err(status) => return drop(tell.send(Err(status))),
                    };
                    while let Some(told) = stream.message().await.transpose() {
                        if tell.send(told).is_err() {
                            return;
                        }
                    }
                });
                self.observers.insert(name, told);
                String::new()
            }
            "told" => {
                let observer = self.observers.get_mut(&args.text()?).context("nobody observes")?;
                let told = tokio::time::timeout(PATIENCE, observer.recv()).await;
                match told.context("nothing is told")?.context("the stream ended")? {
                    Ok(told) => leader(&told, &ids),
                    Err(status) => text::error(&status),
                }
            }
            "until" => until(client, args.word()?, &args.text()?).await?,
            other => match call(client, ids, other, args)? {
                Some(call) => call.await,
                None => return Ok(None),
            },
        }))
    }
}

/// Waits until a key is there, or gone.
async fn until(client: &Client, key: Vec<u8>, state: &str) -> Result<String> {
    let wanted = match state {
        "there" => 1,
        "gone" => 0,
        other => bail!("a key is 'there' or 'gone', not '{other}'"),
    };
    let deadline = Instant::now() + PATIENCE;
    let request = RangeRequest { key, count_only: true, ..RangeRequest::default() };
    while client.kv.clone().range(request.clone()).await?.get_ref().count != wanted {
        ensure!(Instant::now() < deadline, "the key is never {state}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(String::new())
}

/// A call that is to be waited for.
pub(crate) fn call(
    client: &Client,
    ids: Ids,
    command: &str,
    mut args: Args<'_>,
) -> Result<Option<Call>> {
    let call = match command {
        "lock" | "unlock" => lock_call(client, ids, command, &mut args)?,
        "campaign" | "proclaim" | "resign" | "leader" => {
            election_call(client, ids, command, &mut args)?
        }
        "health" | "health_watch" | "health_list" => health_call(client, command, &mut args)?,
        _ => return Ok(None),
    };
    args.end()?;
    Ok(Some(call))
}

fn lock_call(client: &Client, ids: Ids, command: &str, args: &mut Args<'_>) -> Result<Call> {
    let mut lock = client.lock.clone();
    if command == "unlock" {
        let request = UnlockRequest { key: args.word()? };
        return Ok(Box::pin(async move {
            shown(lock.unlock(request).await, |a| format!("unlock {}", header(&a.header, &ids)))
        }));
    }
    let request = LockRequest { name: args.word()?, lease: args.number()? };
    let lease = request.lease;
    Ok(Box::pin(async move {
        shown(lock.lock(request).await, |a| {
            let key = text::bytes(&own_key(&a.key, lease));
            format!("lock {} key={key}", header(&a.header, &ids))
        })
    }))
}

fn election_call(client: &Client, ids: Ids, command: &str, args: &mut Args<'_>) -> Result<Call> {
    let mut election = client.election.clone();
    Ok(match command {
        "campaign" => {
            let (name, lease, value) = (args.word()?, args.number()?, args.word()?);
            let request = CampaignRequest { name, lease, value };
            Box::pin(async move {
                shown(election.campaign(request).await, |a| {
                    let leader = a.leader.clone().unwrap_or_default();
                    let (name, key) = (text::bytes(&leader.name), own_key(&leader.key, lease));
                    let (key, rev) = (text::bytes(&key), leader.rev);
                    let own = if leader.lease == lease || lease == 0 { "own" } else { "another" };
                    let header = header(&a.header, &ids);
                    format!("campaign {header} name={name} key={key} rev={rev} lease={own}")
                })
            })
        }
        "proclaim" => {
            let leader = leader_key(args)?;
            let request = ProclaimRequest { leader, value: args.word()? };
            Box::pin(async move {
                let answer = election.proclaim(request).await;
                shown(answer, |a| format!("proclaim {}", header(&a.header, &ids)))
            })
        }
        "resign" => {
            let request = ResignRequest { leader: leader_key(args)? };
            Box::pin(async move {
                let answer = election.resign(request).await;
                shown(answer, |a| format!("resign {}", header(&a.header, &ids)))
            })
        }
        _ => {
            let request = LeaderRequest { name: args.word()? };
            Box::pin(async move { shown(election.leader(request).await, |a| leader(a, &ids)) })
        }
    })
}

fn health_call(client: &Client, command: &str, args: &mut Args<'_>) -> Result<Call> {
    let mut health = client.health.clone();
    if command == "health_list" {
        return Ok(Box::pin(async move {
            shown(health.list(HealthListRequest {}).await, |a| {
                let one = |(name, status): (&String, &HealthCheckResponse)| {
                    format!("\n  {name:?} {:?}", status.status())
                };
                let mut list: Vec<String> = a.statuses.iter().map(one).collect();
                list.sort();
                format!("health list{}", list.concat())
            })
        }));
    }
    let request = HealthCheckRequest { service: args.text()? };
    if command == "health" {
        return Ok(Box::pin(async move {
            shown(health.check(request).await, |a| format!("health {:?}", a.status()))
        }));
    }
    Ok(Box::pin(async move {
        match health.watch(request).await {
            Err(status) => text::error(&status),
            Ok(stream) => match stream.into_inner().message().await {
                Ok(first) => format!("health {:?}", first.unwrap_or_default().status()),
                Err(status) => text::error(&status),
            },
        }
    }))
}

/// `none`, or `KEY REV LEASE`.
fn leader_key(args: &mut Args<'_>) -> Result<Option<LeaderKey>> {
    let key = args.word()?;
    if key == b"none" {
        return Ok(None);
    }
    let name = key.split(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let (rev, lease) = (args.number()?, args.number()?);
    Ok(Some(LeaderKey { name, key, rev, lease }))
}

/// A lease that the server chose is another one on every run.
fn own_key(key: &[u8], lease: i64) -> Vec<u8> {
    match key.iter().rposition(|byte| *byte == b'/') {
        Some(slash) if lease == 0 => [&key[..=slash], b"L"].concat(),
        _ => key.to_vec(),
    }
}

fn header(header: &Option<ResponseHeader>, ids: &Ids) -> String {
    text::header(header.as_ref(), ids)
}

fn leader(answer: &LeaderResponse, ids: &Ids) -> String {
    let kv = answer.kv.as_ref().map_or_else(|| "no kv".to_owned(), text::key_value);
    format!("leader {} {kv}", header(&answer.header, ids))
}

fn shown<T>(answer: Result<tonic::Response<T>, Status>, show: impl FnOnce(&T) -> String) -> String {
    match answer {
        Ok(answer) => show(answer.get_ref()),
        Err(status) => text::error(&status),
    }
}
