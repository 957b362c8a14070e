//! What administrators do: members, maintenance, users, and connections that are refused.

use etcd_client::{
    AlarmAction, AlarmType, Certificate, Client, ConnectOptions, DeleteOptions, Error, Permission,
    TlsOptions, WatchOptions,
};

use crate::{Target, refusal, soon};

pub async fn members_and_status(target: Target) {
    let mut client = target.client().await;
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members().len(), target.endpoints.len());
    let mut leaders = Vec::new();
    for endpoint in &target.endpoints {
        let found = members.members().iter().find(|member| member.client_urls() == [&**endpoint]);
        let found = found.expect("each endpoint is a member's");
        let mut member = Client::connect([endpoint], Some(target.options())).await.unwrap();
        let status = member.status().await.unwrap();
        assert_eq!(status.header().unwrap().member_id(), found.id());
        assert!(status.version().starts_with("3."), "{}", status.version());
        assert!(status.db_size() > 0 && status.raft_term() > 0 && status.raft_index() > 0);
        assert!(status.errors().is_empty() && !status.is_learner());
        leaders.push(status.leader());
    }
    let is_member = |id: &u64| members.members().iter().any(|member| member.id() == *id);
    assert!(leaders.iter().all(|leader| *leader == leaders[0] && is_member(leader)));
    let refused = refusal(client.member_remove(1).await);
    assert_eq!(refused, (5, "etcdserver: member not found".to_owned()));
}

