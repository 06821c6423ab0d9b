//! A Pod: a workload that Kubernetes runs.

use std::net::IpAddr;
use std::sync::Arc;

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name, by which a Service may refer to it; may be empty.
    pub name: String,
    /// The port, never 0.
    pub port: u16,
    /// Its transport.
    pub protocol: Transport,
}

/// `Pod.status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodStatus {
    /// `podIP` and `podIPs` together, without repetition.
    pub addresses: Vec<IpAddr>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`; as written, empty before the first report.
    pub phase: String,
    /// Whether the condition `Ready` is true.
    pub ready: bool,
}
