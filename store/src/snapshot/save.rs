//! Writes a snapshot file.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::bolt::{self, Bolt, SHA_BYTES};
use super::buckets::{self, meta};
use super::files::UNFINISHED_SUFFIX;
use super::{Change, State};
use crate::{Fatal, Revision};

/// Changes between two reports of progress.
const PROGRESS_CHANGES: u64 = 1024;

/// One state, held still while it is saved.
pub trait Source {
    fn state(&self) -> State;
    /// Calls `visit` with every change in history, oldest first, until it breaks.
    fn changes(&self, visit: &mut dyn FnMut(Change<'_>) -> ControlFlow<()>) -> Result<(), Fatal>;
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Saved {
    pub path: PathBuf,
    pub bytes: u64,
    pub changes: u64,
    pub sha: [u8; 32],
}

/// Saves `source` as the file `path`, which appears complete and verified or not at all.
///
/// `progress` is told the bytes written so far now and then, and breaks to give up.
///
/// # Errors
/// When the disk fails or returns other bytes than were written. No file is left behind.
pub fn save(
    source: &dyn Source,
    path: &Path,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<Saved>, Fatal> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_SUFFIX);
    let unfinished = PathBuf::from(unfinished);
    let saved = write(source, &unfinished, progress).and_then(|saved| {
        let Some(mut saved) = saved else { return Ok(None) };
        std::fs::rename(&unfinished, path).map_err(|e| Fatal::io("rename", path, e))?;
        saved.path = path.to_owned();
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let sync = File::open(dir).and_then(|dir| dir.sync_all());
        sync.map_err(|source| Fatal::io("sync", dir, source))?;
        Ok(Some(saved))
    });
    if !matches!(saved, Ok(Some(_))) {
        // The space is wanted back; the error that matters is the first one.
        let _ = std::fs::remove_file(&unfinished);
    }
    saved
}

fn write(
    source: &dyn Source,
    path: &Path,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<Saved>, Fatal> {
    let io = |source| Fatal::io("write", path, source);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let mut writer = bolt::Writer::new(options.open(path).map_err(io)?).map_err(io)?;

    let state = source.state();
    let mut names: BTreeSet<&str> = buckets::EXPECTED.into();
    names.extend(state.tables.keys().map(String::as_str));
    let mut changes = 0;
    for name in names {
        let mut bucket = writer.bucket(name.as_bytes());
        match name {
            buckets::KEY => {
                let Some(written) = write_changes(source, &mut bucket, path, progress)? else {
                    return Ok(None);
                };
                changes = written;
            }
            buckets::META => {
                for (key, value) in meta_rows(&state) {
                    bucket.put(key, &value).map_err(io)?;
                }
            }
            buckets::LEASE => {
                for (key, value) in state.leases.iter().map(|lease| lease.to_bucket()) {
                    bucket.put(&key, &value).map_err(io)?;
                }
            }
            _ => {
                for (key, value) in state.tables.get(name).into_iter().flatten() {
                    bucket.put(key, value).map_err(io)?;
                }
            }
        }
        bucket.finish().map_err(io)?;
    }
    let (mut file, image) = writer.finish().map_err(io)?;
    file.sync_data().map_err(io)?;

    // What the disk returns is compared with what it was given.
    let written = Bolt::open(path)?;
    let (sha, crc) = written.digest()?;
    if crc != image.crc || written.image_bytes() != image.bytes {
        return Err(written.damaged(0, "what was read back is not what was written".into()));
    }
    io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(io)?;
    file.write_all(&sha).map_err(io)?;
    file.sync_all().map_err(io)?;
    let bytes = image.bytes + SHA_BYTES;
    Ok(Some(Saved { path: path.to_owned(), bytes, changes, sha }))
}

/// Writes the bucket `key` and returns how many changes it has, or `None` when told to give up.
fn write_changes(
    source: &dyn Source,
    bucket: &mut bolt::Bucket<'_>,
    path: &Path,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<u64>, Fatal> {
    let mut changes = 0;
    let mut failed = None;
    let mut gave_up = false;
    source.changes(&mut |change| {
        let (key, len) = buckets::encode_revision(change.revision, change.tombstone);
        if let Err(error) = bucket.put(&key[..len], change.value) {
            failed = Some(Fatal::io("write", path, error));
            return ControlFlow::Break(());
        }
        changes += 1;
        if changes % PROGRESS_CHANGES == 0 {
            let control = progress(bucket.bytes_written());
            gave_up = control.is_break();
            return control;
        }
        ControlFlow::Continue(())
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok((!gave_up).then_some(changes)),
    }
}

/// The bucket `meta`, in the order of its keys.
fn meta_rows(state: &State) -> Vec<(&'static [u8], Vec<u8>)> {
    let mark = |main| buckets::encode_revision(Revision::new(main, 0), false).0[..17].to_vec();
    let mut rows = Vec::new();
    if let Some((_, membership)) = &state.membership {
        rows.push((meta::CONF_STATE, buckets::conf_state(membership)));
    }
    rows.push((meta::APPLIED_INDEX, state.applied.index.to_be_bytes().to_vec()));
    if let Some(main) = state.compaction_finished {
        rows.push((meta::COMPACTION_FINISHED, mark(main)));
    }
    if let Some((id, membership)) = &state.membership {
        rows.push((meta::MEMBERSHIP, buckets::encode_membership(*id, membership)));
    }
    if let Some(main) = state.compaction_scheduled {
        rows.push((meta::COMPACTION_SCHEDULED, mark(main)));
    }
    rows.push((meta::STORAGE_VERSION, buckets::STORAGE_VERSION.into()));
    rows.push((meta::APPLIED_TERM, state.applied.term.to_be_bytes().to_vec()));
    rows
}
