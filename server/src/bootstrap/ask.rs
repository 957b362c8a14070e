//! Asks members that run already who is in their cluster: HTTP, before there is any raft.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::header::HOST;
use http::{Request, StatusCode};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::config::Url;
use crate::front::runtime;
use crate::listen::Bound;
use crate::pages::{CLUSTER_ID_HEADER, KVD_HEADER, ListedMember};
use crate::tls::Connector;

/// A list of members is much shorter; more is not an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a member said.
#[derive(Clone, Debug)]
pub struct Answer {
    pub from: Url,
    pub cluster_id: u64,
    /// Empty as long as it has not heard of anybody.
    pub members: Vec<ListedMember>,
    pub is_kvd: bool,
}

/// What became of the questions.
#[derive(Debug, Default)]
pub struct Asked {
    /// In the order of the URLs asked.
    pub answers: Vec<Answer>,
    /// A URL each, and why it gave no answer.
    pub silent: Vec<String>,
}

/// Asks all of them at once, and waits for the slowest, but not longer than this.
///
/// Founders that start together ask each other. So that none waits for an answer that another one
/// cannot give before it has its own, whoever comes to `listeners` meanwhile is turned away.
pub fn ask(
    urls: Vec<Url>,
    within: Duration,
    listeners: &[Bound],
    connector: &Arc<Connector>,
) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    if urls.is_empty() {
        return Ok(asked);
    }
    runtime()?.block_on(async {
        for listener in listeners {
            if let Some(listener) = listener.share()? {
                tokio::spawn(turn_away(listener));
            }
        }
        let questions: Vec<_> = urls
            .into_iter()
            .map(|url| {
                let question = members(url.clone(), connector.clone());
                (url, tokio::spawn(tokio::time::timeout(within, question)))
            })
            .collect();
        for (url, question) in questions {
            match question.await {
                Ok(Ok(Ok(answer))) => asked.answers.push(answer),
                Ok(Ok(Err(error))) => asked.silent.push(format!("{url}: {error:#}")),
                Ok(Err(_)) => asked.silent.push(format!("{url}: no answer within {within:?}")),
                Err(error) => asked.silent.push(format!("{url}: {error}")),
            }
        }
        Ok(asked)
    })
}

async fn turn_away(listener: TcpListener) {
    // One that cannot accept now will be able to when it is used in earnest, or fail then.
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream);
    }
}

async fn members(from: Url, connector: Arc<Connector>) -> anyhow::Result<Answer> {
    let stream = connector.connect(&from).await?;
    let (mut connection, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let (_, host) = from.as_str().split_once("://").context("a URL has a scheme")?;
    let request = Request::get("/members").header(HOST, host).body(String::new())?;
    let response = connection.send_request(request).await?;
    ensure!(response.status() == StatusCode::OK, "it answers {}", response.status());
    let cluster_id = response
        .headers()
        .get(CLUSTER_ID_HEADER)
        .and_then(|id| u64::from_str_radix(id.to_str().ok()?, 16).ok())
        .context("it does not name its cluster, so it is no peer URL of a member")?;
    let is_kvd = response.headers().contains_key(KVD_HEADER);
    let body = body(response.into_body()).await?;
    let members = serde_json::from_slice(&body).context("what it lists cannot be read")?;
    Ok(Answer { from, cluster_id, members, is_kvd })
}

async fn body(mut incoming: Incoming) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
            ensure!(bytes.len() <= ANSWER_BYTES_MAX, "it says too much");
        }
    }
    Ok(bytes)
}
