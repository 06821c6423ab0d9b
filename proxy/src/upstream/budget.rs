//! The retry budget: retries are a share of requests, so that they cannot become a flood of their own.
//!
//! As in linkerd's and Finagle's `RetryBudget`: within a sliding window, retries may be a percentage of requests, plus a
//! few a second so that quiet destinations are retried too.

use std::time::Duration;

use outrigger_model::policy::RetryBudget;

use super::window::{Column, Sums, Window};

/// What was asked of a destination lately.
#[derive(Debug)]
pub(super) struct Budget {
    /// First column: requests, second column: retries.
    window: Window,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { window: Window::new() }
    }

    pub(super) fn request(&self, at: Duration, policy: &RetryBudget) {
        self.window.count(at, policy.interval, Column::First);
    }

    pub(super) fn retry(&self, at: Duration, policy: &RetryBudget) {
        self.window.count(at, policy.interval, Column::Second);
    }

    pub(super) fn allows(&self, at: Duration, policy: &RetryBudget) -> bool {
        allows(policy, self.window.sums(at, policy.interval))
    }
}

/// Whether one more retry is within the budget.
fn allows(policy: &RetryBudget, sums: Sums) -> bool {
    let share = f64::from(sums.first) * policy.percent.max(0.0) / 100.0;
    let always = f64::from(policy.min_retries_per_second) * policy.interval.as_secs_f64();
    f64::from(sums.second) + 1.0 <= share + always
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_requests_plus_a_few() {
        let policy =
            RetryBudget { percent: 20.0, min_retries_per_second: 1, interval: Duration::from_secs(10) };
        for (requests, retries, expected) in
            [(0, 0, true), (0, 9, true), (0, 10, false), (100, 29, true), (100, 30, false)]
        {
            let sums = Sums { first: requests, second: retries };
            assert_eq!(allows(&policy, sums), expected, "{retries} retries of {requests} requests");
        }
        let none = RetryBudget { percent: 0.0, min_retries_per_second: 0, ..policy };
        assert!(!allows(&none, Sums { first: 1_000_000, second: 0 }));
    }

    #[test]
    fn the_budget_comes_back_with_time() {
        let policy =
            RetryBudget { percent: 0.0, min_retries_per_second: 1, interval: Duration::from_secs(2) };
        let budget = Budget::new();
        for _ in 0..2 {
            assert!(budget.allows(Duration::ZERO, &policy));
            budget.retry(Duration::ZERO, &policy);
        }
        assert!(!budget.allows(Duration::from_secs(1), &policy));
        assert!(budget.allows(Duration::from_secs(3), &policy));
    }
}
