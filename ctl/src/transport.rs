//! How an endpoint as it is written becomes a channel: scheme, address, TLS, keepalive.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::failure::root_cause;
use crate::options::{Options, Tls};

/// Why there cannot be a connection, and what to do about it.
type Unusable = (String, &'static str);

/// The channel for an endpoint: `host:port`, `http://`, `https://` or `unix://`.
pub(crate) fn endpoint(options: &Options, written: &str) -> Result<Endpoint, Unusable> {
    let write_it_as = "write it as host:2379, http://host:2379 or https://host:2379";
    let (scheme, address) = match (written.split_once("://"), written.strip_prefix("unix:")) {
        (Some((scheme, address)), _) => (scheme, address.trim_end_matches('/')),
        (None, Some(path)) => ("unix", path),
        (None, None) => ("", written),
    };
    let tls = match scheme {
        "https" => true,
        "http" => false,
        "" => options.tls.by_default,
        "unix" => {
            let endpoint = Endpoint::from_shared(format!("unix://{address}"));
            let endpoint = endpoint.map_err(|e| (e.to_string(), "write it as unix:///path"))?;
            return Ok(with_keepalive(options, endpoint));
        }
        _ => return Err((format!("the scheme {scheme}:// is unknown"), write_it_as)),
    };
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port {
        return Err(("it has no port".to_owned(), write_it_as));
    }
    let uri = format!("{}://{address}", if tls { "https" } else { "http" });
    let endpoint =
        Endpoint::from_shared(uri).map_err(|_| ("it is no address".to_owned(), write_it_as))?;
    let endpoint = with_keepalive(options, endpoint);
    if tls { with_tls(&options.tls, endpoint) } else { Ok(endpoint) }
}

fn with_keepalive(options: &Options, endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(options.keepalive_time)
        .keep_alive_timeout(options.keepalive_timeout)
        .tcp_nodelay(true)
}

/// Stands before everything that a PEM file holds.
const PEM: &[u8] = b"-----BEGIN ";

fn with_tls(tls: &Tls, endpoint: Endpoint) -> Result<Endpoint, Unusable> {
    let check = "check --cacert, --cert and --key: they name PEM files";
    let read = |path: &Path| match std::fs::read(path) {
        Ok(pem) if pem.windows(PEM.len()).any(|at| at == PEM) => Ok(pem),
        Ok(_) => Err((format!("{} is no PEM file", path.display()), check)),
        Err(error) => {
            Err((format!("cannot read {}: {}", path.display(), root_cause(&error)), check))
        }
    };
    let mut config = ClientTlsConfig::new();
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    let wrong = |error: tonic::transport::Error| {
        (format!("the TLS files cannot be used ({})", root_cause(&error)), check)
    };
    if tls.skip_verify {
        return endpoint
            .tls_config_with_verifier(config, Arc::new(Unchecked::new()))
            .map_err(wrong);
    }
    let Some(cacert) = &tls.cacert else {
        let advice = "name the file of the certificates that the server's must lead to";
        return Err(("TLS needs --cacert".to_owned(), advice));
    };
    let config = config.ca_certificate(Certificate::from_pem(read(cacert)?));
    endpoint.tls_config(config).map_err(wrong)
}

/// `--insecure-skip-tls-verify`: any certificate will do, but the server must hold its key.
#[derive(Debug)]
struct Unchecked {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Unchecked {
    fn new() -> Self {
        Self {
            algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
