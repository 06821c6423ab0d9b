//! A RoutePolicy: what Gateway API routes cannot say yet. What is absent stays as the route, or a less specific policy, has it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use crate::field;
use crate::object::Meta;
use crate::route::TargetRef;

mod written;

/// What Gateway API routes cannot say yet.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutePolicy {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted. It is far larger than most objects, and policies are few.
    pub spec: Box<RoutePolicySpec>,
}

/// `RoutePolicy.spec`. Each section stands for itself: of several policies for one rule, each section comes from the most
/// specific policy that writes it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutePolicySpec {
    /// HTTPRoutes and GRPCRoutes (`sectionName`: the name of a rule), Services and ExternalServices (`sectionName`: the name
    /// of a port). Empty for a policy that rules name by an `ExtensionRef` filter only.
    #[serde(default, deserialize_with = "field::up_to::<MAX_TARGETS, _, _>")]
    pub target_refs: Vec<TargetRef>,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// A second try beside one that is slow.
    pub hedge: Option<Hedge>,
    /// Failures made on purpose.
    pub fault: Option<Fault>,
    /// How many requests are let through.
    pub rate_limit: Option<RateLimits>,
    /// Whether clients stay with an endpoint.
    pub session_affinity: Option<SessionAffinity>,
}

/// What is tried again. What is `None` stays as the rule's own `retry` and `timeouts.backendRequest` have it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Which ends of a try are tried again; replaces the `codes` of the rule.
    #[serde(deserialize_with = "written::conditions")]
    pub on: Option<Vec<RetryOn>>,
    /// Tries after the first; 0 is none but those that are always safe.
    #[serde(deserialize_with = "written::attempts")]
    pub attempts: Option<u32>,
    /// How long one try may take until the head of its response.
    #[serde(deserialize_with = "field::some_positive")]
    pub per_try_timeout: Option<Duration>,
    /// How long is waited before a try is repeated.
    pub backoff: Backoff,
}

/// How a try ended that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::RetryOn")]
pub enum RetryOn {
    /// `5xx`: any status from 500 to 599, and no response at all.
    ServerError,
    /// `gateway-error`: 502, 503 or 504.
    GatewayError,
    /// `reset`: no response at all, a timeout of the try included.
    Reset,
    /// `connect-failure`: no connection; always safe, and so tried again unasked.
    ConnectFailure,
    /// `refused-stream`: the other side says that it did not look at the request; always safe, and so tried again unasked.
    RefusedStream,
    /// `retriable-4xx`: 409, and 429 where the answer says when to come back.
    Retriable4xx,
    /// A status, 400 to 599.
    Status(StatusCode),
    /// A status of gRPC, of those that it is right to try again: `cancelled` (1), `deadline-exceeded` (4),
    /// `resource-exhausted` (8), `internal` (13) and `unavailable` (14).
    Grpc(u8),
}

/// How long is waited before a try is repeated: at random up to `base`, doubled each time up to `max`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::Backoff")]
pub struct Backoff {
    /// The bound of the first wait; `None` is that of the rule, else 25 ms.
    pub base: Option<Duration>,
    /// The bound of all waits; `None` is ten times the first.
    pub max: Option<Duration>,
}

/// A second try beside one that is slow, for requests that are safe to send twice: GET, HEAD and OPTIONS without a body.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hedge {
    /// A try is slow when it takes longer than so many percent of those before it: 95 unless written, 50 to 99.9.
    #[serde(default = "written::delay_percentile", deserialize_with = "written::percentile")]
    pub delay_percentile: f64,
    /// Second tries as a share of requests at most, in percent: 5 unless written.
    #[serde(default = "written::max_extra_percent", deserialize_with = "field::percent")]
    pub max_extra_percent: f64,
}

/// Failures made on purpose; one of them is there.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "written::Fault")]
pub struct Fault {
    /// Requests that wait first.
    pub delay: Option<Delay>,
    /// Requests that are answered and go nowhere.
    pub abort: Option<Abort>,
}

/// Requests that wait first.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// How many, in percent: 100 unless written.
    #[serde(default = "written::all", deserialize_with = "field::percent")]
    pub percent: f64,
    /// How long.
    #[serde(deserialize_with = "field::positive")]
    pub fixed: Duration,
}

/// Requests that are answered and go nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Abort {
    /// How many, in percent: 100 unless written.
    #[serde(default = "written::all", deserialize_with = "field::percent")]
    pub percent: f64,
    /// The status, 200 to 599; gRPC clients get the status of gRPC that their clients make of it.
    #[serde(rename = "httpStatus", deserialize_with = "written::abort_status")]
    pub status: StatusCode,
}

