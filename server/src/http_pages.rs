//! The plain HTTP pages on the client port: `/health` and `/version`.

use std::future::Future;
use std::pin::Pin;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

use crate::replica::Replica;

/// What the pages say.
pub struct Pages {
    /// The etcd version that clients are told.
    pub version: String,
}

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
            return ready(page(StatusCode::OK, "application/json", self.version_json()));
        }
        let serializable = request.uri().query().is_some_and(|query| {
            query.split('&').any(|parameter| parameter == "serializable=true")
        });
        Box::pin(health(replica.clone(), serializable))
    }

    fn version_json(&self) -> String {
        let minor = match self.version.rsplit_once('.') {
            Some((minor, _)) => format!("{minor}.0"),
            None => self.version.clone(),
        };
        serde_json::json!({ "etcdserver": self.version, "etcdcluster": minor, "storage": minor })
            .to_string()
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

fn ready(response: Response<Body>) -> Page {
    Box::pin(std::future::ready(response))
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
