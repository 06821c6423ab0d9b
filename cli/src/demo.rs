//! `outrigger demo`: a whole mesh on this machine, with traffic, and four things that happen to it.
//!
//! A control plane on a temporary directory of YAML, workloads on loopback addresses, each behind a sidecar of its own: all child
//! processes of this one binary. Needs no root, no well-known port and no network.

use std::process::ExitCode;
use std::time::Duration;

use outrigger_base::flags::parse_duration;

mod acts;
mod client;
mod files;
mod mesh;
mod process;
mod report;
mod screen;
mod traffic;
mod watch;
mod workload;

/// Starts a whole mesh on this machine and shows what it does when things change and break.
#[derive(clap::Args)]
#[command(
    after_help = "Example: outrigger demo --duration 20s -o json",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// How long traffic runs; at least 10s. Without it the demo goes on after its acts until Ctrl-C.
    #[arg(long, env = "OUTRIGGER_DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Requests a second through the whole chain.
    #[arg(long, env = "OUTRIGGER_RATE", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// A live table for people, or one JSON object at the end.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::Subcommand)]
enum Part {
    /// One of the demo's own applications.
    #[command(hide = true)]
    Workload(workload::Args),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

/// The shortest run in which every act has its time.
const SHORTEST: Duration = Duration::from_secs(10);

pub(crate) fn main(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error).context("the runtime does not start")),
    };
    match args.part {
        Some(Part::Workload(workload)) => finish(runtime.block_on(workload::serve(workload)).map(|()| true)),
        None if args.duration.is_some_and(|duration| duration < SHORTEST) => {
            eprintln!("outrigger: --duration is at least 10s, so that every act has its time");
            ExitCode::from(2)
        }
        None => finish(runtime.block_on(run(&args))),
    }
}

fn finish(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("outrigger: {error:#}");
    ExitCode::FAILURE
}

/// Runs the demo. Gives whether every act went as it should.
async fn run(args: &Args) -> anyhow::Result<bool> {
    let mut signals = outrigger_base::lifecycle::signals::signals()?;
    let mesh = tokio::select! {
        mesh = mesh::Mesh::start() => mesh?,
        _ = signals.next() => return Ok(true),
    };
    let traffic = traffic::Traffic::start(mesh.entrance(), args.rate);
    let screen = screen::Screen::new(args.output == Output::Table);
    let mut show = acts::Show::new(mesh, traffic, screen);
    tokio::select! {
        report = show.run(args.duration) => {
            let report = report?;
            show.print(&report, args.output == Output::Json)?;
            Ok(report.ok())
        }
        _ = signals.next() => Ok(true),
    }
}
