//! kvctl with several members: what etcdctl prints, and endpoints that fail over.

use std::path::{Path, PathBuf};
use std::process::Output;

use harness::{
    Cluster, ClusterOptions, Node, NodeOptions, Target, etcd_is_required, free_port, go_binary,
    workspace_binary,
};

use super::watching::Watching;
use super::{run, shown};

/// Three members and the program in use.
struct Members {
    cluster: Cluster,
    kvctl: PathBuf,
}

impl Members {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut ClusterOptions)) -> Self {
        let mut options = ClusterOptions::new(Target::from_env().unwrap(), 3);
        change(&mut options);
        let cluster = Cluster::start_with(options);
        let cluster = cluster.unwrap_or_else(|error| panic!("{error:#}"));
        Self { cluster, kvctl: workspace_binary("kvctl").unwrap() }
    }

    /// Addresses of members, as for `--endpoints`.
    fn at(&self, places: &[usize]) -> String {
        let address = |place: &usize| address(self.cluster.node(*place));
        places.iter().map(address).collect::<Vec<_>>().join(",")
    }

    fn kvctl(&self, endpoints: &str, line: &str) -> Output {
        run(&self.kvctl, endpoints, line).unwrap()
    }

    /// What a line prints that succeeds. On a busy machine a leader may be lost for a moment, so what
    /// fails gets another try.
    fn done(&self, endpoints: &str, line: &str) -> String {
        let mut output = self.kvctl(endpoints, line);
        for _ in 0..5 {
            if output.status.success() {
                break;
            }
            output = self.kvctl(endpoints, line);
        }
        assert!(output.status.success(), "{line} at {endpoints}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The id of a member, in hex.
    async fn id(&self, place: usize) -> String {
        format!("{:x}", self.cluster.id(place).await.unwrap())
    }
}

fn address(node: &Node) -> String {
    node.endpoint().trim_start_matches("http://").to_owned()
}

fn etcdctl() -> Option<PathBuf> {
    match go_binary("etcdctl") {
        Err(error) if etcd_is_required() => panic!("{error:#}"),
        path => path.ok(),
    }
}

/// Runs a line with both programs. Members work on, and etcdctl gives up early on a busy machine: what
/// differs gets another try.
fn check_equal(etcdctl: &Path, members: &Members, endpoints: &str, line: &str) {
    let answer = |output: &Output| (timeless(&output.stdout), output.status.code());
    for tries_left in (0..5).rev() {
        let (theirs, ours) =
            (run(etcdctl, endpoints, line).unwrap(), members.kvctl(endpoints, line));
        if answer(&ours) == answer(&theirs) {
            return;
        }
        assert!(tries_left > 0, "{line} at {endpoints}\netcdctl: {theirs:?}\nkvctl: {ours:?}");
    }
}

/// The lines without the time that something took, by which alone etcdctl orders them.
fn timeless(stdout: &[u8]) -> Vec<String> {
    let lines = stdout.split(|byte| *byte == b'\n');
    let mut lines: Vec<String> = lines.map(shown).collect();
    if lines.iter().any(|line| line.contains("took = ")) {
        for line in &mut lines {
            line.truncate(line.find("took = ").unwrap_or(line.len()));
        }
        lines.sort();
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_members_and_endpoints_are_byte_equal() {
    let Some(etcdctl) = etcdctl() else { return };
    let members = Members::start();
    let (one, all) = (members.at(&[1]), members.at(&[2, 0, 1]));
    members.done(&all, "ctl put a 1; ctl put b 2; ctl del a");
    members.cluster.wait_in_step().await.unwrap();
    for format in ["simple", "fields", "json", "table", "protobuf"] {
        for line in ["member list", "member list --hex", "member list --consistency=s"] {
            check_equal(&etcdctl, &members, &one, &format!("ctl {line} -w {format}"));
        }
        for line in ["status", "status --hex", "hashkv", "hashkv --rev 3"] {
            check_equal(&etcdctl, &members, &all, &format!("ctl endpoint {line} -w {format}"));
            let line = format!("ctl endpoint {line} --cluster -w {format}");
            check_equal(&etcdctl, &members, &one, &line);
        }
    }
    for line in ["ctl member list", "ctl endpoint health", "ctl endpoint health --cluster"] {
        check_equal(&etcdctl, &members, &all, line);
    }
}

/// The answers of those that live, and the exit code, with a member missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_failures_are_equal() {
    let Some(etcdctl) = etcdctl() else { return };
    let mut members = Members::start();
    let (all, living) = (members.at(&[2, 0, 1]), members.at(&[0]));
    members.cluster.kill(2).unwrap();
    members.cluster.leader().await.unwrap();
    for format in ["simple", "json"] {
        for line in ["status", "hashkv"] {
            let line = format!("ctl endpoint {line} --command-timeout 2s -w {format}");
            check_equal(&etcdctl, &members, &all, &line);
            check_equal(&etcdctl, &members, &living, &format!("{line} --cluster"));
        }
    }
    for line in [
        "ctl endpoint health --command-timeout 2s",
        "ctl endpoint health --cluster --command-timeout 2s",
        "ctl member list",
        "ctl get none",
    ] {
        check_equal(&etcdctl, &members, &all, line);
    }
    let stderr = members.kvctl(&all, "ctl endpoint status").stderr;
    let gone = members.at(&[2]);
    let said = format!("Failed to get the status of endpoint {gone} (cannot reach {gone}: ");
    assert!(String::from_utf8(stderr).unwrap().starts_with(&said));
}

/// Moves the leader, to whom it leads already, too, and refuses what makes no sense.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_moves() {
    let members = Members::start();
    let leader = members.cluster.leader().await.unwrap();
    let (to, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (from_id, to_id) = (members.id(leader).await, members.id(to).await);
    let followers = members.at(&[to, other]);
    let refused = members.kvctl(&followers, &format!("ctl move-leader {to_id}"));
    assert_eq!(refused.status.code(), Some(128), "{refused:?}");
    let said = format!("kvctl: no leader endpoint given at {}; ", followers.replace(',', ", "));
    assert!(String::from_utf8(refused.stderr).unwrap().starts_with(&said));

    // The leader need not be the first, and one before it may be gone.
    let endpoints = format!("127.0.0.1:1,{}", members.at(&[to, leader, other]));
    assert_eq!(
        members.done(&endpoints, &format!("ctl move-leader {to_id}")),
        format!("Leadership transferred from {from_id} to {to_id}\n")
    );
    assert_eq!(members.cluster.leader().await.unwrap(), to);
    assert_eq!(
        members.done(&members.at(&[to]), &format!("ctl move-leader {to_id} -w json")),
        "{}\n"
    );
    let refused = members.kvctl(&endpoints, "ctl move-leader 1");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(refused.stderr, b"Error: etcdserver: bad leader transferee\n");
}

/// What `member add` prints is what the new member is started with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_joins_and_becomes_a_voter() {
    // Links let only those through whom the cluster has started.
    let members = Members::start_with(|options| options.links = false);
    let all = members.at(&[0, 1, 2]);
    members.done(&all, "ctl put before 1");
    let mut options = NodeOptions::new(Target::from_env().unwrap());
    (options.name, options.peer_port) = ("n4".to_owned(), free_port());
    let url = format!("http://127.0.0.1:{}", options.peer_port);
    // Shortly after the start, members may not know all others yet.
    let add = format!("ctl member add n4 --learner --peer-urls {url}");
    let added = wait_for(&members, &all, &add).await;
    let variable = |name: &str| {
        let line = added.lines().find_map(|line| line.strip_prefix(&format!("ETCD_{name}=\"")));
        line.and_then(|line| line.strip_suffix('"')).unwrap_or_else(|| panic!("{added}")).to_owned()
    };
    assert_eq!((variable("NAME"), variable("INITIAL_ADVERTISE_PEER_URLS")), ("n4".into(), url));
    options.initial_cluster = Some(variable("INITIAL_CLUSTER"));
    let state = variable("INITIAL_CLUSTER_STATE");
    let mut node = Node::prepare(options.arg(format!("--initial-cluster-state={state}"))).unwrap();
    node.spawn().unwrap();
    node.wait_ready().unwrap();

    let id = added.split_whitespace().nth(1).unwrap();
    let promoted = wait_for(&members, &all, &format!("ctl member promote {id}")).await;
    assert!(promoted.starts_with(&format!("Member {id:>16} promoted in cluster ")), "{promoted}");
    let list = members.done(&all, "ctl member list");
    let line = list.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(line.contains(", started, n4, ") && line.ends_with(", false"), "{line}");
    assert_eq!(members.done(&address(&node), "ctl get before"), "before\n1\n");
    let removed = wait_for(&members, &all, &format!("ctl member remove {id}")).await;
    assert!(removed.starts_with(&format!("Member {id:>16} removed from cluster ")), "{removed}");
    assert_eq!(members.done(&all, "ctl member list").lines().count(), 3);
}

/// What a line prints once it succeeds.
async fn wait_for(members: &Members, endpoints: &str, line: &str) -> String {
    let try_it = async || {
        let output = members.kvctl(endpoints, line);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    members.cluster.wait(line, try_it).await.unwrap()
}

/// Whatever is wrong with the first endpoint, another one is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_endpoint_is_used() {
    let mut members = Members::start();
    let leader = members.cluster.leader().await.unwrap();
    let first = (leader + 1) % 3;
    let all = members.at(&[first, leader, (leader + 2) % 3]);
    let check = |members: &Members, what: &str| {
        let printed = members.done(&all, "ctl put a 1 && ctl get a && ctl member list");
        assert!(printed.starts_with("OK\na\n1\n"), "{what}: {printed}");
        assert_eq!(printed.lines().count(), 6, "{what}: {printed}");
    };
    check(&members, "all well");
    members.cluster.pause(first).unwrap();
    check(&members, "frozen");
    members.cluster.resume(first).unwrap();
    members.cluster.cut_off(first);
    let alone = async || {
        let status = members.cluster.status(first).await?;
        (status.leader == 0).then_some(())
    };
    members.cluster.wait("the first member has no leader", alone).await.unwrap();
    check(&members, "cut off");
    members.cluster.heal();
    members.cluster.kill(first).unwrap();
    check(&members, "gone");
}

/// A watch leaves a member that has lost its leader, and misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_at_another_member() {
    let members = Members::start();
    let leader = members.cluster.leader().await.unwrap();
    let (first, other) = ((leader + 1) % 3, (leader + 2) % 3);
    members.done(&members.at(&[first]), "ctl put a 1");
    let endpoints = members.at(&[first, leader, other]);
    let mut watch = Watching::start(&members.kvctl, &endpoints, &["a", "--rev", "2"]);
    assert_eq!(watch.event(), ["PUT", "a", "1"]);
    members.cluster.cut_off(first);
    members.done(&members.at(&[leader]), "ctl put a 2");
    assert_eq!(watch.event(), ["PUT", "a", "2"]);
    members.done(&members.at(&[other]), "ctl del a");
    assert_eq!(watch.event(), ["DELETE", "a", ""]);
}

