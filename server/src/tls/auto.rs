//! `--auto-tls`: a certificate that a member makes for itself. It hides what is said from those who
//! listen; who answers it does not prove, as nobody vouches for it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair as RcgenKeyPair};

use super::{KeyPair, files};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The certificate in this directory, made for these hosts if there is none, or if it has expired.
///
/// # Errors
/// When it cannot be written.
pub fn make_certificate(dir: &Path, hosts: &[String], years: u32) -> anyhow::Result<KeyPair> {
    let pair = KeyPair { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    if pair.key.exists() && is_current(&pair.cert) {
        return Ok(pair);
    }
    let made = "making a certificate for --auto-tls";
    let mut params = CertificateParams::new(hosts.to_vec()).context(made)?;
    let (now, life) = (SystemTime::now(), YEAR * years);
    params.not_before = now.into();
    params.not_after = (now + life).into();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = RcgenKeyPair::generate().context(made)?;
    let certificate = params.self_signed(&key).context(made)?;

    let written = || format!("writing a certificate to {}", dir.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(written)?;
    write(&pair.key, &key.serialize_pem(), 0o600).with_context(written)?;
    write(&pair.cert, &certificate.pem(), 0o644).with_context(written)?;
    tracing::info!(
        "made a certificate for {} that nobody vouches for: {}",
        hosts.join(", "),
        pair.cert.display()
    );
    Ok(pair)
}

fn is_current(cert: &Path) -> bool {
    let Ok(chain) = files::certificates(cert) else { return false };
    chain.first().is_some_and(|certificate| {
        x509_parser::parse_x509_certificate(certificate)
            .is_ok_and(|(_, certificate)| certificate.validity().is_valid())
    })
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
