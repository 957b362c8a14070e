//! What commands have in common: the seed, the servers that they start, the runtime of clients.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use harness::{ClusterOptions, NodeOptions};
use tokio::runtime::Runtime;

use crate::print::progress;

// Not a doc comment: clap would take it for the command's.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Makes all random choices the same as in another run [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// The server's binary, instead of the one built beside this one
    #[arg(long)]
    program: Option<PathBuf>,
    /// A further flag for the servers; may be repeated
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    server_arg: Vec<String>,
}

impl Common {
    /// The seed of this run, which is said before anything can fail.
    pub(crate) fn seed(&self, command: &str) -> u64 {
        let seed = self.seed.unwrap_or_else(rand::random);
        progress(&format!("{command}: seed {seed}"));
        seed
    }

    pub(crate) fn node(&self, mut options: NodeOptions) -> NodeOptions {
        options.program.clone_from(&self.program);
        options.args.extend(self.server_arg.iter().cloned());
        options
    }

    pub(crate) fn cluster(&self, mut options: ClusterOptions) -> ClusterOptions {
        options.program.clone_from(&self.program);
        options.args.extend(self.server_arg.iter().cloned());
        options
    }
}

pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
