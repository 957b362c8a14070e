//! The rules between a list of members, a data directory and a cluster that runs.

use std::sync::LazyLock;

use super::ask::Answer;
use super::*;
use crate::config::{self, Startup};

const A: &str = "http://127.0.0.1:11";
const B: &str = "http://127.0.0.1:12";
const C: &str = "http://127.0.0.1:13";

fn list() -> String {
    format!("a={A},b={B},c={C}")
}

/// Member `name` with its peer URL, further flags behind.
fn config(name: &str, url: &str, flags: &str) -> Config {
    let line = format!("--name {name} --initial-advertise-peer-urls {url} {flags}");
    let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
    match config::load(&args, &[]) {
        Ok(Startup::Run(config)) => *config,
        other => panic!("{line}: {other:?}"),
    }
}

fn founder(name: &str, url: &str) -> Config {
    config(name, url, &format!("--initial-cluster {}", list()))
}

/// Nobody comes meanwhile, and nobody is asked over TLS.
fn nobody() -> (&'static [Bound], &'static Arc<Connector>) {
    static CONNECTOR: LazyLock<Arc<Connector>> =
        LazyLock::new(|| Arc::new(Connector::new(&Default::default()).unwrap()));
    (&[], &CONNECTOR)
}

fn refused<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

fn listed(id: u64, url: &str) -> ListedMember {
    ListedMember { id, peer_urls: vec![url.into()], ..ListedMember::default() }
}

fn started(member: ListedMember) -> ListedMember {
    ListedMember { client_urls: vec!["http://127.0.0.1:1".into()], ..member }
}

fn answer(from: &str, cluster_id: u64, members: Vec<ListedMember>) -> Answer {
    Answer { from: Url::parse(from).unwrap(), cluster_id, members, is_kvd: true }
}

fn asked(answers: Vec<Answer>) -> Asked {
    Asked { answers, silent: Vec::new() }
}

/// What a real etcd's member list and headers say for these inputs.
#[test]
fn all_founders_work_out_the_ids_of_etcd() {
    let flags = "--initial-cluster-token tok \
                 --initial-cluster n1=http://127.0.0.1:30011,n2=http://127.0.0.1:30012,\
                 n3=http://127.0.0.1:30013,n3=http://127.0.0.1:30014";
    let third = "http://127.0.0.1:30014,http://127.0.0.1:30013";
    let mut founders = Vec::new();
    for (name, url, id) in [
        ("n1", "http://127.0.0.1:30011", 0xf46e_6225_466f_0947),
        ("n2", "http://127.0.0.1:30012", 0xb4dd_506f_cdfe_bf83),
        ("n3", third, 0x5ffd_ae40_7daa_fc07),
    ] {
        let origin = founding(&config(name, url, flags)).unwrap();
        let identity = Identity { cluster_id: 0x31f4_2a76_5637_0b5a, member_id: id };
        assert_eq!(origin.identity, identity, "{name}");
        founders.push(origin.founders.unwrap());
    }
    assert!(founders.windows(2).all(|pair| pair[0] == pair[1]));
    let names: Vec<&str> = founders[0].values().map(|node| node.name.as_str()).collect();
    assert_eq!(founders[0].len(), 3, "{names:?}");
}

#[test]
fn a_member_without_a_list_founds_alone() {
    let origin = origin(&config("x", A, ""), None, false, nobody()).unwrap();
    let founders = origin.founders.unwrap();
    let node = Node { name: "x".into(), peer_urls: vec![A.into()], to_vote: false };
    assert_eq!(founders, BTreeMap::from([(origin.identity.member_id, node)]));
    let defaults = founding(&Config::default()).unwrap().identity;
    assert_eq!(defaults.member_id, 0x8e9e_05c5_2164_694d);
    assert_eq!(defaults.cluster_id, 0xcdf8_1819_4e3a_8c32);
}

