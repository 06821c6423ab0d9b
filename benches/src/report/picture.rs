//! Which chart a scenario has: what it is judged by, a bar for each contender, and the target where it is a figure.

use crate::contender::Contender;
use crate::figures::Spread;
use crate::measure::Measure;
use crate::scenario::Scenario;
use crate::sheet::Sheet;
use crate::targets::{self, Bound};

use super::chart::{Bar, Panel, Tone, svg};
use super::numbers;

/// What the file is called.
pub(super) fn file(scenario: Scenario) -> String {
    format!("{}.svg", scenario.to_string().to_lowercase())
}

/// The image; `None` when there is no figure to show.
pub(super) fn picture(scenario: Scenario, sheet: &Sheet) -> Option<String> {
    let panels: Vec<Panel> =
        Measure::keys(scenario).iter().filter_map(|&measure| panel(scenario, sheet, measure)).collect();
    (!panels.is_empty()).then(|| svg(&format!("{scenario}: {}", scenario.title()), &panels))
}

fn panel(scenario: Scenario, sheet: &Sheet, measure: Measure) -> Option<Panel> {
    let bars = sheet.of(scenario).filter_map(|turns| {
        let spread = turns.spread(measure)?;
        let text = numbers::spread(measure, Some(spread));
        Some(Bar { label: turns.contender.to_string(), tone: tone(turns.contender), spread, text })
    });
    let mut bars: Vec<Bar> = bars.collect();
    if bars.is_empty() {
        return None;
    }
    bars.extend(most(scenario, measure).map(|most| {
        let text = numbers::spread(measure, Some(most));
        Bar { label: "target".to_owned(), tone: Tone::Mark, spread: most, text }
    }));
    Some(Panel { title: measure.title().to_owned(), bars })
}

fn tone(contender: Contender) -> Tone {
    match contender {
        Contender::Outrigger => Tone::Ours,
        Contender::Direct | Contender::Floor | Contender::Unguarded => Tone::Mark,
        Contender::Envoy | Contender::Nginx | Contender::Haproxy => Tone::Peer,
    }
}

/// The target of a measure, where it is a figure and not a ratio.
fn most(scenario: Scenario, measure: Measure) -> Option<Spread> {
    let mut targets =
        targets::ALL.iter().filter(|target| (target.scenario, target.measure) == (scenario, measure));
    targets.find_map(|target| match target.bound {
        Bound::AtMost(most) => Some(Spread { median: most, low: most, high: most }),
        Bound::Times(..) | Bound::TimesBest(_) => None,
    })
}
