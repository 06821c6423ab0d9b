//! `cargo xtask gate`: counts the instructions of one request and holds them to the numbers in the repository.

use std::process::Command;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{GateArgs, counterparts, shell};

/// Packages and the programs of them that are needed. The packages are those of the bench, in one command as there: cargo
/// picks the same features, and what was built for the one serves the other.
const PROGRAMS: [(&str, &str); 3] = [
    ("outrigger", "outrigger"),
    ("outrigger-proxy", "outrigger-proxy"),
    ("outrigger-benches", "outrigger-gate"),
];

/// Runs the gate's own program; what it counts, and how, is its business.
pub(crate) fn run(workspace: &Workspace, args: &GateArgs) -> Result<()> {
    counterparts::fetch_valgrind()?;
    shell::stage("gate: build in release");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release"]);
    for (package, program) in PROGRAMS {
        cargo.args(["--package", package, "--bin", program]);
    }
    shell::run(&mut cargo, "see the message of the compiler above")?;
    shell::stage("gate: count");
    let mut gate = Command::new(workspace.released("outrigger-gate"));
    gate.arg("--keep").arg(workspace.gate()).args(flags(args));
    shell::run(&mut gate, "see what it says above")
}

/// What was asked for, as the gate's own program wants to be told.
fn flags(args: &GateArgs) -> Vec<String> {
    let mut flags = Vec::new();
    if let Some(scenarios) = &args.scenario {
        flags.extend(["--scenario".to_owned(), scenarios.clone()]);
    }
    if args.bless {
        flags.push("--bless".to_owned());
    }
    flags
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Task};

    #[test]
    fn flags_are_passed_on() {
        let told = |line: &str| {
            let Task::Gate(args) = Cli::parse_from(line.split(' ')).task else { panic!("{line} is no gate") };
            flags(&args)
        };
        assert_eq!(told("xtask gate"), [""; 0]);
        assert_eq!(
            told("xtask gate --bless --scenario one-hop-http1"),
            ["--scenario", "one-hop-http1", "--bless"]
        );
    }
}
