//! `kvd config check` against files, ports and directories as they really are.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use harness::certs::{Authority, Pair, Subject};

use super::{kvd, text};

/// The exit code, and the lines that are problems and warnings.
fn check(dir: &Path, flags: &[String]) -> (Option<i32>, Vec<String>) {
    let data_dir = format!("--data-dir={}", dir.join("data").display());
    let own = [
        "config",
        "check",
        &data_dir,
        "--listen-client-urls=https://127.0.0.1:0",
        "--advertise-client-urls=https://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:0",
    ];
    let flags: Vec<&str> = own.into_iter().chain(flags.iter().map(String::as_str)).collect();
    let output = kvd(&flags, &[]);
    let said = text(&output.stdout).replace(&dir.display().to_string(), "DIR");
    assert_eq!(text(&output.stderr), "");
    let lines = said.lines().filter(|line| !line.starts_with("note: "));
    (output.status.code(), lines.map(str::to_owned).collect())
}

fn clients(pair: &Pair) -> Vec<String> {
    vec![
        format!("--cert-file={}", pair.cert.display()),
        format!("--key-file={}", pair.key.display()),
    ]
}

fn peers(pair: &Pair, ca: &Path) -> Vec<String> {
    vec![
        format!("--peer-cert-file={}", pair.cert.display()),
        format!("--peer-key-file={}", pair.key.display()),
        format!("--peer-trusted-ca-file={}", ca.display()),
    ]
}

/// The first line must begin so; there is one problem if it is one.
fn first(dir: &Path, flags: &[String], want: &str) {
    let (code, lines) = check(dir, flags);
    assert!(lines.iter().any(|line| line.starts_with(want)), "{want}\n{lines:#?}");
    let problems = lines.iter().filter(|line| line.starts_with("problem: ")).count();
    assert_eq!(problems, usize::from(want.starts_with("problem: ")), "{lines:#?}");
    assert_eq!(code, Some(i32::try_from(problems).unwrap()), "{lines:#?}");
}

#[test]
fn certificates_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let ca = Authority::new(dir, "ca").unwrap();
    let subject = Subject { common_name: "kvd", ..Subject::default() };
    let good = ca.issue("good", &subject).unwrap();
    let expired = ca.issue("expired", &Subject { expired: true, ..subject.clone() }).unwrap();
    let elsewhere = ca.issue("other", &Subject { hosts: &["10.9.8.7"], ..subject }).unwrap();
    let mixed = Pair { cert: good.cert.clone(), key: elsewhere.key.clone() };
    let absent = Pair { cert: dir.join("none.pem"), key: good.key.clone() };
    let no_cert = Pair { cert: good.key.clone(), key: good.key.clone() };
    // Certificates of these tests live for a day.
    first(
        dir,
        &clients(&good),
        "warning: --cert-file: DIR/good.pem: the certificate of \"CN=kvd\" expires on ",
    );
    first(
        dir,
        &clients(&expired),
        "problem: --cert-file: DIR/expired.pem: the certificate of \"CN=kvd\" expired on ",
    );
    first(
        dir,
        &clients(&mixed),
        "problem: --key-file: DIR/other-key.pem is not the key of DIR/good.pem; ",
    );
    first(dir, &clients(&absent), "problem: --cert-file: cannot read DIR/none.pem: No such file");
    first(dir, &clients(&no_cert), "problem: --cert-file: DIR/good-key.pem holds no certificate");
    first(
        dir,
        &clients(&elsewhere),
        "warning: --cert-file: DIR/other.pem is not for 127.0.0.1, which https://127.0.0.1:2379",
    );
    let foreign = Authority::new(dir, "foreign").unwrap();
    let both = |pair: &Pair, ca: &Path| [clients(&good), peers(pair, ca)].concat();
    first(
        dir,
        &both(&good, &foreign.cert),
        "warning: --peer-cert-file: other members will refuse DIR/good.pem, if they have the same \
         DIR/foreign.pem: none of the authorities there has signed it",
    );
    let (code, lines) = check(dir, &both(&good, &ca.cert));
    assert_eq!(code, Some(0));
    assert!(!lines.iter().any(|line| line.contains("refuse")), "{lines:#?}");
    first(dir, &both(&good, &good.key), "problem: --peer-trusted-ca-file: DIR/good-key.pem holds");
    let nobody = format!("--client-crl-file={}", dir.join("none.crl").display());
    let trusted = format!("--trusted-ca-file={}", ca.cert.display());
    let flags = [clients(&good), vec![trusted, nobody]].concat();
    first(dir, &flags, "problem: --client-crl-file: cannot read DIR/none.crl");
    assert!(!dir.join("data").exists(), "a check leaves nothing behind");
}

#[test]
fn directories_and_ports_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let good = Authority::new(dir, "ca").unwrap().issue("good", &Subject::default()).unwrap();
    let with = |flags: &[String]| [clients(&good), flags.to_vec()].concat();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap();
    first(
        dir,
        &with(&[format!("--listen-metrics-urls=http://{address}")]),
        &format!("warning: --listen-metrics-urls: a process listens on {address} now"),
    );
    first(
        dir,
        &with(&["--listen-metrics-urls=unix:///nowhere/sock".into()]),
        "problem: --listen-metrics-urls: no socket can be made in /nowhere (No such file",
    );
    first(
        dir,
        &with(&["--advertise-client-urls=https://no-such-host.invalid:2379".into()]),
        "warning: --advertise-client-urls: no-such-host.invalid cannot be resolved here",
    );
    let etcd = dir.join("etcd");
    fs::create_dir_all(etcd.join("member")).unwrap();
    first(
        dir,
        &with(&[format!("--data-dir={}", etcd.display())]),
        "problem: --data-dir: the data directory DIR/etcd was written by etcd",
    );
    first(
        dir,
        &with(&[format!("--data-dir={}", good.cert.display())]),
        "problem: --data-dir: the data directory DIR/good.pem is not a directory",
    );
    first(
        dir,
        &with(&[format!("--data-dir={}", good.key.join("data").display())]),
        "problem: --data-dir: DIR/good-key.pem is not a directory",
    );
    first(
        dir,
        &with(&[
            "--initial-advertise-peer-urls=http://127.0.0.1:1".into(),
            "--initial-cluster=default=http://127.0.0.1:1,b=http://127.0.0.1:2".into(),
        ]),
        "warning: --initial-cluster: 2 members survive the loss of 0",
    );
}

/// Variables and the file count as for a start, and each mistake is told at its place.
#[test]
fn files_and_variables_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kvd.yaml");
    fs::write(&file, "nmae: a\nmax-txn-ops: x\nkey-file: y\n").unwrap();
    let path = file.to_str().unwrap();
    let variables = [("ETCD_CONFIG_FILE", path), ("KVD_PRE_VOTE", "perhaps")];
    let output = kvd(&["config", "check"], &variables);
    let said = text(&output.stdout).replace(path, "FILE");
    for line in [
        "problem: FILE:2:1: max-txn-ops: must be a whole number, not \"x\"; see kvd --help\n",
        "problem: KVD_PRE_VOTE: must be true or false, not \"perhaps\"; see kvd --help\n",
        "warning: FILE:1:1: nmae: there is no such key; did you mean name?\n",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
}
