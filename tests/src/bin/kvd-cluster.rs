//! A cluster on this machine, for trying things out.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line tool")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Cluster, ClusterOptions, Target, workspace_binary};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: cargo cluster [options] [-- FLAG...]

Starts members of a new cluster on this machine, or those of the one that was started before in the
same folder, and stops them with Ctrl-C. Data and logs stay.
  --members N      how many, 1 to 9 (default 3)
  --dir PATH       where their data and logs are (default ./cluster)
  --port N         the first member's client port (default 2379); its peers come to the next one,
                   and each further member has ports 100 higher
  --clean          delete what an earlier cluster left in the folder, and start anew
  --target TARGET  kvd (default) or etcd, if tests/go/build has built it
Flags behind `--` go to every member, as in `cargo cluster -- --log-level=debug`.";

/// In the folder of a cluster: how it was started, which its members depend on.
const NOTE: &str = "cluster.txt";
const MEMBERS_MAX: usize = 9;
/// How long members may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Pause between two looks at whether all are alive.
const LOOK_EVERY: Duration = Duration::from_millis(200);

struct Options {
    cluster: ClusterOptions,
    dir: PathBuf,
    port: u16,
    clean: bool,
}

fn main() -> ExitCode {
    let run = || match parse(std::env::args_os().skip(1))? {
        None => {
            println!("{USAGE}");
            Ok(())
        }
        Some(options) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(options))
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvd-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `None`: help is asked for.
fn parse(args: impl Iterator<Item = OsString>) -> Result<Option<Options>> {
    let (mut dir, mut port, mut clean) = (PathBuf::from("cluster"), 2379, false);
    let mut cluster = ClusterOptions::new(Target::Kvd, 3);
    cluster.links = false;
    let mut args = args;
    while let Some(flag) = args.next() {
        let flag = flag.into_string().ok().context("options are text")?;
        match flag.as_str() {
            "--help" | "-h" => return Ok(None),
            "--clean" => clean = true,
            "--" => {
                for flag in args.by_ref() {
                    cluster.args.push(flag.into_string().ok().context("flags are text")?);
                }
            }
            "--members" | "--dir" | "--port" | "--target" => {
                let value = args.next().with_context(|| format!("{flag} needs a value"))?;
                let text = value.to_string_lossy();
                match flag.as_str() {
                    "--members" => cluster.members = text.parse().context("--members")?,
                    "--port" => port = text.parse().context("--port")?,
                    "--target" => cluster.target = text.parse().context("--target")?,
                    _ => dir = PathBuf::from(value),
                }
            }
            other => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    let members = cluster.members;
    ensure!((1..=MEMBERS_MAX).contains(&members), "--members is 1 to {MEMBERS_MAX}, not {members}");
    cluster.first_port = Some(port);
    Ok(Some(Options { cluster, dir, port, clean }))
}

async fn run(mut options: Options) -> Result<()> {
    build(options.cluster.target)?;
    prepare_dir(&options)?;
    let dir = fs::canonicalize(&options.dir)?;
    options.cluster.dir = Some(dir.clone());
    // Before the first member, so that none is left behind.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut cluster = Cluster::prepare(options.cluster)?;
    let started = tokio::task::spawn_blocking(move || {
        let started = cluster.start_all();
        (cluster, started)
    });
    let mut cluster = tokio::select! {
        started = started => {
            let (mut cluster, started) = started?;
            if let Err(error) = started {
                stop(&mut cluster)?;
                return Err(error);
            }
            cluster
        }
        // The members got it as well, or will end with this process's data.
        _ = interrupt.recv() => bail!("interrupted while starting"),
    };
    introduce(&cluster, &dir);
    let mut gone = Vec::new();
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = tokio::time::sleep(LOOK_EVERY) => report_ends(&mut cluster, &mut gone)?,
        }
        ensure!(gone.len() < cluster.places().len(), "all members have ended");
    }
    println!("\nstopping");
    stop(&mut cluster)
}

/// `cargo run` builds this program and nothing else; what it starts must be as new.
fn build(target: Target) -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO").filter(|_| target == Target::Kvd) else {
        return Ok(());
    };
    let is_release = std::env::current_exe()?.parent().is_some_and(|dir| dir.ends_with("release"));
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bin=kvd", "--bin=kvctl"]);
    command.args(is_release.then_some("--release"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    ensure!(command.status().context("cargo build")?.success(), "kvd could not be built");
    Ok(())
}

/// Makes the folder, and sees to it that what is in it belongs to this cluster.
fn prepare_dir(options: &Options) -> Result<()> {
    let (dir, members, port) = (&options.dir, options.cluster.members, options.port);
    let note = dir.join(NOTE);
    let now = format!("{} --members {members} --port {port}\n", options.cluster.target.name());
    let before = fs::read_to_string(&note).ok();
    if options.clean && before.is_some() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("data") => fs::remove_dir_all(&path)?,
                Some("log") => fs::remove_file(&path)?,
                _ => {}
            }
        }
    } else if let Some(before) = before {
        let (dir, before) = (dir.display(), before.trim());
        ensure!(
            before == now.trim(),
            "{dir} holds a cluster of {before}, and its members know each other by that; start it \
             so, or delete it with --clean, or take another --dir"
        );
    } else if dir.exists() {
        let is_empty = fs::read_dir(dir).context("--dir")?.next().is_none();
        ensure!(is_empty, "{} holds something else; take another --dir", dir.display());
    }
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    fs::write(&note, now).with_context(|| format!("write {}", note.display()))
}

fn introduce(cluster: &Cluster, dir: &Path) {
    for place in cluster.places() {
        let node = cluster.node(place);
        let (name, pid) = (&node.options().name, node.pid().unwrap_or_default());
        println!("{name}  clients {}  peers {}  pid {pid}", node.endpoint(), node.peer_url());
    }
    println!("\ndata and logs are in {}; Ctrl-C stops all members\n", dir.display());
    println!("  export ETCDCTL_ENDPOINTS={}", cluster.endpoints().join(","));
    if let Ok(kvctl) = workspace_binary("kvctl") {
        println!("  {} endpoint status --cluster -w table", kvctl.display());
    }
}

/// Says so, once, when a member has ended by itself.
fn report_ends(cluster: &mut Cluster, gone: &mut Vec<usize>) -> Result<()> {
    for place in cluster.places().filter(|place| !gone.contains(place)).collect::<Vec<_>>() {
        if let Some(status) = cluster.ended(place)? {
            let node = cluster.node(place);
            let (name, tail) = (&node.options().name, node.log_tail());
            eprintln!("{name} has ended: {status}; the end of its log:\n{tail}");
            gone.push(place);
        }
    }
    Ok(())
}

/// All at once: Ctrl-C in a terminal reaches all of them anyway.
fn stop(cluster: &mut Cluster) -> Result<()> {
    let running = cluster.places().filter(|place| cluster.node(*place).pid().is_some());
    let running: Vec<usize> = running.collect();
    for place in &running {
        cluster.node(*place).signal(Signal::TERM)?;
    }
    for place in running {
        cluster.node_mut(place).wait_exit(STOP_WITHIN)?;
    }
    Ok(())
}
