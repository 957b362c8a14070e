//! Certificates, keys, authorities and lists of revoked ones.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Site;
use crate::config::Url;
use crate::tls::{self, Certificate, KeyPair};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Whoever renews by hand wants to hear of it so long before.
const EXPIRES_SOON: Duration = DAY.saturating_mul(30);

pub(super) fn look(site: &mut Site<'_>, now: SystemTime) {
    let config = site.config;
    let (clients, peers) = (&config.client_tls, &config.peer_tls);
    let before = site.found.problems.len();
    for (cert, key, pair, urls) in [
        ("cert-file", "key-file", &clients.own, &config.advertise_client_urls[..]),
        ("client-cert-file", "client-key-file", &clients.own_as_client, &[]),
        ("peer-cert-file", "peer-key-file", &peers.own, &config.initial_advertise_peer_urls[..]),
        ("peer-client-cert-file", "peer-client-key-file", &peers.own_as_client, &[]),
    ] {
        if let Some(pair) = pair {
            own(site, (cert, key), pair, urls, now);
        }
    }
    for option in ["trusted-ca-file", "peer-trusted-ca-file"] {
        authorities(site, option, now);
    }
    for option in ["client-crl-file", "peer-crl-file"] {
        let read = site.path(option).map(|path| tls::revocations(Path::new(path)));
        if let Some(Err(error)) = read {
            site.problem(option, format!("{error:#}"), "name a list of revoked certificates");
        }
    }
    if site.found.problems.len() == before {
        together(site);
        issued(site);
    }
}

/// A certificate of this member and its key.
fn own(
    site: &mut Site<'_>,
    (cert, key): (&str, &str),
    pair: &KeyPair,
    urls: &[Url],
    now: SystemTime,
) {
    let chain = match tls::certificates(&pair.cert) {
        Ok(chain) => chain,
        Err(error) => {
            site.problem(cert, format!("{error:#}"), "name a readable PEM file");
            return;
        }
    };
    if let Ok(file) = std::fs::metadata(&pair.key)
        && file.mode() & 0o004 != 0
    {
        let what = format!("{} can be read by everybody: chmod 600 it", pair.key.display());
        site.warning(key, what);
    }
    if let Err(error) = tls::check_pair(pair) {
        let remedy = format!("name the PEM file of the key that belongs to --{cert}");
        site.problem(key, format!("{error:#}"), remedy);
    }
    for (at, der) in chain.iter().enumerate() {
        let Some(certificate) = Certificate::read(der) else {
            let why = format!("{} holds something that is no certificate", pair.cert.display());
            site.problem(cert, why, "name a PEM file with certificates only");
            return;
        };
        validity(site, cert, &pair.cert, &certificate, now);
        if at > 0 {
            continue;
        }
        let missing = urls.iter().filter(|url| url.is_tls() && !certificate.is_for(url.host()));
        for url in missing {
            let what = format!(
                "{} is not for {}, which {url} announces: who checks names will not come",
                pair.cert.display(),
                url.host()
            );
            site.warning(cert, what);
        }
    }
}

fn validity(
    site: &mut Site<'_>,
    option: &str,
    path: &Path,
    certificate: &Certificate,
    now: SystemTime,
) {
    let (path, subject) = (path.display(), &certificate.subject);
    if certificate.not_before > now {
        let since = &certificate.not_before_text;
        let why = format!("{path}: the certificate of \"{subject}\" is not valid before {since}");
        site.problem(option, why, "check this machine's clock, or make a new one");
    } else if certificate.not_after < now {
        let until = &certificate.not_after_text;
        let why = format!("{path}: the certificate of \"{subject}\" expired on {until}");
        site.problem(option, why, "renew it; a member that runs reads the new file by itself");
    } else if certificate.not_after < now + EXPIRES_SOON {
        let until = &certificate.not_after_text;
        let what = format!("{path}: the certificate of \"{subject}\" expires on {until}");
        site.warning(option, what);
    }
}

/// Old authorities stay in a bundle for a while, but one must be good.
fn authorities(site: &mut Site<'_>, option: &str, now: SystemTime) {
    let Some(path) = site.path(option).map(Path::new) else { return };
    let all = match tls::certificates(path).and_then(|all| tls::authorities(path).map(|_| all)) {
        Ok(all) => all,
        Err(error) => {
            site.problem(option, format!("{error:#}"), "name a readable PEM file of authorities");
            return;
        }
    };
    let all: Vec<Certificate> = all.iter().filter_map(Certificate::read).collect();
    let good = |one: &Certificate| one.not_before <= now && now <= one.not_after;
    let (good, bad): (Vec<&Certificate>, Vec<&Certificate>) = all.iter().partition(|one| good(one));
    let text = |one: &&Certificate| {
        let Certificate { subject, not_before_text, not_after_text, .. } = one;
        format!("\"{subject}\" is valid from {not_before_text} to {not_after_text} only")
    };
    let what = bad.iter().map(text).collect::<Vec<_>>().join(", ");
    if good.is_empty() {
        let why = format!("{}: no authority is valid now: {what}", path.display());
        site.problem(option, why, "renew it, or check this machine's clock");
    } else if !bad.is_empty() {
        let what = format!("{}: {what}", path.display());
        site.warning(option, what);
    }
    for one in good.iter().filter(|one| one.not_after < now + EXPIRES_SOON) {
        let what = format!("{}: {}", path.display(), text(one));
        site.warning(option, what);
    }
}

/// What a start makes of all files together, for what no single file shows.
fn together(site: &mut Site<'_>) {
    let (clients, peers) = (&site.config.client_tls, &site.config.peer_tls);
    let attempts = [
        ("cert-file", clients.own.is_some().then(|| tls::Acceptor::new("client", clients).err())),
        ("peer-cert-file", peers.own.is_some().then(|| tls::Acceptor::new("member", peers).err())),
        ("peer-trusted-ca-file", {
            let given = peers.trusted_ca.is_some();
            given.then(|| tls::Connector::new(peers).err())
        }),
    ];
    for (option, error) in attempts {
        if let Some(Some(error)) = error {
            site.problem(option, format!("{error:#}"), "correct the file it names");
        }
    }
}

/// Members show each other the same kind of certificate, so this one's must lead to the authority.
fn issued(site: &mut Site<'_>) {
    let peers = &site.config.peer_tls;
    let (Some(own), Some(ca)) = (&peers.own, &peers.trusted_ca) else { return };
    let roots = tls::authorities(ca).map(Arc::new);
    if let (Ok(chain), Ok(roots)) = (tls::certificates(&own.cert), roots)
        && let Err(why) = tls::check_issued(&chain, roots)
    {
        let what = format!(
            "other members will refuse {}, if they have the same {}: {why}",
            own.cert.display(),
            ca.display()
        );
        site.warning("peer-cert-file", what);
    }
}
