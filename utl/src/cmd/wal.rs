//! `wal verify`: whether a member could start from the log in its data directory, without starting it.
//!
//! The log is opened by the code with which a member opens it, on a disk that keeps what the opening
//! writes in memory, and then read from its first entry to its last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use store::datadir::DataDir;
use store::wal::{Wal as Log, WalOptions};
use store::{Fatal, LogId};

use crate::failure::{Exit, Failure, cannot};
use crate::format::{Answer, Format, humanize_bytes};
use crate::overlay::Overlay;
use crate::print;

/// Entries read at a time.
const STEP_BYTES: usize = 4 << 20;

#[derive(Args, Debug)]
#[command(infer_subcommands = true)]
pub(crate) struct Wal {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Reads the whole log and checks every entry; changes nothing in it
    ///
    /// The member must not run. With --write-out simple, the line has these items: first index, last
    /// index, last term, entries, size of the entries, bytes of an unfinished write at the end (which
    /// the next start cuts off; nothing in it was acknowledged).
    #[command(after_help = "Examples:
  kvutl wal verify default.kvd
  kvutl wal verify default.kvd -w table")]
    Verify {
        /// kvd's --data-dir
        data_dir: PathBuf,
    },
}

impl Wal {
    pub(super) fn run(self, write_out: &str) -> Result<(), Failure> {
        let What::Verify { data_dir } = self.what;
        let format = Format::parse(write_out)?;
        print::data(&format.render(&verify(&data_dir)?))
    }
}

fn verify(path: &Path) -> Result<Found, Failure> {
    // Opening a directory would make it a data directory.
    let version = path.join("VERSION");
    if let Err(error) = std::fs::metadata(path).and_then(|_| std::fs::metadata(&version)) {
        let why = cannot("open", &version, &error);
        let message = format!("{} is no data directory of kvd: {why}", path.display());
        return Err(Failure::new(Exit::Error, message));
    }
    let dir = DataDir::open(path).map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    read(&dir.wal()).map_err(|fatal| Failure::of_files(&fatal))?.ok_or_else(|| {
        let message = format!(
            "{} holds no log; a member that has run has one: restore the directory or the member",
            dir.wal().display()
        );
        Failure::new(Exit::Error, message)
    })
}

/// Opens and reads the log. `None` if there is none.
fn read(dir: &Path) -> Result<Option<Found>, Fatal> {
    // Nothing written here can fail: it goes to memory.
    let options = WalOptions { fsync: false, cache_bytes: 0, ..WalOptions::new(|_| {}) };
    let (log, recovered) = Log::open(Arc::new(Overlay::default()), dir, options)?;
    if recovered.created {
        return Ok(None);
    }
    let purged = recovered.purged.unwrap_or_default();
    let last = recovered.last.unwrap_or(purged);
    let mut found = Found {
        first_index: purged.index + 1,
        last_index: last.index,
        last_term: last.term,
        unfinished_bytes: recovered.cut_bytes,
        ..Found::default()
    };
    let mut next = found.first_index;
    while next <= last.index {
        let entries = log.read(next, last.index + 1, STEP_BYTES)?;
        for (LogId { index, .. }, payload) in &entries {
            found.entries += 1;
            found.bytes += payload.len() as u64;
            next = index + 1;
        }
    }
    log.close();
    Ok(Some(found))
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    first_index: u64,
    last_index: u64,
    last_term: u64,
    entries: u64,
    bytes: u64,
    unfinished_bytes: u64,
}

impl Answer for Found {
    fn cells(&self) -> Vec<(&'static str, String)> {
        vec![
            ("FIRST INDEX", self.first_index.to_string()),
            ("LAST INDEX", self.last_index.to_string()),
            ("LAST TERM", self.last_term.to_string()),
            ("ENTRIES", self.entries.to_string()),
            ("SIZE", humanize_bytes(self.bytes)),
            ("UNFINISHED BYTES", self.unfinished_bytes.to_string()),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("FirstIndex", self.first_index.to_string()),
            ("LastIndex", self.last_index.to_string()),
            ("LastTerm", self.last_term.to_string()),
            ("Entries", self.entries.to_string()),
            ("Bytes", self.bytes.to_string()),
            ("UnfinishedBytes", self.unfinished_bytes.to_string()),
        ]
    }
}
