//! `outrigger validate`: what the control plane would say of some YAML, without a control plane.

use std::path::PathBuf;
use std::process::ExitCode;

use outrigger_control_plane::status::{ObjectStatus, evaluate};
use outrigger_control_plane::world::World;
use outrigger_resources::Severity;
use serde::Serialize;

use crate::offline;
use crate::output::{self, Format};

/// Reads YAML as the control plane would and says what is wrong with it. Exits with 1 when something is not in force.
#[derive(clap::Args)]
#[command(after_help = "Example: outrigger validate deploy/examples/bookstore")]
pub(crate) struct Args {
    /// Directories, files, or - for standard input; read together, as one mesh.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Report {
    valid: bool,
    problems: Vec<String>,
    objects: Vec<ObjectStatus>,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    match validate(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn validate(args: &Args) -> anyhow::Result<bool> {
    let read = offline::read(&args.paths)?;
    let errors = read.problems.iter().any(|problem| problem.severity == Severity::Error);
    let problems = read.problems.iter().map(ToString::to_string).collect();
    let objects = evaluate(&World::default().apply(read.changes).0);
    let unsettled =
        objects.iter().any(|object| object.conditions.iter().any(|condition| condition.is_problem()));
    let report = Report { valid: !errors && !unsettled, problems, objects };
    output::print(args.output, &report, table)?;
    Ok(report.valid)
}

fn table(report: &Report) -> String {
    let mut lines: Vec<String> = report.problems.clone();
    for object in &report.objects {
        for condition in object.conditions.iter().filter(|condition| condition.is_problem()) {
            let place = object.location.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            lines.push(format!("{place}{}: {:?}: {}", object.object, condition.type_, condition.message));
        }
    }
    lines.push(if report.valid {
        "valid: everything is in force".to_owned()
    } else {
        "not valid".to_owned()
    });
    lines.join("\n")
}
