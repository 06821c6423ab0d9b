//! What hedging knows of a destination: how long answers take, and how many second tries there were.

use std::time::Duration;

use outrigger_model::policy::RetryBudget;

use super::budget::Budget;
use super::latencies::Latencies;

/// The window over which second tries are a share of requests.
const WINDOW: Duration = Duration::from_secs(10);
/// Answers before anything is called slow.
const LEAST_SEEN: u32 = 100;

/// What hedging knows of a destination. Shared by workers without a lock.
#[derive(Debug)]
pub struct Hedging {
    latencies: Latencies,
    budget: Budget,
}

impl Hedging {
    pub(super) fn new() -> Self {
        Self { latencies: Latencies::new(), budget: Budget::new() }
    }

    /// After how long a try counts as slow: the time within which so many percent of answers came. `None` until enough came.
    pub fn delay(&self, percentile: f64) -> Option<Duration> {
        self.latencies.percentile(percentile, LEAST_SEEN)
    }

    /// An answer took so long.
    pub fn took(&self, time: Duration) {
        self.latencies.record(time);
    }

    /// A request came that could be hedged.
    pub(super) fn request(&self, at: Duration) {
        self.budget.request(at, &policy(0.0));
    }

    /// Takes one second try from the budget, if it has one.
    pub(super) fn allow(&self, at: Duration, max_extra_percent: f64) -> bool {
        let policy = policy(max_extra_percent);
        let allowed = self.budget.allows(at, &policy);
        if allowed {
            self.budget.retry(at, &policy);
        }
        allowed
    }
}

fn policy(percent: f64) -> RetryBudget {
    RetryBudget { percent, min_retries_per_second: 0, interval: WINDOW }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_slow_until_enough_is_known() {
        let hedging = Hedging::new();
        for _ in 1..LEAST_SEEN {
            hedging.took(Duration::from_millis(1));
        }
        assert_eq!(hedging.delay(95.0), None);
        hedging.took(Duration::from_millis(1));
        assert!(hedging.delay(95.0).is_some());
    }

    #[test]
    fn second_tries_are_a_share_of_requests() {
        let hedging = Hedging::new();
        assert!(!hedging.allow(Duration::ZERO, 5.0), "there was no request");
        for _ in 0..100 {
            hedging.request(Duration::ZERO);
        }
        let allowed = (0..100).filter(|_| hedging.allow(Duration::ZERO, 5.0)).count();
        assert_eq!(allowed, 5);
        assert!(!hedging.allow(Duration::from_secs(11), 5.0), "requests of long ago count no more");
    }
}
