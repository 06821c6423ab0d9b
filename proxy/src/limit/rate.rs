//! Requests in time, counted by this proxy: the shell around `gcra`.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::request::Parts;
use outrigger_model::filter::{LimitKey, RateLimit};
use outrigger_model::identity::SpiffeId;
use tokio::time::Instant;

use super::gcra::{self, Decision, Policy};
use super::keyed::{PLACES, Table};

/// How many keys one limit tells apart at one time; beyond, the least indebted are forgotten and may have a burst again.
pub const MAX_KEYS: usize = PLACES;

/// Whom a request counts for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The verified identity of the caller; callers without one count together.
    pub identity: Option<&'a SpiffeId>,
    /// The address of the caller.
    pub address: IpAddr,
    /// The head of the request.
    pub parts: &'a Parts,
}

/// A limit with its counts, shared by the workers of a proxy.
#[derive(Debug)]
pub struct RateLimiter {
    config: RateLimit,
    policy: Policy,
    origin: Instant,
    counts: Counts,
}

#[derive(Debug)]
enum Counts {
    /// All requests together.
    One(AtomicU64),
    /// By key.
    Keyed { table: Table, seed: RandomState },
}

/// How a limit stands for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests that may come at once when nothing was asked for a while.
    pub limit: u32,
    /// How many of them are left.
    pub remaining: u32,
    /// Until all of them are there again.
    pub reset: Duration,
    /// `Some` refuses the request: after this time one would pass.
    pub retry_after: Option<Duration>,
}

impl RateLimiter {
    /// A limit nothing was counted for.
    pub fn new(config: RateLimit, now: Instant) -> Self {
        let counts = match config.key.is_empty() {
            true => Counts::One(AtomicU64::new(0)),
            false => Counts::Keyed { table: Table::new(), seed: RandomState::new() },
        };
        Self { policy: Policy::of(&config), config, origin: now, counts }
    }

    /// What configuration says.
    pub fn config(&self) -> &RateLimit {
        &self.config
    }