#[test]
fn wrong_lists_are_told() {
    for (flags, want) in [
        (
            "--initial-cluster b=http://127.0.0.1:11",
            "--initial-cluster: it does not name this member, \"a\", only b; set --name to one of \
             them, or add this member",
        ),
        (
            "--initial-cluster a=http://10.0.0.1:2380",
            "--initial-cluster: it gives \"a\" the URLs http://10.0.0.1:2380, but \
             --initial-advertise-peer-urls says http://127.0.0.1:11; give both the same URLs",
        ),
        (
            "--initial-cluster a=http://127.0.0.1:11,b=http://127.0.0.1:11",
            "--initial-cluster: it has http://127.0.0.1:11 twice, for \"a\" and for \"b\"; give \
             every member URLs of its own",
        ),
        (
            "--initial-cluster a=http://127.0.0.1:11,a=http://127.0.0.1:11",
            "--initial-cluster: it has http://127.0.0.1:11 twice, for \"a\" and for \"a\"; give \
             every member URLs of its own",
        ),
        (
            "--initial-cluster=",
            "--initial-cluster: it names no member; write name=http://host:port for each, or \
             leave it out for a member alone",
        ),
        (
            "--initial-cluster a=http://127.0.0.1:11 --initial-cluster-state existing",
            "--initial-cluster: it names this member only; to join a cluster, name all of its \
             members, as `kvctl member add` prints them",
        ),
    ] {
        assert_eq!(refused(origin(&config("a", A, flags), None, false, nobody())), want);
    }
}

#[test]
fn names_are_compared_by_their_addresses() {
    let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_string()).collect::<Vec<_>>();
    for (one, other, want) in [
        (&["http://localhost:1"][..], &["http://127.0.0.1:1"][..], true),
        (&["http://localhost:1"], &["http://127.0.0.1:2"], false),
        (&["http://127.0.0.1:1"], &["http://127.0.0.2:1"], false),
        (&["http://a:1", "http://b:1"], &["http://b:1", "http://a:1"], true),
        (&["http://localhost:1", "http://127.0.0.1:2"], &["http://127.0.0.1:1"], false),
        (
            &["http://localhost:1", "http://127.0.0.1:2"],
            &["http://localhost:2", "http://127.0.0.1:1"],
            true,
        ),
        (
            &["http://localhost:1", "http://127.0.0.1:1"],
            &["http://127.0.0.1:1", "http://127.0.0.1:2"],
            false,
        ),
        (&["https://127.0.0.1:1"], &["https://127.0.0.1:1"], true),
        (&["https://127.0.0.1:1"], &["http://127.0.0.1:1"], false),
    ] {
        assert_eq!(same_urls(&urls(one), &urls(other)), want, "{one:?} {other:?}");
    }
}

/// The data directory wins over everything that the flags say.
#[test]
fn a_restart_is_who_it_was() {
    let identity = founding(&founder("a", A)).unwrap().identity;
    let other = Identity { cluster_id: 1, member_id: 2 };
    for (config, known) in [
        (founder("a", A), identity),
        (founder("a", A), other),
        (config("a", A, "--initial-cluster x=http://127.0.0.1:99"), other),
        (config("a", A, "--initial-cluster-state existing"), other),
        (config("a", A, "--initial-cluster="), other),
    ] {
        let want = Origin { identity: known, founders: None };
        assert_eq!(origin(&config, Some(known), true, nobody()).unwrap(), want);
    }
}

#[test]
fn a_founder_cut_short_founds_again_and_a_joiner_does_not() {
    let whole = founding(&founder("a", A)).unwrap();
    let again = origin(&founder("a", A), Some(whole.identity), false, nobody()).unwrap();
    assert_eq!(again, whole);
    let flags = format!("--initial-cluster {} --initial-cluster-state existing", list());
    let joiner = config("a", A, &flags);
    assert_eq!(origin(&joiner, Some(whole.identity), false, nobody()).unwrap().founders, None);
    let other = Identity { cluster_id: 1, member_id: 2 };
    assert_eq!(origin(&founder("a", A), Some(other), false, nobody()).unwrap().founders, None);
}

