//! The generic cell rate algorithm: one number of state, and a decision that is a function of it, the time and the limit.
//!
//! ITU-T I.371 (03/2004), annex A, "virtual scheduling algorithm": the state is the theoretical arrival time (TAT) of the
//! next request of a stream that keeps the rate exactly. A request conforms while it comes no earlier than TAT less a
//! tolerance; the tolerance is what a burst takes from the future. The figures for clients are worked out as in
//! brandur/throttled "Rate limiting, cells, and GCRA". Times are nanoseconds from an origin that the caller keeps.

use std::time::Duration;

use outrigger_model::filter::RateLimit;

/// A limit in the terms of the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Between two requests of a stream that keeps the rate (T), at least 1 ns: nothing above 10^9 a second is told apart.
    interval_ns: u64,
    /// How much too early a request may come (tau): the intervals of a burst less one.
    tolerance_ns: u64,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It conforms.
    Conforms {
        /// The state from now on.
        tat_ns: u64,
        /// How many more would conform at the same moment.
        remaining: u32,
        /// When a whole burst would conform again.
        reset: Duration,
    },
    /// It comes too early; the state stays.
    Exceeds {
        /// After this time one would conform.
        retry_after: Duration,
        /// When a whole burst would conform again.
        reset: Duration,
    },
}

impl Policy {
    pub(super) fn of(limit: &RateLimit) -> Self {
        let per_ns = u64::try_from(limit.per.as_nanos()).unwrap_or(u64::MAX);
        let interval_ns = (per_ns / u64::from(limit.requests.max(1))).max(1);
        let tolerance_ns = interval_ns.saturating_mul(u64::from(limit.burst.max(1)) - 1);
        Self { interval_ns, tolerance_ns }
    }
}

/// Decides on a request that comes `now_ns`.
pub(super) fn decide(tat_ns: u64, now_ns: u64, policy: Policy) -> Decision {
    let Policy { interval_ns, tolerance_ns } = policy;
    let early_ns = tat_ns.saturating_sub(now_ns);
    if early_ns > tolerance_ns {
        let retry_after = Duration::from_nanos(early_ns - tolerance_ns);
        return Decision::Exceeds { retry_after, reset: Duration::from_nanos(early_ns) };
    }
    let next_ns = tat_ns.max(now_ns).saturating_add(interval_ns);
    let ahead_ns = next_ns - now_ns;
    // Each further request takes one interval; the first of them may begin at the very end of the tolerance.
    let remaining = tolerance_ns.checked_sub(ahead_ns).map_or(0, |left| left / interval_ns + 1);
    Decision::Conforms {
        tat_ns: next_ns,
        remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
        reset: Duration::from_nanos(ahead_ns),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(requests: u32, per: Duration, burst: u32) -> Policy {
        Policy::of(&RateLimit { name: "limit".into(), requests, per, burst, key: Vec::new() })
    }

    /// Sends requests at these moments, in milliseconds, and shows what became of them.
    fn shown(policy: Policy, at_ms: &[u64]) -> Vec<String> {
        let mut tat = 0;
        let decided = at_ms.iter().map(|at| match decide(tat, at * 1_000_000, policy) {
            Decision::Conforms { tat_ns, remaining, reset } => {
                tat = tat_ns;
                format!("{at}: {remaining} left, full in {} ms", reset.as_millis())
            }
            Decision::Exceeds { retry_after, .. } => {
                format!("{at}: again in {} ms", retry_after.as_millis())
            }
        });
        decided.collect()
    }

    #[test]
    fn a_burst_conforms_and_then_the_rate() {
        let limit = policy(10, Duration::from_secs(1), 3);
        assert_eq!(
            shown(limit, &[0, 0, 0, 0, 60, 100, 100, 450]),
            [
                "0: 2 left, full in 100 ms",
                "0: 1 left, full in 200 ms",
                "0: 0 left, full in 300 ms",
                "0: again in 100 ms",
                "60: again in 40 ms",
                "100: 0 left, full in 300 ms",
                "100: again in 100 ms",
                "450: 2 left, full in 100 ms",
            ]
        );
    }

    #[test]
    fn a_burst_of_one_is_an_even_stream() {
        let limit = policy(2, Duration::from_secs(1), 1);
        assert_eq!(
            shown(limit, &[0, 499, 500, 1000]),
            [
                "0: 0 left, full in 500 ms",
                "499: again in 1 ms",
                "500: 0 left, full in 500 ms",
                "1000: 0 left, full in 500 ms",
            ]
        );
    }

    #[test]
    fn limits_beyond_what_a_clock_tells_apart_are_limits_still() {
        let limit = policy(u32::MAX, Duration::from_secs(1), u32::MAX);
        assert!(matches!(decide(0, 0, limit), Decision::Conforms { .. }));
        let slow = policy(1, Duration::from_secs(u64::MAX / 1_000_000_000 * 2), 1);
        assert!(matches!(decide(u64::MAX, 0, slow), Decision::Exceeds { .. }));
    }

    proptest! {
        /// Over any stretch of time no more conform than the rate and one burst together, and never fewer than the rate
        /// when more than that is asked for.
        #[test]
        fn the_rate_holds_over_every_stretch(
            requests in 1u32..50, burst in 1u32..50, gaps_ms in proptest::collection::vec(0u64..40, 1..300),
        ) {
            let limit = policy(requests, Duration::from_secs(1), burst);
            let (mut tat, mut now_ms) = (0, 1_000_000);
            let mut passed = Vec::new();
            for gap in gaps_ms {
                now_ms += gap;
                if let Decision::Conforms { tat_ns, .. } = decide(tat, now_ms * 1_000_000, limit) {
                    tat = tat_ns;
                    passed.push(now_ms);
                }
            }
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let most = u64::from(burst) + (end - start) * u64::from(requests) / 1000 + 1;
                    prop_assert!((last - first + 1) as u64 <= most);
                }
            }
        }
    }
}
