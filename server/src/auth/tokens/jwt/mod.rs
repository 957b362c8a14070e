//! JSON web tokens: user and auth revision, signed. Nobody remembers them: they hold until they
//! expire, or until users and roles change, which makes their revision an old one.
//!
//! What a token must say is checked here, the same for every method; the keys only sign and verify.

mod es512;
mod keys;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::internal::Caller;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use keys::{Method, PrivateKey, PublicKey};

pub struct Jwt {
    /// The method's name.
    alg: String,
    /// `None`: tokens come from elsewhere and are only checked.
    private: Option<PrivateKey>,
    public: PublicKey,
    ttl: Duration,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    username: &'a str,
    revision: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct ClaimedHeader {
    alg: String,
}

/// Go reads every number as one with a fraction. As etcd's library: a time that is there has to be
/// right, none has to be there, and 0 is none.
#[derive(Debug, PartialEq, Deserialize)]
struct Claimed {
    username: String,
    revision: f64,
    #[serde(default)]
    exp: f64,
    #[serde(default)]
    nbf: f64,
}

/// There are public keys only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOnly;

impl Jwt {
    pub(super) fn new(
        alg: &str,
        (public, private): (Option<&Path>, Option<&Path>),
        ttl: Duration,
    ) -> anyhow::Result<Self> {
        let method: Method = alg.parse()?;
        let private = private.map(|path| PrivateKey::read(method, path)).transpose()?;
        let public = public.map(|path| PublicKey::read(method, path)).transpose()?.flatten();
        let derived = private.as_ref().map(PrivateKey::public).transpose()?;
        if let (Some(private), Some(derived)) = (&private, &derived) {
            check_pair(private, public.as_ref().unwrap_or(derived))?;
        }
        let Some(public) = derived.or(public) else {
            bail!("sign-method {alg} needs a key: priv-key=, or pub-key= to check tokens only");
        };
        Ok(Self { alg: method.name(), private, public, ttl })
    }

    pub fn sign(&self, user: &str, revision: u64) -> Result<String, VerifyOnly> {
        let private = self.private.as_ref().ok_or(VerifyOnly)?;
        let exp = (since_epoch() + self.ttl).as_secs();
        let claims = Claims { username: user, revision, exp };
        Ok(signed(&Header { alg: &self.alg, typ: "JWT" }, &claims, private)
            .expect("the key was tried at the start"))
    }

    pub(super) fn caller(&self, token: &str) -> Option<Caller> {
        match self.check(token, since_epoch().as_secs()) {
            Ok(Claimed { username, revision, .. }) => {
                Some(Caller { user: username, auth_revision: revision as u64 })
            }
            Err(why) => {
                tracing::debug!("a token was refused: {why}");
                None
            }
        }
    }

    /// The claims of a token that holds at `now`, in seconds since the epoch.
    fn check(&self, token: &str, now: u64) -> Result<Claimed, &'static str> {
        let parts = token.rsplit_once('.').and_then(|(message, signature)| {
            message.split_once('.').map(|(header, claims)| (message, header, claims, signature))
        });
        let (message, header, claims, signature) = parts.ok_or("it has not three parts")?;
        let header: ClaimedHeader = decoded(header).ok_or("its header cannot be read")?;
        // Never the token's choice: a public key must not be taken for a shared secret.
        if header.alg != self.alg {
            return Err("it is signed with another method");
        }
        if !self.public.verify(message, signature) {
            return Err("its signature is wrong");
        }
        let claims: Claimed = decoded(claims).ok_or("its claims cannot be read")?;
        let now = now as f64;
        if claims.exp != 0.0 && now >= claims.exp.floor() {
            return Err("it has expired");
        }
        if claims.nbf != 0.0 && now < claims.nbf.floor() {
            return Err("it does not hold yet");
        }
        Ok(claims)
    }
}

/// What one key signs the other must know.
fn check_pair(private: &PrivateKey, public: &PublicKey) -> anyhow::Result<()> {
    let Ok(signature) = private.sign("pair") else { bail!("the private key cannot sign") };
    if !public.verify("pair", &signature) {
        bail!("pub-key= and priv-key= do not belong together");
    }
    Ok(())
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn signed(
    header: &impl Serialize,
    claims: &impl Serialize,
    key: &PrivateKey,
) -> anyhow::Result<String> {
    let [header, claims] = [serde_json::to_vec(header)?, serde_json::to_vec(claims)?]
        .map(|json| URL_SAFE_NO_PAD.encode(json));
    let message = format!("{header}.{claims}");
    let signature = key.sign(&message)?;
    Ok(format!("{message}.{signature}"))
}

fn decoded<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