/// How many requests are let through; one of them is there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "written::RateLimits")]
pub struct RateLimits {
    /// A limit that each proxy keeps for itself.
    pub local: Option<LocalRateLimit>,
    /// A limit that a rate limit service keeps for all.
    pub global: Option<GlobalRateLimit>,
}

/// So many requests in so much time, for each key apart.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalRateLimit {
    /// Requests that `per` lets through in the long run, at least 1.
    #[serde(deserialize_with = "field::count")]
    pub requests: u32,
    /// The time they are counted over: `1s` unless written.
    #[serde(default = "written::second", deserialize_with = "field::positive")]
    pub per: Duration,
    /// Requests that may come at once, at least 1: as many as `requests` unless written.
    #[serde(default, deserialize_with = "field::some_count")]
    pub burst: Option<u32>,
    /// What is counted apart; empty counts everything together.
    #[serde(default, deserialize_with = "field::up_to::<MAX_KEYS, _, _>")]
    pub key: Vec<LimitKey>,
}

/// What a limit counts apart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::LimitKey")]
pub enum LimitKey {
    /// `source.identity`: the verified identity of the caller.
    SourceIdentity,
    /// `source.address`: the address of the caller.
    SourceAddress,
    /// `header:NAME`, or `{header: NAME}`: a request header.
    Header(HeaderName),
    /// `method`: the method.
    Method,
    /// `path`: the path, without the query.
    Path,
    /// `route`: the route that the request matched.
    Route,
}

/// A limit that a service of `envoy.service.ratelimit.v3` keeps.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlobalRateLimit {
    /// Who is asked.
    pub service: RateLimitService,
    /// What the service knows the limit's owner by.
    #[serde(deserialize_with = "written::domain")]
    pub domain: Arc<str>,
    /// What the service is told: one descriptor, entry by entry.
    #[serde(deserialize_with = "field::one_to::<MAX_DESCRIPTORS, _, _>")]
    pub descriptors: Vec<Descriptor>,
    /// How long it is waited for: `20ms` unless written.
    #[serde(default = "written::ask_timeout", deserialize_with = "field::positive")]
    pub timeout: Duration,
    /// What becomes of requests while it cannot be asked: `Allow` unless written.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// The Service that keeps a limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitService {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace; `None` is that of the policy.
    pub namespace: Option<Arc<str>>,
    /// Its port.
    #[serde(deserialize_with = "field::port")]
    pub port: u16,
}

/// An entry of what a rate limit service is told: `{key, value}`, or `{key, from}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::Descriptor")]
pub enum Descriptor {
    /// The same for every request.
    Fixed {
        /// Its key.
        key: Arc<str>,
        /// Its value.
        value: HeaderValue,
    },
    /// What the request says.
    From {
        /// Its key.
        key: Arc<str>,
        /// Where the value comes from, in the words of a local limit's `key`.
        from: LimitKey,
    },
}

/// What becomes of requests while a rate limit service cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum OnFailure {
    /// They are let through.
    #[default]
    Allow,
    /// They are refused.
    Deny,
}

/// What a client stays with an endpoint by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::SessionAffinity")]
pub enum SessionAffinity {
    /// A cookie that the proxy makes.
    Cookie {
        /// Its name.
        name: String,
        /// How long it lives; `None` is as long as the client runs.
        ttl: Option<Duration>,
    },
    /// A header that the client sends back.
    Header(HeaderName),
}

impl RetryOn {
    /// The statuses that it stands for, apart from what says when to come back.
    pub fn statuses(self) -> Vec<StatusCode> {
        let codes = match self {
            Self::ServerError => 500..600,
            Self::GatewayError => 502..505,
            Self::Retriable4xx => 409..410,
            Self::Status(status) => status.as_u16()..status.as_u16() + 1,
            Self::Reset | Self::ConnectFailure | Self::RefusedStream | Self::Grpc(_) => 0..0,
        };
        codes.filter_map(|code| StatusCode::from_u16(code).ok()).collect()
    }
}

/// At most so many targets (Gateway API's bound for policies).
const MAX_TARGETS: usize = 16;
/// At most so many parts of a limit's key.
const MAX_KEYS: usize = 8;
/// At most so many entries of a descriptor.
const MAX_DESCRIPTORS: usize = 16;
/// At most so many conditions of a retry.
const MAX_CONDITIONS: usize = 64;
/// At most so many tries after the first.
const MAX_ATTEMPTS: u32 = 100;
