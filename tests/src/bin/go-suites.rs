//! Suites written in Go, `tests/go/{clients,kubernetes}`, run against a cluster of their own.
//!
//! Every test is a process: it has its own time limit and output, and while members are being
//! killed it can be tried again by itself. A test may fail and be tried again only for a reason
//! that such a kill gives to any client ([`EXCUSES`]); whatever else it says counts at once.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line tool")]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::{Cluster, ClusterOptions, Target};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: tests/go/run [clients] [kubernetes] [options]

Runs suites written in Go (all, if none is named), each against a new cluster on this machine.
  --members N      how many members the cluster has: 1 (default) or 3
  --kill           a member is killed and started again every 5 s; needs 3 members
  --target TARGET  kvd (default) or etcd, which tests/go/build builds
  --run REGEX      only tests whose names match
Environment: KVD_BIN and KVD_ETCD are programs to run instead of those that were built.";

const SUITES: [&str; 2] = ["clients", "kubernetes"];
const KILL_EVERY: Duration = Duration::from_secs(5);
/// So begin the names of tests that want a cluster in which nothing was written yet. They are started
/// once, and no member is killed.
const FRESH: &str = "TestFresh";
/// For a test as a whole, which go counts itself.
const TEST_WITHIN: &str = "-test.timeout=300s";
/// How often a test may be started while members are being killed.
const ATTEMPTS_MAX: usize = 6;
/// What a client may be told when the member it talks to, or the leader, was killed.
const EXCUSES: [&str; 8] = [
    "code = Unavailable",
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "etcdserver: no leader",
    "etcdserver: not leader",
    "connection refused",
    "error reading from server: EOF",
    "context deadline exceeded",
];

/// Somebody wants an end; it comes after the test that runs.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

struct Options {
    suites: Vec<&'static str>,
    members: usize,
    kill: bool,
    target: Target,
    run: String,
}

fn main() -> ExitCode {
    let run = || match parse(std::env::args().skip(1))? {
        None => {
            println!("{USAGE}");
            Ok(true)
        }
        Some(options) => {
            thread::spawn(listen);
            run(&options)
        }
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("go-suites: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Waits for the signals that would otherwise leave members behind.
fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        INTERRUPTED.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// `None`: help is asked for.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let (suites, run) = (Vec::new(), ".".to_owned());
    let target = Target::from_env()?;
    let mut options = Options { suites, members: 1, kill: false, target, run };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--kill" => options.kill = true,
            "--members" | "--target" | "--run" => {
                let value = args.next().with_context(|| format!("{arg} needs a value"))?;
                match arg.as_str() {
                    "--members" => options.members = value.parse().context("--members")?,
                    "--target" => options.target = value.parse().context("--target")?,
                    _ => options.run = value,
                }
            }
            name => match SUITES.iter().find(|suite| **suite == name) {
                Some(suite) => options.suites.push(suite),
                None => bail!("unknown suite or option {name}\n{USAGE}"),
            },
        }
    }
    if options.suites.is_empty() {
        options.suites.extend(SUITES);
    }
    ensure!(matches!(options.members, 1 | 3), "--members is 1 or 3, not {}", options.members);
    ensure!(options.members == 3 || !options.kill, "--kill needs --members 3");
    Ok(Some(options))
}

/// Whether everything has passed.
fn run(options: &Options) -> Result<bool> {
    build_target(options.target)?;
    let binaries: Vec<_> =
        options.suites.iter().map(|suite| build_suite(suite)).collect::<Result<_>>()?;
    let mut results = Vec::new();
    for (suite, binary) in options.suites.iter().zip(binaries) {
        results.push(run_suite(options, suite, &binary)?);
    }
    println!();
    for result in &results {
        println!("{result}");
    }
    Ok(results.iter().all(SuiteResult::is_good))
}

fn go_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("go")
}

