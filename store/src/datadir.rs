//! The data directory: one process at a time, one format, one identity.
//!
//! ```text
//! <data-dir>/LOCK      held (flock) by the process that uses it; says its pid
//! <data-dir>/VERSION   "kvd data directory", "format 1", then "cluster <hex>" and "member <hex>"
//! <data-dir>/wal/      the log           <data-dir>/snap/   snapshot files
//! <data-dir>/db/       the engine, a cache of the two
//! ```
//! Nothing is written before every check has passed.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The format this code writes, and the newest it reads.
const FORMAT: u32 = 1;
const TITLE: &str = "kvd data directory";
const VERSION: &str = "VERSION";
const LOCK: &str = "LOCK";
/// Never longer; a longer file is not ours.
const VERSION_BYTES_MAX: u64 = 4096;

/// Whose data it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: u64,
    pub member: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {} is not a directory: give another path or move the file away", .0.display())]
    NotADirectory(PathBuf),
    #[error(
        "cannot {operation} {}: {source}; the data directory must belong to the user kvd runs as \
         (chown -R, chmod 700)", path.display()
    )]
    NotAccessible { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the data directory {} is in use by {}: stop that process or give another --data-dir",
        path.display(), holder(*pid)
    )]
    Locked { path: PathBuf, pid: Option<u32> },
    #[error(
        "the data directory {} has format {found}, this kvd knows formats up to {FORMAT}: start \
         the newer version of kvd that wrote it", path.display()
    )]
    NewerFormat { path: PathBuf, found: u32 },
    #[error(
        "{} is damaged ({what}): restore the file, or move the data directory away and restore \
         the member from a snapshot or add it again", path.display()
    )]
    DamagedVersion { path: PathBuf, what: String },
    #[error(
        "the data directory {} was written by etcd (it holds `member`): kvd does not read it; take \
         a snapshot with `etcdctl snapshot save` and restore that into a new data directory",
        path.display()
    )]
    Etcd { path: PathBuf },
    #[error(
        "{} is not a kvd data directory and not empty (it holds `{found}`): give an empty or new \
         directory", path.display()
    )]
    Foreign { path: PathBuf, found: String },
    #[error(
        "the data directory {} belongs to member {:x} of cluster {:x}, but this process is member \
         {:x} of cluster {:x}: check --data-dir, --name and the initial cluster settings",
        path.display(), found.member, found.cluster, expected.member, expected.cluster
    )]
    OtherIdentity { path: PathBuf, found: Identity, expected: Identity },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("another process (pid {pid})"))
}

/// An open data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Lock,
    identity: Mutex<Option<Identity>>,
}

impl DataDir {
    /// Takes the directory, making it (0700) if there is none.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataDirError> {
        let path = path.as_ref().to_owned();
        make_dir(&path)?;
        inspect(&path)?;
        let lock = lock(&path)?;
        let identity = match read_version(&path)? {
            Some(identity) => identity,
            None => {
                write_version(&path, None)?;
                None
            }
        };
        let dir = Self { path, _lock: lock, identity: Mutex::new(identity) };
        for sub in [dir.wal(), dir.snap(), dir.db()] {
            make_dir(&sub)?;
        }
        Ok(dir)
    }

    /// Whose data is there, without touching anything: `None` if a member would begin there.
    pub fn look(path: &Path) -> Result<Option<Identity>, DataDirError> {
        if !path.exists() {
            return Ok(None);
        }
        if !path.is_dir() {
            return Err(DataDirError::NotADirectory(path.to_owned()));
        }
        inspect(path)?;
        Ok(read_version(path)?.flatten())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    pub fn snap(&self) -> PathBuf {
        self.path.join("snap")
    }

    pub fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    /// `None` until the first `check_identity`: the member has never run.
    pub fn identity(&self) -> Option<Identity> {
        *self.identity.lock().expect("nothing panics while the identity is locked")
    }

    /// Compares with the identity recorded, or records this one if there is none.
    pub fn check_identity(&self, cluster: u64, member: u64) -> Result<(), DataDirError> {
        let expected = Identity { cluster, member };
        let mut identity = self.identity.lock().expect("nothing panics while it is locked");
        match *identity {
            Some(found) if found == expected => Ok(()),
            Some(found) => {
                Err(DataDirError::OtherIdentity { path: self.path.clone(), found, expected })
            }
            None => {
                write_version(&self.path, Some(expected))?;
                *identity = Some(expected);
                Ok(())
            }
        }
    }
}

