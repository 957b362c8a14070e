//! The clients of one script: runs a command against the server and prints what comes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    DefragmentRequest, DefragmentResponse, LeaseGrantRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, ResponseHeader, StatusRequest, WatchCancelRequest,
};
use tonic::Status;

use super::lex::{Token, tokens};
use super::request::{self, Args};
use super::stream::WatchStream;
use super::turns::Turns;
use crate::client::{NOBODY, Wire};
use crate::text::{self, Ids, MemberNames};
use crate::{Client, Node};

/// How late a lease may end that is short.
const GONE_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Session {
    node: Node,
    ids: Ids,
    /// The highest revision that any answer carried.
    revision: i64,
    clients: BTreeMap<String, Client>,
    streams: BTreeMap<(String, String), WatchStream>,
    names: MemberNames,
    turns: Turns,
}

impl Session {
    pub(crate) async fn start(node: Node) -> Result<Self> {
        let (clients, streams) = (BTreeMap::new(), BTreeMap::new());
        let ids = Ids::default();
        let names = MemberNames { own_peer_url: node.peer_url(), ..MemberNames::default() };
        let turns = Turns::default();
        let mut session = Self { node, ids, revision: 0, clients, streams, names, turns };
        session.learn_ids().await?;
        Ok(session)
    }

    /// Makes a client a user from now on.
    async fn identify(&mut self, name: &str, call: &str, mut args: Args<'_>) -> Result<String> {
        let client = self.client(name).await?;
        let (word, password) = (args.text()?, args.text());
        args.end()?;
        let known = match (call, password) {
            ("login", password) => match client.log_in(&word, &password?).await {
                Ok(known) => known,
                Err(status) => return Ok(text::error(&status)),
            },
            (_, Ok(_)) => bail!("a token is one word"),
            _ if word == "none" => Client::connect(&self.node.endpoint()).await?,
            _ => client.with_token(&word)?,
        };
        self.clients.insert(name.to_owned(), known);
        Ok(String::new())
    }

    /// What the server calls itself, learned by other means than the answers under test.
    async fn learn_ids(&mut self) -> Result<()> {
        let mut client = Client::connect(&self.node.endpoint()).await?;
        let status = match client.maintenance.status(StatusRequest {}).await {
            // Scripts that switch auth on call its administrator alike.
            Err(status) if status.message() == NOBODY => {
                let mut root = client.log_in("root", "root").await?;
                root.maintenance.status(StatusRequest {}).await?.into_inner()
            }
            answer => answer?.into_inner(),
        };
        let header = status.header.context("Status has a header")?;
        let (cluster, member) = (header.cluster_id, header.member_id);
        self.ids = Ids { cluster, member, term: status.raft_term };
        Ok(())
    }

    /// Runs one line of a script.
    pub(crate) async fn run(&mut self, line: &str) -> Result<String> {
        let (client, command) = match line.split_once(": ") {
            Some((name, command)) if name.starts_with('c') => (name, command),
            _ => ("c1", line),
        };
        self.command(client, &tokens(command)?).await
    }

    async fn command(&mut self, name: &str, tokens: &[Token]) -> Result<String> {
        let (command, rest) = tokens.split_first().context("an empty command")?;
        let mut args = Args::new(rest);
        match command.as_text().unwrap_or_default() {
            "repeat" => {
                let (times, rest) = rest.split_first().context("how often?")?;
                let times: usize = times.as_text().context("a number")?.parse()?;
                let mut last = String::new();
                for index in 0..times {
                    let tokens: Vec<Token> = rest.iter().map(|t| t.numbered(index)).collect();
                    last = Box::pin(self.command(name, &tokens)).await?;
                }
                Ok(last)
            }
            "watch" => {
                let stream = args.text()?;
                let action = args.text()?;
                self.watch(name, stream, &action, &rest[2..]).await
            }
            "restart" => {
                let status = self.node.stop()?;
                ensure!(status.success() || status.code().is_none(), "{status}");
                self.start_again().await
            }
            "kill" => {
                self.node.kill()?;
                self.start_again().await
            }
            call => {
                let client = self.client(name).await?.clone();
                match self.turns.command(&client, self.ids, (call, rest)).await? {
                    Some(answer) => Ok(answer),
                    None => self.call(name, call, args).await,
                }
            }
        }
    }

