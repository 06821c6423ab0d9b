//! The checks that need no test run: format and lints.

use anyhow::Result;

use crate::shell;
use crate::workspace::Workspace;

/// Fails when a file is not formatted as `rustfmt.toml` says.
pub(crate) fn format(workspace: &Workspace) -> Result<()> {
    shell::stage("format");
    shell::run(workspace.cargo().args(["fmt", "--all", "--check"]), "run `cargo fmt --all`")
}

/// Fails on any warning of the compiler or of clippy.
pub(crate) fn lints(workspace: &Workspace) -> Result<()> {
    shell::stage("lints");
    let mut cargo = workspace.cargo();
    // `-D warnings` goes to clippy alone: RUSTFLAGS would compile every dependency once more.
    cargo.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    shell::run(&mut cargo, "mend what clippy names above")
}
