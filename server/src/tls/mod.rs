//! TLS: what clients and members are shown, what is asked of them, and how it is said when it fails.
//!
//! - [`Settings`]: what the options say, of one kind of listener.
//! - [`Acceptor`] and [`Connector`]: the two ends of a connection. Both read their files again when
//!   these change, so that certificates are renewed without a restart; files that cannot be used
//!   leave what was there before in force, with a warning.
//! - [`Stream`]: a connection with or without TLS.
//! - [`reason`]: what went wrong, in words that say what to do about it.
//!
//! A client's certificate is asked for when there is an authority to check it by, as in etcd, also
//! without `--client-cert-auth`. Handshakes run where the connection is served.

mod accept;
mod auto;
mod certificate;
mod connect;
mod files;
mod inspect;
mod reason;
mod stream;
mod suites;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{SupportedProtocolVersion, version};

pub use accept::Acceptor;
pub use certificate::ClientCertificate;
pub use connect::Connector;
pub use files::{authorities, certificates, revocations};
pub use inspect::{Certificate, check_issued, check_pair};
pub use stream::Stream;
pub use suites::check_suites;

use self::auto::make_certificate;
use crate::config::{Config, Url};

/// How connections of one kind (with clients, or between members) are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What this member shows as a server.
    pub own: Option<KeyPair>,
    /// What it shows when it calls others; the same if None.
    pub own_as_client: Option<KeyPair>,
    /// Authorities that the other side's certificate must lead to.
    pub trusted_ca: Option<PathBuf>,
    pub client_cert_auth: bool,
    pub crl: Option<PathBuf>,
    /// The other side must have one of these; empty: any.
    pub allowed_cns: Vec<String>,
    pub allowed_hostnames: Vec<String>,
    /// Members must call from an address that their certificate is for.
    pub check_address: bool,
    /// Years that a certificate is good for that this member makes for itself. None: it makes none.
    pub self_signed_years: Option<u32>,
    /// etcd's names; empty: all that are safe.
    pub cipher_suites: Vec<String>,
    pub min_version: Version,
    pub max_version: Version,
}

/// A certificate (with those between it and its authority) and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    #[default]
    Tls13,
}

/// The two ends of all connections of a member.
pub struct Ends {
    /// None: no certificate, so no TLS.
    pub clients: Option<Arc<Acceptor>>,
    pub members: Option<Arc<Acceptor>>,
    pub to_members: Arc<Connector>,
}

impl Ends {
    /// Reads what the options name, and makes what they ask to make.
    ///
    /// # Errors
    /// What cannot be used, by its file.
    pub fn open(config: &Config) -> anyhow::Result<Ends> {
        let made = |kind: &str, settings: &Settings, urls: &[Url]| {
            let mut settings = settings.clone();
            if let Some(years) = settings.self_signed_years {
                let hosts = urls.iter().map(|url| url.host().to_owned());
                let hosts: Vec<String> = hosts.filter(|host| !host.is_empty()).collect();
                let dir = config.data_dir.join("fixtures").join(kind);
                settings.own = Some(make_certificate(&dir, &hosts, years)?);
            }
            anyhow::Ok(settings)
        };
        let accept = |who, settings: &Settings| match settings.own {
            None => Ok(None),
            Some(_) => Acceptor::new(who, settings).map(|acceptor| Some(Arc::new(acceptor))),
        };
        let clients = made("client", &config.client_tls, &config.listen_client_urls)?;
        let members = made("peer", &config.peer_tls, &config.listen_peer_urls)?;
        Ok(Ends {
            clients: accept("client", &clients)?,
            members: accept("member", &members)?,
            to_members: Arc::new(Connector::new(&members)?),
        })
    }
}

impl Settings {
    /// Whether there is, or will be, a certificate to serve with.
    pub fn can_serve(&self) -> bool {
        self.own.is_some() || self.self_signed_years.is_some()
    }

    /// Whether others must show a certificate.
    fn asks_for_certificates(&self) -> bool {
        self.trusted_ca.is_some() || self.client_cert_auth
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        Arc::new(suites::provider(&self.cipher_suites))
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match (self.min_version, self.max_version) {
            (Version::Tls13, _) => TLS13_ONLY,
            (_, Version::Tls12) => TLS12_ONLY,
            _ => rustls::ALL_VERSIONS,
        }
    }
}

static TLS12_ONLY: &[&SupportedProtocolVersion] = &[&version::TLS12];
static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&version::TLS13];
