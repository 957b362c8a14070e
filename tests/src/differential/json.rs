//! The same requests, through the JSON gateway.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;

use super::Step;
use crate::http::Ask;
use crate::text::Ids;

static MESSAGES: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).expect("the build made them"));

/// The path and the body of a step; `None` if it is none of those that go this way.
pub(crate) fn request(step: &Step) -> Option<(&'static str, String)> {
    let (path, body) = match step {
        Step::Put(request) => ("/v3/kv/put", body("PutRequest", request)),
        Step::Range(request) => ("/v3/kv/range", body("RangeRequest", request)),
        Step::Delete(request) => ("/v3/kv/deleterange", body("DeleteRangeRequest", request)),
        Step::Txn(request) => ("/v3/kv/txn", body("TxnRequest", request)),
        _ => return None,
    };
    Some((path, body))
}

fn body(name: &str, request: &impl Message) -> String {
    let name = format!("etcdserverpb.{name}");
    let described = MESSAGES.get_message_by_name(&name).expect("the request is in a .proto file");
    let mut message = DynamicMessage::new(described);
    message.transcode_from(request).expect("it is the same message");
    serde_json::to_string(&message).expect("every message has a form in JSON")
}

/// The answer as text, and the revision in its header.
pub(crate) async fn call(endpoint: String, ids: Ids, step: &Step) -> Result<(String, i64)> {
    let (path, body) = request(step).context("a step with a path of its own")?;
    let asked = tokio::task::spawn_blocking(move || {
        let mut answer = Ask::post(&endpoint, path, &body).send()?;
        anyhow::Ok((answer.status, answer.text()?))
    });
    let (status, text) = asked.await??;
    let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let header = &answer["header"];
    let revision = header["revision"].as_str().and_then(|revision| revision.parse().ok());
    normalize(&mut answer, &ids);
    let name = if status == 200 { "json" } else { "error" };
    Ok((format!("{name} {path} {status} {answer}"), revision.unwrap_or(0)))
}

fn normalize(answer: &mut Value, ids: &Ids) {
    let Some(header) = answer.get_mut("header").and_then(Value::as_object_mut) else { return };
    for (name, own, letter) in [
        ("cluster_id", ids.cluster, "C"),
        ("member_id", ids.member, "M"),
        ("raft_term", ids.term, "T"),
    ] {
        if let Some(value) = header.get_mut(name)
            && *value == Value::String(own.to_string())
        {
            *value = letter.into();
        }
    }
}
