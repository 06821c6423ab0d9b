//! One endpoint as all workers see it: what configuration says, and what traffic has shown.
//!
//! The state is atomics, shared by workers and kept while the endpoint stays in its cluster, whatever else changes.
//! Moments are durations since the origin of the cluster. This module decides nothing: see `balance` and `outlier`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use outrigger_model::endpoint::{Endpoint as Config, Health};
use outrigger_model::identity::SpiffeId;

use super::ewma::PeakEwma;
use super::health::Vitals;
use super::window::Window;

/// An address that serves, with what is known of it.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    number: u32,
    label: u32,
    pub(super) state: Arc<EndpointState>,
}

/// What traffic has shown of an endpoint.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) latency: PeakEwma,
    /// Requests in flight there.
    pub(super) pending: AtomicU32,
    pub(super) requests: AtomicU64,
    pub(super) failed: AtomicU64,
    /// First column: successes, second column: errors.
    pub(super) window: Window,
    pub(super) consecutive_errors: AtomicU32,
    /// Nanoseconds since the origin; 0 while the endpoint is in use.
    ejected_until: AtomicU64,
    /// Ejections that followed closely on each other.
    ejections: AtomicU32,
    /// Nanoseconds since the origin when the last ejection was over.
    restored_at: AtomicU64,
    probing: AtomicBool,
    /// Why no new request goes there, as flags; 0 while they do. All that choosing looks at.
    barred: AtomicU8,
    /// Nanoseconds since the origin until which it asked for patience.
    resting_until: AtomicU64,
    /// What health checks have shown, packed.
    vitals: AtomicU32,
}

/// Ejected, until a probe succeeds.
const EJECTED: u8 = 1;
/// Fails its health checks, and enough others do not.
const UNHEALTHY: u8 = 2;
/// Asked for patience.
const RESTING: u8 = 4;

/// Whether requests may go to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// They may.
    InUse,
    /// Not until then.
    Ejected { until: Duration },
    /// The time is over, one request may try.
    ProbeDue,
    /// One request is trying.
    Probing,
}

impl Endpoint {
    pub(super) fn new(config: Config, number: u32, label: u32, state: Arc<EndpointState>) -> Self {
        Self { config, number, label, state }
    }

    /// What discovery says of it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its number within its cluster: the same as long as address and identity stay, never given to another endpoint.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The number telemetry knows its workload by.
    pub fn label(&self) -> u32 {
        self.label
    }
}

impl EndpointState {
    /// Of an endpoint that was never used.
    pub(super) fn new() -> Self {
        Self {
            latency: PeakEwma::new(),
            pending: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            window: Window::new(),
            consecutive_errors: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            restored_at: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            barred: AtomicU8::new(0),
            resting_until: AtomicU64::new(0),
            vitals: AtomicU32::new(Vitals::default().pack()),
        }
    }

