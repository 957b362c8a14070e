//! Auth: who may do what (`matrix`), what others have got wrong before (`advisories`), tokens in time
//! (`tokens`) and signed (`jwt`), several members (`cluster`), and everything at `random`. With
//! `TARGET=etcd` the same against the original.

mod advisories;
mod cluster;
mod gateway;
mod jwt;
mod matrix;
mod random;
mod raw;
mod requests;
mod tokens;

use harness::{Client, Node, NodeOptions, Target};
use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb as pb;
use tonic::Status;

/// Hashing is meant to take long, but not that of tests.
const CHEAP: &str = "--bcrypt-cost=4";

fn start(options: NodeOptions) -> Node {
    Node::start(options.arg(CHEAP)).unwrap_or_else(|error| panic!("{error:#}"))
}

fn options() -> NodeOptions {
    NodeOptions::new(Target::from_env().unwrap())
}

async fn add_user(client: &mut Client, name: &str, roles: &[&str]) {
    let (name, password) = (name.to_owned(), name.to_owned());
    let request = pb::AuthUserAddRequest { name: name.clone(), password, ..Default::default() };
    client.auth.user_add(request).await.unwrap();
    for role in roles {
        grant_role(client, &name, role).await;
    }
}

async fn grant_role(client: &mut Client, user: &str, role: &str) {
    let request = pb::AuthUserGrantRoleRequest { user: user.into(), role: (*role).into() };
    client.auth.user_grant_role(request).await.unwrap();
}

async fn add_role(client: &mut Client, name: &str, grants: &[(Type, &str, &str)]) {
    client.auth.role_add(pb::AuthRoleAddRequest { name: name.into() }).await.unwrap();
    for (kind, key, end) in grants {
        let (key, range_end) = (key.as_bytes().to_vec(), end.as_bytes().to_vec());
        let perm = Some(Permission { perm_type: (*kind).into(), key, range_end });
        let request = pb::AuthRoleGrantPermissionRequest { name: name.into(), perm };
        client.auth.role_grant_permission(request).await.unwrap();
    }
}

/// Readers of `[k, l)` and `p`, writers of `[k, l)`, who is both and who is nobody; root, whom
/// everybody is called after when auth is on.
async fn populate(client: &mut Client) {
    add_user(client, "root", &["root"]).await;
    add_role(client, "r", &[(Type::Read, "k", "l"), (Type::Read, "p", "")]).await;
    add_role(client, "w", &[(Type::Write, "k", "l")]).await;
    add_user(client, "reader", &["r"]).await;
    add_user(client, "writer", &["w"]).await;
    add_user(client, "both", &["r", "w"]).await;
    add_user(client, "none", &[]).await;
    add_user(client, "other-root", &["root"]).await;
    for key in ["k1", "k2", "p", "z"] {
        put(client, key, 0).await.unwrap();
    }
}

async fn enable(client: &mut Client) -> Client {
    client.auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    client.log_in("root", "root").await.unwrap()
}

async fn put(client: &mut Client, key: &str, lease: i64) -> Result<(), Status> {
    let put = pb::PutRequest { key: key.into(), value: b"v".into(), lease, ..Default::default() };
    client.kv.put(put).await.map(|_| ())
}

async fn get(client: &mut Client, key: &str) -> Result<i64, Status> {
    let range = pb::RangeRequest { key: key.into(), ..Default::default() };
    client.kv.range(range).await.map(|answer| answer.get_ref().count)
}
