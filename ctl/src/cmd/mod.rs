//! The commands, one a file: each turns its arguments into a request, makes the call, and hands the
//! answer to `print`.
//!
//! Arguments are checked in etcdctl's order: first the command's own (exit code 128), then the global
//! ones, and only then is a connection made.

pub(crate) mod compaction;
pub(crate) mod completion;
pub(crate) mod del;
pub(crate) mod endpoint;
pub(crate) mod get;
pub(crate) mod put;
pub(crate) mod txn;
pub(crate) mod version;
pub(crate) mod watch;

use clap::Subcommand;

use crate::failure::Failure;
use crate::options::GlobalArgs;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Gets the key or a range of keys
    Get(get::Get),
    /// Puts the given key into the store
    Put(put::Put),
    /// Removes the specified key or range of keys [key, range_end)
    Del(del::Del),
    /// Processes several requests in one transaction, read from standard input
    Txn(txn::Txn),
    /// Watches events on keys or prefixes
    Watch(watch::Watch),
    /// Compacts the event history up to a revision
    Compaction(compaction::Compaction),
    /// Endpoint related commands: health, status, hashkv
    Endpoint(endpoint::Endpoint),
    /// Prints the version of kvctl
    Version,
    /// Generates a completion script for a shell
    Completion(completion::Completion),
}

impl Command {
    pub(crate) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        match self {
            Self::Get(command) => command.run(globals).await,
            Self::Put(command) => command.run(globals).await,
            Self::Del(command) => command.run(globals).await,
            Self::Txn(command) => command.run(globals).await,
            Self::Watch(command) => command.run(globals).await,
            Self::Compaction(command) => command.run(globals).await,
            Self::Endpoint(command) => command.run(globals).await,
            Self::Version => version::run(),
            Self::Completion(command) => command.run(),
        }
    }
}

/// An integer flag, as Go's flag package reads it (`0x10` is 16).
fn int(text: &str) -> Result<i64, String> {
    crate::go::parse_int(text, 0)
}