/// When nothing helps, every endpoint is told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_failed_endpoints_are_named() {
    let mut members = Members::start();
    let all = members.at(&[0, 1, 2]);
    let [a, b, c] = [0, 1, 2].map(|place| members.at(&[place]));
    members.cluster.kill(1).unwrap();
    members.cluster.kill(2).unwrap();
    let alone = async || (members.cluster.status(0).await?.leader == 0).then_some(());
    members.cluster.wait("the last member has no leader", alone).await.unwrap();
    let refused = members.kvctl(&all, "ctl put a 1 --command-timeout 300ms");
    assert_eq!(
        String::from_utf8(refused.stderr).unwrap(),
        format!(
            "kvctl: {a} did not answer within 300ms; no endpoint can do it: {a} (it knows no \
             leader), {b} (connection refused), {c} (connection refused); a quorum of members \
             must run\n"
        )
    );
    assert_eq!(members.done(&all, "ctl member list --consistency s").lines().count(), 3);
    members.cluster.kill(0).unwrap();
    for line in ["ctl get a", "ctl put a 1", "ctl member list", "ctl endpoint status --cluster"] {
        let refused = members.kvctl(&all, line);
        assert_eq!(refused.status.code(), Some(1), "{line}");
        assert_eq!(
            String::from_utf8(refused.stderr).unwrap(),
            format!(
                "kvctl: cannot reach any endpoint: {a} (connection refused), {b} (connection \
                 refused), {c} (connection refused); is kvd running there? start it or pass \
                 --endpoints\n"
            ),
            "{line}"
        );
    }
}
