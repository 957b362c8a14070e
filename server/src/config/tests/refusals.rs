//! What is refused, with the exact words: a wrong usage exits with 2, the rest with 1.

use super::*;

#[test]
fn wrong_command_lines_exit_with_2() {
    for (args, want) in [
        ("--nmae x", "2 --nmae: there is no such option; did you mean --name?"),
        (
            "--listen-client-url x",
            "2 --listen-client-url: there is no such option; did you mean --listen-client-urls?",
        ),
        ("--gibberish", "2 --gibberish: there is no such option; kvd --help lists them all"),
        ("--name", "2 --name: needs a value; write --name=..."),
        ("--pre-vote false", "2 \"false\": kvd takes options only; write --pre-vote=false"),
        ("--pre-vote=maybe", "2 --pre-vote: must be true or false, not \"maybe\"; see kvd --help"),
        ("start", "2 \"start\": kvd takes options only; options start with --, see kvd --help"),
        ("--max-txn-ops x", "2 --max-txn-ops: must be a whole number, not \"x\"; see kvd --help"),
        (
            "--max-txn-ops 0",
            "2 --max-txn-ops: must be between 1 and 2147483647, not 0; see kvd --help",
        ),
        (
            "--grpc-keepalive-min-time 5",
            "2 --grpc-keepalive-min-time: needs a unit, as in 5s or 5ms; see kvd --help",
        ),
        ("--snapshot-count -1", "2 --snapshot-count: must be at least 0, not -1; see kvd --help"),
        (
            "--log-level loud",
            "2 --log-level: must be one of debug, info, warn, error, panic, fatal, not \"loud\"; see kvd --help",
        ),
        (
            "--feature-gates InitialCorrupCheck=true",
            "2 --feature-gates: there is no gate \"InitialCorrupCheck\", did you mean InitialCorruptCheck?; see kvd --help",
        ),
        (
            "--quota-backend-bytes 8XB",
            "2 --quota-backend-bytes: must be a number of bytes like 67108864 or 64MiB, not \"8XB\"; see kvd --help",
        ),
    ] {
        assert_eq!(error(args, ""), want);
    }
    let text = error("", "ETCD_PRE_VOTE=maybe");
    assert_eq!(text, "1 ETCD_PRE_VOTE: must be true or false, not \"maybe\"; see kvd --help");
}

/// One option under its old and its new name: which of them is meant?
#[test]
fn old_names_are_not_given_beside_the_new_ones() {
    let twice = "--experimental-corrupt-check-time: is the old name of --corrupt-check-time, which \
                 is given as well; keep --corrupt-check-time only";
    for args in [
        "--experimental-corrupt-check-time=5m --corrupt-check-time=7m",
        "--corrupt-check-time=7m --experimental-corrupt-check-time=5m",
    ] {
        assert_eq!(error(args, ""), format!("1 {twice}"));
    }
    let variables = "ETCD_MAX_LEARNERS=1 ETCD_EXPERIMENTAL_MAX_LEARNERS=1";
    let twice = "1 ETCD_EXPERIMENTAL_MAX_LEARNERS: is the old name of ETCD_MAX_LEARNERS, which is \
                 given as well; keep ETCD_MAX_LEARNERS only";
    assert_eq!(error("", variables), twice);
    // From two sources, the stronger one wins.
    let config = config("--max-learners=3", "ETCD_EXPERIMENTAL_MAX_LEARNERS=2");
    assert_eq!(config.max_learners, 3);
    let gate = "--experimental-initial-corrupt-check";
    assert_eq!(
        error(&format!("{gate} --feature-gates=InitialCorruptCheck=true"), ""),
        format!(
            "1 {gate}: is the old name of the gate InitialCorruptCheck, which --feature-gates \
             switches; leave the flag out"
        )
    );
}

