//! `outrigger-benches`: what a request through the sidecar costs, side by side with others on the same work.
//!
//! One program plays every part but the mesh's own: it leads the measurement (`rounds.rs`), and as a child process of
//! itself it is the origin, the load, and the byte relay that shows the floor. Figures are compared within one run on
//! one machine only. It knows the mesh as its users do: by command line, YAML and what the kernel says of its processes.

mod account;
mod contender;
mod cores;
mod descriptors;
mod figures;
mod fleet;
mod latencies;
mod load;
mod machine;
mod measure;
mod measurement;
mod memory;
mod origin;
mod poll;
mod process;
mod relay;
mod report;
mod rounds;
mod scenario;
mod sheet;
mod site;
mod targets;
mod versions;
mod wire;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use outrigger_base::lifecycle::signals::signals;

use crate::rounds::Plan;
use crate::scenario::Scenario;
use crate::site::Site;

const EXAMPLE: &str = "Example: outrigger-benches --scenario s1,s4 --quick --out report.md";

/// Measures the sidecar side by side with others, on this machine.
#[derive(Debug, Parser)]
#[command(name = "outrigger-benches", version, after_help = EXAMPLE, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    measure: MeasureArgs,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Args)]
struct MeasureArgs {
    /// What to measure, separated by commas; everything unless given
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Two short rounds: enough to see that it works, not enough to quote
    #[arg(long)]
    quick: bool,
    /// How often every contender has its turn [default: 5, or 2 with --quick]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroU32>,
    /// Write the report to this file, its charts beside it [default: benches/REPORT.md for everything in full,
    /// else target/bench/REPORT.md]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The parts this program plays as a child of itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// Answers every request with a body of one size
    #[command(hide = true)]
    Origin(origin::Args),
    /// Asks as fast as answers come, over a fixed number of connections
    #[command(hide = true)]
    Load(load::Args),
    /// Copies bytes from one connection to another: the floor
    #[command(hide = true)]
    Relay(relay::Args),
    /// Measures the control plane alone and prints the outcome as JSON
    #[command(hide = true)]
    Fleet(fleet::FleetPlan),
    /// Is all the proxies of a control plane, and changes its configuration
    #[command(hide = true)]
    FleetProxies(fleet::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread for every part, since each has one core or a share of one. What a request passes has no runtime at all.
fn run(cli: Cli) -> Result<()> {
    match &cli.part {
        Some(Part::Origin(args)) => return origin::serve(args),
        Some(Part::Load(args)) => return load::generate(args),
        Some(Part::Relay(args)) => return relay::serve(args),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no runtime can be started")?.block_on(async {
        match cli.part {
            Some(Part::Origin(_) | Part::Load(_) | Part::Relay(_)) => Ok(()),
            Some(Part::Fleet(plan)) => fleet::show(plan).await,
            Some(Part::FleetProxies(args)) => fleet::drive(args).await,
            None => until_signal(cli.measure).await,
        }
    })
}

/// A signal ends the measurement where it is; what it started ends with it.
async fn until_signal(args: MeasureArgs) -> Result<()> {
    let mut signals = signals().context("signals cannot be received")?;
    tokio::select! {
        result = measure(args) => result,
        signal = signals.next() => bail!("ended by {signal} before there was a report"),
    }
}

async fn measure(args: MeasureArgs) -> Result<()> {
    let plan = plan(&args);
    contender::ensure_there(&plan.scenarios)?;
    let site = Site::prepare()?;
    let file = report::file(&plan, args.out.as_deref(), &site.benches);
    let machine = machine::describe(&plan.scenarios, &site);
    let sheet = measurement::run(&plan, &site).await?;
    let report = report::make(&plan, &machine, &sheet);
    println!("{}", report.markdown);
    report::write(&report, &file)?;
    eprintln!("targets: {} The report is {}", report::tally(&sheet, &plan), file.display());
    match sheet.empty().next() {
        Some(empty) => bail!("{} has no valid round of {}", empty.contender, empty.scenario),
        None => Ok(()),
    }
}

fn plan(args: &MeasureArgs) -> Plan {
    let mut plan = if args.quick { Plan::quick() } else { Plan::full() };
    if !args.scenario.is_empty() {
        plan.scenarios = Scenario::ALL.into_iter().filter(|known| args.scenario.contains(known)).collect();
    }
    if let Some(rounds) = args.rounds {
        plan.rounds = rounds.get();
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(line: &str) -> Plan {
        plan(&Cli::try_parse_from(line.split(' ')).unwrap().measure)
    }

    #[test]
    fn flags_make_the_plan() {
        assert_eq!(plan_of("outrigger-benches"), Plan::full());
        assert_eq!(plan_of("outrigger-benches --quick"), Plan::quick());
        let plan = plan_of("outrigger-benches --quick --scenario s4,s1,s4 --rounds 7");
        assert_eq!((plan.scenarios, plan.rounds), (vec![Scenario::S1, Scenario::S4], 7));
        assert!(Cli::try_parse_from(["outrigger-benches", "--rounds", "0"]).is_err());
        assert!(Cli::try_parse_from(["outrigger-benches", "--scenario", "s99"]).is_err());
    }
}
