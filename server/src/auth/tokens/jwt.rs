//! JSON web tokens: user and auth revision, signed. Nobody remembers them: they hold until they
//! expire, or until users and roles change, which makes their revision an old one.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use p256::pkcs8::EncodePrivateKey as _;
use proto::internal::Caller;
use serde::{Deserialize, Serialize};

pub struct Jwt {
    method: Algorithm,
    /// `None`: tokens come from elsewhere and are only checked.
    private: Option<EncodingKey>,
    public: DecodingKey,
    rules: Validation,
    ttl: Duration,
}

#[derive(Serialize)]
struct Claims<'a> {
    username: &'a str,
    revision: u64,
    exp: u64,
}

/// Go reads every number as one with a fraction.
#[derive(Deserialize)]
struct Claimed {
    username: String,
    revision: f64,
}

/// There are public keys only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOnly;

impl Jwt {
    pub(super) fn new(
        method: &str,
        (public, private): (Option<&Path>, Option<&Path>),
        ttl: Duration,
    ) -> anyhow::Result<Self> {
        let algorithm: Algorithm = match method {
            "ES512" => bail!("sign-method ES512 is not supported; ES256 and ES384 are"),
            method => method.parse().map_err(|_| anyhow!("there is no sign-method {method:?}"))?,
        };
        let private = private.map(|path| private_key(algorithm, path)).transpose()?;
        let public = public.map(|path| public_key(algorithm, path)).transpose()?.flatten();
        let derived = private.as_ref().map(|key| derive(algorithm, key)).transpose()?;
        let Some(verifying) = derived.or_else(|| public.clone()) else {
            bail!("sign-method {method} needs a key: priv-key=, or pub-key= to check tokens only");
        };
        let mut rules = Validation::new(algorithm);
        // As etcd's library: what is there has to be right, and nothing has to be there.
        rules.required_spec_claims.clear();
        rules.leeway = 0;
        rules.validate_nbf = true;
        rules.validate_aud = false;
        let jwt = Self { method: algorithm, private, public: verifying, rules, ttl };
        if let (Some(public), Some(_)) = (public, &jwt.private) {
            jwt.check_pair(public)?;
        }
        Ok(jwt)
    }

    /// What one key signs the other must know.
    fn check_pair(&self, public: DecodingKey) -> anyhow::Result<()> {
        let token = self.sign("", 0).map_err(|_| anyhow!("the private key cannot sign"))?;
        match jsonwebtoken::decode::<Claimed>(&token, &public, &self.rules) {
            Ok(_) => Ok(()),
            Err(_) => bail!("pub-key= and priv-key= do not belong together"),
        }
    }

    pub fn sign(&self, user: &str, revision: u64) -> Result<String, VerifyOnly> {
        let private = self.private.as_ref().ok_or(VerifyOnly)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims { username: user, revision, exp: (now + self.ttl).as_secs() };
        let signed = jsonwebtoken::encode(&Header::new(self.method), &claims, private);
        Ok(signed.expect("the key was tried at the start"))
    }

    pub(super) fn caller(&self, token: &str) -> Option<Caller> {
        let decoded = jsonwebtoken::decode::<Claimed>(token, &self.public, &self.rules);
        let Claimed { username, revision } = match decoded {
            Ok(decoded) => decoded.claims,
            Err(error) => {
                tracing::debug!("a token was refused: {error}");
                return None;
            }
        };
        Some(Caller { user: username, auth_revision: revision as u64 })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn is_of(algorithm: Algorithm, letters: &str) -> bool {
    format!("{algorithm:?}").starts_with(letters)
}

fn private_key(algorithm: Algorithm, path: &Path) -> anyhow::Result<EncodingKey> {
    let pem = read(path)?;
    let key = if is_of(algorithm, "HS") {
        if pem.is_empty() {
            bail!("{} is empty", path.display());
        }
        Ok(EncodingKey::from_secret(&pem))
    } else if is_of(algorithm, "ES") {
        from_sec1(algorithm, &pem).map_or_else(|| EncodingKey::from_ec_pem(&pem), Ok)
    } else if is_of(algorithm, "Ed") {
        EncodingKey::from_ed_pem(&pem)
    } else {
        EncodingKey::from_rsa_pem(&pem)
    };
    let advice = "make one with `openssl genpkey`, or convert with `openssl pkcs8 -topk8 -nocrypt`";
    key.map_err(|error| {
        anyhow!("{} is no private key for {algorithm:?} ({error}); {advice}", path.display())
    })
}

/// A key as `openssl ecparam -genkey` and `openssl ec` write it, which the library does not read.
fn from_sec1(algorithm: Algorithm, pem: &[u8]) -> Option<EncodingKey> {
    let pem = std::str::from_utf8(pem).ok()?;
    let der = match algorithm {
        Algorithm::ES256 => p256::SecretKey::from_sec1_pem(pem).ok()?.to_pkcs8_der(),
        _ => p384::SecretKey::from_sec1_pem(pem).ok()?.to_pkcs8_der(),
    };
    Some(EncodingKey::from_ec_der(der.ok()?.as_bytes()))
}

/// A shared secret has no public part.
fn public_key(algorithm: Algorithm, path: &Path) -> anyhow::Result<Option<DecodingKey>> {
    let pem = read(path)?;
    let key = if is_of(algorithm, "HS") {
        return Ok(None);
    } else if is_of(algorithm, "ES") {
        DecodingKey::from_ec_pem(&pem)
    } else if is_of(algorithm, "Ed") {
        DecodingKey::from_ed_pem(&pem)
    } else {
        DecodingKey::from_rsa_pem(&pem)
    };
    let what = |error| anyhow!("{} is no public key for {algorithm:?} ({error})", path.display());
    key.map(Some).map_err(what)
}

/// The public part of a private key.
fn derive(algorithm: Algorithm, key: &EncodingKey) -> anyhow::Result<DecodingKey> {
    let public = Jwk::from_encoding_key(key, algorithm).and_then(|jwk| DecodingKey::from_jwk(&jwk));
    public.map_err(|error| anyhow!("the private key cannot be used with {algorithm:?} ({error})"))
}
