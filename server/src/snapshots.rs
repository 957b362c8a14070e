//! Snapshot files of this member: writing, finding, installing.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use store::boot::{self, Places};
use store::mvcc::Store;
use store::snapshot::{self, Checksum, Snapshot};
use store::{Fatal, LogId, ReadError, Refusal};

use crate::metrics::METRICS;
use crate::raft::{Written, types};
use crate::space::Space;

/// The snapshot folder of a data directory.
pub struct Snapshots {
    places: Places,
    options: boot::Options,
    space: Space,
    state: Mutex<State>,
    /// One at a time: the engine and the card have better things to do.
    writing: Mutex<()>,
    /// Held by whoever finds out whether a file of this state is there: all who ask for it at once
    /// get the same.
    asking: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Newest first.
    files: Vec<Written>,
    /// The log is not needed up to here.
    purgeable: Option<LogId>,
    /// Written, and not yet told to consensus.
    prepared: Option<Written>,
}

/// A snapshot file being read from its beginning.
pub struct SnapshotReader {
    pub file: BufReader<File>,
    pub bytes: u64,
}

/// What became of a file that was found damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// Nothing is known to be wrong with it.
    Sound,
    /// There is another file now.
    Replaced,
    /// It is damaged, and there is no room for another.
    NoRoom,
}

impl Snapshots {
    /// Takes up the files that are there. Their contents were verified when they were written and
    /// are again when they are used.
    pub fn open(places: Places, options: boot::Options, space: Space) -> Result<Self, Fatal> {
        let mut state = State::default();
        for (_, path) in snapshot::list(&places.snap)? {
            // A damaged one was moved aside or will be, when it is needed.
            let Ok(found) = Snapshot::open(&path, Checksum::Skip) else { continue };
            let (applied, membership) = (found.state().applied, found.state().membership.clone());
            state.files.push(Written { path, applied, membership });
        }
        let (writing, asking) = Default::default();
        Ok(Self { places, options, space, state: Mutex::new(state), writing, asking })
    }

    /// On the disk that the files are on.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The newest one that holds nothing beyond `applied`.
    ///
    /// A member that was killed may have a newer one than its engine. The log leads there as well:
    /// replaying it needs neither a sound file nor a new engine, so the file stays out of it.
    pub fn newest(&self, applied: LogId) -> Option<Written> {
        let state = self.lock();
        state.files.iter().find(|file| file.applied.index <= applied.index).cloned()
    }

    /// Up to where snapshot files make the log dispensable.
    pub fn purgeable(&self) -> Option<LogId> {
        self.lock().purgeable
    }

    /// What [`Self::prepare`] wrote last, or else a file written now.
    pub fn build(&self, store: &Arc<Store>) -> Result<Written, Fatal> {
        let prepared = self.lock().prepared.take();
        if let Some(prepared) = prepared {
            return Ok(prepared);
        }
        let written = self.write_while(store, &|| true)?;
        Ok(written.expect("nobody asked to give up"))
    }

    /// Writes a file ahead of consensus, to which a failure would be the end. False when there is
    /// no room.
    pub fn prepare(&self, store: &Arc<Store>) -> Result<bool, Fatal> {
        let written = self.write_if_room(store)?;
        let had_room = written.is_some();
        self.lock().prepared = written;
        Ok(had_room)
    }

    /// Writes a file unless there is no room: before, now and then meanwhile, or the disk says so.
    fn write_if_room(&self, store: &Arc<Store>) -> Result<Option<Written>, Fatal> {
        let sizes = store.sizes();
        // As much is left as the file will take: it must not be what fills the disk.
        if !self.space.has_room(2 * (sizes.live_bytes + sizes.history_bytes)) {
            return Ok(None);
        }
        match self.write_while(store, &|| self.space.has_room(0)) {
            Err(Fatal::Io { source, .. }) if is_out_of_space(&source) => Ok(None),
            written => written,
        }
    }

