//! The composition root: opens, starts, binds, and drains in reverse. Knows everybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::mm::{MlockAllFlags, mlockall};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::admission::Admission;
use crate::api::Identity;
use crate::auth::{Gate, Passwords, Tokens};
use crate::config::{Config, Url};
use crate::connection::{Arrival, ConnectionOptions};
use crate::entrances::{Dealers, Entrances, Listeners, places_for_clients};
use crate::front::{Front, MemberDisk, connection_options, runtime};
use crate::housekeeper::Housekeeper;
use crate::lease::Lessor;
use crate::member::Member;
use crate::pages::PeerPages;
use crate::poke::{Errands, Poke};
use crate::quota::Quota;
use crate::raft;
use crate::replica::{Admin, Current, Inbox, Outboxes, ReplicaOptions, Requests, Shared, Standing};
use crate::systemd::Manager;
use crate::tls::{self, Connector};
use crate::watch::Hub;
use crate::{limits, metrics, slow, stop};

/// Runs a member until it is told to stop. Every error names what failed and is safe to exit on.
pub fn run(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    metrics::begin();
    slow::begin(&config);
    if config.lock_memory {
        lock_memory()?;
    }
    // Sockets first: a port in use must leave the data directory alone.
    let listeners = Listeners::bind(&config)?;
    let tls = tls::Ends::open(&config)?;
    let member = Member::open(&config, &listeners.peers, &tls.to_members)?;
    member.serve(&config, listeners, tls, started)
}

/// Pages are locked as they are first used, so that what is only reserved stays free.
fn lock_memory() -> anyhow::Result<()> {
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags).context(
        "cannot lock the memory; leave --memory-mlock out, or allow it (LimitMEMLOCK=infinity in \
         the unit, or the capability IPC_LOCK)",
    )
}

