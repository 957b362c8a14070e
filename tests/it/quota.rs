//! The quota of one member: what is refused when it is reached, and the way out. kvd's own rule differs
//! from etcd's on purpose; `--strict-etcd-quota` is etcd's.

use std::time::{Duration, Instant};

use harness::{Client, Node, NodeOptions, PATIENCE, Target};
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, StatusRequest,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

const QUOTA: usize = 1 << 20;
/// So that about fifteen fit.
const VALUE_BYTES: usize = 64 << 10;

struct Server {
    node: Node,
    client: Client,
}

impl Server {
    async fn start(args: &[&str]) -> Self {
        let mut options =
            NodeOptions::new(Target::Kvd).arg(format!("--quota-backend-bytes={QUOTA}"));
        for arg in args {
            options = options.arg(*arg);
        }
        let node = Node::start(options).unwrap();
        let client = Client::connect(&node.endpoint()).await.unwrap();
        Self { node, client }
    }

    async fn put(&mut self, key: &str, bytes: usize) -> Result<i64, Status> {
        let put = PutRequest { key: key.into(), value: vec![b'v'; bytes], ..Default::default() };
        let answer = self.client.kv.put(put).await?.into_inner();
        Ok(answer.header.unwrap().revision)
    }

    /// Puts keys until that is refused; how many there are then.
    async fn fill(&mut self) -> usize {
        let mut keys = 0;
        loop {
            match self.put(&format!("key/{keys}"), VALUE_BYTES).await {
                Ok(_) => keys += 1,
                Err(status) => {
                    assert_no_space(&status);
                    return keys;
                }
            }
            assert!(keys < 2 * QUOTA / VALUE_BYTES, "the quota is never reached");
        }
    }

    async fn delete(&mut self, key: &str) {
        let delete = DeleteRangeRequest { key: key.into(), ..Default::default() };
        self.client.kv.delete_range(delete).await.unwrap();
    }

    /// Drops all history.
    async fn compact(&mut self) {
        let status = self.client.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        let revision = status.header.unwrap().revision;
        let compaction = CompactionRequest { revision, physical: true };
        self.client.kv.compact(compaction).await.unwrap();
    }

    async fn alarms(&mut self) -> Vec<AlarmMember> {
        let list = self.client.maintenance.alarm(AlarmRequest::default()).await.unwrap();
        list.into_inner().alarms
    }