    /// Writes, verifies and publishes a snapshot of the store as it is now; keeps the newest two.
    fn write_while(
        &self,
        store: &Arc<Store>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Written>, Fatal> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let source = store.snapshot_source();
        let (applied, membership) = (source.meta.applied, source.meta.membership.clone());
        let path = self.places.snap.join(snapshot::file_name(applied));
        let saved = snapshot::save(&source, &path, &mut |_| match go_on() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })?;
        let Some(saved) = saved else { return Ok(None) };
        METRICS.disk.snapshots.took(began.elapsed());
        tracing::info!(index = applied.index, bytes = saved.bytes, "snapshot file written");
        let written = Written { path, applied, membership };
        let purgeable = snapshot::prune(&self.places.snap)?;
        let mut state = self.lock();
        // Consensus gets the newest: it must not have to write one, with no room for it.
        let prepared = state.prepared.take().map(|_| written.clone());
        *state = State { files: vec![written.clone()], purgeable, prepared };
        Ok(Some(written))
    }

    /// Where a file from another member is received.
    pub fn incoming(&self, from: u64, number: u64) -> PathBuf {
        self.places.snap.join(snapshot::unfinished_name(&format!("from-{from:x}-{number}")))
    }

    /// Verifies a received file and gives it its name.
    pub fn accept(&self, path: &Path) -> Result<Written, Fatal> {
        let accepted = Snapshot::open(path, Checksum::Verify).and_then(|received| {
            let (applied, membership) =
                (received.state().applied, received.state().membership.clone());
            if let Some((_, membership)) = &membership {
                let wrong = |what| Fatal::Engine(format!("its membership: {what}"));
                types::check_membership(membership).map_err(wrong)?;
            }
            let named = self.places.snap.join(snapshot::file_name(applied));
            std::fs::rename(path, &named).map_err(|error| Fatal::io("rename", path, error))?;
            let synced = File::open(&self.places.snap).and_then(|dir| dir.sync_all());
            synced.map_err(|error| Fatal::io("sync", &self.places.snap, error))?;
            Ok(Written { path: named, applied, membership })
        });
        if accepted.is_err() {
            // What stays is removed by the next start.
            let _ = std::fs::remove_file(path);
        }
        accepted
    }

    /// Replaces this member's state by that of an accepted file.
    pub fn install(&self, path: &Path) -> Result<Arc<Store>, Fatal> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let received = Snapshot::open(path, Checksum::Skip)?;
        let (applied, membership) = (received.state().applied, received.state().membership.clone());
        let store = boot::install(&self.places, &received, &self.options)?;
        let written = Written { path: path.to_owned(), applied, membership };
        let purgeable = snapshot::prune(&self.places.snap)?;
        *self.lock() = State { files: vec![written], purgeable, prepared: None };
        tracing::info!(index = applied.index, "snapshot installed");
        Ok(store)
    }

    /// A file of the store as it is now, open for reading: the newest one if nothing changed
    /// since, else a new one. Refused when there is no room for that.
    pub fn open_current(&self, store: &Arc<Store>) -> Result<SnapshotReader, ReadError> {
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = store.applied();
        let written = match self.newest(applied).filter(|newest| newest.applied == applied) {
            Some(newest) => newest,
            None => self.write_if_room(store)?.ok_or(Refusal::NoSpace)?,
        };
        let open = |path: &Path| {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            Ok(SnapshotReader { file: BufReader::with_capacity(1 << 18, file), bytes })
        };
        Ok(open(&written.path).map_err(|error| Fatal::io("open", &written.path, error))?)
    }

    /// Looks at a file that was sent and found damaged. If it is, another takes its place, and it is
    /// kept beside: consensus is never without a file, and never sends that one again.
    pub fn mend(&self, path: &Path, store: &Arc<Store>) -> Result<Mended, Fatal> {
        // Clients must not ask for it meanwhile.
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.lock().files.iter().any(|file| file.path == path) {
            return Ok(Mended::Replaced);
        }
        let error = match Snapshot::open(path, Checksum::Verify) {
            Ok(_) => return Ok(Mended::Sound),
            Err(error) if is_about_this_process(&error) => return Ok(Mended::Sound),
            Err(error) => error,
        };
        // Out of the way first, or it would count as one of the two to keep.
        let aside = path.with_added_extension("damaged");
        let is_aside = match std::fs::rename(path, &aside) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(Fatal::io("rename", path, error)),
        };
        let written = self.write_if_room(store);
        if !matches!(written, Ok(Some(_))) && is_aside {
            std::fs::rename(&aside, path).map_err(|error| Fatal::io("rename", &aside, error))?;
        }
        let Some(written) = written? else { return Ok(Mended::NoRoom) };
        let aside = is_aside.then(|| tracing::field::display(aside.display()));
        let index = written.applied.index;
        tracing::warn!(%error, aside, index, "a snapshot file is damaged: another was written");
        Ok(Mended::Replaced)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says nothing about the file.
fn is_about_this_process(error: &Fatal) -> bool {
    use rustix::io::Errno;
    let Fatal::Io { source, .. } = error else { return false };
    let errno = Errno::from_io_error(source);
    errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno))
}

