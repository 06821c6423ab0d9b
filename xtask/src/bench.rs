//! `cargo xtask bench`: builds the measurements in release and runs them.

use anyhow::Result;

use crate::BenchArgs;
use crate::shell;
use crate::workspace::Workspace;

/// Runs the benches' own program; what it measures, and how, is its business.
pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    shell::stage("bench: build in release and measure");
    // The benches start the mesh as users run it: the program beside theirs, which must be that of these sources.
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", "outrigger", "--bin", "outrigger"]);
    shell::run(&mut build, "see the message of the compiler above")?;
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--release", "--package", "outrigger-benches", "--"]);
    if args.quick {
        cargo.arg("--quick");
    }
    shell::run(cargo.args(&args.rest), "see the message of the bench above")
}
