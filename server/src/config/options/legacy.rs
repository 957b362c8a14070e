//! Options that etcd has dropped and that manifests still pass.
//!
//! Booleans that became feature gates are here under their old names; the rest is what etcd itself
//! accepts and ignores.

use super::Kind::{Bool, Choice, Text};
use super::{Opt, option};

const GATE: &str = "kvd needs no switch for it";
const DROPPED: &str = "etcd has dropped it";
const V3: &str = "move its clients to the v3 API, and leave it out";
const PROXY: &str = "it matters only with --proxy";

pub(super) static OPTIONS: &[Opt] = &[
    option(
        "experimental-initial-corrupt-check",
        Bool,
        "false",
        "Compare the data with the other members' at the start: the gate InitialCorruptCheck.",
    ),
    option("experimental-compact-hash-check-enabled", Bool, "false", "Compare hashes.")
        .accepted("members compare the hashes of each compaction anyway"),
    option("experimental-enable-lease-checkpoint", Bool, "false", "Keep leases' remaining time.")
        .accepted(GATE),
    option("experimental-enable-lease-checkpoint-persist", Bool, "false", "Keep it on disk.")
        .accepted(GATE),
    option("experimental-stop-grpc-service-on-defrag", Bool, "false", "Turn clients away.")
        .accepted("defragmentation never stops the member"),
    option("experimental-txn-mode-write-with-shared-buffer", Bool, "true", "Share a buffer.")
        .accepted(GATE),
    option("enable-v2", Bool, "false", "Serve the v2 API.").refused("the v2 API").instead(V3),
    option("experimental-enable-v2v3", Text, "", "Serve the v2 API on v3 data.")
        .refused("the v2 API")
        .instead(V3),
    option(
        "v2-deprecation",
        Choice(&[
            "",
            "not-yet",
            "write-only",
            "write-only-drop-data",
            "write-only-skip-check",
            "gone",
        ]),
        "write-only",
        "Stage of the v2 API's end.",
    )
    .accepted("there is no v2 data"),
    option("proxy", Choice(&["", "off", "on", "readonly"]), "off", "Be a v2 proxy.")
        .refused("the v2 proxy")
        .instead("clients can be given the URLs of all members"),
    option("proxy-failure-wait", Text, "", "Milliseconds.").accepted(PROXY),
    option("proxy-refresh-interval", Text, "", "Milliseconds.").accepted(PROXY),
    option("proxy-dial-timeout", Text, "", "Milliseconds.").accepted(PROXY),
    option("proxy-write-timeout", Text, "", "Milliseconds.").accepted(PROXY),
    option("proxy-read-timeout", Text, "", "Milliseconds.").accepted(PROXY),
    option("debug", Bool, "false", "Log more.").accepted("write --log-level=debug"),
    option("log-package-levels", Text, "", "Levels by package.")
        .accepted("all that kvd logs has the same --log-level"),
    option("cluster-active-size", Text, "", "").accepted(DROPPED),
    option("cluster-remove-delay", Text, "", "").accepted(DROPPED),
    option("cluster-sync-interval", Text, "", "").accepted(DROPPED),
    option("config", Text, "", "").accepted(DROPPED),
    option("force", Bool, "false", "").accepted(DROPPED),
    option("max-result-buffer", Text, "", "").accepted(DROPPED),
    option("max-retry-attempts", Text, "", "").accepted(DROPPED),
    option("peer-heartbeat-interval", Text, "", "").accepted(DROPPED),
    option("peer-election-timeout", Text, "", "").accepted(DROPPED),
    option("retry-interval", Text, "", "").accepted(DROPPED),
    option("snapshot", Bool, "false", "").accepted(DROPPED),
    option("v", Bool, "false", "").accepted(DROPPED),
    option("vv", Bool, "false", "").accepted(DROPPED),
];
