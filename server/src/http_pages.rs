//! The plain HTTP pages: `/health` and `/version` for clients, `/version` and `/members` for peers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tonic::body::Body;

use crate::api::Identity;
use crate::replica::{Current, Replica};

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

/// What the pages say.
pub struct Pages {
    /// The etcd version that clients are told.
    pub version: String,
}

/// The response on its way.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

type Page = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Pages {
    pub fn answer<B>(&self, request: &Request<B>, replica: &Replica) -> Page {
        let path = request.uri().path();
        if !matches!(path, "/health" | "/version") {
            return ready(page(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()));
        }
        if request.method() != Method::GET {
            let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return ready(response);
        }
        if path == "/version" {
            return ready(page(StatusCode::OK, "application/json", version_json(&self.version)));
        }
        let serializable = request.uri().query().is_some_and(|query| {
            query.split('&').any(|parameter| parameter == "serializable=true")
        });
        Box::pin(health(replica.clone(), serializable))
    }
}

/// The pages of the peer port. Replication will be a gRPC service beside them.
#[derive(Clone)]
pub struct PeerPages {
    pub version: String,
    pub identity: Identity,
    pub current: Arc<Current>,
}

impl hyper::service::Service<Request<Incoming>> for PeerPages {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let mut page = match request.uri().path() {
            "/version" => page(StatusCode::OK, "application/json", version_json(&self.version)),
            "/members" => page(StatusCode::OK, "application/json", self.members_json()),
            _ => page(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()),
        };
        let cluster_id = format!("{:x}", self.identity.cluster_id);
        let cluster_id = HeaderValue::from_str(&cluster_id).expect("digits are fit for a header");
        page.headers_mut().insert(CLUSTER_ID_HEADER, cluster_id);
        let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
        page.headers_mut().insert(KVD_HEADER, version);
        Box::pin(std::future::ready(Ok(page)))
    }
}

impl PeerPages {
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

async fn health(replica: Replica, serializable: bool) -> Response<Body> {
    let reason = if serializable {
        None
    } else if replica.standing().leader == 0 {
        Some("RAFT NO LEADER".to_owned())
    } else {
        let barrier = replica.read_barrier().await.map_err(crate::api::status::unavailable);
        barrier.err().map(|status| format!("RANGE ERROR:{}", status.message()))
    };
    let healthy = reason.is_none();
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let reason = reason.unwrap_or_default();
    let body = format!(r#"{{"health":"{healthy}","reason":{}}}"#, serde_json::json!(reason));
    page(status, "application/json", body)
}

fn version_json(version: &str) -> String {
    let minor = match version.rsplit_once('.') {
        Some((minor, _)) => format!("{minor}.0"),
        None => version.to_owned(),
    };
    serde_json::json!({ "etcdserver": version, "etcdcluster": minor, "storage": minor }).to_string()
}

fn ready(response: Response<Body>) -> Page {
    Box::pin(std::future::ready(response))
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