fn make_dir(path: &Path) -> Result<(), DataDirError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(_) if path.exists() && !path.is_dir() => {
            Err(DataDirError::NotADirectory(path.to_owned()))
        }
        Err(error) => Err(failed("create directory", path, error)),
    }
}

/// Refuses what is not ours before anything is written.
fn inspect(path: &Path) -> Result<(), DataDirError> {
    let names = fs::read_dir(path).map_err(|error| failed("read directory", path, error))?;
    let mut foreign = None;
    for entry in names {
        let entry = entry.map_err(|error| failed("read directory", path, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.as_str() {
            VERSION => return Ok(()),
            "member" => return Err(DataDirError::Etcd { path: path.to_owned() }),
            // The last holds certificates that a member makes for itself before it opens the rest.
            LOCK | "VERSION.tmp" | "lost+found" | "fixtures" => {}
            _ => foreign = Some(name),
        }
    }
    match foreign {
        Some(found) => Err(DataDirError::Foreign { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

/// Holding it holds the directory.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child process that is just being started has a copy of
        // the descriptor until it runs its own program.
        let _ = self.0.unlock();
    }
}

fn lock(dir: &Path) -> Result<Lock, DataDirError> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(|error| failed("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.take(32).read_to_string(&mut text);
            let pid = text.trim().parse().ok();
            return Err(DataDirError::Locked { path: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
    }
    let mut lock = Lock(file);
    // For whoever finds it locked; the lock itself is not in the file's contents.
    lock.0
        .set_len(0)
        .and_then(|()| writeln!(lock.0, "{}", std::process::id()))
        .map_err(|error| failed("write", &path, error))?;
    Ok(lock)
}

fn read_version(dir: &Path) -> Result<Option<Option<Identity>>, DataDirError> {
    let path = dir.join(VERSION);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", &path, error)),
    };
    let mut bytes = Vec::new();
    file.take(VERSION_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", &path, error))?;
    let damaged = |what: String| DataDirError::DamagedVersion { path: path.clone(), what };
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text".into()))?;
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(damaged(format!("it does not begin with {TITLE:?}")));
    }
    let format = lines.next().and_then(|line| line.strip_prefix("format ")?.parse::<u32>().ok());
    let format = format.ok_or_else(|| damaged("it has no format number".into()))?;
    if format > FORMAT {
        return Err(DataDirError::NewerFormat { path: dir.to_owned(), found: format });
    }
    let mut id = |name: &str| -> Option<u64> {
        u64::from_str_radix(lines.next()?.strip_prefix(name)?, 16).ok()
    };
    let complete = text.ends_with('\n');
    match (text.lines().count(), complete) {
        (2, true) => Ok(Some(None)),
        (4, true) => match (id("cluster "), id("member ")) {
            (Some(cluster), Some(member)) => Ok(Some(Some(Identity { cluster, member }))),
            _ => Err(damaged("its cluster and member ids cannot be read".into())),
        },
        _ => Err(damaged("it is cut off or has lines too many".into())),
    }
}

/// All or nothing: a new file takes the old one's place.
fn write_version(dir: &Path, identity: Option<Identity>) -> Result<(), DataDirError> {
    let mut text = format!("{TITLE}\nformat {FORMAT}\n");
    if let Some(Identity { cluster, member }) = identity {
        let _ = write!(text, "cluster {cluster:016x}\nmember {member:016x}\n");
    }
    let (path, temporary) = (dir.join(VERSION), dir.join("VERSION.tmp"));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| failed("write", &path, error))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> DataDirError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            DataDirError::NotAccessible { operation, path, source }
        }
        io::ErrorKind::NotADirectory => DataDirError::NotADirectory(path),
        _ => DataDirError::Io { operation, path, source },
    }
}

#[cfg(test)]
mod tests;
