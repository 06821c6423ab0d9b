//! What a cluster says of itself on `/metrics` (contracts, section 8). Handles are looked up once, when it is made.

use outrigger_base::telemetry::metrics::{Counter, Gauge, Kind, Labels, MetricSpec, Registry};
use outrigger_model::cluster::ServiceRef;

use super::limits::Limit;

const SERVICE: &[&str] = &["destination_service", "destination_namespace"];

/// The metrics of this module.
pub const METRICS: &[MetricSpec] = &[
    MetricSpec {
        name: "outrigger_upstream_endpoints",
        kind: Kind::Gauge,
        help: "Endpoints by state: healthy, draining, ejected, probing, unhealthy.",
        labels: &["destination_service", "destination_namespace", "state"],
    },
    MetricSpec {
        name: "outrigger_upstream_ejections_total",
        kind: Kind::Counter,
        help: "Ejections of endpoints that failed.",
        labels: SERVICE,
    },
    MetricSpec {
        name: "outrigger_upstream_retries_total",
        kind: Kind::Counter,
        help: "Second tries by outcome: allowed, budget, limit, left_to_caller, hedged, hedge_budget, hedge_won.",
        labels: &["destination_service", "destination_namespace", "outcome"],
    },
    MetricSpec {
        name: "outrigger_upstream_overflow_total",
        kind: Kind::Counter,
        help: "How often a circuit breaker limit was reached: connections, pending_requests, requests, retries.",
        labels: &["destination_service", "destination_namespace", "limit"],
    },
    MetricSpec {
        name: "outrigger_upstream_connections",
        kind: Kind::Gauge,
        help: "Open connections.",
        labels: SERVICE,
    },
];

/// The states an endpoint is counted in, in the order of the gauges.
pub(super) const STATES: [&str; 5] = ["healthy", "draining", "ejected", "probing", "unhealthy"];

/// What became of the wish to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryOutcome {
    /// It was made.
    Allowed,
    /// The retry budget was used up.
    Budget,
    /// Too many were in flight.
    Limit,
    /// A proxy before this one makes it.
    LeftToCaller,
    /// A second try was made beside a slow one.
    Hedged,
    /// The budget of hedging was used up.
    HedgeBudget,
    /// The second try was answered first.
    HedgeWon,
}

/// The words of [`RetryOutcome`], in its order.
const RETRY_OUTCOMES: [&str; 7] =
    ["allowed", "budget", "limit", "left_to_caller", "hedged", "hedge_budget", "hedge_won"];

/// The handles of one cluster.
pub(super) struct Metrics {
    pub(super) endpoints: [Gauge; STATES.len()],
    pub(super) ejections: Counter,
    pub(super) connections: Gauge,
    retries: [Counter; RETRY_OUTCOMES.len()],
    overflow: [Counter; Limit::ALL.len()],
}

impl Metrics {
    pub(super) fn new(registry: &Registry, service: &ServiceRef) -> Self {
        registry.declare(METRICS);
        let labels = || -> Labels {
            vec![
                ("destination_service", service.name.to_string().into()),
                ("destination_namespace", service.namespace.to_string().into()),
            ]
        };
        let with = |name: &'static str, value: &'static str| {
            let mut labels = labels();
            labels.push((name, value.into()));
            labels
        };
        let retries =
            |outcome| registry.counter("outrigger_upstream_retries_total", with("outcome", outcome));
        let overflow = |limit| registry.counter("outrigger_upstream_overflow_total", with("limit", limit));
        Self {
            endpoints: STATES
                .map(|state| registry.gauge("outrigger_upstream_endpoints", with("state", state))),
            ejections: registry.counter("outrigger_upstream_ejections_total", labels()),
            connections: registry.gauge("outrigger_upstream_connections", labels()),
            retries: RETRY_OUTCOMES.map(retries),
            overflow: Limit::ALL.map(|limit| overflow(limit.word())),
        }
    }

    pub(super) fn retry(&self, outcome: RetryOutcome) {
        self.retries[outcome as usize].increment(1);
    }

    pub(super) fn overflow(&self, limit: Limit) {
        self.overflow[limit as usize].increment(1);
    }
}
