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
    let mut markdown = format!("# Side by side measurements\n\n{}\n", introduction(plan));
    markdown.push_str(&format!("\n## Targets\n\n{}\n\n{}\n", summary(&judged), verdicts(&judged)));
    markdown.extend(warning(plan, sheet));
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
    summary(&targets::judge(sheet, &plan.scenarios))
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

fn summary(judged: &[Judgement]) -> String {
    let count = |verdict| judged.iter().filter(|judgement| judgement.verdict == verdict).count();
    let (held, missed, unknown) = (count(Verdict::Held), count(Verdict::Missed), count(Verdict::Unknown));
    let unknown = if unknown > 0 { format!(", {unknown} not known") } else { String::new() };
    format!("{held} held, {missed} missed{unknown}.")
}

/// Which scenarios others had a part in, if any: no verdict on them counts.
fn warning(plan: &Plan, sheet: &Sheet) -> Option<String> {
    let disturbed = plan.scenarios.iter().filter(|&&scenario| sheet.of(scenario).any(limits::disturbed));
    let names: Vec<String> = disturbed.map(|scenario| scenario.to_string()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "\n**Not for quoting: {}.** Others took more than {} % of a core while contenders had their turns.\n",
            names.join(", "),
            limits::DISTURBED_PERCENT,
        )
    })
}

fn verdicts(judged: &[Judgement]) -> String {
    let head = ["", "figure", "target", "verdict", "found", "rounds"].map(str::to_owned).to_vec();
    table::table(4, head, judged.iter().map(verdict).collect())
}

fn verdict(judgement: &Judgement) -> table::Cells {
    let Judgement { target, found, rounds, verdict } = judgement;
    let found = match target.bound {
        Bound::Times(..) | Bound::TimesBest(_) => numbers::judged_ratio(*found),
        Bound::AtMost(_) => numbers::spread(target.measure, *found),
    };
    vec![
        target.scenario.to_string(),
        target.measure.title().to_owned(),
        target.bound.to_string(),
        verdict.to_string(),
        found,
        rounds.to_string(),
    ]
}

#[cfg(test)]
mod tests;
