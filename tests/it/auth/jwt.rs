//! Signed tokens, with every method that etcd has: what one server signs the other believes.

use std::path::Path;
use std::process::Command;

use harness::{Client, Node, NodeOptions, Target};
use proto::etcdserverpb as pb;

use super::{enable, get, options, populate, put, start};

/// Methods, and how openssl makes a key for them.
const METHODS: [(&str, &[&str]); 13] = [
    ("RS256", RSA),
    ("RS384", RSA),
    ("RS512", RSA),
    ("PS256", RSA),
    ("PS384", RSA),
    ("PS512", RSA),
    ("ES256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("ES384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("ES512", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
    ("EdDSA", &["-algorithm", "ed25519"]),
    ("HS256", &[]),
    ("HS384", &[]),
    ("HS512", &[]),
];
const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

fn openssl(args: &[&str]) {
    let output = Command::new("openssl").args(args).output().expect("openssl makes the keys");
    assert!(output.status.success(), "{output:?}");
}

/// Makes a pair of keys in a directory, or a secret; returns the option's part about them.
fn keys(dir: &Path, kind: &[&str]) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    let (private, public) = (path("key.pem"), path("key.pub"));
    if kind.is_empty() {
        std::fs::write(
            &private,
            "a secret that is long enough for every one of them, not only some",
        )
        .unwrap();
        return format!("priv-key={private}");
    }
    openssl(&[&["genpkey", "-out", &private], kind].concat());
    openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
    if kind.contains(&"ec_paramgen_curve:P-384") {
        // In the older of the two forms that such keys come in.
        openssl(&["ec", "-in", &private, "-out", &private]);
    }
    format!("priv-key={private},pub-key={public}")
}

fn with(options: NodeOptions, method: &str, rest: &str) -> NodeOptions {
    options.arg(format!("--auth-token=jwt,sign-method={method},{rest}"))
}

async fn token_of(client: &mut Client, name: &str) -> String {
    let (name, password) = (name.to_owned(), name.to_owned());
    let request = pb::AuthenticateRequest { name, password };
    client.auth.authenticate(request).await.unwrap().into_inner().token
}

async fn populated(options: NodeOptions) -> (Node, Client) {
    let node = start(options);
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    populate(&mut client).await;
    enable(&mut client).await;
    (node, client)
}

/// The same users were made in the same order, so that the auth revision in a token fits both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_every_method_are_exchanged_with_etcd() {
    if !Target::Etcd.is_built() {
        return;
    }
    for (method, kind) in METHODS {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(dir.path(), kind);
        let servers = [Target::Kvd, Target::Etcd].map(NodeOptions::new);
        let [kvd, etcd] = servers.map(|options| with(options, method, &keys));
        let ((_kvd, mut ours), (_etcd, mut theirs)) = tokio::join!(populated(kvd), populated(etcd));
        show(&mut ours, &theirs, method).await;
        show(&mut theirs, &ours, method).await;
    }
}

/// A token of one server at the other.
async fn show(from: &mut Client, to: &Client, method: &str) {
    let token = token_of(from, "both").await;
    let mut both = to.with_token(&token).unwrap();
    put(&mut both, "k1", 0).await.unwrap_or_else(|why| panic!("{method}: {why}"));
    let denied = put(&mut both, "z", 0).await.unwrap_err();
    assert_eq!(denied.message(), "etcdserver: permission denied", "{method}");
}

/// Nobody has to forget a signed token: it names the auth revision that it was made at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_token_grows_old_when_auth_changes() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path(), RSA);
    let (mut node, mut client) = populated(with(options(), "RS256", &keys)).await;
    let token = token_of(&mut client, "both").await;
    let mut both = client.with_token(&token).unwrap();
    put(&mut both, "k1", 0).await.unwrap();

    node.stop().unwrap();
    node.start_again().unwrap();
    let client = Client::connect(&node.endpoint()).await.unwrap();
    let mut both = client.with_token(&token).unwrap();
    put(&mut both, "k1", 0).await.unwrap();

    let mut root = client.log_in("root", "root").await.unwrap();
    root.auth.role_add(pb::AuthRoleAddRequest { name: "new".into() }).await.unwrap();
    let old = "etcdserver: revision of auth store is old";
    assert_eq!(put(&mut both, "k1", 0).await.unwrap_err().message(), old);
    assert_eq!(get(&mut both, "k1").await.unwrap_err().message(), old);
    assert_eq!(put(&mut root, "k1", 0).await.unwrap_err().message(), old);
    let mut both = client.log_in("both", "both").await.unwrap();
    assert_eq!(get(&mut both, "k1").await.unwrap(), 1);
    for wrong in ["", "a.b.c", "abcdefghijklmnop.7", &token[..token.len() - 8]] {
        let status = get(&mut client.with_token(wrong).unwrap(), "k1").await.unwrap_err();
        assert_eq!(status.message(), "etcdserver: invalid auth token", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_expires_and_a_public_key_only_checks() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path(), RSA);
    let (mut node, mut client) =
        populated(with(options(), "RS256", &format!("{keys},ttl=1s"))).await;
    let token = token_of(&mut client, "both").await;
    let mut both = client.with_token(&token).unwrap();
    let begun = std::time::Instant::now();
    while get(&mut both, "k1").await.is_ok() {
        assert!(begun.elapsed() < harness::PATIENCE);
    }
    let status = get(&mut both, "k1").await.unwrap_err();
    assert_eq!(status.message(), "etcdserver: invalid auth token");

    node.stop().unwrap();
    let public = format!("pub-key={}", dir.path().join("key.pub").display());
    let check_only = with(options(), "RS256", &public);
    node.options_mut().args.retain(|arg| !arg.starts_with("--auth-token="));
    node.options_mut().args.extend(check_only.args);
    node.start_again().unwrap();
    let client = Client::connect(&node.endpoint()).await.unwrap();
    let status = client.log_in("both", "both").await.unwrap_err();
    assert_eq!(status.message(), "auth: token signing attempted with verify-only key");
}
