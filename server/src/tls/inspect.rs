//! Certificates and keys as they lie there, for whoever wants to know before they are used.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use super::certificate::{Names, names};
use super::{KeyPair, files};

/// What a certificate says.
pub struct Certificate {
    pub subject: String,
    pub not_before: SystemTime,
    pub not_before_text: String,
    pub not_after: SystemTime,
    pub not_after_text: String,
    names: Names,
}

impl Certificate {
    /// None if it cannot be read.
    pub fn read(der: &CertificateDer<'_>) -> Option<Certificate> {
        let (_, parsed) = parse_x509_certificate(der).ok()?;
        let validity = parsed.validity();
        Some(Certificate {
            subject: parsed.subject().to_string(),
            not_before: time(validity.not_before),
            not_before_text: validity.not_before.to_string(),
            not_after: time(validity.not_after),
            not_after_text: validity.not_after.to_string(),
            names: names(der).ok()?,
        })
    }

    /// Whether it is for this host name or address.
    pub fn is_for(&self, host: &str) -> bool {
        let Names { addresses, hosts, .. } = &self.names;
        if let Ok(address) = host.parse::<IpAddr>() {
            return addresses.contains(&address);
        }
        hosts.iter().any(|name| {
            let wildcard = name.strip_prefix("*.").is_some_and(|domain| {
                host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain))
            });
            wildcard || name.eq_ignore_ascii_case(host)
        })
    }
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    if time.timestamp() < 0 { UNIX_EPOCH - seconds } else { UNIX_EPOCH + seconds }
}

/// That the key can be read and belongs to the certificate.
pub fn check_pair(pair: &KeyPair) -> anyhow::Result<()> {
    let (chain, key) = files::key_pair(pair)?;
    let (cert, key_path) = (pair.cert.display(), pair.key.display());
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(Error::InconsistentKeys(_)) => Err(anyhow!("{key_path} is not the key of {cert}")),
        Err(error) => Err(anyhow!("{key_path}, the key of {cert}: {error}")),
    }
}

/// That a chain leads to one of the authorities, for a server and for a client; the error is why not.
pub fn check_issued(
    chain: &[CertificateDer<'static>],
    roots: Arc<RootCertStore>,
) -> Result<(), String> {
    let Some((own, between)) = chain.split_first() else { return Ok(()) };
    let provider = Arc::new(ring::default_provider());
    let now = UnixTime::now();
    let as_server = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
    match as_server.verify_server_cert(own, between, &name, &[], now) {
        Ok(_) => {}
        // The name is looked at last, and which one is right is another question.
        Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => {}
        Err(error) => return Err(words(&error, "server")),
    }
    let as_client = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| error.to_string())?;
    match as_client.verify_client_cert(own, between, now) {
        Ok(_) => Ok(()),
        Err(error) => Err(words(&error, "client")),
    }
}

fn words(error: &Error, role: &str) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "none of the authorities there has signed it".into()
        }
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => format!("it may not be used by a {role} (extended key usage), and members are both"),
        other => other.to_string(),
    }
}
