//! The targets: what Outrigger has to hold against whom, as data, and a verdict on each.
//!
//! A ratio is Outrigger's figure divided by the other's in the same round; the median of the rounds is what is judged.
//! A lower figure is the better one everywhere here.

use std::fmt;

use crate::contender::Contender;
use crate::figures::Spread;
use crate::measure::Measure;
use crate::scenario::Scenario;
use crate::sheet::Sheet;

use Contender::{Envoy, Haproxy, Nginx, Outrigger, Unguarded};
use Measure::{
    AddedP50, ControlPlanePeakMib, ConvergeP99, CpuPerChange, CpuPerGb, CpuPerRequest, IdleMib,
    KibPerConnection, MeshMib,
};
use Scenario::{S1, S2, S3, S4, S4Rate, S4g, S5, S5Pair, S5t, S6, S6t, S7, S7x, S8, S9, S10};

/// One thing that should hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    pub(crate) scenario: Scenario,
    pub(crate) measure: Measure,
    pub(crate) bound: Bound,
}

/// The most Outrigger may need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// So many times what this one needs.
    Times(f64, Contender),
    /// So many times what the best of the peers needs.
    TimesBest(f64),
    /// So much, in the unit of the measure.
    AtMost(f64),
}

/// Whether a target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Missed,
    /// There is nothing to judge by: no round in which all that are compared were valid.
    Unknown,
}

/// A target, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) target: Target,
    /// What is compared with the bound: a ratio, or the figure itself where the bound is one.
    pub(crate) found: Option<Spread>,
    /// How many rounds that is made of.
    pub(crate) rounds: usize,
    pub(crate) verdict: Verdict,
}

/// Everybody whom Outrigger is compared with but the floor.
const PEERS: [Contender; 3] = [Envoy, Nginx, Haproxy];

/// All targets, in the order of the scenarios.
pub(crate) const ALL: [Target; 33] = [
    target(S1, CpuPerRequest, Bound::Times(0.35, Envoy)),
    target(S1, CpuPerRequest, Bound::Times(1.0, Haproxy)),
    target(S2, CpuPerGb, Bound::Times(0.50, Envoy)),
    target(S2, CpuPerGb, Bound::Times(0.7, Haproxy)),
    target(S3, CpuPerRequest, Bound::Times(0.50, Envoy)),
    target(S4, CpuPerRequest, Bound::Times(0.38, Envoy)),
    target(S4, CpuPerRequest, Bound::Times(0.8, Nginx)),
    target(S4, CpuPerRequest, Bound::Times(1.25, Haproxy)),
    target(S4Rate, AddedP50, Bound::Times(0.6, Envoy)),
    target(S4Rate, AddedP50, Bound::Times(1.1, Haproxy)),
    target(S4Rate, CpuPerRequest, Bound::Times(0.6, Envoy)),
    target(S4Rate, CpuPerRequest, Bound::Times(1.1, Haproxy)),
    target(S4g, CpuPerRequest, Bound::Times(0.40, Envoy)),
    target(S5, CpuPerRequest, Bound::Times(0.6, Envoy)),
    target(S5Pair, CpuPerRequest, Bound::Times(0.5, Envoy)),
    target(S5t, CpuPerRequest, Bound::Times(0.75, Envoy)),
    target(S5t, CpuPerRequest, Bound::Times(0.5, Nginx)),
    target(S6, CpuPerGb, Bound::Times(1.0, Envoy)),
    target(S6, CpuPerGb, Bound::TimesBest(1.1)),
    target(S6t, CpuPerGb, Bound::Times(0.9, Envoy)),
    target(S6t, CpuPerGb, Bound::TimesBest(1.1)),
    target(S7, IdleMib, Bound::Times(0.20, Envoy)),
    target(S7, IdleMib, Bound::Times(1.0, Haproxy)),
    target(S7, KibPerConnection, Bound::Times(0.12, Envoy)),
    target(S7x, MeshMib, Bound::Times(0.1, Envoy)),
    target(S8, AddedP50, Bound::Times(0.6, Envoy)),
    target(S8, AddedP50, Bound::Times(1.1, Haproxy)),
    target(S8, CpuPerRequest, Bound::Times(0.6, Envoy)),
    target(S8, CpuPerRequest, Bound::Times(1.1, Haproxy)),
    target(S9, ConvergeP99, Bound::AtMost(500.0)),
    target(S9, ControlPlanePeakMib, Bound::AtMost(300.0)),
    target(S9, CpuPerChange, Bound::AtMost(0.5)),
    target(S10, CpuPerRequest, Bound::Times(1.05, Unguarded)),
];

const fn target(scenario: Scenario, measure: Measure, bound: Bound) -> Target {
    Target { scenario, measure, bound }
}

/// A verdict on every target of these scenarios.
pub(crate) fn judge(sheet: &Sheet, scenarios: &[Scenario]) -> Vec<Judgement> {
    let asked = ALL.iter().filter(|target| scenarios.contains(&target.scenario));
    asked.map(|target| target.judge(sheet)).collect()
}

impl Target {
    fn judge(&self, sheet: &Sheet) -> Judgement {
        let &Self { scenario, measure, bound } = self;
        let figures = match bound {
            Bound::Times(_, other) => sheet.ratios(scenario, measure, other),
            Bound::TimesBest(_) => over_best(sheet, scenario, measure),
            Bound::AtMost(_) => sheet
                .turns(scenario, Outrigger)
                .map(|turns| turns.figures(measure).into_iter().flatten().collect())
                .unwrap_or_default(),
        };
        let rounds = figures.len();
        let found = Spread::of(figures);
        let verdict = match found {
            None => Verdict::Unknown,
            Some(found) if found.median <= bound.most() => Verdict::Held,
            Some(_) => Verdict::Missed,
        };
        Judgement { target: *self, found, rounds, verdict }
    }
}

/// The ratios to the peer that needs least, which is the one with the largest ratio. Who is best cannot be said while
/// somebody has no figure.
fn over_best(sheet: &Sheet, scenario: Scenario, measure: Measure) -> Vec<f64> {
    let taking_part = PEERS.into_iter().filter(|peer| scenario.contenders().contains(peer));
    let ratios: Vec<Vec<f64>> = taking_part.map(|peer| sheet.ratios(scenario, measure, peer)).collect();
    let median =
        |ratios: &Vec<f64>| Spread::of(ratios.iter().copied()).map_or(f64::INFINITY, |spread| spread.median);
    ratios.into_iter().max_by(|left, right| median(left).total_cmp(&median(right))).unwrap_or_default()
}

impl Bound {
    fn most(self) -> f64 {
        match self {
            Self::Times(most, _) | Self::TimesBest(most) | Self::AtMost(most) => most,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(most, other) => write!(f, "<= {most:.2} x {other}"),
            Self::TimesBest(most) => write!(f, "<= {most:.2} x the best peer"),
            Self::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Missed => "**missed**",
            Self::Unknown => "not known",
        })
    }
}

#[cfg(test)]
mod tests;
