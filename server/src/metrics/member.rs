//! What is known about the member and read when the page is asked for.

use std::sync::Arc;

use store::wal::{FLUSH_BUCKETS_US, Wal};

use super::METRICS;
use super::text::Text;
use crate::api::Identity;
use crate::api::maintenance::Disk;
use crate::replica::Replica;
use crate::watch::Hub;

/// Whom the page asks.
pub struct Sources {
    pub replica: Replica,
    pub identity: Identity,
    pub disk: Arc<dyn Disk>,
    pub wal: Wal,
    pub hub: Arc<Hub>,
    pub version: String,
    pub quota_bytes: u64,
    pub extensive: bool,
}

impl Sources {
    /// Standing in the cluster, and the versions.
    pub fn server(&self, text: &mut Text) {
        let standing = self.replica.standing();
        let leads = standing.leader == self.identity.member_id;
        text.gauge("etcd_server_has_leader", "Whether there is a leader.", standing.leader != 0);
        text.gauge("etcd_server_is_leader", "Whether this member leads.", leads);
        let learner = standing.is_learner;
        text.gauge("etcd_server_is_learner", "Whether this member has no vote.", learner);
        let id = format!("{:x}", self.identity.member_id);
        let minor = self.version.rsplit_once('.').map_or(self.version.as_str(), |(minor, _)| minor);
        for (name, help, label, value) in [
            ("etcd_server_id", "This member's id, in hexadecimal.", "server_id", id.as_str()),
            (
                "etcd_server_version",
                "The etcd that clients see.",
                "server_version",
                self.version.as_str(),
            ),
            ("etcd_cluster_version", "The etcd that the cluster is.", "cluster_version", minor),
        ] {
            text.family(name, "gauge", help);
            text.series(name, &[(label, value)], 1u64);
        }
        text.family("etcd_server_feature_enabled", "gauge", "etcd's feature gates.");
        for (name, stage, on) in FEATURES {
            let labels = [("name", *name), ("stage", *stage)];
            text.series("etcd_server_feature_enabled", &labels, *on);
        }
        let applied = self.replica.store().applied().index;
        for (name, help, value) in [
            ("etcd_server_proposals_applied_total", "Entries applied here.", applied),
            // Whatever is known to be committed is applied in the same breath.
            ("etcd_server_proposals_committed_total", "Entries committed.", applied),
            (
                "etcd_server_proposals_pending",
                "Proposals of this member's clients on their way.",
                METRICS.raft.proposals_pending.get(),
            ),
            ("etcd_server_quota_backend_bytes", "Quota on the size of the data.", self.quota_bytes),
            (
                "etcd_server_snapshot_apply_in_progress_total",
                "Whether a snapshot of another member is being installed.",
                METRICS.raft.snapshots_installing.get(),
            ),
        ] {
            text.gauge(name, help, value);
        }
    }

    /// Sizes and revisions.
    pub fn data(&self, text: &mut Text) {
        let store = self.replica.store();
        let (sizes, engine) = (store.sizes(), store.engine_stats());
        let in_use = store.used_bytes().max(1);
        let all = self.disk.physical_bytes().max(in_use);
        for (name, help, value) in [
            ("etcd_mvcc_db_total_size_in_bytes", "Size on disk, the log included.", all),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", "Live data, history and leases.", in_use),
            ("etcd_debugging_mvcc_keys_total", "Live keys.", sizes.keys),
            ("kvd_history_bytes", "History that no compaction has removed.", sizes.history_bytes),
            ("kvd_recent_bytes", "Rows that only memory and the log hold.", sizes.recent_bytes),
            ("kvd_row_cache_bytes", "Rows kept because they were read.", sizes.cache_bytes),
            ("kvd_engine_dirty_bytes", "What the engine holds in memory.", engine.dirty_bytes),
            ("kvd_engine_physical_bytes", "Its files.", engine.physical_bytes),
        ] {
            text.gauge(name, help, value);
        }
        for (name, help, value) in [
            ("kvd_row_cache_hits_total", "Rows read that were kept.", sizes.cache_hits),
            ("kvd_row_cache_misses_total", "Rows read from the engine.", sizes.cache_misses),
        ] {
            text.count(name, help, value);
        }
        let revision = store.revision();
        text.gauge("etcd_debugging_mvcc_current_revision", "The newest revision.", revision);
        let compacted = store.compacted();
        text.gauge("etcd_debugging_mvcc_compact_revision", "The last compaction.", compacted);
        let put_bytes = METRICS.kv.put_bytes.get();
        let name = "etcd_debugging_mvcc_total_put_size_in_bytes";
        text.gauge(name, "Keys and values put, as they are stored.", put_bytes);
        let name = "etcd_network_known_peers";
        text.family(name, "gauge", "The members, this one among them.");
        let own = format!("{:x}", self.identity.member_id);
        for member in store.members() {
            let remote = format!("{:x}", member.id);
            let labels = [("Local", own.as_str()), ("Remote", remote.as_str())];
            text.series(name, &labels, 1u64);
        }
    }

