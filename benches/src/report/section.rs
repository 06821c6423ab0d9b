//! The part of the report that is about one scenario: what it is, its figures, what limited it, what was void.

use crate::contender::Contender;
use crate::figures::Spread;
use crate::measure::Measure;
use crate::scenario::{Path, Scenario};
use crate::sheet::{Sheet, Turns};

use super::destination::CHARTS;
use super::limits::limits;
use super::numbers;
use super::picture;
use super::table::{Cells, table};

/// A message of a void run is quoted up to this many characters; the rest is in the log of the run.
const QUOTED_CHARACTERS: usize = 2000;

/// The section, with a link to its chart when there is one.
pub(super) fn section(scenario: Scenario, sheet: &Sheet, has_chart: bool) -> String {
    let turns: Vec<&Turns> = sheet.of(scenario).collect();
    let mut text = format!("\n## {scenario}: {}\n", scenario.title());
    if has_chart {
        let file = picture::file(scenario);
        text.push_str(&format!("\n![{scenario}: {}]({CHARTS}/{file})\n", scenario.title()));
    }
    for note in notes(scenario) {
        text.push_str(&format!("\n{note}\n"));
    }
    text.push_str(&format!("\n{}\n", figures(scenario, sheet, &turns)));
    if let Some(limits) = limits(scenario, &turns) {
        text.push_str(&format!("\n{limits}\n"));
    }
    let voids = turns.iter().flat_map(|turns| turns.voids().map(|void| (turns.contender, void)));
    for (contender, (round, why)) in voids {
        text.push_str(&format!("\nVoid: {contender}, round {round}:\n\n{}", quoted(why)));
    }
    text
}

/// What a reader has to know to read the figures.
fn notes(scenario: Scenario) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let takes_part = |contender| scenario.contenders().contains(&contender);
    match scenario.path() {
        Path::OneHop if takes_part(Contender::Floor) => {
            notes.push("The byte relay is one process that copies between connections.");
        }
        Path::Pair if takes_part(Contender::Floor) => notes.push(
            "The byte relay is two processes that copy between connections, with mutual TLS between them.",
        ),
        _ => {}
    }
    match scenario {
        Scenario::S4 | Scenario::S4Rate => {
            notes.push("Envoy and HAProxy speak HTTP/2 between their two processes, nginx HTTP/1.1.");
        }
        Scenario::S5t => {
            notes.push("A request is a connection here: connect, a few bytes there and back, close. No TLS session is resumed.");
        }
        Scenario::S10 => notes.push(
            "CPU is that of the origin's sidecar alone, where requests are authorized; the sidecar of the load stands beside.",
        ),
        Scenario::S9 => notes.push(
            "Measured once, over many changes; the times are from the moment a file is in place until a proxy has acknowledged.",
        ),
        _ => {}
    }
    if takes_part(Contender::Direct) {
        notes.push("\"Added\" is the p50 less that of no proxy in the same round. Latency is counted from the moment a request should have been sent.");
    }
    notes
}

/// The table of figures: what the scenario is judged by, each with the ratio of Outrigger to it, then the others.
fn figures(scenario: Scenario, sheet: &Sheet, turns: &[&Turns]) -> String {
    let keys = Measure::keys(scenario);
    let others = Measure::others(scenario).iter().copied();
    let others: Vec<Measure> =
        others.filter(|&measure| turns.iter().any(|turns| turns.spread(measure).is_some())).collect();
    // With nobody beside it there is nothing to compare with.
    let compared = scenario.contenders().len() > 1;
    let mut head = vec![String::new()];
    for key in keys {
        head.push(key.title().to_owned());
        head.extend(compared.then(|| "Outrigger / this".to_owned()));
    }
    head.extend(others.iter().map(|measure| measure.title().to_owned()));
    let row = |turns: &&Turns| -> Cells {
        let mut cells = vec![turns.contender.to_string()];
        for &key in keys {
            cells.push(numbers::spread(key, turns.spread(key)));
            cells.extend(compared.then(|| ratio(scenario, sheet, (key, turns.contender))));
        }
        cells.extend(others.iter().map(|&measure| numbers::spread(measure, turns.spread(measure))));
        cells
    };
    table(1, head, turns.iter().map(row).collect())
}

fn ratio(scenario: Scenario, sheet: &Sheet, (key, other): (Measure, Contender)) -> String {
    match other {
        Contender::Outrigger => String::new(),
        other => numbers::ratio(Spread::of(sheet.ratios(scenario, key, other))),
    }
}

/// A message as a block of its own, as it was said.
fn quoted(message: &str) -> String {
    let short: String = message.chars().take(QUOTED_CHARACTERS).collect();
    short.lines().map(|line| format!("    {}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_leave_its_block() {
        assert_eq!(quoted("it ended  \n## Heading\n"), "    it ended\n    ## Heading\n");
        assert_eq!(quoted(&"x".repeat(5000)).len(), "    \n".len() + QUOTED_CHARACTERS);
    }
}
