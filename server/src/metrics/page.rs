//! The page, part by part.

use super::text::Text;
use super::{APPLIED, METRICS, Sources, calls, lock, process};

/// All numbers as Prometheus reads them.
pub fn page(sources: &Sources) -> String {
    let mut text = Text::default();
    sources.server(&mut text);
    consensus(&mut text);
    sources.data(&mut text);
    operations(&mut text);
    sources.watches(&mut text);
    leases(&mut text);
    sources.log(&mut text);
    disk(&mut text);
    peers(&mut text, sources.identity.member_id);
    health(&mut text);
    calls::write(&mut text, sources.extensive);
    process::write(&mut text);
    text.into_string()
}

fn consensus(text: &mut Text) {
    let raft = &METRICS.raft;
    for (name, help, counter) in [
        ("etcd_server_leader_changes_seen_total", "New leaders.", &raft.leader_changes),
        ("etcd_server_proposals_failed_total", "Proposals that failed.", &raft.proposals_failed),
        (
            "etcd_server_read_indexes_failed_total",
            "Linearizable reads that no leader confirmed.",
            &raft.read_indexes_failed,
        ),
        (
            "etcd_server_slow_read_indexes_total",
            "Those that gave up waiting.",
            &raft.slow_read_indexes,
        ),
        (
            "etcd_server_heartbeat_send_failures_total",
            "Heartbeats that were not answered.",
            &raft.heartbeat_failures,
        ),
        ("etcd_server_learner_promote_successes", "Learners with a vote now.", &raft.promotions),
        ("kvd_snapshots_installed_total", "Snapshots of other members.", &raft.snapshot_installs),
    ] {
        text.counter(name, help, counter);
    }
    let name = "etcd_server_client_requests_total";
    text.family(name, "counter", "Calls, by the version that clients say they have.");
    for (kind, version, count) in calls::versions() {
        text.series(name, &[("client_api_version", version.as_str()), ("type", kind)], count);
    }
}

fn operations(text: &mut Text) {
    let kv = &METRICS.kv;
    for (name, help, counter) in [
        ("etcd_mvcc_put_total", "Puts.", &kv.puts),
        ("etcd_mvcc_delete_total", "Deletions of a key or a range.", &kv.deletes),
        ("etcd_mvcc_range_total", "Ranges.", &kv.ranges),
        ("etcd_mvcc_txn_total", "Transactions of more than one operation.", &kv.txns),
        ("etcd_server_slow_apply_total", "Commands that took long to apply.", &kv.slow_applies),
    ] {
        text.counter(name, help, counter);
    }
    let success = |place: usize| if place == 0 { "false" } else { "true" };
    let name = "etcd_server_apply_duration_seconds";
    text.family(name, "histogram", "How long applying a command took.");
    for (op, durations) in APPLIED.iter().zip(&kv.applied) {
        for (place, durations) in durations.iter().enumerate().filter(|(_, h)| h.is_used()) {
            let labels = [("op", *op), ("success", success(place)), ("version", "v3")];
            text.distribution(name, &labels, durations);
        }
    }
    let name = "etcd_server_range_duration_seconds";
    text.family(name, "histogram", "How long ranges took.");
    for (place, durations) in kv.range_durations.iter().enumerate().filter(|(_, h)| h.is_used()) {
        text.distribution(name, &[("success", success(place))], durations);
    }
    let name = "etcd_mvcc_hash_duration_seconds";
    text.histogram(name, "How long hashing all data took.", &kv.hash_durations);
    let name = "etcd_mvcc_hash_rev_duration_seconds";
    text.histogram(name, "How long hashing up to a revision took.", &kv.hash_rev_durations);
}

fn leases(text: &mut Text) {
    let leases = &METRICS.leases;
    for (name, help, counter) in [
        ("etcd_debugging_lease_granted_total", "Leases granted.", &leases.granted),
        ("etcd_debugging_lease_revoked_total", "Leases revoked.", &leases.revoked),
        ("etcd_debugging_lease_renewed_total", "Keepalives as the leader.", &leases.renewed),
        ("etcd_debugging_server_lease_expired_total", "Leases that ended.", &leases.expired),
    ] {
        text.counter(name, help, counter);
    }
    text.histogram("etcd_debugging_lease_ttl_total", "Seconds granted.", &leases.ttls);
}

