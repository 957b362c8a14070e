//! One server process: started on free ports and its own directory, watched, signalled, stopped.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Client, Target, free_port};

/// How long a server may take from its start to its first answer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a server may take from SIGTERM to its end.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Pause between two looks at a process that is starting or ending.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// What to start. `NodeOptions::new(target)` is a single member with etcd's defaults.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    pub target: Target,
    /// The program to start, instead of the one that the target names.
    pub program: Option<PathBuf>,
    pub name: String,
    /// Flags after the ones that every node gets; they take etcd's form, `--flag=value`.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Words in front of the program, e.g. `["strace", "-D", ..]`. Signals go to the process that
    /// is started, so a wrapper must end up being the server itself.
    pub wrapper: Vec<String>,
    /// Parent of the data directory and the log; a temporary one when not given.
    pub dir: Option<PathBuf>,
    pub client_port: u16,
    pub peer_port: u16,
    /// Where peers reach this node, if that is not where it listens.
    pub advertised_peer_url: Option<String>,
    /// `--initial-cluster`; when not given, the node alone.
    pub initial_cluster: Option<String>,
}

impl NodeOptions {
    pub fn new(target: Target) -> Self {
        Self {
            target,
            program: None,
            name: "n1".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
            dir: None,
            client_port: free_port(),
            peer_port: free_port(),
            advertised_peer_url: None,
            initial_cluster: None,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }
}

/// A server process and what belongs to it. Dropped: killed, its temporary directory removed.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    dir: PathBuf,
    child: Option<Child>,
    temp: Option<tempfile::TempDir>,
}

impl Node {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// When the program is missing, ends early or does not answer in time; with the log's end.
    pub fn start(options: NodeOptions) -> Result<Self> {
        let mut node = Self::prepare(options)?;
        node.start_again()?;
        Ok(node)
    }

    /// As [`Node::start`] for a single member with default options.
    pub fn start_one(target: Target) -> Result<Self> {
        Self::start(NodeOptions::new(target))
    }

    /// The directory and the ports, and no process yet. Follow with [`Node::spawn`] to watch a
    /// start that is meant to fail.
    pub fn prepare(options: NodeOptions) -> Result<Self> {
        let (dir, temp) = match &options.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let temp = tempfile::Builder::new().prefix("kvd-test-").tempdir()?;
                (temp.path().to_path_buf(), Some(temp))
            }
        };
        fs::create_dir_all(&dir)?;
        Ok(Self { options, dir, child: None, temp })
    }

    /// Starts the process on the same ports and data as before, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Starts the process and returns at once.
    pub fn spawn(&mut self) -> Result<()> {
        assert!(self.child.is_none(), "node {} is already running", self.options.name);
        let program = match &self.options.program {
            Some(program) => program.clone(),
            None => self.options.target.binary()?,
        };
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = self.command(&program);
        command.stdin(Stdio::null()).stdout(File::try_clone(&log)?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn command(&self, program: &Path) -> Command {
        let options = &self.options;
        let mut command = match options.wrapper.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let (client, peer) = (self.endpoint(), self.peer_url());
        let advertised = options.advertised_peer_url.as_ref().unwrap_or(&peer);
        let alone = format!("{}={advertised}", options.name);
        let cluster = options.initial_cluster.as_ref().unwrap_or(&alone);
        command
            .arg(format!("--name={}", options.name))
            .arg(format!("--data-dir={}", self.data_dir().display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={advertised}"))
            .arg(format!("--initial-cluster={cluster}"))
            .args(&options.args);
        // A test must not depend on what its caller happens to have set for etcd or kvd.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ETCD_") || text.starts_with("KVD_") {
                command.env_remove(&name);
            }
        }
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Waits until the server answers a call over gRPC and knows a leader.
    pub fn wait_ready(&mut self) -> Result<()> {
        let endpoint = self.endpoint();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if block_on(Client::is_ready(&endpoint))? {
                return Ok(());
            }
            if let Some(status) = self.try_wait()? {
                bail!("{} ended while starting: {status}\n{}", self.title(), self.log_tail());
            }
            if Instant::now() > deadline {
                let tail = self.log_tail();
                bail!("{} did not answer within {READY_WITHIN:?}\n{tail}", self.title());
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// The exit status if the process has ended, after which it counts as stopped.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { bail!("{} is not running", self.title()) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {within:?}\n{}", self.title(), self.log_tail());
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// SIGTERM, and waits for the end: what an operator does.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit(STOP_WITHIN)
    }

    /// SIGKILL, and waits for the end. A paused process dies as well.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGSTOP: the process stays, and does nothing.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT after [`Node::pause`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} is not running", self.title()))?;
        let raw = i32::try_from(pid).context("a process id fits in pid_t")?;
        let pid = Pid::from_raw(raw).context("a process id is not 0")?;
        kill_process(pid, signal).with_context(|| format!("{signal:?} to {}", self.title()))
    }

    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && matches!(self.try_wait(), Ok(None))
    }

    /// The process id, while the process runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The client URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.options.client_port)
    }

    /// The URL that it listens on for its peers.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.options.peer_port)
    }

    /// The URL that its peers are told.
    pub fn advertised_peer_url(&self) -> String {
        self.options.advertised_peer_url.clone().unwrap_or_else(|| self.peer_url())
    }

    pub fn options(&self) -> &NodeOptions {
        &self.options
    }

    /// For the next start: flags, environment, target.
    pub fn options_mut(&mut self) -> &mut NodeOptions {
        &mut self.options
    }

    /// Parent of the data directory and the log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(format!("{}.data", self.options.name))
    }

    /// Standard output and error of all runs so far.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.options.name))
    }

    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of the log, for messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Leaves the temporary directory behind for a look at it, and says where it is.
    pub fn keep_dir(&mut self) -> PathBuf {
        match self.temp.take() {
            Some(temp) => temp.keep(),
            None => self.dir.clone(),
        }
    }

    fn title(&self) -> String {
        format!("{} {}", self.options.target.name(), self.options.name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing can be done about a process that cannot be killed, and drop must not panic.
        let _ = self.kill();
    }
}

/// Runs a future to its end on a thread of its own, so that callers may or may not be inside of a
/// runtime already.
fn block_on<F>(future: F) -> Result<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(future))
        });
        thread.join().expect("the future does not panic")
    })
}
