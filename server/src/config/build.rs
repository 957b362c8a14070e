//! From checked text to the typed struct, and the rules between options.

use std::path::PathBuf;
use std::time::Duration;

use super::settings::Settings;
use super::{
    AutoCompaction, ClusterState, Config, Error, Http, InitialMember, LogConfig, LogFormat,
    LogLevel, LogOutput, Url, auth_token, gates, security, value,
};
use crate::limits;

const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// etcd warns above it, because a snapshot then takes long to send.
const QUOTA_BYTES_RECOMMENDED: u64 = 8 << 30;
const REQUEST_BYTES_RECOMMENDED: u64 = 10 << 20;
/// Several fit into the memory for proposals, and one with its frame into a message to a peer.
const REQUEST_BYTES_MAX: i64 = limits::PROPOSAL_BYTES_MAX as i64 / 2;
const _: () = assert!(limits::PROPOSAL_BYTES_MAX <= limits::PEER_MESSAGE_BYTES_MAX);
/// A terabyte: what no cache needs, and what every usize of a 64-bit machine holds.
const MEMORY_BYTES_MAX: i64 = 1 << 40;
const PROGRESS_NOTIFY_DEFAULT: Duration = Duration::from_secs(600);
const PROGRESS_NOTIFY_MIN: Duration = Duration::from_millis(100);
/// A server that pings more often than this wastes its clients' batteries; gRPC raises it too.
const KEEPALIVE_INTERVAL_MIN: Duration = Duration::from_secs(1);

pub(super) fn build(mut settings: Settings) -> Result<Config, Error> {
    settings.check()?;
    let s = &settings;
    let duration = |name| s.parse(name, value::duration);
    let flag = |name| s.parse(name, value::boolean);
    let name = name(s)?;
    let data_dir = data_dir(s, &name)?;
    let initial_advertise_peer_urls = urls(s, "initial-advertise-peer-urls")?;
    let mut config = Config {
        initial_cluster: initial_cluster(s, &name, &initial_advertise_peer_urls)?,
        initial_cluster_origin: s
            .given("initial-cluster")
            .map_or_else(|| "--initial-cluster".into(), |given| given.origin.to_string()),
        name,
        data_dir,
        listen_client_urls: urls(s, "listen-client-urls")?,
        advertise_client_urls: urls(s, "advertise-client-urls")?,
        listen_peer_urls: urls(s, "listen-peer-urls")?,
        initial_advertise_peer_urls,
        client_tls: security::client_tls(s)?,
        peer_tls: security::peer_tls(s)?,
        http: http(s)?,
        share_ports: flag("socket-reuse-port")?,
        initial_cluster_state: initial_cluster_state(s),
        initial_cluster_token: s.text("initial-cluster-token").into(),
        strict_reconfig_check: flag("strict-reconfig-check")?,
        max_learners: integer(s, "max-learners")? as usize,
        heartbeat_interval: s.parse("heartbeat-interval", value::milliseconds)?,
        election_timeout: s.parse("election-timeout", value::milliseconds)?,
        pre_vote: flag("pre-vote")?,
        quota_backend_bytes: s.parse("quota-backend-bytes", quota)?,
        auto_compaction: auto_compaction(s)?,
        corrupt_check: positive(duration("corrupt-check-time")?),
        compact_hash_check: compact_hash_check(s)?,
        initial_corrupt_check: flag("experimental-initial-corrupt-check")?
            || gates::is_switched(s.text("feature-gates"), "InitialCorruptCheck", true),
        strict_etcd_quota: flag("strict-etcd-quota")?,
        max_txn_ops: integer(s, "max-txn-ops")? as usize,
        max_request_bytes: bytes(s, "max-request-bytes", 1, REQUEST_BYTES_MAX)? as usize,
        max_concurrent_streams: integer(s, "max-concurrent-streams")? as u32,
        grpc_keepalive_min_time: duration("grpc-keepalive-min-time")?,
        grpc_keepalive_interval: positive(duration("grpc-keepalive-interval")?)
            .map(|interval| interval.max(KEEPALIVE_INTERVAL_MIN)),
        grpc_keepalive_timeout: positive(duration("grpc-keepalive-timeout")?),
        watch_progress_notify_interval: s
            .parse("watch-progress-notify-interval", progress_notify)?,
        auth_token: s.parse("auth-token", auth_token::parse)?,
        auth_token_ttl: auth_token::ttl(integer(s, "auth-token-ttl")?),
        bcrypt_cost: integer(s, "bcrypt-cost")? as u32,
        warning_apply_duration: duration("warning-apply-duration")?,
        warning_unary_request_duration: duration("warning-unary-request-duration")?,
        fsync: !flag("unsafe-no-fsync")?,
        snapshot_log_bytes: bytes(s, "snapshot-log-bytes", 1 << 20, i64::MAX)?,
        log_retention_bytes: bytes(s, "log-retention-bytes", 0, i64::MAX)?,
        log_cache_bytes: bytes(s, "log-cache-bytes", 0, MEMORY_BYTES_MAX)? as usize,
        recent_bytes_max: bytes(s, "recent-bytes-max", 1 << 20, MEMORY_BYTES_MAX)? as usize,
        row_cache_bytes: bytes(s, "row-cache-bytes", 0, MEMORY_BYTES_MAX)? as usize,
        disk_reserve: Some(bytes(s, "disk-reserve-bytes", 0, i64::MAX)?).filter(|bytes| *bytes > 0),
        lock_memory: flag("memory-mlock")?,
        grpc_threads: grpc_threads(s)?,
        log: log(s)?,
        server_version: s.parse("server-version", server_version)?,
        warnings: Vec::new(),
        notes: Vec::new(),
    };
    contradictions(s, &config)?;
    warn(&mut settings, &config);
    config.warnings = settings.warnings;
    config.notes = settings.notes;
    Ok(config)
}