/// Members have the same data, by hashes that they make of it.
pub async fn hashes(target: Target) {
    let put = target.client().await.put("hash", "1", None).await.unwrap();
    let mut hashes = Vec::new();
    for endpoint in &target.endpoints {
        let mut member = Client::connect([endpoint], Some(target.options())).await.unwrap();
        // After this the member knows of the put.
        member.get("hash", None).await.unwrap();
        let answer = member.hash_kv(put.header().unwrap().revision()).await.unwrap();
        hashes.push((answer.hash(), answer.compact_version()));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

pub async fn snapshot(target: Target) {
    let mut client = target.client().await;
    let mut stream = client.snapshot().await.unwrap();
    let (mut bytes, mut left) = (0, None);
    while let Some(answer) = soon(stream.message()).await.unwrap() {
        let length = u64::try_from(answer.blob().len()).unwrap();
        bytes += length;
        assert!(left.is_none_or(|left| answer.remaining_bytes() <= left));
        left = Some(answer.remaining_bytes());
    }
    // A database file of whole pages, and its SHA-256.
    assert_eq!((left, bytes % 4096), (Some(0), 32));
    assert!(bytes > 4 * 4096);
}

pub async fn alarms(target: Target) {
    let mut client = target.client().await;
    let mut alarm = async |action| client.alarm(action, AlarmType::Nospace, None).await.unwrap();
    assert!(alarm(AlarmAction::Get).await.alarms().is_empty());
    assert_eq!(alarm(AlarmAction::Activate).await.alarms().len(), 1);
    assert_eq!(alarm(AlarmAction::Get).await.alarms()[0].alarm(), AlarmType::Nospace);
    let refused = refusal(target.client().await.put("alarm", "1", None).await);
    assert_eq!(refused, (8, "etcdserver: mvcc: database space exceeded".to_owned()));
    target.client().await.delete("alarm", None).await.unwrap();
    alarm(AlarmAction::Deactivate).await;
    assert!(alarm(AlarmAction::Get).await.alarms().is_empty());
    target.client().await.put("alarm", "1", None).await.unwrap();
}

/// Without TLS there is nothing to see but that a client with TLS is not served.
pub async fn tls(target: Target) {
    let hosts: Vec<&str> =
        target.endpoints.iter().map(|url| url.split_once("//").unwrap().1).collect();
    let urls = |scheme| hosts.iter().map(|host| format!("{scheme}{host}")).collect::<Vec<_>>();
    let asks = async |urls: Vec<String>, options| {
        let mut client = Client::connect(urls, Some(options)).await?;
        soon(client.get("tls", None)).await
    };
    if target.tls.is_none() {
        let options = ConnectOptions::new().with_tls(TlsOptions::new());
        assert!(asks(urls("https://"), options).await.is_err());
        return;
    }
    asks(urls("https://"), target.options()).await.unwrap();
    let ca = std::fs::read(std::env::var("KVD_CA").unwrap()).unwrap();
    let no_identity = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
    let no_trust = target.tls.clone().unwrap();
    let no_trust = no_trust.ca_certificate(Certificate::from_pem(Vec::new()));
    asks(urls("https://"), ConnectOptions::new().with_tls(no_trust)).await.unwrap();
    let options = ConnectOptions::new().with_tls(no_identity);
    assert!(asks(urls("https://"), options).await.is_err(), "no certificate");
    let options = ConnectOptions::new().with_tls(TlsOptions::new());
    assert!(asks(urls("https://"), options).await.is_err(), "an unknown CA");
    assert!(asks(urls("http://"), ConnectOptions::new()).await.is_err(), "no TLS");
}

/// Until the end of this test nobody without a password is served.
pub async fn auth(target: Target) {
    let mut client = target.client().await;
    client.user_add("root", "r00t", None).await.unwrap();
    let refused = refusal(client.user_grant_role("root", "reader").await);
    assert_eq!(refused, (9, "etcdserver: role name not found".to_owned()));
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.role_add("reader").await.unwrap();
    let permission = Permission::read("auth/").with_prefix();
    client.role_grant_permission("reader", permission.clone()).await.unwrap();
    let permission_own = Permission::read_write("own");
    client.role_grant_permission("reader", permission_own.clone()).await.unwrap();
    client.user_add("ann", "secret", None).await.unwrap();
    client.user_grant_role("ann", "reader").await.unwrap();
    let refused = refusal(client.user_add("ann", "again", None).await);
    assert_eq!(refused, (9, "etcdserver: user name already exists".to_owned()));
    assert_eq!(client.user_get("ann").await.unwrap().roles(), ["reader"]);
    let granted = client.role_get("reader").await.unwrap().permissions();
    assert!(granted.contains(&permission) && granted.contains(&permission_own));
    client.put("auth/a", "1", None).await.unwrap();
    client.auth_enable().await.unwrap();

    let outcome = tokio::spawn(under_auth(target.clone())).await;
    let mut root = target.login("root", "r00t").await.unwrap();
    root.auth_disable().await.unwrap();
    outcome.unwrap();

    assert_eq!(client.get("auth/a", None).await.unwrap().count(), 1);
    for user in ["ann", "root"] {
        client.user_delete(user).await.unwrap();
    }
    for role in ["reader", "root"] {
        client.role_delete(role).await.unwrap();
    }
    assert!(client.user_list().await.unwrap().users().is_empty());
}

async fn under_auth(target: Target) {
    let denied = (7, "etcdserver: permission denied".to_owned());
    let wrong = (3, "etcdserver: authentication failed, invalid user ID or password".to_owned());
    assert_eq!(refusal(target.login("ann", "guess").await), wrong);
    assert_eq!(refusal(target.login("bob", "secret").await), wrong);
    let nobody = refusal(target.client().await.put("own", "1", None).await);
    // A client certificate names a user, who is one without permissions here.
    let expected = match target.tls {
        Some(_) => denied.clone(),
        None => (3, "etcdserver: user name is empty".to_owned()),
    };
    assert_eq!(nobody, expected);

    let mut ann = target.login("ann", "secret").await.unwrap();
    assert_eq!(ann.get("auth/a", None).await.unwrap().kvs()[0].value(), b"1");
    ann.put("own", "1", None).await.unwrap();
    assert_eq!(refusal(ann.put("auth/a", "2", None).await), denied);
    assert_eq!(refusal(ann.get("other", None).await), denied);
    let options = DeleteOptions::new().with_prefix();
    assert_eq!(refusal(ann.delete("auth/", Some(options)).await), denied);
    assert_eq!(refusal(ann.user_add("eve", "x", None).await), denied);
    let mut stream = ann.watch("auth/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    assert!(soon(stream.message()).await.unwrap().unwrap().created());
    let mut root = target.login("root", "r00t").await.unwrap();
    root.put("auth/b", "1", None).await.unwrap();
    let answer = soon(stream.message()).await.unwrap().unwrap();
    assert_eq!(answer.events()[0].kv().unwrap().key(), b"auth/b");

    root.user_change_password("ann", "new").await.unwrap();
    assert_eq!(refusal(target.login("ann", "secret").await), wrong);
    let mut ann = target.login("ann", "new").await.unwrap();
    root.user_revoke_role("ann", "reader").await.unwrap();
    // The role is gone for a token that was made before, too.
    match ann.get("auth/a", None).await {
        Err(Error::GRpcStatus(status)) => assert_eq!(status.code() as i32, 7),
        other => panic!("{other:?}"),
    }
}
