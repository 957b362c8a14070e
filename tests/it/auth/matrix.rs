//! Every RPC, asked by everybody, with every field that touches a key: kvd lets in whom etcd lets in,
//! and turns the others away with the same words.

use std::collections::BTreeMap;

use harness::{Client, Node, NodeOptions, Target, etcd_is_required};
use proto::etcdserverpb as pb;

use super::gateway;
use super::raw::{Verdict, ask};
use super::requests::{self, BARE_LEASE, FOREIGN_LEASE, LEASE};
use super::{enable, populate, put, start};

/// Who asks. `nobody` has no token, `stranger` one that was never given out, and `gone` is a user who
/// was deleted after it logged in.
const CALLERS: [&str; 9] =
    ["nobody", "stranger", "gone", "none", "reader", "writer", "both", "other-root", "root"];

/// Only in newer ones than the etcd that is compared with: whom it lets in is as with another.
const ALIAS: (&str, &str) = ("/etcdserverpb.KV/RangeStream", "/etcdserverpb.KV/Range");

/// etcd leaves those waiting who may not see the election.
const WAITS: &str = "/v3electionpb.Election/Observe";

/// How requests come: through the gateway, or as gRPC; all of them, or those that have both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Grpc,
    GrpcIfBoth,
    Gateway,
}

struct World {
    node: Node,
    root: Client,
    stranger: Client,
    tokens: BTreeMap<&'static str, String>,
}

async fn token(client: &Client, name: &str) -> String {
    let (name, password) = (name.to_owned(), name.to_owned());
    let request = pb::AuthenticateRequest { name, password };
    client.auth.clone().authenticate(request).await.unwrap().into_inner().token
}

impl World {
    async fn start(target: Target) -> Self {
        let node = start(NodeOptions::new(target));
        let mut client = Client::connect(&node.endpoint()).await.unwrap();
        populate(&mut client).await;
        super::add_user(&mut client, "gone", &["r", "w"]).await;
        let mut root = enable(&mut client).await;
        let mut tokens = BTreeMap::from([("stranger", "abcdefghijklmnop.1".to_owned())]);
        for name in CALLERS.iter().filter(|name| !["nobody", "stranger"].contains(name)) {
            tokens.insert(name, token(&client, name).await);
        }
        let gone = pb::AuthUserDeleteRequest { name: "gone".into() };
        root.auth.user_delete(gone).await.unwrap();
        Self { node, root, stranger: client, tokens }
    }

    /// What calls before may have taken away.
    async fn restore(&mut self) {
        for id in [LEASE, FOREIGN_LEASE, BARE_LEASE] {
            // It may be there still.
            let _ = self.root.lease.lease_grant(pb::LeaseGrantRequest { ttl: 1000, id }).await;
        }
        for (key, lease) in [
            ("k1", 0),
            ("k2", 0),
            ("p", 0),
            ("z", 0),
            ("k7", LEASE),
            ("k8", FOREIGN_LEASE),
            ("z8", FOREIGN_LEASE),
        ] {
            put(&mut self.root, key, lease).await.unwrap();
        }
    }

    /// What the server says to one caller, for each method and request in their order.
    async fn ask_all(&mut self, caller: &str) -> Vec<(String, Verdict)> {
        self.ask_by(Way::Grpc, caller).await
    }

    async fn ask_by(&mut self, way: Way, caller: &str) -> Vec<(String, Verdict)> {
        let mut verdicts = Vec::new();
        self.restore().await;
        for path in proto::METHODS.iter().map(|method| method.path) {
            if way != Way::Grpc && gateway::path(path).is_none() {
                continue;
            }
            for (name, body) in requests::of(path) {
                if name == "not root" && caller.contains("root") {
                    continue;
                }
                let token = self.tokens.get(caller).map(String::as_str);
                let verdict = match way {
                    Way::Gateway => gateway::ask(&self.node.endpoint(), token, path, &body),
                    _ => ask(&self.stranger, token, path, &body).await,
                };
                if verdict == Verdict::LetIn
                    && (name.contains("delete") || path.ends_with("Revoke"))
                {
                    self.restore().await;
                }
                verdicts.push((format!("{caller}: {path} {name}"), verdict));
            }
        }
        verdicts
    }
}

/// What differs, unless it may: what only one of them has cannot be compared.
fn compare(what: &str, ours: &Verdict, theirs: &Verdict) -> Option<String> {
    let may_differ = what.contains(ALIAS.0) || what.contains(WAITS);
    (!may_differ && ours != theirs).then(|| format!("{what}: kvd {ours:?}, etcd {theirs:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_and_field_is_guarded_as_in_etcd() {
    if !Target::Etcd.is_built() && !etcd_is_required() {
        return;
    }
    let (mut ours, mut theirs) =
        tokio::join!(World::start(Target::Kvd), World::start(Target::Etcd));
    let (mut differences, mut compared, mut turned_away) = (Vec::new(), 0, 0);
    for caller in CALLERS {
        let (kvd, etcd) = tokio::join!(ours.ask_all(caller), theirs.ask_all(caller));
        assert_eq!(kvd.len(), etcd.len());
        for ((what, ours), (_, theirs)) in kvd.iter().zip(&etcd) {
            differences.extend(compare(what, ours, theirs));
            compared += 1;
            turned_away += usize::from(matches!(ours, Verdict::TurnedAway(_)));
        }
        let of = |path: &str| {
            let path = format!(": {path} ");
            let asked = kvd.iter().filter(move |(what, _)| what.contains(&path));
            asked.map(|(_, verdict)| verdict.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(ALIAS.0), of(ALIAS.1), "{caller}");
    }
    eprintln!("{compared} answers compared, {turned_away} of them refusals");
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_lets_in_whom_grpc_lets_in() {
    let target = Target::from_env().unwrap();
    let (mut calls, mut pages) = tokio::join!(World::start(target), World::start(target));
    let (mut differences, mut compared) = (Vec::new(), 0);
    for caller in ["nobody", "gone", "reader", "writer", "root"] {
        let grpc = calls.ask_by(Way::GrpcIfBoth, caller).await;
        let json = pages.ask_by(Way::Gateway, caller).await;
        assert_eq!(grpc.len(), json.len());
        for ((what, grpc), (_, json)) in grpc.iter().zip(&json) {
            compared += 1;
            if grpc != json {
                differences.push(format!("{what}: gRPC {grpc:?}, gateway {json:?}"));
            }
        }
    }
    eprintln!("{compared} answers compared");
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
}

/// Without a word of who it is, a client gets nothing but a token, whatever it asks.
#[tokio::test]
async fn nobody_gets_anywhere() {
    let mut world = World::start(Target::from_env().unwrap()).await;
    let open = ["/etcdserverpb.Auth/Authenticate "];
    // Nothing of any key, but the revision; and that the server is there.
    let harmless = ["/etcdserverpb.KV/Txn empty", "/grpc.health.v1.Health/", WAITS];
    for (what, verdict) in world.ask_all("nobody").await {
        let is_free = open.iter().chain(&harmless).any(|free| what.contains(free));
        let is_refused = matches!(verdict, Verdict::TurnedAway(_));
        assert!(is_free || is_refused, "{what}: {verdict:?}");
    }
    // What was refused must not have left anything behind, as a lease for a lock would be.
    let leases = world.root.lease.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap();
    let mut ids: Vec<i64> = leases.get_ref().leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [LEASE, FOREIGN_LEASE, BARE_LEASE]);
}
