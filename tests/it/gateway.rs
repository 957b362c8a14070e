//! The pages and the JSON gateway: sessions over plain HTTP, recorded from etcd.
//!
//! A command of `tests/scripts/{gateway,pages}` is a line:
//!
//! | command | prints |
//! |---|---|
//! | `POST PATH [JSON]`, `GET PATH`, .. | the status, headers that matter, the body |
//! | `LINES N PATH JSON` | the status and the first lines of a stream |
//! | `auth COMMAND` | the same with the token that was given last |
//!
//! JSON is printed with its keys in order, ids and what is another number on each run replaced by letters.
//! `TARGET=etcd UPDATE_GOLDENFILES=1 cargo test -p kvd-tests gateway::` records them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use harness::http::{Answer, Ask};
use harness::script::parse_steps;
use harness::{Node, NodeOptions, Target, free_port};
use serde_json::Value;

/// One test per script, because they run side by side then.
macro_rules! scripts {
    ($($dir:literal: $($name:ident),*;)*) => {
        $($(#[test]
        fn $name() {
            if let Err(error) = check($dir, stringify!($name)) {
                panic!("{error:#}");
            }
        })*)*

        const SCRIPTS: &[(&str, &str)] = &[$($(($dir, stringify!($name)),)*)*];
    };
}

scripts! {
    "gateway": kv, streams, leases, cluster, maintenance, errors, auth, turns, alarms;
    "pages": health, pages;
}

#[test]
fn every_script_runs() {
    for dir in ["gateway", "pages"] {
        for file in fs::read_dir(scripts_dir().join(dir)).unwrap() {
            let name = file.unwrap().file_name().to_string_lossy().into_owned();
            assert!(SCRIPTS.contains(&(dir, &name)), "no test runs tests/scripts/{dir}/{name}");
        }
    }
}

/// Scripts of other sites may read answers, unless they may not; and a name that leads here by somebody
/// else's doing is none of ours.
#[test]
fn hosts_and_origins_are_limited() {
    let mut options = NodeOptions::new(Target::from_env().unwrap());
    let start = |options: &NodeOptions| {
        Node::start(options.clone()).unwrap_or_else(|error| panic!("{error:#}"))
    };
    let ask = |node: &Node, method: &str, origin: &str| {
        let (endpoint, headers) = (node.endpoint(), [("Origin", origin)]);
        let answer = Ask { method, headers: &headers, ..Ask::get(&endpoint, "/version") }.send();
        let answer = answer.unwrap();
        let origin = answer.header("access-control-allow-origin").unwrap_or("none").to_owned();
        (answer.status, origin)
    };
    let any = start(&options);
    assert_eq!(ask(&any, "GET", "http://there.example"), (200, "*".to_owned()));
    assert_eq!(ask(&any, "OPTIONS", "http://there.example"), (200, "*".to_owned()));
    drop(any);
    let there = "http://there.example:80";
    options.args = vec![format!("--cors=http://here.example:80,{there}")];
    let some = start(&options);
    assert_eq!(ask(&some, "GET", there), (200, there.to_owned()));
    assert_eq!(ask(&some, "GET", "http://elsewhere.example"), (200, "none".to_owned()));
    drop(some);
    options.args = vec!["--host-whitelist=there.example".to_owned()];
    let other = start(&options);
    assert_eq!(ask(&other, "GET", there).0, 421);
    drop(other);
    options.args = vec!["--host-whitelist=127.0.0.1".to_owned()];
    assert_eq!(ask(&start(&options), "GET", there).0, 200);
}