#[test]
fn a_founder_must_be_new_to_those_that_run() {
    let config = founder("a", A);
    let own = founding(&config).unwrap().identity;
    let Identity { cluster_id, member_id } = own;
    let check = |answers| check_unknown(&config, own, &asked(answers));
    let add = "add it (kvctl member add a --peer-urls=http://127.0.0.1:11) and start it with an \
               empty data directory and --initial-cluster-state=existing";

    check(vec![]).unwrap();
    check(vec![answer(B, cluster_id, vec![])]).unwrap();
    let others = || vec![started(listed(7, B)), started(listed(8, C))];
    let with = |member| [vec![member], others()].concat();
    check(vec![answer(B, cluster_id, with(listed(member_id, A)))]).unwrap();

    let text = refused(check(vec![answer(B, cluster_id, with(started(listed(member_id, A))))]));
    assert_eq!(
        text,
        format!(
            "member {member_id:x} has already been bootstrapped: {B} has seen it at work, and its \
             data is gone; remove it (kvctl member remove {member_id:x}), then {add}"
        )
    );
    let text = refused(check(vec![answer(B, cluster_id, others())]));
    assert_eq!(
        text,
        format!(
            "member {member_id:x} is no member of cluster {cluster_id:x}: {B} does not list it, so \
             it was removed; {add}"
        )
    );
    let text = refused(check(vec![answer(B, 0xabc, vec![])]));
    assert_eq!(
        text,
        format!(
            "--initial-cluster: {B} is a member of the running cluster abc, but the list and \
             --initial-cluster-token make cluster {cluster_id:x}; correct them, or, to join that \
             cluster, {add}"
        )
    );
}

#[test]
fn a_joiner_takes_its_identity_from_the_cluster() {
    let flags = format!("--initial-cluster {} --initial-cluster-state existing", list());
    let config = config("c", C, &flags);
    let joined = |answers| join(&config, &asked(answers));
    let two = || vec![started(listed(1, A)), started(listed(2, B))];
    let three = || [two(), vec![listed(3, "http://localhost:13")]].concat();
    let identity = Identity { cluster_id: 0xc, member_id: 3 };

    assert_eq!(joined(vec![answer(A, 0xc, three())]).unwrap(), identity);
    // One member that has heard of it is enough.
    assert_eq!(joined(vec![answer(A, 0xc, two()), answer(B, 0xc, three())]).unwrap(), identity);

    let text = refused(joined(vec![answer(A, 0xc, two())]));
    assert!(text.contains("\"c\" with the URLs http://127.0.0.1:13 is no member of cluster c"));
    assert!(text.contains("kvctl member add c --peer-urls=http://127.0.0.1:13"), "{text}");

    let four = [three(), vec![listed(4, "http://127.0.0.1:14")]].concat();
    let text = refused(joined(vec![answer(A, 0xc, four)]));
    assert!(text.contains("no member with the URLs http://127.0.0.1:14 of member 4"), "{text}");

    let without_b = vec![started(listed(1, A)), listed(3, C)];
    let text = refused(joined(vec![answer(A, 0xc, without_b)]));
    assert!(text.contains("names 3 members, but http://127.0.0.1:11 lists 2"), "{text}");

    let known = [two(), vec![started(listed(3, C))]].concat();
    let text = refused(joined(vec![answer(A, 0xc, known)]));
    assert!(text.contains("member 3 has already been bootstrapped"), "{text}");

    let text = refused(joined(vec![answer(A, 0xc, three()), answer(B, 0xd, three())]));
    assert!(text.contains("of cluster c, but http://127.0.0.1:12 of cluster d"), "{text}");

    let etcd = Answer { is_kvd: false, ..answer(A, 0xc, three()) };
    assert!(refused(joined(vec![etcd])).contains("is not a kvd"));

    let silent = vec![format!("{A}: connection refused")];
    let nobody = Asked { answers: vec![answer(B, 0xc, vec![])], silent };
    let text = refused(join(&config, &nobody));
    assert!(text.contains("(http://127.0.0.1:11: connection refused)"), "{text}");
}
