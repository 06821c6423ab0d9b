//! How long to wait before trying again: doubled each time up to a limit, with jitter, so that many proxies that lost
//! the same control plane do not come back at the same moment.

use std::time::Duration;

/// The waits of one thing that is tried again and again.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }

    /// The next wait: between half and all of what it would be without jitter.
    pub(crate) fn next(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.last);
        whole.mul_f64(0.5 + rng.f64() / 2.0)
    }

    /// It worked: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_with_jitter() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next(&mut rng).as_millis();
            assert!((whole / 2..=whole).contains(&wait), "{wait} is not within {whole}/2..={whole}");
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(100));
    }
}
