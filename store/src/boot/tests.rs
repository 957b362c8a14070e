//! Whatever happens to the engine's files, the state after replaying the log is the one before.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use proto::internal::{Command, MemberAttributes, MemberNode, Membership, VoterSet, command::Op};
use tempfile::TempDir;

use super::*;
use crate::mvcc::{Input, Meta, StoredRow};
use crate::snapshot::Checksum;

/// A member's directory and its log, which is only kept in memory here.
struct Member {
    dir: TempDir,
    log: Vec<Command>,
    /// Entries up to this one are gone from the log.
    purged: Option<LogId>,
    files: Vec<PathBuf>,
}

#[derive(PartialEq)]
struct Dump {
    meta: Meta,
    rows: Vec<StoredRow>,
}

/// Not the rows: a failed comparison would print megabytes.
impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} and {} rows", self.meta, self.rows.len())
    }
}

fn id(index: usize) -> LogId {
    LogId { term: 3, index: index as u64 }
}

fn dump(store: &Arc<Store>) -> Dump {
    try_dump(store).unwrap()
}

fn try_dump(store: &Arc<Store>) -> Result<Dump, Fatal> {
    let source = store.snapshot_source();
    let rows = source.rows().collect::<Result<_, _>>()?;
    Ok(Dump { meta: source.meta.clone(), rows })
}

impl Member {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("snap")).unwrap();
        std::fs::create_dir(dir.path().join("db")).unwrap();
        Self { dir, log: Vec::new(), purged: None, files: Vec::new() }
    }

    /// One with a history: two snapshots, a purged log, a checkpoint, and commands behind that.
    fn with_history() -> (Self, Dump) {
        let mut member = Self::new();
        let (store, report) = member.open().unwrap();
        assert_eq!(report, Report::Created);
        for round in 0..4 {
            for n in 0..60 {
                member.put(&store, &format!("key/{:02}", n % 25), round * 60 + n);
            }
            let range = (b"key/1".to_vec(), b"key/12".to_vec());
            let (key, range_end) = range;
            let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
            member.apply(&store, Op::DeleteRange(delete));
            let revision = store.revision() - 30;
            member.apply(&store, Op::Compaction(CompactionRequest { revision, physical: false }));
            while store.compact_step().unwrap() {}
            match round {
                0 | 1 => member.snapshot(&store),
                2 => store.checkpoint().unwrap(),
                _ => {}
            }
        }
        member.purged = snapshot::prune(&member.places().snap).unwrap();
        assert!(member.purged.is_some());
        let dump = dump(&store);
        (member, dump)
    }

    fn places(&self) -> Places {
        Places { db: self.dir.path().join("db"), snap: self.dir.path().join("snap") }
    }

    /// What is in its directory.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn options() -> Options {
        let (store, engine) = (StoreOptions::default(), SledOptions::default());
        Options { store, engine, stall: Duration::from_secs(60) }
    }

    /// Opens the state and applies the rest of the log.
    fn open(&self) -> Result<(Arc<Store>, Report), Fatal> {
        let (store, report) = open(&self.places(), self.purged, &Self::options())?;
        for index in store.applied().index as usize..self.log.len() {
            assert!(self.purged.is_none_or(|purged| purged.index <= index as u64), "entry is gone");
            store.apply(id(index + 1), Input::Command(&self.log[index])).unwrap();
        }
        Ok((store, report))
    }

    fn apply(&mut self, store: &Store, op: Op) {
        self.log.push(Command::from(op));
        store.apply(id(self.log.len()), Input::Command(self.log.last().unwrap())).unwrap();
    }

    fn put(&mut self, store: &Store, key: &str, n: usize) {
        let value = vec![n as u8; n * 97 % 9000];
        let key = key.to_owned().into();
        self.apply(store, Op::Put(PutRequest { key, value, ..PutRequest::default() }));
    }

    fn snapshot(&mut self, store: &Arc<Store>) {
        let source = store.snapshot_source();
        let path = self.places().snap.join(snapshot::file_name(source.meta.applied));
        snapshot::save(&source, &path, &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
        self.files.push(path);
    }

    /// Works on a copy, so that one history serves many damages.
    fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), dir.path());
        let moved = |path: &PathBuf| dir.path().join(path.strip_prefix(self.dir.path()).unwrap());
        let files = self.files.iter().map(moved).collect();
        Self { files, dir, log: self.log.clone(), purged: self.purged }
    }

    fn engine_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.places().db, &mut files);
        files.retain(|file| std::fs::metadata(file).unwrap().len() > 0);
        files.sort();
        files
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), files),
            false => files.push(entry.path()),
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn an_intact_engine_is_used() {
    let (member, before) = Member::with_history();
    for _ in 0..2 {
        let (store, report) = member.open().unwrap();
        assert_eq!(report, Report::Opened);
        assert_eq!(dump(&store), before);
    }
    assert!(!member.dir.path().join("db.opening").exists());
}

