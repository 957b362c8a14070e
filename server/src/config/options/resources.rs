//! Disk and memory: kvd's own bounds, and etcd's settings of its engine.

use super::Kind::{Bool, Bytes, Choice, Duration, Integer};
use super::{Opt, option};

const OTHER_ENGINE: &str = "kvd's engine has no such batches";

pub(super) static OPTIONS: &[Opt] = &[
    option(
        "recent-bytes-max",
        Bytes,
        "16MiB",
        "Memory for rows that only the log holds so far; a checkpoint empties it.",
    ),
    option("row-cache-bytes", Bytes, "16MiB", "Memory for rows read from disk."),
    option("log-cache-bytes", Bytes, "8MiB", "Memory for recent log entries."),
    option(
        "snapshot-log-bytes",
        Bytes,
        "64MiB",
        "Growth of the log after which a snapshot is due, or twice the live data if that is more.",
    ),
    option(
        "log-retention-bytes",
        Bytes,
        "16MiB",
        "Log kept below the newest snapshot for members that lag.",
    ),
    option(
        "disk-reserve-bytes",
        Bytes,
        "0",
        "Free disk space at which writes are refused; 0 means 5 % of the disk, at most 256MiB.",
    ),
    option(
        "grpc-threads",
        Integer(0, 1024),
        "0",
        "Threads that serve clients; 0 means half the processors, at least two of them.",
    ),
    option(
        "unsafe-no-fsync",
        Bool,
        "false",
        "Do not flush the log: acknowledged writes are lost when the power fails.",
    ),
    option("snapshot-count", Integer(0, i64::MAX), "10000", "Entries between snapshots.")
        .accepted("snapshots are governed by bytes: see --snapshot-log-bytes"),
    option("snapshot-catchup-entries", Integer(0, i64::MAX), "5000", "Entries kept.")
        .experimental()
        .accepted("the log kept is governed by bytes: see --log-retention-bytes"),
    option("max-snapshots", Integer(0, i64::MAX), "5", "Snapshot files kept.")
        .accepted("the newest two snapshots are kept"),
    option("max-wals", Integer(0, i64::MAX), "5", "Log files kept.")
        .accepted("the log kept is governed by bytes: see --log-retention-bytes"),
    option("backend-batch-interval", Duration, "0s", "Time between commits.")
        .accepted(OTHER_ENGINE),
    option("backend-batch-limit", Integer(0, i64::MAX), "0", "Operations in a commit.")
        .accepted(OTHER_ENGINE),
    option("backend-bbolt-freelist-type", Choice(&["", "map", "array"]), "", "Kind of free list.")
        .experimental()
        .accepted("kvd's engine has no free list"),
    option(
        "bootstrap-defrag-threshold-megabytes",
        Integer(0, i64::MAX),
        "0",
        "Free space that makes a start defragment.",
    )
    .experimental()
    .accepted("space is given back while the member runs"),
    option(
        "memory-mlock",
        Bool,
        "false",
        "Keep the memory of this process from being swapped out.",
    )
    .experimental(),
];
