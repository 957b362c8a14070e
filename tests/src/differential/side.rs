//! One of the two servers: its process, its connections, its watch streams.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{LeaseLeasesRequest, ResponseHeader, StatusRequest, WatchCreateRequest};
use tokio::time::{Instant, timeout};
use tonic::{Response, Status};

use super::answer;
use super::run::EVERYTHING;
use super::watcher::{Log, Stream};
use super::{Step, json, line};
use crate::script::WatchStream;
use crate::text::{self, Ids, MemberNames};
use crate::{Client, Node, NodeOptions, Target};

/// What has not come by then does not come.
const WITHIN: Duration = Duration::from_secs(10);
/// A call that takes longer is a difference by itself.
const CALL_WITHIN: Duration = Duration::from_secs(30);
/// Requests go over several connections in turn.
const CONNECTIONS: usize = 3;

pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) node: Node,
    pub(crate) ids: Ids,
    clients: Vec<Client>,
    names: MemberNames,
    pub(crate) streams: BTreeMap<usize, Stream>,
}

impl Side {
    pub(crate) async fn start(name: &str, target: Target, args: &[String]) -> Result<Self> {
        let mut options = NodeOptions::new(target);
        options.args.extend_from_slice(args);
        if target == Target::Etcd {
            // Durability is not the subject, and this is ten times faster.
            options = options.arg("--unsafe-no-fsync");
        }
        if target == Target::Kvd {
            // The other rule is a difference by intent.
            options = options.arg("--strict-etcd-quota");
        }
        let node = Node::start(options)?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(&node.endpoint()).await?);
        }
        let status = clients[0].maintenance.status(StatusRequest {}).await?.into_inner();
        let header = status.header.context("Status has a header")?;
        let (cluster, member) = (header.cluster_id, header.member_id);
        let ids = Ids { cluster, member, term: status.raft_term };
        let name = format!("{name} ({})", target.name());
        // Whoever was never added has a name, too.
        let names = [(77, "x"), (78, "y")].map(|(id, name)| (id, name.to_owned())).into();
        let names = MemberNames { names, own_peer_url: node.peer_url() };
        Ok(Self { name, node, ids, clients, names, streams: BTreeMap::new() })
    }

    /// The answer as text, and the revision in its header.
    pub(crate) async fn call(&mut self, index: usize, step: &Step) -> (String, i64) {
        let connection = index % self.clients.len();
        let client = &mut self.clients[connection];
        let called = async {
            match step {
                Step::Line(line) => {
                    let answer = line::call(client, self.ids, &mut self.names, line).await;
                    let answer = answer.unwrap_or_else(|error| format!("no answer: {error:#}"));
                    let revision = line::revision(&answer);
                    (answer, revision)
                }
                Step::Json(step) => json::call(self.node.endpoint(), self.ids, step)
                    .await
                    .unwrap_or_else(|error| (format!("no answer: {error:#}"), 0)),
                step => call(client, self.ids, step).await,
            }
        };
        match timeout(CALL_WITHIN, called).await {
            Ok(answer) => answer,
            Err(_) => (format!("no answer within {CALL_WITHIN:?}"), 0),
        }
    }

    pub(crate) fn stream(&mut self, number: usize) -> &mut Stream {
        let client = &self.clients[number % self.clients.len()];
        self.streams.entry(number).or_insert_with(|| Stream {
            stream: WatchStream::open(client),
            log: Log { keeps_changes: number == EVERYTHING, ..Log::default() },
        })
    }

    /// Sends a create request and waits for its answer.
    pub(crate) async fn create(
        &mut self,
        number: usize,
        request: &WatchCreateRequest,
        now: i64,
    ) -> Result<(i64, String)> {
        let ids = self.ids;
        let stream = self.stream(number);
        let before = stream.log.created.len();
        stream.stream.send(Some(RequestUnion::CreateRequest(request.clone())))?;
        self.wait(number, now, "the answer to a create request", |log| log.created.len() > before)
            .await?;
        let answer = &self.stream(number).log.created[before];
        let id = if answer.canceled { -1 } else { answer.watch_id };
        Ok((id, text::watch(answer, &ids)))
    }

    /// Reads a stream until it is as it should be.
    pub(crate) async fn wait(
        &mut self,
        number: usize,
        now: i64,
        what: &str,
        done: impl Fn(&Log) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        let ids = self.ids;
        while !done(&self.stream(number).log) {
            let next = self.stream(number).stream.receive_until(deadline).await;
            let next = next.with_context(|| format!("{} stream s{number}", self.name))?;
            let Some(response) = next else {
                bail!("{}: {what} did not come on stream s{number}", self.name);
            };
            let absorbed = self.stream(number).log.absorb(response, &ids, now);
            absorbed.with_context(|| format!("{} stream s{number}", self.name))?;
        }
        Ok(())
    }

    /// Asks for progress until it is reported for the current revision.
    pub(crate) async fn progress(&mut self, number: usize, now: i64) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        let ids = self.ids;
        while self.stream(number).log.progress < now {
            self.stream(number).stream.ask_progress()?;
            let again = Instant::now() + Duration::from_millis(150);
            while self.stream(number).log.progress < now {
                let next = self.stream(number).stream.receive_until(again).await;
                let Some(response) = next.with_context(|| self.name.clone())? else { break };
                let absorbed = self.stream(number).log.absorb(response, &ids, now);
                absorbed.with_context(|| format!("{} stream s{number}", self.name))?;
            }
            if Instant::now() > deadline {
                bail!("{}: progress to {now} is not reported on stream s{number}", self.name);
            }
        }
        Ok(())
    }
}

