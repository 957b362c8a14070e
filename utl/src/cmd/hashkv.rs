//! `hashkv`: the hash that `endpoint hashkv` would print for the member that the file comes from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use store::engine::{Engine, MemoryEngine};
use store::mvcc::{self, Step, Store, StoreOptions};
use store::snapshot::{self, Checksum};
use store::{Fatal, ReadError};

use crate::failure::{Exit, Failure};
use crate::format::{Answer, Format};
use crate::print;

#[derive(Args, Debug)]
#[command(after_help = "The file's content is held in memory meanwhile.

Examples:
  kvutl hashkv backup.db
  kvutl hashkv backup.db --rev 100 -w json")]
pub(crate) struct HashKv {
    /// Snapshot of kvd's or etcd's, or the database file of an etcd that does not run
    file: PathBuf,
    /// Maximum revision to hash (default: latest revision)
    #[arg(long, default_value = "0", allow_negative_numbers = true, hide_default_value = true)]
    rev: i64,
}

impl HashKv {
    pub(super) fn run(self, write_out: &str) -> Result<(), Failure> {
        let format = Format::parse(write_out)?;
        let hash = hash(&self.file, self.rev).map_err(|error| match error {
            ReadError::Fatal(fatal) => Failure::of_files(&fatal),
            ReadError::Refused(refusal) => Failure::new(
                Exit::Error,
                format!(
                    "cannot hash {} at revision {}: {refusal}; 'kvutl snapshot status' \
                    tells the newest",
                    self.file.display(),
                    self.rev
                ),
            ),
        })?;
        print::data(&format.render(&Found::from(hash)))
    }
}

fn hash(file: &Path, revision: i64) -> Result<mvcc::HashKv, ReadError> {
    let store = load(file)?;
    let mut read = store.hash_kv(revision)?;
    loop {
        if let Step::Done(hash) = read.step()? {
            return Ok(hash);
        }
    }
}

/// The file's content as a member would hold it.
fn load(file: &Path) -> Result<Arc<Store>, Fatal> {
    let mut opened = snapshot::Snapshot::open(file, Checksum::Skip)?;
    if opened.has_checksum() {
        opened = snapshot::Snapshot::open(file, Checksum::Verify)?;
    }
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    snapshot::load(&opened, &engine)?;
    Ok(Store::open(engine, StoreOptions::default())?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    hash: u32,
    hash_revision: i64,
    compact_revision: i64,
}

impl From<mvcc::HashKv> for Found {
    fn from(found: mvcc::HashKv) -> Self {
        let mvcc::HashKv { hash, compact_revision, hash_revision } = found;
        Self { hash, hash_revision, compact_revision }
    }
}

impl Answer for Found {
    fn cells(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HASH", self.hash.to_string()),
            ("HASH REVISION", self.hash_revision.to_string()),
            ("COMPACT REVISION", self.compact_revision.to_string()),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Hash", self.hash.to_string()),
            ("Hash revision", self.hash_revision.to_string()),
            ("Compact revision", self.compact_revision.to_string()),
        ]
    }
}
