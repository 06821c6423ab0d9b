//! Everything that was measured, in the one form that tables, charts and targets ask: a figure by scenario, contender,
//! measure and round. Whatever the instrument was, its outcome becomes [`Turns`] here.

use std::collections::BTreeMap;

use crate::contender::Contender;
use crate::figures::{Figures, Spread, ratios};
use crate::fleet::FleetOutcome;
use crate::measure::Measure;
use crate::memory::{MemoryFigures, MemoryOutcome};
use crate::rounds::Outcome;
use crate::scenario::Scenario;

/// The figures of one valid round.
pub(crate) type Round = BTreeMap<Measure, f64>;

/// All rounds of one contender in one scenario.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turns {
    pub(crate) scenario: Scenario,
    pub(crate) contender: Contender,
    /// One for each round, in order: its figures, or why it is void.
    pub(crate) rounds: Vec<Result<Round, String>>,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Sheet(Vec<Turns>);

impl Turns {
    /// Of a scenario that has a load.
    pub(crate) fn of_rounds(outcome: &Outcome) -> Self {
        let round = |round: &Result<Figures, String>| round.as_ref().map(of_figures).map_err(String::clone);
        Self {
            scenario: outcome.scenario,
            contender: outcome.contender,
            rounds: outcome.rounds.iter().map(round).collect(),
        }
    }

    /// Of a scenario that is about memory; a round is a fresh start.
    pub(crate) fn of_memory(outcome: &MemoryOutcome) -> Self {
        let round =
            |start: &Result<MemoryFigures, String>| start.as_ref().map(of_memory).map_err(String::clone);
        Self {
            scenario: outcome.scenario,
            contender: outcome.contender,
            rounds: outcome.starts.iter().map(round).collect(),
        }
    }

    /// Of the control plane, which is measured once, over many changes.
    pub(crate) fn of_fleet(outcome: Result<FleetOutcome, String>) -> Self {
        let rounds = vec![outcome.map(|outcome| of_fleet(&outcome))];
        Self { scenario: Scenario::S9, contender: Contender::Outrigger, rounds }
    }

    /// The figures of one measure, round by round; `None` for a void round, and for what the work has no figure for.
    pub(crate) fn figures(&self, measure: Measure) -> Vec<Option<f64>> {
        let figure = |round: &Result<Round, String>| round.as_ref().ok()?.get(&measure).copied();
        self.rounds.iter().map(figure).collect()
    }

    /// What these come to.
    pub(crate) fn spread(&self, measure: Measure) -> Option<Spread> {
        Spread::of(self.figures(measure).into_iter().flatten())
    }

    /// How many rounds are valid.
    pub(crate) fn valid(&self) -> usize {
        self.rounds.iter().flatten().count()
    }

    /// The number of each void round, from 1, and why it is void.
    pub(crate) fn voids(&self) -> impl Iterator<Item = (usize, &str)> {
        let rounds = self.rounds.iter().enumerate();
        rounds.filter_map(|(index, round)| Some((index + 1, round.as_ref().err()?.as_str())))
    }
}

impl Sheet {
    /// Puts together what was measured. What no proxy adds is known only now.
    pub(crate) fn new(mut turns: Vec<Turns>) -> Self {
        let direct: Vec<Turns> =
            turns.iter().filter(|turns| turns.contender == Contender::Direct).cloned().collect();
        for turns in turns.iter_mut().filter(|turns| turns.contender != Contender::Direct) {
            if let Some(direct) = direct.iter().find(|direct| direct.scenario == turns.scenario) {
                add_over(turns, direct);
            }
        }
        Self(turns)
    }

    /// Everybody who had turns in a scenario, in their order.
    pub(crate) fn of(&self, scenario: Scenario) -> impl Iterator<Item = &Turns> {
        self.0.iter().filter(move |turns| turns.scenario == scenario)
    }

    /// The turns of one contender in a scenario.
    pub(crate) fn turns(&self, scenario: Scenario, contender: Contender) -> Option<&Turns> {
        self.of(scenario).find(|turns| turns.contender == contender)
    }

    /// Outrigger's figure divided by theirs, in every round in which both have one.
    pub(crate) fn ratios(&self, scenario: Scenario, measure: Measure, theirs: Contender) -> Vec<f64> {
        let figures = |contender| {
            self.turns(scenario, contender).map(|turns| turns.figures(measure)).unwrap_or_default()
        };
        ratios(&figures(Contender::Outrigger), &figures(theirs))
    }

    /// Everybody who has not one valid round.
    pub(crate) fn empty(&self) -> impl Iterator<Item = &Turns> {
        self.0.iter().filter(|turns| turns.valid() == 0)
    }
}

/// Adds what the middle request took longer than with no proxy in the same round.
fn add_over(turns: &mut Turns, direct: &Turns) {
    for (round, base) in turns.rounds.iter_mut().zip(direct.figures(Measure::P50)) {
        let Ok(round) = round else { continue };
        if let (Some(p50), Some(base)) = (round.get(&Measure::P50).copied(), base) {
            round.insert(Measure::AddedP50, p50 - base);
        }
    }
}

fn of_figures(figures: &Figures) -> Round {
    let latency = figures.latency.as_ref();
    // Where nothing stands between load and origin nobody keeps that core busy.
    let proxy_core = figures.rss_mib.map(|_| figures.proxy_core_percent);
    let all = [
        (Measure::CpuPerRequest, figures.cpu_us_per_request),
        (Measure::CpuPerGb, figures.cpu_s_per_gb),
        (Measure::Requests, figures.requests_per_s),
        (Measure::Megabytes, Some(figures.mb_per_s)),
        (Measure::P50, latency.map(|latency| latency.p50_us)),
        (Measure::P99, latency.map(|latency| latency.p99_us)),
        (Measure::P999, latency.map(|latency| latency.p999_us)),
        (Measure::Rss, figures.rss_mib),
        (Measure::ProxyCore, proxy_core),
        (Measure::WorkCore, Some(figures.work_core_percent)),
        (Measure::Others, Some(figures.others_percent)),
    ];
    all.into_iter().filter_map(|(measure, figure)| Some((measure, figure?))).collect()
}

fn of_memory(figures: &MemoryFigures) -> Round {
    match figures {
        MemoryFigures::Held { idle, connected, kib_per_connection } => Round::from([
            (Measure::IdleMib, idle.rss_mib),
            (Measure::PssMib, idle.pss_mib),
            (Measure::AnonymousMib, idle.anonymous_mib),
            (Measure::ConnectedMib, connected.rss_mib),
            (Measure::KibPerConnection, *kib_per_connection),
        ]),
        MemoryFigures::Mesh(resident) => Round::from([
            (Measure::MeshMib, resident.rss_mib),
            (Measure::PssMib, resident.pss_mib),
            (Measure::AnonymousMib, resident.anonymous_mib),
        ]),
    }
}

fn of_fleet(outcome: &FleetOutcome) -> Round {
    Round::from([
        (Measure::ConvergeP50, outcome.converge_ms.p50),
        (Measure::ConvergeP99, outcome.converge_ms.p99),
        (Measure::ConvergeMax, outcome.converge_ms.max),
        (Measure::CpuPerChange, outcome.cpu_s_per_change),
        (Measure::ControlPlaneMib, outcome.rss_mib),
        (Measure::ControlPlanePeakMib, outcome.peak_rss_mib),
        (Measure::StartSeconds, outcome.start_seconds),
        (Measure::FirstSyncSeconds, outcome.first_sync_seconds),
    ])
}

#[cfg(test)]
mod tests;
