//! PEM files, and what was made of them as long as they stay the same.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow, ensure};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::KeyPair;

/// A value made of files, and made anew when one of them was replaced or written to.
pub struct Reloading<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> anyhow::Result<T> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<Stamp>>,
    value: Arc<T>,
}

/// Two looks at the same unchanged file give the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl<T> Reloading<T> {
    /// # Errors
    /// What is wrong with the files, at the start.
    pub fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        load: impl Fn() -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        // Stamped first: what is written while it is read is read once more.
        let stamps = stamps(&files);
        let value = Arc::new(load()?);
        let state = Mutex::new(State { stamps, value });
        Ok(Self { what, files, load: Box::new(load), state })
    }

    /// What the files say, or said before they became unusable. Costs a look at each.
    pub fn current(&self) -> Arc<T> {
        // A poisoned lock means a panic, and a panic aborts the process.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if state.stamps != stamps {
            state.stamps = stamps;
            match (self.load)() {
                Ok(value) => {
                    state.value = Arc::new(value);
                    tracing::info!("{}: read again, because its files changed", self.what);
                }
                Err(error) => tracing::warn!(
                    "{}: its files changed and cannot be used, so what they were before holds: \
                     {error:#}",
                    self.what
                ),
            }
        }
        state.value.clone()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        // Through links: a mounted secret is renewed by pointing one elsewhere.
        let file = fs::metadata(path).ok()?;
        let (file, changed) = ((file.dev(), file.ino()), (file.mtime(), file.mtime_nsec()));
        Some(Stamp { file, bytes: fs::metadata(path).ok()?.size(), changed })
    };
    files.iter().map(stamp).collect()
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

pub fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow!("{} is no PEM file: {error}", path.display()))?;
    ensure!(!certificates.is_empty(), "{} holds no certificate (PEM)", path.display());
    Ok(certificates)
}

/// The chain and the key, which are checked to belong together where they are used.
pub fn key_pair(
    pair: &KeyPair,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(&pair.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&pair.key)?)
        .map_err(|error| anyhow!("{} holds no private key (PEM): {error}", pair.key.display()))?;
    Ok((chain, key))
}

pub fn authorities(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).with_context(|| format!("{}: an authority", path.display()))?;
    }
    Ok(roots)
}

/// As PEM, or as the DER that etcd takes.
pub fn revocations(path: &Path) -> anyhow::Result<Vec<CertificateRevocationListDer<'static>>> {
    let bytes = read(path)?;
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow!("{} is no PEM file: {error}", path.display()))?;
    ensure!(!lists.is_empty(), "{} holds no list of revoked certificates", path.display());
    Ok(lists)
}
