//! Builds the engine anew from a snapshot file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Options, Places};
use crate::engine::{Engine, SledEngine};
use crate::snapshot::{self, Checksum, Snapshot};
use crate::{Fatal, LogId};

/// Where the engine is built.
const BUILDING: &str = "building";
/// Where one that cannot be trusted is kept.
pub(super) const DAMAGED: &str = "damaged-1";
/// Where a sound one that was replaced waits to be removed.
pub(super) const REPLACED: &str = "replaced";

/// The newest intact snapshot that the log joins. `None` if the log alone will do.
pub(super) fn choose(
    places: &Places,
    purged: Option<LogId>,
) -> Result<Option<(Snapshot, PathBuf)>, Fatal> {
    for (applied, path) in snapshot::list(&places.snap)? {
        if !joins(applied, purged) {
            break;
        }
        let checked = Snapshot::open(&path, Checksum::Verify).and_then(|snapshot| {
            match snapshot.state().applied == applied {
                true => Ok(snapshot),
                false => Err(snapshot.damaged("it is not the one its name says")),
            }
        });
        match checked {
            Ok(snapshot) => return Ok(Some((snapshot, path))),
            Err(error @ Fatal::Damaged { .. }) => {
                // Out of the way, or it would count as one of the two to keep.
                let aside = with_suffix(&path, ".damaged");
                tracing::warn!(%error, aside = %aside.display(), "a snapshot file is damaged");
                std::fs::rename(&path, &aside)
                    .map_err(|source| Fatal::io("rename", &path, source))?;
            }
            Err(other) => return Err(other),
        }
    }
    match purged {
        None => Ok(None),
        Some(purged) => Err(Fatal::Damaged {
            path: places.snap.clone(),
            offset: 0,
            what: format!("no intact snapshot reaches entry {purged}, where the log begins"),
            remedy: "Remove this member from its cluster, delete its data directory and add it \
                     again; a cluster of one has to be restored from a backup"
                .into(),
        }),
    }
}

/// Whether a state at `applied` needs no entry that the log no longer has.
pub(super) fn joins(applied: LogId, purged: Option<LogId>) -> bool {
    purged.is_none_or(|purged| applied.index >= purged.index)
}

/// Replaces the engine by one that holds `snapshot`, or removes it. What was there is set `aside`,
/// where it takes the place of an earlier one.
pub(super) fn replace(
    places: &Places,
    snapshot: Option<&Snapshot>,
    options: &Options,
    aside: &str,
) -> Result<(), Fatal> {
    let db = &places.db;
    let building = db.with_extension(BUILDING);
    remove_dir(&building)?;
    if let Some(snapshot) = snapshot {
        let engine: Arc<dyn Engine> =
            Arc::new(SledEngine::open(&building, options.engine.clone())?);
        snapshot::load(snapshot, &engine)?;
    }
    if places.has_engine() {
        let aside = db.with_extension(aside);
        remove_dir(&aside)?;
        std::fs::rename(db, &aside).map_err(|source| Fatal::io("rename", db, source))?;
    }
    remove_dir(db)?;
    if snapshot.is_some() {
        std::fs::rename(&building, db).map_err(|e| Fatal::io("rename", &building, e))?;
    }
    let parent = db.parent().unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(|source| Fatal::io("sync", parent, source))
}

/// Removes what nobody asks for any more: a sound engine that was replaced, an unfinished one.
pub(super) fn remove_leftovers(places: &Places) -> Result<(), Fatal> {
    remove_dir(&places.db.with_extension(REPLACED))?;
    remove_dir(&places.db.with_extension(BUILDING))
}

fn remove_dir(dir: &Path) -> Result<(), Fatal> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Fatal::io("remove", dir, error))
        }
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
