//! `completion`: a script that teaches a shell kvctl's commands and flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::print;

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  source <(kvctl completion bash)
  kvctl completion zsh > \"${fpath[1]}/_kvctl\"
  kvctl completion fish > ~/.config/fish/completions/kvctl.fish")]
pub(crate) struct Completion {
    /// Shell to write the script for
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "kvctl", &mut script);
        print::data(&script)
    }
}
