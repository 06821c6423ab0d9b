//! The stand-alone binary `outrigger-control-plane`.

use std::process::ExitCode;

use clap::Parser;
use outrigger_base::flags::not_run;
use outrigger_control_plane::run::{self, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Configures every proxy over xDS, signs certificates, reports status.
#[derive(Debug, Parser)]
#[command(
    name = "outrigger-control-plane",
    version,
    after_help = "Example: outrigger-control-plane --config deploy/examples/bookstore"
)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run::run_blocking(cli.options),
        Err(error) => not_run(&error, "outrigger-control-plane"),
    }
}
