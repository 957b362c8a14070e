//! The pages of the peer port: `/version` and `/members`.

use std::sync::Arc;

use http::header::HeaderName;
use http::{HeaderValue, Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Answer, NOT_FOUND, page, version_json};
use crate::api::Identity;
use crate::replica::Current;

/// Which cluster a member belongs to, in hexadecimal digits.
pub const CLUSTER_ID_HEADER: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// Tells a kvd from an etcd, with its version.
pub const KVD_HEADER: HeaderName = HeaderName::from_static("x-kvd-version");

/// A member as the page `/members` shows it, in etcd's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedMember {
    pub id: u64,
    #[serde(rename = "peerURLs", default, deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(
        rename = "clientURLs",
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
}

impl ListedMember {
    /// Whether it ever made itself known: founders are listed before they run.
    pub fn has_started(&self) -> bool {
        !self.client_urls.is_empty()
    }
}

fn null_is_empty<'de, D>(deserializer: D) -> Result<Vec<String>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The pages of the peer port, beside the gRPC service of replication.
#[derive(Clone)]
pub struct PeerPages {
    pub version: String,
    pub identity: Identity,
    pub current: Arc<Current>,
}

impl PeerPages {
    pub fn answer<B>(&self, request: &Request<B>) -> Answer {
        let mut page = match request.uri().path() {
            "/version" => page(StatusCode::OK, "application/json", version_json(&self.version)),
            "/members" => page(StatusCode::OK, "application/json", self.members_json()),
            _ => page(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", NOT_FOUND.into()),
        };
        let cluster_id = format!("{:x}", self.identity.cluster_id);
        let cluster_id = HeaderValue::from_str(&cluster_id).expect("digits are fit for a header");
        page.headers_mut().insert(CLUSTER_ID_HEADER, cluster_id);
        let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
        page.headers_mut().insert(KVD_HEADER, version);
        Box::pin(std::future::ready(Ok(page)))
    }

    fn members_json(&self) -> String {
        let mut members: Vec<_> = self
            .current
            .load()
            .members()
            .into_iter()
            .map(|member| ListedMember {
                id: member.id,
                peer_urls: member.peer_urls,
                is_learner: member.is_learner,
                name: member.name,
                client_urls: member.client_urls,
            })
            .collect();
        members.sort_by_key(|member| member.id);
        serde_json::to_string(&members).expect("members are plain text and numbers")
    }
}
