//! The URLs a member listens on and announces: `http://host:port` or `https://host:port`, kept as they
//! were written. For clients also `unix://path` and `unixs://path`.
//!
//! The text matters: a member's id is a hash over it, and clients are told it back.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// How a URL of a Unix socket starts, without and with TLS.
const UNIX: &str = "unix://";
const UNIXS: &str = "unixs://";

/// A checked URL. Ordered and compared as text, as etcd does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    /// Without the brackets of an IPv6 address; empty for a Unix socket.
    host: String,
    port: u16,
}

impl Url {
    /// Parses a URL to listen on or to announce. The error is a sentence part that says what is wrong.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            "a URL must start with http://, as in http://127.0.0.1:2379".to_string()
        })?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {}
            scheme @ ("unix" | "unixs") if rest.is_empty() => {
                return Err(format!("it must have the form {scheme}:///path"));
            }
            scheme @ ("unix" | "unixs") => {
                let text = format!("{scheme}://{rest}");
                return Ok(Url { text, host: String::new(), port: 0 });
            }
            _ => return Err(format!("the scheme \"{scheme}\" is neither http nor https")),
        }
        if let Some(at) = rest.find(['/', '?', '#', '@']) {
            return Err(format!("nothing may follow host:port, but \"{}\" does", &rest[at..]));
        }
        let (host, port) = split_host_port(rest)
            .ok_or_else(|| "it must have the form http://host:port".to_string())?;
        let port = port.parse().map_err(|_| format!("\"{port}\" is not a port (0 to 65535)"))?;
        let text = format!("{}://{rest}", scheme.to_ascii_lowercase());
        Ok(Url { text, host: host.to_string(), port })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a Unix socket is; as for etcd, all that follows `unix://`.
    pub fn socket_path(&self) -> Option<&Path> {
        let path = self.text.strip_prefix(UNIX).or_else(|| self.text.strip_prefix(UNIXS));
        path.map(Path::new)
    }

    /// Whether what is said there is encrypted.
    pub fn is_tls(&self) -> bool {
        self.text.starts_with("https://") || self.text.starts_with(UNIXS)
    }

    /// The address to bind: an IP as written, 127.0.0.1 for `localhost`. None for any other name,
    /// which only an announced URL may have.
    pub fn listen_address(&self) -> Option<SocketAddr> {
        let ip = match self.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().ok()?,
        };
        Some(SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `host:port` or `[v6]:port`; the host must not be empty.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => text.rsplit_once(':').filter(|(host, _)| !host.contains(':'))?,
    };
    (!host.is_empty()).then_some((host, port))
}
