//! The commands, one a file: each reads its files and hands what it found to `print`.

mod completion;
mod hashkv;
mod snapshot;
mod version;
mod wal;

use clap::Subcommand;

use crate::failure::Failure;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Looks at snapshot files
    Snapshot(snapshot::Snapshot),
    /// Prints the KV history hash of a given file
    Hashkv(hashkv::HashKv),
    /// Looks at the log in a data directory
    Wal(wal::Wal),
    /// Prints the version of kvutl
    Version,
    /// Generates a completion script for a shell
    Completion(completion::Completion),
}

impl Command {
    pub(crate) fn run(self, write_out: &str) -> Result<(), Failure> {
        match self {
            Self::Snapshot(command) => command.run(write_out),
            Self::Hashkv(command) => command.run(write_out),
            Self::Wal(command) => command.run(write_out),
            Self::Version => version::run(),
            Self::Completion(command) => command.run(),
        }
    }
}
