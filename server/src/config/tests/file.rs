//! Config files: etcd's sample, JSON, and every mistake with its line.

use super::*;

fn file_error(text: &str) -> String {
    with_file(text, "--config-file @FILE", "").expect_err(text)
}

#[test]
fn files_as_etcds_sample() {
    let config = file_config(
        "# human-readable\n\
         name: 'n1'\n\
         data-dir:\n\
         wal-dir:\n\
         snapshot-count: 10000\n\
         heartbeat-interval: 200\n\
         election-timeout: 2000\n\
         quota-backend-bytes: 0\n\
         listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\n\
         advertise-client-urls: [http://127.0.0.1:1, http://127.0.0.1:2]\n\
         initial-cluster:\n\
         discovery:\n\
         discovery-fallback: 'exit'\n\
         client-transport-security:\n\
         \x20 cert-file:\n\
         \x20 client-cert-auth: false\n\
         peer-transport-security:\n\
         log-outputs: [stderr]\n\
         grpc-keepalive-min-time: 3000000000\n\
         watch-progress-notify-interval: 5s\n\
         experimental-warning-apply-duration: 2s\n\
         auto-compaction-retention: \"0\"\n\
         socket-options:\n\
         \x20 reuse-address: true\n",
        "",
        "",
    );
    assert_eq!(config.name, "n1");
    assert_eq!(config.heartbeat_interval, Duration::from_millis(200));
    assert_eq!(join(&config.listen_client_urls), "http://127.0.0.1:1,http://127.0.0.1:2");
    assert_eq!(config.advertise_client_urls, config.listen_client_urls);
    assert_eq!(config.grpc_keepalive_min_time, Duration::from_secs(3));
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(config.warning_apply_duration, Duration::from_secs(2));
    assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
    assert_eq!(file_config("", "", "").name, "default");
    assert_eq!(file_config("{\"name\": \"json\", \"max-txn-ops\": 5}", "", "").name, "json");
}

#[test]
fn mistakes_in_the_file_have_a_line() {
    for (text, want) in [
        ("name: a\nnmae: b\n", "1 FILE:2:1: nmae: there is no such key; did you mean name?"),
        ("nmae:\n", "1 FILE:1:1: nmae: there is no such key; did you mean name?"),
        ("name: a\nname: b\n", "1 FILE:2:1: name: was given in line 1 already; keep one of them"),
        (
            "cert-file: x\n",
            "1 FILE:1:1: cert-file: there is no such key; did you mean client-transport-security.cert-file?",
        ),
        (
            "client-transport-security:\n  cert-file: x\n",
            "1 FILE:2:3: client-transport-security.cert-file: needs --key-file, too; add --key-file",
        ),
        (
            "client-transport-security:\n  cret-file: x\n",
            "1 FILE:2:3: client-transport-security.cret-file: there is no such key; did you mean client-transport-security.cert-file?",
        ),
        (
            "name:\n  first: x\n",
            "1 FILE:1:1: name: this key has a value of its own, not keys below it; did you mean name?",
        ),
        (
            "socket-option:\n  reuse-port: true\n",
            "1 FILE:1:1: socket-option: there is no such section; did you mean socket-options?",
        ),
        (
            "nowhere:\n  first: x\n",
            "1 FILE:1:1: nowhere: there is no such section; kvd --help lists the options, whose names are the keys",
        ),
        ("name: [a, b]\n", "1 FILE:1:1: name: must be one value, not a list; write key: value"),
        (
            "max-txn-ops: many\n",
            "1 FILE:1:1: max-txn-ops: must be a whole number, not \"many\"; see kvd --help",
        ),
        (
            "grpc-keepalive-min-time: 5\n",
            "1 FILE:1:1: grpc-keepalive-min-time: a plain number means nanoseconds, as in etcd, and 5 of them are under 1 ms: write 5s or 5ms; correct the value",
        ),
        (
            "config-file: x\n",
            "1 FILE:1:1: config-file: a config file cannot name another one; remove the key",
        ),
        (
            "name: a\n---\nname: b\n",
            "1 FILE:2:1: the file holds more than one YAML document; keep only the first",
        ),
        ("- name\n", "1 FILE:1:1: a list does not belong here; give it a key"),
        ("just text\n", "1 FILE:1:1: the file must hold keys and values; write key: value lines"),
        ("name: &a x\ndata-dir: *a\n", "1 FILE:2:11: aliases are not understood; write it out"),
    ] {
        assert_eq!(file_error(text), want, "{text}");
    }
    let broken = file_error("name: a\n  max: [\n");
    assert!(broken.starts_with("1 FILE:2:"), "{broken}");
}

/// Every file cut short, and every byte of it replaced: an answer, never a panic.
#[test]
fn damaged_files_are_answered() {
    let sample = "name: 'n1'\nlog-outputs: [stderr, /x]\nsocket-options:\n  reuse-port: false\n\
                  # a comment\npeer-transport-security: {cert-file: \"\"}\nmax-txn-ops: 5\n";
    let apply = |text: &str| crate::config::file::apply("x", text, &mut Settings::default()).err();
    assert_eq!(apply(sample), None);
    for at in 0..sample.len() {
        apply(&sample[..at]);
        for replacement in ["\t", ":", "'", "{", "*", "\n", "é"] {
            apply(&format!("{}{replacement}{}", &sample[..at], &sample[at + 1..]));
        }
    }
}
