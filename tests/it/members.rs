//! Clusters whose members come and go.

use std::time::Duration;

use harness::{Cluster, ClusterOptions, Target, free_port};
use proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, PutRequest, RangeRequest,
};
use tonic::{Code, Request, Status};

const STOPS_WITHIN: Duration = Duration::from_secs(20);

fn cluster(members: usize) -> Cluster {
    start(ClusterOptions::new(Target::Kvd, members))
}

fn start(options: ClusterOptions) -> Cluster {
    Cluster::start_with(options).unwrap_or_else(|error| panic!("{error:#}"))
}

/// A request that gives up after a while.
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(3));
    request
}

async fn put(cluster: &Cluster, place: usize, value: &str) {
    let put = PutRequest { key: "a".into(), value: value.into(), ..PutRequest::default() };
    let put = async || {
        let mut client = cluster.client(place).await.ok()?;
        client.kv.put(request(put.clone())).await.ok()
    };
    cluster.wait("a put succeeds", put).await.unwrap();
}

async fn get(cluster: &Cluster, place: usize) -> Result<String, Status> {
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let mut client = cluster.client(place).await.unwrap();
    let answer = client.kv.range(request(range)).await?.into_inner();
    let value = answer.kvs.first().unwrap().parse().unwrap().value;
    Ok(String::from_utf8(value.to_vec()).unwrap())
}

async fn wait_for(cluster: &Cluster, place: usize, value: &str) {
    let same = async || (get(cluster, place).await.ok()? == value).then_some(());
    cluster.wait("the value is read", same).await.unwrap();
}

/// Waits until a member has a vote, and the leadership.
async fn lead(cluster: &Cluster, place: usize) {
    let lead = async || match cluster.leader().await.ok()? == place {
        true => Some(()),
        false => cluster.move_leader(place).await.ok(),
    };
    cluster.wait("it takes the leadership", lead).await.unwrap();
}

/// Its last line, once it has ended by itself.
fn last_words(cluster: &mut Cluster, place: usize) -> String {
    let status = cluster.node_mut(place).wait_exit(STOPS_WITHIN).unwrap();
    assert_ne!(status.code(), Some(0), "{}", cluster.node(place).log_tail());
    cluster.node(place).log_tail()
}

/// Writes go on while a single member gets company: it does not wait for those who are to come.
#[tokio::test]
async fn a_cluster_grows_from_one_member_to_three() {
    let mut cluster = cluster(1);
    put(&cluster, 0, "1").await;
    let url = format!("http://127.0.0.1:{}", free_port());
    let add = MemberAddRequest { peer_ur_ls: vec![url], is_learner: false };
    let mut client = cluster.client(0).await.unwrap();
    let added = client.cluster.member_add(add).await.unwrap().into_inner();
    assert_eq!(added.members.len(), 2);
    let id = added.member.unwrap().id;
    put(&cluster, 0, "2").await;
    client.cluster.member_remove(MemberRemoveRequest { id }).await.unwrap();

    let second = cluster.grow(0, false).await.unwrap();
    wait_for(&cluster, second, "2").await;
    let third = cluster.grow(second, false).await.unwrap();
    wait_for(&cluster, third, "2").await;
    let members = cluster.members().await.unwrap();
    assert!(members.iter().all(|member| !member.is_learner && member.client_ur_ls.len() == 1));
    lead(&cluster, second).await;
    lead(&cluster, third).await;
    cluster.kill(0).unwrap();
    put(&cluster, second, "3").await;
    cluster.start_again(0).unwrap();
    wait_for(&cluster, 0, "3").await;
    cluster.wait_in_step().await.unwrap();
}

#[tokio::test]
async fn a_learner_listens_until_it_is_promoted() {
    let mut cluster = cluster(3);
    put(&cluster, 0, "1").await;
    let place = cluster.grow(1, true).await.unwrap();
    let mut client = cluster.client(place).await.unwrap();
    let refused = get(&cluster, place).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: rpc not supported for learner");
    let range = RangeRequest { key: "a".into(), serializable: true, ..RangeRequest::default() };
    let read = async || {
        let answer = client.kv.range(range.clone()).await.ok()?;
        (answer.get_ref().count == 1).then_some(())
    };
    cluster.wait("the learner has the value", read).await.unwrap();

    let id = cluster.id(place).await.unwrap();
    let promote = async || {
        let mut follower = cluster.client(2).await.ok()?;
        let promote = MemberPromoteRequest { id };
        Some(follower.cluster.member_promote(promote).await.ok()?.into_inner().members)
    };
    let members = cluster.wait("the learner is promoted", promote).await.unwrap();
    assert_eq!(members.len(), 4);
    assert!(members.iter().all(|member| !member.is_learner));
    wait_for(&cluster, place, "1").await;
    lead(&cluster, place).await;
    let mut follower = cluster.client(2).await.unwrap();
    let again = follower.cluster.member_promote(MemberPromoteRequest { id }).await.unwrap_err();
    assert_eq!(again.message(), "etcdserver: can only promote a learner member");
}

