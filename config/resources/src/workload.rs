//! A Workload: a process that is not a Pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::object::Meta;

/// A process that is not a Pod: on a virtual machine, a host, in a test. A Service's selector picks it by labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: WorkloadSpec,
}

/// `Workload.spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// What others dial.
    pub address: IpAddr,
    /// The ports others dial, never 0, by the name that `Service.spec.ports[].targetPort` uses.
    pub ports: BTreeMap<String, u16>,
    /// Who it is; `default` unless written.
    pub service_account: Arc<str>,
    /// Whether a sidecar stands in front, so that it is dialled with mutual TLS; `false` unless written.
    pub meshed: bool,
    /// Where it runs.
    pub locality: Locality,
    /// Its share of traffic among its peers: 1 unless written, at least 1.
    pub weight: u32,
}

/// Where a workload runs; empty when unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone within the region.
    pub zone: Arc<str>,
}
