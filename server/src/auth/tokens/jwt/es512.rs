//! ES512, ECDSA on P-521 with SHA-512: the one method that `jsonwebtoken` does not have.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::{Signer, Verifier};
use p521::ecdsa::{Signature, SigningKey, VerifyingKey};
use p521::pkcs8::DecodePrivateKey as _;

pub(super) struct PrivateKey(SigningKey);

#[derive(Clone)]
pub(super) struct PublicKey(VerifyingKey);

/// A key of another curve, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not on the curve P-521")]
pub(super) struct NotOnCurve;

impl PrivateKey {
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, NotOnCurve> {
        let secret = p521::SecretKey::from_pkcs8_der(der).map_err(|_| NotOnCurve)?;
        SigningKey::from_bytes(&secret.to_bytes()).map(Self).map_err(|_| NotOnCurve)
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(VerifyingKey::from(&self.0))
    }

    /// Both halves of the signature, 66 bytes each, as base64.
    pub(super) fn sign(&self, message: &[u8]) -> Result<String, p521::ecdsa::Error> {
        let signature: Signature = self.0.try_sign(message)?;
        Ok(URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

impl PublicKey {
    /// From the point, as SEC1 writes it.
    pub(super) fn from_point(point: &[u8]) -> Result<Self, NotOnCurve> {
        VerifyingKey::from_sec1_bytes(point).map(Self).map_err(|_| NotOnCurve)
    }

    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        Signature::from_slice(&bytes)
            .is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}
