//! The clients' side of a member: runtimes of one thread each, with all services on each.

use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use proto::etcdserverpb::cluster_server::ClusterServer;
use proto::etcdserverpb::kv_server::KvServer;
use proto::etcdserverpb::lease_server::LeaseServer;
use proto::etcdserverpb::maintenance_server::MaintenanceServer;
use proto::etcdserverpb::watch_server::WatchServer;
use proto::internal::MemberAttributes;
use store::datadir::DataDir;
use store::wal::Wal;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::maintenance::Disk;
use crate::api::watch::WatchService;
use crate::api::{Cluster, Identity, Kv, Lease, Maintenance};
use crate::config::{Config, Url};
use crate::connection::{self, Arrival, ConnectionOptions};
use crate::metrics::Sources;
use crate::pages::{Access, Pages};
use crate::poke::Poke;
use crate::replica::{Inbox, Replica, Shared};
use crate::services::Services;
use crate::snapshots::Snapshots;
use crate::watch::Hub;
use crate::{limits, publish, stop};

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
            make_known(&replica, &config, identity, self.disk.wal.id(), done);
        }
        let message_bytes_max = config.max_request_bytes + limits::REQUEST_OVERHEAD_BYTES;
        let kv = Kv::new(replica.clone(), identity, config.max_txn_ops, config.max_request_bytes);
        let quota = config.quota_backend_bytes.map_or(0, |bytes| bytes as i64);
        let maintenance = Maintenance::new(
            replica.clone(),
            identity,
            self.disk.clone(),
            self.snapshots,
            config.server_version.clone(),
            quota,
        );
        let header = {
            let replica = replica.clone();
            Arc::new(move |revision| identity.header(&replica, revision))
        };
        let abandoned = {
            let replica = replica.clone();
            Arc::new(move || -> Pin<Box<dyn Future<Output = ()> + Send>> {
                let replica = replica.clone();
                Box::pin(async move { replica.abandoned().await })
            })
        };
        let beats = (config.heartbeat_interval, config.election_timeout);
        let lease = Lease::new(replica.clone(), identity, beats, self.stop.clone());
        let watch = WatchService::new(&self.hub, header, abandoned, config.max_request_bytes);
        let sources = Sources {
            replica: replica.clone(),
            identity,
            wal: self.disk.wal.clone(),
            disk: self.disk.clone(),
            hub: self.hub.clone(),
            version: config.server_version.clone(),
            quota_bytes: config.quota_backend_bytes.unwrap_or(0),
            extensive: config.http.extensive_metrics,
        };
        let services = Services {
            kv: KvServer::new(kv)
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
            replica,
            pages: Arc::new(pages(&config, sources)),
            message_bytes_max,
            extensive_metrics: config.http.extensive_metrics,
        };
        let options = connection_options(&config);
        connection::serve(self.connections, services, options, self.stop).await;
    }
}

/// Tells the cluster who this member is, and then that it did.
fn make_known(
    replica: &Replica,
    config: &Config,
    identity: Identity,
    log: u64,
    done: oneshot::Sender<()>,
) {
    let attributes = MemberAttributes {
        id: identity.member_id,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.iter().map(Url::to_string).collect(),
        log,
    };
    let replica = replica.clone();
    tokio::spawn(async move {
        publish::publish(replica, attributes).await;
        // Nobody waits any more when it took too long.
        let _ = done.send(());
    });
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
