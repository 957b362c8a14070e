//! The listening side: a handshake, and who the client proved to be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use x509_parser::parse_x509_crl;

use super::certificate::{Names, names};
use super::files::{self, Reloading};
use super::verify::{Allowed, AllowedClients};
use super::{ClientCertificate, Settings, Stream, reason};
use crate::limits;

/// With what every TLS connection begins.
const HANDSHAKE: u8 = 0x16;
/// And with what HTTP/2 does without it.
const HTTP2_PREFACE: &[u8] = b"PRI";
/// What Go's servers tell a browser that took the wrong scheme.
const PLAIN_TEXT_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
const PLAIN_TEXT: &str =
    "it speaks plain text where TLS is expected: is its URL http:// instead of https://?";

/// Whoever cannot be let in tends to come again at once: the same reason is logged this often.
const SAME_REASON_INTERVAL: Duration = Duration::from_secs(10);

/// Secures the connections of one kind of listener.
pub struct Acceptor {
    /// Who comes here: "client" or "member".
    who: &'static str,
    config: Reloading<ServerConfig>,
    check_address: bool,
    last_refusal: Mutex<Option<(String, Instant)>>,
}

impl Acceptor {
    /// # Errors
    /// What is wrong with the files that the settings name.
    pub fn new(who: &'static str, settings: &Settings) -> anyhow::Result<Acceptor> {
        let what = if who == "client" { "TLS for clients" } else { "TLS for members" };
        let own = settings.own.clone().with_context(|| format!("{what}: no certificate"))?;
        let used =
            [Some(own.cert), Some(own.key), settings.trusted_ca.clone(), settings.crl.clone()];
        let loaded = settings.clone();
        let config = Reloading::new(what, used.into_iter().flatten().collect(), move || {
            server_config(&loaded)
        })
        .context(what)?;
        let check_address = settings.check_address;
        Ok(Acceptor { who, config, check_address, last_refusal: Mutex::default() })
    }

    /// None: it was refused, which is logged, or wanted nothing.
    pub async fn accept(
        &self,
        stream: TcpStream,
        from: Option<SocketAddr>,
    ) -> Option<(Stream, Option<ClientCertificate>)> {
        let handshake =
            tokio::time::timeout(limits::TLS_HANDSHAKE_TIMEOUT, self.secure(stream, from));
        let refused = match handshake.await {
            Ok(Ok(secured)) => return secured,
            Ok(Err(why)) => why,
            Err(_) => format!("no handshake within {:?}", limits::TLS_HANDSHAKE_TIMEOUT),
        };
        self.tell(from, refused);
        None
    }

    async fn secure(
        &self,
        mut stream: TcpStream,
        from: Option<SocketAddr>,
    ) -> Result<Option<(Stream, Option<ClientCertificate>)>, String> {
        let failed = |error: io::Error| reason::of(&error);
        let mut first = [0; HTTP2_PREFACE.len()];
        // Whoever only looks whether the port is open ends the connection, or resets it.
        let seen = stream.peek(&mut first).await.unwrap_or(0);
        if seen == 0 {
            tracing::debug!(?from, "a {} ended its connection without a byte", self.who);
            return Ok(None);
        }
        if first[0] != HANDSHAKE {
            // A gRPC client would take the words for a broken answer, and must see a server that is
            // not available. Whether others take what they are told is their own affair.
            if !HTTP2_PREFACE.starts_with(&first[..seen]) {
                let _ = stream.write_all(PLAIN_TEXT_ANSWER).await;
            }
            farewell(stream).await;
            return Err(PLAIN_TEXT.to_owned());
        }
        let acceptor = TlsAcceptor::from(self.config.current());
        let stream = match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                farewell(stream).await;
                return Err(failed(error));
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let names = shown.map(names).transpose()?;
        if let (true, Some(names), Some(from)) = (self.check_address, &names, from) {
            check_address(names, from.ip()).await?;
        }
        let certificate =
            names.map(|names| ClientCertificate { common_name: names.common_name.into() });
        Ok(Some((Stream::Tls(Box::new(stream.into())), certificate)))
    }