impl Member {
    fn serve(
        self,
        config: &Config,
        listeners: Listeners,
        tls: tls::Ends,
        started: Instant,
    ) -> anyhow::Result<()> {
        let (stop_clients, clients_stopping) = watch::channel(false);
        let (stop_raft, raft_stopping) = watch::channel(false);
        let (poke, errands) = Poke::new();
        let hub = Hub::new(
            self.current.clone(),
            watch_limits(config),
            Box::new(|fatal| stop::fatal(&fatal)),
        );
        let (deal_peers, peers) = mpsc::unbounded_channel();
        let calls = (peers, tls.to_members.clone());
        let stop = raft_stopping.clone();
        let mut parts = self.start(config, &hub, (poke.clone(), errands), calls, stop)?;

        // Whoever leads next has to reach this member until its last client is answered.
        let peers = Dealers {
            deal: vec![deal_peers],
            places: Arc::new(Semaphore::new(limits::PEER_CONNECTIONS_MAX)),
            stop: raft_stopping,
        };
        let (tell_published, published) = oneshot::channel();
        let told = (&hub, &poke, tell_published);
        let (mut fronts, clients) = self.fronts(config, &mut parts, told, &clients_stopping);
        let (front, inbox) = fronts.pop().expect("there is at least one gRPC runtime");
        let threads = fronts.into_iter().map(|(front, inbox)| front.spawn(inbox));
        let threads = threads.collect::<std::io::Result<Vec<_>>>()?;
        let clients_runtime = runtime()?;
        let stopped = clients_runtime.block_on(async {
            let serving = tokio::spawn(front.run(inbox));
            let open = listeners.entrances(config, &tls);
            let manager = Manager::from_environment();
            let ready = async {
                open_doors(config, open, (&peers, &clients), published).await?;
                announce(config, started);
                manager.ready();
                manager.watch(self.current.clone()).await;
                anyhow::Ok(())
            };
            let reason = tokio::select! {
                biased;
                reason = wait_for_end() => reason?,
                ended = ready => return ended,
            };
            manager.stopping();
            tracing::info!("{reason}: stopping");
            hand_over(&parts.shared).await;
            stop_clients.send_replace(true);
            serving.await.context("serving clients")
        });
        clients_runtime.shutdown_timeout(limits::DRAIN_TIMEOUT);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a gRPC thread panicked"))?;
        }
        stop_raft.send_replace(true);
        parts.raft.join().map_err(|_| anyhow!("the raft thread panicked"))??;
        poke.stop();
        wait_bounded(parts.keeper, Duration::from_millis(700));
        self.wal.close();
        stopped?;
        stop::if_done();
        tracing::info!("stopped");
        Ok(())
    }

    /// The runtimes that serve clients, and who deals connections out to them. One of them makes this
    /// member known.
    fn fronts(
        &self,
        config: &Config,
        parts: &mut Parts,
        (hub, poke, tell_published): (&Arc<Hub>, &Poke, oneshot::Sender<()>),
        stop: &watch::Receiver<bool>,
    ) -> (Vec<(Front, Inbox)>, Dealers) {
        let mut tell_published = Some(tell_published);
        let places = Arc::new(Semaphore::new(places_for_clients()));
        let mut dealers = Dealers { deal: Vec::new(), places, stop: stop.clone() };
        let disk = MemberDisk { data_dir: self.data_dir.clone(), wal: self.wal.clone() };
        let disk = Arc::new(disk);
        let inboxes = std::mem::take(&mut parts.inboxes).into_iter();
        let fronts = inboxes.map(|inbox| {
            let (deal, connections) = mpsc::unbounded_channel();
            dealers.deal.push(deal);
            let front = Front {
                identity: self.identity,
                shared: parts.shared.clone(),
                hub: hub.clone(),
                poke: poke.clone(),
                compacted: parts.compacted.clone(),
                disk: disk.clone(),
                snapshots: self.snapshots.clone(),
                config: config.clone(),
                connections,
                publish: tell_published.take(),
                stop: stop.clone(),
            };
            (front, inbox)
        });
        (fronts.collect(), dealers)
    }

    /// Starts consensus and the housekeeper.
    fn start(
        &self,
        config: &Config,
        hub: &Arc<Hub>,
        (poke, errands): (Poke, Errands),
        (peers, connector): (mpsc::UnboundedReceiver<Arrival>, Arc<Connector>),
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Parts> {
        let (outboxes, inboxes) = Outboxes::new(config.grpc_threads);
        let (to_raft, requests) = mpsc::unbounded_channel::<Requests>();
        let (standing_sender, standing) = watch::channel(Standing::default());
        let (purge_sender, purge) = watch::channel(0);
        let (snapshot_sender, snapshot_requests) = watch::channel(0);
        let (compacted_sender, compacted) =
            watch::channel(self.current.load().compaction_finished());
        let forwarded = Arc::new(raft::Forwarded::new(self.identity.member_id));
        let lessor = Arc::new(Lessor::new(self.current.clone()));
        let gate = Arc::new(self.gate(config)?);
        let lease_calls = mpsc::unbounded_channel();
        let machine = raft::Machine {
            current: self.current.clone(),
            publish: hub.clone(),
            lessor: lessor.clone(),
            gate: gate.clone(),
            outboxes: outboxes.clone(),
            forwarded: forwarded.clone(),
            snapshots: self.snapshots.clone(),
            poke,
            room: room(config),
            applied_bytes: 0,
        };
        let admission = Arc::new(admission(config, &self.current));
        let shared = Arc::new(Shared {
            member_id: self.identity.member_id,
            quota: Quota::new(config.quota_backend_bytes, config.strict_etcd_quota),
            current: self.current.clone(),
            admission: admission.clone(),
            standing,
            outboxes: outboxes.clone(),
            options: replica_options(config),
            to_raft,
            lessor: lessor.clone(),
            gate,
            lease_calls: lease_calls.0.clone(),
        });
        let start = raft::Start {
            me: self.me(),
            founders: self.founders.clone(),
            addresses: BTreeMap::new(),
            heartbeat_interval: config.heartbeat_interval,
            election_timeout: config.election_timeout,
            request_timeout: request_timeout(config),
            pre_vote: config.pre_vote,
            strict_reconfig_check: config.strict_reconfig_check,
            max_learners: config.max_learners,
            log: self.log.clone(),
            machine,
            forwarded,
            current: self.current.clone(),
            admission,
            snapshots: self.snapshots.clone(),
            requests,
            outboxes,
            standing: standing_sender,
            purge,
            snapshot_requests,
            lessor,
            lease_calls,
            checks: checks(config, &compacted),
            peers,
            connector,
            peer_options: peer_options(config),
            pages: self.peer_pages(config),
        };
        let raft = spawn_raft(start, stop)?;
        let told = (snapshot_sender, purge_sender, compacted_sender);
        let keeper = self.housekeeper(config, shared.clone(), told).spawn(errands)?;
        Ok(Parts { shared, inboxes, compacted, raft, keeper })
    }

    fn me(&self) -> raft::Me {
        let Identity { cluster_id, member_id } = self.identity;
        raft::Me { cluster_id, member_id, log: self.wal.id() }
    }

    fn gate(&self, config: &Config) -> anyhow::Result<Gate> {
        let restarted_at = self.wal.last().map_or(0, |id| id.index);
        let tokens = Tokens::new(&config.auth_token, config.auth_token_ttl, restarted_at)
            .context("--auth-token")?;
        Ok(Gate::new(self.current.clone(), tokens, Passwords::new(config.bcrypt_cost)))
    }

    fn housekeeper(
        &self,
        config: &Config,
        shared: Arc<Shared>,
        (request_snapshot, purge, compacted): (
            watch::Sender<u64>,
            watch::Sender<u64>,
            watch::Sender<i64>,
        ),
    ) -> Housekeeper {
        let reserve = config.clone();
        Housekeeper {
            wal: self.wal.clone(),
            shared,
            snapshots: self.snapshots.clone(),
            disk_reserve: Box::new(move |disk_bytes| reserve.disk_reserve_bytes(disk_bytes)),
            snapshot_log_bytes: config.snapshot_log_bytes,
            log_retention_bytes: config.log_retention_bytes,
            request_snapshot,
            purge,
            compacted,
        }
    }

    fn peer_pages(&self, config: &Config) -> PeerPages {
        PeerPages {
            version: config.server_version.clone(),
            identity: self.identity,
            current: self.current.clone(),
        }
    }
}

