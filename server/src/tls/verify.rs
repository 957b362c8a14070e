//! Rules for certificates beyond the authority's word.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::Settings;
use super::certificate::{Unreadable, names};

/// Of those with a good certificate, who may come. No list lets all come.
#[derive(Clone, Debug)]
pub struct Allowed {
    common_names: Vec<String>,
    hostnames: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum NotAllowed {
    #[error("its certificate's common name \"{0}\" is not among the allowed ones")]
    CommonName(String),
    #[error("its certificate is for none of the allowed host names")]
    Hostname,
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Allowed {
    pub fn of(settings: &Settings) -> Option<Allowed> {
        let Settings { allowed_cns, allowed_hostnames, .. } = settings;
        let any = !allowed_cns.is_empty() || !allowed_hostnames.is_empty();
        any.then(|| Allowed {
            common_names: allowed_cns.clone(),
            hostnames: allowed_hostnames.clone(),
        })
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if !self.common_names.is_empty() {
            let name = names(certificate).map_err(|why| refused(why.into()))?.common_name;
            if !self.common_names.contains(&name) {
                return Err(refused(NotAllowed::CommonName(name)));
            }
        }
        if !self.hostnames.is_empty() {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let is_for = |name: &String| {
                ServerName::try_from(name.as_str())
                    .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
            };
            if !self.hostnames.iter().any(is_for) {
                return Err(refused(NotAllowed::Hostname));
            }
        }
        Ok(())
    }
}

fn refused(why: NotAllowed) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// Clients, checked by the library and then by the list.
#[derive(Debug)]
pub struct AllowedClients {
    pub inner: Arc<dyn ClientCertVerifier>,
    pub allowed: Allowed,
}

impl ClientCertVerifier for AllowedClients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        self.allowed.check(end_entity).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Members that are called, checked by the library if there is something to check them by, and then
/// by the list.
#[derive(Debug)]
pub struct Members {
    /// None: made certificates (`--peer-auto-tls`), which nobody vouches for.
    pub inner: Option<Arc<dyn ServerCertVerifier>>,
    pub allowed: Option<Allowed>,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(inner) = &self.inner {
            inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        if let Some(allowed) = &self.allowed {
            allowed.check(end_entity)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
