//! How many requests an application takes at once without making them wait, found from how long its answers take.
//!
//! The gradient controller of Envoy's adaptive concurrency filter (`envoy.filters.http.adaptive_concurrency`), after
//! Netflix/concurrency-limits "Gradient": the limit is multiplied by the ratio of the latency without a queue to the
//! latency now, plus room for a queue of its square root. What differs:
//!
//! - The latency without a queue is measured at half of the limit, not at three requests, so that measuring costs little.
//! - A window lasts for two latencies and only requests that came within it count. A limit that is moved before the effect
//!   of the last move is seen swings.
//! - The ratio is at most 1, and the limit only grows while it is nearly reached (both as in Netflix's `Gradient2Limit`):
//!   else a quiet hour would lift it to a height from which the first storm takes seconds to bring it down.
//! - Slowness that holds at the lowest limit is no queue: it is believed, and measured anew.
//!
//! Pure: time and chance are arguments.

use std::time::Duration;

/// The limit is looked at no more often.
pub(super) const WINDOW: Duration = Duration::from_millis(100);
/// Fewer answers than this say nothing; the window goes on.
pub(super) const MIN_SAMPLES: usize = 5;
/// The limit before anything is known.
const INITIAL_LIMIT: f64 = 20.0;
/// Answers that a measurement takes.
const MEASURED_SAMPLES: usize = 25;
/// A measurement of so long is content with [`MIN_SAMPLES`].
const MEASURE_WITHIN: Duration = Duration::from_secs(1);
/// Between two measurements, plus up to [`JITTER`] of it.
const MEASURE_EVERY: Duration = Duration::from_secs(30);
/// So that the replicas of a service do not measure at the same time.
const JITTER: f64 = 0.2;
/// A window lasts at least so many times as long as its answers took: sooner, only the fast ones of them are here.
const LATENCIES: u32 = 2;
/// Answers may take so much longer than without a queue before the limit falls.
const BUFFER: f64 = 1.25;
/// The limit falls by no more than this factor in a window.
const STEEPEST: f64 = 0.5;
/// So many windows at the lowest limit are no accident.
const WINDOWS_AT_FLOOR: u32 = 5;

/// What happened since the limit was last looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// How long ago that was.
    pub(super) lasted: Duration,
    /// How long answers took in the middle.
    pub(super) median: Duration,
    /// How many there were.
    pub(super) samples: usize,
    /// The most requests that were under way at once.
    pub(super) peak: u32,
    /// Whether a request was refused.
    pub(super) refused: bool,
}

/// The state.
#[derive(Debug, Clone)]
pub(super) struct Controller {
    min: f64,
    max: f64,
    /// As it is between measurements.
    limit: f64,
    phase: Phase,
    windows_at_floor: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Finding out how long answers take without a queue.
    Measuring,
    /// Following latency.
    Following { without_queue: Duration, until: Duration },
}

impl Controller {
    /// Between two bounds; it begins with a measurement.
    pub(super) fn new((min, max): (u32, u32)) -> Self {
        let (min, max) = (f64::from(min), f64::from(max));
        // A measurement is made at half of the limit.
        let limit = (2.0 * INITIAL_LIMIT).clamp(min, max);
        Self { min, max, limit, phase: Phase::Measuring, windows_at_floor: 0 }
    }

    /// How many requests may be under way now.
    pub(super) fn limit(&self) -> u32 {
        match self.phase {
            Phase::Measuring => (self.limit / 2.0).max(self.min) as u32,
            Phase::Following { .. } => self.limit as u32,
        }
    }

    /// How long answers take without a queue, as far as that is known.
    pub(super) fn without_queue(&self) -> Option<Duration> {
        match self.phase {
            Phase::Measuring => None,
            Phase::Following { without_queue, .. } => Some(without_queue),
        }
    }

    /// Takes what happened. Says whether that was enough; otherwise the window goes on. `chance` is from 0 to 1.
    pub(super) fn take(&mut self, window: &Window, now: Duration, chance: f64) -> bool {
        let late = window.lasted >= MEASURE_WITHIN;
        let enough = match self.phase {
            Phase::Measuring if !late => MEASURED_SAMPLES,
            Phase::Measuring | Phase::Following { .. } => MIN_SAMPLES,
        };
        if window.samples < enough || window.lasted < LATENCIES * window.median {
            return false;
        }
        match self.phase {
            Phase::Measuring => {
                let until = now + MEASURE_EVERY.mul_f64(1.0 + JITTER * chance);
                let without_queue = window.median.max(Duration::from_nanos(1));
                self.phase = Phase::Following { without_queue, until };
                self.windows_at_floor = 0;
            }
            Phase::Following { without_queue, until } => {
                self.follow(window, without_queue);
                if now >= until || self.windows_at_floor >= WINDOWS_AT_FLOOR {
                    self.phase = Phase::Measuring;
                }
            }
        }
        true
    }

    fn follow(&mut self, window: &Window, without_queue: Duration) {
        let ratio = BUFFER * without_queue.as_secs_f64() / window.median.as_secs_f64().max(1e-9);
        let next = self.limit * ratio.clamp(STEEPEST, 1.0) + self.limit.sqrt();
        let is_reached = window.refused || 2.0 * f64::from(window.peak) >= self.limit;
        if next < self.limit || is_reached {
            self.limit = next.clamp(self.min, self.max);
        }
        let at_floor = self.limit <= self.min;
        self.windows_at_floor = if at_floor { self.windows_at_floor + 1 } else { 0 };
    }
}

