//! Who belongs to the cluster, and how members find each other.

use super::Kind::{Bool, Choice, Cluster, Duration, List, Text, Urls};
use super::{Opt, option};

pub(super) static OPTIONS: &[Opt] = &[
    option(
        "advertise-client-urls",
        Urls,
        "http://localhost:2379",
        "The client URLs other members and clients are told.",
    ),
    option(
        "initial-advertise-peer-urls",
        Urls,
        "http://localhost:2380",
        "The peer URLs other members are told. The member's id is computed from them.",
    ),
    option(
        "initial-cluster",
        Cluster,
        "${name}=${initial-advertise-peer-urls}",
        "Members of a new cluster as name=url,name=url, the same on each of them.",
    ),
    option(
        "initial-cluster-state",
        Choice(&["new", "existing"]),
        "new",
        "Whether a member without data starts a cluster or joins one.",
    ),
    option(
        "initial-cluster-token",
        Text,
        "etcd-cluster",
        "Keeps the ids of clusters apart that have the same URLs.",
    ),
    option(
        "strict-reconfig-check",
        Bool,
        "true",
        "Refuse membership changes that would cost the quorum.",
    ),
    option("force-new-cluster", Bool, "false", "Start over as a cluster of one.")
        .refused("cutting a cluster down to one member")
        .instead(
            "save a snapshot of a member that runs (kvctl snapshot save), or take the newest one, \
             restore it to a new data directory (kvutl snapshot restore), start that as a cluster \
             of one and add the others",
        ),
];

const SERVICE: &str = "discovery";
const LIST_THEM: &str = "name the members with --initial-cluster";
const WITH_SERVICE: &str = "it matters only with --discovery-endpoints, which is not supported";

pub(super) static DISCOVERY: &[Opt] = &[
    option("discovery-endpoints", List, "", "Endpoints of the discovery service.")
        .key("discovery-config.client.endpoints")
        .refused(SERVICE)
        .instead(LIST_THEM),
    option("discovery-token", Text, "", "Token of the cluster to discover.")
        .key("discovery-config.token")
        .secret()
        .refused(SERVICE)
        .instead(LIST_THEM),
    option("discovery-srv", Text, "", "Domain whose SRV records name the members.")
        .refused(SERVICE)
        .instead(LIST_THEM),
    option("discovery-srv-name", Text, "", "Suffix of the SRV records.")
        .refused(SERVICE)
        .instead(LIST_THEM),
    option("discovery-dial-timeout", Duration, "2s", "Deadline for connecting.")
        .key("discovery-config.client.dial-timeout")
        .accepted(WITH_SERVICE),
    option("discovery-request-timeout", Duration, "5s", "Deadline for a request.")
        .key("discovery-config.client.request-timeout")
        .accepted(WITH_SERVICE),
    option("discovery-keepalive-time", Duration, "2s", "Time between pings.")
        .key("discovery-config.client.keepalive-time")
        .accepted(WITH_SERVICE),
    option("discovery-keepalive-timeout", Duration, "6s", "Deadline for a ping's answer.")
        .key("discovery-config.client.keepalive-timeout")
        .accepted(WITH_SERVICE),
    option("discovery-insecure-transport", Bool, "true", "Without TLS.")
        .key("discovery-config.client.secure.insecure-transport")
        .accepted(WITH_SERVICE),
    option("discovery-insecure-skip-tls-verify", Bool, "false", "Without checking certificates.")
        .key("discovery-config.client.secure.insecure-skip-tls-verify")
        .accepted(WITH_SERVICE),
    option("discovery-cert", Text, "", "Certificate of this client.")
        .key("discovery-config.client.secure.cert")
        .accepted(WITH_SERVICE),
    option("discovery-key", Text, "", "Key of this client.")
        .key("discovery-config.client.secure.key")
        .accepted(WITH_SERVICE),
    option("discovery-cacert", Text, "", "Authority of the service's certificate.")
        .key("discovery-config.client.secure.cacert")
        .accepted(WITH_SERVICE),
    option("discovery-user", Text, "", "User name, and optionally :password.")
        .key("discovery-config.client.auth.username")
        .secret()
        .accepted(WITH_SERVICE),
    option("discovery-password", Text, "", "Password.")
        .key("discovery-config.client.auth.password")
        .secret()
        .accepted(WITH_SERVICE),
    option("discovery-fallback", Choice(&["exit", "proxy"]), "exit", "What to do if it fails.")
        .accepted("there is no discovery that could fail"),
    option("discovery", Text, "", "URL of the old discovery service.")
        .refused(SERVICE)
        .instead(LIST_THEM),
    option("discovery-proxy", Text, "", "Proxy to the old discovery service.")
        .accepted("it matters only with --discovery, which is not supported"),
];
