//! Which endpoint takes a request: a plain function of the endpoints, the policy, the time and a random number.
//!
//! PeakEwma and LeastRequest are "the power of two choices": the better of two that were drawn at random (Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", 2001). The cost of an endpoint is its latency times the
//! requests that would be in flight there. Who hashes finds the owner of a key instead (`ring`, `maglev`); a session finds
//! its endpoint. Ejection is decided elsewhere and only obeyed here.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use outrigger_model::policy::{LoadBalancer, SlowStart};

use super::endpoint::Endpoint;
use super::ewma;
use super::lease::Affinity;
use super::orca::Factors;
use super::set::EndpointSet;
use super::shares::Shares;
use super::slow_start::ripeness;
use super::spill::Spill;

/// Draws before all endpoints are looked at, for when many are ejected or were tried.
const DRAWS: usize = 8;

/// A new endpoint's part of its weight when its requests in flight are judged, at least: nothing is divided by 0.
const LEAST_RIPENESS: f64 = 0.01;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) policy: &'a LoadBalancer,
    pub(super) slow_start: Option<&'a SlowStart>,
    /// Since the origin of the cluster.
    pub(super) at: Duration,
    /// Numbers of the endpoints that this request was sent to before.
    pub(super) tried: &'a [u32],
    /// Where the request would rather go.
    pub(super) affinity: Affinity,
    /// Where round robin stands.
    pub(super) turn: &'a AtomicUsize,
    /// How much goes on from near endpoints to others.
    pub(super) spill: &'a Spill,
    /// Whether endpoints ever said what they carry.
    pub(super) reported: bool,
}

/// Whom to take; each is tried only when the one before finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// In use and not tried before.
    Fresh,
    /// In use.
    InUse,
    /// Anybody: nothing else is left, and failing without trying helps nobody.
    Anybody,
}

/// In the order in which they are tried.
const RULES: [Rule; 3] = [Rule::Fresh, Rule::InUse, Rule::Anybody];

/// The place of the chosen one among the candidates; `None` only when there are no endpoints.
pub(super) fn pick(set: &EndpointSet, choice: &Choice<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    if set.candidates().is_empty() {
        return None;
    }
    if let Some(index) = in_session(set, choice) {
        return Some(index);
    }
    match choice.policy {
        LoadBalancer::RingHash(_) | LoadBalancer::Maglev(_) => by_hash(set, choice, rng),
        LoadBalancer::PeakEwma { .. }
        | LoadBalancer::LeastRequest
        | LoadBalancer::RoundRobin
        | LoadBalancer::Random => match set.ranks() {
            [] => {
                let field = Field::new(set, choice, set.whole());
                RULES.into_iter().find_map(|rule| field.by(rule).choose(rng))
            }
            ranks => by_nearness(set, choice, ranks, rng),
        },
    }
}

/// The endpoint that the session of the request is with, while it may be used.
pub(super) fn in_session(set: &EndpointSet, choice: &Choice<'_>) -> Option<usize> {
    let token = choice.affinity.session?;
    let index = set.candidates().iter().position(|endpoint| endpoint.token() == token)?;
    Field::new(set, choice, set.whole()).allows(index).then_some(index)
}

/// The owner of the key, or of any key for a request that has none.
fn by_hash(set: &EndpointSet, choice: &Choice<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    let field = Field::new(set, choice, set.whole());
    let Some(hashes) = set.hashes() else {
        // The endpoints were prepared for another policy, which is about to change.
        return RULES.into_iter().find_map(|rule| field.by(rule).draw(None, rng));
    };
    let key = choice.affinity.key.unwrap_or_else(|| rng.u64(..));
    RULES.into_iter().find_map(|rule| hashes.find(key, |index| field.by(rule).allows(*index)))
}

/// The rank whose turn it is, then those beyond it, then nearer ones: whoever can be used is better than nobody.
fn by_nearness(
    set: &EndpointSet,
    choice: &Choice<'_>,
    ranks: &[Shares],
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    choice.spill.update(set, choice.at);
    let start = choice.spill.rank(ranks.len(), rng);
    let mut order = RULES.into_iter().flat_map(|rule| {
        let around = ranks[start..].iter().chain(&ranks[..start]);
        around.map(move |shares| (rule, shares))
    });
    order.find_map(|(rule, shares)| Field::new(set, choice, shares).by(rule).choose(rng))
}

/// The candidates that a rule lets through.
#[derive(Clone, Copy)]
struct Field<'a> {
    set: &'a EndpointSet,
    choice: &'a Choice<'a>,
    shares: &'a Shares,
    rule: Rule,
    /// Present while somebody may be new.
    slow_start: Option<&'a SlowStart>,
}

impl<'a> Field<'a> {
    fn new(set: &'a EndpointSet, choice: &'a Choice<'a>, shares: &'a Shares) -> Self {
        let slow_start = if set.has_new(choice.at) { choice.slow_start } else { None };
        Self { set, choice, shares, rule: Rule::Fresh, slow_start }
    }

