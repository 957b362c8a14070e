//! Certificates for tests: an authority of one's own, and what it signs, as PEM files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Signs certificates, and writes all files to one directory.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The authority's own certificate.
    pub cert: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    pub common_name: &'a str,
    /// Names and addresses it is for.
    pub hosts: &'a [&'a str],
    pub serial: u64,
    /// It is good from yesterday to tomorrow, unless it has expired.
    pub expired: bool,
}

impl Default for Subject<'_> {
    /// A server on this machine.
    fn default() -> Self {
        Self { common_name: "", hosts: &["127.0.0.1", "localhost"], serial: 1, expired: false }
    }
}

impl Authority {
    /// `<name>.pem` in the directory.
    ///
    /// # Errors
    /// When a file cannot be written, as for all of these.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let mut params = params(&Subject { common_name: name, hosts: &[], ..Subject::default() })?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.extended_key_usages = Vec::new();
        let key = KeyPair::generate()?;
        let cert = dir.join(format!("{name}.pem"));
        fs::write(&cert, params.self_signed(&key)?.pem())?;
        Ok(Self { dir: dir.to_owned(), issuer: Issuer::new(params, key), cert })
    }

    /// Writes `<name>.pem` and `<name>-key.pem`, over what was there.
    pub fn issue(&self, name: &str, subject: &Subject<'_>) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let certificate = params(subject)?.signed_by(&key, &self.issuer)?;
        let pair = Pair {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}-key.pem")),
        };
        // Put in place whole, as whoever renews certificates should: a server may look at any time.
        write_whole(&pair.key, key.serialize_pem().as_bytes())?;
        write_whole(&pair.cert, certificate.pem().as_bytes())?;
        Ok(pair)
    }

    /// A list of revoked serial numbers, as the DER that etcd takes.
    pub fn revoke(&self, name: &str, serials: &[u64]) -> Result<PathBuf> {
        let now = SystemTime::now();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (now - DAY).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.dir.join(format!("{name}.crl"));
        write_whole(&path, list.signed_by(&self.issuer)?.der())?;
        Ok(path)
    }
}

fn params(subject: &Subject<'_>) -> Result<CertificateParams> {
    let hosts: Vec<String> = subject.hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    if !subject.common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, subject.common_name);
    }
    let now = SystemTime::now();
    let (from, to) =
        if subject.expired { (now - 2 * DAY, now - DAY) } else { (now - DAY, now + DAY) };
    params.not_before = from.into();
    params.not_after = to.into();
    params.serial_number = Some(SerialNumber::from(subject.serial));
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes)?;
    Ok(fs::rename(beside, path)?)
}
