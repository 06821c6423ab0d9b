//! How an endpoint that is new among others comes to its full share: its weight grows evenly over a window.
//!
//! Who was there when a cluster got its first endpoints is no newcomer, and hashing takes no notice of any of this: a key
//! belongs to its endpoint from the start.

use std::time::Duration;

use outrigger_model::policy::SlowStart;

/// The part of its weight that an endpoint of this age has, 1 when it is not new any more.
pub(super) fn ripeness(policy: &SlowStart, age: Duration) -> f64 {
    if age >= policy.window {
        return 1.0;
    }
    let least = f64::from(policy.min_weight_percent.min(100)) / 100.0;
    (age.as_secs_f64() / policy.window.as_secs_f64()).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_grows_evenly_from_the_least_to_all_of_it() {
        let policy = SlowStart { window: Duration::from_secs(30), min_weight_percent: 10 };
        for (seconds, expected) in
            [(0, 0.1), (3, 0.1), (6, 0.2), (15, 0.5), (29, 29.0 / 30.0), (30, 1.0), (99, 1.0)]
        {
            let ripe = ripeness(&policy, Duration::from_secs(seconds));
            assert!((ripe - expected).abs() < 1e-9, "after {seconds} s: {ripe}");
        }
    }
}
