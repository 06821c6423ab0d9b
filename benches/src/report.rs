//! The report: targets held and missed first, then what it was made on, then a section for each scenario.
//!
//! Markdown that reads as well on a terminal, and a chart for each scenario. It knows figures only through the sheet;
//! how they were measured is not its business, but what a reader must know of it is.

mod chart;
mod destination;
mod limits;
mod numbers;
mod picture;
mod section;
mod table;

use crate::rounds::Plan;
use crate::scenario::Scenario;
use crate::sheet::Sheet;
use crate::targets::{self, Bound, Judgement, Verdict};

pub(crate) use destination::{file, write};

/// A report, not yet written.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) markdown: String,
    /// The charts it links to: the name of the file, and the image.
    pub(crate) charts: Vec<(String, String)>,
}

/// Makes the report. `machine` is what it was made on.
pub(crate) fn make(plan: &Plan, machine: &[String], sheet: &Sheet) -> Report {
    let judged = targets::judge(sheet, &plan.scenarios);
    let disturbed = disturbed(plan, sheet);
    let mut markdown = format!("# Side by side measurements\n\n{}\n", introduction(plan));
    markdown.push_str(&format!("\n## Targets\n\n{}\n", summary(&judged, &disturbed)));
    markdown.push_str(&format!("\n{}\n", verdicts(&judged, &disturbed)));
    markdown.push_str("\n## Made on\n\n");
    markdown.extend(machine.iter().map(|line| format!("- {line}\n")));
    let mut charts = Vec::new();
    for &scenario in &plan.scenarios {
        let image = picture::picture(scenario, sheet);
        markdown.push_str(&section::section(scenario, sheet, image.is_some()));
        charts.extend(image.map(|image| (picture::file(scenario), image)));
    }
    Report { markdown, charts }
}

/// How many targets are held, in a line.
pub(crate) fn tally(sheet: &Sheet, plan: &Plan) -> String {
    summary(&targets::judge(sheet, &plan.scenarios), &disturbed(plan, sheet))
}

fn introduction(plan: &Plan) -> String {
    format!(
        "Median (range) of {} interleaved rounds of {:?}, each after {:?} of warm-up, in one run on one machine. CPU is the CPU \
         time of\nall proxy processes, all threads, as the kernel accounts it, shared by the requests answered. A ratio is \
         Outrigger's figure\ndivided by the other's in the same round; the median of the rounds is shown and judged, less is \
         better.\n`benches/README.md` says what is measured and how.",
        plan.rounds, plan.measured, plan.warmup,
    )
}

/// The scenarios others had a part in: no verdict on them counts.
fn disturbed(plan: &Plan, sheet: &Sheet) -> Vec<Scenario> {
    let scenarios = plan.scenarios.iter().copied();
    scenarios.filter(|&scenario| sheet.of(scenario).any(limits::disturbed)).collect()
}

fn summary(judged: &[Judgement], disturbed: &[Scenario]) -> String {
    let count = |verdict| judged.iter().filter(|judgement| judgement.verdict == verdict).count();
    let (held, missed, unknown) = (count(Verdict::Held), count(Verdict::Missed), count(Verdict::Unknown));
    let unknown = if unknown > 0 { format!(", {unknown} not known") } else { String::new() };
    let tally = format!("{held} held, {missed} missed{unknown}.");
    if disturbed.is_empty() {
        return tally;
    }
    let names: Vec<String> = disturbed.iter().map(Scenario::to_string).collect();
    format!(
        "{tally} **Not for quoting: {}**, where others took {} % of a core or more while contenders had their turns.",
        names.join(", "),
        limits::DISTURBED_PERCENT,
    )
}

fn verdicts(judged: &[Judgement], disturbed: &[Scenario]) -> String {
    let head = ["", "figure", "target", "verdict", "found", "rounds"].map(str::to_owned).to_vec();
    table::table(4, head, judged.iter().map(|judgement| verdict(judgement, disturbed)).collect())
}

fn verdict(judgement: &Judgement, disturbed: &[Scenario]) -> table::Cells {
    let Judgement { target, found, rounds, verdict } = judgement;
    let found = match target.bound {
        Bound::Times(..) | Bound::TimesBest(_) => numbers::judged_ratio(*found),
        Bound::AtMost(_) => numbers::spread(target.measure, *found),
    };
    // What was judged while others were at work is not to be taken for a verdict.
    let doubt = *verdict != Verdict::Unknown && disturbed.contains(&target.scenario);
    vec![
        target.scenario.to_string(),
        target.measure.title().to_owned(),
        target.bound.to_string(),
        format!("{verdict}{}", if doubt { ", disturbed" } else { "" }),
        found,
        rounds.to_string(),
    ]
}

#[cfg(test)]
mod tests;
