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
    /// Bytes, never looked into beyond the name that a TLS client asks for.
    Opaque(OpaqueRoutes),
    /// HTTP when the first bytes say so, otherwise opaque.
    Detect {
        /// The name of the `RouteConfiguration` for HTTP.
        route_config: Arc<str>,
        /// Where everything else goes.
        opaque: OpaqueRoutes,
    },
}

/// All ways of opaque connections to one destination: TLS by the name that the client asks for (SNI), everything else,
/// and TLS with no other name, one way. TLS is never opened.
#[derive(Debug, Clone, PartialEq)]
pub struct OpaqueRoutes {
    /// Ways of TLS connections, at most [`crate::codec::MAX_SERVER_NAMES`] names in all; no two have the same name. Mostly empty.
    pub by_name: Vec<NamedRoute>,
    /// The way of what no name is for.
    pub otherwise: OpaqueRoute,
}

/// The way of TLS connections to some names.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRoute {
    /// Host names, or `*.` and the end of them, in lower case. The longest that fits counts. Empty: any TLS connection that
    /// no name is for.
    pub hosts: Vec<Arc<str>>,
    /// Where it goes.
    pub route: OpaqueRoute,
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
    pub fn opaque(&self) -> Option<&OpaqueRoutes> {
        match &self.handling {
            Handling::Opaque(route) | Handling::Detect { opaque: route, .. } => Some(route),
            Handling::Http { .. } => None,
        }
    }
}

impl OpaqueRoutes {
    /// Every route, those by name first.
    pub fn all(&self) -> impl Iterator<Item = &OpaqueRoute> {
        self.by_name.iter().map(|named| &named.route).chain(std::iter::once(&self.otherwise))
    }
}

/// The place of the way for a TLS connection among the hosts of each: the exact name, else the longest `*.` end, else the
/// way that asks for no name. `name` is in lower case; `None` when the client asks for none.
pub fn select_by_name<'h>(
    ways: impl IntoIterator<Item = &'h [Arc<str>]>,
    name: Option<&str>,
) -> Option<usize> {
    let fitting = ways.into_iter().enumerate().filter_map(|(place, hosts)| Some((fit(hosts, name)?, place)));
    fitting.max_by_key(|(fit, _)| *fit).map(|(_, place)| place)
}

/// How well hosts are for a name: the length of what fits, an exact name before any end of one.
fn fit(hosts: &[Arc<str>], name: Option<&str>) -> Option<usize> {
    if hosts.is_empty() {
        return Some(0);
    }
    let name = name?;
    let fits = hosts.iter().filter_map(|host| match host.strip_prefix('*') {
        None => (**host == *name).then_some(usize::MAX),
        Some(end) => (name.len() > end.len() && name.ends_with(end)).then_some(end.len()),
    });
    fits.max()
}

impl From<OpaqueRoute> for OpaqueRoutes {
    /// One way for every connection.
    fn from(otherwise: OpaqueRoute) -> Self {
        Self { by_name: Vec::new(), otherwise }
    }
}
