//! This member's data, opened: who it is, its log, its state.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use store::Fatal;
use store::boot::{self, Places};
use store::datadir::DataDir;
use store::mvcc::StoreOptions;
use store::wal::{Wal, WalOptions};

use crate::api::Identity;
use crate::bootstrap::{self, Origin};
use crate::config::{Config, Url};
use crate::listen::Bound;
use crate::raft::{self, types};
use crate::replica::Current;
use crate::snapshots::Snapshots;
use crate::space::Space;
use crate::tls::Connector;
use crate::{limits, stop};

/// A member without its log may have voted and acknowledged what it no longer knows.
fn lost_log(config: &Config, known: Option<Identity>, what: &str) -> anyhow::Error {
    let wal = config.data_dir.join("wal");
    anyhow!("{}: {what}. {}", wal.display(), replacing(config, known))
}

/// What to do about a member that cannot go on with its log.
fn replacing(config: &Config, known: Option<Identity>) -> String {
    let id = known.map_or("<its id>".to_owned(), |known| format!("{:x}", known.member_id));
    let urls: Vec<String> = config.initial_advertise_peer_urls.iter().map(Url::to_string).collect();
    let (name, urls, data_dir) = (&config.name, urls.join(","), config.data_dir.display());
    format!(
        "A single member is restored from a snapshot file or a backup. One of several is replaced, \
         at another member:\n  kvctl member remove {id}\n  kvctl member add {name} \
         --peer-urls={urls}\nand a start with {data_dir} empty and \
         --initial-cluster-state=existing"
    )
}

fn has_log(folder: &std::path::Path) -> std::io::Result<bool> {
    let mut names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    Ok(names.any(|path: std::io::Result<_>| {
        path.is_ok_and(|path| path.extension().is_some_and(|extension| extension == "wal"))
    }))
}

/// An opened data directory with the log and the state in it.
pub struct Member {
    pub identity: Identity,
    pub founders: Option<BTreeMap<u64, types::Node>>,
    pub data_dir: Arc<DataDir>,
    pub wal: Wal,
    pub log: raft::Log,
    pub current: Arc<Current>,
    pub snapshots: Arc<Snapshots>,
}

impl Member {
    /// Opens what the data directory holds, or founds it.
    ///
    /// # Errors
    /// Each names what failed and what to do; nothing that was there is touched then.
    pub fn open(
        config: &Config,
        peer_listeners: &[Bound],
        connector: &Arc<Connector>,
    ) -> anyhow::Result<Self> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let known = data_dir
            .identity()
            .map(|known| Identity { cluster_id: known.cluster, member_id: known.member });
        // The identity is recorded after the log was made.
        if known.is_some() && !has_log(&data_dir.wal())? {
            return Err(lost_log(config, known, "the log is gone, and what it held with it"));
        }

        let wal_options = WalOptions {
            cache_bytes: config.log_cache_bytes,
            fsync: config.fsync,
            ..WalOptions::new(|fatal| stop::fatal(&fatal))
        };
        let disk = Arc::new(store::disk::RealDisk);
        let opened = Wal::open(disk, &data_dir.wal(), wal_options);
        let (wal, recovered) = opened.map_err(|fatal| match fatal {
            Fatal::Damaged { path, offset, what, .. } => {
                let remedy = format!("Nothing was changed. {}", replacing(config, known));
                Fatal::Damaged { path, offset, what, remedy }
            }
            other => other,
        })?;
        if recovered.cut_bytes > 0 {
            tracing::info!(bytes = recovered.cut_bytes, "log: cut an unfinished write at its end");
        }

        let begun = recovered.last.is_some() || recovered.purged.is_some();
        let Origin { identity, founders } =
            bootstrap::origin(config, known, begun, (peer_listeners, connector))?;
        data_dir.check_identity(identity.cluster_id, identity.member_id)?;

        let places = Places::of(&data_dir);
        stop::on_fatal_condemn(places.clone());
        let options = boot::Options {
            store: StoreOptions {
                max_txn_ops: config.max_txn_ops,
                recent_bytes_max: config.recent_bytes_max,
                cache_bytes: config.row_cache_bytes,
                ..StoreOptions::default()
            },
            engine: Default::default(),
            stall: limits::ENGINE_STALL_TIMEOUT,
        };
        let (store, _) = boot::open(&places, recovered.purged, &options)?;
        if !begun && store.applied().index > 0 {
            return Err(lost_log(config, known, "the log is empty, and what it held is gone"));
        }
        let space = Space::new(config.data_dir.clone(), wal.clone());
        let vote = recovered.vote.as_deref().map(types::decode_vote).transpose();
        let vote = vote.context("the log's vote")?;
        Ok(Self {
            identity,
            founders,
            log: raft::Log::new(wal.clone(), vote, recovered.committed),
            wal,
            current: Arc::new(Current::new(store)),
            snapshots: Arc::new(Snapshots::open(places, options, space)?),
            data_dir: Arc::new(data_dir),
        })
    }
}
