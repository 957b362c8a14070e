//! What the options say about TLS, and whether it fits the URLs.

use std::path::PathBuf;

use super::build::words;
use super::settings::Settings;
use super::{Config, Error, Url, value};
use crate::tls::{self, KeyPair, Version, check_suites};

pub(super) fn client_tls(s: &Settings) -> Result<tls::Settings, Error> {
    let own = key_pair(s, "cert-file", "key-file")?;
    Ok(tls::Settings {
        own_as_client: key_pair(s, "client-cert-file", "client-key-file")?,
        self_signed_years: self_signed(s, "auto-tls", own.is_some())?,
        own,
        trusted_ca: path(s, "trusted-ca-file"),
        client_cert_auth: s.parse("client-cert-auth", value::boolean)?,
        crl: path(s, "client-crl-file"),
        allowed_cns: words(s, "client-cert-allowed-cn"),
        allowed_hostnames: words(s, "client-cert-allowed-hostname"),
        ..both(s)?
    })
}

pub(super) fn peer_tls(s: &Settings) -> Result<tls::Settings, Error> {
    let own = key_pair(s, "peer-cert-file", "peer-key-file")?;
    Ok(tls::Settings {
        own_as_client: key_pair(s, "peer-client-cert-file", "peer-client-key-file")?,
        self_signed_years: self_signed(s, "peer-auto-tls", own.is_some())?,
        own,
        trusted_ca: path(s, "peer-trusted-ca-file"),
        client_cert_auth: s.parse("peer-client-cert-auth", value::boolean)?,
        crl: path(s, "peer-crl-file"),
        allowed_cns: words(s, "peer-cert-allowed-cn"),
        allowed_hostnames: words(s, "peer-cert-allowed-hostname"),
        check_address: !s.parse("peer-skip-client-san-verification", value::boolean)?,
        ..both(s)?
    })
}

/// What holds for clients and members alike.
fn both(s: &Settings) -> Result<tls::Settings, Error> {
    let version = |name, default| match s.text(name) {
        "TLS1.2" => Version::Tls12,
        "TLS1.3" => Version::Tls13,
        _ => default,
    };
    Ok(tls::Settings {
        cipher_suites: words(s, "cipher-suites"),
        min_version: version("tls-min-version", Version::Tls12),
        max_version: version("tls-max-version", Version::Tls13),
        ..tls::Settings::default()
    })
}

fn path(s: &Settings, name: &str) -> Option<PathBuf> {
    Some(s.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn key_pair(s: &Settings, cert: &str, key: &str) -> Result<Option<KeyPair>, Error> {
    match (path(s, cert), path(s, key)) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(KeyPair { cert, key })),
        (given, _) => {
            let (given, missing) = if given.is_some() { (cert, key) } else { (key, cert) };
            let why = format!("needs --{missing}, too");
            Err(s.error(given, why, format!("add --{missing}")))
        }
    }
}

/// Certificates that are given win, as in etcd.
fn self_signed(s: &Settings, name: &str, given: bool) -> Result<Option<u32>, Error> {
    let wanted = s.parse(name, value::boolean)? && !given;
    let years = s.parse("self-signed-cert-validity", |text| value::integer(text, 1, 1000))?;
    Ok(wanted.then_some(years as u32))
}

