//! A BackendPolicy: how clients treat a destination. What is absent stays at its default.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
use crate::object::Meta;
use crate::route::TargetRef;

mod health;

/// How clients treat a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendPolicy {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted. It is far larger than any other object, and policies are few.
    pub spec: Box<BackendPolicySpec>,
}

/// `BackendPolicy.spec`. Every number that is `None` was not written and stays at its default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendPolicySpec {
    /// What it is about, at least one.
    #[serde(deserialize_with = "field::one_to::<MAX_TARGETS, _, _>")]
    pub target_refs: Vec<TargetRef>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// How a new endpoint is given its share.
    pub slow_start: Option<SlowStart>,
    /// What the destination is given at most.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// Passive ejection.
    #[serde(default)]
    pub outlier_detection: OutlierDetection,
    /// Active checks; none unless written.
    pub health_check: Option<HealthCheck>,
    /// How many retries it is given.
    #[serde(default)]
    pub retry_budget: RetryBudget,
    /// Connections to it.
    #[serde(default)]
    pub connection: Connection,
    /// Whether near endpoints are preferred.
    #[serde(default, deserialize_with = "locality_mode")]
    pub locality: Option<LocalityMode>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenLoadBalancer")]
pub enum LoadBalancer {
    /// The better of two by latency and load.
    PeakEwma(PeakEwma),
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

/// What peak EWMA starts from and how fast it forgets. What is `None` was not written and stays at its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeakEwma {
    /// Assumed of an endpoint never used.
    #[serde(deserialize_with = "field::some_positive")]
    pub default_round_trip: Option<Duration>,
    /// In this time the weight of the past falls by e.
    #[serde(deserialize_with = "field::some_positive")]
    pub decay: Option<Duration>,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenHashOn")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowStart {
    /// How long it takes to the full share.
    #[serde(deserialize_with = "field::positive")]
    pub window: Duration,
    /// What it starts with, in percent of the full share: 10 unless written.
    #[serde(default = "default_min_weight", deserialize_with = "field::whole_percent")]
    pub min_weight_percent: u32,
}

/// What a destination is given at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// Connections, all endpoints together.
    #[serde(deserialize_with = "field::some_count")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(deserialize_with = "field::some_number")]
    pub max_pending_requests: Option<u32>,
    /// Requests in flight.
    #[serde(deserialize_with = "field::some_count")]
    pub max_requests: Option<u32>,
    /// Retries in flight.
    #[serde(deserialize_with = "field::some_number")]
    pub max_retries: Option<u32>,
}

/// Passive ejection of endpoints that fail.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OutlierDetection {
    /// Whether it is on: `true` unless written.
    pub enabled: bool,
    /// Errors in a row that eject.
    #[serde(deserialize_with = "field::some_count")]
    pub consecutive_errors: Option<u32>,
    /// The success rate below which an endpoint is ejected, in percent, 0 to 100.
    #[serde(deserialize_with = "field::some_percent")]
    pub success_rate_percent: Option<f64>,
    /// Requests before the success rate counts.
    #[serde(deserialize_with = "field::some_count")]
    pub minimum_requests: Option<u32>,
    /// The window of the success rate.
    #[serde(deserialize_with = "field::some_positive")]
    pub window: Option<Duration>,
    /// The first ejection.
    #[serde(deserialize_with = "field::some_positive")]
    pub base_ejection_time: Option<Duration>,
    /// The longest ejection.
    #[serde(deserialize_with = "field::some_positive")]
    pub max_ejection_time: Option<Duration>,
    /// The share of endpoints that may be ejected, in percent, 0 to 100.
    #[serde(deserialize_with = "field::some_whole_percent")]
    pub max_ejection_percent: Option<u32>,
}

/// Active checks of every endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "health::Written")]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Between two checks: 5 s unless written.
    pub interval: Duration,
    /// For one check: 1 s unless written.
    pub timeout: Duration,
    /// Successes in a row that restore: 2 unless written.
    pub healthy_threshold: u32,
    /// Failures in a row that eject: 3 unless written.
    pub unhealthy_threshold: u32,
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of a path.
    Http {
        /// Starting with `/`.
        path: String,
        /// The statuses that pass: 200 to 399 unless written, as a probe of Kubernetes has it.
        statuses: Vec<RangeInclusive<u16>>,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service asked about; empty is the server as a whole.
        service: String,
    },
    /// A connection.
    Tcp,
}

/// How many retries a destination is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryBudget {
    /// As a share of requests, in percent, 0 to 100.
    #[serde(deserialize_with = "field::some_percent")]
    pub percent: Option<f64>,
    /// Always allowed, per second.
    #[serde(deserialize_with = "field::some_number")]
    pub min_retries_per_second: Option<u32>,
    /// The window over which requests are counted.
    #[serde(deserialize_with = "field::some_positive")]
    pub interval: Option<Duration>,
}