    async fn wait_logged(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.node.log().contains(line) {
            assert!(Instant::now() < deadline, "{line} is not in the log:\n{}", self.node.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn wait_calm(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.alarms().await.is_empty() {
            assert!(Instant::now() < deadline, "the alarm never ends");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn assert_no_space(status: &Status) {
    let expected = "etcdserver: mvcc: database space exceeded";
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, expected));
}

/// They take memory as long as they live, which is as long as somebody likes.
#[tokio::test]
async fn leases_reach_the_quota_and_their_end_makes_room() {
    let mut server = Server::start(&[]).await;
    let (mut granted, mut refused) = (Vec::new(), None);
    while refused.is_none() {
        let mut grants = JoinSet::new();
        for _ in 0..100 {
            let mut lease = server.client.lease.clone();
            let grant = LeaseGrantRequest { ttl: 9_000_000_000, id: 0 };
            grants.spawn(async move { lease.lease_grant(grant).await });
        }
        for answer in grants.join_all().await {
            match answer {
                Ok(answer) => granted.push(answer.get_ref().id),
                Err(status) => refused = Some(status),
            }
        }
        assert!(granted.len() < QUOTA / 100, "the quota is never reached");
    }
    assert_no_space(&refused.unwrap());
    assert!(granted.len() > QUOTA / 400, "{} leases", granted.len());
    let status = server.client.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.db_size_in_use as usize > QUOTA * 9 / 10, "{}", status.db_size_in_use);
    assert_no_space(&server.put("key", 1).await.unwrap_err());
    for id in granted.drain(..granted.len() / 4) {
        server.client.lease.lease_revoke(LeaseRevokeRequest { id }).await.unwrap();
    }
    server.wait_calm().await;
    server.put("key", 1).await.unwrap();
}

#[tokio::test]
async fn at_the_quota_only_growth_is_refused_and_room_ends_the_alarm() {
    let mut server = Server::start(&[]).await;
    let lease = LeaseGrantRequest { ttl: 600, id: 7 };
    server.client.lease.lease_grant(lease).await.unwrap();
    let keys = server.fill().await;
    let used = keys * VALUE_BYTES;
    assert!((QUOTA - 2 * VALUE_BYTES..QUOTA).contains(&used), "{keys} keys");

    server.wait_logged("90 % of the quota are used").await;

    let status = server.client.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    let member_id = status.header.unwrap().member_id;
    let alarm = AlarmMember { member_id, alarm: AlarmType::Nospace.into() };
    assert_eq!(server.alarms().await, [alarm]);
    assert_eq!(status.db_size_quota, QUOTA as i64);
    assert!(status.db_size_in_use as usize > used && (status.db_size_in_use as usize) < QUOTA);
    assert_eq!(status.errors, [format!("memberID:{member_id} alarm:NOSPACE ")]);

    assert_no_space(&server.put("new", 0).await.unwrap_err());
    assert_no_space(&server.put("key/0", VALUE_BYTES + 1).await.unwrap_err());
    let lease = LeaseGrantRequest { ttl: 600, id: 8 };
    assert_no_space(&server.client.lease.lease_grant(lease).await.unwrap_err());

    // What is not larger than before passes, although the history grows until it is compacted.
    server.put("key/0", VALUE_BYTES).await.unwrap();
    server.put("key/0", 1).await.unwrap();
    server.client.lease.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap();
    server.delete("key/1").await;
    server.delete("key/2").await;
    assert_eq!(server.alarms().await, [alarm]);
    server.compact().await;
    server.wait_calm().await;
    server.put("new", VALUE_BYTES).await.unwrap();

    server.wait_logged("there is room below the quota again").await;
}

#[tokio::test]
async fn an_alarm_that_somebody_raised_by_hand_is_left_to_them() {
    let mut server = Server::start(&[]).await;
    server.put("key", VALUE_BYTES).await.unwrap();
    let status = server.client.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    let member_id = status.header.unwrap().member_id;
    let (action, alarm) = (AlarmAction::Activate.into(), AlarmType::Nospace.into());
    let raise = AlarmRequest { action, member_id, alarm };
    server.client.maintenance.alarm(raise).await.unwrap();
    // That it warns twice shows that the member has looked at its quota three times since then: there
    // was little room, there was more, there was little again.
    let deadline = Instant::now() + PATIENCE;
    while server.node.log().matches("80 % of the quota are used").count() < 2 {
        assert!(Instant::now() < deadline, "it warns no more:\n{}", server.node.log());
        for _ in 0..QUOTA * 85 / 100 / VALUE_BYTES {
            server.put("key", VALUE_BYTES).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.compact().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(server.alarms().await.len(), 1);
    assert_no_space(&server.put("new", 1).await.unwrap_err());
}

#[tokio::test]
async fn the_strict_rule_is_etcds() {
    let mut server = Server::start(&["--strict-etcd-quota"]).await;
    server.fill().await;
    for bytes in [VALUE_BYTES, 1, 0] {
        assert_no_space(&server.put("key/0", bytes).await.unwrap_err());
    }
    server.delete("key/1").await;
    server.delete("key/2").await;
    server.compact().await;
    // There is room, and still nothing passes until somebody has disarmed the alarm.
    let alarms = server.alarms().await;
    assert_eq!(alarms.len(), 1);
    assert_no_space(&server.put("key/0", 1).await.unwrap_err());
    let AlarmMember { member_id, alarm } = alarms[0];
    let disarm = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm };
    server.client.maintenance.alarm(disarm).await.unwrap();
    server.put("new", VALUE_BYTES).await.unwrap();
}
