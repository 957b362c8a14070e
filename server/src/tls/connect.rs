//! The calling side: members reach each other with or without TLS, as their URLs say.

use std::io;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::files::{self, Reloading};
use super::verify::{Allowed, Members};
use super::{Settings, Stream, reason};
use crate::config::Url;

/// Connects to members.
pub struct Connector {
    /// None: only `http://` can be reached.
    config: Option<Reloading<ClientConfig>>,
}

impl Connector {
    /// # Errors
    /// What is wrong with the files that the settings name.
    pub fn new(settings: &Settings) -> anyhow::Result<Connector> {
        if settings.trusted_ca.is_none() && settings.self_signed_years.is_none() {
            return Ok(Connector { config: None });
        }
        let own = settings.own_as_client.as_ref().or(settings.own.as_ref());
        let used =
            [own.map(|own| &own.cert), own.map(|own| &own.key), settings.trusted_ca.as_ref()];
        let used = used.into_iter().flatten().cloned().collect();
        let loaded = settings.clone();
        let what = "TLS to members";
        let config = Reloading::new(what, used, move || client_config(&loaded)).context(what)?;
        Ok(Connector { config: Some(config) })
    }

    /// # Errors
    /// Why there is no connection, in words.
    pub async fn connect(&self, url: &Url) -> io::Result<Stream> {
        let stream = TcpStream::connect((url.host(), url.port())).await?;
        stream.set_nodelay(true)?;
        if !url.is_tls() {
            return Ok(Stream::Plain(stream));
        }
        let unusable = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        let config = self.config.as_ref().ok_or_else(|| {
            unusable(
                "https:// needs --peer-trusted-ca-file, or --peer-auto-tls, on this member too",
            )
        })?;
        let name = ServerName::try_from(url.host().to_owned())
            .map_err(|_| unusable("no certificate can be for that host name"))?;
        let connector = TlsConnector::from(config.current());
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| io::Error::new(error.kind(), reason::of(&error)))?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

fn client_config(settings: &Settings) -> anyhow::Result<ClientConfig> {
    let provider = settings.provider();
    let inner: Option<Arc<dyn ServerCertVerifier>> = match &settings.trusted_ca {
        None => None,
        Some(trusted) => {
            let roots = Arc::new(files::authorities(trusted)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
            Some(verifier.build().with_context(|| trusted.display().to_string())?)
        }
    };
    let verifier = Members {
        // What a member made itself nobody vouches for, as in etcd.
        inner: inner.filter(|_| settings.self_signed_years.is_none()),
        allowed: Allowed::of(settings),
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(settings.versions())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(own) = settings.own_as_client.as_ref().or(settings.own.as_ref()) else {
        return Ok(builder.with_no_client_auth());
    };
    let (chain, key) = files::key_pair(own)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| anyhow!("{} and {}: {error}", own.cert.display(), own.key.display()))
}
