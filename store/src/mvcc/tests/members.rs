//! The table of members: what a membership, the members themselves and their operators say.

use proto::internal::{MemberAttributes, MemberNode, MemberUpdate, Membership, VoterSet};

use super::*;
use crate::mvcc::Member;

fn url(id: u64) -> String {
    format!("http://m{id}:2380")
}

fn apply(store: &Arc<Store>, input: Input<'_>) -> Result<Response, Refusal> {
    let id = LogId { term: 1, index: store.applied().index + 1 };
    store.apply(id, input).unwrap().outcome
}

fn order(store: &Arc<Store>, op: Op) -> Result<Response, Refusal> {
    apply(store, Input::Command(&Command::from(op)))
}

/// The members listed are there from now on; only `voters` vote.
fn change(store: &Arc<Store>, members: &[u64], voters: &[u64]) {
    let node =
        |id: &u64| MemberNode { id: *id, peer_urls: vec![url(*id)], ..MemberNode::default() };
    let membership = Membership {
        configs: vec![VoterSet { ids: voters.to_vec() }],
        nodes: members.iter().map(node).collect(),
    };
    apply(store, Input::Membership(&membership)).unwrap();
}

fn update(store: &Arc<Store>, id: u64, urls: &[&str]) -> Result<Response, Refusal> {
    let peer_urls = urls.iter().map(|url| (*url).to_string()).collect();
    order(store, Op::MemberUpdate(MemberUpdate { id, peer_urls }))
}

fn member(store: &Arc<Store>, id: u64) -> Member {
    store.members().into_iter().find(|member| member.id == id).unwrap()
}

#[test]
fn what_is_known_of_members_that_stay_is_kept() {
    let store = open(&MemoryEngine::new());
    change(&store, &[1], &[1]);
    let client_urls = vec![url(7)];
    let attributes = MemberAttributes { id: 1, name: "one".into(), client_urls, log: 5 };
    order(&store, Op::MemberAttributes(attributes)).unwrap();
    update(&store, 1, &["http://elsewhere:1"]).unwrap();
    change(&store, &[1, 2], &[1]);
    let one = Member {
        id: 1,
        name: "one".into(),
        peer_urls: vec!["http://elsewhere:1".into()],
        client_urls: vec![url(7)],
        is_learner: false,
        log: 5,
    };
    assert_eq!(member(&store, 1), one);
    let two = Member { id: 2, peer_urls: vec![url(2)], is_learner: true, ..Member::default() };
    assert_eq!(member(&store, 2), two);
    change(&store, &[1, 2], &[1, 2]);
    assert!(!member(&store, 2).is_learner);
}

#[test]
fn a_member_is_not_believed_to_have_another_log() {
    let store = open(&MemoryEngine::new());
    change(&store, &[1], &[1]);
    let say = |name: &str, log| {
        let name = name.to_owned();
        let attributes = MemberAttributes { id: 1, name, log, ..MemberAttributes::default() };
        order(&store, Op::MemberAttributes(attributes)).unwrap();
        (member(&store, 1).name, store.log_of(1))
    };
    assert_eq!(say("a", 0), ("a".into(), 0));
    assert_eq!(say("b", 5), ("b".into(), 5));
    assert_eq!(say("c", 5), ("c".into(), 5));
    assert_eq!(say("d", 6), ("c".into(), 5));
    assert_eq!(say("d", 0), ("c".into(), 5));
    assert_eq!(store.log_of(2), 0);
}

#[test]
fn founders_have_names_before_they_run() {
    let store = open(&MemoryEngine::new());
    let node = MemberNode { id: 1, peer_urls: vec![url(1)], name: "one".into(), to_vote: false };
    let configs = vec![VoterSet { ids: vec![1] }];
    let membership = Membership { configs, nodes: vec![node] };
    apply(&store, Input::Membership(&membership)).unwrap();
    assert_eq!(member(&store, 1).name, "one");
}

#[test]
fn who_is_to_vote_is_no_learner() {
    let store = open(&MemoryEngine::new());
    let node = |id, to_vote| MemberNode { id, to_vote, ..MemberNode::default() };
    let configs = vec![VoterSet { ids: vec![1] }];
    let nodes = vec![node(1, false), node(2, true), node(3, false)];
    apply(&store, Input::Membership(&Membership { configs, nodes })).unwrap();
    assert_eq!([1, 2, 3].map(|id| store.is_learner(id)), [false, false, true]);
}

#[test]
fn peer_urls_are_changed_and_belong_to_one_member() {
    let store = open(&MemoryEngine::new());
    change(&store, &[1, 2], &[1, 2]);
    assert_eq!(update(&store, 3, &["http://x:1"]), Err(Refusal::MemberNotFound));
    assert_eq!(update(&store, 1, &["http://x:1", &url(2)]), Err(Refusal::PeerUrlExists));
    assert_eq!(member(&store, 1).peer_urls, [url(1)]);
    // Its own are no obstacle.
    update(&store, 1, &[&url(1), "http://x:1"]).unwrap();
    assert_eq!(member(&store, 1).peer_urls, [url(1), "http://x:1".into()]);
}

#[test]
fn who_was_removed_is_remembered() {
    let engine = MemoryEngine::new();
    let store = open(&engine);
    change(&store, &[0xa1, 0xa2, 3], &[0xa1, 0xa2]);
    change(&store, &[0xa1], &[0xa1]);
    assert_eq!(store.members().len(), 1);
    assert_eq!(update(&store, 0xa2, &["http://x:1"]), Err(Refusal::MemberNotFound));
    store.checkpoint().unwrap();
    drop(store);
    let store = open(&engine);
    for (id, removed) in [(0xa1, false), (0xa2, true), (3, true), (4, false)] {
        assert_eq!(store.is_removed(id), removed, "{id:x}");
    }
    // As etcd writes it, for those who go back to it with a snapshot.
    let source = store.snapshot_source();
    let table = &source.meta.tables["members_removed"];
    assert_eq!(table.get(&b"a2"[..]).map(|value| &value[..]), Some(&b"removed"[..]));
}
