//! kvctl prints what etcdctl prints: recorded sessions, live comparison (in `cluster` with several members),
//! and (in `own`) what is kvctl's own.
//!
//! `tests/scripts/ctl` has steps whose commands are shell lines with `ctl` for the program. What they
//! print (after a `|`, or a `:` where no line end follows; protobuf in hex) and their exit code (if not
//! 0) was recorded from etcdctl 3.6 with etcd: `TARGET=etcd UPDATE_GOLDENFILES=1 cargo test -p kvd-tests ctl`. Replayed,
//! they run kvctl against the target.

mod cluster;
mod own;
mod watching;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use harness::{
    Client, Node, Target, etcd_is_required, go_binary, script::parse_steps, text::Ids,
    workspace_binary,
};
use prost::Message;
use proto::etcdserverpb::{MemberListRequest, ResponseHeader, StatusRequest};

/// One test per script, because they run side by side then.
macro_rules! scripts {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            if let Err(error) = check_script(stringify!($name)) {
                panic!("{error:#}");
            }
        })*

        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];
    };
}

scripts!(
    keys,
    formats,
    txn,
    watch,
    compaction,
    arguments,
    member,
    lease,
    auth,
    lock,
    elect,
    maintenance
);

#[test]
fn every_script_runs() {
    for file in fs::read_dir(scripts_dir()).unwrap() {
        let name = file.unwrap().file_name().to_string_lossy().into_owned();
        assert!(SCRIPTS.contains(&name.as_str()), "no test runs tests/scripts/ctl/{name}");
    }
}

fn scripts_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/ctl")
}

/// A server and the program that is pointed at it.
struct Session {
    node: Node,
    program: PathBuf,
    ids: Ids,
    /// Members that were added, in that order.
    added: RefCell<Vec<u64>>,
}

impl Session {
    fn start(target: Target, program: PathBuf) -> Result<Self> {
        let node = Node::start_one(target)?;
        let endpoint = node.endpoint();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ids = runtime.block_on(async {
            let mut client = Client::connect(&endpoint).await?;
            let status = client.maintenance.status(StatusRequest {}).await?.into_inner();
            let header = status.header.context("a status has a header")?;
            let (cluster, member) = (header.cluster_id, header.member_id);
            anyhow::Ok(Ids { cluster, member, term: header.raft_term })
        })?;
        Ok(Self { node, program, ids, added: RefCell::default() })
    }

    fn endpoint(&self) -> String {
        self.node.endpoint().trim_start_matches("http://").to_owned()
    }

    /// Runs a shell line in a directory of its own.
    fn run(&self, line: &str) -> Result<Output> {
        run(&self.program, &self.endpoint(), line)
    }

    /// Takes note of members that are new.
    fn meet_members(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let list = runtime.block_on(async {
            let mut client = Client::connect(&self.node.endpoint()).await?;
            anyhow::Ok(client.cluster.member_list(MemberListRequest::default()).await?)
        })?;
        let mut added = self.added.borrow_mut();
        for member in list.into_inner().members {
            if member.id != self.ids.member && !added.contains(&member.id) {
                added.push(member.id);
            }
        }
        Ok(())
    }

    /// What a line printed and how it ended, the same on every run.
    fn answer(&self, line: &str) -> Result<Vec<String>> {
        let output = self.run(line)?;
        if line.contains("member add") {
            self.meet_members()?;
        }
        let mut answers = Vec::new();
        if line.contains("-w protobuf") && !output.stdout.is_empty() {
            let message = self.without_ids_in_protobuf(&output.stdout)?;
            answers.push(message.iter().fold("hex ".to_owned(), |hex, b| format!("{hex}{b:02x}")));
        } else {
            answers.extend(output.stdout.split_inclusive(|byte| *byte == b'\n').map(|line| {
                match line.strip_suffix(b"\n") {
                    Some(line) => format!("|{}", self.without_ids(&shown(line))),
                    None => format!(":{}", self.without_ids(&shown(line))),
                }
            }));
        }
        match output.status.code() {
            Some(0) => {}
            Some(code) => answers.push(format!("exit {code}")),
            None => bail!("{line} ended by a signal"),
        }
        Ok(answers)
    }

