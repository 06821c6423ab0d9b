//! An InboundPolicy: how a workload receives traffic. What is absent stays as a less specific policy, or the mesh, has it.

use http::HeaderName;
use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
use crate::mesh_config::Mtls;
use crate::object::Meta;
use crate::route::TargetRef;
use crate::route_policy::{LimitKey, LocalRateLimit};
pub use crate::scope::Scope;
use crate::scope::{self, WrittenScope, WrittenSelector};

mod jwt;

pub use jwt::{Jwt, JwtKeys};

/// How a workload receives traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct InboundPolicy {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: Box<InboundPolicySpec>,
    /// What is written could not be read. It stands in for what was meant: all it has is a scope, and nothing is let in there.
    pub is_stand_in: bool,
}

/// `InboundPolicy.spec`. Each section stands for itself: of several policies for one workload, each section comes from the
/// most specific policy that writes it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "WrittenSpec")]
pub struct InboundPolicySpec {
    /// Which workloads of its namespace.
    pub scope: Scope,
    /// Whether they let plaintext in.
    pub mtls: Option<Mtls>,
    /// Requests in time; its key never has [`LimitKey::Route`].
    pub rate_limit: Option<LocalRateLimit>,
    /// Requests at once.
    pub concurrency: Option<Concurrency>,
    /// Which requests are refused first when there are too many at once.
    pub priorities: Option<Priorities>,
    /// What tokens requests must carry.
    pub jwt: Option<Jwt>,
}

/// Requests that are under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenConcurrency")]
pub struct Concurrency {
    /// The limit never falls below this: 4 unless written, and `max` where the limit is not adaptive.
    pub min: u32,
    /// The limit never rises above this: 1024 unless written.
    pub max: u32,
}

/// Which requests are refused first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenPriorities")]
pub struct Priorities {
    /// The request header whose value is the class, a number; 0 is served longest.
    pub header: HeaderName,
    /// The class of requests that do not say one: 1 unless written, below `levels`.
    pub default: u8,
    /// How many classes there are: 4 unless written, 2 to 8. Larger numbers mean the last.
    pub levels: u8,
}

const DEFAULT_MIN: u32 = 4;
const DEFAULT_MAX: u32 = 1024;
const DEFAULT_LEVELS: u32 = 4;
const DEFAULT_CLASS: u32 = 1;
/// As many classes as the data plane knows.
const MAX_LEVELS: u32 = 8;

/// [`InboundPolicySpec`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenSpec {
    #[serde(default, deserialize_with = "scope::targets")]
    target_refs: Option<Vec<TargetRef>>,
    selector: Option<WrittenSelector>,
    mtls: Option<Mtls>,
    #[serde(default, deserialize_with = "rate_limit")]
    rate_limit: Option<LocalRateLimit>,
    concurrency: Option<Concurrency>,
    priorities: Option<Priorities>,
    jwt: Option<Jwt>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenConcurrency {
    adaptive: Option<bool>,
    #[serde(default, deserialize_with = "field::some_count")]
    min: Option<u32>,
    #[serde(default, deserialize_with = "field::some_count")]
    max: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPriorities {
    #[serde(deserialize_with = "field::header_name")]
    header: HeaderName,
    #[serde(default, deserialize_with = "field::some_number")]
    default: Option<u32>,
    #[serde(default, deserialize_with = "field::some_count")]
    levels: Option<u32>,
}

impl TryFrom<WrittenSpec> for InboundPolicySpec {
    type Error = Misfit;

    fn try_from(written: WrittenSpec) -> Result<Self, Misfit> {
        let WrittenSpec { target_refs, selector, mtls, rate_limit, concurrency, priorities, jwt } = written;
        let scope = WrittenScope { target_refs, selector }.try_into()?;
        Ok(Self { scope, mtls, rate_limit, concurrency, priorities, jwt })
    }
}

impl TryFrom<WrittenConcurrency> for Concurrency {
    type Error = Misfit;

    fn try_from(written: WrittenConcurrency) -> Result<Self, Misfit> {
        let WrittenConcurrency { adaptive, min, max } = written;
        if adaptive == Some(false) {
            return match (min, max) {
                (None, Some(max)) => Ok(Self { min: max, max }),
                (Some(_), _) => Err(Misfit::new("min", "only for an adaptive limit; remove it")),
                (None, None) => Err(Misfit::new("max", "missing; a limit that is not adaptive needs it")),
            };
        }
        let max = max.unwrap_or(DEFAULT_MAX.max(min.unwrap_or_default()));
        let min = min.unwrap_or(DEFAULT_MIN.min(max));
        match min <= max {
            true => Ok(Self { min, max }),
            false => Err(Misfit::new("min", "above max; write one that is at most as large")),
        }
    }
}

impl TryFrom<WrittenPriorities> for Priorities {
    type Error = Misfit;

    fn try_from(written: WrittenPriorities) -> Result<Self, Misfit> {
        let levels = written.levels.unwrap_or(DEFAULT_LEVELS);
        if !(2..=MAX_LEVELS).contains(&levels) {
            return Err(Misfit::new(
                "levels",
                format!("{levels} is not a whole number from 2 to {MAX_LEVELS}"),
            ));
        }
        let default = written.default.unwrap_or(DEFAULT_CLASS);
        if default >= levels {
            let message = format!("{default}; with {levels} levels the classes are 0 to {}", levels - 1);
            return Err(Misfit::new("default", message));
        }
        Ok(Self { header: written.header, default: default as u8, levels: levels as u8 })
    }
}

fn rate_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LocalRateLimit>, D::Error> {
    use serde::de::Error;
    let limit = LocalRateLimit::deserialize(deserializer)?;
    match limit.key.contains(&LimitKey::Route) {
        true => {
            Err(D::Error::custom(Misfit::new("key", "no route is known where requests come in; remove it")))
        }
        false => Ok(Some(limit)),
    }
}
