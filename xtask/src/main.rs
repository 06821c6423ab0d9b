//! `cargo xtask`: everything a developer types, in Rust, with no other task runner.
//!
//! It drives cargo and fetches the real programs that the tests run against. It knows no crate of the mesh, so that
//! it builds in seconds and still works while one of them does not compile.

mod bench;
mod checks;
mod counterparts;
mod gate;
mod generate;
mod micro;
mod shell;
mod test;
mod workspace;

use std::num::NonZeroU32;
use std::path::PathBuf;
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
    /// Fetch the peers (Envoy, nginx, HAProxy), build in release, and measure side by side.
    Bench(BenchArgs),
    /// Count the instructions of one request, and fail when they are more than 5 % above benches/gate.toml.
    Gate(GateArgs),
    /// Write the files under deploy/ that are made of code: CRDs, rights and manifests.
    Generate,
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
#[derive(Debug, Default, Args)]
#[command(after_help = "Example: cargo xtask bench --scenario s1,s4 --quick\n\n\
    Everything in full writes benches/REPORT.md; any part of it writes target/bench/REPORT.md.")]
pub(crate) struct BenchArgs {
    /// What to measure, separated by commas (s1, s4-rate, s7x, ...); everything unless given.
    #[arg(long, value_name = "NAMES")]
    scenario: Option<String>,
    /// Two short rounds: enough to see that it works, not enough to quote.
    #[arg(long)]
    quick: bool,
    /// How often every contender has its turn [default: 5, or 2 with --quick].
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroU32>,
    /// Write the report to this file, and its charts to the directory `charts` beside it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Measure single steps of a request instead (route match, sniff, pick, codec, record), without peers.
    #[arg(long, conflicts_with_all = ["scenario", "quick", "rounds", "out"])]
    micro: bool,
}

/// What `cargo xtask gate` can be told.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask gate --scenario one-hop-http1")]
pub(crate) struct GateArgs {
    /// What to count, separated by commas (one-hop-http1, pair-client-http1, ...); everything unless given.
    #[arg(long, value_name = "NAMES")]
    scenario: Option<String>,
    /// Write what was counted to benches/gate.toml; the commit says what changed the numbers.
    #[arg(long)]
    bless: bool,
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
        Task::Bench(args) if args.micro => micro::run(&workspace),
        Task::Bench(args) => bench::run(&workspace, &args),
        Task::Gate(args) => gate::run(&workspace, &args),
        Task::Generate => generate::run(&workspace),
    }
}
