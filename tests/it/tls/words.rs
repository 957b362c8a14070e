//! What is said when a connection cannot be secured: kvctl's line, and the server's log.

use std::io::{Read, Write};
use std::net::TcpStream;

use harness::certs::{Authority, Subject};
use harness::http::Ask;

use super::*;

/// Runs kvctl and checks that it fails with such words, in one line.
fn fails(site: &Site, endpoint: &str, args: &[&str], words: &[&str]) {
    let output = Command::new(kvctl())
        .arg(format!("--endpoints={endpoint}"))
        .args(["get", "k"])
        .args(args)
        .output()
        .unwrap();
    let (ok, said) = said(&output);
    assert!(!ok, "{said}");
    for words in words {
        assert!(said.contains(words), "no {words:?} in {said:?}\n{}", site.node.log_tail());
    }
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_server_that_is_not_what_it_should_be() {
    let site = Site::start(|_, _| Vec::new());
    let address = site.address();
    let (secure, plain) = (format!("https://{address}"), site.node.endpoint());
    let stranger = Authority::new(site.dir.path(), "stranger").unwrap();
    let other_ca = format!("--cacert={}", stranger.cert.display());
    let cacert = site.cacert();
    let not_signed = "the server's certificate is not signed by an authority in --cacert";
    fails(&site, &secure, &[&other_ca], &[not_signed]);

    // Plain text to the encrypted port, and the other way round.
    fails(&site, &format!("http://{address}"), &[], &["https://"]);
    site.wait_for_log("it speaks plain text where TLS is expected");
    fails(&site, &plain.replace("http", "https"), &[&cacert], &["http://"]);
    // etcd tells HTTP/1 from HTTP/2 before it tells either from TLS.
    if !site.is_kvd() {
        return;
    }
    let mut told = Ask::get(&address, "/health").send().unwrap();
    assert_eq!(told.status, 400);
    assert_eq!(told.text().unwrap(), "Client sent an HTTP request to an HTTPS server.\n");
    // What is no HTTP/2 would be a broken answer to a gRPC client, and not a server to try later.
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"");
}

/// What probes do, all day long.
#[test]
fn whoever_only_looks_whether_the_port_is_open() {
    let site = Site::start(|_, _| vec!["--log-level=debug".to_owned()]);
    drop(TcpStream::connect(site.address()).unwrap());
    site.wait_for_log("ended its connection without a byte");
    assert!(!site.node.log().contains("plain text where TLS"), "{}", site.node.log_tail());
}

#[test]
fn a_server_with_an_expired_certificate() {
    let site =
        Site::start_with(&Subject { expired: true, ..Subject::default() }, |_, _| Vec::new());
    let secure = format!("https://{}", site.address());
    fails(&site, &secure, &[&site.cacert()], &["the server's certificate has expired"]);
    site.wait_for_log("it says that this side's certificate has expired");
}

#[test]
fn a_server_for_another_host() {
    let site =
        Site::start_with(&Subject { hosts: &["pi.example"], ..Subject::default() }, |_, _| {
            Vec::new()
        });
    let secure = format!("https://{}", site.address());
    let words = ["the server's certificate is for another host", "pi.example"];
    fails(&site, &secure, &[&site.cacert()], &words);
}

#[test]
fn a_client_that_is_refused_is_told_why() {
    let site = Site::start(|ca, _| vec![format!("--trusted-ca-file={}", ca.cert.display())]);
    // etcd cuts the connection before its words arrive.
    if !site.is_kvd() {
        return;
    }
    let secure = format!("https://{}", site.address());
    let cacert = site.cacert();
    let words = "the server asks for a certificate; pass --cert and --key";
    fails(&site, &secure, &[&cacert], &[words]);
    site.wait_for_log("it shows no certificate, and one is required here");
    let stranger = Authority::new(site.dir.path(), "stranger").unwrap();
    let refused = |pair: &Pair, words: &str, logged: &str| {
        let [cert, key] = showing(pair);
        fails(&site, &secure, &[&cacert, &cert, &key], &[words]);
        site.wait_for_log(logged);
    };
    refused(
        &stranger.issue("client", &client_for("c")).unwrap(),
        "the server does not trust the authority of --cert",
        "its certificate is not signed by an authority in the trusted CA file",
    );
    let expired = Subject { expired: true, ..client_for("c") };
    refused(
        &site.ca.issue("client", &expired).unwrap(),
        "the certificate of --cert has expired",
        "its certificate has expired",
    );
}

/// A server that cannot start says which file, and why.
#[test]
fn files_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let one = ca.issue("one", &Subject::default()).unwrap();
    let other = ca.issue("other", &Subject::default()).unwrap();
    let path = |path: &Path| path.display().to_string();
    let none = dir.path().join("none.pem");
    for (cert, key, words) in [
        (path(&none), path(&one.key), "cannot read"),
        (path(&one.key), path(&one.key), "holds no certificate (PEM)"),
        (path(&one.cert), path(&one.cert), "holds no private key (PEM)"),
        (path(&one.cert), path(&other.key), "other-key.pem"),
    ] {
        let mut options = NodeOptions::new(Target::Kvd);
        options.args = vec![format!("--cert-file={cert}"), format!("--key-file={key}")];
        let mut node = Node::prepare(options).unwrap();
        node.spawn().unwrap();
        let status = node.wait_exit(Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(1), "{}", node.log());
        assert!(node.log().contains(words), "no {words:?} in {}", node.log());
        assert!(!node.data_dir().exists(), "the data directory was left alone");
    }
}