/// Listeners that offer a part only.
#[test]
fn listeners_may_offer_a_part() {
    let mut options = NodeOptions::new(Target::from_env().unwrap());
    let [http, metrics] = [(); 2].map(|()| format!("http://127.0.0.1:{}", free_port()));
    options.args = vec![
        format!("--listen-client-http-urls={http}"),
        format!("--listen-metrics-urls={metrics}"),
    ];
    let node = Node::start(options).unwrap_or_else(|error| panic!("{error:#}"));
    let status = |endpoint: &str, path: &str| {
        Ask::get(endpoint, path).send().map_or(0, |answer| answer.status)
    };
    for (path, at_http, at_metrics) in [
        ("/health", 200, 200),
        ("/readyz", 200, 200),
        ("/livez/serializable_read", 200, 200),
        ("/version", 200, 404),
        ("/nothing", 404, 404),
    ] {
        assert_eq!((status(&http, path), status(&metrics, path)), (at_http, at_metrics), "{path}");
        assert_ne!(status(&node.endpoint(), path), 200, "clients' URLs serve gRPC only: {path}");
    }
    let put = Ask::post(&http, "/v3/kv/put", r#"{"key":"YQ=="}"#).send().unwrap();
    assert_eq!(put.status, 200);
    assert_eq!(Ask::post(&metrics, "/v3/kv/put", "{}").send().unwrap().status, 404);
}

#[test]
fn profiles_are_there_if_asked_for() {
    let options = NodeOptions::new(Target::from_env().unwrap()).arg("--enable-pprof");
    let node = Node::start(options).unwrap_or_else(|error| panic!("{error:#}"));
    let endpoint = node.endpoint();
    assert_eq!(Ask::get(&endpoint, "/debug/pprof/").send().unwrap().status, 200);
    let profile = Ask::get(&endpoint, "/debug/pprof/profile?seconds=1");
    // Something to see.
    let busy = std::thread::spawn({
        let endpoint = endpoint.clone();
        move || {
            for _ in 0..300 {
                Ask::get(&endpoint, "/metrics").send().unwrap().bytes().unwrap();
            }
        }
    });
    let mut answer = profile.send().unwrap();
    assert_eq!(answer.status, 200);
    let profile = answer.bytes().unwrap();
    assert!(!profile.is_empty());
    if node.options().target == Target::Kvd {
        assert!(String::from_utf8_lossy(&profile).contains("server::"));
    }
    busy.join().unwrap();
}

#[test]
fn the_gateway_can_be_switched_off() {
    let mut options = NodeOptions::new(Target::from_env().unwrap());
    options.args = vec!["--enable-grpc-gateway=false".to_owned()];
    let node = Node::start(options).unwrap_or_else(|error| panic!("{error:#}"));
    let endpoint = node.endpoint();
    assert_eq!(Ask::post(&endpoint, "/v3/kv/range", "{}").send().unwrap().status, 404);
    assert_eq!(Ask::get(&endpoint, "/health").send().unwrap().status, 200);
}

fn scripts_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// Runs a script and compares, or records.
fn check(dir: &str, name: &str) -> Result<()> {
    let path = scripts_dir().join(dir).join(name);
    let script = fs::read_to_string(&path)?;
    let (flags, steps) = parse_steps(&script)?;
    let mut options = NodeOptions::new(Target::from_env()?);
    options.args = flags;
    let mut session = Session::start(Node::start(options)?)?;
    let mut output = script
        .lines()
        .take_while(|line| line.starts_with("server "))
        .fold(String::new(), |text, line| text + line + "\n\n");
    for (index, step) in steps.iter().enumerate() {
        if index > 0 {
            output.push('\n');
        }
        for line in step.comment.iter().chain(&step.commands) {
            let _ = writeln!(output, "{line}");
        }
        output.push_str("---\n");
        for command in &step.commands {
            let answer = session.run(command).with_context(|| command.clone())?;
            output.push_str(&answer);
        }
    }
    if std::env::var_os("UPDATE_GOLDENFILES").is_some_and(|value| value == "1") {
        return Ok(fs::write(&path, output)?);
    }
    for (recorded, now) in steps.iter().zip(parse_steps(&output)?.1) {
        let (recorded, now) = (recorded.answers.join("\n"), now.answers.join("\n"));
        let asked = &now;
        ensure!(recorded == now, "{name}\n--- recorded\n{recorded}\n--- now\n{asked}");
    }
    Ok(())
}

struct Session {
    node: Node,
    cluster: String,
    member: String,
    /// Members that were added.
    added: Vec<String>,
    token: String,
}

impl Session {
    fn start(node: Node) -> Result<Self> {
        let endpoint = node.endpoint();
        let status = Ask::post(&endpoint, "/v3/maintenance/status", "{}").send()?.text()?;
        let status: Value = serde_json::from_str(&status).context("a status in JSON")?;
        let id = |name: &str| {
            let id = status["header"][name].as_str().context("a header has ids")?;
            anyhow::Ok(id.to_owned())
        };
        let (cluster, member) = (id("cluster_id")?, id("member_id")?);
        Ok(Self { node, cluster, member, added: Vec::new(), token: String::new() })
    }

    fn run(&mut self, command: &str) -> Result<String> {
        let (command, with_token) = match command.strip_prefix("auth ") {
            Some(command) => (command, true),
            None => (command, false),
        };
        let (lines, command) = match command.strip_prefix("LINES ") {
            Some(rest) => {
                let (count, rest) = rest.split_once(' ').context("LINES N PATH JSON")?;
                (Some(count.parse::<usize>()?), format!("POST {rest}"))
            }
            None => (None, command.to_owned()),
        };
        let mut words = command.splitn(3, ' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            bail!("METHOD PATH [BODY]");
        };
        let body = self.with_ids(words.next().unwrap_or_default());
        let mut headers = Vec::new();
        if with_token {
            headers.push(("Authorization", self.token.as_str()));
        }
        let endpoint = self.node.endpoint();
        let ask = Ask { method, headers: &headers, ..Ask::post(&endpoint, path, &body) };
        let answer = ask.send()?;
        self.print(answer, lines)
    }

    fn print(&mut self, mut answer: Answer, lines: Option<usize>) -> Result<String> {
        let mut text = format!("{}", answer.status);
        for name in ["content-type", "allow", "x-content-type-options"] {
            match answer.header(name) {
                None | Some("application/json") => {}
                Some(value) => text.push_str(&format!(" {name}: {value};")),
            }
        }
        text.push('\n');
        let mut body = String::new();
        match lines {
            None => body = answer.text()?,
            Some(lines) => {
                for _ in 0..lines {
                    body.push_str(&answer.line()?);
                }
            }
        }
        let mut told: Vec<String> = body.lines().map(|line| self.told(line)).collect();
        // etcd runs its checks in any order.
        if told.iter().any(|line| line.starts_with("|[")) {
            told.sort();
        }
        for line in told {
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }

    /// A line of a body, the same on every run.
    fn told(&mut self, line: &str) -> String {
        let Ok(mut value) = serde_json::from_str::<Value>(line) else { return format!("|{line}") };
        self.meet(&value);
        self.replace("", &mut value);
        let text = value.to_string();
        text.replace(&self.node.endpoint(), "http://CLIENTS")
            .replace(&self.node.peer_url(), "http://PEERS")
    }

    /// Takes note of tokens, and of members that are new.
    fn meet(&mut self, value: &Value) {
        if let Some(token) = value["token"].as_str() {
            token.clone_into(&mut self.token);
        }
        if let Some(id) = value["member"]["ID"].as_str() {
            self.added.push(id.to_owned());
        }
    }

    fn replace(&self, name: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.iter_mut().for_each(|(name, field)| self.replace(name, field));
            }
            Value::Array(items) => {
                items.iter_mut().for_each(|item| self.replace(name, item));
                if name == "members" {
                    // In the order of their ids, which are others on each run.
                    items.sort_by_key(Value::to_string);
                }
            }
            Value::String(text) if *text == self.cluster => *value = "C".into(),
            Value::String(text) if *text == self.member => *value = "M".into(),
            Value::String(text) if self.added.contains(text) => *value = "A".into(),
            _ if matches!(name, "raft_term" | "raftTerm") => *value = "T".into(),
            _ if CHANGING.contains(&name) => *value = "N".into(),
            _ => {}
        }
    }

    /// In a request the letters stand for the ids.
    fn with_ids(&self, body: &str) -> String {
        let added = self.added.last().map_or("1", String::as_str);
        body.replace("\"M\"", &format!("\"{}\"", self.member))
            .replace("\"A\"", &format!("\"{added}\""))
    }
}

/// Fields that are another number, or other bytes, on each run or server.
const CHANGING: &[&str] = &[
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "hash",
    "remaining_bytes",
    "blob",
    "token",
];
