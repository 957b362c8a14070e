//! `snapshot status`: what is in a snapshot file, once all of it has been read and checked.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use store::snapshot::Status;

use crate::failure::{Exit, Failure};
use crate::format::{Answer, Format, humanize_bytes};
use crate::print;

#[derive(Args, Debug)]
#[command(infer_subcommands = true)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Gets backend snapshot status of a given file
    ///
    /// With --write-out simple, the line has these items: hash, revision, total keys, total size,
    /// version. The whole file is read; its checksum and structure are checked.
    #[command(
        override_usage = "kvutl snapshot status [OPTIONS] FILE",
        after_help = "Examples:
  kvutl snapshot status backup.db
  kvutl snapshot status default.kvd/snap/*.snap.db -w table"
    )]
    Status {
        /// Snapshot of kvd's or etcd's, or the database file of an etcd that does not run
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl Snapshot {
    pub(super) fn run(self, write_out: &str) -> Result<(), Failure> {
        let What::Status { files } = self.what;
        let [file] = &files[..] else {
            let message = "snapshot status requires exactly one argument; name one snapshot file";
            return Err(Failure::new(Exit::BadArguments, message));
        };
        let format = Format::parse(write_out)?;
        let status = Status::of(file).map_err(|fatal| Failure::of_files(&fatal))?;
        print::data(&format.render(&Found::from(status)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    hash: u32,
    revision: i64,
    total_key: u64,
    total_size: u64,
    version: String,
}

impl From<Status> for Found {
    fn from(status: Status) -> Self {
        Self {
            hash: status.hash,
            revision: status.revision,
            total_key: status.live_keys,
            total_size: status.image_bytes,
            version: status.storage_version,
        }
    }
}

impl Answer for Found {
    fn cells(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HASH", format!("{:x}", self.hash)),
            ("REVISION", self.revision.to_string()),
            ("TOTAL KEYS", self.total_key.to_string()),
            ("TOTAL SIZE", humanize_bytes(self.total_size)),
            ("VERSION", self.version.clone()),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Hash", self.hash.to_string()),
            ("Revision", self.revision.to_string()),
            ("Keys", self.total_key.to_string()),
            ("Size", self.total_size.to_string()),
            ("Version", self.version.clone()),
        ]
    }
}
