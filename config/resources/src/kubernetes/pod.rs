//! A Pod: a workload that Kubernetes runs.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::field::{self, Misfit};
use crate::kubernetes::Transport;
use crate::object::Meta;

/// The container (or init container) that makes a Pod meshed.
pub const PROXY_CONTAINER: &str = "outrigger-proxy";

/// A workload that Kubernetes runs. It terminates when `meta.deletion_timestamp` is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: PodSpec,
    /// What was observed.
    pub status: PodStatus,
}

/// `Pod.spec`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenSpec")]
pub struct PodSpec {
    /// Who it is; `default` unless written.
    pub service_account: Arc<str>,
    /// Where it runs.
    pub node_name: Option<String>,
    /// Whether it shares the network of its node, which the mesh leaves alone.
    pub host_network: bool,
    /// The ports of all its containers.
    pub ports: Vec<ContainerPort>,
    /// Whether a container named [`PROXY_CONTAINER`] stands in front.
    pub meshed: bool,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ContainerPort {
    /// Its name, by which a Service may refer to it; may be empty.
    #[serde(default)]
    pub name: String,
    /// The port, never 0.
    #[serde(rename = "containerPort", deserialize_with = "field::port")]
    pub port: u16,
    /// Its transport.
    #[serde(default)]
    pub protocol: Transport,
}

/// `Pod.status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenStatus")]
pub struct PodStatus {
    /// `podIP` and `podIPs` together, without repetition.
    pub addresses: Vec<IpAddr>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`; as written, empty before the first report.
    pub phase: String,
    /// Whether the condition `Ready` is true.
    pub ready: bool,
}

/// [`PodSpec`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSpec {
    #[serde(default = "default_service_account", deserialize_with = "field::service_account")]
    service_account_name: Arc<str>,
    node_name: Option<String>,
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    ports: Vec<ContainerPort>,
}

/// [`PodStatus`] as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenStatus {
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    phase: String,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

fn default_service_account() -> Arc<str> {
    crate::workload::DEFAULT_SERVICE_ACCOUNT.into()
}

impl From<WrittenSpec> for PodSpec {
    fn from(written: WrittenSpec) -> Self {
        let all = || written.init_containers.iter().chain(&written.containers);
        Self {
            meshed: all().any(|container| container.name == PROXY_CONTAINER),
            ports: all().flat_map(|container| container.ports.iter().cloned()).collect(),
            service_account: written.service_account_name.clone(),
            node_name: written.node_name.clone(),
            host_network: written.host_network,
        }
    }
}

impl TryFrom<WrittenStatus> for PodStatus {
    type Error = Misfit;

    fn try_from(written: WrittenStatus) -> Result<Self, Misfit> {
        let one = Some(&written.pod_ip).filter(|ip| !ip.is_empty()).map(|ip| ("podIP", ip));
        let mut addresses = Vec::new();
        for (key, text) in one.into_iter().chain(written.pod_ips.iter().map(|pod_ip| ("podIPs", &pod_ip.ip)))
        {
            let address = field::parse_address(text).map_err(|message| Misfit::new(key, message))?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let is_ready = |condition: &Condition| condition.type_ == "Ready" && condition.status == "True";
        Ok(Self { addresses, ready: written.conditions.iter().any(is_ready), phase: written.phase })
    }
}
