//! The commands, one a file: each turns its arguments into a request, makes the call, and hands the
//! answer to `print`.
//!
//! Arguments are checked in etcdctl's order: first the command's own (exit code 128), then the global
//! ones, and only then is a connection made.

pub(crate) mod alarm;
pub(crate) mod auth;
mod auth_call;
pub(crate) mod compaction;
pub(crate) mod completion;
pub(crate) mod defrag;
pub(crate) mod del;
pub(crate) mod downgrade;
pub(crate) mod elect;
pub(crate) mod endpoint;
pub(crate) mod get;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod member;
pub(crate) mod move_leader;
pub(crate) mod put;
pub(crate) mod role;
pub(crate) mod txn;
pub(crate) mod user;
pub(crate) mod version;
pub(crate) mod watch;

use clap::{CommandFactory, Subcommand};

use crate::failure::Failure;
use crate::options::GlobalArgs;
use crate::print;

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
    /// Lease related commands: grant, revoke, timetolive, list, keep-alive
    Lease(lease::Lease),
    /// Endpoint related commands: health, status, hashkv
    Endpoint(endpoint::Endpoint),
    /// Membership related commands: list, add, remove, update, promote
    Member(member::Member),
    /// Alarm related commands: list, disarm
    Alarm(alarm::Alarm),
    /// Defragments the storage of the members with given endpoints
    Defrag(defrag::Defrag),
    /// Downgrade related commands: validate, enable, cancel
    Downgrade(downgrade::Downgrade),
    /// Transfers leadership to another member of the cluster
    MoveLeader(move_leader::MoveLeader),
    /// Enable or disable authentication
    Auth(auth::Auth),
    /// User related commands: add, delete, get, list, passwd, grant-role, revoke-role
    User(user::User),
    /// Role related commands: add, delete, get, list, grant-permission, revoke-permission
    Role(role::Role),
    /// Acquires a named lock
    Lock(lock::Lock),
    /// Observes and participates in leader election
    Elect(elect::Elect),
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
            Self::Lease(command) => command.run(globals).await,
            Self::Endpoint(command) => command.run(globals).await,
            Self::Member(command) => command.run(globals).await,
            Self::Alarm(command) => command.run(globals).await,
            Self::Defrag(command) => command.run(globals).await,
            Self::Downgrade(command) => command.run(globals).await,
            Self::MoveLeader(command) => command.run(globals).await,
            Self::Auth(command) => command.run(globals).await,
            Self::User(command) => command.run(globals).await,
            Self::Role(command) => command.run(globals).await,
            Self::Lock(command) => command.run(globals).await,
            Self::Elect(command) => command.run(globals).await,
            Self::Version => version::run(),
            Self::Completion(command) => command.run(),
        }
    }
}

/// What a command that only has subcommands prints without one.
fn help(command: &str) -> Result<(), Failure> {
    let mut all = crate::Cli::command();
    all.build();
    let help = all.find_subcommand_mut(command).map(clap::Command::render_help);
    print::data(help.unwrap_or_default().to_string().as_bytes())
}

/// etcdctl ignores arguments of commands that take none, and so must kvctl; but it says so.
fn note_ignored(args: &[String], advice: &str) {
    if !args.is_empty() {
        print::note(&format!("kvctl: warning: ignored: {}; {advice}", args.join(" ")));
    }
}

/// An integer flag, as Go's flag package reads it (`0x10` is 16).
fn int(text: &str) -> Result<i64, String> {
    crate::go::parse_int(text, 0)
}
