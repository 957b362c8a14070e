//! The engine on disk: sled, held to the contract of the parent module. The only file that names it.
//!
//! sled keeps every leaf it has written in memory until it is closed, hangs after a failed flush,
//! and panics or spins on files it does not expect. So the files are checked before it sees them,
//! it is closed and opened again in `maintain`, and after its first error it is never called again.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use bytes::Bytes;

use super::flushed::Flushed;
use super::{Engine, EngineStats, OpenError, ROW_BYTES_MAX, Reader, Visit, WriteBatch, integrity};
use crate::Fatal;

/// Rows of a leaf. A whole leaf is rewritten when one of its rows changes, and it has no limit in
/// bytes, so rows must stay small.
const LEAF_ROWS: usize = 64;
/// sled writes a leaf of exactly this many bytes so that it cannot be read again: its slot is one
/// byte short of the leaf with its length and checksum, and the length takes the leaf's last byte.
const UNREADABLE_LEAF_BYTES: usize = 65_529;
/// Two lengths of 8 bytes with each row, and the keys between which the leaf lies.
const LEAF_BYTES_MAX: usize = LEAF_ROWS * (ROW_BYTES_MAX + 16) + 512;
const _: () = assert!(LEAF_BYTES_MAX < UNREADABLE_LEAF_BYTES);
/// Everything lives in one tree, because batches do not span trees.
const TREE: &str = "s";
/// sled's own timer would flush behind our back, but switching it off makes every dropped handle
/// flush. So it is set to a day.
const TIMER_MS: usize = 86_400_000;
/// Levels above 1 cost more CPU than they save bytes.
const ZSTD_LEVEL: i32 = 1;
/// Rows and bytes copied out per step of a scan. Visitors run between steps, holding nothing.
const SCAN_ROWS: usize = 256;
const SCAN_BYTES: usize = 256 * 1024;
/// Every so many rows of a scan, one is read through a lasting handle too. sled learns only from
/// those which leaves are in use, and forgets none that it never heard of.
const SCAN_TOUCH_ROWS: usize = 16;
/// Handles kept for the next reader.
const IDLE_HANDLES_MAX: usize = 8;
/// How often, and how long apart, the directory lock is tried.
const LOCK_ATTEMPTS: usize = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Named in the engine's directory once it has shown damage; see [`SledEngine::open`].
const DAMAGED: &str = "DAMAGED";

type Db = ::sled::Db<LEAF_ROWS>;
/// A handle. Not `Sync`: each is used by one thread at a time.
type Tree = ::sled::Tree<LEAF_ROWS>;

#[derive(Clone, Debug)]
pub struct SledOptions {
    /// Leaves kept in memory for reading.
    pub cache_bytes: usize,
    /// Counts the rows read, so that a watchdog sees slow work apart from work that is stuck.
    pub progress: Arc<AtomicU64>,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 16 << 20, progress: Arc::default() }
    }
}

pub struct SledEngine {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    options: SledOptions,
    /// `None` only inside `maintain`, or after an error in it.
    open: RwLock<Option<Handles>>,
    /// The first error. Nothing calls sled after it.
    poison: OnceLock<String>,
    dirty_bytes: AtomicU64,
}

/// Handles of one opening of the files. Never empty: the last handle dropped closes them.
struct Handles {
    idle: Mutex<Vec<Tree>>,
}