    fn tell(&self, from: Option<SocketAddr>, why: String) {
        let now = Instant::now();
        // A poisoned lock means a panic, and a panic aborts the process.
        let mut last = self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let told = last.as_ref().is_some_and(|(reason, when)| {
            *reason == why && now.duration_since(*when) < SAME_REASON_INTERVAL
        });
        if told {
            return;
        }
        match from {
            Some(from) => tracing::warn!("refused a {} at {from}: {why}", self.who),
            None => tracing::warn!("refused a {}: {why}", self.who),
        }
        *last = Some((why, now));
    }
}

/// Waits until a client that was refused ends the connection, too: to close it while bytes of the
/// client are unread would reset it, and the client might never see why.
async fn farewell(mut stream: TcpStream) {
    let end = async {
        stream.shutdown().await?;
        let mut passed = [0; 1024];
        while stream.read(&mut passed).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it was polite is of no interest.
    let _ = tokio::time::timeout(limits::FAREWELL_TIMEOUT, end).await;
}

/// As etcd, a member may call from an address of its certificate, or one that its names resolve to.
async fn check_address(names: &Names, from: IpAddr) -> Result<(), String> {
    let from = from.to_canonical();
    if names.addresses.contains(&from) || names.addresses.is_empty() && names.hosts.is_empty() {
        return Ok(());
    }
    for host in &names.hosts {
        // One that cannot be resolved is no reason to let it in.
        if let Ok(mut found) = tokio::net::lookup_host((host.as_str(), 0)).await
            && found.any(|address| address.ip().to_canonical() == from)
        {
            return Ok(());
        }
    }
    let addresses = names.addresses.iter().map(ToString::to_string);
    let all: Vec<String> = addresses.chain(names.hosts.iter().cloned()).collect();
    Err(format!(
        "its certificate is for {}, and it calls from {from}; \
         --peer-skip-client-san-verification would let it in",
        all.join(", ")
    ))
}

fn server_config(settings: &Settings) -> anyhow::Result<ServerConfig> {
    let provider = settings.provider();
    let own = settings.own.as_ref().expect("it was checked that there is one");
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(settings.versions())?;
    let builder = match client_verifier(settings)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let (chain, key) = files::key_pair(own)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| anyhow!("{} and {}: {error}", own.cert.display(), own.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Who has issued lists of revoked certificates and is no authority itself.
fn strangers(lists: &[CertificateRevocationListDer<'_>], roots: &RootCertStore) -> Vec<String> {
    let known = roots.subjects();
    let parsed = lists.iter().filter_map(|list| Some(parse_x509_crl(list).ok()?.1));
    let unknown = parsed
        .filter(|list| known.iter().all(|subject| subject.as_ref() != list.issuer().as_raw()));
    unknown.map(|list| list.issuer().to_string()).collect()
}

fn client_verifier(settings: &Settings) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
    if !settings.asks_for_certificates() {
        return Ok(None);
    }
    let trusted = settings.trusted_ca.as_ref().context("no authority to check certificates by")?;
    let roots = Arc::new(files::authorities(trusted)?);
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(roots.clone(), settings.provider());
    if let Some(crl) = &settings.crl {
        let lists = files::revocations(crl)?;
        for issuer in strangers(&lists, &roots) {
            tracing::warn!(
                "{}: its list of {issuer} counts only for certificates of that authority, which \
                 is none of those in {}",
                crl.display(),
                trusted.display()
            );
        }
        // Most authorities of a chain have no list here; those that have are obeyed.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    let inner = builder.build().map_err(|error| {
        let about = settings.crl.as_ref().unwrap_or(trusted);
        anyhow!("{} and {}: {error}", trusted.display(), about.display())
    })?;
    Ok(Some(match Allowed::of(settings) {
        None => inner,
        Some(allowed) => Arc::new(AllowedClients { inner, allowed }),
    }))
}
