//! Everything a member can be told, as one plain struct that is already validated.
//!
//! ```text
//!   flags (-x=v, --x v)  >  ETCD_* < KVD_* environment  >  YAML --config-file  >  defaults
//!              \                     |                        /
//!               +----------- options (one table) ------------+
//!                                    |
//!                    settings (text by option, with origin)
//!                                    |
//!                     Config (typed, checked against itself)
//! ```
//! Flags, environment, file, `--help` and the documentation all come from the table in `options`,
//! so an option cannot exist in one of them only. A value keeps where it came from until it is
//! parsed, so that every error can name the flag, the variable or the line of the file.
//!
//! Differences from etcd, all deliberate: a config file does not switch flags and environment off;
//! a flag wins over its variable with a warning instead of ending the process; a key of the file or a
//! variable that names nothing is passed over as in etcd, but with a warning that has the nearest
//! known name; durations in a file may be written as `5s`; an option that kvd does not implement is
//! an error when ignoring it would change security or durability.
//!
//! `kvd config` (in `command`) shows what came together, or looks for all that a start would find.

mod auth_token;
mod build;
mod command;
mod environment;
mod error;
mod file;
mod flags;
mod gates;
mod help;
pub mod ids;
mod options;
mod security;
mod settings;
mod suggest;
#[cfg(test)]
mod tests;
mod url;
mod value;

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::TokenKind;
use crate::tls;
pub use command::Report;
pub use error::Error;
use flags::{CommandLine, Flag};
use settings::{Origin, Settings};
pub use url::Url;

/// The etcd whose behaviour kvd has; clients are told so unless `--server-version` says otherwise.
pub const ETCD_VERSION: &str = "3.6.16";

/// A member's settings after all sources were merged and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Human name of this member.
    pub name: String,
    pub data_dir: PathBuf,

    pub listen_client_urls: Vec<Url>,
    pub advertise_client_urls: Vec<Url>,
    pub listen_peer_urls: Vec<Url>,
    pub initial_advertise_peer_urls: Vec<Url>,
    pub client_tls: tls::Settings,
    pub peer_tls: tls::Settings,
    pub http: Http,
    /// Other processes may listen on the same TCP ports.
    pub share_ports: bool,
    /// Sorted by name. As it was given: only a member without data minds what is wrong with it.
    pub initial_cluster: Vec<InitialMember>,
    /// Where the list was given: how errors about it begin.
    pub initial_cluster_origin: String,
    pub initial_cluster_state: ClusterState,
    pub initial_cluster_token: String,
    pub strict_reconfig_check: bool,
    pub max_learners: usize,

    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub pre_vote: bool,

    /// Effective quota on the size of the data; None: no quota was asked for.
    pub quota_backend_bytes: Option<u64>,
    /// None: history stays until somebody compacts it.
    pub auto_compaction: Option<AutoCompaction>,
    /// How often members compare the hashes of their data; None: never.
    pub corrupt_check: Option<Duration>,
    /// How often the leader looks whether the hashes that members kept at compactions are equal, apart
    /// from each compaction's own look; None: they are not compared.
    pub compact_hash_check: Option<Duration>,
    /// A member that starts compares its data with the others' and ends if it differs.
    pub initial_corrupt_check: bool,
    /// etcd's rule at the quota: no put at all, until the alarm is disarmed by hand.
    pub strict_etcd_quota: bool,
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    pub max_concurrent_streams: u32,
    /// Pings more frequent than this end a client's connection.
    pub grpc_keepalive_min_time: Duration,
    /// The server's own pings; None: it sends none.
    pub grpc_keepalive_interval: Option<Duration>,
    /// Time a client has to answer a ping; None: it may take forever.
    pub grpc_keepalive_timeout: Option<Duration>,
    pub watch_progress_notify_interval: Duration,

    pub auth_token: TokenKind,
    /// How long a simple token is remembered that nobody shows.
    pub auth_token_ttl: Duration,
    pub bcrypt_cost: u32,
    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,

    /// False: acknowledged writes may be lost when the power fails.
    pub fsync: bool,
    /// A snapshot is due when the log grew by more than this or by twice the live data since the
    /// last one, whichever is larger. Governs what etcd's `--snapshot-count` does there.
    pub snapshot_log_bytes: u64,
    /// Log kept below the newest snapshot for members that lag.
    pub log_retention_bytes: u64,
    /// Recent log entries kept in memory.
    pub log_cache_bytes: usize,
    /// Rows in memory that no checkpoint has moved to the engine yet.
    pub recent_bytes_max: usize,
    /// Rows of the engine kept in memory because they were read.
    pub row_cache_bytes: usize,
    /// None: what `disk_reserve_bytes` works out.
    pub disk_reserve: Option<u64>,
    /// The process's memory is never swapped out.
    pub lock_memory: bool,
    /// Runtimes that serve client connections, already resolved from 0 = automatic.
    pub grpc_threads: usize,

    pub log: LogConfig,
    /// The etcd version that clients are told (`Status.version`, `/version`).
    pub server_version: String,
    /// What was accepted but deserves a line in the log once logging works.
    pub warnings: Vec<String>,
    /// Options that were accepted and have no effect, for the same purpose.
    pub notes: Vec<String>,
}