impl SledEngine {
    /// Opens or creates the engine in `dir`.
    ///
    /// sled runs the program `sync` twice when it opens; nothing relies on that, and a process may
    /// keep it from doing so. May still panic or hang on damage that the checks do not know, so
    /// callers watch over it.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when a file fails its checks, or when reading failed at run time
    /// since the engine was built.
    pub fn open(dir: &Path, options: SledOptions) -> Result<Self, OpenError> {
        cap_threads();
        if let Ok(reason) = std::fs::read_to_string(dir.join(DAMAGED)) {
            return Err(OpenError::Damaged(format!("marked as damaged: {reason}")));
        }
        integrity::prepare(dir, LEAF_ROWS as u64)?;
        let handles = Handles::open(dir, &options)?;
        let shared = Shared {
            dir: dir.to_owned(),
            options,
            open: RwLock::new(Some(handles)),
            poison: OnceLock::new(),
            dirty_bytes: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Engine for SledEngine {
    fn reader(&self) -> Box<dyn Reader> {
        Box::new(SledReader { shared: self.shared.clone() })
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), Fatal> {
        let mut bytes = 0;
        let mut rows = ::sled::Batch::default();
        for (key, value) in &batch.puts {
            bytes += (key.len() + value.len()) as u64;
            rows.insert(&key[..], &value[..]);
        }
        self.shared.with_tree("write", |tree| tree.apply_batch(rows))?;
        self.shared.dirty_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn delete_many(&self, keys: &[Bytes]) -> Result<(), Fatal> {
        // One by one: leaves emptied by a batch are never merged away.
        self.shared.with_tree("remove", |tree| {
            for key in keys {
                tree.remove(key)?;
            }
            Ok(())
        })?;
        let bytes = keys.iter().map(|key| key.len() as u64).sum();
        self.shared.dirty_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&self) -> Result<(), Fatal> {
        self.shared.with_tree("flush", |tree| tree.flush())?;
        self.shared.dirty_bytes.store(0, Ordering::Relaxed);
        let dir = &self.shared.dir;
        if let Err(error) = Flushed::now(dir).and_then(|flushed| flushed.save(dir)) {
            // The old note stands, and asks for less.
            tracing::warn!(%error, "cannot note how far the engine is flushed");
        }
        Ok(())
    }

    fn maintain(&self) -> Result<(), Fatal> {
        self.flush()?;
        let shared = &self.shared;
        let mut open = shared.open.write().expect("no code panics while it holds this lock");
        // The last handle: joins sled's threads and releases the lock on the directory.
        drop(open.take());
        match Handles::open(&shared.dir, &shared.options) {
            Ok(handles) => *open = Some(handles),
            Err(error) => return Err(shared.fail("reopen", error.to_string())),
        }
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            physical_bytes: allocated_bytes(&self.shared.dir),
            dirty_bytes: self.shared.dirty_bytes.load(Ordering::Relaxed),
        }
    }
}

struct SledReader {
    shared: Arc<Shared>,
}

impl Reader for SledReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        let value = self.shared.with_tree("read", |tree| tree.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: (Bound<&[u8]>, Bound<&[u8]>), visit: Visit<'_>) -> Result<(), Fatal> {
        if super::is_empty_range(range) {
            return Ok(());
        }
        let mut from = range.0.map(::sled::InlineArray::from);
        loop {
            let start = from.as_ref().map(|key| key.as_ref());
            let step = self.shared.with_tree("scan", |tree| Step::read(tree, start, range.1))?;
            self.shared.options.progress.fetch_add(step.rows.len() as u64, Ordering::Relaxed);
            for (key, value) in &step.rows {
                if visit(key, value).is_break() {
                    return Ok(());
                }
            }
            match step.rows.last() {
                Some((last, _)) if step.more => from = Bound::Excluded(last.clone()),
                _ => return Ok(()),
            }
        }
    }
}

/// Some rows of a scan, in order.
struct Step {
    rows: Vec<(::sled::InlineArray, ::sled::InlineArray)>,
    more: bool,
}

impl Step {
    fn read(tree: &Tree, start: Bound<&[u8]>, end: Bound<&[u8]>) -> io::Result<Self> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        // Told of an upper bound, sled's iterator reads all leaves behind it before it ends.
        for row in tree.range::<&[u8], _>((start, Bound::Unbounded)) {
            let (key, value) = row?;
            let past_end = match end {
                Bound::Included(last) => key[..] > *last,
                Bound::Excluded(end) => key[..] >= *end,
                Bound::Unbounded => false,
            };
            if past_end {
                return Ok(Self { rows, more: false });
            }
            bytes += key.len() + value.len();
            if rows.len() % SCAN_TOUCH_ROWS == 0 {
                tree.contains_key(&key)?;
            }
            rows.push((key, value));
            if rows.len() >= SCAN_ROWS || bytes >= SCAN_BYTES {
                return Ok(Self { rows, more: true });
            }
        }
        Ok(Self { rows, more: false })
    }
}

impl Shared {
    /// Lends a handle to `work`; the files stay open meanwhile.
    fn with_tree<T>(
        &self,
        operation: &str,
        work: impl FnOnce(&Tree) -> io::Result<T>,
    ) -> Result<T, Fatal> {
        let open = self.open.read().expect("no code panics while it holds this lock");
        let Some(handles) = open.as_ref().filter(|_| self.poison.get().is_none()) else {
            let first = self.poison.get().map_or("closed", |first| first);
            return Err(Fatal::Engine(format!("{operation}: failed before: {first}")));
        };
        let tree = handles.take();
        let result = work(&tree);
        if let Err(error) = &result {
            let fatal = self.fail(operation, error.to_string());
            if is_damage(error) {
                // Otherwise a restart would open the engine and fail at the same row again.
                self.mark_damaged(&error.to_string());
            }
            // Its destructor could wait for ever.
            std::mem::forget(tree);
            return Err(fatal);
        }
        handles.put_back(tree);
        result.map_err(|error| Fatal::Engine(error.to_string()))
    }

