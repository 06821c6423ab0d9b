//! `outrigger-gate`: how many instructions the sidecar spends on one request, held to what the repository says.
//!
//! The sidecar is the program that users run, configured by the real control plane, and it runs under Valgrind's
//! callgrind, which counts every instruction of the process. Time on a shared machine says little about a change of a few
//! percent; instructions say the same thing every time. The kernel's share is not in the count, and neither is what a cache
//! miss costs: that is for the benches. This program knows the mesh as users do: by command line, YAML and traffic.

mod asker;
mod callgrind;
mod child;
mod mesh;
mod numbers;
mod origin;
mod scenario;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use outrigger_base::lifecycle::signals::signals;

use crate::asker::Asker;
use crate::mesh::{Mesh, Programs};
use crate::numbers::{Numbers, Verdict};
use crate::scenario::Scenario;

const EXAMPLE: &str = "Example: outrigger-gate --scenario one-hop-http1 --requests 4000";

/// Asked before anything is counted: until connections are open, handles looked up and caches filled.
const WARM_UP: u32 = 300;

/// Counts the instructions of the sidecar for one request and compares them with benches/gate.toml.
#[derive(Debug, Parser)]
#[command(name = "outrigger-gate", version, after_help = EXAMPLE)]
struct Args {
    /// What to count, separated by commas; everything unless given
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Write what was counted to the file of numbers instead of failing
    #[arg(long)]
    bless: bool,
    /// Requests that are counted
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// The file of numbers
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/gate.toml"))]
    numbers: PathBuf,
    /// Where profiles are kept for a closer look
    #[arg(long, value_name = "DIR", default_value = "target/gate")]
    keep: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-gate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let counted = runtime.context("no runtime can be started")?.block_on(until_signal(args))?;
    if args.bless {
        return bless(args, &counted);
    }
    let known = Numbers::read(&args.numbers)?;
    let verdicts = counted.iter().map(|(name, count)| (name, *count, Verdict::of(known.get(name), *count)));
    let mut failures = 0;
    for (name, count, verdict) in verdicts {
        println!("{}", verdict.describe(name, count, &args.keep));
        failures += u32::from(verdict.fails());
    }
    match failures {
        0 => Ok(()),
        1 => bail!("one path costs more than {} allows", args.numbers.display()),
        n => bail!("{n} paths cost more than {} allows", args.numbers.display()),
    }
}

/// Leaves the numbers of what was not counted as they are.
fn bless(args: &Args, counted: &Numbers) -> Result<()> {
    let mut numbers = if args.numbers.exists() { Numbers::read(&args.numbers)? } else { Numbers::default() };
    for (name, count) in counted.iter() {
        let before = numbers.set(name, *count);
        let before = before.map(|before| format!(", {before} before")).unwrap_or_default();
        println!("{name}: {count} instructions per request{before}");
    }
    numbers.write(&args.numbers)?;
    println!("written to {}: say in the commit message what changed them", args.numbers.display());
    Ok(())
}

/// A signal ends the count where it is; what was started ends with it.
async fn until_signal(args: &Args) -> Result<Numbers> {
    let mut signals = signals().context("signals cannot be received")?;
    tokio::select! {
        counted = count_all(args) => counted,
        signal = signals.next() => bail!("ended by {signal} before everything was counted"),
    }
}

async fn count_all(args: &Args) -> Result<Numbers> {
    callgrind::check()?;
    fs::create_dir_all(&args.keep).with_context(|| format!("cannot make {}", args.keep.display()))?;
    let programs = programs()?;
    let mut counted = Numbers::default();
    for scenario in
        Scenario::ALL.into_iter().filter(|s| args.scenario.is_empty() || args.scenario.contains(s))
    {
        eprintln!("== gate: {scenario}, {}", scenario.title());
        let count = count(scenario, &programs, args).await;
        let count = count.with_context(|| format!("{scenario} could not be counted"))?;
        counted.set(&scenario.to_string(), count);
    }
    Ok(counted)
}

/// The programs beside this one: what is counted must be of the same sources and profile.
fn programs() -> Result<Programs> {
    let me = env::current_exe().context("the path of this program is not known")?;
    let programs =
        Programs { outrigger: me.with_file_name("outrigger"), proxy: me.with_file_name("outrigger-proxy") };
    for program in [&programs.outrigger, &programs.proxy] {
        if !program.is_file() {
            bail!("there is no {}: start this as `cargo xtask gate`, which builds it", program.display());
        }
    }
    Ok(programs)
}

/// The instructions of one request, over all threads of the proxy that is looked at.
async fn count(scenario: Scenario, programs: &Programs, args: &Args) -> Result<u64> {
    let mesh = Mesh::start(scenario, programs).await?;
    let mut asker = Asker::connect(mesh.entry(), scenario).await?;
    let profiled = mesh.profiled();
    profiled.begin().await?;
    asker.ask(WARM_UP).await?;
    profiled.forget().await?;
    asker.ask(args.requests).await?;
    let dump = profiled.dump().await?;
    let text = fs::read_to_string(&dump).with_context(|| format!("cannot read {}", dump.display()))?;
    let total = callgrind::total(&text).with_context(|| format!("{} is not understood", dump.display()))?;
    let kept = args.keep.join(format!("{scenario}.callgrind"));
    fs::copy(&dump, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(total / u64::from(args.requests))
}
