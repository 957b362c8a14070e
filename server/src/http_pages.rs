//! The plain HTTP pages: `/health` and `/version` for clients, `/version` and `/members` for peers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::replica::{Current, Replica};

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
    pub current: Arc<Current>,
}

impl hyper::service::Service<Request<Incoming>> for PeerPages {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let page = match request.uri().path() {
            "/version" => page(StatusCode::OK, "application/json", version_json(&self.version)),
            "/members" => page(StatusCode::OK, "application/json", self.members_json()),
            _ => page(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()),
        };
        Box::pin(std::future::ready(Ok(page)))
    }
}

impl PeerPages {
    fn members_json(&self) -> String {
        let members: Vec<_> = self
            .current
            .load()
            .members()
            .into_iter()
            .map(|member| {
                serde_json::json!({
                    "id": member.id,
                    "peerURLs": member.peer_urls,
                    "name": member.name,
                    "clientURLs": member.client_urls,
                })
            })
            .collect();
        serde_json::Value::from(members).to_string()
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