fn disk(text: &mut Text) {
    let disk = &METRICS.disk;
    let name = "etcd_disk_backend_commit_duration_seconds";
    text.histogram(name, "How long it took until a run of commands was to be seen.", &disk.runs);
    let name = "kvd_checkpoint_duration_seconds";
    let help = "How long moving rows to the engine took, which nobody waits for.";
    text.histogram(name, help, &disk.checkpoints);
    let name = "etcd_disk_backend_snapshot_duration_seconds";
    text.histogram(name, "How long writing a snapshot file took.", &disk.snapshots);
}

/// The other members, by their ids.
fn peers(text: &mut Text, own: u64) {
    let clients = &METRICS.clients;
    let name = "etcd_network_client_grpc_received_bytes_total";
    text.counter(name, "Bytes from clients.", &clients.received);
    let name = "etcd_network_client_grpc_sent_bytes_total";
    text.counter(name, "Bytes to clients.", &clients.sent);
    let peers = lock(&METRICS.raft.peers);
    if peers.is_empty() {
        return;
    }
    let peers: Vec<(String, &super::Peer)> =
        peers.iter().map(|(id, peer)| (format!("{id:x}"), *peer)).collect();
    type Read = fn(&super::Peer) -> u64;
    let series: [(&str, &str, &str, Read); 3] = [
        ("etcd_network_peer_received_bytes_total", "From", "Bytes from a member.", |peer| {
            peer.traffic.received.get()
        }),
        ("etcd_network_peer_sent_bytes_total", "To", "Bytes to a member.", |peer| {
            peer.traffic.sent.get()
        }),
        ("etcd_network_peer_sent_failures_total", "To", "Calls that failed.", |peer| {
            peer.send_failures.get()
        }),
    ];
    for (name, label, help, read) in series {
        text.family(name, "counter", help);
        for (id, peer) in &peers {
            text.series(name, &[(label, id.as_str())], read(peer));
        }
    }
    let name = "etcd_network_peer_round_trip_time_seconds";
    text.family(name, "histogram", "How long heartbeats took.");
    for (id, peer) in &peers {
        text.distribution(name, &[("To", id.as_str())], &peer.round_trips);
    }
    let own = format!("{own:x}");
    let name = "etcd_network_active_peers";
    text.family(name, "gauge", "Whether a member can be reached.");
    for (id, peer) in &peers {
        let labels = [("Local", own.as_str()), ("Remote", id.as_str())];
        text.series(name, &labels, peer.active.get());
    }
    let name = "etcd_network_disconnected_peers_total";
    text.family(name, "counter", "How often a member could not be reached any more.");
    for (id, peer) in &peers {
        let labels = [("Local", own.as_str()), ("Remote", id.as_str())];
        text.series(name, &labels, peer.disconnected.get());
    }
}

fn health(text: &mut Text) {
    let health = &METRICS.health;
    text.counter("etcd_server_health_success", "/health that was well.", &health.success);
    text.counter("etcd_server_health_failures", "/health that was not.", &health.failures);
    let checks = lock(&health.checks);
    if checks.is_empty() {
        return;
    }
    let name = "etcd_server_healthcheck";
    text.family(name, "gauge", "Whether a check was well when it was made last.");
    for it in &*checks {
        text.series(name, &[("name", it.check), ("type", it.page)], it.ok);
    }
    let name = "etcd_server_healthchecks_total";
    text.family(name, "counter", "Checks, by how they went.");
    for it in &*checks {
        for (status, count) in [("success", it.successes), ("error", it.errors)] {
            if count > 0 {
                let labels = [("name", it.check), ("status", status), ("type", it.page)];
                text.series(name, &labels, count);
            }
        }
    }
}
