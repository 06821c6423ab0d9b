//! One endpoint as all workers see it: what configuration says, and what traffic has shown.
//!
//! The state is atomics, shared by workers and kept while the endpoint stays in its cluster, whatever else changes.
//! Moments are durations since the origin of the cluster. This module decides nothing: see `balance` and `outlier`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use outrigger_model::endpoint::Endpoint as Config;

use super::ewma::PeakEwma;
use super::hash::xxh64;
use super::health::Vitals;
use super::orca::Load;
use super::window::Window;

/// Tells tokens of sessions from other hashes of addresses.
const TOKEN_SEED: u64 = 0x6f75_7472_6967_6765;

/// An address that serves, with what is known of it.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    number: u32,
    label: u32,
    token: u64,
    pub(super) state: Arc<EndpointState>,
}

/// The rank of an endpoint of a cluster where nearness does not matter.
pub(super) const UNRANKED: u8 = u8::MAX;

/// What traffic has shown of an endpoint.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) latency: PeakEwma,
    /// What it says of its own load.
    pub(super) load: Load,
    /// Its rank of nearness, [`UNRANKED`] where that does not matter.
    pub(super) rank: AtomicU8,
    /// Nanoseconds since the origin when it came to others that were there; 0 for one of the first.
    new_since: AtomicU64,
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
        let token = xxh64(config.address.to_string().as_bytes(), TOKEN_SEED);
        Self { config, number, label, token, state }
    }

    /// What discovery says of it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its number within its cluster: the same as long as address and identity stay, never given to another endpoint.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// A number that stands for its address: the same in every proxy and at all times, and a stranger cannot read the
    /// address from it.
    pub fn token(&self) -> u64 {
        self.token
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
            load: Load::new(),
            rank: AtomicU8::new(UNRANKED),
            new_since: AtomicU64::new(0),
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

    /// Of an endpoint that comes to others at a moment.
    pub(super) fn newcomer(at: Duration) -> Self {
        Self { new_since: AtomicU64::new((at.as_nanos() as u64).max(1)), ..Self::new() }
    }

    /// When it came to others; `None` for one of the first.
    pub(super) fn new_since(&self) -> Option<Duration> {
        let since = self.new_since.load(Relaxed);
        (since != 0).then(|| Duration::from_nanos(since))
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