/// `cargo run` builds this program and nothing else; what it starts must be as new.
fn build_target(target: Target) -> Result<()> {
    let mut command = match (target, std::env::var_os("CARGO")) {
        (Target::Etcd, _) if !target.is_built() => {
            let mut command = Command::new(go_dir().join("build"));
            command.arg("etcd");
            command
        }
        (Target::Kvd, Some(cargo)) if std::env::var_os("KVD_BIN").is_none() => {
            let executable = std::env::current_exe()?;
            let is_release = executable.parent().is_some_and(|dir| dir.ends_with("release"));
            let mut command = Command::new(cargo);
            command.args(["build", "--quiet", "--bin=kvd"]).args(is_release.then_some("--release"));
            command.current_dir(go_dir().join("../.."));
            command
        }
        _ => return Ok(()),
    };
    let status = command.status().context("build the target")?;
    ensure!(status.success(), "{} could not be built", target.name());
    Ok(())
}

/// Compiles a suite, before any member runs that it would slow down.
fn build_suite(suite: &str) -> Result<PathBuf> {
    let binary = go_dir().join(format!("../../target/go-suites/{suite}.test"));
    let mut command = Command::new("go");
    command.args(["test", "-c", "-o"]).arg(&binary).arg(".").current_dir(go_dir().join(suite));
    println!("compiling {suite}");
    let status = command.status().context("start go, which these suites need")?;
    ensure!(status.success(), "{suite} could not be compiled");
    Ok(fs::canonicalize(binary)?)
}

struct SuiteResult {
    title: String,
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// Tests within tests that have passed.
    subtests: usize,
    kills: usize,
    /// Attempts that kills have ended.
    excused: usize,
    took: Duration,
}

impl SuiteResult {
    fn is_good(&self) -> bool {
        self.failed.is_empty() && self.passed > 0
    }
}

impl fmt::Display for SuiteResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.passed + self.failed.len();
        let (title, passed, seconds) = (&self.title, self.passed, self.took.as_secs());
        write!(f, "{title}: {passed} of {all} tests passed in {seconds} s")?;
        write!(f, " ({} subtests)", self.subtests)?;
        if self.kills > 0 {
            write!(f, ", {} kills, {} attempts lost to them", self.kills, self.excused)?;
        }
        self.skipped.iter().try_for_each(|name| write!(f, "\n  skipped: {name}"))?;
        self.failed.iter().try_for_each(|name| write!(f, "\n  FAILED: {name}"))
    }
}

fn run_suite(options: &Options, suite: &str, binary: &Path) -> Result<SuiteResult> {
    let (target, members) = (options.target, options.members);
    let kind = if options.kill { ", one killed every 5 s" } else { "" };
    let title = format!("{suite} on {}, members {members}{kind}", target.name());
    println!("\n{title}");
    let (passed, failed, skipped, subtests) = (0, Vec::new(), Vec::new(), 0);
    let (kills, excused, took) = (0, 0, Duration::ZERO);
    let mut result = SuiteResult { title, passed, failed, skipped, subtests, kills, excused, took };
    let names = names(binary, &options.run)?;
    let (fresh, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.starts_with(FRESH));
    for name in fresh {
        // It could not be tried again.
        run_tests(options, false, (suite, binary), &[name], &mut result)?;
    }
    if !others.is_empty() {
        run_tests(options, options.kill, (suite, binary), &others, &mut result)?;
    }
    Ok(result)
}

/// Runs tests one after the other on one new cluster.
fn run_tests(
    options: &Options,
    kill: bool,
    (suite, binary): (&str, &Path),
    names: &[String],
    result: &mut SuiteResult,
) -> Result<()> {
    let mut cluster = ClusterOptions::new(options.target, options.members);
    cluster.links = false;
    // As often as the API server's own tests want it.
    let cluster = Cluster::start_with(cluster.arg("--watch-progress-notify-interval=1s"))?;
    let (started, endpoints) = (Instant::now(), cluster.endpoints().join(","));
    let keeper = Keeper::start(cluster, kill);
    let test = Test { suite, binary, target: options.target, endpoints, may_fail: kill };
    let ran = names.iter().try_for_each(|name| {
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
        test.run(name, result)
    });
    // Also after an error: nobody else ends the members.
    let kept = keeper.stop();
    ran?;
    match kept {
        Ok(kills) => result.kills += kills,
        Err(error) => result.failed.push(format!("the cluster itself: {error:#}")),
    }
    result.took += started.elapsed();
    Ok(())
}

