//! Requests at once: who comes in, counted until their answers are over. The shell around `adaptive`.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use outrigger_base::telemetry::metrics::Gauge;
use outrigger_model::inbound::ConcurrencyLimit;
use tokio::time::Instant;

use super::adaptive::{Controller, WINDOW, Window, limit_of_class};

/// Answers of one window whose times are kept; those that come after them in the same window are not.
const MAX_SAMPLES: usize = 256;

/// A limit on requests at once, with what is under way, shared by the workers of a proxy.
pub struct Gate {
    config: ConcurrencyLimit,
    origin: Instant,
    in_flight: AtomicU32,
    limit: AtomicU32,
    peak: AtomicU32,
    refused: AtomicBool,
    /// Nanoseconds since the origin before which a window is not looked at.
    window_ends: AtomicU64,
    /// Nanoseconds since the origin when the limit was last looked at: answers to earlier requests do not count.
    counts_since: AtomicU64,
    /// In nanoseconds: what was given up or failed sooner says nothing of how long answers take.
    failures_count_from: AtomicU64,
    /// How long answers took, in microseconds.
    samples: [AtomicU32; MAX_SAMPLES],
    sampled: AtomicUsize,
    /// Only ever tried, never waited for: who finds it taken leaves the decision to whoever holds it.
    state: Mutex<State>,
    shown: Gauge,
}

#[derive(Debug)]
struct State {
    controller: Controller,
    rng: fastrand::Rng,
}

/// A request under way. Dropping it gives its place back.
#[derive(Debug)]
pub struct Slot {
    gate: Arc<Gate>,
    came: Instant,
    answered: bool,
}

impl Gate {
    /// A gate nobody has come through. `seed` moves measurements about, `shown` says what the limit is.
    pub fn new(config: ConcurrencyLimit, now: Instant, seed: u64, shown: Gauge) -> Arc<Self> {
        let controller = Controller::new((config.min, config.max));
        shown.set(f64::from(controller.limit()));
        Arc::new(Self {
            shown,
            config,
            origin: now,
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(controller.limit()),
            peak: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            window_ends: AtomicU64::new(nanos(WINDOW)),
            counts_since: AtomicU64::new(0),
            failures_count_from: AtomicU64::new(u64::MAX),
            samples: [const { AtomicU32::new(0) }; MAX_SAMPLES],
            sampled: AtomicUsize::new(0),
            state: Mutex::new(State { controller, rng: fastrand::Rng::with_seed(seed) }),
        })
    }

    /// What configuration says.
    pub fn config(&self) -> &ConcurrencyLimit {
        &self.config
    }

    /// How many requests may be under way now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// How many are.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Lets a request of a class in, `None` when there is no place left for it.
    pub fn enter(self: &Arc<Self>, now: Instant, class: u8) -> Option<Slot> {
        let most = limit_of_class(self.limit(), class);
        let entered =
            self.in_flight.fetch_update(Relaxed, Relaxed, |count| (count < most).then_some(count + 1));
        match entered {
            Ok(before) => {
                self.peak.fetch_max(before + 1, Relaxed);
                Some(Slot { gate: self.clone(), came: now, answered: false })
            }
            Err(_) => {
                self.refused.store(true, Relaxed);
                None
            }
        }
    }

    fn at(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    /// Takes how long an answer took, and looks at the window when it is over.
    fn sample(&self, came: Instant, now: Instant) {
        if self.config.min == self.config.max || self.at(came) < self.counts_since.load(Relaxed) {
            return;
        }
        let took = now.saturating_duration_since(came).as_micros();
        let place = self.sampled.fetch_add(1, Relaxed);
        if let Some(sample) = self.samples.get(place) {
            sample.store(u32::try_from(took).unwrap_or(u32::MAX), Relaxed);
        }
        if self.at(now) >= self.window_ends.load(Relaxed) {
            self.look(now);
        }
    }

    fn look(&self, now: Instant) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let State { controller, rng } = &mut *state;
        let at = self.at(now);
        let window = Window {
            lasted: Duration::from_nanos(at.saturating_sub(self.counts_since.load(Relaxed))),
            median: self.median(),
            samples: self.sampled.load(Relaxed),
            peak: self.peak.load(Relaxed),
            refused: self.refused.load(Relaxed),
        };
        if !controller.take(&window, Duration::from_nanos(at), rng.f64()) {
            return;
        }
        self.limit.store(controller.limit(), Relaxed);
        self.shown.set(f64::from(controller.limit()));
        self.failures_count_from.store(controller.without_queue().map_or(u64::MAX, nanos), Relaxed);
        self.counts_since.store(at, Relaxed);
        self.window_ends.store(at + nanos(WINDOW), Relaxed);
        self.sampled.store(0, Relaxed);
        self.peak.store(self.in_flight(), Relaxed);
        self.refused.store(false, Relaxed);
    }

    fn median(&self) -> Duration {
        let count = self.sampled.load(Relaxed).min(MAX_SAMPLES);
        let mut taken = self.samples.each_ref().map(|sample| sample.load(Relaxed));
        let taken = &mut taken[..count];
        let middle = count / 2;
        if taken.is_empty() {
            return Duration::ZERO;
        }
        Duration::from_micros((*taken.select_nth_unstable(middle).1).into())
    }
}

impl Slot {
    /// The head of an answer came. An error of the server that comes at once is no sign that it is fast.
    pub fn head(&mut self, status: StatusCode, now: Instant) {
        if status.is_server_error() { self.failed(now) } else { self.answered(now) }
    }

    /// The application has begun to answer.
    pub fn answered(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.answered, true) {
            self.gate.sample(self.came, now);
        }
    }

    /// The request ended without an answer that counts: an error, or nobody waited any longer. How long that took is the
    /// least that an answer would have taken, unless it went wrong at once.
    pub fn failed(&mut self, now: Instant) {
        let took = nanos(now.saturating_duration_since(self.came));
        if took >= self.gate.failures_count_from.load(Relaxed) {
            self.answered(now);
        }
        self.answered = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.in_flight.fetch_sub(1, Relaxed);
        if !self.answered {
            self.failed(Instant::now());
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, in_flight) = (self.limit(), self.in_flight());
        f.debug_struct("Gate").field("limit", &limit).field("in_flight", &in_flight).finish_non_exhaustive()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
