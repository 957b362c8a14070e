//! Logging, compaction, checks and tracing.

use super::Kind::{Bool, Choice, Duration, Gates, Integer, List, Text};
use super::{Opt, option};

pub(super) static LOGGING: &[Opt] = &[
    option(
        "log-level",
        Choice(&["debug", "info", "warn", "error", "panic", "fatal"]),
        "info",
        "Least important level that is logged.",
    ),
    option(
        "log-format",
        Choice(&["console", "json"]),
        "console",
        "console for people, json with etcd's keys for machines.",
    ),
    option(
        "log-outputs",
        List,
        "stderr",
        "Where to log: stderr (also called default), stdout, or paths of files.",
    ),
    option("logger", Choice(&["zap"]), "zap", "Logging library.")
        .accepted("there is only one logger"),
    option("enable-log-rotation", Bool, "false", "Rotate log files.")
        .refused("log rotation")
        .instead(
            "log to stderr and let the service manager rotate, or use logrotate's copytruncate",
        ),
    option("log-rotation-config-json", Text, "", "How to rotate log files.")
        .accepted("it matters only with --enable-log-rotation"),
];

const PACED: &str = "compaction runs in slices and paces itself";
const TRACING: &str = "distributed tracing";
const METRICS: &str = "/metrics has the times of every step of a request (--metrics=extensive)";

pub(super) static OPTIONS: &[Opt] = &[
    option(
        "auto-compaction-retention",
        Text,
        "0",
        "History to keep: a duration or hours, or a number of revisions; 0 keeps all.",
    ),
    option(
        "auto-compaction-mode",
        Choice(&["", "periodic", "revision"]),
        "periodic",
        "Whether --auto-compaction-retention is a time or a number of revisions.",
    ),
    option("compaction-batch-limit", Integer(0, i64::MAX), "0", "Revisions in a batch.")
        .experimental()
        .accepted(PACED),
    option("compaction-sleep-interval", Duration, "0s", "Pause between batches.")
        .experimental()
        .accepted(PACED),
    option(
        "feature-gates",
        Gates,
        "",
        "etcd's feature gates as Gate=true,Gate=false. Those that kvd needs no switch for have no \
         effect, the others are refused.",
    ),
    option(
        "corrupt-check-time",
        Duration,
        "1h",
        "Time between comparisons of members' data, unless a compaction has compared it; 0 means none.",
    )
    .experimental(),
    option(
        "compact-hash-check-time",
        Duration,
        "1m",
        "Time after which members that were late at a compaction are asked for its hash again.",
    )
    .experimental(),
    option("downgrade-check-time", Duration, "5s", "Time between looks at a downgrade.")
        .experimental()
        .accepted("kvd does not poll for downgrades"),
    option("enable-distributed-tracing", Bool, "false", "Send spans to a collector.")
        .experimental()
        .refused(TRACING)
        .instead(METRICS),
    option("distributed-tracing-address", Text, "localhost:4317", "Address of the collector.")
        .experimental()
        .accepted("it matters only with --enable-distributed-tracing"),
    option("distributed-tracing-service-name", Text, "etcd", "Name of the service.")
        .experimental()
        .accepted("it matters only with --enable-distributed-tracing"),
    option("distributed-tracing-instance-id", Text, "", "Name of the instance.")
        .experimental()
        .accepted("it matters only with --enable-distributed-tracing"),
    option("distributed-tracing-sampling-rate", Integer(0, 1_000_000), "0", "Per million.")
        .experimental()
        .accepted("it matters only with --enable-distributed-tracing"),
];
