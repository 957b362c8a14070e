//! What a certificate says of its holder.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// The certificate that a client showed and that was checked; among the extensions of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Empty if it has none.
    pub common_name: Arc<str>,
}

/// The names of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub common_name: String,
    pub addresses: Vec<IpAddr>,
    pub hosts: Vec<String>,
}

/// Nothing of what is in a certificate that cannot be read, which the handshake would have refused.
pub fn names(certificate: &CertificateDer<'_>) -> Names {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else {
        return Names::default();
    };
    let mut names = Names::default();
    // The last one, as Go takes it.
    let common_names = certificate.subject().iter_common_name();
    if let Some(Ok(name)) = common_names.last().map(|attribute| attribute.as_str()) {
        name.clone_into(&mut names.common_name);
    }
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return names };
    for alternative in &alternatives.value.general_names {
        match alternative {
            GeneralName::DNSName(host) => names.hosts.push((*host).to_owned()),
            GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
