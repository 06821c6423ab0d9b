//! When an endpoint that fails is taken out, and for how long. Plain functions of counts and time.
//!
//! Errors in a row eject at once; a low success rate ejects when there were enough requests in the window to tell. The
//! time doubles with each ejection that follows closely on the last, with jitter so that endpoints that failed together
//! do not come back together. A share of endpoints always stays, and always the last one: bad endpoints are better than none.

use std::time::Duration;

use outrigger_model::policy::OutlierDetection;

use super::window::Sums;

/// Doubling ends here: no ejection time needs more.
const MAX_DOUBLINGS: u32 = 16;

/// Jitter, as a share of the ejection time to either side.
const JITTER: f64 = 0.1;

/// How an endpoint did lately.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) consecutive_errors: u32,
    /// First: successes, second: errors.
    pub(super) window: Sums,
}

/// How many endpoints there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowd {
    pub(super) total: usize,
    pub(super) ejected: usize,
}

/// Whether an endpoint with this record deserves to be ejected.
pub(super) fn is_outlier(policy: &OutlierDetection, record: Record) -> bool {
    if policy.consecutive_errors != 0 && record.consecutive_errors >= policy.consecutive_errors {
        return true;
    }
    let requests = f64::from(record.window.first) + f64::from(record.window.second);
    let enough = requests >= f64::from(policy.minimum_requests.max(1));
    enough && f64::from(record.window.first) * 100.0 < policy.success_rate_percent * requests
}

/// Whether one more may be ejected. As in Envoy, a small share of few endpoints still allows one; 0 allows none.
pub(super) fn has_room(policy: &OutlierDetection, crowd: Crowd) -> bool {
    let percent = policy.max_ejection_percent.min(100) as usize;
    let allowed = if percent == 0 { 0 } else { (crowd.total * percent / 100).max(1) };
    crowd.ejected < allowed && crowd.ejected + 1 < crowd.total
}

/// The how-manieth ejection in a row the next one is. A longer time in use than the longest ejection starts anew.
pub(super) fn next_in_row(policy: &OutlierDetection, before: u32, in_use_for: Duration) -> u32 {
    if in_use_for > policy.max_ejection_time { 1 } else { before.saturating_add(1) }
}

/// How long the `times`-th ejection in a row lasts.
pub(super) fn ejection_time(policy: &OutlierDetection, times: u32, rng: &mut fastrand::Rng) -> Duration {
    let doublings = times.saturating_sub(1).min(MAX_DOUBLINGS);
    let time = policy.base_ejection_time.saturating_mul(1 << doublings).min(policy.max_ejection_time);
    time.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.f64())
}

/// How long an endpoint is left alone that asked for it; without a time as long as the first ejection. Jitter only
/// lengthens: nobody comes back before the time that was asked for, unless that is beyond the longest ejection.
pub(super) fn rest_time(
    policy: &OutlierDetection,
    asked: Option<Duration>,
    rng: &mut fastrand::Rng,
) -> Duration {
    let time = asked.unwrap_or(policy.base_ejection_time).min(policy.max_ejection_time);
    time.mul_f64(1.0 + JITTER * rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(consecutive_errors: u32, first: u32, second: u32) -> Record {
        Record { consecutive_errors, window: Sums { first, second } }
    }

    #[test]
    fn errors_in_a_row_or_a_low_success_rate_eject() {
        let policy = OutlierDetection::default();
        let table = [
            (record(6, 100, 6), false, "not enough in a row, rate is good"),
            (record(7, 100, 7), true, "seven in a row"),
            (record(1, 0, 4), false, "four requests are too few to tell"),
            (record(1, 3, 2), true, "60 percent of five"),
            (record(1, 4, 1), false, "80 percent is not below 80"),
            (record(0, 0, 0), false, "nothing happened"),
        ];
        for (record, expected, why) in table {
            assert_eq!(is_outlier(&policy, record), expected, "{why}");
        }
        let off = OutlierDetection { consecutive_errors: 0, success_rate_percent: 0.0, ..policy };
        assert!(!is_outlier(&off, record(1000, 0, 1000)), "both tests are off");
    }

    #[test]
    fn the_last_one_and_a_share_of_the_others_stay() {
        let half = OutlierDetection::default();
        for (total, ejected, expected) in [
            (1, 0, false),
            (2, 0, true),
            (2, 1, false),
            (3, 0, true),
            (3, 1, false),
            (10, 4, true),
            (10, 5, false),
        ] {
            assert_eq!(has_room(&half, Crowd { total, ejected }), expected, "{ejected} of {total}");
        }
        let all = OutlierDetection { max_ejection_percent: 100, ..half };
        assert!(has_room(&all, Crowd { total: 3, ejected: 1 }));
        assert!(!has_room(&all, Crowd { total: 3, ejected: 2 }), "never the last one");
        let ten = OutlierDetection { max_ejection_percent: 10, ..half };
        assert!(has_room(&ten, Crowd { total: 3, ejected: 0 }), "one of few");
        let none = OutlierDetection { max_ejection_percent: 0, ..half };
        assert!(!has_room(&none, Crowd { total: 100, ejected: 0 }));
    }

    #[test]
    fn time_doubles_up_to_the_longest() {
        let policy = OutlierDetection::default();
        let mut rng = fastrand::Rng::with_seed(1);
        for (times, seconds) in [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (1000, 60.0)] {
            for _ in 0..100 {
                let time = ejection_time(&policy, times, &mut rng).as_secs_f64();
                assert!((seconds * 0.9..=seconds * 1.1).contains(&time), "{times}: {time} s");
            }
        }
    }

    #[test]
    fn a_long_time_in_use_is_forgiven() {
        let policy = OutlierDetection::default();
        assert_eq!(next_in_row(&policy, 0, Duration::from_secs(1)), 1);
        assert_eq!(next_in_row(&policy, 3, Duration::from_secs(60)), 4);
        assert_eq!(next_in_row(&policy, 3, Duration::from_secs(61)), 1);
    }
}
