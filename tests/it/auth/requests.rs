//! Requests of every method, with every field that touches a key in every way that counts.

use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::{authpb, v3electionpb, v3lockpb};

/// All of whose keys are in `[k, l)`.
pub(super) const LEASE: i64 = 7;
/// One of whose keys is not.
pub(super) const FOREIGN_LEASE: i64 = 8;
pub(super) const BARE_LEASE: i64 = 9;
const NO_LEASE: i64 = 99;
const NO_MEMBER: u64 = 123;

/// What is asked for, and the encoded message.
pub(super) type Variant = (String, Vec<u8>);

/// Keys as requests name them: one, ranges inside, across and beyond what anybody is granted.
const KEYS: [(&str, &str); 11] = [
    ("k1", ""),
    ("p", ""),
    ("z", ""),
    ("k", "l"),
    ("k", "z"),
    ("p", "p\0"),
    ("p", "\0"),
    ("k1", "\0"),
    ("\0", "\0"),
    ("k2", "k1"),
    ("l", "k"),
];

/// What may follow a request of each method, so that there is none without.
pub(super) fn of(path: &str) -> Vec<Variant> {
    let (service, method) = path[1..].split_once('/').unwrap();
    match service {
        "etcdserverpb.KV" => keys(method),
        "etcdserverpb.Watch" => {
            ranges().map(|(name, key, range_end)| watch(name, key, range_end)).collect()
        }
        "etcdserverpb.Lease" => leases(method),
        "etcdserverpb.Cluster" => members(method),
        "etcdserverpb.Maintenance" => maintenance(method),
        "etcdserverpb.Auth" => users(method),
        "grpc.health.v1.Health" => one("", &()),
        _ => recipes(path),
    }
}

fn ranges() -> impl Iterator<Item = (String, Vec<u8>, Vec<u8>)> {
    KEYS.into_iter().map(|(key, end)| (format!("{key:?} {end:?}"), key.into(), end.into()))
}

fn one(name: &str, message: &impl Message) -> Vec<Variant> {
    vec![(name.to_owned(), message.encode_to_vec())]
}

fn watch(name: String, key: Vec<u8>, range_end: Vec<u8>) -> Variant {
    let create = pb::WatchCreateRequest { key, range_end, prev_kv: true, ..Default::default() };
    let request_union = Some(RequestUnion::CreateRequest(create));
    (name, pb::WatchRequest { request_union }.encode_to_vec())
}

fn puts() -> Vec<(String, pb::PutRequest)> {
    let mut puts = Vec::new();
    for key in ["k1", "z"] {
        let put = pb::PutRequest { key: key.into(), value: b"v".into(), ..Default::default() };
        puts.push((format!("put {key}"), put.clone()));
        let prev = pb::PutRequest { prev_kv: true, ..put.clone() };
        puts.push((format!("put {key} prev_kv"), prev));
        let (value, ignore_value) = (Vec::new(), true);
        let same = pb::PutRequest { value, ignore_value, ..put.clone() };
        puts.push((format!("put {key} ignore_value"), same));
        for lease in [LEASE, FOREIGN_LEASE, BARE_LEASE, NO_LEASE] {
            puts.push((
                format!("put {key} lease {lease}"),
                pb::PutRequest { lease, ..put.clone() },
            ));
        }
    }
    puts
}

fn deletes() -> impl Iterator<Item = (String, pb::DeleteRangeRequest)> {
    ranges().flat_map(|(name, key, range_end)| {
        [false, true].map(|prev_kv| {
            let (key, range_end) = (key.clone(), range_end.clone());
            let delete = pb::DeleteRangeRequest { key, range_end, prev_kv };
            (format!("delete {name} prev_kv={prev_kv}"), delete)
        })
    })
}

fn gets() -> impl Iterator<Item = (String, pb::RangeRequest)> {
    ranges().flat_map(|(name, key, range_end)| {
        let range = pb::RangeRequest { key, range_end, ..Default::default() };
        [
            ("whole", range.clone()),
            ("count_only", pb::RangeRequest { count_only: true, ..range.clone() }),
            ("keys_only", pb::RangeRequest { keys_only: true, ..range.clone() }),
            ("limit", pb::RangeRequest { limit: 1, ..range.clone() }),
            ("serializable", pb::RangeRequest { serializable: true, ..range }),
        ]
        .map(|(what, range)| (format!("range {name} {what}"), range))
    })
}

fn keys(method: &str) -> Vec<Variant> {
    let encoded = |(name, message): (String, Vec<u8>)| (name, message);
    match method {
        "Range" | "RangeStream" => {
            gets().map(|(name, get)| encoded((name, get.encode_to_vec()))).collect()
        }
        "Put" => puts().into_iter().map(|(name, put)| (name, put.encode_to_vec())).collect(),
        "DeleteRange" => deletes().map(|(name, of)| (name, of.encode_to_vec())).collect(),
        "Txn" => txns(),
        // The revision that is compacted always is.
        "Compact" => one("", &pb::CompactionRequest { revision: -1, physical: false }),
        other => panic!("the matrix does not know {other}"),
    }
}