    /// Letters for ids and the term, an endpoint of the same width for the endpoint.
    fn without_ids(&self, line: &str) -> String {
        let Ids { cluster, member, term } = self.ids;
        let (address, port) = self.endpoint().rsplit_once(':').map_or_else(
            || (self.endpoint(), String::new()),
            |(address, port)| (address.to_owned(), port.to_owned()),
        );
        let endpoint = format!("{address}:{}", "P".repeat(port.len()));
        let mut line = line.replace(&self.node.peer_url(), "http://PEER");
        for (place, id) in self.added.borrow().iter().enumerate() {
            let place = place + 2;
            line = line
                .replace(&format!("Member {id:>16x}"), &format!("Member HEX-M{place}"))
                .replace(&format!("{id:x}"), &format!("HEX-M{place}"))
                .replace(&id.to_string(), &format!("M{place}"));
        }
        line.replace(&self.endpoint(), &endpoint)
            .replace(&cluster.to_string(), "C")
            .replace(&member.to_string(), "M")
            .replace(&format!("cluster {cluster:>16x}"), "cluster HEX-C")
            .replace(&format!("{cluster:x}"), "HEX-C")
            .replace(&format!("{member:x}"), "HEX-M")
            .replace(&format!("\"raft_term\":{term}"), "\"raft_term\":T")
            .replace(&format!("\"RaftTerm\" : {term}"), "\"RaftTerm\" : T")
    }

    /// The message with 1, 2 and 3 for cluster id, member id and term: every answer begins with its
    /// header, as field 1.
    fn without_ids_in_protobuf(&self, message: &[u8]) -> Result<Vec<u8>> {
        let Some((b"\x0a", mut rest)) = message.split_at_checked(1) else {
            return Ok(message.to_vec());
        };
        let mut header = ResponseHeader::decode_length_delimited(&mut rest)?;
        // A refused watch has an empty header, and any other id is a difference that must show.
        if (header.cluster_id, header.member_id) == (self.ids.cluster, self.ids.member) {
            (header.cluster_id, header.member_id) = (1, 2);
        }
        if header.raft_term == self.ids.term {
            header.raft_term = 3;
        }
        let mut out = vec![b'\x0a'];
        header.encode_length_delimited(&mut out)?;
        out.extend_from_slice(rest);
        Ok(out)
    }
}

/// `ctl` is the program. `lease` makes one and `masked` hides its id and how much of it is left.
const PROLOGUE: &str = r#"
ctl() { "$CTL" "$@"; }
lease() { id=$(ctl lease grant 600 | cut -d' ' -f2); }
masked() {
  sed -E "s/$id/HEX-ID/g; s/$((0x$id))/ID/g; s/(remaining\(|\"ttl\":|\"TTL\" : )59[0-9]/\1LEFT/;
    s/(remaining\(|\"ttl\":|\"TTL\" : )600/\1LEFT/"
}"#;

/// Runs a shell line in a directory of its own.
fn run(program: &Path, endpoints: &str, line: &str) -> Result<Output> {
    let dir = tempfile::tempdir()?;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{PROLOGUE}\n{line}"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ETCDCTL_") || text.starts_with("KVCTL_") {
            shell.env_remove(&name);
        }
    }
    shell.env("CTL", program).env("ENDPOINT", endpoints);
    shell.env("ETCDCTL_ENDPOINTS", endpoints).current_dir(dir.path());
    shell.stdin(Stdio::null()).output().with_context(|| line.to_owned())
}

/// Text as it is, other bytes as `\xNN`. Lines cannot be told apart otherwise, so no backslash is
/// doubled: what is recorded is for comparing, not for reading back.
fn shown(line: &[u8]) -> String {
    let mut out = String::new();
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            } else {
                out.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| {
            let _ = write!(out, "\\x{byte:02x}");
        });
    }
    out
}

