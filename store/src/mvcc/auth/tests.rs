//! Permissions against a slow model, and users and roles through engine and snapshot file.

use proptest::prelude::*;
use proto::authpb::Permission;
use proto::etcdserverpb as pb;
use proto::internal::{Caller, Command, NewUser, command::Op};

use super::*;
use crate::engine::MemoryEngine;
use crate::mvcc::tests::apply_next;
use crate::mvcc::{Response, StoreOptions};

fn op_of(key: &str, end: &[u8]) -> Permission {
    Permission { perm_type: 0, key: key.into(), range_end: end.to_vec() }
}

/// The keys of the model: all of one or two of three letters.
fn keys() -> Vec<Vec<u8>> {
    let letters = [b"a", b"b", b"c"];
    let two =
        letters.iter().flat_map(|one| letters.iter().map(|two| [&one[..], &two[..]].concat()));
    letters.iter().map(|one| one.to_vec()).chain(two).collect()
}

fn range() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let key = prop::sample::select(keys());
    let end = prop_oneof![Just(Vec::new()), Just(vec![0]), prop::sample::select(keys())];
    (key, end)
}

fn holds((key, end): &(Vec<u8>, Vec<u8>), one: &[u8]) -> bool {
    match end.as_slice() {
        [] => one == key,
        [0] => one >= key.as_slice(),
        end => one >= key.as_slice() && one < end,
    }
}

proptest! {
    /// A range is allowed only if each of its keys is, and a key if it was granted.
    #[test]
    fn a_range_is_covered_by_the_union(granted in prop::collection::vec(range(), 0..6), asked in range()) {
        let permissions: Vec<Permission> = granted.iter().map(|(key, end)| Permission {
            perm_type: 0, key: key.clone(), range_end: end.clone(),
        }).collect();
        let permits = Permits::of(permissions.iter());
        prop_assert!(!permits.may_write(&asked.0, &asked.1));
        if permits.may_read(&asked.0, &asked.1) {
            for key in keys().iter().filter(|key| holds(&asked, key)) {
                prop_assert!(granted.iter().any(|of| holds(of, key)), "{key:?} was not granted");
            }
        }
        for key in keys() {
            let is_granted = granted.iter().any(|of| holds(of, &key));
            prop_assert_eq!(permits.may_read(&key, b""), is_granted);
        }
    }
}

#[test]
fn neighbours_add_up_and_gaps_do_not() {
    let granted = [op_of("a", b"c"), op_of("c", b"e"), op_of("f", b""), op_of("x", b"\0")];
    let permits = Permits::of(granted.iter());
    assert!(permits.may_read(b"a", b"e"));
    assert!(permits.may_read(b"f", b"f\0"));
    assert!(permits.may_read(b"y", b"\0"));
    assert!(!permits.may_read(b"a", b"f\0"));
    assert!(!permits.may_read(b"a", b"\0"));
    assert!(!permits.may_read(b"f", b"\0"), "one key is not all that follow it");
    assert!(permits.may_read(b"b", b"a"), "a range without keys counts as its first key");
    assert!(!permits.may_read(b"f", b"g"));
}

fn user(name: &str) -> Op {
    Op::UserAdd(NewUser { name: name.into(), password_hash: b"hash".to_vec(), no_password: false })
}

fn grant(user: &str, role: &str) -> Op {
    Op::UserGrantRole(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn role(name: &str, permission: Permission) -> [Op; 2] {
    let (add, perm) = (pb::AuthRoleAddRequest { name: name.into() }, Some(permission));
    let granted = pb::AuthRoleGrantPermissionRequest { name: name.into(), perm };
    [Op::RoleAdd(add), Op::RoleGrantPermission(granted)]
}

fn change(store: &Store, op: Op) -> Result<Response, Refusal> {
    let caller = Some(Caller { user: ROOT.into(), auth_revision: store.auth().revision() });
    apply_next(store, &Command { op: Some(op), caller, ..Command::default() }).outcome
}

/// More users than fit into one row, some of them gone again, auth switched on.
fn busy_store(engine: &Arc<MemoryEngine>) -> Arc<Store> {
    let store = Store::open(engine.clone(), StoreOptions::default()).unwrap();
    for name in (0..100).map(|n| format!("user-{n:03}")).chain([ROOT.to_owned()]) {
        change(&store, user(&name)).unwrap();
    }
    for op in role("reader", op_of("a", b"c")) {
        change(&store, op).unwrap();
    }
    change(&store, grant("user-001", "reader")).unwrap();
    change(&store, grant(ROOT, ROOT)).unwrap();
    change(&store, Op::AuthEnable(pb::AuthEnableRequest {})).unwrap();
    store
}

#[test]
fn users_and_roles_survive_a_checkpoint_and_shrink() {
    let engine = Arc::new(MemoryEngine::default());
    let store = busy_store(&engine);
    store.checkpoint().unwrap();
    let again = Store::open(engine.clone(), StoreOptions::default()).unwrap();
    assert_eq!(*again.auth(), *store.auth());
    assert!(again.auth_enabled());
    for n in 2..100 {
        let name = format!("user-{n:03}");
        change(&again, Op::UserDelete(pb::AuthUserDeleteRequest { name })).unwrap();
    }
    again.checkpoint().unwrap();
    let smaller = Store::open(engine, StoreOptions::default()).unwrap();
    assert_eq!(*smaller.auth(), *again.auth());
    assert_eq!(smaller.auth().user_names().collect::<Vec<_>>(), [ROOT, "user-000", "user-001"]);
}

#[test]
fn users_and_roles_go_through_etcds_buckets() {
    let store = busy_store(&Arc::new(MemoryEngine::default()));
    let mut tables = crate::mvcc::Tables::new();
    store.auth().put_tables(&mut tables);
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["auth", "authRoles", "authUsers"]);
    assert_eq!(Auth::take_tables(&mut tables).unwrap(), *store.auth());
    assert!(tables.is_empty());
}

#[test]
fn a_command_is_refused_when_auth_has_changed_since_its_caller_was_let_in() {
    let store = busy_store(&Arc::new(MemoryEngine::default()));
    let put = |user: &str, auth_revision| {
        let put = pb::PutRequest { key: b"a".to_vec(), ..Default::default() };
        let caller = Some(Caller { user: user.into(), auth_revision });
        let command = Command { op: Some(Op::Put(put)), caller, ..Command::default() };
        apply_next(&store, &command).outcome.map(|_| ())
    };
    let now = store.auth().revision();
    assert_eq!(put(ROOT, now), Ok(()));
    assert_eq!(put(ROOT, now - 1), Err(Refusal::OldAuthRevision));
    assert_eq!(put(ROOT, 0), Err(Refusal::UserEmpty));
    assert_eq!(put("user-001", now), Err(Refusal::PermissionDenied), "it may only read");
    assert_eq!(put("nobody", now), Err(Refusal::PermissionDenied));
    let unsigned = Command::from(Op::Put(pb::PutRequest::default()));
    assert_eq!(apply_next(&store, &unsigned).outcome, Err(Refusal::UserEmpty));
}
