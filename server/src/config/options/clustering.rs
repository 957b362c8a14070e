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
        .refused("cutting a cluster down to one member"),
];

const DISCOVERY_FEATURE: &str = "discovery";

pub(super) static DISCOVERY: &[Opt] = &[
    option("discovery-endpoints", List, "", "Endpoints of the discovery service.")
        .key("discovery-config.client.endpoints")
        .refused(DISCOVERY_FEATURE),
    option("discovery-token", Text, "", "Token of the cluster to discover.")
        .key("discovery-config.token")
        .refused(DISCOVERY_FEATURE),
    option("discovery-srv", Text, "", "Domain whose SRV records name the members.")
        .refused(DISCOVERY_FEATURE),
    option("discovery-srv-name", Text, "", "Suffix of the SRV records.").refused(DISCOVERY_FEATURE),
    option("discovery-dial-timeout", Duration, "2s", "Deadline for connecting.")
        .key("discovery-config.client.dial-timeout")
        .refused(DISCOVERY_FEATURE),
    option("discovery-request-timeout", Duration, "5s", "Deadline for a request.")
        .key("discovery-config.client.request-timeout")
        .refused(DISCOVERY_FEATURE),
    option("discovery-keepalive-time", Duration, "2s", "Time between pings.")
        .key("discovery-config.client.keepalive-time")
        .refused(DISCOVERY_FEATURE),
    option("discovery-keepalive-timeout", Duration, "6s", "Deadline for a ping's answer.")
        .key("discovery-config.client.keepalive-timeout")
        .refused(DISCOVERY_FEATURE),
    option("discovery-insecure-transport", Bool, "true", "Without TLS.")
        .key("discovery-config.client.secure.insecure-transport")
        .refused(DISCOVERY_FEATURE),
    option("discovery-insecure-skip-tls-verify", Bool, "false", "Without checking certificates.")
        .key("discovery-config.client.secure.insecure-skip-tls-verify")
        .refused(DISCOVERY_FEATURE),
    option("discovery-cert", Text, "", "Certificate of this client.")
        .key("discovery-config.client.secure.cert")
        .refused(DISCOVERY_FEATURE),
    option("discovery-key", Text, "", "Key of this client.")
        .key("discovery-config.client.secure.key")
        .refused(DISCOVERY_FEATURE),
    option("discovery-cacert", Text, "", "Authority of the service's certificate.")
        .key("discovery-config.client.secure.cacert")
        .refused(DISCOVERY_FEATURE),
    option("discovery-user", Text, "", "User name, and optionally :password.")
        .key("discovery-config.client.auth.username")
        .refused(DISCOVERY_FEATURE),
    option("discovery-password", Text, "", "Password.")
        .key("discovery-config.client.auth.password")
        .refused(DISCOVERY_FEATURE),
    option("discovery-fallback", Choice(&["exit", "proxy"]), "exit", "What to do if it fails.")
        .accepted("there is no discovery that could fail"),
    option("discovery", Text, "", "URL of the old discovery service.").refused(DISCOVERY_FEATURE),
    option("discovery-proxy", Text, "", "Proxy to the old discovery service.")
        .refused(DISCOVERY_FEATURE),
];
