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

/// Why not all of a certificate's names are known. To go on without would be to take one that is for
/// others for one that is for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the names in its certificate cannot be read")]
pub struct Unreadable;

impl From<Unreadable> for String {
    fn from(unreadable: Unreadable) -> String {
        unreadable.to_string()
    }
}

/// # Errors
/// If it holds something that is no name.
pub fn names(certificate: &CertificateDer<'_>) -> Result<Names, Unreadable> {
    let (_, certificate) = parse_x509_certificate(certificate).map_err(|_| Unreadable)?;
    let mut names = Names::default();
    // The last one, as Go takes it.
    let common_names = certificate.subject().iter_common_name();
    if let Some(Ok(name)) = common_names.last().map(|attribute| attribute.as_str()) {
        name.clone_into(&mut names.common_name);
    }
    let alternatives = certificate.subject_alternative_name().map_err(|_| Unreadable)?;
    for alternative in alternatives.iter().flat_map(|found| &found.value.general_names) {
        match alternative {
            GeneralName::DNSName(host) => names.hosts.push((*host).to_owned()),
            GeneralName::IPAddress(bytes) => {
                names.addresses.push(address(bytes).ok_or(Unreadable)?);
            }
            GeneralName::Invalid(..) => return Err(Unreadable),
            _ => {}
        }
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    /// Of a certificate with these alternative names, as they are encoded.
    fn names_of(alternatives: &[u8]) -> Result<Names, Unreadable> {
        let mut params = CertificateParams::default();
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], alternatives.to_vec());
        params.custom_extensions.push(extension);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        names(certificate.der())
    }

    #[test]
    fn names_are_all_known_or_none() {
        let good = names_of(b"\x30\x0a\x82\x02ab\x87\x04\x01\x02\x03\x04").unwrap();
        assert_eq!(good.hosts, ["ab"]);
        assert_eq!(good.addresses, [IpAddr::from([1, 2, 3, 4])]);
        for wrong in [
            &b"?"[..],
            b"\x30\x0a\x82\x02ab",
            b"\x30\x04\x82\x02\xff\xfe",
            b"\x30\x05\x87\x03\x01\x02\x03",
        ] {
            assert_eq!(names_of(wrong), Err(Unreadable), "{wrong:x?}");
        }
        assert_eq!(names(&CertificateDer::from(b"?".to_vec())), Err(Unreadable));
    }
}
