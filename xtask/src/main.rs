//! `cargo xtask`: everything a developer types, in Rust, with no other task runner.
//!
//! It drives cargo and fetches the real programs that the tests run against. It knows no crate of the mesh, so that
//! it builds in seconds and still works while one of them does not compile.

mod bench;
mod checks;
mod counterparts;
mod shell;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::workspace::Workspace;

/// Everything a developer of Outrigger types.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Example: cargo xtask test --filter tidy"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch the real counterparts (Envoy, gRPC, nginx, ...), then run every test of the workspace.
    Test(TestArgs),
    /// Check the format, run the lints with warnings as errors, then the tests.
    Ci(CiArgs),
    /// Measure side by side, in a release build.
    Bench(BenchArgs),
}

/// What `cargo xtask test` can be told.
#[derive(Debug, Default, Args)]
pub(crate) struct TestArgs {
    /// Run the slow tests too.
    #[arg(long)]
    all: bool,
    /// Run only the tests whose name contains this.
    #[arg(long, value_name = "SUBSTRING")]
    filter: Option<String>,
}

#[derive(Debug, Args)]
struct CiArgs {
    /// Run the slow tests too.
    #[arg(long)]
    all: bool,
}

/// What `cargo xtask bench` can be told.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Fewer and shorter rounds: enough to see that it works, not enough to quote.
    #[arg(long)]
    quick: bool,
    /// Further arguments, passed on as they are: `--scenario s1,s4`, `--rounds N`, `--out FILE`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::locate()?;
    match task {
        Task::Test(args) => test::run(&workspace, &args),
        Task::Ci(args) => {
            checks::format(&workspace)?;
            checks::lints(&workspace)?;
            test::run(&workspace, &TestArgs { all: args.all, filter: None })
        }
        Task::Bench(args) => bench::run(&workspace, &args),
    }
}
