//! An EndpointSlice: some of the endpoints of a Service, as somebody observed them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::kubernetes::Transport;
use crate::object::Meta;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressType {
    /// IPv4 addresses.
    IPv4,
    /// IPv6 addresses.
    IPv6,
}

/// An endpoint of an [`EndpointSlice`].
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetObject {
    /// `Pod` as a rule.
    pub kind: String,
    /// Its namespace; `None` is that of the slice.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

/// A port of the endpoints of an [`EndpointSlice`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// The name of the Service port it belongs to; may be empty.
    pub name: String,
    /// The port, never 0; `None` means every port.
    pub port: Option<u16>,
    /// Its transport.
    pub protocol: Transport,
    /// What is spoken, as written.
    pub app_protocol: Option<String>,
}
