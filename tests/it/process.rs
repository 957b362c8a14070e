//! The process as its operator meets it: it stops when told, comes back with its data, and says
//! plainly why it does not start.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::{Client, Node, NodeOptions, Target};
use proto::etcdserverpb::{PutRequest, RangeRequest};
use rustix::process::{Resource, getrlimit};

/// How long a clean stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(2);

fn start(options: NodeOptions) -> Node {
    Node::start(options).unwrap_or_else(|error| panic!("{error:#}"))
}

fn kvd() -> NodeOptions {
    NodeOptions::new(Target::Kvd)
}

async fn put(node: &Node, key: &str, value: impl Into<Vec<u8>>) {
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    let request = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    client.kv.put(request).await.unwrap();
}

async fn value(node: &Node, key: &str) -> Option<Vec<u8>> {
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    let request = RangeRequest { key: key.into(), ..Default::default() };
    let answer = client.kv.range(request).await.unwrap().into_inner();
    answer.kvs.first().map(|kv| kv.parse().unwrap().value.to_vec())
}

/// Starts what must not start, and returns its last words.
fn refused(options: NodeOptions) -> String {
    let mut node = Node::prepare(options).unwrap();
    node.spawn().unwrap();
    let status = node.wait_exit(Duration::from_secs(10)).unwrap();
    assert_ne!(status.code(), Some(0), "{}", node.log());
    assert!(status.code().is_some(), "ended by a signal: {status}\n{}", node.log());
    node.log()
}

#[tokio::test]
async fn a_stop_is_quick_and_loses_nothing() {
    let mut node = start(kvd());
    put(&node, "a", "1").await;
    let before = Instant::now();
    let status = node.stop().unwrap();
    let took = before.elapsed();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert!(took < STOP_WITHIN, "the stop took {took:?}");
    node.start_again().unwrap();
    assert_eq!(value(&node, "a").await, Some(b"1".to_vec()));
}

