//! `--cacert`, `--cert`, `--key` and `--insecure-skip-tls-verify`.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::Unusable;
use crate::failure::root_cause;
use crate::options::Tls;

const CHECK: &str = "check --cacert, --cert and --key: they name PEM files";

/// What secures a connection to this host.
pub(super) fn connector(
    tls: &Tls,
    host: &str,
) -> Result<(TlsConnector, ServerName<'static>), Unusable> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match (&tls.cacert, tls.skip_verify) {
        (_, true) => builder.dangerous().with_custom_certificate_verifier(unchecked(&provider)),
        (Some(cacert), false) => builder.with_root_certificates(authorities(cacert)?),
        (None, false) => {
            let advice = "name the file of the certificates that the server's must lead to";
            return Err(("TLS needs --cacert".to_owned(), advice));
        }
    };
    let mut config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|_| (format!("{} holds no private key", key.display()), CHECK))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(unusable)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ("no certificate can be for that host".to_owned(), "check --endpoints"))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn unusable(error: rustls::Error) -> Unusable {
    (format!("the TLS files cannot be used ({})", root_cause(&error)), CHECK)
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    std::fs::read(path)
        .map_err(|error| (format!("cannot read {}: {}", path.display(), root_cause(&error)), CHECK))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let no_pem = || (format!("{} is no PEM file", path.display()), CHECK);
    let pem = read(path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| no_pem())?;
    if found.is_empty() { Err(no_pem()) } else { Ok(found) }
}

fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

fn unchecked(provider: &CryptoProvider) -> Arc<Unchecked> {
    Arc::new(Unchecked { algorithms: provider.signature_verification_algorithms })
}

/// `--insecure-skip-tls-verify`: any certificate will do, but the server must hold its key.
#[derive(Debug)]
struct Unchecked {
    algorithms: WebPkiSupportedAlgorithms,
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
