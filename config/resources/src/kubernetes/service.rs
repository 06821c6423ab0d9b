//! A Service: a name and perhaps an address that stand for a set of endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::kubernetes::Transport;
use crate::object::Meta;

/// A set of endpoints under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: ServiceSpec,
}

/// `Service.spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// How it is published.
    pub type_: ServiceType,
    /// `clusterIP` and `clusterIPs` together, without repetition; empty when it has none or is headless.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`: the name stands for the endpoints themselves.
    pub headless: bool,
    /// What can be dialled.
    pub ports: Vec<ServicePort>,
    /// Which Pods and Workloads serve; empty when EndpointSlices say so instead.
    pub selector: BTreeMap<String, String>,
    /// Where an `ExternalName` Service points.
    pub external_name: Option<String>,
    /// Whether endpoints count that are not ready.
    pub publish_not_ready_addresses: bool,
    /// `PreferClose`, `PreferSameZone`, `PreferSameNode`; as written.
    pub traffic_distribution: Option<String>,
    /// Which endpoints clients inside the cluster may use.
    pub internal_traffic_policy: InternalTrafficPolicy,
}

/// A port of a [`Service`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where the only port has none.
    pub name: String,
    /// The port clients dial, never 0.
    pub port: u16,
    /// The port of the endpoints; the same as `port` unless written.
    pub target_port: TargetPort,
    /// Its transport.
    pub protocol: Transport,
    /// What is spoken, as written (`http`, `kubernetes.io/h2c`, ...).
    pub app_protocol: Option<String>,
}

/// A port of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// By number, never 0.
    Number(u16),
    /// By the name that the endpoint gives it.
    Name(String),
}

/// How a [`Service`] is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of Kubernetes")]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// Which endpoints of a [`Service`] clients inside the cluster may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InternalTrafficPolicy {
    /// Any.
    #[default]
    Cluster,
    /// Those of the client's node.
    Local,
}