/// That what is to be encrypted can be, and who is asked for certificates can be checked.
pub(super) fn check(s: &Settings, config: &Config) -> Result<(), Error> {
    let Config { client_tls, peer_tls, .. } = config;
    let listeners = [
        ("listen-client-urls", &config.listen_client_urls, client_tls, "cert-file", "key-file"),
        (
            "listen-client-http-urls",
            &config.http.listen_client_http_urls,
            client_tls,
            "cert-file",
            "key-file",
        ),
        (
            "listen-metrics-urls",
            &config.http.listen_metrics_urls,
            client_tls,
            "cert-file",
            "key-file",
        ),
        ("listen-peer-urls", &config.listen_peer_urls, peer_tls, "peer-cert-file", "peer-key-file"),
    ];
    for (name, urls, tls, cert, key) in listeners {
        if let Some(url) = urls.iter().find(|url| url.is_tls() && !tls.can_serve()) {
            let why = format!("{url} needs a certificate");
            return Err(s.error(name, why, format!("add --{cert} and --{key}")));
        }
    }
    for (tls, auth, ca, cert) in [
        (client_tls, "client-cert-auth", "trusted-ca-file", "cert-file"),
        (peer_tls, "peer-client-cert-auth", "peer-trusted-ca-file", "peer-cert-file"),
    ] {
        if tls.client_cert_auth && tls.trusted_ca.is_none() && tls.can_serve() {
            let why = "needs an authority to check certificates by";
            return Err(s.error(auth, why, format!("add --{ca}")));
        }
        if tls.client_cert_auth && !tls.can_serve() {
            let why = "needs TLS: over plain text there are no certificates";
            return Err(s.error(auth, why, format!("add --{cert}, its key, and https:// URLs")));
        }
    }
    let calls_over_tls = config.initial_advertise_peer_urls.iter().any(Url::is_tls);
    if calls_over_tls && peer_tls.trusted_ca.is_none() && peer_tls.self_signed_years.is_none() {
        let why = "members are reached over TLS, and there is no authority to check theirs by";
        return Err(s.error("initial-advertise-peer-urls", why, "add --peer-trusted-ca-file"));
    }
    for (tls, cn, hostname) in [
        (client_tls, "client-cert-allowed-cn", "client-cert-allowed-hostname"),
        (peer_tls, "peer-cert-allowed-cn", "peer-cert-allowed-hostname"),
    ] {
        if !tls.allowed_cns.is_empty() && !tls.allowed_hostnames.is_empty() {
            let why = format!("cannot be combined with --{hostname}");
            return Err(s.error(cn, why, "keep one of them"));
        }
    }
    who_may_come(s, client_tls, &CLIENTS)?;
    who_may_come(s, peer_tls, &MEMBERS)?;
    versions(s, client_tls)
}

/// Options that say which of the certificates that are shown are good enough, and what has them
/// shown.
struct WhoMayCome {
    cns: &'static str,
    hostnames: &'static str,
    crl: &'static str,
    ca: &'static str,
    cert: &'static str,
}

const CLIENTS: WhoMayCome = WhoMayCome {
    cns: "client-cert-allowed-cn",
    hostnames: "client-cert-allowed-hostname",
    crl: "client-crl-file",
    ca: "trusted-ca-file",
    cert: "cert-file",
};
const MEMBERS: WhoMayCome = WhoMayCome {
    cns: "peer-cert-allowed-cn",
    hostnames: "peer-cert-allowed-hostname",
    crl: "peer-crl-file",
    ca: "peer-trusted-ca-file",
    cert: "peer-cert-file",
};

/// Whoever wants to keep somebody out must not let everybody in.
fn who_may_come(s: &Settings, tls: &tls::Settings, options: &WhoMayCome) -> Result<(), Error> {
    let given = [
        (options.cns, !tls.allowed_cns.is_empty()),
        (options.hostnames, !tls.allowed_hostnames.is_empty()),
        (options.crl, tls.crl.is_some()),
    ];
    let Some((name, _)) = given.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let WhoMayCome { ca, cert, .. } = options;
    if !tls.can_serve() {
        let why = "needs TLS: over plain text there are no certificates, and everybody is let in";
        return Err(s.error(name, why, format!("add --{cert}, its key, and https:// URLs")));
    }
    if tls.trusted_ca.is_none() {
        let why = format!("needs --{ca}: without it nobody has to show a certificate");
        return Err(s.error(name, why, format!("add --{ca}")));
    }
    Ok(())
}

fn versions(s: &Settings, tls: &tls::Settings) -> Result<(), Error> {
    if tls.min_version > tls.max_version {
        let why = "is newer than --tls-max-version";
        return Err(s.error("tls-min-version", why, "correct one of them"));
    }
    if tls.min_version == Version::Tls13 && !tls.cipher_suites.is_empty() {
        let why = "chooses among suites of TLS 1.2, which --tls-min-version does not allow";
        return Err(s.error("cipher-suites", why, "remove one of them"));
    }
    check_suites(&tls.cipher_suites)
        .map(drop)
        .map_err(|why| s.error("cipher-suites", why, "see kvd --help"))
}

/// What works but should not go unnoticed.
pub(super) fn warn(warnings: &mut Vec<String>, config: &Config) {
    let Config { client_tls, peer_tls, .. } = config;
    if let Ok(Some(warning)) = check_suites(&client_tls.cipher_suites) {
        warnings.push(format!("--cipher-suites: {warning}"));
    }
    let of = [(&config.listen_client_urls, client_tls), (&config.listen_peer_urls, peer_tls)];
    for (urls, tls) in of {
        for url in urls {
            if tls.own.is_some() && !url.is_tls() {
                warnings.push(format!("{url} is not encrypted: the certificate is not used there"));
            }
            let open = url.listen_address().is_some_and(|address| !address.ip().is_loopback());
            if open && !url.is_tls() {
                warnings.push(format!(
                    "{url} is open to other machines, without encryption or passwords"
                ));
            }
        }
    }
}
