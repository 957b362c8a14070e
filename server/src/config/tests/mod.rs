//! The command line, the variables and the file as a user meets them.

use std::io::Write;

use super::*;

mod file;
mod refusals;

/// Loads with arguments and `NAME=value` variables, both as one blank-separated line.
fn load_line(args: &str, variables: &str) -> Result<Startup, Error> {
    let args: Vec<String> = args.split_whitespace().map(str::to_string).collect();
    let variables: Vec<(String, String)> = variables
        .split_whitespace()
        .map(|pair| pair.split_once('=').expect("NAME=value"))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    load(&args, &variables)
}

fn config(args: &str, variables: &str) -> Config {
    match load_line(args, variables) {
        Ok(Startup::Run(config)) => *config,
        other => panic!("{args}: {other:?}"),
    }
}

fn error(args: &str, variables: &str) -> String {
    match load_line(args, variables) {
        Err(error) => format!("{} {error}", error.exit_code()),
        other => panic!("{args} {variables}: {other:?}"),
    }
}

/// A config file with this text; `@FILE` in the arguments or variables stands for its path.
fn with_file(text: &str, args: &str, variables: &str) -> Result<Startup, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    load_line(&args.replace("@FILE", path), &variables.replace("@FILE", path))
        .map_err(|error| format!("{} {error}", error.exit_code()).replace(path, "FILE"))
}

fn file_config(text: &str, args: &str, variables: &str) -> Config {
    match with_file(text, &format!("--config-file @FILE {args}"), variables) {
        Ok(Startup::Run(config)) => *config,
        other => panic!("{text}: {other:?}"),
    }
}

fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

#[test]
fn defaults_are_etcds() {
    let config = Config::default();
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir.to_str(), Some("default.kvd"));
    assert_eq!(join(&config.listen_client_urls), "http://localhost:2379");
    assert_eq!(join(&config.listen_peer_urls), "http://localhost:2380");
    let addresses = [&config.listen_client_urls, &config.listen_peer_urls]
        .map(|urls| urls[0].listen_address().unwrap().to_string());
    assert_eq!(addresses, ["127.0.0.1:2379", "127.0.0.1:2380"]);
    assert_eq!(config.initial_cluster[0].name, "default");
    assert_eq!(config.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.election_timeout, Duration::from_millis(1000));
    assert_eq!(config.quota_backend_bytes, Some(2 << 30));
    assert_eq!(config.max_txn_ops, 128);
    assert_eq!(config.max_request_bytes, 1_572_864);
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    assert_eq!(config.grpc_keepalive_interval, Some(Duration::from_secs(7200)));
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(config.server_version, "3.6.16");
    assert!(config.fsync && config.pre_vote && config.strict_reconfig_check);
    assert_eq!((config.warnings.len(), config.notes.len()), (0, 0));
    let gib = 1 << 30;
    assert_eq!(config.disk_reserve_bytes(100 * gib), 256 << 20);
    assert_eq!(config.disk_reserve_bytes(gib), gib / 20);
    assert_eq!(config.disk_reserve_bytes(64 << 20), 32 << 20);
}

#[test]
fn clients_may_come_through_a_file() {
    let args = "--listen-client-urls UNIX:///run/kvd.sock,unix://n1:2379 \
                --advertise-client-urls unix:///run/kvd.sock";
    let config = config(args, "");
    let paths: Vec<_> = config.listen_client_urls.iter().map(|url| url.socket_path()).collect();
    assert_eq!(paths, ["/run/kvd.sock", "n1:2379"].map(|path| Some(std::path::Path::new(path))));
    assert_eq!(join(&config.advertise_client_urls), "unix:///run/kvd.sock");
    assert_eq!(config.warnings.len(), 0);
}

