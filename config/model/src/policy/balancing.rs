//! How endpoints share the requests of a destination.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadBalancer {
    /// The better of two random ones by peak EWMA of latency times requests in flight.
    PeakEwma {
        /// Assumed of an endpoint never used.
        default_round_trip: Duration,
        /// Half-life class of the average: the weight of the past falls by e in this time.
        decay: Duration,
    },
    /// The better of two random ones by requests in flight.
    LeastRequest,
    /// One after the other, by weight.
    RoundRobin,
    /// Any, by weight.
    Random,
    /// The next one on a ring of hashes (Karger et al., "Consistent Hashing and Random Trees", 1997).
    RingHash(HashOn),
    /// By a table of hashes (Eisenbud et al., "Maglev", 2016, section 3.4).
    Maglev(HashOn),
}

impl LoadBalancer {
    /// What of a request is hashed to choose; `None` where nothing is.
    pub fn hash_on(&self) -> Option<&HashOn> {
        match self {
            Self::RingHash(on) | Self::Maglev(on) => Some(on),
            Self::PeakEwma { .. } | Self::LeastRequest | Self::RoundRobin | Self::Random => None,
        }
    }
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self::PeakEwma { default_round_trip: Duration::from_millis(30), decay: Duration::from_secs(10) }
    }
}

/// What of a request is hashed. A request that does not have it goes to any endpoint, by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The value of a request header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(HashCookie),
    /// The address of the client.
    SourceIp,
}

/// A cookie that is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashCookie {
    /// Its name, a token (RFC 6265, section 4.1.1).
    pub name: Arc<str>,
    /// How long a cookie lives that the proxy makes where the client sent none; 0 is as long as the client runs. `None`:
    /// none is made.
    pub ttl: Option<Duration>,
}

/// How an endpoint that is new among others comes to its full share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// How long it takes; more than 0.
    pub window: Duration,
    /// What it starts with, in percent of its weight, at most 100.
    pub min_weight_percent: u32,
}

/// Whether near endpoints are preferred. Near is what is in the zone of the client, then what is in its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalityMode {
    /// They are, and a share spills over while they carry more than others.
    PreferLocal,
    /// Only those of the client's zone are used.
    Strict,
    /// All are equal, whatever hints say.
    Off,
}
