//! TLS as operators and clients meet it: what is let in, what is refused and with which words, and
//! certificates that are renewed while the server runs. `TARGET=etcd` runs the same against etcd.

mod clients;
mod members;
mod users;
mod words;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::certs::{Authority, Pair, Subject};
use harness::http::Ask;
use harness::{
    Node, NodeOptions, Target, etcd_is_required, free_port, go_binary, workspace_binary,
};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion};

/// How long a change of a file may take to be noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// A server with an encrypted listener beside the plain one, and an authority.
struct Site {
    dir: tempfile::TempDir,
    ca: Authority,
    server: Pair,
    node: Node,
    secure_port: u16,
}

impl Site {
    /// With a certificate for this machine; `more` gets the directory and gives further flags.
    fn start(more: impl Fn(&Authority, &Path) -> Vec<String>) -> Site {
        Self::start_with(&Subject::default(), more)
    }

    fn start_with(subject: &Subject<'_>, more: impl Fn(&Authority, &Path) -> Vec<String>) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "ca").unwrap();
        let server = ca.issue("server", subject).unwrap();
        let secure_port = free_port();
        let mut options = NodeOptions::new(Target::from_env().unwrap());
        let plain = options.client_port;
        options.args = vec![
            format!(
                "--listen-client-urls=http://127.0.0.1:{plain},https://127.0.0.1:{secure_port}"
            ),
            format!("--cert-file={}", server.cert.display()),
            format!("--key-file={}", server.key.display()),
        ];
        options.args.extend(more(&ca, dir.path()));
        let node = Node::start(options).unwrap_or_else(|error| panic!("{error:#}"));
        Site { dir, ca, server, node, secure_port }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.secure_port)
    }

    /// Runs a client against the encrypted listener: what it says, and whether it succeeded.
    fn ctl(&self, program: &Path, args: &[&str]) -> (bool, String) {
        let output = Command::new(program)
            .arg(format!("--endpoints=https://{}", self.address()))
            .args(args)
            .output()
            .unwrap();
        said(&output)
    }

    fn kvctl(&self, args: &[&str]) -> (bool, String) {
        self.ctl(&kvctl(), args)
    }

    fn cacert(&self) -> String {
        format!("--cacert={}", self.ca.cert.display())
    }

    /// Puts over TLS with the arguments for it, until it works.
    fn wait_for_put(&self, args: &[&str]) {
        let deadline = Instant::now() + NOTICED_WITHIN;
        loop {
            let (ok, said) = self.kvctl(&[&["put", "k", "v"], args].concat());
            if ok {
                return;
            }
            assert!(Instant::now() < deadline, "{said}\n{}", self.node.log_tail());
        }
    }

    fn is_kvd(&self) -> bool {
        self.node.options().target == Target::Kvd
    }

    /// Waits until kvd's log has such a line.
    fn wait_for_log(&self, words: &str) {
        let deadline = Instant::now() + NOTICED_WITHIN;
        while self.is_kvd() && !self.node.log().contains(words) {
            assert!(Instant::now() < deadline, "no {words:?} in\n{}", self.node.log_tail());
            std::thread::yield_now();
        }
    }
}

fn kvctl() -> PathBuf {
    workspace_binary("kvctl").unwrap()
}

fn said(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The flags for a client's own certificate.
fn showing(pair: &Pair) -> [String; 2] {
    [format!("--cert={}", pair.cert.display()), format!("--key={}", pair.key.display())]
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
}

/// What trusts an authority, with some versions of TLS.
fn trusting(
    ca: &Path,
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca) {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
}

/// A client without a certificate.
fn client(ca: &Path, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    Arc::new(trusting(ca, versions).with_no_client_auth())
}

/// A client that shows who it is.
fn client_showing(ca: &Path, pair: &Pair) -> Arc<ClientConfig> {
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let config = trusting(ca, rustls::ALL_VERSIONS);
    Arc::new(config.with_client_auth_cert(certificates(&pair.cert), key).unwrap())
}

fn client_for(name: &str) -> Subject<'_> {
    Subject { common_name: name, hosts: &[], serial: 7, ..Subject::default() }
}

#[test]
fn kvctl_and_etcdctl_speak_tls() {
    let site = Site::start(|_, _| Vec::new());
    let etcdctl = go_binary("etcdctl").ok();
    assert!(etcdctl.is_some() || !etcd_is_required(), "there is no etcdctl");
    for program in [Some(kvctl()), etcdctl].into_iter().flatten() {
        let cacert = site.cacert();
        for trust in [cacert.as_str(), "--insecure-skip-tls-verify"] {
            assert_eq!(site.ctl(&program, &["put", "k", "v", trust]), (true, "OK\n".to_owned()));
        }
        // An address without a scheme is meant as the flags say.
        let output = Command::new(&program)
            .args([&format!("--endpoints={}", site.address()), "get", "k", &cacert])
            .output()
            .unwrap();
        assert_eq!(said(&output), (true, "k\nv\n".to_owned()));
    }
}

