//! The part of a cluster that outlives changes of its configuration: endpoints with their state, counts, budget, metrics.
//!
//! Also the shell around `outlier`: what an outcome does to the endpoint, and to how many are ejected.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::Duration;

use arc_swap::ArcSwap;
use outrigger_model::endpoint::{Health, Locality};
use outrigger_model::policy::{LoadBalancer, OutlierDetection};
use tokio::time::Instant;

use super::budget::Budget;
use super::endpoint::{Endpoint, Standing, UNRANKED};
use super::health::{self, Vitals};
use super::hedging::Hedging;
use super::lease::Outcome;
use super::limits::Counts;
use super::metrics::{Metrics, STATES};
use super::outlier::{self, Crowd, Record};
use super::set::EndpointSet;
use super::spill::Spill;
use super::window::Column;

/// No probe is due, ever.
const NEVER: u64 = u64::MAX;

/// What the cluster of one name keeps while its configuration changes.
pub(super) struct Live {
    /// Moments are counted from here.
    pub(super) origin: Instant,
    pub(super) endpoints: ArcSwap<EndpointSet>,
    pub(super) counts: Counts,
    pub(super) budget: Budget,
    pub(super) metrics: Metrics,
    /// Only where a route hedges.
    pub(super) hedging: OnceLock<Box<Hedging>>,
    /// Where round robin stands.
    pub(super) turn: AtomicUsize,
    pub(super) next_number: AtomicU32,
    /// Where this proxy runs.
    pub(super) client: Locality,
    /// How much goes on from near endpoints to others.
    pub(super) spill: Spill,
    /// Whether endpoints ever said what they carry.
    pub(super) reported: AtomicBool,
    /// Nanoseconds since the origin when the next probe is due.
    next_probe: AtomicU64,
    /// Held while one endpoint is being ejected, so that two workers do not eject the last two. Only ever tried, never
    /// waited for: who finds it taken lets the next error decide.
    ejecting: Mutex<()>,
    /// What the gauges of endpoints show.
    shown: [AtomicI64; STATES.len()],
}

/// The end of an attempt, as the endpoint's statistics take it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    pub(super) at: Duration,
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
    /// It was the one request that tries an ejected endpoint.
    pub(super) probe: bool,
}

/// How an endpoint is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement<'a> {
    pub(super) load_balancer: &'a LoadBalancer,
    pub(super) outlier: Option<&'a OutlierDetection>,
}

impl Live {
    pub(super) fn new(metrics: Metrics, origin: Instant, client: Locality) -> Self {
        Self {
            origin,
            endpoints: ArcSwap::default(),
            counts: Counts::new(),
            budget: Budget::new(),
            metrics,
            hedging: OnceLock::new(),
            turn: AtomicUsize::new(0),
            next_number: AtomicU32::new(1),
            client,
            spill: Spill::new(),
            reported: AtomicBool::new(false),
            next_probe: AtomicU64::new(NEVER),
            ejecting: Mutex::new(()),
            shown: std::array::from_fn(|_| AtomicI64::new(0)),
        }
    }

    /// For a cluster whose metrics have other labels: the same endpoints, counted anew.
    pub(super) fn relabelled(&self, metrics: Metrics) -> Self {
        let live = Self::new(metrics, self.origin, self.client.clone());
        live.next_number.store(self.next_number.load(Relaxed), Relaxed);
        live.replace(self.endpoints.load_full());
        live
    }