/// Go's four ways to write a flag, and the last one wins.
#[test]
fn flags_are_written_as_for_etcd() {
    for args in ["--name n1", "-name n1", "--name=n1", "-name=n1", "--name=n0 --name n1"] {
        let config = config(args, "");
        assert_eq!(config.name, "n1", "{args}");
        assert_eq!(config.data_dir.to_str(), Some("n1.kvd"), "{args}");
        assert_eq!(config.initial_cluster[0].name, "n1", "{args}");
    }
    for (args, want) in [
        ("", true),
        ("--pre-vote", true),
        ("-pre-vote=false", false),
        ("--pre-vote=0", false),
        ("--pre-vote=F", false),
    ] {
        assert_eq!(config(args, "").pre_vote, want, "{args}");
    }
    assert_eq!(config("--initial-cluster-token a=b", "").initial_cluster_token, "a=b");
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let file = "name: file\ninitial-cluster-token: t-file\nmax-txn-ops: 1\npre-vote: false\n";
    let config = file_config(
        file,
        "--name flag",
        "ETCD_NAME=etcd KVD_NAME=kvd ETCD_INITIAL_CLUSTER_TOKEN=t-etcd ETCD_MAX_TXN_OPS=",
    );
    assert_eq!(config.name, "flag");
    assert_eq!(config.initial_cluster_token, "t-etcd");
    assert_eq!(config.max_txn_ops, 1, "an empty variable is none");
    assert!(!config.pre_vote);
    assert_eq!(config.warnings, ["--name overrides the variable KVD_NAME"]);
    assert_eq!(file_config(file, "", "ETCD_NAME=etcd KVD_NAME=kvd").name, "kvd");
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    for name in ["ETCD_CONFIG_FILE", "KVD_CONFIG_FILE"] {
        match with_file("name: x", "", &format!("{name}=@FILE")) {
            Ok(Startup::Run(config)) => assert_eq!(config.name, "x"),
            other => panic!("{other:?}"),
        }
    }
    let missing = error("--config-file /nowhere/x.yaml", "");
    assert!(missing.starts_with("1 --config-file: /nowhere/x.yaml: cannot be read"), "{missing}");
}

#[test]
fn variables_that_name_nothing_are_warned_of() {
    for (variable, want) in [
        ("ETCD_NMAE", Some("the variable ETCD_NMAE names no option, did you mean ETCD_NAME?")),
        (
            "KVD_DATADIR",
            Some("the variable KVD_DATADIR names no option, did you mean KVD_DATA_DIR?"),
        ),
        ("KVD_NOTHING_ALIKE", Some("the variable KVD_NOTHING_ALIKE names no option")),
        ("ETCD_VERSION", None),
        ("ETCD_SERVICE_HOST", None),
        ("ETCD_PORT_2379_TCP_ADDR", None),
        ("ETCDCTL_API", None),
        ("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", None),
    ] {
        let config = config("", &format!("{variable}=5s"));
        assert_eq!(config.warnings.first().map(String::as_str), want, "{variable}");
    }
}

#[test]
fn what_needs_no_effect_is_noted() {
    let config = config(
        "--snapshot-count=5000 --logger=zap --max-wals 0 --backend-batch-interval=10ms \
         --experimental-initial-corrupt-check=true --feature-gates=AllAlpha=true \
         --experimental-snapshot-catchup-entries=7 \
         --experimental-watch-progress-notify-interval=5s",
        "",
    );
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    let noted: Vec<&str> =
        config.notes.iter().map(|note| note.split(" has no effect").next().unwrap()).collect();
    assert_eq!(
        noted,
        [
            "--backend-batch-interval",
            "--max-wals",
            "--experimental-snapshot-catchup-entries",
            "--snapshot-count",
            "the feature gate AllAlpha",
        ]
    );
    assert!(config.warnings.is_empty());
    assert!(config.initial_corrupt_check);
}

#[test]
fn history_is_kept_for_a_time_or_so_many_revisions() {
    let hours = |hours: u64| Some(AutoCompaction::Periodic(Duration::from_secs(3600 * hours)));
    for (args, want) in [
        ("", None),
        ("--auto-compaction-retention=0", None),
        ("--auto-compaction-retention=0s", None),
        ("--auto-compaction-retention=2", hours(2)),
        ("--auto-compaction-mode=periodic --auto-compaction-retention=60m", hours(1)),
        (
            "--auto-compaction-mode=revision --auto-compaction-retention=1000",
            Some(AutoCompaction::Revisions(1000)),
        ),
    ] {
        assert_eq!(config(args, "").auto_compaction, want, "{args}");
    }
}