fn name(s: &Settings) -> Result<String, Error> {
    s.parse("name", |text| match text {
        "" => Err("must not be empty".into()),
        _ if text.contains(['=', ',', '/', '\0']) => {
            Err(format!("must not contain = , or /, but is \"{text}\""))
        }
        _ => Ok(text.to_string()),
    })
}

fn data_dir(s: &Settings, name: &str) -> Result<PathBuf, Error> {
    match s.given("data-dir") {
        Some(_) => nonempty_path(s, "data-dir"),
        None => Ok(PathBuf::from(format!("{name}.kvd"))),
    }
}

fn initial_cluster_state(s: &Settings) -> ClusterState {
    match s.text("initial-cluster-state") {
        "existing" => ClusterState::Existing,
        _ => ClusterState::New,
    }
}

fn nonempty_path(s: &Settings, name: &str) -> Result<PathBuf, Error> {
    s.parse(name, |text| match text {
        "" => Err("must not be empty".into()),
        _ => Ok(PathBuf::from(text)),
    })
}

fn urls(s: &Settings, name: &str) -> Result<Vec<Url>, Error> {
    let urls = s.parse(name, value::urls)?;
    match urls.is_empty() {
        true => Err(s.error(name, "must name at least one URL", "write http://host:port")),
        false => Ok(urls),
    }
}

/// The kind's own bounds hold already.
fn integer(s: &Settings, name: &str) -> Result<i64, Error> {
    s.parse(name, |text| value::integer(text, 0, i64::MAX))
}

fn bytes(s: &Settings, name: &str, min: i64, max: i64) -> Result<u64, Error> {
    s.parse(name, |text| match value::bytes(text)? {
        number if number < min => Err(format!("must be at least {min} bytes, not {text}")),
        number if number > max => Err(format!("must be at most {max} bytes, not {text}")),
        number => Ok(number as u64),
    })
}

fn http(s: &Settings) -> Result<Http, Error> {
    let flag = |name| s.parse(name, value::boolean);
    Ok(Http {
        listen_client_http_urls: s.parse("listen-client-http-urls", value::urls)?,
        listen_metrics_urls: s.parse("listen-metrics-urls", value::urls)?,
        cors: words(s, "cors"),
        host_whitelist: words(s, "host-whitelist"),
        gateway: flag("enable-grpc-gateway")?,
        profiles: flag("enable-pprof")? || s.text("log-level") == "debug",
        extensive_metrics: s.text("metrics") == "extensive",
    })
}