fn names(binary: &Path, regex: &str) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .arg(format!("-test.list={regex}"))
        .env("KVD_SUITE_ENDPOINTS", "none, since nothing is run")
        .output()?;
    ensure!(output.status.success(), "{} does not list its tests", binary.display());
    let text = String::from_utf8(output.stdout)?;
    let tests = text.lines().filter(|line| line.starts_with("Test")).map(str::to_owned);
    let names: Vec<String> = tests.collect();
    ensure!(!names.is_empty(), "no test matches {regex}");
    Ok(names)
}

/// Has the cluster while the tests run, kills its members if wanted, and sees to it that none ends
/// otherwise.
struct Keeper {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<usize>>,
}

impl Keeper {
    fn start(cluster: Cluster, kill: bool) -> Self {
        let (stop, stopped) = mpsc::channel();
        Self { stop, thread: thread::spawn(move || keep(cluster, kill, &stopped)) }
    }

    /// How many members were killed.
    fn stop(self) -> Result<usize> {
        drop(self.stop);
        self.thread.join().ok().context("the thread that has the cluster panicked")?
    }
}

fn keep(mut cluster: Cluster, kill: bool, stopped: &mpsc::Receiver<()>) -> Result<usize> {
    let mut kills = 0;
    while stopped.recv_timeout(KILL_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
        check(&mut cluster)?;
        if kill {
            let place = kills % cluster.places().len();
            cluster.kill(place)?;
            cluster.start_again(place)?;
            kills += 1;
        }
    }
    check(&mut cluster)?;
    Ok(kills)
}

/// Fails when a member has ended by itself.
fn check(cluster: &mut Cluster) -> Result<()> {
    for place in cluster.places() {
        if let Some(status) = cluster.ended(place)? {
            let node = cluster.node(place);
            bail!("{} has ended: {status}\n{}", node.options().name, node.log_tail());
        }
    }
    Ok(())
}

/// How tests are started.
struct Test<'a> {
    suite: &'a str,
    binary: &'a Path,
    target: Target,
    endpoints: String,
    /// Members are being killed, and that may be a test's end.
    may_fail: bool,
}

impl Test<'_> {
    fn run(&self, name: &str, result: &mut SuiteResult) -> Result<()> {
        for attempt in 1.. {
            let started = Instant::now();
            let (success, output) = self.attempt(name)?;
            let seconds = started.elapsed().as_secs_f32();
            if success {
                let count = |mark: &str| output.lines().filter(|line| line.contains(mark)).count();
                result.subtests += count("    --- PASS: ");
                let skips = output.lines().filter(|line| line.contains("--- SKIP: "));
                result.skipped.extend(skips.map(|line| line.trim().to_owned()));
                result.passed += 1;
                println!("ok    {name} ({seconds:.1} s)");
                return Ok(());
            }
            let is_excused = EXCUSES.iter().any(|excuse| output.contains(excuse));
            let is_over = attempt == ATTEMPTS_MAX || INTERRUPTED.load(Ordering::Relaxed);
            if !self.may_fail || !is_excused || is_over {
                println!("FAIL  {name} ({seconds:.1} s)\n{output}");
                result.failed.push(name.to_owned());
                return Ok(());
            }
            result.excused += 1;
            println!("again {name} ({seconds:.1} s)");
        }
        Ok(())
    }

    fn attempt(&self, name: &str) -> Result<(bool, String)> {
        let output = Command::new(self.binary)
            .arg(format!("-test.run=^{name}$"))
            .args(["-test.v", TEST_WITHIN])
            .current_dir(go_dir().join(self.suite))
            .env("KVD_SUITE_ENDPOINTS", &self.endpoints)
            .env("KVD_SUITE_TARGET", self.target.name())
            .env("KVD_SUITE_KILLS", if self.may_fail { "1" } else { "0" })
            .stdin(Stdio::null())
            .output()?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        // A run that starts no test succeeds as well.
        let is_good = output.status.success() && text.contains(&format!("--- PASS: {name} "));
        let is_skipped = output.status.success() && text.contains(&format!("--- SKIP: {name} "));
        Ok((is_good || is_skipped, text))
    }
}
