//! A Workload: a process that is not a Pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::field;
use crate::object::Meta;

/// Who a workload is that does not say.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// A process that is not a Pod: on a virtual machine, a host, in a test. A Service's selector picks it by labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: WorkloadSpec,
}

/// `Workload.spec`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// What others dial.
    #[serde(deserialize_with = "field::address")]
    pub address: IpAddr,
    /// The ports others dial, never 0, by the name that `Service.spec.ports[].targetPort` uses.
    #[serde(default, deserialize_with = "field::port_map")]
    pub ports: BTreeMap<String, u16>,
    /// Who it is; `default` unless written.
    #[serde(default = "default_service_account", deserialize_with = "field::service_account")]
    pub service_account: Arc<str>,
    /// Whether a sidecar stands in front, so that it is dialled with mutual TLS; `false` unless written.
    #[serde(default)]
    pub meshed: bool,
    /// Where it runs.
    #[serde(default)]
    pub locality: Locality,
    /// Its share of traffic among its peers: 1 unless written, at least 1.
    #[serde(default = "default_weight", deserialize_with = "field::positive_weight")]
    pub weight: u32,
}

/// Where a workload runs; empty when unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone within the region.
    pub zone: Arc<str>,
}

fn default_service_account() -> Arc<str> {
    DEFAULT_SERVICE_ACCOUNT.into()
}

fn default_weight() -> u32 {
    1
}