    fn by(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    fn choose(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        match self.choice.policy {
            LoadBalancer::RoundRobin => self.in_turn(rng),
            LoadBalancer::LeastRequest | LoadBalancer::PeakEwma { .. } => self.better_of_two(rng),
            LoadBalancer::Random | LoadBalancer::RingHash(_) | LoadBalancer::Maglev(_) => {
                self.draw(None, rng)
            }
        }
    }

    fn allows(&self, index: usize) -> bool {
        let endpoint = self.endpoint(index);
        match self.rule {
            Rule::Fresh => {
                endpoint.state.takes_requests(self.choice.at)
                    && !self.choice.tried.contains(&endpoint.number())
            }
            Rule::InUse => endpoint.state.takes_requests(self.choice.at),
            Rule::Anybody => true,
        }
    }

    fn endpoint(&self, index: usize) -> &'a Endpoint {
        &self.set.candidates()[index]
    }

    /// The part of its weight that a new endpoint has already.
    fn ripeness(&self, index: usize) -> f64 {
        let Some(policy) = self.slow_start else { return 1.0 };
        let since = self.endpoint(index).state.new_since();
        since.map_or(1.0, |since| ripeness(policy, self.choice.at.saturating_sub(since)))
    }

    /// Whether a draw of an endpoint counts: of a new one only in part, which makes its share what its weight is by now.
    fn counts(&self, index: usize, rng: &mut fastrand::Rng) -> bool {
        self.slow_start.is_none() || rng.f64() < self.ripeness(index)
    }

    /// A new endpoint misses turns; when all turns were missed, whoever is next has one.
    fn in_turn(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let mut turns = (0..self.shares.turns())
            .map(|_| self.shares.at_turn(self.choice.turn.fetch_add(1, Relaxed)))
            .filter(|index| self.allows(*index));
        let first = turns.next()?;
        if self.counts(first, rng) {
            return Some(first);
        }
        turns.find(|index| self.counts(*index, rng)).or(Some(first))
    }

    /// One by weight, not `except`.
    fn draw(&self, except: Option<usize>, rng: &mut fastrand::Rng) -> Option<usize> {
        let fits = |index: &usize| Some(*index) != except && self.allows(*index);
        for _ in 0..DRAWS {
            let drawn = self.shares.draw(rng);
            if fits(&drawn) && self.counts(drawn, rng) {
                return Some(drawn);
            }
        }
        // One pass over everybody, each kept with the share of its weight in what was seen so far.
        let (mut kept, mut total) = (None, 0.0);
        for index in self.shares.range().filter(fits) {
            let weight = self.shares.relative_weight(index) * self.ripeness(index);
            total += weight;
            // Weights of 0 are possible while endpoints are new: then any of them is as good.
            if kept.is_none() || rng.f64() * total < weight {
                kept = Some(index);
            }
        }
        kept
    }

    /// Endpoints of even weight are drawn without putting back, so that of two the better one is always found. With
    /// uneven weights each draw stands for itself: otherwise of two endpoints both would always be candidates, and their
    /// weights would mean nothing.
    fn better_of_two(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let first = self.draw(None, rng)?;
        let even = self.shares.weigh_evenly() && self.slow_start.is_none();
        let except = even.then_some(first);
        let Some(second) = self.draw(except, rng).filter(|second| *second != first) else {
            return Some(first);
        };
        let second_is_better = match self.factors(second, first) {
            None => self.costs_less(second, first),
            Some(factors) => self.takes(factors, second, first, rng),
        };
        Some(if second_is_better { second } else { first })
    }

    /// What both report of themselves; `None` where they do not.
    fn factors(&self, one: usize, other: usize) -> Option<Factors> {
        if !self.choice.reported {
            return None;
        }
        let load = |index| &self.endpoint(index).state.load;
        load(one).factors(load(other), self.choice.at)
    }

    fn costs_less(&self, one: usize, other: usize) -> bool {
        let (latency_one, latency_other) = self.latencies(one, other);
        latency_one * self.load(one, 1.0) < latency_other * self.load(other, 1.0)
    }

    /// Chance decides by what each reports, not the better one always: reports are late, and all proxies see the same.
    fn takes(&self, factors: Factors, one: usize, other: usize, rng: &mut fastrand::Rng) -> bool {
        let mean = f64::midpoint(factors.one, factors.other);
        let (latency_one, latency_other) = self.latencies(one, other);
        let worth_one = factors.one / (latency_one * self.load(one, factors.one / mean));
        let worth_other = factors.other / (latency_other * self.load(other, factors.other / mean));
        rng.f64() * (worth_one + worth_other) < worth_one
    }

    /// Requests that would be in flight, in units of what the weight makes fair.
    fn load(&self, index: usize, factor: f64) -> f64 {
        let pending = f64::from(self.endpoint(index).state.pending.load(Relaxed));
        let ripe = self.ripeness(index).max(LEAST_RIPENESS);
        pending / (self.shares.relative_weight(index) * ripe * factor) + 1.0
    }

    /// An endpoint never used is taken to be as fast as the other, but not slower than the default: a newcomer gets its
    /// share at once, and its requests in flight keep it from being flooded before its first answer.
    fn latencies(&self, one: usize, other: usize) -> (f64, f64) {
        let LoadBalancer::PeakEwma { default_round_trip, decay } = *self.choice.policy else {
            return (1.0, 1.0);
        };
        let default = ewma::nanos(default_round_trip);
        let known = |index| self.endpoint(index).state.latency.estimate_ns(self.choice.at, decay);
        match (known(one), known(other)) {
            (Some(one), Some(other)) => (one, other),
            (Some(one), None) => (one, one.min(default)),
            (None, Some(other)) => (other.min(default), other),
            (None, None) => (default, default),
        }
    }
}

#[cfg(test)]
mod tests;
