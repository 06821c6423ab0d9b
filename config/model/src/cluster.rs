//! A cluster: one destination's endpoints and how they are treated.

use std::sync::Arc;

use crate::health_check::HealthCheck;
use crate::policy::{
    ConnectionPolicy, Limits, LoadBalancer, LocalityMode, OutlierDetection, RetryBudget, SlowStart,
};
use crate::upstream_tls::UpstreamTls;

/// How a destination is found and treated. Endpoints come apart, in [`crate::endpoint::Endpoints`] of the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `outbound|<port>|<host>`.
    pub name: Arc<str>,
    /// Whose endpoints, for telemetry and for people.
    pub service: ServiceRef,
    /// Where endpoints come from.
    pub discovery: Discovery,
    /// What is spoken to them.
    pub protocol: UpstreamProtocol,
    /// How one is chosen.
    pub load_balancer: LoadBalancer,
    /// How new endpoints come to their share; `None`: at once. Hashing takes no notice of it.
    pub slow_start: Option<SlowStart>,
    /// Whether near endpoints are preferred; `None`: where hints of the endpoints say so. Hashing takes no notice of it.
    pub locality: Option<LocalityMode>,
    /// Connections.
    pub connection: ConnectionPolicy,
    /// Circuit breaker.
    pub limits: Limits,
    /// Passive ejection; `None` is off.
    pub outlier: Option<OutlierDetection>,
    /// Retries.
    pub retry_budget: RetryBudget,
    /// Active checks; `None` is none.
    pub health_check: Option<HealthCheck>,
    /// TLS to endpoints that have no sidecar; `None` is plaintext. Sidecars are dialled with mutual TLS in either case.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// A Service or an ExternalService by name, as telemetry shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceRef {
    /// The kind, `Service`, `ExternalService` or `Address`.
    pub kind: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Where the endpoints of a cluster come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// From the control plane, as a `ClusterLoadAssignment` of the cluster's name.
    Eds,
    /// By resolving names, each with its port.
    Dns(Vec<DnsName>),
}

/// A name to resolve and the port to dial at what it resolves to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName {
    /// Fully qualified.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// What is spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// The version the client spoke.
    AsDownstream,
    /// HTTP/1.1 always.
    Http1,
    /// HTTP/2 always, with prior knowledge where there is no TLS.
    Http2,
}