#[tokio::test]
async fn a_removed_member_says_so_and_does_not_come_back() {
    let mut cluster = cluster(3);
    put(&cluster, 0, "1").await;
    let place = cluster.leader().await.unwrap();
    let (id, other) = (cluster.id(place).await.unwrap(), (place + 1) % 3);
    cluster.remove(other, id).await.unwrap();
    let said = last_words(&mut cluster, place);
    assert!(said.contains("permanently removed from the cluster"), "{said}");
    put(&cluster, other, "2").await;
    // With its data it is told again, without it is nobody.
    cluster.spawn(place).unwrap();
    let said = last_words(&mut cluster, place);
    assert!(said.contains("permanently removed from the cluster"), "{said}");
    cluster.wipe(place).unwrap();
    cluster.spawn(place).unwrap();
    let said = last_words(&mut cluster, place);
    assert!(said.contains(&format!("member {id:x} is no member of cluster")), "{said}");
    assert!(said.contains("kvctl member add"), "{said}");

    let mut client = cluster.client(other).await.unwrap();
    let gone = client.cluster.member_remove(MemberRemoveRequest { id }).await.unwrap_err();
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, "etcdserver: member not found"));
    // Nor does it come back by another name.
    cluster.node_mut(place).options_mut().args.push("--initial-cluster-state=existing".into());
    cluster.spawn(place).unwrap();
    let said = last_words(&mut cluster, place);
    assert!(said.contains("is no member of cluster"), "{said}");
}

/// Through the leader or through a follower: whoever asks is answered, and then the member is gone.
#[tokio::test]
async fn a_member_that_removes_itself_says_so_to_its_client_first() {
    for leads in [false, true] {
        let mut cluster = cluster(3);
        put(&cluster, 0, "1").await;
        let leader = cluster.leader().await.unwrap();
        let place = if leads { leader } else { (leader + 1) % 3 };
        let id = cluster.id(place).await.unwrap();
        let mut client = cluster.client(place).await.unwrap();
        let remove = async || match client.cluster.member_remove(MemberRemoveRequest { id }).await {
            // The leader is not sure of its followers yet.
            Err(status) if status.message() == "etcdserver: unhealthy cluster" => None,
            answered => Some(answered),
        };
        let removed = cluster.wait("an answer", remove).await.unwrap().unwrap().into_inner();
        assert_eq!(removed.members.len(), 2);
        assert!(removed.members.iter().all(|member| member.id != id));
        let said = last_words(&mut cluster, place);
        assert!(said.contains("permanently removed from the cluster"), "{said}");
        assert!(said.contains("kvctl member add"), "{said}");
        put(&cluster, (place + 1) % 3, "2").await;
    }
}

#[tokio::test]
async fn a_change_that_timed_out_is_not_made_later() {
    let mut cluster = cluster(3);
    put(&cluster, 0, "1").await;
    let id = cluster.id(2).await.unwrap();
    cluster.kill(1).unwrap();
    cluster.kill(2).unwrap();
    let alone = async || (cluster.status(0).await?.leader == 0).then_some(());
    cluster.wait("nobody leads", alone).await.unwrap();
    let mut client = cluster.client(0).await.unwrap();
    let late = client.cluster.member_remove(MemberRemoveRequest { id }).await.unwrap_err();
    let text = "context deadline exceeded";
    assert_eq!((late.code(), late.message()), (Code::DeadlineExceeded, text));
    cluster.start_again(1).unwrap();
    put(&cluster, 0, "2").await;
    cluster.start_again(2).unwrap();
    wait_for(&cluster, 2, "2").await;
    cluster.wait_in_step().await.unwrap();
    assert_eq!(cluster.members().await.unwrap().len(), 3);
}