pub(super) fn words(s: &Settings, name: &str) -> Vec<String> {
    value::list(s.text(name)).map(str::to_owned).collect()
}

fn positive(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

/// A number is of hours or of revisions, as the mode says; a duration is one of the periodic mode.
fn auto_compaction(s: &Settings) -> Result<Option<AutoCompaction>, Error> {
    let mode = s.text("auto-compaction-mode");
    s.parse("auto-compaction-retention", |text| {
        let number = text.parse::<u32>().ok();
        Ok(match (mode, number) {
            (_, Some(0)) => None,
            (_, None) if text.is_empty() => None,
            ("", _) => return Err("needs --auto-compaction-mode=periodic or revision".into()),
            ("revision", Some(revisions)) => Some(AutoCompaction::Revisions(revisions.into())),
            ("revision", None) => {
                return Err(format!("must be a number of revisions, not \"{text}\""));
            }
            (_, Some(hours)) => Some(AutoCompaction::Periodic(Duration::from_secs(3600) * hours)),
            (_, None) => positive(value::duration(text)?).map(AutoCompaction::Periodic),
        })
    })
}

fn compact_hash_check(s: &Settings) -> Result<Option<Duration>, Error> {
    let interval = s.parse("compact-hash-check-time", |text| {
        positive(value::duration(text)?).ok_or_else(|| format!("must be above 0, not {text}"))
    })?;
    let off = gates::is_switched(s.text("feature-gates"), "CompactHashCheck", false);
    Ok((!off).then_some(interval))
}

fn quota(text: &str) -> Result<Option<u64>, String> {
    Ok(match value::bytes(text)? {
        0 => Some(QUOTA_BYTES_DEFAULT),
        number => u64::try_from(number).ok(),
    })
}

fn progress_notify(text: &str) -> Result<Duration, String> {
    match value::duration(text)? {
        Duration::ZERO => Ok(PROGRESS_NOTIFY_DEFAULT),
        interval if interval < PROGRESS_NOTIFY_MIN => {
            Err(format!("must be at least {PROGRESS_NOTIFY_MIN:?}, not {text}"))
        }
        interval => Ok(interval),
    }
}

/// Half the processors, as the replica and the log need some too, but two where there are two:
/// what a thread saves by working alone is less than what the second processor can do.
fn grpc_threads(s: &Settings) -> Result<usize, Error> {
    let threads = integer(s, "grpc-threads")? as usize;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(if threads > 0 { threads } else { (processors / 2).max(processors.min(2)) })
}

/// Clients parse it: Kubernetes switches features on by it.
fn server_version(text: &str) -> Result<String, String> {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let well_formed = numbers.len() == 3 && numbers.iter().all(|n| n.parse::<u32>().is_ok());
    match well_formed {
        true => Ok(text.into()),
        false => Err(format!("must be a version like 3.6.16, not \"{text}\"")),
    }
}

fn log(s: &Settings) -> Result<LogConfig, Error> {
    let level = match s.text("log-level") {
        "debug" => LogLevel::Debug,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "panic" => LogLevel::Panic,
        "fatal" => LogLevel::Fatal,
        _ => LogLevel::Info,
    };
    let format = match s.text("log-format") {
        "json" => LogFormat::Json,
        _ => LogFormat::Console,
    };
    let mut outputs = s.parse("log-outputs", |text| {
        value::list(text)
            .map(|output| match output {
                "default" | "stderr" => Ok(LogOutput::Stderr),
                "stdout" => Ok(LogOutput::Stdout),
                "systemd/journal" => Err("logging to the journal is not supported yet, but \
                                          systemd keeps what goes to stderr"
                    .to_string()),
                path => Ok(LogOutput::File(path.into())),
            })
            .collect::<Result<Vec<_>, _>>()
    })?;
    outputs.dedup();
    if outputs.is_empty() {
        outputs.push(LogOutput::Stderr);
    }
    Ok(LogConfig { level, format, outputs })
}

/// The members given, else this one alone.
fn initial_cluster(
    s: &Settings,
    name: &str,
    own_urls: &[Url],
) -> Result<Vec<InitialMember>, Error> {
    if s.given("initial-cluster").is_some() {
        return s.parse("initial-cluster", value::cluster);
    }
    let mut peer_urls = own_urls.to_vec();
    peer_urls.sort();
    Ok(vec![InitialMember { name: name.into(), peer_urls }])
}

/// Options that make no sense together.
fn contradictions(s: &Settings, config: &Config) -> Result<(), Error> {
    if let (Some(given), None) = (s.given("listen-client-urls"), s.given("advertise-client-urls")) {
        return Err(Error::of_value(
            &given.origin,
            "--advertise-client-urls is required when it is set, so that clients are told how to \
             reach this member",
            format!("add --advertise-client-urls={}", given.text),
        ));
    }
    let (heartbeat, election) =
        (config.heartbeat_interval.as_millis(), config.election_timeout.as_millis());
    if heartbeat == 0 {
        return Err(s.error("heartbeat-interval", "must be at least 1 ms", "try 100"));
    }
    if election < 5 * heartbeat {
        let why = format!(
            "{election} ms is less than 5 heartbeats, and --heartbeat-interval is {heartbeat} ms"
        );
        return Err(s.error("election-timeout", why, format!("try {}", 10 * heartbeat)));
    }
    if election > 50_000 {
        let why = format!("{election} ms is more than the 50000 ms allowed");
        return Err(s.error("election-timeout", why, "choose a shorter one"));
    }
    listeners(s, config)?;
    security::check(s, config)
}

/// All that is listened on can be, and once only.
fn listeners(s: &Settings, config: &Config) -> Result<(), Error> {
    for (name, urls) in [
        ("listen-peer-urls", &config.listen_peer_urls),
        ("initial-advertise-peer-urls", &config.initial_advertise_peer_urls),
    ] {
        if urls.iter().any(|url| url.socket_path().is_some()) {
            let why = "members reach each other over TCP only";
            return Err(s.error(name, why, "use http://host:port"));
        }
    }
    let mut sockets = Vec::new();
    let mut bound = Vec::new();
    for (name, urls) in [
        ("listen-client-urls", &config.listen_client_urls),
        ("listen-client-http-urls", &config.http.listen_client_http_urls),
        ("listen-metrics-urls", &config.http.listen_metrics_urls),
        ("listen-peer-urls", &config.listen_peer_urls),
    ] {
        for url in urls {
            if let Some(path) = url.socket_path() {
                if sockets.contains(&path) {
                    let why = format!("{url} would be listened on twice");
                    return Err(s.error(name, why, "name it once"));
                }
                sockets.push(path);
                continue;
            }
            let Some(address) = url.listen_address() else {
                let why = format!("\"{url}\" must have an IP address or localhost to listen on");
                return Err(s.error(name, why, "write the address instead of the name"));
            };
            if address.port() != 0 && bound.contains(&address) {
                let why = format!("{url} would be listened on twice");
                return Err(s.error(name, why, "give each listener a port of its own"));
            }
            bound.push(address);
        }
    }
    Ok(())
}

/// What works but should not go unnoticed.
fn warn(settings: &mut Settings, config: &Config) {
    let warnings = &mut settings.warnings;
    if !config.fsync {
        warnings.push("--unsafe-no-fsync: a power cut loses acknowledged writes".into());
    }
    if config.quota_backend_bytes.is_some_and(|quota| quota > QUOTA_BYTES_RECOMMENDED) {
        warnings.push("--quota-backend-bytes is above the 8 GiB recommended".into());
    }
    if config.max_request_bytes as u64 > REQUEST_BYTES_RECOMMENDED {
        warnings.push("--max-request-bytes is above the 10 MiB recommended".into());
    }
    for url in config.advertise_client_urls.iter().chain(&config.initial_advertise_peer_urls) {
        if url.listen_address().is_some_and(|address| address.ip().is_unspecified()) {
            warnings.push(format!("nobody can reach this member at {url}, which is advertised"));
        }
    }
    security::warn(warnings, config);
}
