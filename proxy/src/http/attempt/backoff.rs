//! How long is waited before a try is repeated. Pure.

use std::time::Duration;

use outrigger_model::policy::RetryPolicy;

/// The longest wait that an answer may ask for, when the request has no deadline that bounds it.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// Doublings beyond this change nothing: the longest wait is reached.
const MOST_DOUBLINGS: u32 = 16;

/// Exponential with full jitter: at random up to the base, doubled with each repetition that was made, up to the longest (Marc
/// Brooker, "Exponential Backoff And Jitter", AWS, 2015).
pub(super) fn wait(policy: &RetryPolicy, repetitions: u32, rng: &mut fastrand::Rng) -> Duration {
    let ceiling = policy.backoff_base.saturating_mul(1 << repetitions.min(MOST_DOUBLINGS));
    let ceiling = ceiling.min(policy.backoff_max).as_micros();
    Duration::from_micros(rng.u64(..=u64::try_from(ceiling).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn waits_double_up_to_the_longest_with_full_jitter() {
        let policy = RetryPolicy { backoff_base: MS(10), backoff_max: MS(50), ..RetryPolicy::default() };
        let mut rng = fastrand::Rng::with_seed(7);
        for (repetitions, ceiling) in [(0, 10), (1, 20), (2, 40), (3, 50), (40, 50)] {
            let waits: Vec<_> = (0..1000).map(|_| wait(&policy, repetitions, &mut rng)).collect();
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(*most <= MS(ceiling) && *most > MS(ceiling) * 9 / 10, "{repetitions}: up to {most:?}");
            assert!(*least < MS(ceiling) / 10, "{repetitions}: from {least:?}");
        }
    }
}
