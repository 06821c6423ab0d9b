//! Endpoints: the addresses behind a cluster, and who answers there.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::identity::SpiffeId;

/// All endpoints of one cluster. On the wire: a `ClusterLoadAssignment`.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoints {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// In a stable order.
    pub endpoints: Vec<Endpoint>,
}

/// One address that serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where to dial.
    pub address: SocketAddr,
    /// Its share, at least 1.
    pub weight: u32,
    /// Whether new requests may go there.
    pub health: Health,
    /// Where it runs.
    pub locality: Locality,
    /// The zones whose clients should use it (`EndpointSlice`, `hints.forZones`); empty where nobody says.
    pub hint_zones: Vec<Arc<str>>,
    /// The workload's name and namespace, for telemetry.
    pub workload: WorkloadRef,
    /// `Some` when a sidecar stands in front: dialled with mutual TLS and only this identity is accepted there.
    pub identity: Option<SpiffeId>,
}

/// A workload by name; both parts may be empty when unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct WorkloadRef {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What discovery knows of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Takes requests.
    Healthy,
    /// Finishes what it has; takes new requests only when nothing else is left.
    Draining,
}

/// Where something runs; empty when unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Arc<str>,
}