    pub fn watches(&self, text: &mut Text) {
        let stats = self.hub.stats();
        for (name, help, value) in [
            ("etcd_debugging_mvcc_watch_stream_total", "Open watch streams.", stats.streams),
            ("etcd_debugging_mvcc_watcher_total", "Watchers.", stats.watchers),
            ("etcd_debugging_mvcc_slow_watcher_total", "Watchers that lag.", stats.lagging),
        ] {
            text.gauge(name, help, value);
        }
        let name = "etcd_debugging_mvcc_events_total";
        text.count(name, "Events sent to watchers.", stats.events as u64);
    }

    pub fn log(&self, text: &mut Text) {
        let stats = self.wal.stats();
        let name = "etcd_disk_wal_write_bytes_total";
        text.gauge(name, "Bytes written to the log.", stats.bytes);
        let bounds: Vec<f64> = FLUSH_BUCKETS_US.iter().map(|bound| *bound as f64 / 1e6).collect();
        let sum = stats.flush_latency.sum.as_secs_f64();
        // The log looks closer than etcd does at what takes less than a millisecond.
        let fine = FLUSH_BUCKETS_US.partition_point(|bound| *bound < 1000);
        let counts = &stats.flush_latency.counts;
        let mut coarse = counts[fine..].to_vec();
        coarse[0] += counts[..fine].iter().sum::<u64>();
        let name = "etcd_disk_wal_fsync_duration_seconds";
        text.family(name, "histogram", "How long flushes of the log took.");
        text.buckets(name, &[], &bounds[fine..], &coarse, sum);
        let name = "kvd_wal_flush_duration_seconds";
        text.family(name, "histogram", "The same, with a closer look at short ones.");
        text.buckets(name, &[], &bounds, counts, sum);
        for (name, help, value) in [
            ("kvd_wal_flushes_total", "Flushes of the log.", stats.flushes),
            ("kvd_wal_writes_total", "Writes to the log.", stats.writes),
            ("kvd_wal_segments_total", "Segments begun.", stats.segments),
            ("kvd_wal_segments_recycled_total", "Those in a file again.", stats.segments_recycled),
        ] {
            text.count(name, help, value);
        }
        let retained = self.wal.retained_bytes();
        text.gauge("kvd_wal_retained_bytes", "Size of the log on disk.", retained);
    }
}

/// Those of etcd 3.6, with what kvd does: it checks and writes lease checkpoints always.
const FEATURES: &[(&str, &str, bool)] = &[
    ("AllAlpha", "ALPHA", false),
    ("AllBeta", "BETA", false),
    ("CompactHashCheck", "ALPHA", false),
    ("InitialCorruptCheck", "ALPHA", false),
    ("LeaseCheckpoint", "ALPHA", true),
    ("LeaseCheckpointPersist", "ALPHA", true),
    ("SetMemberLocalAddr", "ALPHA", false),
    ("StopGRPCServiceOnDefrag", "ALPHA", false),
    ("TxnModeWriteWithSharedBuffer", "BETA", false),
];
