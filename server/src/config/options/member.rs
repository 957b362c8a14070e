//! What this member is, where it listens, and the limits it sets its clients.

use super::Kind::{Bool, Bytes, Choice, Duration, Integer, Milliseconds, Text, Urls};
use super::{Opt, option};

pub(super) static OPTIONS: &[Opt] = &[
    option("name", Text, "default", "Name of this member, unique in the cluster."),
    option("data-dir", Text, "${name}.kvd", "Directory that holds everything this member keeps."),
    option("wal-dir", Text, "", "Directory of the log.")
        .refused("a log outside the data directory")
        .instead(
            "mount the faster disk at --data-dir: nearly all that is written there is the log",
        ),
    option(
        "listen-client-urls",
        Urls,
        "http://localhost:2379",
        "Where to listen for clients, unix://path too. Setting it requires --advertise-client-urls.",
    ),
    option("listen-peer-urls", Urls, "http://localhost:2380", "Where to listen for other members."),
    option(
        "listen-client-http-urls",
        Urls,
        "",
        "Where to serve HTTP only; what is at --listen-client-urls then serves gRPC only.",
    ),
    option("heartbeat-interval", Milliseconds, "100", "Time between a leader's heartbeats."),
    option(
        "election-timeout",
        Milliseconds,
        "1000",
        "Time without a leader before an election; at least 5 heartbeats, at most 50 s.",
    ),
    option(
        "initial-election-tick-advance",
        Bool,
        "true",
        "Shorten the wait for the first election after a start.",
    )
    .accepted("a member that starts waits for a leader as long as at any time"),
    option("pre-vote", Bool, "true", "Ask whether an election can be won before starting one."),
    option(
        "config-file",
        Text,
        "",
        "YAML file with etcd's keys. Flags and variables override what it says.",
    ),
    option(
        "server-version",
        Text,
        super::super::ETCD_VERSION,
        "The etcd version that clients are told.",
    ),
];

pub(super) static LIMITS: &[Opt] = &[
    option(
        "quota-backend-bytes",
        Bytes,
        "0",
        "Size of the data, history included, at which it may not grow; 0 means 2GiB, below 0 no quota.",
    ),
    option(
        "strict-etcd-quota",
        Bool,
        "false",
        "Refuse every put at the quota, as etcd does, until the alarm is disarmed by hand.",
    ),
    option("max-txn-ops", Integer(1, i32::MAX as i64), "128", "Operations in one transaction."),
    option("max-request-bytes", Bytes, "1572864", "Size of one request."),
    option(
        "max-concurrent-streams",
        Integer(1, u32::MAX as i64),
        "4294967295",
        "Streams a client may have open on one connection.",
    ),
    option("grpc-keepalive-min-time", Duration, "5s", "How often a client may ping."),
    option(
        "grpc-keepalive-interval",
        Duration,
        "2h",
        "Time between the pings that look for dead clients; 0 sends none.",
    ),
    option(
        "grpc-keepalive-timeout",
        Duration,
        "20s",
        "Time a client has to answer a ping; 0 waits forever.",
    ),
    option(
        "watch-progress-notify-interval",
        Duration,
        "10m",
        "Time between progress notifications to idle watchers; at least 100ms, 0 means 10m.",
    )
    .experimental(),
    option(
        "warning-apply-duration",
        Duration,
        "100ms",
        "Applying a request for longer than this is logged.",
    )
    .experimental(),
    option(
        "warning-unary-request-duration",
        Duration,
        "300ms",
        "Serving a request for longer than this is logged.",
    )
    .experimental(),
    option(
        "socket-reuse-port",
        Bool,
        "false",
        "Let other processes of this user listen on the same ports.",
    )
    .key("socket-options.reuse-port"),
    option("socket-reuse-address", Bool, "false", "Bind ports that are still in TIME_WAIT.")
        .key("socket-options.reuse-address")
        .accepted("kvd always does so"),
    option("raft-read-timeout", Duration, "5s", "Deadline for reads between members.")
        .accepted("requests between members carry their own deadlines"),
    option("raft-write-timeout", Duration, "5s", "Deadline for writes between members.")
        .accepted("requests between members carry their own deadlines"),
    option("max-learners", Integer(1, i32::MAX as i64), "1", "Learners a cluster may have.")
        .experimental(),
    option("enable-grpc-gateway", Bool, "true", "Serve every call as JSON over HTTP, too."),
    option(
        "metrics",
        Choice(&["basic", "extensive"]),
        "basic",
        "extensive also measures how long every call takes.",
    ),
    option("listen-metrics-urls", Urls, "", "Where to serve metrics and health only."),
    option(
        "enable-pprof",
        Bool,
        "false",
        "Serve profiles of where time goes, at /debug/pprof/profile; also with --log-level=debug.",
    ),
];
