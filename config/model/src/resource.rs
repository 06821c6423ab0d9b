//! Any resource of the data plane, with its xDS type.

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::endpoint::Endpoints;
use crate::inbound::Inbound;
use crate::listener::Listener;
use crate::name::INBOUND;
use crate::route::RouteConfig;

/// The xDS v3 resource types we speak, in the order in which changes are sent: what is pointed at comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster`
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    Endpoints,
    /// `envoy.config.listener.v3.Listener`
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`
    Route,
}

impl ResourceType {
    /// All of them, in the order in which changes are sent.
    pub const ALL: [Self; 4] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Route];

    /// The type URL on the wire.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type of a URL on the wire.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// One word for logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Listener => "listener",
            Self::Route => "route",
        }
    }
}

/// A resource of any type.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "taken apart where it arrives, never kept in numbers")]
pub enum Resource {
    /// A cluster.
    Cluster(Cluster),
    /// The endpoints of a cluster.
    Endpoints(Endpoints),
    /// An outbound listener.
    Listener(Listener),
    /// The listener named `inbound`.
    Inbound(Inbound),
    /// Routes.
    Route(RouteConfig),
}

impl Resource {
    /// Its type on the wire.
    pub fn kind(&self) -> ResourceType {
        match self {
            Self::Cluster(_) => ResourceType::Cluster,
            Self::Endpoints(_) => ResourceType::Endpoints,
            Self::Listener(_) | Self::Inbound(_) => ResourceType::Listener,
            Self::Route(_) => ResourceType::Route,
        }
    }

    /// Its name on the wire.
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::Cluster(cluster) => cluster.name.clone(),
            Self::Endpoints(endpoints) => endpoints.cluster.clone(),
            Self::Listener(listener) => listener.name.clone(),
            Self::Inbound(_) => INBOUND.into(),
            Self::Route(routes) => routes.name.clone(),
        }
    }
}