    fn fail(&self, operation: &str, error: String) -> Fatal {
        let fatal = Fatal::Engine(format!("{operation} {}: {error}", self.dir.display()));
        // The first error stays; later ones are its consequences.
        let _ = self.poison.set(error);
        fatal
    }

    fn mark_damaged(&self, reason: &str) {
        if let Err(error) = std::fs::write(self.dir.join(DAMAGED), reason) {
            tracing::warn!(%error, dir = %self.dir.display(), "cannot mark the engine as damaged");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.poison.get().is_some() {
            let open = self.open.get_mut().ok().and_then(Option::take);
            std::mem::forget(open);
        }
    }
}

impl Handles {
    fn open(dir: &Path, options: &SledOptions) -> Result<Self, OpenError> {
        let config = ::sled::Config::new()
            .path(dir)
            .cache_capacity_bytes(options.cache_bytes)
            .zstd_compression_level(ZSTD_LEVEL)
            .flush_every_ms(Some(TIMER_MS));
        let mut attempts = 0;
        // A process that some other thread is just starting holds our old lock until its exec.
        let db: Db = loop {
            attempts += 1;
            match config.open() {
                Ok(db) => break db,
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && attempts < LOCK_ATTEMPTS =>
                {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(error) => return Err(open_error(dir, error)),
            }
        };
        let tree = db.open_tree(TREE).map_err(|error| open_error(dir, error))?;
        Flushed::now(dir)?.save(dir)?;
        integrity::sync_files(dir)?;
        Ok(Self { idle: Mutex::new(vec![tree]) })
    }

    fn take(&self) -> Tree {
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        match idle.len() {
            1 => idle[0].clone(),
            _ => idle.pop().expect("a pool of handles is never empty"),
        }
    }

    fn put_back(&self, tree: Tree) {
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        if idle.len() < IDLE_HANDLES_MAX {
            idle.push(tree);
        }
    }
}

/// sled works in parallel on a pool shared by the whole process, one thread per core. It runs in
/// the background here, so one thread is enough.
fn cap_threads() {
    // An error means that the pool exists already, which is as good.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "kvd-sled".into())
        .build_global();
}

fn open_error(dir: &Path, source: io::Error) -> OpenError {
    if is_damage(&source) {
        return OpenError::Damaged(format!("{}: {source}", dir.display()));
    }
    OpenError::Io { operation: "open", path: dir.to_owned(), source }
}

/// Whether rebuilding the files can cure an error, as opposed to its cause lying outside them.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{
        OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, WouldBlock,
    };
    !matches!(
        error.kind(),
        OutOfMemory
            | PermissionDenied
            | QuotaExceeded
            | ReadOnlyFilesystem
            | StorageFull
            | WouldBlock
    )
}

/// What the files of a directory occupy. Files that vanish meanwhile count nothing.
fn allocated_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => allocated_bytes(&entry.path()),
            Ok(data) => data.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