/// What is served beside gRPC, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Pages and the gateway only; if there are any, the client URLs serve gRPC only.
    pub listen_client_http_urls: Vec<Url>,
    /// Metrics and health only.
    pub listen_metrics_urls: Vec<Url>,
    /// Origins of pages whose scripts may ask; `*`: all.
    pub cors: Vec<String>,
    /// What a request over plain HTTP may call this host; `*`: anything.
    pub host_whitelist: Vec<String>,
    pub gateway: bool,
    /// Serve profiles of where time goes.
    pub profiles: bool,
    /// Measure the time of every call.
    pub extensive_metrics: bool,
}

/// One `name=url` group of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    pub name: String,
    /// Sorted as text, as etcd does before it hashes them.
    pub peer_urls: Vec<Url>,
}

/// What auto-compaction keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// So long.
    Periodic(Duration),
    /// So many revisions.
    Revisions(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    New,
    Existing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
    pub outputs: Vec<LogOutput>,
}

/// etcd's levels. Nothing is logged above Error, so the last three differ only in name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Panic,
    Fatal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Console,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    Stderr,
    Stdout,
    File(PathBuf),
}

/// The log writes zero-filled segments of this size, and the next one must fit.
const LOG_SEGMENT_BYTES: u64 = 16 << 20;
const DISK_RESERVE_BYTES_MAX: u64 = 256 << 20;

impl Config {
    /// Free space that writes must leave on a disk of this size: enough for the log to go on while
    /// reads, deletes and compaction make room.
    pub fn disk_reserve_bytes(&self, disk_bytes: u64) -> u64 {
        let share = (disk_bytes / 20).min(DISK_RESERVE_BYTES_MAX);
        self.disk_reserve.unwrap_or(share).max(2 * LOG_SEGMENT_BYTES)
    }
}

impl Default for Config {
    /// What `kvd` runs with when it is told nothing.
    fn default() -> Self {
        build::build(Settings::default()).expect("the table's defaults fit together")
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Startup {
    Run(Box<Config>),
    /// Text for stdout, then success: `--help` and `--version`.
    Print(String),
    /// `kvd config`: text for stdout and for stderr, and whether all is well.
    Report(Report),
}

/// Reads the process's arguments and variables, and the config file they name.
pub fn from_process() -> Result<Startup, Error> {
    let mut args = Vec::new();
    for arg in std::env::args_os().skip(1) {
        args.push(arg.into_string().map_err(|arg| {
            Error::new(format!("{arg:?}"), "is not valid UTF-8", "write it in UTF-8").usage()
        })?);
    }
    // Other people's variables may be anything; ours that are not text are left to their owner.
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load(&args, &variables)
}

/// As `from_process`, with the arguments after the program's name and the variables given.
pub fn load(args: &[String], variables: &[(String, String)]) -> Result<Startup, Error> {
    load_with(args, variables, |path| std::fs::read_to_string(path))
}

/// The same, and how the file is read.
pub fn load_with(
    args: &[String],
    variables: &[(String, String)],
    read: impl FnOnce(&str) -> std::io::Result<String>,
) -> Result<Startup, Error> {
    if let Some(("config", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return command::run(rest, variables).map(Startup::Report);
    }
    let mut settings = match flags::parse(args) {
        CommandLine::Help => return Ok(Startup::Print(help::text())),
        CommandLine::Version => return Ok(Startup::Print(version())),
        CommandLine::Flags(flags, problems) => gather(flags, problems, variables, read),
    };
    match settings.problems.is_empty() {
        true => build::build(settings).map(|config| Startup::Run(Box::new(config))),
        false => Err(settings.problems.swap_remove(0)),
    }
}

/// All sources, one over the other; what is wrong with them is among the problems.
fn gather(
    flags: Vec<Flag>,
    problems: Vec<Error>,
    variables: &[(String, String)],
    read: impl FnOnce(&str) -> std::io::Result<String>,
) -> Settings {
    let mut settings = Settings::beginning_with(problems);
    let option = options::by_name("config-file").expect("the table has --config-file");
    let flag = flags.iter().rfind(|flag| flag.is("config-file"));
    let file = match flag {
        Some(flag) => Some((flag.value.as_str(), flag.origin())),
        None => environment::lookup(variables, option)
            .map(|(value, name)| (value, Origin::Variable(name.into()))),
    };
    if let Some((path, origin)) = file.filter(|(path, _)| !path.is_empty()) {
        match read(path) {
            Ok(text) => file::apply(path, &text, &mut settings),
            Err(error) => settings.problems.push(Error::new(
                format!("{origin}: {path}"),
                format!("cannot be read ({error})"),
                "check the path and its rights",
            )),
        }
    }
    environment::apply(variables, &mut settings);
    for flag in flags {
        flag.apply(&mut settings);
    }
    settings
}

fn version() -> String {
    format!("kvd Version: {}\netcd API: {ETCD_VERSION}\n", env!("CARGO_PKG_VERSION"))
}
