//! `cargo xtask generate`: the files under `deploy/` that are made of code.
//!
//! What they hold is the business of `outrigger install`; the test that compares them writes them when it is told to.

use anyhow::Result;

use crate::shell;
use crate::workspace::Workspace;

/// The test that knows the files.
const TEST: &str = "install::generated::files_under_deploy_are_what_would_be_generated";

/// Writes the files.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    shell::stage("generate");
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--quiet", "--package", "outrigger", "--bin", "outrigger", "--", "--exact", TEST]);
    shell::run(cargo.env("OUTRIGGER_GENERATE", "1"), "see the message above")
}
