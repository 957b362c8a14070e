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
        ("name: a\nname: b\n", "1 FILE:2:1: name: was given in line 1 already; keep one of them"),
        (
            "client-transport-security:\n  cert-file: x\n",
            "1 FILE:2:3: client-transport-security.cert-file: needs --key-file, too; add --key-file",
        ),
        (
            "name:\n  first: x\n",
            "1 FILE:1:1: name: must be one value, not keys below it; write key: value",
        ),
        (
            "socket-options: 5\n",
            "1 FILE:1:1: socket-options: must hold keys, not a value; write its keys below it, indented",
        ),
        (
            "socket-options: [5]\n",
            "1 FILE:1:1: socket-options: must hold keys, not a value; write its keys below it, indented",
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

/// As etcd does, but it says nothing.
#[test]
fn keys_that_name_nothing_are_passed_over_with_a_warning() {
    for (text, want) in [
        ("nmae: b\n", "FILE:1:1: nmae: there is no such key; did you mean name?"),
        ("nmae:\n", "FILE:1:1: nmae: there is no such key; did you mean name?"),
        ("nmae: b\nnmae: c\n", "FILE:1:1: nmae: there is no such key; did you mean name?"),
        (
            "cert-file: x\n",
            "FILE:1:1: cert-file: there is no such key; did you mean client-transport-security.cert-file?",
        ),
        (
            "client-transport-security:\n  cret-file: x\n",
            "FILE:2:3: client-transport-security.cret-file: there is no such key; did you mean client-transport-security.cert-file?",
        ),
        (
            "socket-option:\n  reuse-port: true\n",
            "FILE:1:1: socket-option: there is no such key; did you mean socket-options?",
        ),
        (
            "nowhere:\n  first: [x, {y: z}]\n  second: {a: b}\nname: n1\n",
            "FILE:1:1: nowhere: there is no such key; kvd --help lists the options, whose names are the keys",
        ),
        (
            "nowhere: [a, {b: c}]\nname: n1\n",
            "FILE:1:1: nowhere: there is no such key; kvd --help lists the options, whose names are the keys",
        ),
    ] {
        let mut settings = Settings::default();
        crate::config::file::apply("FILE", text, &mut settings);
        assert_eq!(settings.warnings, [want], "{text}");
        assert_eq!(settings.problems.len(), text.matches("nmae").count().saturating_sub(1));
        let named = settings.given("name").map(|given| given.text.as_str());
        assert_eq!(named, text.contains("name: n1").then_some("n1"), "{text}");
    }
}

/// What k3s hands to etcd.
#[test]
fn files_of_k3s() {
    let config = file_config(
        "name: node-1\n\
         data-dir: /var/lib/rancher/k3s/server/db/etcd\n\
         listen-client-urls: http://127.0.0.1:2379,http://10.0.0.1:2379\n\
         listen-client-http-urls: http://127.0.0.1:2382\n\
         listen-metrics-urls: http://127.0.0.1:2381\n\
         listen-peer-urls: http://127.0.0.1:2380,http://10.0.0.1:2380\n\
         advertise-client-urls: http://10.0.0.1:2379\n\
         initial-advertise-peer-urls: http://10.0.0.1:2380\n\
         initial-cluster: node-1=http://10.0.0.1:2380\n\
         initial-cluster-state: new\n\
         snapshot-count: 10000\n\
         heartbeat-interval: 500\n\
         election-timeout: 5000\n\
         force-new-cluster: false\n\
         logger: zap\n\
         log-outputs:\n- stderr\n\
         socket-options:\n  reuse-address: true\n  reuse-port: true\n\
         experimental-initial-corrupt-check: true\n\
         experimental-watch-progress-notify-interval: 5000000000\n\
         experimental-snapshot-catch-up-entries: 7\n\
         experimental-peer-skip-client-san-verification: true\n",
        "",
        "",
    );
    assert_eq!(config.election_timeout, Duration::from_secs(5));
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    assert!(config.share_ports && !config.peer_tls.check_address);
    let open = |warning: &String| warning.contains("is open to other machines");
    assert!(config.warnings.iter().all(open), "{:?}", config.warnings);
}

/// Every file cut short, and every byte of it replaced: an answer, never a panic.
#[test]
fn damaged_files_are_answered() {
    let sample = "name: 'n1'\nlog-outputs: [stderr, /x]\nsocket-options:\n  reuse-port: false\n\
                  # a comment\npeer-transport-security: {cert-file: \"\"}\nmax-txn-ops: 5\n";
    let apply = |text: &str| {
        let mut settings = Settings::default();
        crate::config::file::apply("x", text, &mut settings);
        settings.problems
    };
    assert_eq!(apply(sample), []);
    for at in 0..sample.len() {
        apply(&sample[..at]);
        for replacement in ["\t", ":", "'", "{", "*", "\n", "é"] {
            apply(&format!("{}{replacement}{}", &sample[..at], &sample[at + 1..]));
        }
    }
}
