//! What `kvd config` says of options alone; of files and ports, the black-box tests tell.

use std::io::Write as _;

use super::super::{Error, Startup, load};
use super::Report;

fn run(line: &str, variables: &[(&str, &str)]) -> Result<Report, Error> {
    let args: Vec<String> =
        ["config"].into_iter().chain(line.split_whitespace()).map(str::to_owned).collect();
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    match load(&args, &variables)? {
        Startup::Report(report) => Ok(report),
        other => panic!("{line}: {other:?}"),
    }
}

fn show(line: &str, variables: &[(&str, &str)]) -> Report {
    run(&format!("show {line}"), variables).unwrap()
}

/// The lines of a check that are no notes; ports are any, so that none is in use.
fn check(line: &str) -> (u8, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let line = format!(
        "check {line} --listen-client-urls=http://127.0.0.1:0 --listen-peer-urls=http://127.0.0.1:0 \
         --advertise-client-urls=http://127.0.0.1:1 --data-dir={}",
        dir.path().join("data").display()
    );
    let report = run(&line, &[]).unwrap();
    assert_eq!(report.stderr, "");
    let lines = report.stdout.lines().filter(|line| !line.starts_with("note: "));
    let lines = lines.map(str::to_owned).collect();
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "something was made");
    (report.code, lines)
}

#[test]
fn every_value_has_its_origin() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"# mine\nmax-txn-ops: 7\nname: n0\n").unwrap();
    let path = file.path().to_str().unwrap();
    let line = format!("--config-file={path} -name n1 --snapshot-count=5 --discovery-token=secret");
    let variables = [("ETCD_PRE_VOTE", "false"), ("KVD_PRE_VOTE", "true")];
    let report = show(&line, &variables);
    assert_eq!(report.code, 1, "the token is refused");
    assert!(report.stderr.starts_with("problem: --discovery-token: discovery is not supported; "));
    let row = |name: &str| {
        let mut rows = report.stdout.lines().map(|line| line.split_whitespace().collect());
        let found: Option<Vec<&str>> = rows.find(|words: &Vec<&str>| words[0] == name);
        found.unwrap_or_else(|| panic!("no {name}")).join(" ")
    };
    assert_eq!(row("OPTION"), "OPTION VALUE ORIGIN");
    assert_eq!(row("name"), "name n1 flag --name");
    assert_eq!(row("data-dir"), "data-dir n1.kvd default");
    assert_eq!(row("initial-cluster"), "initial-cluster n1=http://localhost:2380 default");
    assert_eq!(row("max-txn-ops"), format!("max-txn-ops 7 file {path}:2"));
    assert_eq!(row("pre-vote"), "pre-vote true environment KVD_PRE_VOTE");
    assert!(row("snapshot-count").starts_with(
        "snapshot-count 5 flag --snapshot-count (no effect: snapshots are governed by bytes"
    ));
    assert!(row("discovery-token").starts_with("discovery-token ****** flag --discovery-token"));
    assert!(!report.stdout.contains("secret") && !report.stdout.contains("max-wals"));
    let given = show(&format!("{line} --given"), &variables).stdout;
    assert_eq!(given.lines().count(), 7, "{given}");
}

/// What is printed as YAML is a file that says the same.
#[test]
fn yaml_is_a_config_file() {
    let line = "--name=n1 --max-txn-ops=7 --log-outputs=stderr,/x --pre-vote=false \
                --heartbeat-interval=200ms --election-timeout=3000 --quota-backend-bytes=3GiB \
                --client-cert-allowed-hostname=a,b --socket-reuse-port --max-wals=3 \
                --cert-file=c --key-file=k --trusted-ca-file=t --initial-cluster-token=a\"b";
    let yaml = show(&format!("--output yaml {line}"), &[]).stdout;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let values = |line: &str| {
        let report = show(&format!("{line} --output=json"), &[]);
        assert_eq!((report.code, report.stderr.as_str()), (0, ""), "{yaml}");
        let json: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
        let rows = json["options"].as_array().unwrap().clone();
        let rows = rows.into_iter().filter(|row| row["name"] != "config-file");
        rows.map(|row| (row["name"].to_string(), row["value"].to_string())).collect::<Vec<_>>()
    };
    let from_file = values(&format!("--config-file={}", file.path().display()));
    assert_eq!(from_file, values(line), "{yaml}");
    assert!(from_file.contains(&("\"key-file\"".into(), "\"k\"".into())));
    assert!(yaml.contains("client-transport-security:\n"), "{yaml}");
}

