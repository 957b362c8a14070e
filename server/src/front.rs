//! The clients' side of a member: runtimes of one thread each, with all services on each.

use std::sync::Arc;
use std::thread::JoinHandle;

use proto::etcdserverpb::auth_server::AuthServer;
use proto::etcdserverpb::cluster_server::ClusterServer;
use proto::etcdserverpb::kv_server::KvServer;
use proto::etcdserverpb::lease_server::LeaseServer;
use proto::etcdserverpb::maintenance_server::MaintenanceServer;
use proto::etcdserverpb::watch_server::WatchServer;
use proto::healthpb::health_server::HealthServer;
use proto::internal::MemberAttributes;
use proto::v3electionpb::election_server::ElectionServer;
use proto::v3lockpb::lock_server::LockServer;
use store::datadir::DataDir;
use store::mvcc::Need;
use store::wal::Wal;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::maintenance::Disk;
use crate::api::watch::{Abandoned, Guard, Headers, WatchService};
use crate::api::{Auth, Caller, Cluster, Election, Health, Identity, Kv, Lease, Lock, Maintenance};
use crate::config::{Config, Url};
use crate::connection::{self, Arrival, ConnectionOptions};
use crate::metrics::Sources;
use crate::pages::{Access, Pages};
use crate::poke::Poke;
use crate::replica::{Inbox, Replica, Shared};
use crate::services::Services;
use crate::snapshots::Snapshots;
use crate::watch::Hub;
use crate::{compactor, limits, publish, quota, stop};

/// One runtime that serves clients.
pub struct Front {
    pub identity: Identity,
    pub shared: Arc<Shared>,
    pub hub: Arc<Hub>,
    pub poke: Poke,
    pub compacted: watch::Receiver<i64>,
    pub disk: Arc<MemberDisk>,
    pub snapshots: Arc<Snapshots>,
    pub config: Config,
    pub connections: mpsc::UnboundedReceiver<Arrival>,
    /// The one runtime that tells the cluster who this member is; hears when that is done.
    pub publish: Option<oneshot::Sender<()>>,
    pub stop: watch::Receiver<bool>,
}

impl Front {
    pub fn spawn(self, inbox: Inbox) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("kvd-grpc".into()).spawn(move || match runtime() {
            Ok(runtime) => {
                runtime.block_on(self.run(inbox));
                // A snapshot file that is written for a client is no reason to wait.
                runtime.shutdown_timeout(limits::DRAIN_TIMEOUT);
            }
            Err(error) => stop::because(&format!("starting a runtime: {error}")),
        })
    }

    pub async fn run(self, inbox: Inbox) {
        let Self { identity, config, .. } = self;
        let replica = Replica::new(self.shared, inbox, self.poke, self.compacted);
        if let Some(done) = self.publish {
            look_after(&replica, &config, identity, (self.disk.wal.id(), done));
        }
        let message_bytes_max = config.max_request_bytes + limits::REQUEST_OVERHEAD_BYTES;
        let kv = Kv::new(replica.clone(), identity, config.max_txn_ops, config.max_request_bytes);
        let kv = Arc::new(kv);
        let quota = config.quota_backend_bytes.map_or(-1, |bytes| bytes as i64);
        let maintenance = Maintenance::new(
            replica.clone(),
            identity,
            self.disk.clone(),
            self.snapshots,
            config.server_version.clone(),
            quota,
        );
        let header = headers(&replica, identity);
        let beats = (config.heartbeat_interval, config.election_timeout);
        let lease = Lease::new(replica.clone(), identity, beats, self.stop.clone());
        let sources = sources(&replica, identity, (&self.disk, &self.hub), &config);
        let watch = WatchService::new(
            &self.hub,
            header.clone(),
            abandoned(&replica),
            watch_guard(&replica),
            config.max_request_bytes,
        );
        let caller = Caller::new(kv.clone(), lease.clone(), watch.clone(), header);
        let services = Services {
            kv: KvServer::from_arc(kv)
                .max_decoding_message_size(message_bytes_max)
                .max_encoding_message_size(usize::MAX),
            watch: WatchServer::new(watch)
                .max_decoding_message_size(message_bytes_max)
                .max_encoding_message_size(usize::MAX),
            lease: LeaseServer::new(lease).max_decoding_message_size(message_bytes_max),
            cluster: ClusterServer::new(Cluster::new(replica.clone(), identity))
                .max_decoding_message_size(message_bytes_max),
            maintenance: MaintenanceServer::new(maintenance)
                .max_decoding_message_size(message_bytes_max),
            auth: AuthServer::new(Auth::new(replica.clone(), identity))
                .max_decoding_message_size(message_bytes_max),
            lock: LockServer::new(Lock::new(caller.clone()))
                .max_decoding_message_size(message_bytes_max),
            election: ElectionServer::new(Election::new(caller, self.stop.clone()))
                .max_decoding_message_size(message_bytes_max),
            health: HealthServer::new(Health::new(self.stop.clone())),
            replica,
            pages: Arc::new(pages(&config, sources)),
            message_bytes_max,
            certificates_name_users: config.client_tls.client_cert_auth,
            extensive_metrics: config.http.extensive_metrics,
        };
        let options = connection_options(&config);
        connection::serve(self.connections, services, options, self.stop).await;
    }
}

