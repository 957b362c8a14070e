//! Certificates as names of users. `TARGET=etcd` runs the same against etcd.

use super::*;

/// A server where `root` has a password, and `alice`, who may read `a`, has none.
fn site() -> Site {
    let site = Site::start(|ca, _| {
        vec!["--client-cert-auth".to_owned(), format!("--trusted-ca-file={}", ca.cert.display())]
    });
    let endpoint = format!("--endpoints={}", site.node.endpoint());
    for command in [
        "put a 1",
        "put b 1",
        "role add reader",
        "role grant-permission reader read a",
        "user add alice --no-password",
        "user grant-role alice reader",
        "user add root:root",
        "user grant-role root root",
        "auth enable",
    ] {
        let args = [endpoint.as_str()].into_iter().chain(command.split(' '));
        let (ok, said) = said(&Command::new(kvctl()).args(args).output().unwrap());
        assert!(ok, "{command}: {said}");
    }
    site
}

fn named(site: &Site, name: &str) -> Pair {
    site.ca.issue(name, &client_for(name)).unwrap()
}

fn run(site: &Site, pair: &Pair, args: &[&str]) -> (bool, String) {
    let [cert, key] = showing(pair);
    let cacert = site.cacert();
    site.kvctl(&[args, &[cacert.as_str(), &cert, &key]].concat())
}

#[test]
fn a_certificate_is_who_it_names() {
    let site = site();
    let alice = named(&site, "alice");
    assert_eq!(run(&site, &alice, &["get", "a"]), (true, "a\n1\n".to_owned()));
    for refused in [&["get", "b"][..], &["put", "a", "2"], &["user", "list"]] {
        let (ok, said) = run(&site, &alice, refused);
        assert!(!ok && said.contains("permission denied"), "{refused:?}: {said}");
    }
    // A token says more than a certificate.
    let as_root = ["--user=root:root", "put", "b", "2"];
    assert_eq!(run(&site, &alice, &as_root), (true, "OK\n".to_owned()));
    // Whoever the members do not know is nobody, and so is whoever shows no certificate.
    let (ok, said) = run(&site, &named(&site, "mallory"), &["get", "a"]);
    assert!(!ok && said.contains("permission denied"), "{said}");
    let endpoint = format!("--endpoints={}", site.node.endpoint());
    let output = Command::new(kvctl()).args([&endpoint, "get", "a"]).output().unwrap();
    let (ok, said) = super::said(&output);
    assert!(!ok && said.contains("user name is empty"), "{said}");
}

/// CVE-2018-16886: whoever calls the gateway is not who its certificate names.
#[test]
fn the_gateway_knows_nobody_by_a_certificate() {
    let site = site();
    let root = named(&site, "root");
    assert!(run(&site, &root, &["put", "a", "2"]).0, "but gRPC does");
    let address = site.address();
    let tls = Some(client_showing(&site.ca.cert, &root));
    let ask = Ask { tls, ..Ask::post(&address, "/v3/kv/range", r#"{"key":"YQ=="}"#) };
    let mut answer = ask.send().unwrap();
    let text = answer.text().unwrap();
    assert_eq!(answer.status, 400, "{text}");
    assert!(text.contains("CommonName of client"), "{text}");
}