#[test]
fn sockets_may_be_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let server = ca.issue("server", &Subject::default()).unwrap();
    let path = dir.path().join("kvd.sock");
    let mut options = NodeOptions::new(Target::from_env().unwrap());
    let plain = options.client_port;
    options.args = vec![
        format!("--listen-client-urls=http://127.0.0.1:{plain},unixs://{}", path.display()),
        format!("--cert-file={}", server.cert.display()),
        format!("--key-file={}", server.key.display()),
    ];
    let _node = Node::start(options).unwrap_or_else(|error| panic!("{error:#}"));
    let put = |scheme: &str, more: &[&str]| {
        let output = Command::new(kvctl())
            .arg(format!("--endpoints={scheme}://{}", path.display()))
            .args(["put", "k", "v"])
            .args(more)
            .output()
            .unwrap();
        said(&output)
    };
    let cacert = format!("--cacert={}", ca.cert.display());
    assert_eq!(put("unixs", &[&cacert]), (true, "OK\n".to_owned()));
    assert!(!put("unix", &[]).0);
}

#[test]
fn pages_are_served_over_tls() {
    let site = Site::start(|_, _| Vec::new());
    let address = site.address();
    let tls = Some(client(&site.ca.cert, rustls::ALL_VERSIONS));
    let mut answer = Ask { tls, ..Ask::get(&address, "/health") }.send().unwrap();
    assert_eq!(answer.text().unwrap(), r#"{"health":"true","reason":""}"#);
}

fn put_with(site: &Site, pair: &Pair) -> (bool, String) {
    let [cert, key] = showing(pair);
    site.kvctl(&["put", "k", "v", &site.cacert(), &cert, &key])
}

#[test]
fn files_that_change_are_read_again() {
    let site = Site::start(|ca, dir| {
        let trusted = dir.join("trusted.pem");
        std::fs::copy(&ca.cert, &trusted).unwrap();
        vec![format!("--trusted-ca-file={}", trusted.display())]
    });
    let old = site.ca.issue("old", &client_for("old")).unwrap();
    assert!(put_with(&site, &old).0);

    // Another authority signs the server's certificate, under the same names.
    let next = Authority::new(site.dir.path(), "next").unwrap();
    next.issue("server", &Subject::default()).unwrap();
    assert!(!put_with(&site, &old).0, "the old authority no longer vouches for the server");
    let cacert = format!("--cacert={}", next.cert.display());
    let [cert, key] = showing(&old);
    site.wait_for_put(&[&cacert, &cert, &key]);

    // etcd reads the authorities at its start only.
    if !site.is_kvd() {
        return;
    }
    let new = next.issue("new", &client_for("new")).unwrap();
    let [new_cert, new_key] = showing(&new);
    assert!(!site.kvctl(&["put", "k", "v", &cacert, &new_cert, &new_key]).0);
    std::fs::copy(&next.cert, site.dir.path().join("trusted.pem")).unwrap();
    site.wait_for_put(&[&cacert, &new_cert, &new_key]);
    assert!(!site.kvctl(&["put", "k", "v", &cacert, &cert, &key]).0, "no longer trusted");

    // What cannot be used changes nothing.
    std::fs::write(&site.server.cert, "not a certificate").unwrap();
    site.wait_for_put(&[&cacert, &new_cert, &new_key]);
    site.wait_for_log("its files changed and cannot be used, so what they were before holds");
}

#[test]
fn versions_and_suites_are_limited() {
    use rustls::version::{TLS12, TLS13};
    let ask = |site: &Site, versions: &[&'static SupportedProtocolVersion]| {
        let address = site.address();
        let tls = Some(client(&site.ca.cert, versions));
        Ask { tls, ..Ask::get(&address, "/version") }.send().is_ok()
    };
    let newest = Site::start(|_, _| vec!["--tls-min-version=TLS1.3".to_owned()]);
    assert!(ask(&newest, &[&TLS13]));
    assert!(!ask(&newest, &[&TLS12]));
    newest.wait_for_log("it does not speak a TLS version that is allowed here");

    let suite = "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let older = Site::start(|_, _| vec!["--tls-max-version=TLS1.2".to_owned(), suite.to_owned()]);
    assert!(ask(&older, &[&TLS12]));
    assert!(!ask(&older, &[&TLS13]));
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| {
        suite.suite() != rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    });
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let address = older.address();
    let other = Ask { tls: Some(Arc::new(config)), ..Ask::get(&address, "/version") };
    assert!(other.send().is_err());
    older.wait_for_log("it has no cipher suite in common with this member");
}

#[test]
fn a_certificate_is_made_if_asked_for() {
    let mut options = NodeOptions::new(Target::from_env().unwrap());
    let (plain, secure) = (options.client_port, free_port());
    options.args = vec![
        "--auto-tls".to_owned(),
        format!("--listen-client-urls=http://127.0.0.1:{plain},https://127.0.0.1:{secure}"),
    ];
    let mut node = Node::start(options).unwrap_or_else(|error| panic!("{error:#}"));
    let cert = node.data_dir().join("fixtures/client/cert.pem");
    let made = std::fs::read(&cert).unwrap();
    let put = || {
        let output = Command::new(kvctl())
            .arg(format!("--endpoints=https://127.0.0.1:{secure}"))
            .args(["put", "k", "v", "--insecure-skip-tls-verify"])
            .output()
            .unwrap();
        said(&output)
    };
    // etcd's is on a curve that the TLS library here does not have.
    if node.options().target == Target::Etcd {
        return;
    }
    assert_eq!(put(), (true, "OK\n".to_owned()));
    node.stop().unwrap();
    node.start_again().unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(std::fs::read(&cert).unwrap(), made, "the same one again");
    assert_eq!(put(), (true, "OK\n".to_owned()));
}
