//! `outrigger completion SHELL`.

use clap_complete::Shell;

/// Prints a completion script for a shell.
#[derive(clap::Args)]
#[command(after_help = "Example: outrigger completion bash > /etc/bash_completion.d/outrigger")]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn main(args: &Args, command: &mut clap::Command) {
    clap_complete::generate(args.shell, command, "outrigger", &mut std::io::stdout());
}
