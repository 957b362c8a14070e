//! `completion`: a script that teaches a shell kvutl's commands and flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::print;

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  source <(kvutl completion bash)
  kvutl completion zsh > \"${fpath[1]}/_kvutl\"
  kvutl completion fish > ~/.config/fish/completions/kvutl.fish")]
pub(crate) struct Completion {
    /// Shell to write the script for
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "kvutl", &mut script);
        print::data(&String::from_utf8_lossy(&script))
    }
}
