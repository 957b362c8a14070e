//! Snapshot files against real etcd, both ways: it is restored from ours, and we read what it saved.
//!
//! Each test runs for Debian's etcd 3.4 and for the newer one that `tests/go` builds. A version that
//! is not installed is passed over, unless `KVD_REQUIRE_ETCD=1`, which CI sets.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use proto::{EncodedKeyValue, KeyValue};
use store::engine::{Engine, MemoryEngine, SledEngine, SledOptions};
use store::mvcc::{Step, Store, StoreOptions};
use store::snapshot::{Change, Checksum, Snapshot, Source, State, load, save};
use store::{Fatal, LogId, Revision};

/// The programs of one etcd release.
struct Release {
    etcd: PathBuf,
    etcdctl: PathBuf,
    /// Restores snapshots. In old releases etcdctl does.
    restorer: PathBuf,
}

fn releases() -> Vec<Release> {
    let mut releases = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| {
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists())
    };
    if let (Some(etcd), Some(etcdctl)) = (find("etcd"), find("etcdctl")) {
        releases.push(Release { etcd, restorer: etcdctl.clone(), etcdctl });
    }
    // Beside this test's own profile folder.
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("go");
    let [etcd, etcdctl, restorer] = ["etcd", "etcdctl", "etcdutl"].map(|name| built.join(name));
    if etcd.exists() && etcdctl.exists() && restorer.exists() {
        releases.push(Release { etcd, etcdctl, restorer });
    }
    if std::env::var_os("KVD_REQUIRE_ETCD").is_some_and(|required| required == "1") {
        assert!(!releases.is_empty(), "no etcd is installed, and KVD_REQUIRE_ETCD is set");
    }
    releases
}

/// A running etcd; killed when dropped.
struct Etcd<'a> {
    release: &'a Release,
    child: Child,
    endpoint: String,
    credentials: Vec<String>,
}

