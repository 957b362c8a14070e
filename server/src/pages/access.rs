//! Which hosts may be asked for, and the scripts of which sites may ask: against pages that somebody
//! has a browser load.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    ORIGIN,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tonic::body::Body;

use super::error;
use crate::connection::Way;

/// The two lists; one with `*` lets all through.
pub struct Access {
    pub hosts: Vec<String>,
    pub origins: Vec<String>,
}

impl Access {
    /// What is answered instead, if such a host is not served. Over TLS the certificate has shown it
    /// to be the right one.
    pub fn refuse<B>(&self, request: &Request<B>, way: &Way) -> Option<Response<Body>> {
        if way.entrance.tls.is_some() || self.hosts.is_empty() || any(&self.hosts) {
            return None;
        }
        let host = host_of(request);
        if self.hosts.iter().any(|allowed| allowed == host) {
            return None;
        }
        tracing::warn!(
            "refused a request for the host \"{host}\", which --host-whitelist does not name"
        );
        let text = format!(
            "the host \"{host}\" is not one that this member may be asked for: use TLS, or add it to \
             --host-whitelist\n"
        );
        Some(error(StatusCode::MISDIRECTED_REQUEST, text))
    }

    /// The headers that let a script read the answer.
    pub fn cors<B>(&self, request: &Request<B>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let origin = match any(&self.origins) {
            true => Some(HeaderValue::from_static("*")),
            false => request.headers().get(ORIGIN).cloned().filter(|origin| {
                self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
            }),
        };
        if let Some(origin) = origin {
            let fixed = HeaderValue::from_static;
            let methods = fixed("POST, GET, OPTIONS, PUT, DELETE");
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let names = fixed("accept, content-type, authorization");
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers
    }
}

fn any(list: &[String]) -> bool {
    list.iter().any(|word| word == "*")
}

/// Without the port.
fn host_of<B>(request: &Request<B>) -> &str {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = header.or(request.uri().host()).unwrap_or_default();
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}
