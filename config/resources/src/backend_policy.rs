//! A BackendPolicy: how clients treat a destination. What is absent stays at its default.

use std::time::Duration;

use http::HeaderName;

use crate::object::Meta;
use crate::route::TargetRef;

/// How clients treat a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendPolicy {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: BackendPolicySpec,
}

/// `BackendPolicy.spec`. Every number that is `None` was not written and stays at its default.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendPolicySpec {
    /// What it is about, at least one.
    pub target_refs: Vec<TargetRef>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// How a new endpoint is given its share.
    pub slow_start: Option<SlowStart>,
    /// What the destination is given at most.
    pub circuit_breaker: CircuitBreaker,
    /// Passive ejection.
    pub outlier_detection: OutlierDetection,
    /// Active checks; none unless written.
    pub health_check: Option<HealthCheck>,
    /// How many retries it is given.
    pub retry_budget: RetryBudget,
    /// Connections to it.
    pub connection: Connection,
    /// Whether near endpoints are preferred.
    pub locality: Option<LocalityMode>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadBalancer {
    /// The better of two by latency and load.
    PeakEwma,
    /// The better of two by load.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// By a hash on a ring.
    RingHash(HashOn),
    /// By a hash in a Maglev table.
    Maglev(HashOn),
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The value of a request header.
    Header(HeaderName),
    /// The value of a cookie, set by the proxy if it is missing and a lifetime is given.
    Cookie {
        /// Its name.
        name: String,
        /// How long a cookie made by the proxy lives; `None` is never made.
        ttl: Option<Duration>,
    },
    /// The address of the client.
    SourceIp,
}

/// How a new endpoint is given its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// How long it takes to the full share.
    pub window: Duration,
    /// What it starts with, in percent of the full share: 10 unless written.
    pub min_weight_percent: u32,
}

/// What a destination is given at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Connections, all endpoints together.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests in flight.
    pub max_requests: Option<u32>,
    /// Retries in flight.
    pub max_retries: Option<u32>,
}

/// Passive ejection of endpoints that fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierDetection {
    /// Whether it is on: `true` unless written.
    pub enabled: bool,
    /// Errors in a row that eject.
    pub consecutive_errors: Option<u32>,
    /// The success rate below which an endpoint is ejected, in percent, 0 to 100.
    pub success_rate_percent: Option<f64>,
    /// Requests before the success rate counts.
    pub minimum_requests: Option<u32>,
    /// The window of the success rate.
    pub window: Option<Duration>,
    /// The first ejection.
    pub base_ejection_time: Option<Duration>,
    /// The longest ejection.
    pub max_ejection_time: Option<Duration>,
    /// The share of endpoints that may be ejected, in percent, 0 to 100.
    pub max_ejection_percent: Option<u32>,
}

/// Active checks of every endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path asked for with GET, starting with `/`.
    pub path: String,
    /// Between two checks: 5 s unless written.
    pub interval: Duration,
    /// For one check: 1 s unless written.
    pub timeout: Duration,
    /// Successes in a row that restore: 2 unless written.
    pub healthy_threshold: u32,
    /// Failures in a row that eject: 3 unless written.
    pub unhealthy_threshold: u32,
}

/// How many retries a destination is given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RetryBudget {
    /// As a share of requests, in percent, 0 to 100.
    pub percent: Option<f64>,
    /// Always allowed, per second.
    pub min_retries_per_second: Option<u32>,
    /// The window over which requests are counted.
    pub interval: Option<Duration>,
}

/// Connections to a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connection {
    /// For the TCP and TLS handshakes together.
    pub connect_timeout: Option<Duration>,
    /// An unused connection is closed after this.
    pub idle_timeout: Option<Duration>,
    /// A connection takes no new request after this.
    pub max_lifetime: Option<Duration>,
    /// Unacknowledged bytes for so long end a connection.
    pub tcp_user_timeout: Option<Duration>,
}

/// Whether near endpoints are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalityMode {
    /// They are, and load spills over.
    PreferLocal,
    /// Others are never used.
    Strict,
    /// All are equal.
    Off,
}
