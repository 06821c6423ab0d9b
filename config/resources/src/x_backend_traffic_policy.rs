//! An XBackendTrafficPolicy, an experiment of Gateway API: a budget of retries and sessions for a destination.

use std::time::Duration;

use serde::Deserialize;

use crate::field;
use crate::object::Meta;
use crate::route::{SessionPersistence, TargetRef};

/// How clients retry, and stay with endpoints of, a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct XBackendTrafficPolicy {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: XBackendTrafficPolicySpec,
}

/// `XBackendTrafficPolicy.spec`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct XBackendTrafficPolicySpec {
    /// What it is about, at least one.
    #[serde(deserialize_with = "field::one_to::<MAX_TARGETS, _, _>")]
    pub target_refs: Vec<TargetRef>,
    /// How many retries there may be.
    pub retry_constraint: Option<RetryConstraint>,
    /// Clients stay with an endpoint for a session.
    pub session_persistence: Option<SessionPersistence>,
}

/// How many retries there may be: a share of requests, and some always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryConstraint {
    /// The share.
    pub budget: Budget,
    /// What is always allowed.
    pub min_retry_rate: Rate,
}

/// A share of requests over a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// In percent: 20 unless written.
    #[serde(deserialize_with = "field::whole_percent")]
    pub percent: u32,
    /// Over which requests are counted: 10 s unless written.
    #[serde(deserialize_with = "field::positive")]
    pub interval: Duration,
}

/// So many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rate {
    /// 10 unless written.
    #[serde(deserialize_with = "field::count")]
    pub count: u32,
    /// 1 s unless written.
    #[serde(deserialize_with = "field::positive")]
    pub interval: Duration,
}

/// At most so many targets (Gateway API).
const MAX_TARGETS: usize = 16;

impl Default for Budget {
    fn default() -> Self {
        Self { percent: 20, interval: Duration::from_secs(10) }
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self { count: 10, interval: Duration::from_secs(1) }
    }
}
