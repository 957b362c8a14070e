//! How an endpoint as it is written becomes a channel: scheme, address, TLS, keepalive.

mod link;
mod tls;

use std::path::PathBuf;

use tonic::transport::{Channel, Endpoint, Error};

pub(crate) use link::last_trouble;
use link::{Link, To};

use crate::options::Options;

/// Why there cannot be a connection, and what to do about it.
pub(crate) type Unusable = (String, &'static str);

/// The way to an endpoint.
pub(crate) struct Way {
    endpoint: Endpoint,
    link: Link,
}

impl Way {
    /// Connects, and does so again by itself when the connection is lost.
    pub(crate) async fn connect(self) -> Result<Channel, Error> {
        let link = self.link;
        self.endpoint.connect_with_connector(tower::service_fn(move |_| link.clone().open())).await
    }
}

/// The way to an endpoint: `host:port`, `http://`, `https://`, `unix://` or `unixs://`.
pub(crate) fn way(options: &Options, written: &str) -> Result<Way, Unusable> {
    let write_it_as = "write it as host:2379, http://host:2379 or https://host:2379";
    let (scheme, address) = match (written.split_once("://"), written.split_once(':')) {
        (Some((scheme, address)), _) => (scheme, address.trim_end_matches('/')),
        (None, Some((scheme @ ("unix" | "unixs"), path))) => (scheme, path),
        (None, _) => ("", written),
    };
    let tls = match scheme {
        "https" | "unixs" => true,
        "http" | "unix" => false,
        "" => options.tls.by_default,
        _ => return Err((format!("the scheme {scheme}:// is unknown"), write_it_as)),
    };
    // What is behind a socket has no name; etcd's certificates are for this one.
    let (to, name) = match scheme {
        "unix" | "unixs" => (To::Socket(PathBuf::from(address)), "localhost"),
        _ => (To::Address(address.to_owned()), address),
    };
    let host = match &to {
        To::Socket(_) => name,
        To::Address(address) => match address.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => return Err(("it has no port".to_owned(), write_it_as)),
        },
    };
    let no_address = |_| ("it is no address".to_owned(), write_it_as);
    // The link does what TLS there is; requests still name the right scheme.
    let origin = format!("{}://{name}", if tls { "https" } else { "http" });
    let endpoint = Endpoint::from_shared(format!("http://{name}"))
        .map_err(no_address)?
        .origin(origin.parse().map_err(|_| ("it is no address".to_owned(), write_it_as))?)
        .http2_keep_alive_interval(options.keepalive_time)
        .keep_alive_timeout(options.keepalive_timeout);
    let tls = if tls { Some(tls::connector(&options.tls, host)?) } else { None };
    Ok(Way { endpoint, link: Link { to, tls } })
}