/// `sync` waits for what others wrote, to other disks too. With it, a member stood still for minutes.
#[tokio::test]
async fn no_checkpoint_waits_for_other_disks() {
    let programs = tempfile::tempdir().unwrap();
    let (program, ran) = (programs.path().join("sync"), programs.path().join("ran"));
    fs::write(&program, format!("#!/bin/sh\n: > {}\n", ran.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = programs.path().to_str().unwrap();
    // All that is written fits into four of these, beyond which a member asks for patience.
    let mut node = start(kvd().env("PATH", path).arg("--recent-bytes-max=4MiB"));
    for number in 0..8 {
        put(&node, &format!("k{number}"), vec![b'.'; 1 << 20]).await;
    }
    assert_eq!(node.stop().unwrap().code(), Some(0), "{}", node.log());
    assert!(node.data_dir().join("db/slabs").is_dir(), "no checkpoint was made");
    assert!(!ran.exists(), "sync was run");
    assert!(!node.log().contains("sync"), "{}", node.log());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_open_watches() {
    let mut node = start(kvd());
    let client = Client::connect(&node.endpoint()).await.unwrap();
    let mut stream = harness::script::WatchStream::open(&client);
    stream
        .send(Some(proto::etcdserverpb::watch_request::RequestUnion::CreateRequest(
            proto::etcdserverpb::WatchCreateRequest { key: b"a".to_vec(), ..Default::default() },
        )))
        .unwrap();
    assert!(stream.receive().await.unwrap().created);
    let before = Instant::now();
    let status = node.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert!(before.elapsed() < STOP_WITHIN, "the stop took {:?}", before.elapsed());
}

#[tokio::test]
async fn a_killed_member_has_everything_it_answered() {
    let mut node = start(kvd());
    for round in 0..3 {
        let text = round.to_string();
        put(&node, "a", text.as_str()).await;
        node.kill().unwrap();
        node.start_again().unwrap();
        assert_eq!(value(&node, "a").await, Some(text.into_bytes()));
    }
}

#[tokio::test]
async fn a_paused_member_goes_on_where_it_was() {
    let node = start(kvd());
    put(&node, "a", "1").await;
    node.pause().unwrap();
    let endpoint = node.endpoint();
    let waiting = tokio::spawn(async move { Client::is_ready(&endpoint).await });
    node.resume().unwrap();
    waiting.await.unwrap();
    put(&node, "a", "2").await;
    assert_eq!(value(&node, "a").await, Some(b"2".to_vec()));
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused() {
    let node = start(kvd());
    put(&node, "a", "1").await;
    let said = refused(kvd().dir(node.dir()));
    let pid = node.pid().unwrap().to_string();
    assert!(said.contains(&pid), "it names the process that has the data:\n{said}");
    put(&node, "a", "2").await;
    assert_eq!(value(&node, "a").await, Some(b"2".to_vec()));
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let node = start(kvd());
    let mut options = kvd();
    options.client_port = node.options().client_port;
    let port = options.client_port.to_string();
    let said = refused(options);
    assert!(said.contains(&port), "it names the port:\n{said}");
    assert_eq!(value(&node, "a").await, None);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    // Root may write anywhere, so the way is blocked by a file instead.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("n1.data"), "not a directory").unwrap();
    let said = refused(kvd().dir(dir.path()));
    assert!(said.contains("n1.data"), "it names the path:\n{said}");
    let kept = fs::read_to_string(dir.path().join("n1.data")).unwrap();
    assert_eq!(kept, "not a directory");
}

#[test]
fn data_of_etcd_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let member = dir.path().join("n1.data/member/snap");
    fs::create_dir_all(&member).unwrap();
    fs::write(member.join("db"), "etcd's").unwrap();
    let said = refused(kvd().dir(dir.path()));
    assert!(said.contains("etcd"), "it says what it found:\n{said}");
    assert_eq!(fs::read_to_string(member.join("db")).unwrap(), "etcd's");
}

#[test]
fn unknown_flags_are_named() {
    let said = refused(kvd().arg("--listen-client-url=http://127.0.0.1:1"));
    assert!(said.contains("--listen-client-url"), "it names the flag:\n{said}");
    assert!(said.contains("--listen-client-urls"), "it suggests the nearest:\n{said}");
}

#[test]
fn data_is_private() {
    let node = start(kvd());
    let mode = fs::metadata(node.data_dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "only its owner may look into the data");
}

/// Whether this process, and so what it starts, may lock as much memory as it likes.
fn may_lock_memory() -> bool {
    const IPC_LOCK: u64 = 1 << 14;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(capabilities.trim(), 16).unwrap() & IPC_LOCK != 0
        || getrlimit(Resource::Memlock).current.is_none()
}

/// How much of a process is in memory and how much of that stays there, in KiB. What is shared with
/// others counts by its share in both.
fn present_and_locked(node: &Node) -> (u64, u64) {
    let path = format!("/proc/{}/smaps_rollup", node.pid().unwrap());
    let rollup = fs::read_to_string(path).unwrap();
    let field = |name: &str| {
        let value = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim_end_matches("kB").trim().parse::<u64>().unwrap()
    };
    (field("Pss:"), field("Locked:"))
}

#[tokio::test]
async fn memory_is_locked_if_asked_for() {
    let mut forbidden = kvd().arg("--memory-mlock");
    let mut wrapper = vec!["prlimit", "--memlock=65536:65536"];
    if may_lock_memory() {
        wrapper.extend(["setpriv", "--bounding-set=-ipc_lock"]);
    }
    forbidden.wrapper = wrapper.into_iter().map(str::to_owned).collect();
    let said = refused(forbidden);
    assert!(
        said.contains("cannot lock the memory; leave --memory-mlock out, or allow it"),
        "{said}"
    );
    if !may_lock_memory() {
        return;
    }

    let node = start(kvd());
    assert_eq!(present_and_locked(&node).1, 0, "nobody asked");
    let node = start(kvd().arg("--memory-mlock"));
    let (present, locked) = present_and_locked(&node);
    // Of two numbers from one look; the kernel's own page for reading the clock is never locked.
    assert!(locked + 64 >= present, "{locked} of {present} KiB");
    for place in 0..8 {
        put(&node, &format!("key{place}"), vec![7; 1 << 20]).await;
    }
    let (present, more) = present_and_locked(&node);
    assert!(more + 64 >= present, "{more} of {present} KiB");
    assert!(more >= locked + 4096, "what came later is locked as well: {locked}, then {more} KiB");
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Changes one bit of these bytes wherever they are; how often that was.
fn damage(folder: &Path, bytes: &[u8]) -> usize {
    let mut damaged = 0;
    for file in files(folder) {
        let mut content = fs::read(&file).unwrap();
        let places = content.windows(bytes.len()).enumerate();
        let found: Vec<usize> =
            places.filter(|(_, part)| *part == bytes).map(|(at, _)| at).collect();
        for at in &found {
            content[*at] ^= 1;
        }
        if !found.is_empty() {
            fs::write(&file, content).unwrap();
            damaged += found.len();
        }
    }
    damaged
}

/// What only shows when a value is read: the process ends, whichever way the engine finds it, and
/// the next one has built the engine anew.
#[tokio::test]
async fn a_damaged_value_ends_the_process_and_is_mended_by_the_next() {
    let mut node = start(kvd());
    // Without a pattern, so that the bytes are found again.
    let value_of = |_| (0..8000).map(|_| rand::random()).collect::<Vec<u8>>();
    let values: Vec<Vec<u8>> = (0..100).map(value_of).collect();
    for (place, value) in values.iter().enumerate() {
        put(&node, &format!("key{place:03}"), value.clone()).await;
    }
    node.stop().unwrap();
    let damaged = damage(&node.data_dir().join("db"), &values[50][4200..4210]);
    assert!(damaged > 0, "there is nothing to damage");
    // It may be found while starting, or when it is read.
    node.spawn().unwrap();
    let request = RangeRequest { key: "key050".into(), ..Default::default() };
    while node.is_running() && !node.log().contains("rebuilding the engine") {
        if let Ok(mut client) = Client::connect(&node.endpoint()).await {
            let answer = client.kv.range(request.clone()).await;
            assert!(
                answer.is_err() || node.log().contains("rebuilding the engine"),
                "damage was served"
            );
        }
    }
    if !node.is_running() {
        node.start_again().unwrap();
    }
    node.wait_ready().unwrap();
    assert!(node.log().contains("rebuilding the engine"), "{}", node.log());
    assert_eq!(value(&node, "key050").await, Some(values[50].clone()));
}
