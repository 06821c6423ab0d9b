//! What happens to a connection that an application opens.

use std::sync::Arc;

/// How connections to one destination are handled. On the wire: an xDS `Listener` whose `api_listener` is the HTTP
/// side and whose default filter chain is the opaque side; a listener with both is told apart by what the client sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// The name it was asked by: `host:port` or `ip:port`.
    pub name: Arc<str>,
    /// What to do with its connections.
    pub handling: Handling,
}

/// Which protocols a listener takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Handling {
    /// HTTP/1.1 or HTTP/2, nothing else: routed by the route configuration of that name.
    Http {
        /// The name of the `RouteConfiguration`.
        route_config: Arc<str>,
    },
    /// Bytes, never looked into.
    Opaque(OpaqueRoute),
    /// HTTP when the first bytes say so, otherwise opaque.
    Detect {
        /// The name of the `RouteConfiguration` for HTTP.
        route_config: Arc<str>,
        /// Where everything else goes.
        opaque: OpaqueRoute,
    },
}

/// Where opaque connections go: clusters by weight. Without a usable one connections are closed.
#[derive(Debug, Clone, PartialEq)]
pub struct OpaqueRoute {
    /// The object that says so (`TCPRoute/shop/reviews`), for people.
    pub object: Arc<str>,
    /// Clusters with their weights; an empty list refuses every connection.
    pub backends: Vec<OpaqueBackend>,
}

/// A share of an [`OpaqueRoute`].
#[derive(Debug, Clone, PartialEq)]
pub struct OpaqueBackend {
    /// The cluster.
    pub cluster: Arc<str>,
    /// Its share of the sum of all weights.
    pub weight: u32,
}

impl Listener {
    /// The route configuration this listener needs, if it takes HTTP.
    pub fn route_config(&self) -> Option<&Arc<str>> {
        match &self.handling {
            Handling::Http { route_config } | Handling::Detect { route_config, .. } => Some(route_config),
            Handling::Opaque(_) => None,
        }
    }

    /// Where opaque connections go, if it takes them.
    pub fn opaque(&self) -> Option<&OpaqueRoute> {
        match &self.handling {
            Handling::Opaque(route) | Handling::Detect { opaque: route, .. } => Some(route),
            Handling::Http { .. } => None,
        }
    }
}
