//! A Service: a name and perhaps an address that stand for a set of endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenSpec")]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenPort")]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the words of Kubernetes")]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// Which endpoints of a [`Service`] clients inside the cluster may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum InternalTrafficPolicy {
    /// Any.
    #[default]
    Cluster,
    /// Those of the client's node.
    Local,
}

/// The word for a Service whose name stands for its endpoints.
const HEADLESS: &str = "None";

/// [`ServiceSpec`] as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenSpec {
    #[serde(rename = "type")]
    type_: ServiceType,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    ports: Vec<ServicePort>,
    selector: BTreeMap<String, String>,
    external_name: Option<String>,
    publish_not_ready_addresses: bool,
    traffic_distribution: Option<String>,
    internal_traffic_policy: InternalTrafficPolicy,
}

/// [`ServicePort`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPort {
    #[serde(default)]
    name: String,
    #[serde(deserialize_with = "field::port")]
    port: u16,
    target_port: Option<TargetPort>,
    #[serde(default)]
    protocol: Transport,
    app_protocol: Option<String>,
}

impl TryFrom<WrittenSpec> for ServiceSpec {
    type Error = Misfit;

    fn try_from(written: WrittenSpec) -> Result<Self, Misfit> {
        let headless = written.cluster_ip == HEADLESS || written.cluster_ips.iter().any(|ip| ip == HEADLESS);
        let mut cluster_ips = Vec::new();
        let one = Some(&written.cluster_ip).filter(|ip| !ip.is_empty()).map(|ip| ("clusterIP", ip));
        for (key, text) in one.into_iter().chain(written.cluster_ips.iter().map(|ip| ("clusterIPs", ip))) {
            if text == HEADLESS {
                continue;
            }
            let address = field::parse_address(text).map_err(|message| Misfit::new(key, message))?;
            if !cluster_ips.contains(&address) {
                cluster_ips.push(address);
            }
        }
        if headless && !cluster_ips.is_empty() {
            return Err(Misfit::new("clusterIPs", "both None and an address; write one or the other"));
        }
        Ok(Self {
            type_: written.type_,
            cluster_ips,
            headless,
            ports: written.ports,
            selector: written.selector,
            external_name: written.external_name,
            publish_not_ready_addresses: written.publish_not_ready_addresses,
            traffic_distribution: written.traffic_distribution,
            internal_traffic_policy: written.internal_traffic_policy,
        })
    }
}

impl From<WrittenPort> for ServicePort {
    fn from(written: WrittenPort) -> Self {
        let target_port = written.target_port.unwrap_or(TargetPort::Number(written.port));
        Self {
            name: written.name,
            port: written.port,
            target_port,
            protocol: written.protocol,
            app_protocol: written.app_protocol,
        }
    }
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        match &value {
            serde_json::Value::String(name) if !name.is_empty() => Ok(Self::Name(name.clone())),
            _ => field::port(value).map(Self::Number).map_err(D::Error::custom),
        }
    }
}
