//! How far the engine's newest log reached at the last flush.
//!
//! sled cannot tell a log that lost its end from one that was never written further. It would go
//! back to an older map of leaves, whose places have been written again since: rows of different
//! times side by side, or a search without an end. So each flush leaves a note of the log's length.
//! It is not synced: an older note asks for less, and the log is never shorter than that.
//!
//! ```text
//! FLUSHED    log id u64 | bytes u64 | crc32    20 bytes
//! ```

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::OpenError;
use super::integrity::{Metadata, damaged, io_error, read};

pub(super) const NAME: &str = "FLUSHED";
const BODY_BYTES: usize = 16;

/// A place in the logs. The beginning of a log that does not exist yet is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flushed {
    pub(super) log: u64,
    pub(super) bytes: u64,
}

impl Flushed {
    /// Where the logs end. Nobody may write to them meanwhile.
    pub(super) fn now(dir: &Path) -> Result<Self, OpenError> {
        let metadata = Metadata::list(&dir.join("metadata"))?;
        let Some(log) = metadata.newest_log() else {
            return Err(damaged(dir, "has no log"));
        };
        let path = metadata.log_path(log);
        let bytes = std::fs::metadata(&path).map_err(io_error("inspect", &path))?.len();
        Ok(Self { log, bytes })
    }

    /// Replaces the note in its place, so that a power failure leaves the old one or the new one.
    pub(super) fn save(self, dir: &Path) -> Result<(), OpenError> {
        let path = dir.join(NAME);
        let mut note = [self.log.to_le_bytes(), self.bytes.to_le_bytes()].concat();
        note.extend(crc32fast::hash(&note).to_le_bytes());
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        file.and_then(|file| file.write_all_at(&note, 0)).map_err(io_error("write", &path))
    }

    pub(super) fn load(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(NAME);
        let note = read(&path)?;
        let number = |at: usize| note.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let (Some(log), Some(bytes)) = (number(0), number(8)) else {
            return Err(damaged(&path, "is too short"));
        };
        if note[BODY_BYTES..] != crc32fast::hash(&note[..BODY_BYTES]).to_le_bytes() {
            return Err(damaged(&path, "fails its checksum"));
        }
        Ok(Self { log, bytes })
    }
}