    pub(super) fn standing(&self, at: Duration) -> Standing {
        let until = self.ejected_until.load(Relaxed);
        if until == 0 {
            Standing::InUse
        } else if self.probing.load(Relaxed) {
            Standing::Probing
        } else if at.as_nanos() as u64 >= until {
            Standing::ProbeDue
        } else {
            Standing::Ejected { until: Duration::from_nanos(until) }
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.ejected_until.load(Relaxed) == 0
    }

    /// Whether new requests go there.
    pub(super) fn takes_requests(&self, at: Duration) -> bool {
        match self.barred.load(Relaxed) {
            0 => true,
            RESTING => self.is_rested(at),
            _ => false,
        }
    }

    fn is_rested(&self, at: Duration) -> bool {
        let rested = at.as_nanos() as u64 >= self.resting_until.load(Relaxed);
        if rested {
            self.barred.fetch_and(!RESTING, Relaxed);
        }
        rested
    }

    /// It asked for patience. A later end replaces an earlier one, never the other way round.
    pub(super) fn rest(&self, until: Duration) {
        self.resting_until.fetch_max(until.as_nanos() as u64, Relaxed);
        self.barred.fetch_or(RESTING, Relaxed);
    }

    /// How long it asked for patience from now on; `None` when it does not.
    pub(super) fn resting_for(&self, at: Duration) -> Option<Duration> {
        let until = Duration::from_nanos(self.resting_until.load(Relaxed));
        let resting = self.barred.load(Relaxed) & RESTING != 0 && until > at;
        resting.then(|| until - at)
    }

    pub(super) fn vitals(&self) -> Vitals {
        Vitals::unpack(self.vitals.load(Relaxed))
    }

    /// For the one task that checks the endpoint.
    pub(super) fn set_vitals(&self, vitals: Vitals) {
        self.vitals.store(vitals.pack(), Relaxed);
    }

    /// Whether its failed health checks keep requests away.
    pub(super) fn leave_out(&self, out: bool) {
        match out {
            true => self.barred.fetch_or(UNHEALTHY, Relaxed),
            false => self.barred.fetch_and(!UNHEALTHY, Relaxed),
        };
    }

    fn is_left_out(&self) -> bool {
        self.barred.load(Relaxed) & UNHEALTHY != 0
    }

    /// When a probe is due; `None` while in use or while one is under way.
    pub(super) fn probe_due_at(&self) -> Option<Duration> {
        let until = self.ejected_until.load(Relaxed);
        let probed = until != 0 && !self.probing.load(Relaxed) && !self.is_left_out();
        probed.then(|| Duration::from_nanos(until))
    }

    /// How many ejections came before, and for how long the endpoint has been in use since the last.
    pub(super) fn history(&self, at: Duration) -> (u32, Duration) {
        let restored = Duration::from_nanos(self.restored_at.load(Relaxed));
        (self.ejections.load(Relaxed), at.saturating_sub(restored))
    }

    pub(super) fn eject(&self, until: Duration, times: u32) {
        self.ejections.store(times, Relaxed);
        self.ejected_until.store((until.as_nanos() as u64).max(1), Relaxed);
        self.barred.fetch_or(EJECTED, Relaxed);
        self.probing.store(false, Relaxed);
    }

    pub(super) fn restore(&self, at: Duration) {
        self.window.clear();
        self.consecutive_errors.store(0, Relaxed);
        self.restored_at.store(at.as_nanos() as u64, Relaxed);
        self.ejected_until.store(0, Relaxed);
        self.barred.fetch_and(!EJECTED, Relaxed);
        self.probing.store(false, Relaxed);
    }

    /// Looks before it writes: workers that all succeed do not take the cache line from each other.
    pub(super) fn end_errors_in_a_row(&self) {
        if self.consecutive_errors.load(Relaxed) != 0 {
            self.consecutive_errors.store(0, Relaxed);
        }
    }

    /// True for the one caller that may probe.
    pub(super) fn start_probe(&self, at: Duration) -> bool {
        self.standing(at) == Standing::ProbeDue
            && !self.is_left_out()
            && self.probing.compare_exchange(false, true, Relaxed, Relaxed).is_ok()
    }

    /// The probe ended without an answer: the next request may try.
    pub(super) fn abandon_probe(&self) {
        self.probing.store(false, Relaxed);
    }
}

/// All endpoints of a cluster at one moment, prepared for choosing.
#[derive(Debug, Default)]
pub(super) struct EndpointSet {
    all: Vec<Arc<Endpoint>>,
    /// So many at the front of `all` may be chosen.
    candidates: usize,
    /// Running sums of the weights of the candidates; empty when all weigh the same.
    cumulative: Vec<u64>,
    mean_weight: f64,
    /// The order of weighted round robin; empty when all weigh the same.
    schedule: Vec<u32>,
}

/// The longest order of weighted round robin, in turns; weights are scaled to fit.
const MAX_TURNS: usize = 4096;

impl EndpointSet {
    /// The healthy ones are candidates; when there is none, the draining ones are.
    pub(super) fn new(mut all: Vec<Arc<Endpoint>>) -> Self {
        all.sort_by_key(|endpoint| endpoint.config.health == Health::Draining);
        let healthy = all.iter().filter(|endpoint| endpoint.config.health == Health::Healthy).count();
        let candidates = if healthy == 0 { all.len() } else { healthy };
        let weights: Vec<u64> = all[..candidates].iter().map(|e| u64::from(e.config.weight.max(1))).collect();
        let total: u64 = weights.iter().sum();
        let mean_weight = total as f64 / candidates.max(1) as f64;
        let even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let (cumulative, schedule) =
            if even { (Vec::new(), Vec::new()) } else { (running_sums(&weights), turns(&weights, total)) };
        Self { all, candidates, cumulative, mean_weight, schedule }
    }

    pub(super) fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    pub(super) fn candidates(&self) -> &[Arc<Endpoint>] {
        &self.all[..self.candidates]
    }

    pub(super) fn weighs_evenly(&self) -> bool {
        self.cumulative.is_empty()
    }

    /// The weight of a candidate, 1 being the mean.
    pub(super) fn relative_weight(&self, index: usize) -> f64 {
        f64::from(self.all[index].config.weight.max(1)) / self.mean_weight
    }

    /// A candidate by weight.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        match self.cumulative.last() {
            None => rng.usize(..self.candidates),
            Some(total) => {
                let point = rng.u64(..*total);
                self.cumulative.partition_point(|sum| *sum <= point)
            }
        }
    }

    /// The candidate of a turn of round robin.
    pub(super) fn at_turn(&self, turn: usize) -> usize {
        match self.schedule.len() {
            0 => turn % self.candidates,
            turns => self.schedule[turn % turns] as usize,
        }
    }

    /// After so many turns every candidate had one.
    pub(super) fn turns(&self) -> usize {
        self.schedule.len().max(self.candidates)
    }

    /// The endpoints by what makes them the same endpoint.
    pub(super) fn by_key(&self) -> HashMap<(SocketAddr, Option<SpiffeId>), Arc<Endpoint>> {
        let key = |endpoint: &Arc<Endpoint>| (endpoint.config.address, endpoint.config.identity.clone());
        self.all.iter().map(|endpoint| (key(endpoint), endpoint.clone())).collect()
    }
}

fn running_sums(weights: &[u64]) -> Vec<u64> {
    let mut sum = 0;
    weights.iter().map(|weight| (sum += weight, sum).1).collect()
}

/// Spreads the turns of each endpoint evenly: its k-th turn comes at (k + 1/2) / weight.
fn turns(weights: &[u64], total: u64) -> Vec<u32> {
    let bound = MAX_TURNS.max(weights.len()) as u64;
    let scale = |weight: u64| if total <= bound { weight } else { (weight * bound / total).max(1) };
    let mut turns: Vec<(f64, u32)> = Vec::new();
    for (index, weight) in weights.iter().enumerate() {
        let share = scale(*weight);
        turns.extend((0..share).map(|k| ((k as f64 + 0.5) / share as f64, index as u32)));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    turns.into_iter().map(|(_, index)| index).collect()
}
