//! The clients of one script: runs a command against the server and prints what comes back.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{MemberListRequest, ResponseHeader, StatusRequest, WatchCancelRequest};
use tonic::Status;

use super::lex::{Token, tokens};
use super::request::{self, Args};
use super::stream::WatchStream;
use crate::text::{self, Ids};
use crate::{Client, Node};

pub(crate) struct Session {
    node: Node,
    ids: Ids,
    /// The highest revision that any answer carried.
    revision: i64,
    clients: BTreeMap<String, Client>,
    streams: BTreeMap<(String, String), WatchStream>,
}

impl Session {
    pub(crate) async fn start(node: Node) -> Result<Self> {
        let (clients, streams) = (BTreeMap::new(), BTreeMap::new());
        let ids = Ids::default();
        let mut session = Self { node, ids, revision: 0, clients, streams };
        session.learn_ids().await?;
        Ok(session)
    }

    /// What the server calls itself, learned by other means than the answers under test.
    async fn learn_ids(&mut self) -> Result<()> {
        let mut client = Client::connect(&self.node.endpoint()).await?;
        let status = client.maintenance.status(StatusRequest {}).await?.into_inner();
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
            call => self.call(name, call, args).await,
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
            "members" => {
                let request = MemberListRequest { linearizable: true };
                let answer = client.cluster.member_list(request).await;
                printed(answer, |a| (a.header, text::members(a, &ids)))
            }
            other => bail!("unknown command '{other}'"),
        };
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