/// What would change security or durability is never ignored.
#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (args, variables, want) in [
        (
            "--auth-token jwt,pub-key=k",
            "",
            "2 --auth-token: needs sign-method=, as in jwt,sign-method=RS256,priv-key=FILE; \
             correct --auth-token",
        ),
        (
            "--auto-compaction-retention soon",
            "",
            "2 --auto-compaction-retention: must be a duration like 5s, 100ms or 1h30m, not \"soon\"; correct --auto-compaction-retention",
        ),
        (
            "--auto-compaction-mode= --auto-compaction-retention 1",
            "",
            "2 --auto-compaction-retention: needs --auto-compaction-mode=periodic or revision; correct --auto-compaction-retention",
        ),
        (
            "--auto-compaction-mode revision --auto-compaction-retention 1h",
            "",
            "2 --auto-compaction-retention: must be a number of revisions, not \"1h\"; correct --auto-compaction-retention",
        ),
        (
            "--force-new-cluster",
            "",
            "1 --force-new-cluster: cutting a cluster down to one member is not supported; save a snapshot of a member that runs (kvctl snapshot save), or take the newest one, restore it to a new data directory (kvutl snapshot restore), start that as a cluster of one and add the others",
        ),
        (
            "--wal-dir /x",
            "",
            "1 --wal-dir: a log outside the data directory is not supported; mount the faster disk at --data-dir: nearly all that is written there is the log",
        ),
        (
            "--compact-hash-check-time 0s",
            "",
            "2 --compact-hash-check-time: must be above 0, not 0s; correct --compact-hash-check-time",
        ),
    ] {
        assert_eq!(error(args, variables), want);
    }
    // Their defaults, spelled out, change nothing.
    let defaults = "--client-cert-auth=false --auto-tls=f --cert-file= --cors=* --metrics=basic \
                    --auth-token=simple --tls-min-version=TLS1.2 --auto-compaction-retention=0 \
                    --corrupt-check-time=0s --discovery-dial-timeout=2000ms --proxy=off";
    assert!(config(defaults, "").notes.is_empty());
}

#[test]
fn whoever_is_to_be_kept_out_is_asked_for_a_certificate() {
    for (args, want) in [
        (
            "--client-cert-allowed-cn a",
            "--client-cert-allowed-cn: needs TLS: over plain text there are no certificates, and everybody is let in; add --cert-file, its key, and https:// URLs",
        ),
        (
            "--client-cert-allowed-hostname a --cert-file c --key-file k",
            "--client-cert-allowed-hostname: needs --trusted-ca-file: without it nobody has to show a certificate; add --trusted-ca-file",
        ),
        (
            "--client-crl-file a --auto-tls",
            "--client-crl-file: needs --trusted-ca-file: without it nobody has to show a certificate; add --trusted-ca-file",
        ),
        (
            "--peer-cert-allowed-cn a --peer-auto-tls",
            "--peer-cert-allowed-cn: needs --peer-trusted-ca-file: without it nobody has to show a certificate; add --peer-trusted-ca-file",
        ),
        (
            "--peer-crl-file a --peer-trusted-ca-file c",
            "--peer-crl-file: needs TLS: over plain text there are no certificates, and everybody is let in; add --peer-cert-file, its key, and https:// URLs",
        ),
    ] {
        assert!(error(args, "").ends_with(want), "{}", error(args, ""));
    }
    let enough = "--cert-file c --key-file k --trusted-ca-file a";
    config(&format!("--client-crl-file l --client-cert-allowed-cn n {enough}"), "");
}

#[test]
fn what_is_encrypted_has_all_it_needs() {
    for (args, want) in [
        ("--cert-file c", "--cert-file: needs --key-file, too; add --key-file"),
        ("--peer-key-file k", "--peer-key-file: needs --peer-cert-file, too; add --peer-cert-file"),
        (
            "--listen-metrics-urls https://127.0.0.1:1",
            "--listen-metrics-urls: https://127.0.0.1:1 needs a certificate; add --cert-file and --key-file",
        ),
        (
            "--listen-peer-urls https://127.0.0.1:1 --cert-file c --key-file k",
            "--listen-peer-urls: https://127.0.0.1:1 needs a certificate; add --peer-cert-file and --peer-key-file",
        ),
        (
            "--client-cert-auth",
            "--client-cert-auth: needs TLS: over plain text there are no certificates; add --cert-file, its key, and https:// URLs",
        ),
        (
            "--client-cert-auth --cert-file c --key-file k",
            "--client-cert-auth: needs an authority to check certificates by; add --trusted-ca-file",
        ),
        (
            "--initial-advertise-peer-urls https://h:1 --peer-cert-file c --peer-key-file k",
            "--initial-advertise-peer-urls: members are reached over TLS, and there is no authority to check theirs by; add --peer-trusted-ca-file",
        ),
        (
            "--peer-cert-allowed-cn a --peer-cert-allowed-hostname b",
            "--peer-cert-allowed-cn: cannot be combined with --peer-cert-allowed-hostname; keep one of them",
        ),
        (
            "--tls-min-version TLS1.3 --tls-max-version TLS1.2",
            "--tls-min-version: is newer than --tls-max-version; correct one of them",
        ),
        (
            "--tls-min-version TLS1.3 --cipher-suites TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "--cipher-suites: chooses among suites of TLS 1.2, which --tls-min-version does not allow; remove one of them",
        ),
        (
            "--cipher-suites TLS_NULL",
            "--cipher-suites: \"TLS_NULL\" is not the name of a cipher suite; see kvd --help",
        ),
        (
            "--cipher-suites TLS_RSA_WITH_AES_128_CBC_SHA",
            "--cipher-suites: none of TLS_RSA_WITH_AES_128_CBC_SHA is safe enough to be offered; see kvd --help",
        ),
    ] {
        assert!(error(args, "").ends_with(want), "{}", error(args, ""));
    }
    let suites =
        "--cipher-suites TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_RSA_WITH_AES_128_CBC_SHA";
    let warning = "--cipher-suites: TLS_RSA_WITH_AES_128_CBC_SHA: not safe enough, so not offered";
    assert_eq!(config(suites, "").warnings, [warning]);
    let url = "http://127.0.0.1:1";
    let unused = format!("--listen-peer-urls {url} --peer-cert-file c --peer-key-file k");
    let warning = format!("{url} is not encrypted: the certificate is not used there");
    assert_eq!(config(&unused, "").warnings, [warning]);
}

