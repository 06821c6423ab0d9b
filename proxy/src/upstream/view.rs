//! A cluster as an admin sees it: plain numbers at one moment, ready to be written as JSON.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use outrigger_model::cluster::Cluster as Config;
use outrigger_model::endpoint::Health;
use outrigger_model::policy::LoadBalancer;
use serde::Serialize;

use super::endpoint::{Endpoint, Standing};
use super::limits::Limit;
use super::live::Live;

/// One cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterView {
    /// `outbound|<port>|<host>`.
    pub name: String,
    /// In the order they are configured, draining ones last.
    pub endpoints: Vec<EndpointView>,
    /// Circuit breaker.
    pub limits: LimitsView,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointView {
    /// Where it is dialled.
    pub address: SocketAddr,
    /// Who must answer there.
    pub identity: Option<String>,
    /// Its share.
    pub weight: u32,
    /// Requests in flight.
    pub pending: u32,
    /// Peak EWMA of the time to a response head, in milliseconds; `None` before the first.
    pub ewma_ms: Option<f64>,
    /// What it says of its own utilisation, full at 1; `None` when it has not lately.
    pub utilisation: Option<f64>,
    /// Whether requests go there.
    pub state: EndpointStateView,
    /// What is left of its ejection, in milliseconds; 0 when its probe is due.
    pub ejected_for_ms: Option<u64>,
    /// What is left of the time for which it asked for patience, in milliseconds.
    pub resting_for_ms: Option<u64>,
    /// Requests that are over.
    pub requests_total: u64,
    /// Those that failed.
    pub requests_failed: u64,
}

/// Whether requests go to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointStateView {
    /// They do.
    Healthy,
    /// Only when nothing else is left.
    Draining,
    /// Not now.
    Ejected,
    /// One request is trying.
    Probing,
    /// Fails its health checks; left out unless too many do.
    Unhealthy,
}

/// The limits of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LimitsView {
    /// Open connections.
    pub connections: LimitView,
    /// Requests that wait for a connection.
    pub pending_requests: LimitView,
    /// Requests in flight.
    pub requests: LimitView,
    /// Retries in flight.
    pub retries: LimitView,
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LimitView {
    /// The value now.
    pub current: u32,
    /// The limit.
    pub max: u32,
}

pub(super) fn of(config: &Config, live: &Live, at: Duration) -> ClusterView {
    let limit = |limit: Limit| LimitView { current: live.counts.now(limit), max: limit.of(&config.limits) };
    ClusterView {
        name: config.name.to_string(),
        endpoints: live.endpoints.load().all().iter().map(|endpoint| view(endpoint, config, at)).collect(),
        limits: LimitsView {
            connections: limit(Limit::Connections),
            pending_requests: limit(Limit::PendingRequests),
            requests: limit(Limit::Requests),
            retries: limit(Limit::Retries),
        },
    }
}

fn view(endpoint: &Endpoint, config: &Config, at: Duration) -> EndpointView {
    let decay = match config.load_balancer {
        LoadBalancer::PeakEwma { decay, .. } => decay,
        _ => Duration::MAX,
    };
    let standing = endpoint.state.standing(at);
    let ejected_for_ms = match standing {
        Standing::InUse => None,
        Standing::Ejected { until } => Some(until.saturating_sub(at).as_millis() as u64),
        Standing::ProbeDue | Standing::Probing => Some(0),
    };
    let estimate = endpoint.state.latency.estimate_ns(at, decay);
    EndpointView {
        address: endpoint.config().address,
        identity: endpoint.config().identity.as_ref().map(ToString::to_string),
        weight: endpoint.config().weight,
        pending: endpoint.state.pending.load(Relaxed),
        ewma_ms: estimate.map(|ns| (ns / 1e3).round() / 1e3),
        utilisation: endpoint.state.load.utilisation(at).map(|part| (part * 1e3).round() / 1e3),
        state: state(endpoint, standing),
        ejected_for_ms,
        resting_for_ms: endpoint.state.resting_for(at).map(|time| time.as_millis() as u64),
        requests_total: endpoint.state.requests.load(Relaxed),
        requests_failed: endpoint.state.failed.load(Relaxed),
    }
}

fn state(endpoint: &Endpoint, standing: Standing) -> EndpointStateView {
    match (endpoint.config().health, standing) {
        (Health::Draining, _) => EndpointStateView::Draining,
        (Health::Healthy, _) if !endpoint.state.vitals().is_healthy() => EndpointStateView::Unhealthy,
        (Health::Healthy, Standing::InUse) => EndpointStateView::Healthy,
        (Health::Healthy, Standing::Probing) => EndpointStateView::Probing,
        (Health::Healthy, Standing::Ejected { .. } | Standing::ProbeDue) => EndpointStateView::Ejected,
    }
}
