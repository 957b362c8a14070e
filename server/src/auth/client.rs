//! What a call says about who makes it.

use std::sync::Arc;

use http::{Extensions, HeaderMap};
use tonic::Request;

/// The name in a client's certificate that was verified. Whoever accepts such connections, and only
/// if certificates are to authenticate, puts this into the extensions of their requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonName(pub Arc<str>);

/// As the call came; nothing of it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub token: Option<String>,
    pub common_name: Option<Arc<str>>,
}

impl Client {
    pub fn of<T>(request: &Request<T>) -> Self {
        Self::new(request.metadata().as_ref(), request.extensions())
    }

    /// A token wins over a certificate. The certificate of a gateway is not that of its users.
    pub fn new(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let header = headers.get("token").or_else(|| headers.get("authorization"));
        let token = header.map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned());
        let token = token.map(|token| match token.strip_prefix("Bearer ") {
            Some(token) => token.to_owned(),
            None => token,
        });
        let through_gateway = headers.contains_key("grpcgateway-accept");
        let name = extensions.get::<CommonName>().filter(|_| !through_gateway && token.is_none());
        Self { token, common_name: name.map(|name| name.0.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(headers: &[(&'static str, &'static str)], name: Option<&str>) -> Client {
        let mut request = Request::new(());
        for (header, value) in headers {
            request.metadata_mut().insert(*header, value.parse().unwrap());
        }
        if let Some(name) = name {
            request.extensions_mut().insert(CommonName(name.into()));
        }
        Client::of(&request)
    }

    #[test]
    fn tokens_come_in_two_headers() {
        assert_eq!(client(&[("token", "a.1")], None).token.as_deref(), Some("a.1"));
        let bearer = client(&[("authorization", "Bearer a.1")], None);
        assert_eq!(bearer.token.as_deref(), Some("a.1"));
        let both = client(&[("authorization", "b"), ("token", "a")], None);
        assert_eq!(both.token.as_deref(), Some("a"));
    }

    /// CVE-2018-16886: the gateway's own certificate made its users root.
    #[test]
    fn a_certificate_counts_without_a_token_and_not_for_a_gateway() {
        assert_eq!(client(&[], Some("root")).common_name.as_deref(), Some("root"));
        assert_eq!(client(&[("token", "a")], Some("root")).common_name, None);
        assert_eq!(client(&[("grpcgateway-accept", "*/*")], Some("root")), Client::default());
    }
}
