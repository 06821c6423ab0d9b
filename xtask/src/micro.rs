//! `cargo xtask bench --micro`: single steps of a request, each alone, in a minute.

use anyhow::Result;

use crate::shell;
use crate::workspace::Workspace;

/// Runs the micro benches; they need nothing but Rust.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    shell::stage("bench: single steps of a request");
    let mut cargo = workspace.cargo();
    cargo.args(["bench", "--package", "outrigger-benches", "--bench", "micro"]);
    shell::run(&mut cargo, "see the message of the compiler or of the bench above")
}
