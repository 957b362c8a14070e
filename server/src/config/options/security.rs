//! Authentication; and TLS: known, and refused until it works.

use super::Kind::{Bool, Choice, Integer, List, Text};
use super::{Opt, option};

const TLS: &str = "TLS";

pub(super) static OPTIONS: &[Opt] = &[
    option("cert-file", Text, "", "Certificate for clients.")
        .key("client-transport-security.cert-file")
        .refused(TLS),
    option("key-file", Text, "", "Key of that certificate.")
        .key("client-transport-security.key-file")
        .refused(TLS),
    option("client-cert-file", Text, "", "Certificate for the server's own client.")
        .key("client-transport-security.client-cert-file")
        .refused(TLS),
    option("client-key-file", Text, "", "Key of that certificate.")
        .key("client-transport-security.client-key-file")
        .refused(TLS),
    option("client-cert-auth", Bool, "false", "Require certificates of clients.")
        .key("client-transport-security.client-cert-auth")
        .refused(TLS),
    option("client-crl-file", Text, "", "Revoked client certificates.").refused(TLS),
    option("client-cert-allowed-hostname", List, "", "Host names clients may have.")
        .key("client-transport-security.allowed-hostname")
        .refused(TLS),
    option("trusted-ca-file", Text, "", "Authority of client certificates.")
        .key("client-transport-security.trusted-ca-file")
        .refused(TLS),
    option("auto-tls", Bool, "false", "Make a certificate for clients.")
        .key("client-transport-security.auto-tls")
        .refused(TLS),
    option("peer-cert-file", Text, "", "Certificate for members.")
        .key("peer-transport-security.cert-file")
        .refused(TLS),
    option("peer-key-file", Text, "", "Key of that certificate.")
        .key("peer-transport-security.key-file")
        .refused(TLS),
    option("peer-client-cert-file", Text, "", "Certificate for calling members.")
        .key("peer-transport-security.client-cert-file")
        .refused(TLS),
    option("peer-client-key-file", Text, "", "Key of that certificate.")
        .key("peer-transport-security.client-key-file")
        .refused(TLS),
    option("peer-client-cert-auth", Bool, "false", "Require certificates of members.")
        .key("peer-transport-security.client-cert-auth")
        .refused(TLS),
    option("peer-trusted-ca-file", Text, "", "Authority of members' certificates.")
        .key("peer-transport-security.trusted-ca-file")
        .refused(TLS),
    option("peer-auto-tls", Bool, "false", "Make a certificate for members.")
        .key("peer-transport-security.auto-tls")
        .refused(TLS),
    option("peer-crl-file", Text, "", "Revoked certificates of members.").refused(TLS),
    option("peer-cert-allowed-cn", List, "", "Common names members may have.")
        .key("peer-transport-security.allowed-cn")
        .refused(TLS),
    option("peer-cert-allowed-hostname", List, "", "Host names members may have.")
        .key("peer-transport-security.allowed-hostname")
        .refused(TLS),
    option("peer-skip-client-san-verification", Bool, "false", "Do not check members' names.")
        .key("peer-transport-security.skip-client-san-verification")
        .experimental()
        .refused(TLS),
    option("self-signed-cert-validity", Integer(1, 1000), "1", "Years.")
        .accepted("it matters only with --auto-tls"),
    option("cipher-suites", List, "", "Allowed cipher suites.").refused(TLS),
    option("tls-min-version", Choice(&["", "TLS1.2", "TLS1.3"]), "TLS1.2", "Oldest TLS.")
        .refused(TLS),
    option("tls-max-version", Choice(&["", "TLS1.2", "TLS1.3"]), "", "Newest TLS.").refused(TLS),
    option(
        "auth-token",
        Text,
        "simple",
        "Kind of token: simple, or jwt,sign-method=M,priv-key=FILE[,pub-key=FILE][,ttl=TIME].",
    ),
    option("auth-token-ttl", Integer(0, u32::MAX as i64), "300", "Seconds a simple token lives."),
    option("bcrypt-cost", Integer(4, 31), "10", "Work to hash a password."),
    option("cors", List, "*", "Origins that browsers may call from.").refused("limiting origins"),
    option("host-whitelist", List, "*", "Host names a request may ask for.")
        .refused("limiting host names"),
];
