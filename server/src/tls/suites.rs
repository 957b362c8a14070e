//! Cipher suites by the names that etcd's options use.

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, SupportedCipherSuite};

/// What etcd's list may name and is not offered here: suites without forward secrecy, or with block
/// chaining, which no client needs any more.
const NEVER: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Go's name of a suite.
fn name(suite: &SupportedCipherSuite) -> &'static str {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().expect("the library names what it offers"),
    }
}

/// Whether a configured name means this suite. Go has two names for those with ChaCha20.
fn is_named(suite: &SupportedCipherSuite, configured: &str) -> bool {
    let name = name(suite);
    name == configured || name.strip_suffix("_SHA256") == Some(configured)
}

/// What is wrong with a configured list, or what will not be offered of it.
pub fn check_suites(configured: &[String]) -> Result<Option<String>, String> {
    let offered =
        |wanted: &String| ring::ALL_CIPHER_SUITES.iter().any(|suite| is_named(suite, wanted));
    let (known, others): (Vec<&String>, Vec<&String>) =
        configured.iter().partition(|wanted| offered(wanted));
    if let Some(unknown) = others.iter().find(|name| !NEVER.contains(&name.as_str())) {
        return Err(format!("\"{unknown}\" is not the name of a cipher suite"));
    }
    let not_offered = others.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    match (known.is_empty(), others.is_empty()) {
        (true, false) => Err(format!("none of {not_offered} is safe enough to be offered")),
        (false, false) => Ok(Some(format!("{not_offered}: not safe enough, so not offered"))),
        _ => Ok(None),
    }
}

/// The library with these suites. As in Go, a list says nothing about those of TLS 1.3, which are
/// all safe.
pub fn provider(configured: &[String]) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !configured.is_empty() {
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || configured.iter().any(|wanted| is_named(suite, wanted))
        });
    }
    provider
}
