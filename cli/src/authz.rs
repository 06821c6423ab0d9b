//! `outrigger authz`: who may call, asked of YAML files (`check`) and learned from traffic (`learn`).

use std::process::ExitCode;

mod check;
mod learn;

/// Says what AuthorizationPolicies decide, and turns observed traffic into policies to review.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Says whether a request would be let in, and by which policy and rule, from YAML files alone.
    Check(check::Args),
    /// Turns access logs and metrics of sidecars into Allow policies to review.
    Learn(learn::Args),
}

/// Exits with 0 when it could answer as expected, with 1 when the answer is another one, with 2 when there is none.
pub(crate) fn main(args: &Args) -> ExitCode {
    let answered = match &args.command {
        Command::Check(args) => check::main(args),
        Command::Learn(args) => learn::main(args).map(|()| true),
    };
    match answered {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::from(2)
        }
    }
}
