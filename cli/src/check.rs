//! `outrigger check`: whether a cluster is fit for the mesh, and whether the mesh in it is well.
//!
//! `gather` asks the cluster once; what is found is judged by pure functions, a file for each subject. Every line is ok,
//! a warning or failed, and one that is not ok says what to do.

use std::process::ExitCode;
use std::time::Duration;

use outrigger_base::flags::parse_duration;
use serde::Serialize;
use tokio::time::Instant;

use crate::cluster::{Cluster, ClusterArgs};
use crate::output::{self, Format};
use gather::Facts;

mod control_plane;
mod evict;
mod gather;
mod platform;
mod workloads;

/// How often it is looked again with `--wait`.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Says whether a cluster is fit for the mesh, and whether the mesh in it is well.
#[derive(clap::Args)]
#[command(after_help = "Example: outrigger check --pre && outrigger install | kubectl apply -f -")]
pub(crate) struct Args {
    /// Only what has to be true before an installation.
    #[arg(long)]
    pre: bool,
    /// Evict pods that missed injection, as far as their PodDisruptionBudgets allow it.
    #[arg(long, conflicts_with = "pre")]
    evict: bool,
    /// Check again, for so long at most, until nothing fails: for right after an installation.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warning,
    Failed,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    outcome: Outcome,
    /// What was found.
    message: String,
    /// What to do; empty when all is well.
    fix: String,
}

/// Everything that was found. Keys are stable.
#[derive(Debug, Serialize)]
struct Report {
    outcome: Outcome,
    findings: Vec<Finding>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, message: message.into(), fix: String::new() }
    }

    fn warning(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Warning, message: message.into(), fix: fix.into() }
    }

    fn failed(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Failed, message: message.into(), fix: fix.into() }
    }

    /// What could not be found out.
    fn unknown(check: &'static str, why: &str) -> Self {
        Self::warning(
            check,
            format!("cannot be told: {why}"),
            "grant the rights it names, or ask somebody with them",
        )
    }
}

pub(crate) fn main(args: &Args) -> ExitCode {
    let checked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(patiently(args)))
        .and_then(|report| {
            output::print(args.output, &report, table)?;
            Ok(report.outcome)
        });
    match checked {
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Checks until nothing fails, or time is over; once without `--wait`.
async fn patiently(args: &Args) -> anyhow::Result<Report> {
    let deadline = Instant::now() + args.wait.unwrap_or_default();
    loop {
        let report = check(args).await?;
        if report.outcome < Outcome::Failed || Instant::now() >= deadline {
            return Ok(report);
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

async fn check(args: &Args) -> anyhow::Result<Report> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let mut findings = Vec::new();
    let platform = match gather::platform(&cluster).await {
        Ok(platform) => platform,
        Err(error) => {
            let fix = "see whether `kubectl version` works; say which cluster with --kubeconfig or --context";
            findings.push(Finding::failed("kubernetes api", format!("{error:#}"), fix));
            return Ok(Report::new(findings));
        }
    };
    findings.extend(platform::judge(&platform));
    if args.pre {
        findings.extend(platform::judge_before(&platform, &args.cluster.namespace));
        return Ok(Report::new(findings));
    }
    let facts: Facts = gather::installation(&cluster).await;
    findings.extend(control_plane::judge(&facts));
    findings.extend(workloads::judge(&facts));
    if args.evict {
        findings.extend(evict::evict(&cluster, &workloads::missed(&facts)).await);
    }
    Ok(Report::new(findings))
}

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.outcome).max();
        Self { outcome: worst.unwrap_or(Outcome::Ok), findings }
    }
}

fn table(report: &Report) -> String {
    let row = |finding: &Finding| {
        let mut said = format!("{}: {}", finding.check, finding.message);
        if !finding.fix.is_empty() {
            said.push_str(&format!("\n           to do: {}", finding.fix));
        }
        let word = match finding.outcome {
            Outcome::Ok => "ok     ",
            Outcome::Warning => "warning",
            Outcome::Failed => "failed ",
        };
        format!("{word}  {said}")
    };
    let mut lines: Vec<String> = report.findings.iter().map(row).collect();
    let count = |outcome| report.findings.iter().filter(|finding| finding.outcome == outcome).count();
    let counts = [Outcome::Ok, Outcome::Warning, Outcome::Failed].map(count);
    lines.push(format!("{} ok, {} warnings, {} failed", counts[0], counts[1], counts[2]));
    lines.join("\n")
}

#[cfg(test)]
mod tests;
