//! The Kubernetes objects we read, and of each the part we read. Fields we do not know are ordinary here.

mod endpoint_slice;
mod pod;
mod service;

pub(crate) use endpoint_slice::Contents;
pub use endpoint_slice::{
    AddressType, EndpointPort, EndpointSlice, SERVICE_NAME_LABEL, SliceEndpoint, TargetObject,
};
pub use pod::{ContainerPort, PROXY_CONTAINER, Pod, PodSpec, PodStatus};
pub use service::{InternalTrafficPolicy, Service, ServicePort, ServiceSpec, ServiceType, TargetPort};

use std::sync::Arc;

use serde::Deserialize;

use crate::object::Meta;

/// A namespace; what it says is in its labels and annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its metadata.
    pub meta: Meta,
}

/// Who a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its metadata.
    pub meta: Meta,
}

/// Texts by name, of which authorities are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMap {
    /// Its metadata.
    pub meta: Meta,
    /// `data["ca.crt"]`: certificates of authorities, as PEM.
    pub authorities: Option<Arc<str>>,
}

/// `ConfigMap.data`, in part.
#[derive(Deserialize)]
pub(crate) struct ConfigData {
    #[serde(rename = "ca.crt")]
    pub(crate) authorities: Option<Arc<str>>,
}

/// The transport of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// Bytes in order.
    #[default]
    Tcp,
    /// Datagrams; not carried by the mesh.
    Udp,
    /// Messages in order; not carried by the mesh.
    Sctp,
}
