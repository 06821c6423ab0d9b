//! An EndpointSlice: some of the endpoints of a Service, as somebody observed them.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::field;
use crate::kubernetes::Transport;
use crate::object::Meta;

/// The label that says which Service a slice belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Some endpoints of a Service. All endpoints of a slice share its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its metadata.
    pub meta: Meta,
    /// The Service of its namespace they belong to: label `kubernetes.io/service-name`.
    pub service: Option<Arc<str>>,
    /// What kind of addresses it holds.
    pub address_type: AddressType,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Their ports.
    pub ports: Vec<EndpointPort>,
}

/// What kind of addresses an [`EndpointSlice`] holds. `FQDN` is deprecated by Kubernetes and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    /// IPv4 addresses.
    IPv4,
    /// IPv6 addresses.
    IPv6,
}

/// An endpoint of an [`EndpointSlice`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenEndpoint")]
pub struct SliceEndpoint {
    /// At least one; they are fungible, and Kubernetes itself uses the first.
    pub addresses: Vec<IpAddr>,
    /// Takes new requests. Unknown counts as ready.
    pub ready: bool,
    /// Works, whether or not it terminates. Unknown counts as `ready`.
    pub serving: bool,
    /// Is on its way out.
    pub terminating: bool,
    /// The object behind it, a Pod as a rule.
    pub target_ref: Option<TargetObject>,
    /// The node it runs on.
    pub node_name: Option<String>,
    /// The zone it runs in.
    pub zone: Option<String>,
    /// The zones whose clients should use it; empty for all.
    pub hint_zones: Vec<String>,
}

/// The object behind a [`SliceEndpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TargetObject {
    /// `Pod` as a rule.
    #[serde(default)]
    pub kind: String,
    /// Its namespace; `None` is that of the slice.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

/// A port of the endpoints of an [`EndpointSlice`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    /// The name of the Service port it belongs to; may be empty.
    #[serde(default)]
    pub name: String,
    /// The port, never 0; `None` means every port.
    #[serde(default, deserialize_with = "field::some_port")]
    pub port: Option<u16>,
    /// Its transport.
    #[serde(default)]
    pub protocol: Transport,
    /// What is spoken, as written.
    pub app_protocol: Option<String>,
}

/// What an [`EndpointSlice`] holds beside its metadata, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contents {
    address_type: AddressType,
    #[serde(default)]
    endpoints: Vec<SliceEndpoint>,
    #[serde(default)]
    ports: Vec<EndpointPort>,
}

/// [`SliceEndpoint`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenEndpoint {
    #[serde(deserialize_with = "field::addresses")]
    addresses: Vec<IpAddr>,
    #[serde(default)]
    conditions: Conditions,
    target_ref: Option<TargetObject>,
    node_name: Option<String>,
    zone: Option<String>,
    #[serde(default)]
    hints: Hints,
}

#[derive(Deserialize, Default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    for_zones: Vec<Zone>,
}

#[derive(Deserialize)]
struct Zone {
    name: String,
}

impl EndpointSlice {
    pub(crate) fn new(meta: Meta, contents: Contents) -> Self {
        let service = meta.labels.get(SERVICE_NAME_LABEL).map(|name| name.as_str().into());
        let Contents { address_type, endpoints, ports } = contents;
        Self { meta, service, address_type, endpoints, ports }
    }
}

impl From<WrittenEndpoint> for SliceEndpoint {
    fn from(written: WrittenEndpoint) -> Self {
        let ready = written.conditions.ready.unwrap_or(true);
        Self {
            addresses: written.addresses,
            ready,
            serving: written.conditions.serving.unwrap_or(ready),
            terminating: written.conditions.terminating.unwrap_or(false),
            target_ref: written.target_ref,
            node_name: written.node_name,
            zone: written.zone,
            hint_zones: written.hints.for_zones.into_iter().map(|zone| zone.name).collect(),
        }
    }
}