    async fn start_again(&mut self) -> Result<String> {
        self.clients.clear();
        self.streams.clear();
        self.node.start_again()?;
        self.learn_ids().await?;
        Ok("started again".to_owned())
    }

    async fn client(&mut self, name: &str) -> Result<&mut Client> {
        if !self.clients.contains_key(name) {
            let client = Client::connect(&self.node.endpoint()).await?;
            self.clients.insert(name.to_owned(), client);
        }
        self.clients.get_mut(name).context("the client was just connected")
    }

    /// A unary call.
    async fn call(&mut self, name: &str, call: &str, args: Args<'_>) -> Result<String> {
        let ids = self.ids;
        let client = self.client(name).await?;
        let (header, answer) = match call {
            "put" => {
                let answer = client.kv.put(request::put(args)?).await;
                printed(answer, |a| (a.header, text::put(a, &ids)))
            }
            "range" => {
                let answer = client.kv.range(request::range(args)?).await;
                printed(answer, |a| (a.header, text::range(a, &ids)))
            }
            "del" => {
                let answer = client.kv.delete_range(request::delete(args)?).await;
                printed(answer, |a| (a.header, text::delete(a, &ids)))
            }
            "txn" => {
                let answer = client.kv.txn(request::txn(args)?).await;
                printed(answer, |a| (a.header, text::txn(a, &ids)))
            }
            "compact" => {
                let answer = client.kv.compact(request::compact(args)?).await;
                printed(answer, |a| (a.header, text::compact(a, &ids)))
            }
            "hashkv" => {
                let answer = client.maintenance.hash_kv(request::hash_kv(args)?).await;
                printed(answer, |a| (a.header, text::hash_kv(a, &ids)))
            }
            "status" => {
                let answer = client.maintenance.status(StatusRequest {}).await;
                printed(answer, |a| (a.header, text::status(a, &ids)))
            }
            "defragment" => {
                args.end()?;
                let answer = client.maintenance.defragment(DefragmentRequest {}).await;
                let shown = |a: &DefragmentResponse| text::header(a.header.as_ref(), &ids);
                printed(answer, |a| (a.header, format!("defragment {}", shown(a))))
            }
            "downgrade" => {
                let answer = client.maintenance.downgrade(request::downgrade(args)?).await;
                printed(answer, |a| (a.header, text::downgrade(a, &ids)))
            }
            "alarm" => {
                let request = request::alarm(args, ids.member)?;
                let answer = client.maintenance.alarm(request).await;
                printed(answer, |a| (a.header, text::alarm(a, &ids)))
            }
            "lease" => return self.lease(name, args).await,
            "login" | "token" => return self.identify(name, call, args).await,
            "auth" | "user" | "role" => {
                let client = self.client(name).await?.clone();
                return super::auth::run(client, call, args, &ids).await;
            }
            "members" | "member" => {
                let mut client = self.client(name).await?.clone();
                return super::members::run(&mut client, ids, &mut self.names, call, args).await;
            }
            other => bail!("unknown command '{other}'"),
        };
        self.revision = self.revision.max(header.map_or(0, |header| header.revision));
        Ok(answer)
    }

