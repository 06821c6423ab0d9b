//! How often one identity may ask for a certificate: a token bucket each, in a map of bounded size.
//!
//! A service account stands for all its workloads, so that a large Deployment that starts at once must pass; what is
//! stopped is a loop.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use outrigger_model::identity::SpiffeId;

/// Certificates one identity may get at once.
const BURST: f64 = 500.0;
/// Certificates one identity may get per second from then on.
const PER_SECOND: f64 = 20.0;
/// Identities that are remembered at a time.
const MAX_IDENTITIES: usize = 20_000;

/// Buckets of those who asked lately.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    buckets: HashMap<SpiffeId, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl RateLimit {
    /// Whether `identity` may have one more now.
    pub(super) fn take(&mut self, identity: &SpiffeId, now: Instant) -> bool {
        if !self.buckets.contains_key(identity) && !self.make_room(now) {
            return false;
        }
        let bucket = self.buckets.entry(identity.clone()).or_insert(Bucket { left: BURST, at: now });
        bucket.left = bucket.level(now);
        bucket.at = now;
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }

    /// Forgets buckets that are full again, when there are too many: a full one says nothing.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.buckets.len() >= MAX_IDENTITIES {
            self.buckets.retain(|_, bucket| bucket.level(now) < BURST);
        }
        self.buckets.len() < MAX_IDENTITIES
    }
}

impl Bucket {
    fn level(&self, now: Instant) -> f64 {
        let elapsed: Duration = now.saturating_duration_since(self.at);
        (self.left + elapsed.as_secs_f64() * PER_SECOND).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(account: &str) -> SpiffeId {
        SpiffeId::new("cluster.local", "shop", account).unwrap()
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_for_each_identity() {
        let (mut limit, start) = (RateLimit::default(), Instant::now());
        let granted = (0..1000).filter(|_| limit.take(&id("web"), start)).count();
        assert_eq!(granted, BURST as usize);
        assert!(limit.take(&id("reviews"), start), "another identity is not concerned");
        let later = start + Duration::from_secs(1);
        let granted = (0..1000).filter(|_| limit.take(&id("web"), later)).count();
        assert_eq!(granted, PER_SECOND as usize);
    }

    #[test]
    fn the_map_is_bounded_and_makes_room_when_buckets_are_full_again() {
        let (mut limit, start) = (RateLimit::default(), Instant::now());
        for n in 0..MAX_IDENTITIES {
            assert!(limit.take(&id(&format!("sa-{n}")), start));
        }
        assert!(!limit.take(&id("one-more"), start));
        assert!(limit.take(&id("sa-1"), start), "those who are known go on");
        assert!(limit.take(&id("one-more"), start + Duration::from_secs(60)));
        assert!(limit.buckets.len() <= MAX_IDENTITIES);
    }
}
