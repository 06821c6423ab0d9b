//! How a destination is treated: retries, limits, ejection, balancing. Plain values with their defaults.

use std::time::Duration;

use http::StatusCode;

mod balancing;

pub use balancing::{HashCookie, HashOn, LoadBalancer, LocalityMode, SlowStart};

/// Retries that the user asked for, beyond those that are always safe.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub attempts: u32,
    /// Response statuses that are tried again.
    pub statuses: Vec<StatusCode>,
    /// Whether a 429 that says when to come back is tried again, then.
    pub throttled: bool,
    /// Statuses of gRPC that are tried again, where they come without a body ("Trailers-Only") or stand for no answer at all.
    pub grpc: GrpcCodes,
    /// Whether a reset before a response head, and a failed connection, are tried again.
    pub on_reset: bool,
    /// How long one try may take until its response head; `None` is the request's own timeout.
    pub per_try_timeout: Option<Duration>,
    /// The shortest wait before a retry; doubled each time, with full jitter.
    pub backoff_base: Duration,
    /// The longest wait before a retry.
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 1,
            statuses: Vec::new(),
            throttled: false,
            grpc: GrpcCodes::default(),
            on_reset: false,
            per_try_timeout: None,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        }
    }
}

/// A set of statuses of gRPC (grpc/grpc `doc/statuscodes.md`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GrpcCodes(u32);

impl GrpcCodes {
    /// The largest status there is.
    pub const MAX: u8 = 16;

    /// The set with one more; a status that there is not changes nothing.
    #[must_use]
    pub fn with(self, code: u8) -> Self {
        if code > Self::MAX { self } else { Self(self.0 | 1 << code) }
    }

    /// Whether a status is in it.
    pub fn has(self, code: u8) -> bool {
        code <= Self::MAX && self.0 & 1 << code != 0
    }

    /// The statuses in it, in order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=Self::MAX).filter(move |code| self.has(*code))
    }
}

/// A second try beside one that is slow, for requests that are safe to send twice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedge {
    /// A try is slow when it takes longer than so many percent of those before it; between 0 and 100.
    pub delay_percentile: f64,
    /// Second tries as a share of requests at most, in percent.
    pub max_extra_percent: f64,
}

/// How many retries a destination gives all its clients together in this proxy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Retries as a share of requests, in percent.
    pub percent: f64,
    /// Retries that are always allowed, per second.
    pub min_retries_per_second: u32,
    /// The window over which requests are counted.
    pub interval: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20.0, min_retries_per_second: 10, interval: Duration::from_secs(10) }
    }
}

/// Circuit breaker: what a destination is given at most by this proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections, all endpoints together.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Retries in flight.
    pub max_retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024, max_retries: 3 }
    }
}

/// Passive ejection of endpoints that fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierDetection {
    /// Errors in a row that eject.
    pub consecutive_errors: u32,
    /// Below this success rate within the window an endpoint is ejected, in percent.
    pub success_rate_percent: f64,
    /// Requests within the window before the success rate counts.
    pub minimum_requests: u32,
    /// The window of the success rate.
    pub window: Duration,
    /// The first ejection lasts so long; doubled each time, with jitter.
    pub base_ejection_time: Duration,
    /// The longest ejection.
    pub max_ejection_time: Duration,
    /// At most this share of endpoints is ejected, in percent; never the last one.
    pub max_ejection_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_errors: 7,
            success_rate_percent: 80.0,
            minimum_requests: 5,
            window: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(1),
            max_ejection_time: Duration::from_secs(60),
            max_ejection_percent: 50,
        }
    }
}

/// Connections to the endpoints of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// For the TCP and TLS handshakes together.
    pub connect_timeout: Duration,
    /// An unused connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection takes no new request after this.
    pub max_lifetime: Duration,
    /// TCP_USER_TIMEOUT: unacknowledged bytes for so long end a connection.
    pub tcp_user_timeout: Duration,
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            tcp_user_timeout: Duration::from_secs(30),
        }
    }
}
