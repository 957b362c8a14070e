//! From a data directory to an open [`Store`]: the engine if it can be trusted, else rebuilt.
//!
//! The engine only caches what the newest snapshot file and the log behind it lead to. So whatever
//! is wrong with it costs time, not data:
//!
//! 1. The engine is opened on a thread of its own, under a watchdog. It may find damage, panic,
//!    which ends the process in a release build, or hang. A file counts the attempts that did not
//!    come to an end, so that the third start rebuilds what killed the two before it.
//! 2. It is used if the log joins it: no entry between it and the log is missing.
//! 3. Else it is moved aside, one such copy is kept, and a new one is built from the newest
//!    snapshot that is intact and that the log joins, or from nothing if the log begins at entry 1.
//!    The new engine gets its name only once it is complete.
//!
//! What the log holds beyond that is applied again by the caller.
//!
//! # CAVEATS
//! Rows are read in full only when they are wanted. A member that meets a damaged row later must
//! stop; [`condemn`] makes its next start rebuild the engine.

mod attempts;
mod rebuild;
mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use attempts::Attempts;
use watch::{Stopped, watch};

use crate::datadir::DataDir;
use crate::engine::{OpenError, SledEngine, SledOptions};
use crate::mvcc::{Store, StoreOptions};
use crate::snapshot::Snapshot;
use crate::{Fatal, LogId, snapshot};

/// Where a member's state lies.
#[derive(Clone, Debug)]
pub struct Places {
    /// The engine's folder. Siblings of it are used while it is rebuilt.
    pub db: PathBuf,
    /// The folder of the snapshot files.
    pub snap: PathBuf,
}

impl Places {
    pub fn of(dir: &DataDir) -> Self {
        Self { db: dir.db(), snap: dir.snap() }
    }

    /// A new data directory has an empty folder for the engine.
    fn has_engine(&self) -> bool {
        std::fs::read_dir(&self.db).is_ok_and(|mut entries| entries.next().is_some())
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub store: StoreOptions,
    pub engine: SledOptions,
    /// How long nothing may move before the engine counts as hung. Longer than the slowest disk
    /// takes for a sync of everything.
    pub stall: Duration,
}

/// What became of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was used as it was.
    Opened,
    /// There was none, and nothing to build one from.
    Created,
    Rebuilt {
        reason: String,
        /// `None`: from the log alone.
        from: Option<PathBuf>,
    },
}

/// Opens the state. `purged` is the last entry that the log no longer has.
///
/// # Errors
/// [`Fatal::Damaged`] when the log joins nothing that is left, [`Fatal::Io`] when the
/// surroundings refuse, [`Fatal::Engine`] when the engine hangs: the next start then rebuilds it.
pub fn open(
    places: &Places,
    purged: Option<LogId>,
    options: &Options,
) -> Result<(Arc<Store>, Report), Fatal> {
    snapshot::remove_unfinished(&places.snap)?;
    rebuild::remove_leftovers(places)?;
    let attempts = Attempts::of(&places.db);
    let reason = if !places.has_engine() {
        None
    } else if attempts.exhausted()? {
        Some("opening it did not end well".to_owned())
    } else {
        match try_open(places, options)? {
            Ok(store) if rebuild::joins(store.applied(), purged) => {
                return Ok((store, Report::Opened));
            }
            Ok(store) => Some(format!("it ends at entry {}, before the log", store.applied())),
            Err(what) => Some(what),
        }
    };
    let source = rebuild::choose(places, purged)?;
    let from = source.as_ref().map(|(_, path)| path.clone());
    if let (None, None) = (&reason, &from) {
        return Ok((try_new(places, options)?, Report::Created));
    }
    let reason = reason.unwrap_or_else(|| "it is missing".into());
    let described = from.as_ref().map_or("the log".into(), |path| path.display().to_string());
    tracing::warn!(reason, from = described, "rebuilding the engine");
    let snapshot = source.as_ref().map(|(snapshot, _)| snapshot);
    rebuild::replace(places, snapshot, options, rebuild::DAMAGED)?;
    Ok((try_new(places, options)?, Report::Rebuilt { reason, from }))
}

/// Replaces the state by that of a snapshot, which came from the leader and lies among the
/// snapshot files already. Nobody may write through a store opened before; its engine is removed,
/// and takes no room once nobody reads through it either.
pub fn install(
    places: &Places,
    snapshot: &Snapshot,
    options: &Options,
) -> Result<Arc<Store>, Fatal> {
    rebuild::replace(places, Some(snapshot), options, rebuild::REPLACED)?;
    let store = try_new(places, options)?;
    rebuild::remove_leftovers(places)?;
    Ok(store)
}

/// Makes the next start rebuild the engine, because it held something that cannot be. To be
/// called before the process ends for a [`Fatal::Engine`].
pub fn condemn(places: &Places) -> Result<(), Fatal> {
    Attempts::of(&places.db).exhaust()
}

/// Opens an engine that was just built.
fn try_new(places: &Places, options: &Options) -> Result<Arc<Store>, Fatal> {
    Attempts::of(&places.db).end()?;
    let unfit = |what| Fatal::Engine(format!("just built, and unfit: {what}"));
    try_open(places, options)?.map_err(unfit)
}

/// Opens the engine and the store on it. `Ok(Err)` says why the engine is of no use.
fn try_open(places: &Places, options: &Options) -> Result<Result<Arc<Store>, String>, Fatal> {
    let attempts = Attempts::of(&places.db);
    attempts.begin()?;
    let progress = options.engine.progress.clone();
    let (db, copy) = (places.db.clone(), options.clone());
    let opened = watch(options.stall, &progress, move || {
        let engine = SledEngine::open(&db, copy.engine)?;
        Store::open(Arc::new(engine), copy.store)
    });
    let opened = match opened {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(OpenError::Damaged(what))) => Err(what),
        Ok(Err(error @ OpenError::Io { .. })) => {
            attempts.end()?;
            return Err(error.into());
        }
        Err(Stopped::Panicked) => Err("reading it panicked".into()),
        Err(Stopped::Hung) => {
            attempts.exhaust()?;
            let what = "reading it does not come to an end; the next start rebuilds it";
            return Err(Fatal::Engine(what.into()));
        }
    };
    attempts.end()?;
    Ok(opened)
}