fn spawn_raft(
    start: raft::Start,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<anyhow::Result<()>>> {
    std::thread::Builder::new().name("kvd-raft".into()).spawn(move || {
        let result = runtime()?.block_on(raft::start(start, stop));
        if let Err(error) = &result {
            stop::because(&format!("{error:#}"));
        }
        result
    })
}

fn room(config: &Config) -> raft::Room {
    let percent = |percent| config.recent_bytes_max * percent / 100;
    raft::Room {
        little: percent(limits::RECENT_PERCENT_WAIT),
        long: percent(limits::RECENT_PERCENT_MAX),
    }
}

fn admission(config: &Config, current: &Arc<Current>) -> Admission {
    let recent_bytes_max = config.recent_bytes_max * limits::RECENT_PERCENT_MAX / 100;
    Admission::new(current.clone(), config.max_request_bytes, recent_bytes_max)
}

fn checks(config: &Config, compacted: &watch::Receiver<i64>) -> raft::Checks {
    raft::Checks {
        compactions: config.compact_hash_check,
        all: config.corrupt_check,
        at_start: config.initial_corrupt_check,
        compacted: compacted.clone(),
    }
}

fn request_timeout(config: &Config) -> Duration {
    limits::REQUEST_TIMEOUT_BASE + 2 * config.election_timeout
}

fn replica_options(config: &Config) -> ReplicaOptions {
    ReplicaOptions {
        recent_bytes_max: config.recent_bytes_max,
        timeout: request_timeout(config),
        election_timeout: config.election_timeout,
    }
}

/// Members ping each other as often as they need to, and are pinged however clients are.
fn peer_options(config: &Config) -> ConnectionOptions {
    ConnectionOptions {
        ping_interval_min: None,
        keepalive_interval: Some(limits::PEER_PING_INTERVAL),
        keepalive_timeout: Some(limits::PEER_PING_TIMEOUT),
        ..connection_options(config)
    }
}

/// Takes connections: those of clients when the member is ready.
async fn open_doors(
    config: &Config,
    open: Entrances,
    (peers, clients): (&Dealers, &Dealers),
    published: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    peers.accept_all(open.peers)?;
    // Whoever watches over this member wants to know that it waits.
    clients.accept_all(open.metrics)?;
    ready(config, published).await;
    clients.accept_all(open.clients)?;
    Ok(())
}

/// Another member leads before this one stops, if one can.
async fn hand_over(shared: &Shared) {
    let (answer, done) = oneshot::channel();
    let admin = vec![(Admin::HandOver, answer)];
    // Consensus may have stopped already.
    let _ = shared.to_raft.send(Requests { admin, ..Requests::default() });
    match tokio::time::timeout(limits::HAND_OVER_TIMEOUT, done).await {
        Ok(Ok(Ok(()))) => {}
        _ => tracing::warn!("no other member took over the leadership"),
    }
}

/// What runs behind the clients.
struct Parts {
    shared: Arc<Shared>,
    inboxes: Vec<Inbox>,
    compacted: watch::Receiver<i64>,
    raft: JoinHandle<anyhow::Result<()>>,
    keeper: JoinHandle<()>,
}

fn watch_limits(config: &Config) -> crate::watch::Limits {
    crate::watch::Limits {
        progress_interval: config.watch_progress_notify_interval,
        ..Default::default()
    }
}

/// Clients are served once the member has made itself known, or waits for a leader too long.
async fn ready(config: &Config, published: oneshot::Receiver<()>) {
    if tokio::time::timeout(limits::READY_TIMEOUT, published).await.is_err() {
        tracing::warn!(
            name = config.name,
            "no leader yet: linearizable requests will wait for one"
        );
    }
}

/// One line that says the member serves, on which URLs, and how long that took.
fn announce(config: &Config, started: Instant) {
    let urls = |urls: &[Url]| urls.iter().map(|url| url.to_string()).collect::<Vec<_>>().join(",");
    tracing::info!(
        name = config.name,
        clients = urls(&config.listen_client_urls),
        peers = urls(&config.listen_peer_urls),
        data_dir = %config.data_dir.display(),
        took_ms = started.elapsed().as_millis() as u64,
        "ready to serve client requests"
    );
}

async fn wait_for_end() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = stop::done() => "no member any more",
    })
}

/// Waits for a thread, but not longer: what it leaves undone, the log repeats.
fn wait_bounded(thread: JoinHandle<()>, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
