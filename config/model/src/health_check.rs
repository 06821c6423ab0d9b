//! Active health checks: what a proxy asks endpoints, how often, and what their answers mean.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// How the endpoints of a cluster are checked.
///
/// An endpoint counts as healthy until checks have failed, so that a cluster serves before the first answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one check of an endpoint to the next.
    pub interval: Duration,
    /// For one check, connecting included.
    pub timeout: Duration,
    /// Passed checks in a row that make an endpoint healthy again, at least 1.
    pub healthy_threshold: u32,
    /// Failed checks in a row that make an endpoint unhealthy, at least 1.
    pub unhealthy_threshold: u32,
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of a path.
    Http {
        /// Path and query.
        path: Arc<str>,
        /// The statuses that pass, at least one range.
        statuses: Vec<RangeInclusive<u16>>,
    },
    /// `grpc.health.v1.Health/Check`; `SERVING` passes.
    Grpc {
        /// The service asked about; empty is the server as a whole.
        service: Arc<str>,
    },
    /// A connection that can be made passes.
    Tcp,
}
