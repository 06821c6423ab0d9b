//! Which endpoint takes a request: a plain function of the endpoints, the policy, the time and a random number.
//!
//! PeakEwma and LeastRequest are "the power of two choices": the better of two that were drawn at random (Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", 2001). The cost of an endpoint is its latency times the
//! requests that would be in flight there. Ejection is decided elsewhere and only obeyed here.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use outrigger_model::policy::LoadBalancer;

use super::endpoint::{Endpoint, EndpointSet};
use super::ewma;

/// Draws before all endpoints are looked at, for when many are ejected or were tried.
const DRAWS: usize = 8;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) policy: LoadBalancer,
    /// Since the origin of the cluster.
    pub(super) at: Duration,
    /// Numbers of the endpoints that this request was sent to before.
    pub(super) tried: &'a [u32],
    /// Where round robin stands.
    pub(super) turn: &'a AtomicUsize,
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

/// The place of the chosen one among the candidates; `None` only when there are no endpoints.
pub(super) fn pick(set: &EndpointSet, choice: &Choice<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    if set.candidates().is_empty() {
        return None;
    }
    [Rule::Fresh, Rule::InUse, Rule::Anybody].into_iter().find_map(|rule| {
        let field = Field { set, choice, rule };
        match choice.policy {
            LoadBalancer::RoundRobin => field.in_turn(),
            LoadBalancer::Random => field.draw(None, rng),
            LoadBalancer::LeastRequest | LoadBalancer::PeakEwma { .. } => field.better_of_two(rng),
        }
    })
}

/// The candidates that a rule lets through.
struct Field<'a> {
    set: &'a EndpointSet,
    choice: &'a Choice<'a>,
    rule: Rule,
}

impl Field<'_> {
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

    fn endpoint(&self, index: usize) -> &Endpoint {
        &self.set.candidates()[index]
    }

    fn in_turn(&self) -> Option<usize> {
        (0..self.set.turns())
            .map(|_| self.set.at_turn(self.choice.turn.fetch_add(1, Relaxed)))
            .find(|index| self.allows(*index))
    }

    /// One by weight, not `except`.
    fn draw(&self, except: Option<usize>, rng: &mut fastrand::Rng) -> Option<usize> {
        let fits = |index: &usize| Some(*index) != except && self.allows(*index);
        let drawn = (0..DRAWS).map(|_| self.set.draw(rng)).find(fits);
        drawn.or_else(|| {
            // One pass over everybody, each kept with the share of its weight in what was seen so far.
            let (mut kept, mut total) = (None, 0.0);
            for index in (0..self.set.candidates().len()).filter(fits) {
                let weight = self.set.relative_weight(index);
                total += weight;
                if rng.f64() * total < weight {
                    kept = Some(index);
                }
            }
            kept
        })
    }

    /// Endpoints of even weight are drawn without putting back, so that of two the better one is always found. With
    /// uneven weights each draw stands for itself: otherwise of two endpoints both would always be candidates, and their
    /// weights would mean nothing.
    fn better_of_two(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let first = self.draw(None, rng)?;
        let except = self.set.weighs_evenly().then_some(first);
        let Some(second) = self.draw(except, rng).filter(|second| *second != first) else {
            return Some(first);
        };
        Some(if self.costs_less(second, first) { second } else { first })
    }

    fn costs_less(&self, one: usize, other: usize) -> bool {
        let (latency_one, latency_other) = self.latencies(one, other);
        latency_one * self.load(one) < latency_other * self.load(other)
    }

    /// Requests that would be in flight, in units of what the weight makes fair.
    fn load(&self, index: usize) -> f64 {
        let pending = f64::from(self.endpoint(index).state.pending.load(Relaxed));
        pending / self.set.relative_weight(index) + 1.0
    }

    /// An endpoint never used is taken to be as fast as the other, but not slower than the default: a newcomer gets its
    /// share at once, and its requests in flight keep it from being flooded before its first answer.
    fn latencies(&self, one: usize, other: usize) -> (f64, f64) {
        let LoadBalancer::PeakEwma { default_round_trip, decay } = self.choice.policy else {
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
