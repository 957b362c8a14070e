//! The matrix once more, through the JSON gateway: it lets in whom gRPC lets in.

use std::sync::LazyLock;

use harness::http::Ask;
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::raw::{REASONS, Verdict};

static MESSAGES: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).unwrap());

/// What the gateway calls each method.
const PATHS: &[(&str, &str)] = &[
    ("/etcdserverpb.KV/Range", "kv/range"),
    ("/etcdserverpb.KV/Put", "kv/put"),
    ("/etcdserverpb.KV/DeleteRange", "kv/deleterange"),
    ("/etcdserverpb.KV/Txn", "kv/txn"),
    ("/etcdserverpb.KV/Compact", "kv/compaction"),
    ("/etcdserverpb.Watch/Watch", "watch"),
    ("/etcdserverpb.Lease/LeaseGrant", "lease/grant"),
    ("/etcdserverpb.Lease/LeaseRevoke", "lease/revoke"),
    ("/etcdserverpb.Lease/LeaseKeepAlive", "lease/keepalive"),
    ("/etcdserverpb.Lease/LeaseTimeToLive", "lease/timetolive"),
    ("/etcdserverpb.Lease/LeaseLeases", "lease/leases"),
    ("/etcdserverpb.Cluster/MemberAdd", "cluster/member/add"),
    ("/etcdserverpb.Cluster/MemberRemove", "cluster/member/remove"),
    ("/etcdserverpb.Cluster/MemberUpdate", "cluster/member/update"),
    ("/etcdserverpb.Cluster/MemberList", "cluster/member/list"),
    ("/etcdserverpb.Cluster/MemberPromote", "cluster/member/promote"),
    ("/etcdserverpb.Maintenance/Alarm", "maintenance/alarm"),
    ("/etcdserverpb.Maintenance/Status", "maintenance/status"),
    ("/etcdserverpb.Maintenance/Defragment", "maintenance/defragment"),
    ("/etcdserverpb.Maintenance/Hash", "maintenance/hash"),
    ("/etcdserverpb.Maintenance/HashKV", "maintenance/hashkv"),
    ("/etcdserverpb.Maintenance/Snapshot", "maintenance/snapshot"),
    ("/etcdserverpb.Maintenance/MoveLeader", "maintenance/transfer-leadership"),
    ("/etcdserverpb.Maintenance/Downgrade", "maintenance/downgrade"),
    ("/etcdserverpb.Auth/AuthEnable", "auth/enable"),
    ("/etcdserverpb.Auth/AuthStatus", "auth/status"),
    ("/etcdserverpb.Auth/Authenticate", "auth/authenticate"),
    ("/etcdserverpb.Auth/UserAdd", "auth/user/add"),
    ("/etcdserverpb.Auth/UserGet", "auth/user/get"),
    ("/etcdserverpb.Auth/UserList", "auth/user/list"),
    ("/etcdserverpb.Auth/UserDelete", "auth/user/delete"),
    ("/etcdserverpb.Auth/UserChangePassword", "auth/user/changepw"),
    ("/etcdserverpb.Auth/UserGrantRole", "auth/user/grant"),
    ("/etcdserverpb.Auth/UserRevokeRole", "auth/user/revoke"),
    ("/etcdserverpb.Auth/RoleAdd", "auth/role/add"),
    ("/etcdserverpb.Auth/RoleGet", "auth/role/get"),
    ("/etcdserverpb.Auth/RoleList", "auth/role/list"),
    ("/etcdserverpb.Auth/RoleDelete", "auth/role/delete"),
    ("/etcdserverpb.Auth/RoleGrantPermission", "auth/role/grant"),
    ("/etcdserverpb.Auth/RoleRevokePermission", "auth/role/revoke"),
    ("/v3lockpb.Lock/Lock", "lock/lock"),
    ("/v3lockpb.Lock/Unlock", "lock/unlock"),
    ("/v3electionpb.Election/Campaign", "election/campaign"),
    ("/v3electionpb.Election/Proclaim", "election/proclaim"),
    ("/v3electionpb.Election/Leader", "election/leader"),
    ("/v3electionpb.Election/Resign", "election/resign"),
];

/// `None` if the gateway has no such method, or it is one that only waits.
pub(super) fn path(method: &str) -> Option<&'static str> {
    PATHS.iter().find(|(known, _)| *known == method).map(|(_, path)| *path)
}

/// Asks as [`super::raw::ask`] does.
pub(super) fn ask(endpoint: &str, token: Option<&str>, method: &str, body: &[u8]) -> Verdict {
    let path = format!("/v3/{}", path(method).unwrap());
    let (service, name) = method[1..].split_once('/').unwrap();
    let service = MESSAGES.get_service_by_name(service).unwrap();
    let input = service.methods().find(|known| known.name() == name).unwrap().input();
    let body = serde_json::to_string(&DynamicMessage::decode(input, body).unwrap()).unwrap();
    let token: Vec<_> = token.map(|token| ("Authorization", token)).into_iter().collect();
    let mut answer = Ask { headers: &token, ..Ask::post(endpoint, &path, &body) }.send().unwrap();
    // The first line says it, of streams as well.
    let line = answer.line().unwrap();
    match REASONS.iter().find(|reason| line.contains(&format!("{reason}\""))) {
        Some(reason) => Verdict::TurnedAway((*reason).to_owned()),
        None if answer.status == 501 || answer.status == 404 && !line.starts_with('{') => {
            Verdict::NotBuilt
        }
        None => Verdict::LetIn,
    }
}