    pub(super) fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }

    pub(super) fn replace(&self, set: Arc<EndpointSet>) {
        self.endpoints.store(set);
        self.obey_health();
    }

    /// The endpoint, when one is due for its probe, and this caller is the one to probe it.
    pub(super) fn start_probe(&self, set: &EndpointSet, at: Duration, tried: &[u32]) -> Option<usize> {
        if self.next_probe.load(Relaxed) > at.as_nanos() as u64 {
            return None;
        }
        let due =
            |endpoint: &Arc<Endpoint>| !tried.contains(&endpoint.number()) && endpoint.state.start_probe(at);
        let found = set.candidates().iter().position(due)?;
        self.schedule_probe();
        self.show_states();
        Some(found)
    }

    /// The probe ended without an answer.
    pub(super) fn abandon_probe(&self, endpoint: &Endpoint) {
        endpoint.state.abandon_probe();
        self.schedule_probe();
        self.show_states();
    }

    /// Takes the end of an attempt into account.
    pub(super) fn finished(&self, endpoint: &Endpoint, finished: Finished, judgement: Judgement<'_>) {
        let failed = matches!(finished.outcome, Outcome::ServerError | Outcome::Failure);
        observe_latency(endpoint, finished, judgement.load_balancer);
        let rank = endpoint.state.rank.load(Relaxed);
        if rank != UNRANKED {
            self.spill.observe(usize::from(rank), finished.at, finished.took);
        }
        endpoint.state.requests.fetch_add(1, Relaxed);
        if failed {
            endpoint.state.failed.fetch_add(1, Relaxed);
        }
        let Some(policy) = judgement.outlier else {
            // Ejection was turned off while this endpoint was out: any answer ends that.
            if finished.probe {
                self.restore(endpoint, finished.at);
            }
            return;
        };
        if let Outcome::AskedToWait(time) = finished.outcome {
            // Who asks politely is not broken: that is no error, and no ejection.
            if finished.probe {
                self.restore(endpoint, finished.at);
            }
            return self.rest(endpoint, finished.at, (time, policy));
        }
        match (finished.probe, failed) {
            (true, false) => self.restore(endpoint, finished.at),
            (true, true) => self.eject(endpoint, finished.at, policy),
            (false, false) => {
                endpoint.state.end_errors_in_a_row();
                endpoint.state.window.count(finished.at, policy.window, Column::First);
            }
            (false, true) => self.error(endpoint, finished.at, policy),
        }
    }

    /// Lets checks decide who is left out: the unhealthy, unless they are too many.
    pub(super) fn obey_health(&self) {
        let set = self.endpoints.load();
        let candidates = set.candidates();
        let unhealthy = candidates.iter().filter(|endpoint| !endpoint.state.vitals().is_healthy()).count();
        let leaves_out = health::leaves_out(candidates.len(), unhealthy);
        for endpoint in set.all() {
            endpoint.state.leave_out(leaves_out && !endpoint.state.vitals().is_healthy());
        }
        self.schedule_probe();
        self.show_states();
    }

    /// Takes every endpoint as healthy, because nobody checks any more.
    pub(super) fn forget_health(&self) {
        for endpoint in self.endpoints.load().all() {
            endpoint.state.set_vitals(Vitals::default());
        }
        self.obey_health();
    }

    /// Takes every endpoint back, because ejection was turned off.
    pub(super) fn restore_all(&self) {
        for endpoint in self.endpoints.load().all().iter().filter(|endpoint| !endpoint.state.is_in_use()) {
            endpoint.state.restore(Duration::ZERO);
        }
        self.schedule_probe();
        self.show_states();
    }

    fn error(&self, endpoint: &Endpoint, at: Duration, policy: &OutlierDetection) {
        let state = &endpoint.state;
        state.window.count(at, policy.window, Column::Second);
        let consecutive_errors = state.consecutive_errors.fetch_add(1, Relaxed).saturating_add(1);
        let record = Record { consecutive_errors, window: state.window.sums(at, policy.window) };
        if !state.is_in_use() || !outlier::is_outlier(policy, record) {
            return;
        }
        let _turn = match self.ejecting.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(turn) => turn,
        };
        if state.is_in_use() && outlier::has_room(policy, self.crowd()) {
            self.eject(endpoint, at, policy);
        }
    }

    /// Leaves an endpoint alone that asked for it, as long as enough others take requests.
    fn rest(&self, endpoint: &Endpoint, at: Duration, asked: (Option<Duration>, &OutlierDetection)) {
        let (time, policy) = asked;
        let _turn = match self.ejecting.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(turn) => turn,
        };
        let set = self.endpoints.load();
        let others = set.candidates().iter().filter(|other| other.number() != endpoint.number());
        let out = others.filter(|other| !other.state.takes_requests(at)).count();
        if outlier::has_room(policy, Crowd { total: set.candidates().len(), ejected: out }) {
            let mut rng = jitter(endpoint, at);
            endpoint.state.rest(at + outlier::rest_time(policy, time, &mut rng));
        }
    }

    fn eject(&self, endpoint: &Endpoint, at: Duration, policy: &OutlierDetection) {
        let (before, in_use_for) = endpoint.state.history(at);
        let in_use_for = if endpoint.state.is_in_use() { in_use_for } else { Duration::ZERO };
        let times = outlier::next_in_row(policy, before, in_use_for);
        let mut rng = jitter(endpoint, at);
        let time = outlier::ejection_time(policy, times, &mut rng);
        endpoint.state.eject(at + time, times);
        self.metrics.ejections.increment(1);
        self.schedule_probe();
        self.show_states();
        tracing::warn!(
            endpoint.addr = %endpoint.config().address,
            ejected_for = ?time,
            ejections_in_a_row = times,
            "endpoint ejected"
        );
    }

    fn restore(&self, endpoint: &Endpoint, at: Duration) {
        endpoint.state.restore(at);
        self.schedule_probe();
        self.show_states();
        tracing::info!(endpoint.addr = %endpoint.config().address, "endpoint restored");
    }

    fn crowd(&self) -> Crowd {
        let set = self.endpoints.load();
        let candidates = set.candidates();
        let ejected = candidates.iter().filter(|endpoint| !endpoint.state.is_in_use()).count();
        Crowd { total: candidates.len(), ejected }
    }

    fn schedule_probe(&self) {
        let set = self.endpoints.load();
        let next = set.candidates().iter().filter_map(|endpoint| endpoint.state.probe_due_at()).min();
        self.next_probe.store(next.map_or(NEVER, |at| at.as_nanos() as u64), Relaxed);
    }

    /// Brings the gauges to what is. They are moved by differences, because clusters of one service share them.
    fn show_states(&self) {
        let mut counts = [0_i64; STATES.len()];
        for endpoint in self.endpoints.load().all() {
            counts[state_index(endpoint)] += 1;
        }
        self.show(counts);
    }

    fn show(&self, counts: [i64; STATES.len()]) {
        for ((gauge, shown), count) in self.metrics.endpoints.iter().zip(&self.shown).zip(counts) {
            let before = shown.swap(count, Relaxed);
            if before != count {
                gauge.increment((count - before) as f64);
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.show([0; STATES.len()]);
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("endpoints", &self.endpoints)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// An error never makes an endpoint look faster: one that refuses at once would otherwise draw all requests.
fn observe_latency(endpoint: &Endpoint, finished: Finished, load_balancer: &LoadBalancer) {
    let LoadBalancer::PeakEwma { default_round_trip, decay } = *load_balancer else { return };
    let latency = &endpoint.state.latency;
    let known = || {
        latency.estimate_ns(finished.at, decay).map_or(Duration::ZERO, |ns| Duration::from_nanos(ns as u64))
    };
    let sample = match finished.outcome {
        Outcome::Success => finished.took,
        Outcome::ServerError | Outcome::AskedToWait(_) => finished.took.max(known()),
        Outcome::Failure => finished.took.max(known()).max(default_round_trip),
    };
    latency.observe(finished.at, sample, decay);
}

/// Any number that differs between endpoints and moments will do for jitter.
fn jitter(endpoint: &Endpoint, at: Duration) -> fastrand::Rng {
    fastrand::Rng::with_seed(at.as_nanos() as u64 ^ u64::from(endpoint.number()) << 48)
}

fn state_index(endpoint: &Endpoint) -> usize {
    let standing = endpoint.state.standing(Duration::ZERO);
    match (endpoint.config().health, standing) {
        (Health::Draining, _) => 1,
        (Health::Healthy, _) if !endpoint.state.vitals().is_healthy() => 4,
        (Health::Healthy, Standing::InUse) => 0,
        (Health::Healthy, Standing::Probing) => 3,
        (Health::Healthy, Standing::Ejected { .. } | Standing::ProbeDue) => 2,
    }
}