fn txns() -> Vec<Variant> {
    let mut ops: Vec<(String, Request)> = Vec::new();
    ops.extend(gets().map(|(name, get)| (name, Request::RequestRange(get))));
    ops.extend(puts().into_iter().map(|(name, put)| (name, Request::RequestPut(put))));
    ops.extend(deletes().map(|(name, delete)| (name, Request::RequestDeleteRange(delete))));
    let op = |request: Request| pb::RequestOp { request: Some(request) };
    let mut txns = vec![("empty".to_owned(), pb::TxnRequest::default())];
    for (name, request) in ops {
        let then = pb::TxnRequest { success: vec![op(request.clone())], ..Default::default() };
        let otherwise = pb::TxnRequest { failure: vec![op(request)], ..Default::default() };
        let nest = |txn: pb::TxnRequest| pb::TxnRequest {
            failure: vec![op(Request::RequestTxn(txn))],
            ..Default::default()
        };
        txns.push((format!("then {name}"), then.clone()));
        txns.push((format!("else {name}"), otherwise));
        txns.push((format!("nested {name}"), nest(then.clone())));
        txns.push((format!("nested twice {name}"), nest(nest(then))));
    }
    for (name, key, range_end) in ranges() {
        let compare = pb::Compare { key, range_end, ..Default::default() };
        let txn = pb::TxnRequest { compare: vec![compare], ..Default::default() };
        let nested = pb::RequestOp { request: Some(Request::RequestTxn(txn.clone())) };
        txns.push((format!("if {name}"), txn));
        let txn = pb::TxnRequest { success: vec![nested], ..Default::default() };
        txns.push((format!("nested if {name}"), txn));
    }
    txns.into_iter().map(|(name, txn)| (name, txn.encode_to_vec())).collect()
}

fn leases(method: &str) -> Vec<Variant> {
    let each = [BARE_LEASE, FOREIGN_LEASE, LEASE, NO_LEASE].into_iter();
    match method {
        "LeaseGrant" => one("", &pb::LeaseGrantRequest { ttl: 1000, id: 0 }),
        "LeaseLeases" => one("", &pb::LeaseLeasesRequest {}),
        "LeaseRevoke" => {
            each.map(|id| (id.to_string(), pb::LeaseRevokeRequest { id }.encode_to_vec())).collect()
        }
        "LeaseKeepAlive" => each
            .map(|id| (id.to_string(), pb::LeaseKeepAliveRequest { id }.encode_to_vec()))
            .collect(),
        "LeaseTimeToLive" => each
            .flat_map(|id| {
                [false, true].map(|keys| {
                    let request = pb::LeaseTimeToLiveRequest { id, keys };
                    (format!("{id} keys={keys}"), request.encode_to_vec())
                })
            })
            .collect(),
        other => panic!("the matrix does not know {other}"),
    }
}

/// About a member that is not there, so that whoever may changes nothing.
fn members(method: &str) -> Vec<Variant> {
    let (id, peer_ur_ls) = (NO_MEMBER, vec!["http://127.0.0.1:1".to_owned()]);
    match method {
        "MemberAdd" => one("", &pb::MemberAddRequest { peer_ur_ls, is_learner: true }),
        "MemberRemove" => one("", &pb::MemberRemoveRequest { id }),
        "MemberUpdate" => one("", &pb::MemberUpdateRequest { id, peer_ur_ls }),
        "MemberPromote" => one("", &pb::MemberPromoteRequest { id }),
        "MemberList" => [false, true]
            .into_iter()
            .flat_map(|linearizable| {
                one(&linearizable.to_string(), &pb::MemberListRequest { linearizable })
            })
            .collect(),
        other => panic!("the matrix does not know {other}"),
    }
}

fn maintenance(method: &str) -> Vec<Variant> {
    match method {
        "Alarm" => (0..3)
            .flat_map(|action| {
                let request = pb::AlarmRequest { action, ..Default::default() };
                one(&format!("action {action}"), &request)
            })
            .collect(),
        "MoveLeader" => one("", &pb::MoveLeaderRequest { target_id: NO_MEMBER }),
        "HashKV" => one("", &pb::HashKvRequest { revision: 0 }),
        "Downgrade" => one("", &pb::DowngradeRequest { action: 2, ..Default::default() }),
        "Status" | "Defragment" | "Hash" | "Snapshot" => one("", &()),
        other => panic!("the matrix does not know {other}"),
    }
}

