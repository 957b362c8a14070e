//! Why a connection could not be secured, in words.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// The cause that TLS had for refusing a connection, or that the system had.
pub fn of(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the other side closed the connection during the handshake: it may not trust this \
             member's certificate"
                .to_owned()
        }
        None => error.to_string(),
    }
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::NoCertificatesPresented => {
            "it shows no certificate, and one is required here".to_owned()
        }
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "it speaks plain text where TLS is expected: is its URL http:// instead of https://?"
            .to_owned(),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => "it has no cipher suite in common with this member (--cipher-suites)".to_owned(),
        Error::PeerIncompatible(_) => {
            format!("it does not speak a TLS version that is allowed here ({error})")
        }
        other => other.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it, or set the clock right".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: are the clocks right?".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "its certificate is not signed by an authority in the trusted CA file".to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate's signature is not of the authority in the trusted CA file".to_owned()
        }
        CertificateError::Revoked => "its certificate was revoked".to_owned(),
        CertificateError::NotValidForName => "its certificate is for another host name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented = presented.join(", ");
            format!("its certificate is not for {}, only for {presented}", expected.to_str())
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for this use: its extended key usage must allow it (clientAuth \
             for callers, serverAuth for servers)"
                .to_owned()
        }
        // What the rules of this member say of it.
        CertificateError::Other(why) => why.to_string(),
        other => format!("its certificate cannot be used: {other}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::UnknownCA => "it does not trust the authority of this side's certificate",
        AlertDescription::CertificateExpired => "it says that this side's certificate has expired",
        AlertDescription::CertificateRevoked => "it says that this side's certificate was revoked",
        AlertDescription::CertificateRequired => "it requires a certificate of this side",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => "it does not accept this side's certificate",
        AlertDescription::ProtocolVersion => "it allows none of this side's TLS versions",
        AlertDescription::HandshakeFailure => "it has no cipher suite in common with this side",
        other => return format!("it refused the handshake ({other:?})"),
    };
    why.to_owned()
}