#[tokio::test]
async fn leadership_that_did_not_arrive_is_no_success() {
    let mut cluster = cluster(3);
    put(&cluster, 0, "1").await;
    let leader = cluster.leader().await.unwrap();
    let to = (leader + 1) % 3;
    let target_id = cluster.id(to).await.unwrap();
    let mut follower = cluster.client(to).await.unwrap();
    let refused = follower.maintenance.move_leader(MoveLeaderRequest { target_id }).await;
    let refused = refused.unwrap_err();
    let text = "etcdserver: not leader";
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, text));
    let mut client = cluster.client(leader).await.unwrap();
    let unknown = client.maintenance.move_leader(MoveLeaderRequest { target_id: 7 }).await;
    let unknown = unknown.unwrap_err();
    let text = "etcdserver: bad leader transferee";
    assert_eq!((unknown.code(), unknown.message()), (Code::FailedPrecondition, text));
    cluster.pause(to).unwrap();
    let late = client.maintenance.move_leader(MoveLeaderRequest { target_id }).await.unwrap_err();
    let text = "etcdserver: request timed out, leader transfer took too long";
    assert_eq!((late.code(), late.message()), (Code::Unknown, text));
    cluster.resume(to).unwrap();
    put(&cluster, to, "2").await;
}

#[tokio::test]
async fn a_wiped_member_has_to_be_removed_and_added() {
    let mut cluster = cluster(3);
    put(&cluster, 0, "1").await;
    let id = cluster.id(2).await.unwrap();
    cluster.kill(2).unwrap();
    cluster.wipe(2).unwrap();
    cluster.spawn(2).unwrap();
    let said = last_words(&mut cluster, 2);
    assert!(said.contains(&format!("member {id:x} has already been bootstrapped")), "{said}");
    assert!(said.contains(&format!("kvctl member remove {id:x}")), "{said}");
    // Nothing was made of it, so it can be replaced as the message says.
    let new = cluster.replace(2, 0).await.unwrap();
    assert_ne!(new, id);
    wait_for(&cluster, 2, "1").await;
    assert_eq!(cluster.members().await.unwrap().len(), 3);
}

/// The URLs of a member change first, then the member moves.
#[tokio::test]
async fn a_member_moves_to_another_address() {
    let mut options = ClusterOptions::new(Target::Kvd, 3);
    options.links = false;
    let mut cluster = start(options);
    let place = (cluster.leader().await.unwrap() + 1) % 3;
    let other = (place + 1) % 3;
    let (id, port) = (cluster.id(place).await.unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let mut client = cluster.client(other).await.unwrap();
    let update = |url: &str| MemberUpdateRequest { id, peer_ur_ls: vec![url.to_owned()] };
    let taken = cluster.node(other).peer_url();
    let refused = client.cluster.member_update(update(&taken)).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: Peer URLs already exists");
    client.cluster.member_update(update(&url)).await.unwrap();
    cluster.stop(place).unwrap();
    put(&cluster, other, "1").await;
    cluster.node_mut(place).options_mut().peer_port = port;
    cluster.start_again(place).unwrap();
    wait_for(&cluster, place, "1").await;
    let listed = client.cluster.member_list(MemberListRequest { linearizable: true }).await;
    let listed = listed.unwrap().into_inner().members;
    let moved = listed.iter().find(|member| member.id == id).unwrap();
    assert_eq!(moved.peer_ur_ls, [url]);
    lead(&cluster, place).await;
}

/// Nobody was there to tell it when it started.
#[tokio::test]
async fn a_wiped_member_does_not_vote_once_the_others_are_there() {
    let mut cluster = cluster(3);
    put(&cluster, 0, "1").await;
    cluster.wait_in_step().await.unwrap();
    for place in cluster.places() {
        cluster.kill(place).unwrap();
    }
    cluster.wipe(2).unwrap();
    cluster.spawn(2).unwrap();
    let begun = async || cluster.status(2).await;
    cluster.wait("it serves, as it cannot know", begun).await.unwrap();
    // Together they would be a quorum.
    cluster.spawn(0).unwrap();
    let said = last_words(&mut cluster, 2);
    assert!(said.contains("the member has already been bootstrapped"), "{said}");
    assert!(said.contains("kvctl member remove"), "{said}");
    cluster.start_again(1).unwrap();
    wait_for(&cluster, 0, "1").await;
    cluster.replace(2, 0).await.unwrap();
    wait_for(&cluster, 2, "1").await;
}
