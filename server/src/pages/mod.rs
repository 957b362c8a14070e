//! What is served beside gRPC, over HTTP/1 and HTTP/2, with TLS or without.
//!
//! | path | what |
//! |---|---|
//! | `/health` | in JSON; `?serializable=true` asks this member only, `?exclude=NOSPACE` |
//! | `/livez`, `/readyz`, and each of their checks below them | in text; `?verbose`, `?exclude=check` |
//! | `/version`, `/debug/vars`, `/metrics` | what runs here, and how it does |
//! | `/debug/pprof/profile` | where time goes, with `--enable-pprof` |
//! | `/v3/...` | every call as JSON: [`crate::gateway`] |
//!
//! A listener may offer a part of this only, see [`Offers`].

mod access;
mod health;
mod peers;
mod profile;
mod vars;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;

pub use access::Access;
pub use peers::{CLUSTER_ID_HEADER, KVD_HEADER, ListedMember, PeerPages};
pub use vars::resident_bytes;

use crate::connection::{Offers, Way};
use crate::gateway;
use crate::metrics::{self, Sources};
use crate::services::Services;

/// The response on its way.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The pages of one runtime.
pub struct Pages {
    /// The etcd version that clients are told.
    pub version: String,
    pub access: Access,
    pub gateway: bool,
    pub profiles: bool,
    /// Of the numbers on `/metrics`.
    pub sources: Sources,
}

/// CVE-2018-16886: to the gateway all its clients would be the one that its certificate names.
const NO_COMMON_NAME: &str = "CommonName of client sending a request against gateway will be \
    ignored and not used as expected\n";
const NOT_FOUND: &str = "404 page not found\n";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

impl Pages {
    /// Whatever is no gRPC call, or comes where none is taken.
    pub fn answer(
        self: &Arc<Self>,
        services: &Services,
        mut request: Request<Incoming>,
        way: &Way,
    ) -> Answer {
        if let Some(refused) = self.access.refuse(&request, way) {
            return ready(refused);
        }
        let allowed = self.access.cors(&request);
        let answer = match request.method() == Method::OPTIONS {
            true => ready(page(StatusCode::OK, TEXT, String::new())),
            false => {
                gateway::rename_old_path(&mut request);
                self.find(services, request, way)
            }
        };
        Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().extend(allowed);
            Ok(response)
        })
    }

    fn find(&self, services: &Services, request: Request<Incoming>, way: &Way) -> Answer {
        let path = request.uri().path();
        let offers = way.entrance.offers;
        let not_here = match offers {
            Offers::Grpc => true,
            Offers::Metrics => !is_metrics_or_health(path),
            Offers::Everything | Offers::Http => false,
        };
        if not_here {
            return ready(not_found());
        }
        if self.gateway && path.starts_with("/v3/") {
            let certificate = way.certificate.as_ref().filter(|it| !it.common_name.is_empty());
            if certificate.is_some() && services.users_come_by_certificate() {
                return ready(error(StatusCode::BAD_REQUEST, NO_COMMON_NAME.to_owned()));
            }
            return gateway::answer(services.clone(), request);
        }
        if self.profiles
            && let Some(name) = path.strip_prefix("/debug/pprof/")
        {
            return profile::answer(name, request.uri().query().unwrap_or_default());
        }
        let answer = match path {
            "/version" => page(StatusCode::OK, JSON, version_json(&self.version)),
            "/metrics" => page(StatusCode::OK, METRICS_TEXT, metrics::page(&self.sources)),
            "/debug/vars" => page(StatusCode::OK, "application/json; charset=utf-8", vars::json()),
            _ if health::is_checked(path) => {
                return match request.method() == Method::GET {
                    true => health::answer(services, request.uri()),
                    false => ready(method_not_allowed()),
                };
            }
            _ => return ready(not_found()),
        };
        ready(if request.method() == Method::GET { answer } else { method_not_allowed() })
    }
}

fn is_metrics_or_health(path: &str) -> bool {
    path == "/metrics" || health::is_checked(path)
}

fn version_json(version: &str) -> String {
    let minor = match version.rsplit_once('.') {
        Some((minor, _)) => format!("{minor}.0"),
        None => version.to_owned(),
    };
    // In etcd's order.
    format!(r#"{{"etcdserver":"{version}","etcdcluster":"{minor}","storage":"{minor}"}}"#)
}

fn ready(response: Response<Body>) -> Answer {
    Box::pin(std::future::ready(Ok(response)))
}

fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, NOT_FOUND.to_owned())
}

fn method_not_allowed() -> Response<Body> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

/// As Go's servers refuse.
fn error(status: StatusCode, text: String) -> Response<Body> {
    let mut response = page(status, TEXT, text);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