/// Those who may change users change some that nobody logs in as.
fn users(method: &str) -> Vec<Variant> {
    let names = ["reader", "victim"].map(str::to_owned);
    let each = |message: &dyn Fn(String) -> Vec<u8>| {
        names.iter().map(|name| (name.clone(), message(name.clone()))).collect()
    };
    let victim = || "victim".to_owned();
    match method {
        "AuthEnable" | "AuthStatus" | "UserList" | "RoleList" => one("", &()),
        // Whoever may would end it all; that root may is another test's.
        "AuthDisable" => one("not root", &()),
        "Authenticate" => one("", &pb::AuthenticateRequest::default()),
        "UserGet" => each(&|name| pb::AuthUserGetRequest { name }.encode_to_vec()),
        "RoleGet" => ["r", "w", "root"]
            .into_iter()
            .flat_map(|role| one(role, &pb::AuthRoleGetRequest { role: role.into() }))
            .collect(),
        "UserAdd" => {
            let options = Some(authpb::UserAddOptions { no_password: true });
            one("", &pb::AuthUserAddRequest { name: victim(), options, ..Default::default() })
        }
        "UserDelete" => one("", &pb::AuthUserDeleteRequest { name: victim() }),
        "UserChangePassword" => {
            let password = "new".to_owned();
            let name = victim();
            one("", &pb::AuthUserChangePasswordRequest { name, password, ..Default::default() })
        }
        "UserGrantRole" => {
            one("", &pb::AuthUserGrantRoleRequest { user: victim(), role: "r".into() })
        }
        "UserRevokeRole" => {
            one("", &pb::AuthUserRevokeRoleRequest { name: victim(), role: "r".into() })
        }
        "RoleAdd" => one("", &pb::AuthRoleAddRequest { name: victim() }),
        "RoleDelete" => one("", &pb::AuthRoleDeleteRequest { role: victim() }),
        "RoleGrantPermission" => {
            let perm = Some(authpb::Permission { key: b"x".into(), ..Default::default() });
            one("", &pb::AuthRoleGrantPermissionRequest { name: victim(), perm })
        }
        "RoleRevokePermission" => {
            let (role, key) = (victim(), b"x".into());
            one("", &pb::AuthRoleRevokePermissionRequest { role, key, ..Default::default() })
        }
        other => panic!("the matrix does not know {other}"),
    }
}

static UNUSED: AtomicU64 = AtomicU64::new(0);

/// With a lease of the caller's, and without one: then the server grants it one.
fn recipes(path: &str) -> Vec<Variant> {
    let leader = |name: &str, lease| {
        let (key, rev) = (format!("{name}/7").into(), 1);
        Some(v3electionpb::LeaderKey { name: name.into(), key, rev, lease })
    };
    let by_name = |message: &dyn Fn(&str) -> Vec<u8>| {
        ["k", "z"].into_iter().map(|name| (name.to_owned(), message(name))).collect()
    };
    let by_lease = |message: &dyn Fn(&str, i64) -> Vec<u8>| {
        let with = |name: &str| (format!("{name} lease {LEASE}"), message(name, LEASE));
        let without = |name: &str| {
            // Whoever has no lease has a new one each time, and would wait for those before.
            let other = UNUSED.fetch_add(1, Ordering::Relaxed);
            (format!("{name} lease 0"), message(&format!("{name}/{other}"), 0))
        };
        ["k", "z"].into_iter().flat_map(|name| [with(name), without(name)]).collect()
    };
    match path {
        "/v3lockpb.Lock/Lock" => by_lease(&|name, lease| {
            v3lockpb::LockRequest { name: name.into(), lease }.encode_to_vec()
        }),
        "/v3lockpb.Lock/Unlock" => {
            by_name(&|name| v3lockpb::UnlockRequest { key: name.into() }.encode_to_vec())
        }
        "/v3electionpb.Election/Campaign" => by_lease(&|name, lease| {
            let (name, value) = (name.into(), b"v".into());
            v3electionpb::CampaignRequest { name, lease, value }.encode_to_vec()
        }),
        "/v3electionpb.Election/Proclaim" => by_lease(&|name, lease| {
            let (leader, value) = (leader(name, lease), b"v".into());
            v3electionpb::ProclaimRequest { leader, value }.encode_to_vec()
        }),
        "/v3electionpb.Election/Leader" | "/v3electionpb.Election/Observe" => {
            by_name(&|name| v3electionpb::LeaderRequest { name: name.into() }.encode_to_vec())
        }
        "/v3electionpb.Election/Resign" => by_lease(&|name, lease| {
            let leader = leader(name, lease);
            v3electionpb::ResignRequest { leader }.encode_to_vec()
        }),
        other => panic!("the matrix does not know {other}"),
    }
}
