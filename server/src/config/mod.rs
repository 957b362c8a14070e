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
//! a flag wins over its variable with a warning instead of ending the process; unknown options,
//! variables (warning) and file keys are named with the nearest known one; durations in a file may be written
//! as `5s`; an option that kvd does not implement is an error when ignoring it would change
//! security or durability.

pub mod ids;
mod url;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use url::Url;

/// A member's settings after all sources were merged and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Human name of this member; one of the names in `initial_cluster`.
    pub name: String,
    pub data_dir: PathBuf,

    pub listen_client_urls: Vec<Url>,
    pub advertise_client_urls: Vec<Url>,
    pub listen_peer_urls: Vec<Url>,
    pub initial_advertise_peer_urls: Vec<Url>,
    /// Sorted by name; holds exactly this member for now.
    pub initial_cluster: Vec<InitialMember>,
    pub initial_cluster_state: ClusterState,
    pub initial_cluster_token: String,
    pub strict_reconfig_check: bool,

    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub initial_election_tick_advance: bool,
    pub pre_vote: bool,

    /// Effective quota on the size of the data; None: no quota was asked for.
    pub quota_backend_bytes: Option<u64>,
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
    /// Runtimes that serve client connections, already resolved from 0 = automatic.
    pub grpc_threads: usize,

    pub log: LogConfig,
    /// The etcd version that clients are told (`Status.version`, `/version`).
    pub server_version: String,
    /// What was accepted but deserves a line in the log once logging works.
    pub warnings: Vec<String>,
}

/// One `name=url` group of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    pub name: String,
    /// Sorted as text, as etcd does before it hashes them.
    pub peer_urls: Vec<Url>,
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

    /// Where to bind for clients, in the order given.
    pub fn client_addresses(&self) -> Vec<SocketAddr> {
        self.listen_client_urls.iter().filter_map(Url::listen_address).collect()
    }

    /// Where to bind for other members, in the order given.
    pub fn peer_addresses(&self) -> Vec<SocketAddr> {
        self.listen_peer_urls.iter().filter_map(Url::listen_address).collect()
    }

    pub fn member_id(&self) -> u64 {
        ids::member_id(&self.initial_advertise_peer_urls, &self.initial_cluster_token)
    }

    pub fn cluster_id(&self) -> u64 {
        ids::cluster_id(
            self.initial_cluster
                .iter()
                .map(|member| ids::member_id(&member.peer_urls, &self.initial_cluster_token)),
        )
    }
}

impl Default for Config {
    fn default() -> Self {
        let url = |text| vec![Url::parse(text).expect("the default URLs are well-formed")];
        let (client, peer) = (url("http://localhost:2379"), url("http://localhost:2380"));
        Config {
            name: "default".into(),
            data_dir: "default.kvd".into(),
            listen_client_urls: client.clone(),
            advertise_client_urls: client,
            listen_peer_urls: peer.clone(),
            initial_advertise_peer_urls: peer.clone(),
            initial_cluster: vec![InitialMember { name: "default".into(), peer_urls: peer }],
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: "etcd-cluster".into(),
            strict_reconfig_check: true,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            initial_election_tick_advance: true,
            pre_vote: true,
            quota_backend_bytes: Some(2 << 30),
            max_txn_ops: 128,
            max_request_bytes: 1536 * 1024,
            max_concurrent_streams: u32::MAX,
            grpc_keepalive_min_time: Duration::from_secs(5),
            grpc_keepalive_interval: Some(Duration::from_secs(2 * 60 * 60)),
            grpc_keepalive_timeout: Some(Duration::from_secs(20)),
            watch_progress_notify_interval: Duration::from_secs(10 * 60),
            warning_apply_duration: Duration::from_millis(100),
            warning_unary_request_duration: Duration::from_millis(300),
            fsync: true,
            snapshot_log_bytes: 64 << 20,
            log_retention_bytes: 16 << 20,
            log_cache_bytes: 8 << 20,
            recent_bytes_max: 32 << 20,
            row_cache_bytes: 16 << 20,
            disk_reserve: None,
            grpc_threads: 1,
            log: LogConfig {
                level: LogLevel::Info,
                format: LogFormat::Console,
                outputs: vec![LogOutput::Stderr],
            },
            server_version: "3.6.16".into(),
            warnings: Vec::new(),
        }
    }
}
