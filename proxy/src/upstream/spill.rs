//! How much of the traffic to near endpoints goes on to the next nearest, because the near ones carry more.
//!
//! Between each rank of nearness and the next stands a share of requests that go on. It rises while the near rank carries
//! more than the mean of both by a margin, falls when it carries less, and stays in between, so that it does not flap.
//! What a rank carries is its utilisation where endpoints report it (ORCA); otherwise how long its answers take: that is
//! the requests in flight there for the rate that it is given (Little's law), which a proxy can tell without knowing what
//! other proxies send. A small share always goes on, so that the next rank is known.
//!
//! Apart from load, endpoints that are ejected spill at once: the near ones keep their whole share down to 70 % of them in
//! use, and less in proportion below (Envoy's "overprovisioning factor", 1.4).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::ewma::Ewma;
use super::locality::RANKS;
use super::set::EndpointSet;

/// How often shares are looked at.
const EVERY: Duration = Duration::from_millis(250);
/// Requests that go on in any case.
const LEAST_SHARE: f64 = 0.02;
/// Requests that stay, so that the near rank is known.
const MOST_SHARE: f64 = 0.98;
/// Near endpoints keep their whole share while this many times those in use are enough.
const OVERPROVISIONING: f64 = 1.4;
/// How a share follows what is too much: per step of [`EVERY`].
const GAIN: f64 = 0.06;
/// The largest step, so that many proxies that see the same do not overshoot together.
const MAX_STEP: f64 = 0.03;
/// How fast the mean of answer times forgets.
const LATENCY_DECAY: Duration = Duration::from_secs(2);
/// Answer times this old say nothing any more.
const LATENCY_EXPIRES: Duration = Duration::from_secs(10);

/// What the near rank may carry beyond the mean of both.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Margin {
    /// Above it the share rises.
    rises: f64,
    /// Below it the share falls.
    falls: f64,
}

/// Utilisation is what is to be made equal.
const OF_UTILISATION: Margin = Margin { rises: 0.04, falls: 0.0 };
/// Answers take long before utilisation is full, and differ for other reasons.
const OF_LATENCY: Margin = Margin { rises: 0.15, falls: 0.05 };

/// The shares of one cluster, as all workers see them.
#[derive(Debug)]
pub(super) struct Spill {
    latency: [Ewma; RANKS],
    /// `f64` bits: by load, from each rank to the next.
    by_load: [AtomicU64; RANKS - 1],
    /// `f64` bits: because endpoints are out.
    by_health: [AtomicU64; RANKS - 1],
    /// Nanoseconds since the origin of the cluster when shares are looked at again.
    next: AtomicU64,
}

/// What a rank carries.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Carried {
    pub(super) endpoints: usize,
    pub(super) in_use: usize,
    /// Mean of those that report it, 0 to 1 and beyond.
    pub(super) utilisation: Option<f64>,
    pub(super) latency_ns: Option<f64>,
}

impl Spill {
    /// Everything stays near.
    pub(super) fn new() -> Self {
        Self {
            latency: std::array::from_fn(|_| Ewma::new()),
            by_load: std::array::from_fn(|_| AtomicU64::new(0)),
            by_health: std::array::from_fn(|_| AtomicU64::new(0)),
            next: AtomicU64::new(0),
        }
    }

    /// An answer of an endpoint of a rank took so long.
    pub(super) fn observe(&self, rank: usize, at: Duration, took: Duration) {
        if let Some(latency) = self.latency.get(rank) {
            latency.observe(at, took.as_secs_f64() * 1e9, LATENCY_DECAY);
        }
    }

    /// The rank whose turn it is, of so many.
    pub(super) fn rank(&self, ranks: usize, rng: &mut fastrand::Rng) -> usize {
        let goes_on = |rank: &usize| rng.f64() < self.share(*rank);
        (0..ranks - 1).take_while(goes_on).count()
    }

    /// The share of requests that go on from a rank.
    pub(super) fn share(&self, rank: usize) -> f64 {
        let share = |of: &[AtomicU64]| of.get(rank).map_or(0.0, |bits| f64::from_bits(bits.load(Relaxed)));
        share(&self.by_load).clamp(LEAST_SHARE, MOST_SHARE).max(share(&self.by_health))
    }

    /// Looks at the shares when it is time; whoever comes first does it for all.
    pub(super) fn update(&self, set: &EndpointSet, at: Duration) {
        let now = at.as_nanos() as u64;
        let due = self.next.load(Relaxed);
        let next = now + EVERY.as_nanos() as u64;
        if now < due || self.next.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return;
        }
        let ranks = set.ranks().len().min(RANKS);
        for rank in 0..ranks.saturating_sub(1) {
            let (near, far) = (self.carried(set, rank, at), self.carried(set, rank + 1, at));
            let before = f64::from_bits(self.by_load[rank].load(Relaxed));
            self.by_load[rank].store(next_share(before, near, far).to_bits(), Relaxed);
            self.by_health[rank].store(by_health(near).to_bits(), Relaxed);
        }
    }

    fn carried(&self, set: &EndpointSet, rank: usize, at: Duration) -> Carried {
        let known = self.latency[rank].known(at, LATENCY_EXPIRES);
        Carried { latency_ns: known, ..set.carried(rank, at) }
    }
}

/// The share that goes on from now, by what both ranks carry. Without knowing, it stays.
fn next_share(before: f64, near: Carried, far: Carried) -> f64 {
    let both = |of: fn(&Carried) -> Option<f64>| Some((of(&near)?, of(&far)?));
    let utilisation = both(|carried| carried.utilisation).map(|loads| (loads, OF_UTILISATION));
    let loads = utilisation.or_else(|| both(|carried| carried.latency_ns).map(|loads| (loads, OF_LATENCY)));
    let Some(((load_near, load_far), margin)) = loads else { return before };
    let endpoints = (near.endpoints + far.endpoints).max(1) as f64;
    let mean = (load_near * near.endpoints as f64 + load_far * far.endpoints as f64) / endpoints;
    let excess = if mean > 0.0 { load_near / mean - 1.0 } else { 0.0 };
    let step = match excess {
        excess if excess > margin.rises => (excess - margin.rises) * GAIN,
        excess if excess < margin.falls => (excess - margin.falls) * GAIN,
        _ => 0.0,
    };
    (before + step.clamp(-MAX_STEP, MAX_STEP)).clamp(0.0, MOST_SHARE)
}

/// The share that near endpoints cannot take because some of them are out.
fn by_health(near: Carried) -> f64 {
    let in_use = near.in_use as f64 / near.endpoints.max(1) as f64;
    (1.0 - in_use * OVERPROVISIONING).max(0.0)
}

#[cfg(test)]
mod tests;