    /// Where it was written.
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// Counts a request, unless it is refused.
    pub fn take(&self, now: Instant, subject: &Subject<'_>) -> Quota {
        let count = match &self.counts {
            Counts::One(count) => count,
            Counts::Keyed { table, seed } => table.count(self.hash(seed, subject)),
        };
        let now_ns = u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX);
        let mut decision = gcra::decide(count.load(Relaxed), now_ns, self.policy);
        let decide = |tat_ns| {
            decision = gcra::decide(tat_ns, now_ns, self.policy);
            match decision {
                Decision::Conforms { tat_ns, .. } => Some(tat_ns),
                Decision::Exceeds { .. } => None,
            }
        };
        // An error is a refusal: there is nothing to write.
        let _ = count.fetch_update(Relaxed, Relaxed, decide);
        let limit = self.config.burst;
        match decision {
            Decision::Conforms { remaining, reset, .. } => {
                Quota { limit, remaining, reset, retry_after: None }
            }
            Decision::Exceeds { retry_after, reset } => {
                Quota { limit, remaining: 0, reset, retry_after: Some(retry_after) }
            }
        }
    }

    fn hash(&self, seed: &RandomState, subject: &Subject<'_>) -> u64 {
        let mut hasher = seed.build_hasher();
        for key in &self.config.key {
            match key {
                LimitKey::SourceIdentity => subject.identity.hash(&mut hasher),
                LimitKey::SourceAddress => subject.address.hash(&mut hasher),
                LimitKey::Header(name) => {
                    let values = subject.parts.headers.get_all(name);
                    values.iter().for_each(|value| value.hash(&mut hasher));
                    // So that the values of one header are not those of the next.
                    hasher.write_u8(0xff);
                }
                LimitKey::Method => subject.parts.method.hash(&mut hasher),
                LimitKey::Path => subject.parts.uri.path().hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{HeaderName, Request};

    use super::*;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn limiter(key: Vec<LimitKey>) -> RateLimiter {
        let limit = RateLimit { name: "l".into(), requests: 1, per: Duration::from_secs(1), burst: 2, key };
        RateLimiter::new(limit, Instant::now())
    }

    fn head(uri: &str, user: &str) -> Parts {
        Request::get(uri).header("x-user", user).body(()).unwrap().into_parts().0
    }

    fn passes(limiter: &RateLimiter, now: Instant, subject: &Subject<'_>) -> bool {
        limiter.take(now, subject).retry_after.is_none()
    }

    #[test]
    fn a_limit_counts_down_refuses_and_comes_back() {
        let (limiter, now) = (limiter(Vec::new()), Instant::now());
        let parts = head("/", "a");
        let subject = Subject { identity: None, address: LOCALHOST, parts: &parts };
        let at = |ms| limiter.take(limiter.origin + Duration::from_millis(ms), &subject);
        let quota = |remaining, reset, retry_after: Option<u64>| Quota {
            limit: 2,
            remaining,
            reset: Duration::from_millis(reset),
            retry_after: retry_after.map(Duration::from_millis),
        };
        assert_eq!(at(0), quota(1, 1000, None));
        assert_eq!(at(0), quota(0, 2000, None));
        assert_eq!(at(500), quota(0, 1500, Some(500)));
        assert_eq!(at(1000), quota(0, 2000, None));
        assert!(now >= limiter.origin);
    }

    #[test]
    fn what_is_in_the_key_is_counted_apart_and_nothing_else_is() {
        let identity = |text: &str| text.parse::<SpiffeId>().unwrap();
        let (web, batch) = (
            identity("spiffe://cluster.local/ns/shop/sa/web"),
            identity("spiffe://cluster.local/ns/shop/sa/batch"),
        );
        let (here, there) = (LOCALHOST, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        let (first, second) = (head("/a?x=1", "ann"), head("/b", "bob"));
        let mut put = head("/a?x=2", "ann");
        put.method = http::Method::PUT;
        let subject = |identity, address, parts| Subject { identity, address, parts };
        let base = subject(Some(&web), here, &first);
        let table = [
            (
                LimitKey::SourceIdentity,
                subject(Some(&batch), here, &first),
                subject(Some(&web), there, &second),
            ),
            (LimitKey::SourceIdentity, subject(None, here, &first), subject(Some(&web), there, &put)),
            (
                LimitKey::SourceAddress,
                subject(Some(&web), there, &first),
                subject(Some(&batch), here, &second),
            ),
            (
                LimitKey::Header(HeaderName::from_static("x-user")),
                subject(Some(&web), here, &second),
                subject(Some(&batch), there, &put),
            ),
            (LimitKey::Method, subject(Some(&web), here, &put), subject(None, there, &second)),
            (LimitKey::Path, subject(Some(&web), here, &second), subject(None, there, &put)),
        ];
        for (key, other, same) in table {
            let limiter = limiter(vec![key.clone()]);
            let now = limiter.origin;
            assert!(passes(&limiter, now, &base) && passes(&limiter, now, &same), "{key:?}");
            assert!(!passes(&limiter, now, &base), "{key:?}: these count together");
            assert!(passes(&limiter, now, &other), "{key:?}: this counts apart");
        }
    }

    #[test]
    fn workers_together_get_what_one_would() {
        let limit = RateLimit {
            name: "l".into(),
            requests: 1,
            per: Duration::from_secs(3600),
            burst: 100,
            key: vec![LimitKey::SourceAddress],
        };
        let limiter = RateLimiter::new(limit, Instant::now());
        let (parts, now) = (head("/", "a"), limiter.origin);
        // A key that two meet for the first time at once may be counted twice.
        let subject = Subject { identity: None, address: LOCALHOST, parts: &parts };
        let passed = AtomicU64::new(u64::from(passes(&limiter, now, &subject)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        passed.fetch_add(u64::from(passes(&limiter, now, &subject)), Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 100);
    }
}
