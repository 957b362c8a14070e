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

/// So many rows, or bytes, lie between two reports of progress.
const PROGRESS_ROWS: u64 = 1024;
const PROGRESS_BYTES: u64 = 1 << 20;

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
    let mut pace = Pace { progress, rows: 0, bytes: 0 };
    for name in names {
        let mut rows = Rows { bucket: writer.bucket(name.as_bytes()), path, pace: &mut pace };
        let control = match name {
            buckets::KEY => write_changes(source, &mut rows, &mut changes)?,
            buckets::META => {
                let table = meta_rows(&state);
                rows.put_all(table.iter().map(|(key, value)| (*key, &value[..])))?
            }
            buckets::LEASE => {
                let table = state.leases.iter().map(|lease| lease.to_bucket());
                rows.put_all(table)?
            }
            _ => rows.put_all(state.tables.get(name).into_iter().flatten())?,
        };
        if control.is_break() {
            return Ok(None);
        }
        rows.bucket.finish().map_err(io)?;
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

/// When progress was reported last.
struct Pace<'a> {
    progress: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    rows: u64,
    bytes: u64,
}

/// A bucket being written, at a pace.
struct Rows<'a, 'b> {
    bucket: bolt::Bucket<'a>,
    path: &'a Path,
    pace: &'a mut Pace<'b>,
}

impl Rows<'_, '_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<ControlFlow<()>, Fatal> {
        self.bucket.put(key, value).map_err(|source| Fatal::io("write", self.path, source))?;
        let (pace, bytes) = (&mut *self.pace, self.bucket.bytes_written());
        pace.rows += 1;
        if pace.rows < PROGRESS_ROWS && bytes - pace.bytes < PROGRESS_BYTES {
            return Ok(ControlFlow::Continue(()));
        }
        (pace.rows, pace.bytes) = (0, bytes);
        Ok((pace.progress)(bytes))
    }

    fn put_all<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<ControlFlow<()>, Fatal> {
        for (key, value) in rows {
            if self.put(key.as_ref(), value.as_ref())?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Writes the bucket `key`, counting its changes.
fn write_changes(
    source: &dyn Source,
    rows: &mut Rows<'_, '_>,
    changes: &mut u64,
) -> Result<ControlFlow<()>, Fatal> {
    let mut control = Ok(ControlFlow::Continue(()));
    source.changes(&mut |change| {
        let (key, len) = buckets::encode_revision(change.revision, change.tombstone);
        *changes += 1;
        control = rows.put(&key[..len], change.value);
        match control {
            Ok(control) => control,
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    control
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
