//! Keys of signed tokens, read from files. Each is of one method, and of no other use.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, crypto};
use p256::pkcs8::EncodePrivateKey as _;

use super::es512;

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Es512,
    Library(Algorithm),
}

impl FromStr for Method {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        if name == "ES512" {
            return Ok(Self::Es512);
        }
        let algorithm = name.parse().map_err(|_| anyhow!("there is no sign-method {name:?}"))?;
        Ok(Self::Library(algorithm))
    }
}

impl Method {
    /// As `alg` of a token's header has it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Es512 => "ES512".to_owned(),
            Self::Library(algorithm) => format!("{algorithm:?}"),
        }
    }

    fn family(self) -> AlgorithmFamily {
        match self {
            Self::Es512 => AlgorithmFamily::Ec,
            Self::Library(algorithm) => algorithm.family(),
        }
    }
}

pub(super) enum PrivateKey {
    Es512(es512::PrivateKey),
    Library(Algorithm, EncodingKey),
}

impl PrivateKey {
    pub(super) fn read(method: Method, path: &Path) -> anyhow::Result<Self> {
        let key = read_private(method, path)?;
        Ok(match method {
            Method::Es512 => {
                let key = es512::PrivateKey::from_pkcs8(key.as_bytes());
                Self::Es512(key.map_err(|why| unusable(method, &why))?)
            }
            Method::Library(algorithm) => Self::Library(algorithm, key),
        })
    }

    /// The public part.
    pub(super) fn public(&self) -> anyhow::Result<PublicKey> {
        match self {
            Self::Es512(key) => Ok(PublicKey::Es512(key.public())),
            Self::Library(algorithm, key) => Jwk::from_encoding_key(key, *algorithm)
                .and_then(|jwk| DecodingKey::from_jwk(&jwk))
                .map(|key| PublicKey::Library(*algorithm, key))
                .map_err(|why| unusable(Method::Library(*algorithm), &why)),
        }
    }

    /// The signature as a token carries it.
    pub(super) fn sign(&self, message: &str) -> anyhow::Result<String> {
        let message = message.as_bytes();
        Ok(match self {
            Self::Es512(key) => key.sign(message)?,
            Self::Library(algorithm, key) => crypto::sign(message, key, *algorithm)?,
        })
    }
}

#[derive(Clone)]
pub(super) enum PublicKey {
    Es512(es512::PublicKey),
    Library(Algorithm, DecodingKey),
}

impl PublicKey {
    /// A shared secret has no public part.
    pub(super) fn read(method: Method, path: &Path) -> anyhow::Result<Option<Self>> {
        let pem = read(path)?;
        let key = match method.family() {
            AlgorithmFamily::Hmac => return Ok(None),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(&pem),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(&pem),
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(&pem),
        };
        let key = key.map_err(anyhow::Error::from).and_then(|key| Self::of(method, key));
        let what = || format!("{} is no public key for {}", path.display(), method.name());
        key.map(Some).map_err(|why| anyhow!("{} ({why})", what()))
    }

    /// Fails if the key is of another curve.
    fn of(method: Method, key: DecodingKey) -> anyhow::Result<Self> {
        match method {
            Method::Es512 => {
                Ok(Self::Es512(es512::PublicKey::from_point(key.try_get_as_bytes()?)?))
            }
            Method::Library(algorithm) => {
                // That nothing was signed is no error, only a key that does not fit is one.
                crypto::verify("", b"", &key, algorithm)?;
                Ok(Self::Library(algorithm, key))
            }
        }
    }

    pub(super) fn verify(&self, message: &str, signature: &str) -> bool {
        let message = message.as_bytes();
        match self {
            Self::Es512(key) => key.verify(message, signature),
            Self::Library(algorithm, key) => {
                crypto::verify(signature, message, key, *algorithm).unwrap_or(false)
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn unusable(method: Method, why: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("the private key cannot be used with {} ({why})", method.name())
}

fn read_private(method: Method, path: &Path) -> anyhow::Result<EncodingKey> {
    let pem = read(path)?;
    let key = match method.family() {
        AlgorithmFamily::Hmac if pem.is_empty() => bail!("{} is empty", path.display()),
        AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(&pem)),
        AlgorithmFamily::Ec => {
            from_sec1(method, &pem).map_or_else(|| EncodingKey::from_ec_pem(&pem), Ok)
        }
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(&pem),
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(&pem),
    };
    let advice = "make one with `openssl genpkey`, or convert with `openssl pkcs8 -topk8 -nocrypt`";
    key.map_err(|why| {
        anyhow!("{} is no private key for {} ({why}); {advice}", path.display(), method.name())
    })
}

/// A key as `openssl ecparam -genkey` and `openssl ec` write it, which the library does not read.
fn from_sec1(method: Method, pem: &[u8]) -> Option<EncodingKey> {
    let pem = std::str::from_utf8(pem).ok()?;
    let der = match method {
        Method::Library(Algorithm::ES256) => {
            p256::SecretKey::from_sec1_pem(pem).ok()?.to_pkcs8_der()
        }
        Method::Library(_) => p384::SecretKey::from_sec1_pem(pem).ok()?.to_pkcs8_der(),
        Method::Es512 => p521::SecretKey::from_sec1_pem(pem).ok()?.to_pkcs8_der(),
    };
    Some(EncodingKey::from_ec_der(der.ok()?.as_bytes()))
}