fn is_out_of_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    //! A disk with room, and one without.

    use proto::etcdserverpb::PutRequest;
    use proto::internal::{Command, command::Op};
    use store::datadir::DataDir;
    use store::disk::RealDisk;
    use store::mvcc::{Input, StoreOptions};
    use store::wal::{Wal, WalOptions};

    use super::*;
    use crate::limits;

    struct Member {
        snapshots: Snapshots,
        store: Arc<Store>,
        wal: Wal,
        data_dir: DataDir,
        _folder: tempfile::TempDir,
    }

    impl Member {
        /// A member that wants `margin` bytes to stay free.
        fn new(margin: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let data_dir = DataDir::open(folder.path().join("data")).unwrap();
            let options = WalOptions::new(|fatal: Fatal| panic!("{fatal}"));
            let (wal, _) = Wal::open(Arc::new(RealDisk), &data_dir.wal(), options).unwrap();
            let places = Places::of(&data_dir);
            let options = boot::Options {
                store: StoreOptions::default(),
                engine: Default::default(),
                stall: limits::ENGINE_STALL_TIMEOUT,
            };
            let (store, _) = boot::open(&places, None, &options).unwrap();
            let space = Space::new(data_dir.path().to_owned(), wal.clone()).with_margin(margin);
            let snapshots = Snapshots::open(places, options, space).unwrap();
            Self { snapshots, store, wal, data_dir, _folder: folder }
        }

        fn put(&self) {
            let put = PutRequest { key: "a".into(), ..PutRequest::default() };
            let id = LogId { term: 1, index: self.store.applied().index + 1 };
            let command = Command::from(Op::Put(put));
            self.store.apply(id, Input::Command(&command)).unwrap();
        }

        fn files(&self) -> usize {
            std::fs::read_dir(self.data_dir.snap()).unwrap().count()
        }
    }

    impl Drop for Member {
        fn drop(&mut self) {
            self.wal.close();
        }
    }

    #[test]
    fn without_room_no_file_is_written() {
        let member = Member::new(u64::MAX);
        member.put();
        assert!(!member.snapshots.prepare(&member.store).unwrap());
        let opened = member.snapshots.open_current(&member.store);
        assert!(matches!(opened, Err(ReadError::Refused(Refusal::NoSpace))));
        assert_eq!(member.files(), 0);
    }

    #[test]
    fn what_is_read_is_written_once_per_state() {
        let member = Member::new(0);
        for files in 1..=2 {
            member.put();
            for _ in 0..2 {
                let opened = member.snapshots.open_current(&member.store);
                assert!(opened.is_ok_and(|file| file.bytes > 0));
            }
            assert_eq!(member.files(), files);
        }
    }

    #[test]
    fn a_damaged_file_is_kept_beside_the_one_that_replaces_it() {
        let member = Member::new(0);
        let names = || {
            let files = std::fs::read_dir(member.data_dir.snap()).unwrap();
            let name = |file: std::fs::DirEntry| file.file_name().into_string().unwrap();
            files.map(|file| name(file.unwrap())).collect::<std::collections::BTreeSet<String>>()
        };
        member.put();
        assert!(member.snapshots.prepare(&member.store).unwrap());
        let path = member.snapshots.newest(member.store.applied()).unwrap().path;
        let sound = std::fs::read(&path).unwrap();
        assert_eq!(member.snapshots.mend(&path, &member.store).unwrap(), Mended::Sound);
        assert_eq!(names().len(), 1);

        let mut damaged = sound.clone();
        damaged[sound.len() / 2] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(member.snapshots.mend(&path, &member.store).unwrap(), Mended::Replaced);
        // Nothing has changed since, so it is the same again.
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(names(), [name.to_owned(), format!("{name}.damaged")].into());
        assert!(std::fs::read(&path).unwrap() == sound);
        assert!(std::fs::read(path.with_added_extension("damaged")).unwrap() == damaged);

        std::fs::remove_file(&path).unwrap();
        member.put();
        assert_eq!(member.snapshots.mend(&path, &member.store).unwrap(), Mended::Replaced);
        let newest = member.snapshots.newest(member.store.applied()).unwrap();
        assert!(newest.path != path && newest.path.exists());
        assert_eq!(member.snapshots.mend(&path, &member.store).unwrap(), Mended::Replaced);
    }

    /// Consensus has to have one to send.
    #[test]
    fn a_damaged_file_stays_while_there_is_no_room_for_another() {
        let mut member = Member::new(0);
        member.put();
        assert!(member.snapshots.prepare(&member.store).unwrap());
        let path = member.snapshots.newest(member.store.applied()).unwrap().path;
        std::fs::write(&path, "damaged").unwrap();
        let space = Space::new(member.data_dir.path().to_owned(), member.wal.clone());
        member.snapshots.space = space.with_margin(u64::MAX);
        assert_eq!(member.snapshots.mend(&path, &member.store).unwrap(), Mended::NoRoom);
        assert_eq!(member.snapshots.newest(member.store.applied()).unwrap().path, path);
        assert!(path.exists());
        assert_eq!(member.files(), 1);
    }

    /// Consensus must never have to write one by itself: there may be no room for it.
    #[test]
    fn what_was_prepared_is_replaced_by_what_is_newer() {
        let member = Member::new(0);
        member.put();
        assert!(member.snapshots.prepare(&member.store).unwrap());
        member.put();
        assert!(member.snapshots.open_current(&member.store).is_ok());
        let newest = member.store.applied();
        member.put();
        assert_eq!(member.snapshots.build(&member.store).unwrap().applied, newest);
    }
}