#[test]
fn members_compare_their_data_unless_they_are_told_not_to() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let default = config("", "");
    assert_eq!((default.corrupt_check, default.compact_hash_check), (seconds(3600), seconds(60)));
    assert!(!default.initial_corrupt_check);
    let off = config("--corrupt-check-time=0 --feature-gates=CompactHashCheck=false", "");
    assert_eq!((off.corrupt_check, off.compact_hash_check), (None, None));
}

#[test]
fn a_cluster_of_one_with_several_urls() {
    let config = config(
        "--name m1 --initial-cluster-token tok \
         --initial-advertise-peer-urls http://127.0.0.1:23809,http://10.0.0.1:2380 \
         --initial-cluster m1=http://127.0.0.1:23809,m1=http://10.0.0.1:2380",
        "",
    );
    assert_eq!(
        join(&config.initial_cluster[0].peer_urls),
        "http://10.0.0.1:2380,http://127.0.0.1:23809"
    );
}

#[test]
fn values_are_human() {
    for (args, want) in [
        ("--quota-backend-bytes 8GiB", Some(8u64 << 30)),
        ("--quota-backend-bytes 8589934592", Some(8 << 30)),
        ("--quota-backend-bytes=-1", None),
        ("--quota-backend-bytes 0", Some(2 << 30)),
    ] {
        assert_eq!(config(args, "").quota_backend_bytes, want, "{args}");
    }
    for (text, want) in [("500", 500), ("0.5s", 500), ("1m", 60_000), ("1m1.5s", 61_500)] {
        assert_eq!(value::milliseconds(text).unwrap(), Duration::from_millis(want), "{text}");
    }
    for text in ["", "s", "5", "-5s", "5 s", "5x", "1.2.3s", "5s5", "1e3s", "99999999h"] {
        assert!(value::duration(text).is_err(), "{text}");
    }
    for text in ["", "MiB", "1.5GiB", "9999999TiB", "12 34", "0x10"] {
        assert!(value::bytes(text).is_err(), "{text}");
    }
    let config = config("--log-outputs stdout,default,/tmp/x --grpc-keepalive-interval 0", "");
    let file = LogOutput::File("/tmp/x".into());
    assert_eq!(config.log.outputs, [LogOutput::Stdout, LogOutput::Stderr, file]);
    assert_eq!(config.grpc_keepalive_interval, None);
}

#[test]
fn what_is_unsafe_is_warned_of() {
    let config = config(
        "--unsafe-no-fsync --quota-backend-bytes 9GiB --listen-client-urls http://0.0.0.0:2379 \
         --advertise-client-urls http://0.0.0.0:2379",
        "",
    );
    assert!(!config.fsync);
    assert_eq!(config.warnings.len(), 4, "{:?}", config.warnings);
}

#[test]
fn help_and_version_ask_for_nothing_else() {
    for args in ["--help", "-h", "-help", "--name x --help"] {
        let Ok(Startup::Print(text)) = load_line(args, "") else { panic!("{args}") };
        for option in options::all() {
            assert!(text.contains(option.name), "--help does not know {}", option.name);
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "too wide");
        assert!(text.contains("Examples:"));
    }
    let Ok(Startup::Print(text)) = load_line("--version", "") else { panic!() };
    assert_eq!(text, format!("kvd Version: {}\netcd API: 3.6.16\n", env!("CARGO_PKG_VERSION")));
}

/// The table itself: names and keys once, defaults valid for their kind.
#[test]
fn the_table_is_consistent() {
    let mut names = std::collections::HashSet::new();
    let mut keys = std::collections::HashSet::new();
    for option in options::all() {
        assert!(names.insert(option.name), "{} twice", option.name);
        assert!(keys.insert(option.key), "{} twice", option.key);
        let computed = option.default.contains("${");
        let check = value::check(option.kind, option.default);
        assert!(
            computed || option.default.is_empty() || check.is_ok(),
            "{}: {check:?}",
            option.name
        );
        assert_eq!(options::by_name(option.name).map(|o| o.name), Some(option.name));
        assert_eq!(options::by_key(option.key).map(|o| o.name), Some(option.name));
    }
}
