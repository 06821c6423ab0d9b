//! What limited the runs of a scenario: whose core was full, and what somebody else took of it.

use crate::measure::Measure;
use crate::scenario::{Scenario, Work};
use crate::sheet::Turns;

use super::numbers;
use super::table::{Cells, table};

/// A core that is busier than this has nothing left to give, in percent: the rest are moments between two wake-ups.
const FULL_PERCENT: f64 = 90.0;
/// Others who took more than this of the two cores together, in percent of one, may have moved the figures.
pub(super) const DISTURBED_PERCENT: f64 = 10.0;

const SHOWN: [Measure; 3] = [Measure::ProxyCore, Measure::WorkCore, Measure::Others];

/// The table of it; `None` where there is no load that could be limited.
pub(super) fn limits(scenario: Scenario, turns: &[&Turns]) -> Option<String> {
    let is_load =
        !matches!(scenario.work(), Work::Hold { .. } | Work::Mesh { .. } | Work::ControlPlane { .. });
    is_load.then(|| {
        let head = [""].into_iter().chain(SHOWN.map(Measure::title)).chain(["limited by", "valid runs"]);
        let rows = turns.iter().map(|turns| row(scenario, turns));
        table(1, head.map(str::to_owned).collect(), rows.collect())
    })
}

/// Whether others took so much while these had their turns that the figures are not for quoting.
pub(super) fn disturbed(turns: &Turns) -> bool {
    turns.spread(Measure::Others).is_some_and(|others| others.median >= DISTURBED_PERCENT)
}

fn row(scenario: Scenario, turns: &Turns) -> Cells {
    let figures = SHOWN.map(|measure| numbers::spread(measure, turns.spread(measure)));
    let valid = format!("{} of {}", turns.valid(), turns.rounds.len());
    [turns.contender.to_string()].into_iter().chain(figures).chain([limit(scenario, turns), valid]).collect()
}

fn limit(scenario: Scenario, turns: &Turns) -> String {
    let median = |measure| turns.spread(measure).map_or(0.0, |spread| spread.median);
    if turns.valid() == 0 {
        return numbers::NONE.to_owned();
    }
    let who = if matches!(scenario.work(), Work::Open { .. }) {
        "the rate"
    } else if median(Measure::ProxyCore) >= FULL_PERCENT {
        "the proxies"
    } else if median(Measure::WorkCore) >= FULL_PERCENT {
        "load and origin"
    } else {
        "neither core"
    };
    format!("{who}{}", if disturbed(turns) { ", disturbed" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;
    use crate::sheet::Round;

    fn turns(scenario: Scenario, [proxy, work, others]: [f64; 3]) -> Turns {
        let round =
            Round::from([(Measure::ProxyCore, proxy), (Measure::WorkCore, work), (Measure::Others, others)]);
        Turns { scenario, contender: Contender::Envoy, rounds: vec![Ok(round), Err("it ended".to_owned())] }
    }

    #[test]
    fn who_had_nothing_left_to_give_was_the_limit() {
        let cases = [
            (Scenario::S1, [99.0, 95.0, 1.0], "the proxies"),
            (Scenario::S1, [70.0, 97.0, 1.0], "load and origin"),
            (Scenario::S1, [60.0, 70.0, 2.0], "neither core"),
            (Scenario::S1, [80.0, 70.0, 30.0], "neither core, disturbed"),
            (Scenario::S8, [99.0, 95.0, 1.0], "the rate"),
        ];
        for (scenario, cores, expected) in cases {
            assert_eq!(limit(scenario, &turns(scenario, cores)), expected, "{cores:?}");
        }
        let void = Turns { rounds: vec![Err("it ended".to_owned())], ..turns(Scenario::S1, [0.0; 3]) };
        assert_eq!(limit(Scenario::S1, &void), "-");
    }

    #[test]
    fn memory_and_the_control_plane_have_no_load_to_limit() {
        for scenario in Scenario::ALL {
            let is_load =
                scenario.work().exchange().is_some() && !matches!(scenario, Scenario::S7 | Scenario::S7x);
            assert_eq!(limits(scenario, &[]).is_some(), is_load, "{scenario}");
        }
    }

    #[test]
    fn a_row_says_how_many_runs_are_valid() {
        let table = limits(Scenario::S1, &[&turns(Scenario::S1, [99.0, 60.4, 0.2])]).unwrap();
        let last = table.lines().last().unwrap().split('|').map(str::trim).collect::<Vec<_>>();
        assert_eq!(last, ["", "Envoy", "99", "60", "0", "the proxies", "1 of 2", ""]);
    }
}
