//! Why a connection could not be secured, in words, and what to do about it.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as TlsError, InvalidMessage};

const NOT_SIGNED: &str = "the server's certificate is not signed by an authority in --cacert";
const EXPIRED: &str = "the server's certificate has expired";
const NOT_YET: &str = "the server's certificate is not valid yet";
const OTHER_HOST: &str = "the server's certificate is for another host";
const UNUSABLE: &str = "the server's certificate cannot be used";
const ASKED_FOR: &str = "the server asks for a certificate";
const NOT_TRUSTED: &str = "the server does not trust the authority of --cert";
const OWN_EXPIRED: &str = "the certificate of --cert has expired";
const OWN_REVOKED: &str = "the certificate of --cert was revoked";
const OWN_REFUSED: &str = "the server does not accept the certificate of --cert";
const NOTHING_IN_COMMON: &str = "the server allows no TLS version or cipher suite that kvctl has";
const NO_TLS: &str = "what answers there does not speak TLS";

/// What to do about each.
const ADVICE: &[(&str, &str)] = &[
    (NOT_SIGNED, "name the file of the authority that signed it"),
    (EXPIRED, "renew it, or set this machine's clock right"),
    (NOT_YET, "set this machine's clock right"),
    (OTHER_HOST, "write a name that it is for in --endpoints"),
    (UNUSABLE, "give the server another one"),
    (ASKED_FOR, "pass --cert and --key"),
    (NOT_TRUSTED, "use one that the server's --trusted-ca-file vouches for"),
    (OWN_EXPIRED, "renew it, or set the clocks right"),
    (OWN_REVOKED, "use another one"),
    (OWN_REFUSED, "the server's log says why"),
    (NOTHING_IN_COMMON, "check its --tls-max-version and --cipher-suites"),
    (NO_TLS, "write http:// before the address"),
];

/// What to do about a reason of [`reason`], capitals aside.
pub(crate) fn advice(reason: &str) -> Option<&'static str> {
    let about = |known: &str| reason.to_lowercase().starts_with(&known.to_lowercase());
    ADVICE.iter().find(|(known, _)| about(known)).map(|(_, advice)| *advice)
}

/// What TLS has to say behind an error; None if it was not TLS.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> Option<String> {
    // What an I/O error carries is not its source.
    let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let tls = match carried {
        Some(carried) => carried.downcast_ref::<TlsError>(),
        None => error.downcast_ref::<TlsError>(),
    };
    let reason = match tls {
        Some(TlsError::InvalidCertificate(why)) => return Some(of_certificate(why)),
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => NO_TLS,
        // HTTP/2 hands on the text of what it met while reading, and nothing else.
        _ => of_alert(error.to_string().strip_prefix("received fatal alert: ")?)?,
    };
    Some(reason.to_owned())
}

fn of_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => NOT_SIGNED.to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => EXPIRED.to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            NOT_YET.to_owned()
        }
        CertificateError::NotValidForName => OTHER_HOST.to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("{OTHER_HOST} ({})", presented.join(", "))
        }
        other => format!("{UNUSABLE} ({other})"),
    }
}

/// By the name of the alert.
fn of_alert(alert: &str) -> Option<&'static str> {
    match alert {
        "CertificateRequired" => Some(ASKED_FOR),
        "UnknownCA" => Some(NOT_TRUSTED),
        "CertificateExpired" => Some(OWN_EXPIRED),
        "CertificateRevoked" => Some(OWN_REVOKED),
        "BadCertificate" | "CertificateUnknown" | "UnsupportedCertificate" => Some(OWN_REFUSED),
        "ProtocolVersion" | "HandshakeFailure" => Some(NOTHING_IN_COMMON),
        _ => None,
    }
}
