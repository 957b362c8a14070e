//! Who may call which RPC while auth is on. The build fails if one is missing.

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Whoever says who it is.
    User,
    /// Whoever has the role `root`.
    Root,
    /// The method asks by itself: its fields decide, by `store::mvcc::Need`, or whom it is about, or
    /// other methods call it as well.
    Fields,
}

use Access::{Fields, Open, Root, User};

const TABLE: &[(&str, Access)] = &[
    ("/etcdserverpb.KV/Range", Fields),
    ("/etcdserverpb.KV/RangeStream", Fields),
    ("/etcdserverpb.KV/Put", Fields),
    ("/etcdserverpb.KV/DeleteRange", Fields),
    ("/etcdserverpb.KV/Txn", Fields),
    ("/etcdserverpb.KV/Compact", Root),
    ("/etcdserverpb.Watch/Watch", Fields),
    ("/etcdserverpb.Lease/LeaseGrant", Fields),
    ("/etcdserverpb.Lease/LeaseRevoke", Fields),
    ("/etcdserverpb.Lease/LeaseKeepAlive", Fields),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Fields),
    ("/etcdserverpb.Lease/LeaseLeases", Fields),
    ("/etcdserverpb.Cluster/MemberAdd", Root),
    ("/etcdserverpb.Cluster/MemberRemove", Root),
    ("/etcdserverpb.Cluster/MemberUpdate", Root),
    ("/etcdserverpb.Cluster/MemberList", User),
    ("/etcdserverpb.Cluster/MemberPromote", Root),
    // To raise or disarm one takes root.
    ("/etcdserverpb.Maintenance/Alarm", Fields),
    ("/etcdserverpb.Maintenance/Status", User),
    ("/etcdserverpb.Maintenance/Defragment", Root),
    ("/etcdserverpb.Maintenance/Hash", Root),
    ("/etcdserverpb.Maintenance/HashKV", Root),
    ("/etcdserverpb.Maintenance/Snapshot", Root),
    ("/etcdserverpb.Maintenance/MoveLeader", Root),
    ("/etcdserverpb.Maintenance/Downgrade", Root),
    ("/etcdserverpb.Auth/Authenticate", Open),
    ("/etcdserverpb.Auth/AuthStatus", Fields),
    ("/etcdserverpb.Auth/AuthEnable", Fields),
    ("/etcdserverpb.Auth/AuthDisable", Fields),
    ("/etcdserverpb.Auth/UserAdd", Fields),
    ("/etcdserverpb.Auth/UserGet", Fields),
    ("/etcdserverpb.Auth/UserList", Fields),
    ("/etcdserverpb.Auth/UserDelete", Fields),
    ("/etcdserverpb.Auth/UserChangePassword", Fields),
    ("/etcdserverpb.Auth/UserGrantRole", Fields),
    ("/etcdserverpb.Auth/UserRevokeRole", Fields),
    ("/etcdserverpb.Auth/RoleAdd", Fields),
    ("/etcdserverpb.Auth/RoleGet", Fields),
    ("/etcdserverpb.Auth/RoleList", Fields),
    ("/etcdserverpb.Auth/RoleDelete", Fields),
    ("/etcdserverpb.Auth/RoleGrantPermission", Fields),
    ("/etcdserverpb.Auth/RoleRevokePermission", Fields),
    // Both are made of calls of KV, LeaseGrant and watches of what was read, none of which comes by
    // this table again: whatever they use has to be `Fields` above, and ask by itself.
    ("/v3lockpb.Lock/Lock", Fields),
    ("/v3lockpb.Lock/Unlock", Fields),
    ("/v3electionpb.Election/Campaign", Fields),
    ("/v3electionpb.Election/Proclaim", Fields),
    ("/v3electionpb.Election/Leader", Fields),
    ("/v3electionpb.Election/Observe", Fields),
    ("/v3electionpb.Election/Resign", Fields),
    ("/grpc.health.v1.Health/Check", Open),
    ("/grpc.health.v1.Health/List", Open),
    ("/grpc.health.v1.Health/Watch", Open),
];

const _: () = {
    let mut at = 0;
    while at < proto::METHODS.len() {
        assert!(is_listed(proto::METHODS[at].path), "each RPC has a line in the table of access");
        at += 1;
    }
};

impl Access {
    /// Who may call the method at this path; `None`: nobody.
    pub fn of(path: &str) -> Option<Self> {
        TABLE.iter().find(|(listed, _)| *listed == path).map(|(_, access)| *access)
    }
}

const fn is_listed(path: &str) -> bool {
    let mut at = 0;
    while at < TABLE.len() {
        if same(TABLE[at].0.as_bytes(), path.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

/// `==`, which cannot be used in a constant.
const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_is_listed_once_and_no_other() {
        for method in proto::METHODS {
            assert_eq!(
                TABLE.iter().filter(|(listed, _)| *listed == method.path).count(),
                1,
                "{}",
                method.path
            );
        }
        for (listed, _) in TABLE.iter().filter(|(listed, _)| !listed.starts_with("/grpc.health")) {
            assert!(
                proto::METHODS.iter().any(|method| method.path == *listed),
                "{listed} is no RPC"
            );
        }
        assert_eq!(Access::of("/etcdserverpb.KV/Ranges"), None);
    }
}
