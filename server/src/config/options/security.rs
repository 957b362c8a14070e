//! TLS, and who may ask for what.

use super::Kind::{Bool, Choice, Integer, List, Text};
use super::{Opt, option};

pub(super) static OPTIONS: &[Opt] = &[
    option("cert-file", Text, "", "Certificate that clients are shown, PEM.")
        .key("client-transport-security.cert-file"),
    option("key-file", Text, "", "Key of that certificate, PEM.")
        .key("client-transport-security.key-file"),
    option("client-cert-file", Text, "", "Certificate that this member shows as its own client.")
        .key("client-transport-security.client-cert-file"),
    option("client-key-file", Text, "", "Key of that certificate.")
        .key("client-transport-security.client-key-file"),
    option(
        "client-cert-auth",
        Bool,
        "false",
        "Require certificates of clients, which name their users.",
    )
    .key("client-transport-security.client-cert-auth"),
    option("client-crl-file", Text, "", "List of revoked client certificates, PEM or DER."),
    option(
        "client-cert-allowed-hostname",
        List,
        "",
        "Host names of which a client's certificate must have one.",
    )
    .key("client-transport-security.allowed-hostname"),
    option(
        "client-cert-allowed-cn",
        List,
        "",
        "Common names that clients' certificates may have; etcd has it in its file only.",
    )
    .key("client-transport-security.allowed-cn"),
    option(
        "trusted-ca-file",
        Text,
        "",
        "Authorities of client certificates, PEM. Setting it requires clients to have one.",
    )
    .key("client-transport-security.trusted-ca-file"),
    option("auto-tls", Bool, "false", "Make a certificate for clients, which nobody vouches for.")
        .key("client-transport-security.auto-tls"),
    option("peer-cert-file", Text, "", "Certificate that other members are shown, PEM.")
        .key("peer-transport-security.cert-file"),
    option("peer-key-file", Text, "", "Key of that certificate, PEM.")
        .key("peer-transport-security.key-file"),
    option(
        "peer-client-cert-file",
        Text,
        "",
        "Certificate that this member shows when it calls another; else --peer-cert-file.",
    )
    .key("peer-transport-security.client-cert-file"),
    option("peer-client-key-file", Text, "", "Key of that certificate.")
        .key("peer-transport-security.client-key-file"),
    option("peer-client-cert-auth", Bool, "false", "Require certificates of members that call.")
        .key("peer-transport-security.client-cert-auth"),
    option("peer-trusted-ca-file", Text, "", "Authorities of members' certificates, PEM.")
        .key("peer-transport-security.trusted-ca-file"),
    option(
        "peer-auto-tls",
        Bool,
        "false",
        "Make a certificate for members, which nobody vouches for.",
    )
    .key("peer-transport-security.auto-tls"),
    option("peer-crl-file", Text, "", "List of revoked certificates of members, PEM or DER."),
    option("peer-cert-allowed-cn", List, "", "Common names that members' certificates may have.")
        .key("peer-transport-security.allowed-cn"),
    option(
        "peer-cert-allowed-hostname",
        List,
        "",
        "Host names of which a member's certificate must have one.",
    )
    .key("peer-transport-security.allowed-hostname"),
    option(
        "peer-skip-client-san-verification",
        Bool,
        "false",
        "Let members call from addresses that are not in their certificates.",
    )
    .key("peer-transport-security.skip-client-san-verification")
    .experimental(),
    option(
        "self-signed-cert-validity",
        Integer(1, 1000),
        "1",
        "Years that a made certificate is good for.",
    ),
    option("cipher-suites", List, "", "Cipher suites of TLS 1.2 that are allowed, by Go's names."),
    option(
        "tls-min-version",
        Choice(&["", "TLS1.2", "TLS1.3"]),
        "TLS1.2",
        "Oldest TLS that is allowed.",
    ),
    option("tls-max-version", Choice(&["", "TLS1.2", "TLS1.3"]), "", "Newest TLS that is allowed."),
    option(
        "auth-token",
        Text,
        "simple",
        "Kind of token: simple, or jwt,sign-method=M,priv-key=FILE[,pub-key=FILE][,ttl=TIME].",
    ),
    option("auth-token-ttl", Integer(0, u32::MAX as i64), "300", "Seconds a simple token lives."),
    option("bcrypt-cost", Integer(4, 31), "10", "Work to hash a password."),
    option("cors", List, "*", "Origins that browsers may call from."),
    option("host-whitelist", List, "*", "Host names that a request over plain HTTP may ask for."),
];