    /// Calls of the lease service.
    async fn lease(&mut self, name: &str, mut args: Args<'_>) -> Result<String> {
        let ids = self.ids;
        let client = self.client(name).await?;
        let lease = &mut client.lease;
        let action = args.text()?;
        let (header, answer) = match action.as_str() {
            "grant" => {
                let request = LeaseGrantRequest { ttl: args.number()?, id: args.number()? };
                let chosen = request.id == 0;
                let answer = lease.lease_grant(request).await;
                printed(answer, |a| (a.header, text::lease_grant(a, chosen, &ids)))
            }
            "revoke" => {
                let answer = lease.lease_revoke(LeaseRevokeRequest { id: args.number()? }).await;
                printed(answer, |a| (a.header, text::lease_revoke(a, &ids)))
            }
            "ttl" => {
                let request =
                    LeaseTimeToLiveRequest { keys: args.flag("keys"), id: args.number()? };
                let answer = lease.lease_time_to_live(request).await;
                printed(answer, |a| (a.header, text::lease_time_to_live(a, &ids)))
            }
            "list" => {
                let answer = lease.lease_leases(LeaseLeasesRequest {}).await;
                printed(answer, |a| (a.header, text::lease_leases(a, &ids)))
            }
            "keep" => {
                let mut leases = Vec::new();
                while let Ok(id) = args.number() {
                    leases.push(id);
                }
                let answers = client.keep_alive(leases).await;
                let texts = answers.iter().map(|answer| match answer {
                    Ok(answer) => text::lease_keep_alive(answer, &ids),
                    Err(status) => text::error(status),
                });
                (None, texts.collect::<Vec<_>>().join("\n"))
            }
            "gone" => (None, gone(lease, args.number()?).await?),
            other => bail!("unknown command 'lease {other}'"),
        };
        args.end()?;
        self.revision = self.revision.max(header.map_or(0, |header| header.revision));
        Ok(answer)
    }

    async fn watch(
        &mut self,
        client: &str,
        stream: String,
        action: &str,
        rest: &[Token],
    ) -> Result<String> {
        let (ids, revision) = (self.ids, self.revision);
        let key = (client.to_owned(), stream);
        if !self.streams.contains_key(&key) {
            let opened = WatchStream::open(self.client(client).await?);
            self.streams.insert(key.clone(), opened);
        }
        let stream = self.streams.get_mut(&key).context("the stream was just opened")?;
        let mut args = Args::new(rest);
        match action {
            "create" => {
                let request = request::watch_create(args)?;
                stream.send(Some(RequestUnion::CreateRequest(request)))?;
            }
            "cancel" => {
                let request = WatchCancelRequest { watch_id: args.number()? };
                stream.send(Some(RequestUnion::CancelRequest(request)))?;
            }
            "progress" => stream.request_progress()?,
            "empty" => stream.send(None)?,
            "half_close" => stream.half_close(),
            "recv" => {
                let mut came = Vec::new();
                for _ in 0..args.number()? {
                    let texts = || came.iter().map(|r| text::watch(r, &ids)).collect::<Vec<_>>();
                    let response = stream.receive().await;
                    came.push(response.with_context(|| format!("after {:#?}", texts()))?);
                }
                // Watchers of one stream are not ordered against each other.
                came.sort_by_key(|response| response.watch_id);
                let texts: Vec<String> = came.iter().map(|r| text::watch(r, &ids)).collect();
                return Ok(texts.join("\n"));
            }
            "fence" => {
                let came = stream.fence(revision).await?;
                let texts: Vec<String> = came.iter().map(|r| text::watch(r, &ids)).collect();
                return Ok(texts.join("\n"));
            }
            other => bail!("unknown watch command '{other}'"),
        }
        Ok(String::new())
    }
}

/// Waits until a lease has ended.
async fn gone(lease: &mut LeaseClient<Wire>, id: i64) -> Result<String> {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    let deadline = Instant::now() + GONE_WITHIN;
    while lease.lease_time_to_live(request).await?.get_ref().ttl != -1 {
        ensure!(Instant::now() < deadline, "lease {id} does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok("gone".to_owned())
}

/// The header and the text of an answer, or of the error.
fn printed<T>(
    answer: Result<tonic::Response<T>, Status>,
    print: impl FnOnce(&T) -> (Option<ResponseHeader>, String),
) -> (Option<ResponseHeader>, String) {
    match answer {
        Ok(answer) => print(answer.get_ref()),
        Err(status) => (None, text::error(&status)),
    }
}