fn check_script(name: &str) -> Result<()> {
    let path = scripts_dir().join(name);
    let before = fs::read_to_string(&path)?;
    let target = Target::from_env()?;
    let update = std::env::var_os("UPDATE_GOLDENFILES").is_some_and(|value| value == "1");
    ensure!(!update || target == Target::Etcd, "recorded is etcdctl with TARGET=etcd");
    let program = if update { go_binary("etcdctl")? } else { workspace_binary("kvctl")? };
    let session = Session::start(target, program)?;
    let (mut after, mut report) = (String::new(), String::new());
    for (index, step) in parse_steps(&before)?.1.iter().enumerate() {
        let mut answers = Vec::new();
        for line in &step.commands {
            answers.extend(session.answer(line)?);
        }
        let separator = if index == 0 { "" } else { "\n" };
        let asked: Vec<&String> = step.comment.iter().chain(&step.commands).collect();
        let _ = writeln!(after, "{separator}{}\n---", join(&asked));
        answers.iter().for_each(|answer| {
            let _ = writeln!(after, "{answer}");
        });
        if answers != step.answers {
            let (recorded, now) = (step.answers.join("\n"), answers.join("\n"));
            let _ =
                writeln!(report, "\n{}\n--- recorded\n{recorded}\n--- now\n{now}", join(&asked));
        }
    }
    if update {
        fs::write(&path, after)?;
        return Ok(());
    }
    ensure!(report.is_empty(), "kvctl does not print what etcdctl printed:\n{report}");
    Ok(())
}

fn join(lines: &[&String]) -> String {
    lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
}

/// Commands that change nothing, so that both programs get the same answer from one server.
const LIVE: &[&str] = &[
    "endpoint status",
    "endpoint status --cluster",
    "endpoint status --hex",
    "endpoint hashkv --cluster",
    "endpoint hashkv --rev 2",
    "get '' --prefix",
    "get '' --prefix --hex",
    "get none",
    "watch a --rev 2 -- false",
    "lease list",
    "lease timetolive 123",
    "lease timetolive 123 --keys",
    "lease timetolive 123 --hex",
];

/// Everything that a recorded session would have to hide: sizes, indexes, ids, the version.
#[test]
fn live_answers_are_byte_equal() {
    let etcdctl = match go_binary("etcdctl") {
        Ok(path) => path,
        Err(error) if etcd_is_required() => panic!("{error:#}"),
        Err(_) => return,
    };
    let kvctl = workspace_binary("kvctl").unwrap();
    let mut session = Session::start(Target::from_env().unwrap(), kvctl.clone()).unwrap();
    session
        .run("ctl put a 'x<y>'; ctl put a 2; ctl put b \"$(printf '\\377')\"; ctl lease grant 9999")
        .unwrap();
    for command in LIVE {
        for format in ["simple", "fields", "json", "table", "protobuf"] {
            let (flags, exec) = command.split_once(" -- ").unwrap_or((command, ""));
            let exec = if exec.is_empty() { String::new() } else { format!("-- {exec}") };
            let line = format!("ctl {flags} -w {format} {exec}");
            session.program.clone_from(&etcdctl);
            let theirs = session.run(&line).unwrap();
            session.program.clone_from(&kvctl);
            let ours = session.run(&line).unwrap();
            assert_eq!(shown(&ours.stdout), shown(&theirs.stdout), "{line}");
            assert_eq!(ours.status.code(), theirs.status.code(), "{line}");
        }
    }
}

/// Health takes its time, which is never the same: the time is cut out where it stands.
#[test]
fn health_is_byte_equal_but_for_the_time() {
    let session =
        Session::start(Target::from_env().unwrap(), workspace_binary("kvctl").unwrap()).unwrap();
    let endpoint = session.endpoint();
    let run = |format: &str| {
        let output = session.run(&format!("ctl endpoint health -w {format}")).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let simple = run("simple");
    let before = format!("{endpoint} is healthy: successfully committed proposal: took = ");
    assert!(simple.strip_prefix(&before).is_some_and(|took| took.ends_with("s\n")), "{simple}");
    let json = run("json");
    let before = format!("[{{\"endpoint\":\"{endpoint}\",\"health\":true,\"took\":\"");
    assert!(json.strip_prefix(&before).is_some_and(|took| took.ends_with("s\"}]\n")), "{json}");
    let fields: Vec<String> = run("fields").lines().map(str::to_owned).collect();
    assert_eq!(fields[..2], [format!("\"Endpoint\" : \"{endpoint}\""), "\"Health\" : true".into()]);
    assert!(fields[2].starts_with("\"Took\" : ") && fields[2].ends_with('s'), "{fields:?}");
    assert_eq!(fields[3..], ["\"Error\" : ", ""]);
    let table = run("table");
    assert!(table.lines().nth(1).unwrap().contains("| HEALTH | "), "{table}");
    assert_eq!(session.run("ctl endpoint health -w protobuf").unwrap().status.code(), Some(4));
}