async fn call(client: &mut Client, ids: Ids, step: &Step) -> (String, i64) {
    match step.clone() {
        Step::Put(request) => {
            printed(client.kv.put(request).await, |a| (a.header, text::put(&a, &ids)))
        }
        Step::Range(request) => printed(client.kv.range(request.clone()).await, |a| {
            (a.header, answer::range(&request, a, &ids))
        }),
        Step::Delete(request) => {
            printed(client.kv.delete_range(request).await, |a| (a.header, text::delete(&a, &ids)))
        }
        Step::Txn(request) => printed(client.kv.txn(request.clone()).await, |a| {
            (a.header, answer::txn(&request, a, &ids))
        }),
        Step::Compact(request) => {
            printed(client.kv.compact(request).await, |a| (a.header, text::compact(&a, &ids)))
        }
        Step::HashKv(request) => printed(client.maintenance.hash_kv(request).await, |a| {
            (a.header, text::hash_kv(&a, &ids))
        }),
        Step::LeaseGrant(request) => printed(client.lease.lease_grant(request).await, |a| {
            (a.header, text::lease_grant(&a, false, &ids))
        }),
        Step::LeaseRevoke(request) => printed(client.lease.lease_revoke(request).await, |a| {
            (a.header, text::lease_revoke(&a, &ids))
        }),
        Step::LeaseTimeToLive(request) => {
            printed(client.lease.lease_time_to_live(request).await, |a| {
                (a.header, text::lease_time_to_live(&a, &ids))
            })
        }
        Step::LeaseLeases => printed(client.lease.lease_leases(LeaseLeasesRequest {}).await, |a| {
            (a.header, text::lease_leases(&a, &ids))
        }),
        Step::LeaseKeepAlive { ids: leases } => {
            let answers = client.keep_alive(leases).await;
            let texts = answers.iter().map(|answer| match answer {
                Ok(answer) => text::lease_keep_alive(answer, &ids),
                Err(status) => text::error(status),
            });
            (texts.collect::<Vec<_>>().join("\n"), 0)
        }
        watch => unreachable!("no unary call: {watch}"),
    }
}

fn printed<T>(
    answer: Result<Response<T>, Status>,
    print: impl FnOnce(T) -> (Option<ResponseHeader>, String),
) -> (String, i64) {
    match answer {
        Ok(answer) => {
            let (header, text) = print(answer.into_inner());
            (text, header.map_or(0, |header| header.revision))
        }
        Err(status) => (text::error(&status), 0),
    }
}