impl<'a> Etcd<'a> {
    fn start(release: &'a Release, data: &Path) -> Self {
        // Held until both are known, so that they differ.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] =
            ports.map(|port| format!("http://127.0.0.1:{}", port.local_addr().unwrap().port()));
        let mut child = Command::new(&release.etcd)
            .args(["--name", "default", "--data-dir"])
            .arg(data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("etcd ended: {log}")).unwrap();
            if line.contains("ready to serve client requests") {
                break;
            }
            log.push_str(&line);
            log.push('\n');
        }
        // Nobody listening would stop it.
        std::thread::spawn(move || lines.count());
        Self { release, child, endpoint: client, credentials: Vec::new() }
    }

    fn ctl(&self, args: &[&str]) -> String {
        self.ctl_with_input(args, b"")
    }

    fn ctl_with_input(&self, args: &[&str], input: &[u8]) -> String {
        let mut command = Command::new(&self.release.etcdctl);
        command.arg(format!("--endpoints={}", self.endpoint)).args(&self.credentials).args(args);
        output(command, input)
    }

    /// Hash, revision of the hash and compact revision.
    fn hash_kv(&self) -> (u32, i64, i64) {
        let json = self.ctl(&["endpoint", "hashkv", "-w", "json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let answer = &json[0]["HashKV"];
        (
            answer["hash"].as_u64().unwrap() as u32,
            answer["header"]["revision"].as_i64().unwrap(),
            answer["compact_revision"].as_i64().unwrap_or(0),
        )
    }
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(mut command: Command, input: &[u8]) -> String {
    let mut child = command
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn restore(release: &Release, file: &Path, data: &Path) {
    let mut command = Command::new(&release.restorer);
    command.args(["snapshot", "restore"]).arg(file).arg("--data-dir").arg(data);
    output(command, b"");
}

/// A history in memory.
#[derive(Default)]
struct History {
    state: State,
    changes: Vec<(Revision, bool, Vec<u8>)>,
}

impl History {
    fn read(path: &Path) -> Self {
        let snapshot = Snapshot::open(path, Checksum::Verify).unwrap();
        let mut changes = Vec::new();
        let mut cursor = snapshot.changes().unwrap();
        while let Some(change) = cursor.next().unwrap() {
            changes.push((change.revision, change.tombstone, change.value.to_vec()));
        }
        Self { state: snapshot.state().clone(), changes }
    }

    fn put(&mut self, main: i64, sub: i64, kv: (&str, i64, i64, &[u8])) {
        let (key, create_revision, version, value) = kv;
        let kv = KeyValue {
            key: key.to_owned().into(),
            create_revision,
            mod_revision: main,
            version,
            value: value.to_vec().into(),
            lease: 0,
        };
        let bytes = EncodedKeyValue::new(&kv).into_bytes().to_vec();
        self.changes.push((Revision::new(main, sub), false, bytes));
    }

    fn delete(&mut self, main: i64, sub: i64, key: &str) {
        let kv = KeyValue { key: key.to_owned().into(), ..KeyValue::default() };
        let bytes = EncodedKeyValue::new(&kv).into_bytes().to_vec();
        self.changes.push((Revision::new(main, sub), true, bytes));
    }

    fn save(&self, path: &Path) {
        save(self, path, &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    }

    /// etcd's hash over all revisions, by its rules: see the parts of `HashKV` in its source's
    /// documentation. `compacted` is -1 before the first compaction.
    fn hash_kv(&self, compacted: i64) -> u32 {
        let mut newest = std::collections::BTreeMap::new();
        for (revision, tombstone, value) in &self.changes {
            let kv = EncodedKeyValue::from_bytes(value.clone().into()).parse().unwrap();
            newest.insert(kv.key, (*revision, *tombstone));
        }
        let kept: std::collections::BTreeSet<Revision> =
            newest.values().filter(|(_, tombstone)| !tombstone).map(|(at, _)| *at).collect();
        let mut hash = crc32c::crc32c(b"key");
        for (revision, tombstone, value) in &self.changes {
            let old = revision.main <= compacted && !kept.is_empty() && !kept.contains(revision);
            if old || (revision.main == compacted && *tombstone) {
                continue;
            }
            let mut key = Vec::new();
            key.extend_from_slice(&revision.main.to_be_bytes());
            key.push(b'_');
            key.extend_from_slice(&revision.sub.to_be_bytes());
            if *tombstone {
                key.push(b't');
            }
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, value);
        }
        hash
    }
}

impl Source for History {
    fn state(&self) -> State {
        self.state.clone()
    }

    fn changes(&self, visit: &mut dyn FnMut(Change<'_>) -> ControlFlow<()>) -> Result<(), Fatal> {
        for (revision, tombstone, value) in &self.changes {
            let (revision, tombstone) = (*revision, *tombstone);
            if visit(Change { revision, tombstone, value }).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Several generations, transactions of several changes, tombstones, a value of 1.4 MB and enough
/// keys for a tree of three levels.
fn history() -> History {
    let mut history = History::default();
    history.state.applied = LogId { term: 2, index: 4711 };
    history.put(2, 0, ("a", 2, 1, b"one"));
    history.put(3, 0, ("a", 2, 2, b"two"));
    history.put(3, 1, ("b", 3, 1, b""));
    history.delete(4, 0, "a");
    history.put(5, 0, ("a", 5, 1, b"again"));
    history.put(6, 0, ("big", 6, 1, &vec![b'x'; 1_400_000]));
    let many = 30_000;
    for n in 0..many {
        history.put(7 + n, 0, (&format!("many/{n:06}"), 7 + n, 1, &[b'v'; 250]));
    }
    history.delete(7 + many, 0, "b");
    history.delete(7 + many, 1, "many/000000");
    history
}

#[test]
fn etcd_is_restored_from_our_file() {
    for release in releases() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("snapshot.db");
        let history = history();
        history.save(&file);
        let last = history.changes.last().unwrap().0.main;

        let mut command = Command::new(&release.restorer);
        command.args(["snapshot", "status", "-w", "json"]).arg(&file);
        let status: serde_json::Value = serde_json::from_str(&output(command, b"")).unwrap();
        assert_eq!(status["revision"], last);
        assert_eq!(status["totalSize"], std::fs::metadata(&file).unwrap().len() - 32);

        let data = dir.path().join("data");
        restore(&release, &file, &data);
        let etcd = Etcd::start(&release, &data);
        assert_eq!(etcd.hash_kv(), (history.hash_kv(-1), last, -1));
        assert_eq!(etcd.ctl(&["get", "a", "--print-value-only"]), "again\n");
        assert_eq!(etcd.ctl(&["get", "a", "--rev=3", "--print-value-only"]), "two\n");
        assert_eq!(etcd.ctl(&["get", "a", "--rev=4"]), "");
        assert_eq!(etcd.ctl(&["get", "b"]), "");
        assert_eq!(etcd.ctl(&["get", "big", "--print-value-only"]).len(), 1_400_001);
        let keys = etcd.ctl(&["get", "many/", "--prefix", "--keys-only", "--limit=3"]);
        assert_eq!(keys, "many/000001\n\nmany/000002\n\nmany/000003\n\n");
        // It can go on from there.
        etcd.ctl(&["put", "a", "more"]);
        assert_eq!(etcd.hash_kv().1, last + 1);
    }
}

/// Writes one of everything that ends up in a snapshot.
fn exercise(etcd: &mut Etcd<'_>) {
    for n in 0..40 {
        etcd.ctl(&["put", &format!("key/{:02}", n % 15), &"v".repeat(n * 17)]);
    }
    let transaction = b"\nput t1 x\nput t2 y\ndel key/03\n\n\n";
    etcd.ctl_with_input(&["txn"], transaction);
    etcd.ctl_with_input(&["put", "big"], &vec![b'b'; 1_000_000]);
    etcd.ctl(&["del", "key/0", "--prefix"]);
    etcd.ctl(&["put", "key/01", "back"]);
    let lease = etcd.ctl(&["lease", "grant", "3600"]);
    let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
    etcd.ctl(&["put", "leased", "x", &format!("--lease={lease}")]);
    etcd.ctl(&["compact", "30"]);
    etcd.ctl(&["del", "key/11"]);
    etcd.ctl(&["compact", "47"]);
    etcd.ctl(&["put", "after", "compaction"]);
    etcd.ctl(&["role", "add", "reader"]);
    etcd.ctl(&["role", "grant-permission", "reader", "read", "key/", "key0"]);
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["user", "add", "alice:wonder"]);
    etcd.ctl(&["user", "grant-role", "alice", "reader"]);
    etcd.ctl(&["auth", "enable"]);
    etcd.credentials = vec!["--user=root:secret".into()];
}

fn hash_kv(store: &Arc<Store>) -> (u32, i64, i64) {
    let mut read = store.hash_kv(0).unwrap();
    loop {
        if let Step::Done(hash) = read.step().unwrap() {
            return (hash.hash, store.revision(), hash.compact_revision);
        }
    }
}

#[test]
fn we_read_what_etcd_saved_and_give_it_back() {
    for release in releases() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut etcd = Etcd::start(&release, &path("first"));
        exercise(&mut etcd);
        // The rows of a compaction go in the background.
        let finished = loop {
            let copy = path("copy.db");
            let _ = std::fs::remove_file(&copy);
            etcd.ctl(&["snapshot", "save", copy.to_str().unwrap()]);
            let history = History::read(&copy);
            if history.state.compaction_finished == history.state.compaction_scheduled {
                break history;
            }
        };
        let compacted = finished.state.compaction_finished.unwrap();
        assert_eq!(compacted, 47);
        let hash = etcd.hash_kv();
        assert_eq!(hash.2, compacted);
        assert_eq!(finished.hash_kv(compacted), hash.0);
        let state = &finished.state;
        assert!(state.applied.index > 50);
        assert_eq!(state.tables["members"].len(), 1);
        assert_eq!(state.tables["authUsers"].len(), 2);
        assert!(state.tables["authRoles"].contains_key(&b"reader"[..]));
        assert_eq!(state.leases.len(), 1);
        assert_eq!(state.tables["auth"][&b"authEnabled"[..]], &[1][..]);
        assert_eq!(state.membership, None);

        // The store that the file is loaded into answers the same, and a file of ours made from it
        // leads another etcd to the same state.
        let ours = path("ours.db");
        let sled = SledEngine::open(&path("engine"), SledOptions::default()).unwrap();
        let engines: [Arc<dyn Engine>; 2] = [Arc::new(MemoryEngine::new()), Arc::new(sled)];
        for engine in engines {
            load(&Snapshot::open(&path("copy.db"), Checksum::Verify).unwrap(), &engine).unwrap();
            let store = Store::open(engine, StoreOptions::default()).unwrap();
            assert_eq!(hash_kv(&store), hash);
            assert_eq!(store.members()[0].name, "default");
            save(&store.snapshot_source(), &ours, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(History::read(&ours).changes, finished.changes);
        }
        restore(&release, &ours, &path("second"));
        let mut second = Etcd::start(&release, &path("second"));
        second.credentials = vec!["--user=root:secret".into()];
        assert_eq!(second.hash_kv(), hash);
        assert_eq!(second.ctl(&["lease", "list"]), etcd.ctl(&["lease", "list"]));
        assert_eq!(second.ctl(&["user", "get", "alice"]), etcd.ctl(&["user", "get", "alice"]));
        second.credentials = vec!["--user=alice:wonder".into()];
        assert_eq!(second.ctl(&["get", "key/01", "--print-value-only"]), "back\n");
    }
}
