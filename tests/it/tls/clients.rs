//! Clients that have to show a certificate, and which of them are let in.

use super::*;

#[test]
fn who_must_show_a_certificate_is_let_in_with_a_good_one_only() {
    let site = Site::start(|ca, _| {
        vec![
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={}", ca.cert.display()),
            format!("--client-crl-file={}", ca.revoke("list", &[13]).unwrap().display()),
        ]
    });
    let stranger = Authority::new(site.dir.path(), "stranger").unwrap();
    let good = site.ca.issue("good", &client_for("good")).unwrap();
    let (ok, said) = put_with(&site, &good);
    assert!(ok, "{said}");
    let refused = |subject: &Subject<'_>, by: &Authority, words: &str| {
        let (ok, said) = put_with(&site, &by.issue("bad", subject).unwrap());
        assert!(!ok, "{words}: {said}");
        site.wait_for_log(words);
    };
    let revoked = Subject { serial: 13, ..client_for("revoked") };
    refused(&revoked, &site.ca, "its certificate was revoked");
    let expired = Subject { expired: true, ..client_for("late") };
    refused(&expired, &site.ca, "its certificate has expired");
    let words = "its certificate is not signed by an authority in the trusted CA file";
    refused(&client_for("stranger"), &stranger, words);
    let (ok, said) = site.kvctl(&["put", "k", "v", &site.cacert()]);
    assert!(!ok, "{said}");
    site.wait_for_log("it shows no certificate, and one is required here");
    assert!(!site.node.log().contains("counts only for"), "{}", site.node.log_tail());
}

/// As in etcd, an authority is enough for clients to be asked.
#[test]
fn clients_may_have_to_be_for_certain_hosts() {
    let site = Site::start(|ca, _| {
        vec![
            format!("--trusted-ca-file={}", ca.cert.display()),
            "--client-cert-allowed-hostname=here.example,there.example".to_owned(),
        ]
    });
    for (hosts, may) in [(&["there.example"], true), (&["elsewhere.example"], false)] {
        let pair = site.ca.issue("client", &Subject { hosts, ..client_for("c") }).unwrap();
        let (ok, said) = put_with(&site, &pair);
        assert_eq!(ok, may, "{hosts:?}: {said}");
    }
    site.wait_for_log("its certificate is for none of the allowed host names");
}

/// The list counts from the next connection on, also for whoever was here before it named them.
#[test]
fn a_certificate_may_be_revoked_at_any_time() {
    let site = Site::start(|ca, _| {
        vec![
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={}", ca.cert.display()),
            format!("--client-crl-file={}", ca.revoke("list", &[13]).unwrap().display()),
        ]
    });
    let issue = |name: &str, serial: u64| {
        site.ca.issue(name, &Subject { serial, ..client_for(name) }).unwrap()
    };
    let (lost, kept) = (issue("lost", 21), issue("kept", 22));
    let address = site.address();
    // What it keeps of one connection would make the next one shorter.
    let tls = client_showing(&site.ca.cert, &lost);
    let asks = || {
        let ask = Ask { tls: Some(tls.clone()), ..Ask::get(&address, "/health") };
        ask.send().is_ok_and(|answer| answer.status == 200)
    };
    for _ in 0..2 {
        assert!(asks(), "{}", site.node.log_tail());
        let (ok, said) = put_with(&site, &lost);
        assert!(ok, "{said}");
    }

    site.ca.revoke("list", &[13, 21]).unwrap();
    assert!(!asks(), "it is let in as it was before");
    let (ok, said) = put_with(&site, &lost);
    assert!(!ok, "{said}");
    site.wait_for_log("its certificate was revoked");
    let (ok, said) = put_with(&site, &kept);
    assert!(ok, "{said}");

    // Half a list is none, and the whole one before it holds.
    if site.is_kvd() {
        std::fs::write(site.dir.path().join("list.crl"), "half").unwrap();
        assert!(!put_with(&site, &lost).0);
        site.wait_for_log("its files changed and cannot be used, so what they were before holds");
        let (ok, said) = put_with(&site, &kept);
        assert!(ok, "{said}");
    }
    site.ca.revoke("list", &[]).unwrap();
    let (ok, said) = put_with(&site, &lost);
    assert!(ok, "{said}");
}

/// etcd has this in its file only.
#[test]
fn clients_may_have_to_have_certain_names() {
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let site = Site::start(|ca, _| {
        vec![
            format!("--trusted-ca-file={}", ca.cert.display()),
            "--client-cert-allowed-cn=reader,writer".to_owned(),
        ]
    });
    for (name, may) in [("reader", true), ("writer", true), ("Writer", false), ("read", false)] {
        let (ok, said) = put_with(&site, &site.ca.issue("client", &client_for(name)).unwrap());
        assert_eq!(ok, may, "{name}: {said}");
        if !may {
            let cause =
                format!("its certificate's common name \"{name}\" is not among the allowed ones");
            site.wait_for_log(&cause);
        }
    }
    // A host of that name is somebody else.
    let subject = Subject { hosts: &["reader"], ..client_for("") };
    assert!(!put_with(&site, &site.ca.issue("client", &subject).unwrap()).0);
    site.wait_for_log("its certificate's common name \"\" is not among the allowed ones");
}

/// It may be meant for an authority between, or be the wrong file.
#[test]
fn a_list_of_nobody_who_is_trusted_is_named() {
    let site = Site::start(|ca, dir| {
        let stranger = Authority::new(dir, "stranger").unwrap();
        vec![
            format!("--trusted-ca-file={}", ca.cert.display()),
            format!("--client-crl-file={}", stranger.revoke("list", &[13]).unwrap().display()),
        ]
    });
    site.wait_for_log("list.crl: its list of CN=stranger counts only for certificates of that");
    let good = site.ca.issue("good", &client_for("good")).unwrap();
    assert!(put_with(&site, &good).0);
}
