//! `cargo xtask bench`: fetches the peers, builds everything in release at once, and measures.

use std::process::Command;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{BenchArgs, counterparts, shell};

/// The programs of a measurement. One command builds all of them, so that cargo picks one set of features and compiles
/// nothing twice: the sidecar and the command as users have them, and the program that measures.
const PROGRAMS: [&str; 3] = ["outrigger", "outrigger-proxy", "outrigger-benches"];

/// Runs the benches' own program; what it measures, and how, is its business.
pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    counterparts::fetch_peers(workspace)?;
    build(workspace)?;
    shell::stage("bench: measure; leave the machine alone meanwhile");
    // Not by `cargo run`, which would look at one package alone, with features of its own.
    let mut benches = Command::new(workspace.released("outrigger-benches"));
    benches.args(flags(args)).env(counterparts::VARIABLE, workspace.counterparts());
    shell::run(&mut benches, "see the message of the bench above")
}

fn build(workspace: &Workspace) -> Result<()> {
    shell::stage("bench: build in release");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release"]);
    for program in PROGRAMS {
        cargo.args(["--package", program, "--bin", program]);
    }
    shell::run(&mut cargo, "see the message of the compiler above")
}

/// What was asked for, as the benches' own program wants to be told.
fn flags(args: &BenchArgs) -> Vec<String> {
    let quick = args.quick.then(|| "--quick".to_owned());
    let out = args.out.as_ref().map(|file| file.display().to_string());
    let rounds = args.rounds.map(|rounds| rounds.to_string());
    let valued = [("--scenario", args.scenario.clone()), ("--rounds", rounds), ("--out", out)];
    let valued = valued.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
    quick.into_iter().chain(valued.flatten()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Task};

    fn told(line: &str) -> Vec<String> {
        let Task::Bench(args) = Cli::parse_from(line.split(' ')).task else { panic!("{line} is no bench") };
        flags(&args)
    }

    #[test]
    fn flags_are_passed_on() {
        assert_eq!(told("xtask bench"), [""; 0]);
        assert_eq!(told("xtask bench --quick"), ["--quick"]);
        assert_eq!(
            told("xtask bench --out a.md --scenario s1,s4 --rounds 7"),
            ["--scenario", "s1,s4", "--rounds", "7", "--out", "a.md"]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_built() {
        for line in ["xtask bench --rounds 0", "xtask bench s1", "xtask bench --slow"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
