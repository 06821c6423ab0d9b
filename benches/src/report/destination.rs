//! Where a report goes: into the repository when it can be quoted, below `target` when it cannot.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Report;
use crate::rounds::Plan;
use crate::scenario::Scenario;

/// A report of fewer rounds is not for quoting.
const QUOTABLE_ROUNDS: u32 = 5;
/// Where the charts are, beside the report.
pub(super) const CHARTS: &str = "charts";

/// The file for the report of this plan. `program` is this program, which is in a directory of cargo's target directory.
pub(crate) fn file(plan: &Plan, asked: Option<&Path>, program: &Path) -> PathBuf {
    match asked {
        Some(file) => file.to_owned(),
        None if is_quotable(plan) => Path::new(env!("CARGO_MANIFEST_DIR")).join("REPORT.md"),
        None => below_target(program).join("REPORT.md"),
    }
}

/// The directory for what is not for quoting: `target/bench` when the program is `target/<profile>/<program>`.
fn below_target(program: &Path) -> PathBuf {
    program.ancestors().nth(2).unwrap_or(Path::new("target")).join("bench")
}

/// Whether this is everything, measured as long and as often as it takes, in a release build.
fn is_quotable(plan: &Plan) -> bool {
    let full = Plan::full();
    let is_long = plan.measured >= full.measured && plan.warmup >= full.warmup;
    let is_whole = Scenario::ALL.iter().all(|scenario| plan.scenarios.contains(scenario));
    is_whole && is_long && plan.rounds >= QUOTABLE_ROUNDS && !cfg!(debug_assertions)
}

/// Writes the report, and its charts into the directory beside it.
pub(crate) fn write(report: &Report, file: &Path) -> Result<()> {
    let charts = file.with_file_name(CHARTS);
    fs::create_dir_all(&charts).with_context(|| format!("cannot make the directory {}", charts.display()))?;
    for (name, image) in &report.charts {
        let chart = charts.join(name);
        fs::write(&chart, image).with_context(|| format!("cannot write the chart {}", chart.display()))?;
    }
    fs::write(file, &report.markdown)
        .with_context(|| format!("cannot write the report to {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_quoted_stays_out_of_the_repository() {
        let program = Path::new("/t/target/release/outrigger-benches");
        let below = Path::new("/t/target/bench/REPORT.md");
        let part = Plan { scenarios: vec![Scenario::S1], ..Plan::full() };
        let few = Plan { rounds: 4, ..Plan::full() };
        for plan in [Plan::quick(), part, few, Plan { rounds: 5, ..Plan::quick() }] {
            assert_eq!(file(&plan, None, program), below, "{plan:?}");
            let asked = Path::new("mine.md");
            assert_eq!(file(&plan, Some(asked), program), asked);
        }
        // Tests are a debug build, whose figures say nothing either.
        let full = file(&Plan::full(), None, program);
        assert_eq!(full == below, cfg!(debug_assertions), "{}", full.display());
    }

    #[test]
    fn charts_go_beside_the_report() {
        let dir = tempfile::tempdir().unwrap();
        let charts = vec![("s1.svg".to_owned(), "<svg/>".to_owned())];
        let file = dir.path().join("new/mine.md");
        write(&Report { markdown: "# Text\n".to_owned(), charts }, &file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "# Text\n");
        assert_eq!(fs::read_to_string(dir.path().join("new/charts/s1.svg")).unwrap(), "<svg/>");
    }
}
