//! Files hold what was saved, appear whole or not at all, and are kept in order.
//! What real etcd makes of them is asked in `tests/etcd.rs`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::KeyValue;
use proto::internal::{MemberNode, Membership, VoterSet};

use super::*;
use crate::engine::{Engine, MemoryEngine};
use crate::mvcc::{Lease, Store, StoreOptions, Tables};
use crate::{Fatal, LogId, Revision};

struct Fixed {
    state: State,
    changes: Vec<(Revision, bool, Vec<u8>)>,
}

impl Source for Fixed {
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

fn sample(changes: i64) -> Fixed {
    let node = |id| MemberNode {
        id,
        peer_urls: vec![format!("http://m{id}:2380")],
        name: format!("m{id}"),
        to_vote: false,
    };
    let membership = Membership {
        configs: vec![VoterSet { ids: vec![1, 2] }],
        nodes: [1, 2, 3].map(node).into(),
    };
    let table = |rows: &[(&'static str, &'static str)]| -> BTreeMap<Bytes, Bytes> {
        rows.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    let mut tables = Tables::new();
    for name in ["cluster", "authUsers", "members_removed", "unheard of"] {
        tables.insert(name.into(), table(&[("a", ""), ("b", "value")]));
    }
    let change =
        |n: i64| (Revision::new(n / 3, n % 3), n % 5 == 0, vec![n as u8; n as usize % 400]);
    Fixed {
        state: State {
            applied: LogId { term: 3, index: 77 },
            membership: Some((LogId { term: 2, index: 5 }, membership)),
            compaction_scheduled: Some(9),
            compaction_finished: Some(7),
            leases: [(1, 60, 0), (i64::MAX, 9_000_000_000, 7), (-5, 1, 0)]
                .map(|(id, ttl, remaining)| Lease { id, ttl, remaining })
                .into(),
            tables,
        },
        changes: (6..changes).map(change).collect(),
    }
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn what_is_saved_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for changes in [0, 7, 30_000] {
        let source = sample(changes);
        let path = dir.path().join(file_name(source.state.applied));
        let saved = save(&source, &path, &mut go_on).unwrap().unwrap();
        assert_eq!(saved.bytes, std::fs::metadata(&path).unwrap().len());
        assert_eq!(saved.bytes % 512, 32);
        assert_eq!(saved.changes as usize, source.changes.len());

        let snapshot = Snapshot::open(&path, Checksum::Verify).unwrap();
        assert_eq!(*snapshot.state(), source.state);
        let mut changes = snapshot.changes().unwrap();
        for (revision, tombstone, value) in &source.changes {
            let (revision, tombstone) = (*revision, *tombstone);
            assert_eq!(changes.next().unwrap(), Some(Change { revision, tombstone, value }));
        }
        assert_eq!(changes.next().unwrap(), None);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no unfinished file is left");
}

#[test]
fn figures_count_what_is_live() {
    let change = |main: i64, key: &'static str, tombstone: bool| {
        let kv = KeyValue { key: key.into(), mod_revision: main, ..KeyValue::default() };
        (Revision::new(main, 0), tombstone, kv.encode_to_vec())
    };
    let mut source = sample(0);
    source.changes = vec![
        change(2, "a", false),
        change(3, "b", false),
        change(4, "a", true),
        change(5, "c", false),
        change(6, "c", false),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let saved = save(&source, &path, &mut go_on).unwrap().unwrap();
    let status = Status::of(&path).unwrap();
    assert_eq!((status.revision, status.live_keys), (6, 2));
    assert_eq!(status.storage_version, "3.6.0");
    assert_eq!(status.image_bytes, saved.bytes - 32);

    // The same without its checksum, then with another value.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 32]).unwrap();
    assert_eq!(Status::of(&path).unwrap(), status);
    source.changes[4] = change(6, "b", false);
    save(&source, &path, &mut go_on).unwrap();
    let other = Status::of(&path).unwrap();
    assert_eq!((other.revision, other.live_keys), (6, 2));
    assert_ne!(other.hash, status.hash);

    // A change that is no key value is damage.
    save(&sample(100), &path, &mut go_on).unwrap();
    assert!(matches!(Status::of(&path), Err(Fatal::Damaged { .. })));
}

/// In whatever bucket most of the data is.
#[test]
fn giving_up_leaves_no_file() {
    let mut named = sample(0);
    let row = |n: u32| (Bytes::from(format!("{n:05000}")), Bytes::new());
    named.state.tables.insert("authUsers".into(), (0..1000).map(row).collect());
    for source in [sample(10_000), named] {
        gives_up(&source);
    }
}

fn gives_up(source: &Fixed) {
    let dir = tempfile::tempdir().unwrap();
    let mut reports = 0;
    let mut progress = |bytes| {
        assert!(bytes > 0);
        reports += 1;
        if reports == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let saved = save(source, &dir.path().join("x.db"), &mut progress).unwrap();
    assert!(saved.is_none());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_error_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    save(&sample(100), &path, &mut go_on).unwrap();
    let before = std::fs::read(&path).unwrap();
    struct Failing;
    impl Source for Failing {
        fn state(&self) -> State {
            State::default()
        }
        fn changes(
            &self,
            visit: &mut dyn FnMut(Change<'_>) -> ControlFlow<()>,
        ) -> Result<(), Fatal> {
            sample(3000).changes(visit)?;
            Err(Fatal::Engine("gone".into()))
        }
    }
    assert!(save(&Failing, &path, &mut go_on).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_newest_two_files_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(prune(dir.path()).unwrap(), None);
    let id = |index| LogId { term: 1, index };
    for (index, purge) in [(5, None), (300, Some(5)), (20, Some(20)), (0x1000, Some(300))] {
        std::fs::write(dir.path().join(file_name(id(index))), "").unwrap();
        assert_eq!(prune(dir.path()).unwrap(), purge.map(id));
    }
    for other in ["notes.txt", "x-y.db", "0000000000000005-0000000000000001.db.tmp"] {
        std::fs::write(dir.path().join(other), "").unwrap();
    }
    remove_unfinished(dir.path()).unwrap();
    let left: Vec<LogId> = list(dir.path()).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [id(0x1000), id(300)]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
}

#[test]
fn membership_becomes_a_conf_state() {
    let (_, mut membership) = sample(0).state.membership.unwrap();
    let json =
        |membership: &Membership| String::from_utf8(buckets::conf_state(membership)).unwrap();
    assert_eq!(json(&membership), r#"{"voters":[1,2],"learners":[3],"auto_leave":false}"#);
    membership.configs.push(VoterSet { ids: vec![2, 3] });
    let joint = r#"{"voters":[2,3],"voters_outgoing":[1,2],"auto_leave":false}"#;
    assert_eq!(json(&membership), joint);
}

/// No process writes such, and none may end because of it.
#[test]
fn revisions_that_no_store_could_hold_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let change = |main, sub| {
        let kv = KeyValue {
            key: "k".into(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            ..KeyValue::default()
        };
        (Revision::new(main, sub), false, kv.encode_to_vec())
    };
    let loads = |change, compaction| {
        let state = State { compaction_scheduled: compaction, ..State::default() };
        save(&Fixed { state, changes: vec![change] }, &path, &mut go_on).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let loaded = load(&Snapshot::open(&path, Checksum::Verify).unwrap(), &engine);
        loaded.is_ok() && Store::open(engine, StoreOptions::default()).is_ok()
    };
    assert!(loads(change(2, (1 << 30) - 1), None));
    for sub in [1 << 30, 1 << 32, i64::MAX] {
        assert!(!loads(change(2, sub), None), "{sub}");
    }
    assert!(!loads(change(i64::MAX, 0), None));
    assert!(!loads(change(2, 0), Some(i64::MAX)));
}