#[test]
fn a_missing_engine_is_rebuilt() {
    let (member, before) = Member::with_history();
    std::fs::remove_dir_all(member.places().db).unwrap();
    let (store, report) = member.open().unwrap();
    assert_eq!(dump(&store), before);
    let Report::Rebuilt { from, .. } = report else { panic!("{report:?}") };
    assert_eq!(from.as_ref(), member.files.last());
    // It is complete: the next start needs nothing but it.
    drop(store);
    assert_eq!(member.open().unwrap().1, Report::Opened);
}

#[test]
fn damage_to_any_file_costs_no_data() {
    let (original, before) = Member::with_history();
    let check = |what: &str, harm: &dyn Fn(&Path), file: &Path| {
        let member = original.copy();
        harm(&member.dir.path().join(file.strip_prefix(original.dir.path()).unwrap()));
        let (store, report) = member.open().unwrap();
        let (after, report) = match try_dump(&store) {
            Ok(dump) => (dump, report),
            Err(fatal) => {
                // A value is only read when it is wanted. The process ends, and starts again.
                assert!(matches!(fatal, Fatal::Engine(_)), "{fatal}");
                drop(store);
                let (store, report) = member.open().unwrap();
                assert!(matches!(report, Report::Rebuilt { .. }), "{report:?}");
                (dump(&store), report)
            }
        };
        assert_eq!(after, before, "{what} {file:?}");
        report != Report::Opened
    };
    let mut rebuilt = 0;
    for file in original.engine_files() {
        let length = std::fs::metadata(&file).unwrap().len() as usize;
        let delete = |path: &Path| std::fs::remove_file(path).unwrap();
        let cut = |path: &Path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(length as u64 / 2).unwrap();
        };
        rebuilt += usize::from(check("deleted", &delete, &file));
        rebuilt += usize::from(check("cut", &cut, &file));
        for part in 1..3 {
            let at = (length - 1) * part / 3;
            rebuilt += usize::from(check("flipped", &|path| flip(path, at), &file));
        }
    }
    assert!(rebuilt > 5, "only {rebuilt} damages were noticed");
}

#[test]
fn a_damaged_snapshot_leads_to_the_older_one() {
    let (member, before) = Member::with_history();
    std::fs::remove_dir_all(member.places().db).unwrap();
    flip(&member.files[1], 9000);
    let (store, report) = member.open().unwrap();
    assert_eq!(dump(&store), before);
    let Report::Rebuilt { from, .. } = report else { panic!("{report:?}") };
    assert_eq!(from.as_ref(), Some(&member.files[0]));
    // The damaged one no longer counts among the two that are kept.
    assert_eq!(snapshot::list(&member.places().snap).unwrap().len(), 1);
}