/// How many requests may be under way for a request of a class to come in: each class leaves room for those before it. The
/// room is the square root of the limit, because that is how much the number of requests from many callers moves about by
/// itself (the square-root staffing rule, Halfin and Whitt 1981).
pub(super) fn limit_of_class(limit: u32, class: u8) -> u32 {
    if class == 0 {
        return limit;
    }
    let room = f64::from(limit).sqrt().ceil() as u32;
    limit.saturating_sub(room.saturating_mul(class.into())).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn window(median_ms: u64, peak: u32) -> Window {
        let lasted = LATENCIES * MS(median_ms);
        Window { lasted, median: MS(median_ms), samples: MEASURED_SAMPLES, peak, refused: false }
    }

    fn following(bounds: (u32, u32), without_queue_ms: u64) -> Controller {
        let mut controller = Controller::new(bounds);
        assert!(controller.take(&window(without_queue_ms, 1), MS(100), 0.0));
        controller
    }

    fn is_measuring(controller: &Controller) -> bool {
        controller.without_queue().is_none()
    }

    #[test]
    fn a_measurement_waits_for_enough_answers_but_not_for_ever() {
        let mut controller = Controller::new((4, 1000));
        assert_eq!((controller.limit(), controller.without_queue()), (20, None));
        let few = Window { samples: MIN_SAMPLES, ..window(10, 1) };
        assert!(!controller.take(&Window { lasted: MS(999), ..few }, MS(999), 0.0));
        assert!(controller.take(&Window { lasted: MS(1000), ..few }, MS(1000), 0.0));
        assert_eq!((controller.limit(), controller.without_queue()), (40, Some(MS(10))));
        assert!(!controller.take(&Window { samples: MIN_SAMPLES - 1, ..few }, MS(1100), 0.0));
    }

    #[test]
    fn a_window_waits_for_the_slow_answers_too() {
        let mut controller = following((4, 1000), 10);
        let early = Window { lasted: MS(199), ..window(100, 40) };
        assert!(!controller.take(&early, MS(400), 0.0));
        assert_eq!(controller.limit(), 40);
        assert!(controller.take(&Window { lasted: MS(200), ..early }, MS(401), 0.0));
    }

    #[test]
    fn the_limit_falls_as_answers_take_longer_and_never_below_its_floor() {
        let mut controller = following((4, 1000), 10);
        for (median, expected) in [(25, 26), (25, 18), (100, 13), (1000, 10), (1000, 8), (1000, 7)] {
            controller.take(&window(median, 40), MS(200), 0.0);
            assert_eq!(controller.limit(), expected, "after {median} ms");
        }
        let mut floored = following((15, 1000), 10);
        for _ in 0..3 {
            floored.take(&window(1000, 40), MS(200), 0.0);
        }
        assert_eq!(floored.limit(), 15);
    }

    #[test]
    fn the_limit_grows_only_while_it_is_reached() {
        let mut controller = following((4, 60), 10);
        controller.take(&window(10, 19), MS(200), 0.0);
        assert_eq!(controller.limit(), 40, "19 of 40 prove nothing");
        controller.take(&Window { refused: true, ..window(10, 19) }, MS(300), 0.0);
        assert_eq!(controller.limit(), 46, "somebody wanted more");
        for _ in 0..10 {
            controller.take(&window(10, 60), MS(400), 0.0);
        }
        assert_eq!(controller.limit(), 60, "the most there is");
    }

    #[test]
    fn it_measures_again_now_and_then_at_half_of_its_limit() {
        let mut controller = following((4, 1000), 10);
        controller.take(&window(12, 19), MS(30_099), 0.0);
        assert!(!is_measuring(&controller));
        controller.take(&window(12, 19), MS(30_100), 0.0);
        assert!(is_measuring(&controller));
        assert_eq!(controller.limit(), 20);
        controller.take(&window(10, 19), MS(30_200), 1.0);
        assert_eq!(controller.limit(), 40, "it goes on where it was");
        controller.take(&window(12, 19), MS(30_200 + 35_999), 0.0);
        assert!(!is_measuring(&controller), "chance moves the next one");
    }

    #[test]
    fn an_application_that_became_slower_for_good_is_measured_anew() {
        let mut controller = following((20, 1000), 10);
        let mut windows = 0;
        while !is_measuring(&controller) {
            controller.take(&window(100, 20), MS(1000), 0.0);
            windows += 1;
        }
        assert!((5..10).contains(&windows), "{windows}");
        controller.take(&window(100, 20), MS(2000), 0.0);
        controller.take(&window(100, 20), MS(2100), 0.0);
        assert!(controller.limit() > 20, "what it takes now is what it takes");
    }

    #[test]
    fn each_class_leaves_room_for_those_before_it() {
        let table = [(100, [100, 90, 80, 70]), (20, [20, 15, 10, 5]), (4, [4, 2, 1, 1]), (1, [1, 1, 1, 1])];
        for (limit, expected) in table {
            assert_eq!([0, 1, 2, 3].map(|class| limit_of_class(limit, class)), expected);
        }
    }
}