#[test]
fn sockets_are_for_clients() {
    for (args, want) in [
        (
            "--listen-client-urls unixs:///s --advertise-client-urls http://h:1",
            "2 --listen-client-urls: unixs:///s needs a certificate; add --cert-file and --key-file",
        ),
        (
            "--listen-client-urls unix:// --advertise-client-urls http://h:1",
            "2 --listen-client-urls: \"unix://\" cannot be used: it must have the form unix:///path; see kvd --help",
        ),
        (
            "--listen-client-urls unix:///s,unix:///s --advertise-client-urls unix:///s",
            "2 --listen-client-urls: unix:///s would be listened on twice; name it once",
        ),
        (
            "--listen-peer-urls unix:///s",
            "2 --listen-peer-urls: members reach each other over TCP only; use http://host:port",
        ),
    ] {
        assert_eq!(error(args, ""), want);
    }
}

#[test]
fn contradictions_are_named() {
    for (args, want) in [
        (
            "--listen-client-urls http://127.0.0.1:1",
            "2 --listen-client-urls: --advertise-client-urls is required when it is set, so that clients are told how to reach this member; add --advertise-client-urls=http://127.0.0.1:1",
        ),
        (
            "--election-timeout 400",
            "2 --election-timeout: 400 ms is less than 5 heartbeats, and --heartbeat-interval is 100 ms; try 1000",
        ),
        (
            "--heartbeat-interval 300",
            "1 --election-timeout: 1000 ms is less than 5 heartbeats, and --heartbeat-interval is 300 ms; try 3000",
        ),
        (
            "--election-timeout 50001",
            "2 --election-timeout: 50001 ms is more than the 50000 ms allowed; choose a shorter one",
        ),
        ("--heartbeat-interval 0", "2 --heartbeat-interval: must be at least 1 ms; try 100"),
        (
            "--initial-cluster default",
            "2 --initial-cluster: \"default\" must have the form name=http://host:port; see kvd --help",
        ),
        (
            "--listen-peer-urls http://127.0.0.1:2379",
            "2 --listen-peer-urls: http://127.0.0.1:2379 would be listened on twice; give each listener a port of its own",
        ),
        (
            "--listen-peer-urls http://example.com:2380",
            "2 --listen-peer-urls: \"http://example.com:2380\" must have an IP address or localhost to listen on; write the address instead of the name",
        ),
        (
            "--listen-peer-urls localhost:2380",
            "2 --listen-peer-urls: \"localhost:2380\" cannot be used: a URL must start with http://, as in http://127.0.0.1:2379; see kvd --help",
        ),
        (
            "--watch-progress-notify-interval 50ms",
            "2 --watch-progress-notify-interval: must be at least 100ms, not 50ms; correct --watch-progress-notify-interval",
        ),
        (
            "--server-version 3.6",
            "2 --server-version: must be a version like 3.6.16, not \"3.6\"; correct --server-version",
        ),
        ("--name=", "2 --name: must not be empty; correct --name"),
        ("--name=a,b", "2 --name: must not contain = , or /, but is \"a,b\"; correct --name"),
    ] {
        assert_eq!(error(args, ""), want);
    }
}