#[test]
fn without_a_snapshot_the_whole_log_is_needed() {
    let (mut member, before) = Member::with_history();
    for file in &member.files {
        flip(file, 9000);
    }
    // The engine is intact, and enough.
    assert_eq!(dump(&member.copy().open().unwrap().0), before);
    std::fs::remove_dir_all(member.places().db).unwrap();
    let error = member.open().err().unwrap();
    assert!(matches!(error, Fatal::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("Remove this member"), "{error}");
    member.purged = None;
    let (store, _) = member.open().unwrap();
    assert_eq!(dump(&store), before);
}

#[test]
fn an_engine_that_does_not_reach_the_log_is_rebuilt() {
    let (mut member, before) = Member::with_history();
    let old = member.dir.path().join("old");
    std::fs::rename(member.places().db, &old).unwrap();
    // Built from the log alone, the engine is empty until a checkpoint.
    member.purged = None;
    let files: Vec<PathBuf> = std::mem::take(&mut member.files);
    for file in &files {
        std::fs::rename(file, file.with_extension("away")).unwrap();
    }
    drop(member.open().unwrap());
    for file in &files {
        std::fs::rename(file.with_extension("away"), file).unwrap();
    }
    member.purged = Some(snapshot::list(&member.places().snap).unwrap()[1].0);
    let (store, report) = member.open().unwrap();
    assert_eq!(dump(&store), before);
    let Report::Rebuilt { reason, .. } = report else { panic!("{report:?}") };
    assert!(reason.contains("before the log"), "{reason}");
}

#[test]
fn an_engine_that_kills_the_process_is_rebuilt() {
    let (member, before) = Member::with_history();
    let mark = member.dir.path().join("db.opening");
    // One death may have been a power failure.
    std::fs::write(&mark, "1\n").unwrap();
    assert_eq!(member.open().unwrap().1, Report::Opened);
    assert!(!mark.exists());
    std::fs::write(&mark, "2\n").unwrap();
    let (store, report) = member.open().unwrap();
    assert!(matches!(report, Report::Rebuilt { .. }), "{report:?}");
    assert_eq!(dump(&store), before);
    assert!(!mark.exists());
}

#[test]
fn a_condemned_engine_is_rebuilt_and_one_is_kept() {
    let (member, before) = Member::with_history();
    for _ in 0..2 {
        condemn(&member.places()).unwrap();
        let (store, report) = member.open().unwrap();
        assert!(matches!(report, Report::Rebuilt { .. }), "{report:?}");
        assert_eq!(dump(&store), before);
    }
    assert_eq!(member.names(), ["db", "db.damaged-1", "snap"]);
}

#[test]
fn an_installed_snapshot_replaces_the_state() {
    let (leader, _) = Member::with_history();
    let mut follower = Member::new();
    let (store, _) = follower.open().unwrap();
    follower.put(&store, "stale", 1);
    store.checkpoint().unwrap();
    let target = follower.places().snap.join(leader.files[1].file_name().unwrap());
    std::fs::copy(&leader.files[1], &target).unwrap();
    let snapshot = Snapshot::open(&target, Checksum::Verify).unwrap();
    let installed = install(&follower.places(), &snapshot, &Member::options()).unwrap();
    assert_eq!(installed.applied(), snapshot.state().applied);
    // Readers of the old state still hold it, but it has no name any more.
    assert_eq!(store.revision(), 2);
    assert_eq!(follower.names(), ["db", "snap"]);
    drop(installed);
    follower.purged = Some(snapshot.state().applied);
    follower.log = leader.log.clone();
    let (reopened, report) = follower.open().unwrap();
    assert_eq!(report, Report::Opened);
    assert_eq!(dump(&reopened), dump(&leader.open().unwrap().0));
}

#[test]
fn an_installed_snapshot_leaves_a_damaged_engine_alone() {
    let (mut member, before) = Member::with_history();
    condemn(&member.places()).unwrap();
    drop(member.open().unwrap());
    assert_eq!(member.names(), ["db", "db.damaged-1", "snap"]);
    let damaged = member.dir.path().join("db.damaged-1");
    std::fs::write(damaged.join("mark"), "").unwrap();
    let snapshot = Snapshot::open(&member.files[1], Checksum::Verify).unwrap();
    member.purged = Some(snapshot.state().applied);
    install(&member.places(), &snapshot, &Member::options()).unwrap();
    assert_eq!(member.names(), ["db", "db.damaged-1", "snap"]);
    assert!(damaged.join("mark").exists());
    assert_eq!(dump(&member.open().unwrap().0), before);
}

#[test]
fn what_an_interrupted_installation_left_is_removed() {
    let (member, before) = Member::with_history();
    for leftover in ["db.replaced", "db.building"] {
        let leftover = member.dir.path().join(leftover);
        std::fs::create_dir(&leftover).unwrap();
        std::fs::write(leftover.join("heap"), "rows").unwrap();
    }
    let (store, report) = member.open().unwrap();
    assert_eq!((dump(&store), report), (before, Report::Opened));
    assert_eq!(member.names(), ["db", "snap"]);
}

#[test]
fn members_and_membership_travel_in_snapshots() {
    let mut member = Member::new();
    let (store, _) = member.open().unwrap();
    let node = |id| MemberNode {
        id,
        peer_urls: vec![format!("http://m{id}:2380")],
        name: format!("m{id}"),
        to_vote: false,
    };
    let membership =
        Membership { configs: vec![VoterSet { ids: vec![7] }], nodes: vec![node(7), node(9)] };
    store.apply(id(1), Input::Membership(&membership)).unwrap();
    let client_urls = vec!["http://m7:2379".into()];
    let attributes = MemberAttributes { id: 7, name: "seven".into(), client_urls, log: 77 };
    let command = Command::from(Op::MemberAttributes(attributes));
    store.apply(id(2), Input::Command(&command)).unwrap();
    member.snapshot(&store);
    let rows = dump(&store).rows;
    let (members, expected) = (store.members(), store.membership());
    assert_eq!(members[0].name, "seven");
    drop(store);
    std::fs::remove_dir_all(member.places().db).unwrap();
    member.purged = Some(id(2));
    let (store, _) = member.open().unwrap();
    assert_eq!((store.members(), store.membership()), (members, expected));
    assert_eq!(dump(&store).rows, rows);
}

#[test]
fn a_panic_and_a_hang_are_told_apart() {
    let progress = AtomicU64::new(0);
    let long = Duration::from_secs(60);
    assert_eq!(watch(long, &progress, || 5), Ok(5));
    let panicked: Result<(), Stopped> = watch(long, &progress, || panic!("as tested"));
    assert_eq!(panicked, Err(Stopped::Panicked));
    let (_never, wait) = std::sync::mpsc::channel::<()>();
    let hung = watch(Duration::from_millis(20), &progress, move || wait.recv().is_ok());
    assert_eq!(hung, Err(Stopped::Hung));
}