/// Connections to a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Connection {
    /// For the TCP and TLS handshakes together.
    #[serde(deserialize_with = "field::some_positive")]
    pub connect_timeout: Option<Duration>,
    /// An unused connection is closed after this.
    #[serde(deserialize_with = "field::some_positive")]
    pub idle_timeout: Option<Duration>,
    /// A connection takes no new request after this.
    #[serde(deserialize_with = "field::some_positive")]
    pub max_lifetime: Option<Duration>,
    /// Unacknowledged bytes for so long end a connection.
    #[serde(deserialize_with = "field::some_positive")]
    pub tcp_user_timeout: Option<Duration>,
}

/// Whether near endpoints are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum LocalityMode {
    /// They are, and load spills over.
    PreferLocal,
    /// Others are never used.
    Strict,
    /// All are equal.
    Off,
}

/// At most so many targets (Gateway API's bound for policies).
const MAX_TARGETS: usize = 16;

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_errors: None,
            success_rate_percent: None,
            minimum_requests: None,
            window: None,
            base_ejection_time: None,
            max_ejection_time: None,
            max_ejection_percent: None,
        }
    }
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Algorithm {
    #[default]
    PeakEwma,
    LeastRequest,
    RoundRobin,
    Random,
    RingHash,
    Maglev,
}

/// [`LoadBalancer`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenLoadBalancer {
    #[serde(default)]
    algorithm: Algorithm,
    peak_ewma: Option<PeakEwma>,
    hash_on: Option<HashOn>,
}

impl TryFrom<WrittenLoadBalancer> for LoadBalancer {
    type Error = Misfit;

    fn try_from(written: WrittenLoadBalancer) -> Result<Self, Misfit> {
        if written.peak_ewma.is_some() && written.algorithm != Algorithm::PeakEwma {
            return Err(Misfit::new("peakEwma", "only for PeakEwma; remove it or change algorithm"));
        }
        match (written.algorithm, written.hash_on) {
            (Algorithm::RingHash, Some(on)) => Ok(Self::RingHash(on)),
            (Algorithm::Maglev, Some(on)) => Ok(Self::Maglev(on)),
            (Algorithm::RingHash | Algorithm::Maglev, None) => {
                Err(Misfit::new("hashOn", "missing; write header, cookie or sourceIp"))
            }
            (_, Some(_)) => {
                Err(Misfit::new("hashOn", "only for RingHash and Maglev; remove it or change algorithm"))
            }
            (Algorithm::PeakEwma, None) => Ok(Self::PeakEwma(written.peak_ewma.unwrap_or_default())),
            (Algorithm::LeastRequest, None) => Ok(Self::LeastRequest),
            (Algorithm::RoundRobin, None) => Ok(Self::RoundRobin),
            (Algorithm::Random, None) => Ok(Self::Random),
        }
    }
}

/// [`HashOn`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenHashOn {
    #[serde(default, deserialize_with = "some_header")]
    header: Option<HeaderName>,
    cookie: Option<WrittenCookie>,
    source_ip: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCookie {
    #[serde(deserialize_with = "cookie_name")]
    name: String,
    #[serde(default, deserialize_with = "field::duration")]
    ttl: Option<Duration>,
}

impl TryFrom<WrittenHashOn> for HashOn {
    type Error = Misfit;

    fn try_from(written: WrittenHashOn) -> Result<Self, Misfit> {
        match (written.header, written.cookie, written.source_ip) {
            (Some(name), None, None) => Ok(Self::Header(name)),
            (None, Some(WrittenCookie { name, ttl }), None) => Ok(Self::Cookie { name, ttl }),
            (None, None, Some(true)) => Ok(Self::SourceIp),
            _ => Err(Misfit::new("", "write one of header: NAME, cookie: {name: NAME}, sourceIp: true")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLocality {
    mode: LocalityMode,
}

fn some_header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HeaderName>, D::Error> {
    field::header_name(deserializer).map(Some)
}

/// A cookie's name is a token, as a header's is, but its case counts (RFC 6265, section 4.1.1).
pub(crate) fn cookie_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    use serde::de::Error;
    let name = String::deserialize(deserializer)?;
    field::parse_header_name(&name).map_err(D::Error::custom)?;
    Ok(name)
}

fn locality_mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LocalityMode>, D::Error> {
    WrittenLocality::deserialize(deserializer).map(|written| Some(written.mode))
}

fn default_min_weight() -> u32 {
    10
}