fn headers(replica: &Replica, identity: Identity) -> Headers {
    let replica = replica.clone();
    Arc::new(move |revision| identity.header(&replica, revision))
}

/// Ends when this member has had no leader for too long.
fn abandoned(replica: &Replica) -> Abandoned {
    let replica = replica.clone();
    Arc::new(move || {
        let replica = replica.clone();
        Box::pin(async move { replica.abandoned().await })
    })
}

fn sources(
    replica: &Replica,
    identity: Identity,
    (disk, hub): (&Arc<MemberDisk>, &Arc<Hub>),
    config: &Config,
) -> Sources {
    Sources {
        replica: replica.clone(),
        identity,
        wal: disk.wal.clone(),
        disk: disk.clone(),
        hub: hub.clone(),
        version: config.server_version.clone(),
        quota_bytes: config.quota_backend_bytes.unwrap_or(0),
        extensive: config.http.extensive_metrics,
    }
}

/// Asks the gate about each watcher, if there is somebody to ask.
fn watch_guard(replica: &Replica) -> Guard {
    let replica = replica.clone();
    Arc::new(move |client, create| {
        if !replica.gate().is_on() {
            return None;
        }
        let (replica, client, create) = (replica.clone(), client.clone(), create.clone());
        Some(Box::pin(async move {
            let gate = replica.gate();
            let pass = gate.admit(&client, &[Need::of_watch(&create)]).await?;
            Ok(gate.recheck(pass)?)
        }))
    })
}

/// What one runtime does for the whole member: it tells the cluster who the member is, and `done` when
/// that is known; it watches the quota; it compacts.
fn look_after(
    replica: &Replica,
    config: &Config,
    identity: Identity,
    (log, done): (u64, oneshot::Sender<()>),
) {
    let Identity { member_id, .. } = identity;
    let attributes = MemberAttributes {
        id: member_id,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.iter().map(Url::to_string).collect(),
        log,
    };
    let publisher = replica.clone();
    tokio::spawn(async move {
        publish::publish(publisher, attributes).await;
        // Nobody waits any more when it took too long.
        let _ = done.send(());
    });
    tokio::spawn(quota::watch(replica.clone(), member_id));
    if let Some(mode) = config.auto_compaction {
        tokio::spawn(compactor::run(replica.clone(), mode, member_id));
    }
}

fn pages(config: &Config, sources: Sources) -> Pages {
    Pages {
        sources,
        version: config.server_version.clone(),
        access: Access {
            hosts: config.http.host_whitelist.clone(),
            origins: config.http.cors.clone(),
        },
        gateway: config.http.gateway,
        profiles: config.http.profiles,
    }
}

pub fn connection_options(config: &Config) -> ConnectionOptions {
    ConnectionOptions {
        concurrent_streams_max: config.max_concurrent_streams,
        ping_interval_min: Some(config.grpc_keepalive_min_time),
        keepalive_interval: config.grpc_keepalive_interval,
        keepalive_timeout: config.grpc_keepalive_timeout,
    }
}

/// A runtime on the thread that drives it.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Bytes of a file, or of the files in a folder.
fn folder_bytes(path: &std::path::Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(files) => files.flatten().map(|file| folder_bytes(&file.path())).sum(),
        Err(_) => std::fs::metadata(path).map_or(0, |file| file.len()),
    }
}

/// The sizes that maintenance calls ask for.
pub struct MemberDisk {
    pub data_dir: Arc<DataDir>,
    pub wal: Wal,
}

impl Disk for MemberDisk {
    fn physical_bytes(&self) -> u64 {
        folder_bytes(&self.data_dir.db()) + self.wal.retained_bytes()
    }

    fn last_index(&self) -> u64 {
        self.wal.last().map_or(0, |id| id.index)
    }
}
