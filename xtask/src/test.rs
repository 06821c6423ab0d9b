//! `cargo xtask test`: counterparts, programs, tests, and one closing line that says what ran.

mod tally;

use std::io::{self, BufRead, BufReader, Write};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::test::tally::Tally;
use crate::workspace::Workspace;
use crate::{TestArgs, counterparts, shell};

/// Tells the tests that a counterpart that is missing is a failure.
const REQUIRE: &str = "OUTRIGGER_REQUIRE_COUNTERPARTS";
/// Tells the tests that the programs of the workspace are built already.
const PROGRAMS_BUILT: &str = "OUTRIGGER_PROGRAMS_BUILT";
/// Tells the tests to run what is slow too.
const ALL: &str = "OUTRIGGER_TEST_ALL";

/// Fetches what is missing, builds, tests, and says on the last line what ran.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    let started = Instant::now();
    let mut versions = counterparts::fetch(workspace)?;
    if args.all {
        versions = format!("{versions}; {}", counterparts::fetch_kubernetes(workspace)?);
    }
    build(workspace)?;
    let (tally, status) = test(workspace, args)?;
    println!("{}", closing_line(args, &tally, started.elapsed()));
    println!("counterparts: {versions}");
    if !status.success() {
        bail!("the tests failed: see the names above; `cargo xtask test --filter NAME` repeats one");
    }
    match &args.filter {
        Some(filter) if tally.is_empty() => {
            bail!("no test has \"{filter}\" in its name: look for it with `git grep`")
        }
        _ => Ok(()),
    }
}

fn build(workspace: &Workspace) -> Result<()> {
    shell::stage("build: programs and tests");
    let mut cargo = workspace.cargo();
    // `--tests` as well: with the dev-dependencies in play cargo picks the same features here as for `cargo test`,
    // and nothing is compiled twice.
    cargo.args(["build", "--workspace", "--bins", "--tests"]);
    shell::run(&mut cargo, "mend what the compiler names above")
}

/// Runs the tests, passes on what they print, and counts the results on the way.
fn test(workspace: &Workspace, args: &TestArgs) -> Result<(Tally, ExitStatus)> {
    shell::stage("tests");
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).args(&args.filter);
    cargo.env(counterparts::VARIABLE, workspace.counterparts()).env(REQUIRE, "1").env(PROGRAMS_BUILT, "1");
    if args.all {
        cargo.env(ALL, "1");
    } else {
        cargo.env_remove(ALL);
    }
    let mut child =
        cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no standard output")?;
    let tally = pass_on(BufReader::new(stdout), io::stdout().lock())?;
    Ok((tally, child.wait().context("cannot wait for cargo test")?))
}

fn pass_on(mut from: impl BufRead, mut to: impl Write) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut line = Vec::new();
    // One line at a time, as bytes: a test may print what is not text.
    while from.read_until(b'\n', &mut line).context("cannot read what cargo test prints")? > 0 {
        to.write_all(&line).context("cannot write to standard output")?;
        tally.count(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(tally)
}

fn closing_line(args: &TestArgs, tally: &Tally, took: Duration) -> String {
    let filter =
        args.filter.as_ref().map(|filter| format!(" with \"{filter}\" in the name")).unwrap_or_default();
    let slow = if args.all { "slow tests included" } else { "slow tests left out (--all runs them)" };
    format!("cargo xtask test: {tally}{filter}; {slow}; {} s", took.as_secs())
}