#[test]
fn all_problems_are_found_at_once() {
    let (code, lines) = check("");
    assert_eq!((code, lines), (0, vec!["a start would work, 0 warnings".to_owned()]));
    let line = "--nmae n1 --max-txn-ops=x --election-timeout=1 --unsafe-no-fsync --wal-dir=/x \
                --cert-file=/nowhere/c --client-cert-auth --peer-trusted-ca-file=/nowhere/ca \
                --log-outputs=/nowhere/log --initial-cluster=n2=http://h:1,n3=http://h:2 \
                --enable-v2 --tls-min-version=TLS1.4";
    let (code, lines) = check(line);
    assert_eq!(code, 1);
    for (line, want) in lines.iter().zip([
        "problem: --nmae: there is no such option; did you mean --name?",
        "problem: --enable-v2: the v2 API is not supported; move its clients",
        "problem: --max-txn-ops: must be a whole number",
        "problem: --tls-min-version: must be one of",
        "problem: --wal-dir: a log outside the data directory",
        "problem: --cert-file: needs --key-file, too",
        "problem: --election-timeout: 1 ms is less than 5 heartbeats",
        "problem: --peer-trusted-ca-file: cannot read /nowhere/ca",
        "problem: --log-outputs: /nowhere cannot be written",
        "problem: --initial-cluster: it does not name this member, \"default\"",
        "warning: --unsafe-no-fsync",
        "10 problems, 1 warning",
    ]) {
        assert!(line.starts_with(want), "{want}\n{lines:#?}");
    }
    assert_eq!(lines.len(), 12, "{lines:#?}");
}

/// What follows from a mistake is not one of its own.
#[test]
fn one_mistake_is_one_problem() {
    for line in [
        "--heartbeat-interval=5000",
        "--cert-file=c --client-cert-auth --listen-metrics-urls=https://127.0.0.1:0",
        "--initial-advertise-peer-urls=h:1",
        "--name=a/b",
        "--feature-gates=Nonsense=true",
        "--listen-metrics-urls=http://192.0.2.1:1",
        "--initial-cluster-state=existing",
    ] {
        let (code, lines) = check(line);
        let problems = lines.iter().filter(|line| line.starts_with("problem: ")).count();
        assert_eq!((code, problems), (1, 1), "{line}: {lines:#?}");
    }
}

#[test]
fn the_command_itself_is_explained() {
    for line in ["", "--help", "check --help", "show -h", "help"] {
        let report = run(line, &[]).unwrap();
        assert!(report.code == 0 && report.stdout.contains("Examples:"), "{line}");
    }
    for (line, want) in [
        ("chekc", "\"chekc\": is neither check nor show; see kvd config --help"),
        (
            "show -o xml",
            "--output: must be table, json or yaml, not \"xml\"; see kvd config --help",
        ),
        ("check -o yaml", "--output: must be text or json, not \"yaml\"; see kvd config --help"),
        ("check --output", "--output: must be text or json, not \"\"; see kvd config --help"),
    ] {
        let error = run(line, &[]).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string()), (2, want.to_owned()));
    }
}

#[test]
fn checks_are_read_by_programs_too() {
    let report = run("check --output=json --max-txn-ops=0 --snapshot-count=1", &[]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!((report.code, &json["ok"]), (1, &serde_json::Value::Bool(false)));
    assert_eq!(json["problems"][0]["what"], "--max-txn-ops");
    assert_eq!(json["problems"][0]["remedy"], "see kvd --help");
    assert!(json["notes"][0].as_str().unwrap().starts_with("--snapshot-count has no effect"));
}
