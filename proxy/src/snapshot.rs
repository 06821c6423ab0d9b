//! The configuration that traffic runs on: one immutable [`Snapshot`], swapped as a whole.
//!
//! Linked once when configuration changes, so that the request path follows pointers and small numbers and never
//! looks anything up by name. A request, or an opaque connection, loads the snapshot once and carries what it took.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use outrigger_model::filter::{self as model, Redirect, Share};
use outrigger_model::inbound::{Inbound, MeshSettings};
use outrigger_model::listener::select_by_name;
use outrigger_model::name::Destination as DestinationName;
use outrigger_model::policy::{Hedge, RetryPolicy};
use outrigger_model::route::{HeaderChanges, RouteMatch};
use outrigger_model::session::SessionAffinity;

use crate::jwt::Verifier;
use crate::limit::{self, GlobalLimit, RateLimiter};
use crate::protection::Protection;
use crate::telemetry::MirrorMeters;
use crate::upstream::Cluster;

/// Where a destination stands in every snapshot of this process. Never reused for another name while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationId(pub u32);

/// Everything traffic depends on, immutable.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Counts up with every change.
    pub generation: u64,
    /// How this workload receives traffic; `None` until the control plane has said so.
    pub inbound: Option<Arc<Inbound>>,
    /// What stands before the local application; `None` for most workloads.
    pub guard: Option<Arc<limit::Inbound>>,
    /// Who may call; `None` is anybody whom mutual TLS lets in.
    pub protection: Option<Arc<Protection>>,
    /// What tokens requests to the local application must carry; `None` for most workloads.
    pub tokens: Option<Arc<Verifier>>,
    /// What the whole mesh agrees on.
    pub mesh: Arc<MeshSettings>,
    /// By [`DestinationId`]; `None` where a destination was dropped as idle.
    pub destinations: Vec<Option<Arc<Destination>>>,
    /// Names of the destinations that are there.
    pub names: HashMap<DestinationName, DestinationId, foldhash::fast::FixedState>,
}

/// One thing that applications dial.
#[derive(Debug)]
pub struct Destination {
    /// Its name.
    pub name: DestinationName,
    /// What is known of it.
    pub handling: Handling,
    /// Whether it is in use; shared by all snapshots that hold it.
    pub usage: Arc<Usage>,
}

/// When a destination was last used, so that idle ones are dropped.
#[derive(Debug, Default)]
pub struct Usage {
    /// Open connections.
    pub connections: AtomicU32,
    /// Seconds since the epoch, when the last connection came or went.
    pub last_used_seconds: AtomicU64,
}

/// What happens to connections to a destination.
#[derive(Debug)]
pub enum Handling {
    /// Asked for, not answered yet.
    Pending,
    /// The control plane says there is no such destination: egress rules apply.
    Unknown,
    /// HTTP only.
    Http(Arc<Routes>),
    /// Bytes only.
    Opaque(Arc<OpaqueRoutes>),
    /// By what the client sends.
    Detect {
        /// For HTTP.
        http: Arc<Routes>,
        /// For everything else.
        opaque: Arc<OpaqueRoutes>,
    },
}

/// The routes of a destination, in order.
#[derive(Debug)]
pub struct Routes {
    /// The name of the route configuration, for people.
    pub name: Arc<str>,
    /// First match wins.
    pub routes: Vec<Route>,
}

/// A route with its backends at hand.
#[derive(Debug)]
pub struct Route {
    /// `HTTPRoute/shop/reviews`.
    pub object: Arc<str>,
    /// The number telemetry knows the object by.
    pub label: u32,
    /// Which requests.
    pub matches: RouteMatch,
    /// What becomes of them.
    pub action: Action,
    /// Changes to request heads.
    pub request_headers: HeaderChanges,
    /// Changes to response heads.
    pub response_headers: HeaderChanges,
    /// Everything else; `None` on most routes.
    pub filters: Option<Box<Filters>>,
}

/// The filters of a route, or of one backend of it, with what they need at hand.
#[derive(Debug)]
pub struct Filters {
    /// What configuration says.
    pub config: model::Filters,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// The limit that this proxy keeps, with its counts.
    pub rate: Option<Arc<RateLimiter>>,
    /// The limit that a service keeps.
    pub global: Option<GlobalLimit>,
}

/// Who gets copies of some requests.
#[derive(Debug)]
pub struct Mirror {
    /// Where they go.
    pub cluster: Arc<Cluster>,
    /// How many of the requests.
    pub share: Share,
    /// What became of them.
    pub meters: MirrorMeters,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Action {
    /// Sent on.
    Forward(Forward),
    /// Answered: the client is to ask elsewhere.
    Redirect(Redirect),
    /// Answered with `no_backend`.
    NoBackend,
}

/// Backends and how they are tried.
#[derive(Debug)]
pub struct Forward {
    /// By weight.
    pub backends: Vec<Backend>,
    /// The sum of all weights, at least 1.
    pub total_weight: u32,
    /// For the whole request.
    pub timeout: Option<std::time::Duration>,
    /// What the user wants retried; `None`: only what is always safe.
    pub retry: Option<RetryPolicy>,
    /// Whether clients stay with their endpoints.
    pub session: Option<Box<SessionAffinity>>,
    /// A second try beside one that is slow.
    pub hedge: Option<Hedge>,
}

/// A share of the traffic.
#[derive(Debug)]
pub struct Backend {
    /// Its share.
    pub weight: u32,
    /// `None` answers `no_backend`.
    pub cluster: Option<Arc<Cluster>>,
    /// Changes to request heads.
    pub request_headers: HeaderChanges,
    /// Changes to response heads.
    pub response_headers: HeaderChanges,
    /// Everything else; `None` for most backends.
    pub filters: Option<Box<Filters>>,
}

/// All ways of opaque connections to a destination.
#[derive(Debug)]
pub struct OpaqueRoutes {
    /// By the name that a TLS client asks for; mostly empty.
    pub by_name: Vec<NamedRoute>,
    /// Of everything that no name is for.
    pub otherwise: Arc<OpaqueRoute>,
}

/// The way of TLS connections to some names.
#[derive(Debug)]
pub struct NamedRoute {
    /// Names and `*.` ends of names in lower case; empty for any TLS connection.
    pub hosts: Vec<Arc<str>>,
    /// Where they go.
    pub route: Arc<OpaqueRoute>,
}

/// Where opaque connections go.
#[derive(Debug)]
pub struct OpaqueRoute {
    /// `TCPRoute/shop/db`.
    pub object: Arc<str>,
    /// The number telemetry knows the object by.
    pub label: u32,
    /// By weight; empty refuses, and so does a share without a cluster.
    pub backends: Vec<(u32, Option<Arc<Cluster>>)>,
    /// The sum of all weights, 0 when empty.
    pub total_weight: u32,
}

impl Snapshot {
    /// The snapshot of a proxy that has heard nothing yet.
    pub fn empty() -> Self {
        Self {
            generation: 0,
            inbound: None,
            guard: None,
            protection: None,
            tokens: None,
            mesh: Arc::default(),
            destinations: Vec::new(),
            names: HashMap::default(),
        }
    }

    /// A destination by its place.
    pub fn destination(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.destinations.get(id.0 as usize)?.as_ref()
    }

    /// The place of a name.
    pub fn lookup(&self, name: &DestinationName) -> Option<DestinationId> {
        self.names.get(name).copied()
    }
}

impl OpaqueRoutes {
    /// Every route, those by name first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<OpaqueRoute>> {
        self.by_name.iter().map(|named| &named.route).chain(std::iter::once(&self.otherwise))
    }

    /// The way of a TLS connection: the exact name, else the longest `*.` end, else the way that asks for no name. `name`
    /// is in lower case; `None` when the client asks for none.
    pub fn of_tls(&self, name: Option<&str>) -> &Arc<OpaqueRoute> {
        let found = select_by_name(self.by_name.iter().map(|named| named.hosts.as_slice()), name);
        found.map_or(&self.otherwise, |place| &self.by_name[place].route)
    }
}

impl Forward {
    /// The backend that a number below the total weight falls on.
    pub fn backend(&self, mut point: u32) -> &Backend {
        let last = self.backends.len() - 1;
        for backend in &self.backends[..last] {
            if point < backend.weight {
                return backend;
            }
            point -= backend.weight;
        }
        &self.backends[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(object: &str) -> Arc<OpaqueRoute> {
        Arc::new(OpaqueRoute { object: object.into(), label: 0, backends: Vec::new(), total_weight: 0 })
    }

    fn routes(named: &[(&str, &[&str])]) -> OpaqueRoutes {
        let named = named.iter().map(|(object, hosts)| NamedRoute {
            hosts: hosts.iter().map(|host| Arc::from(*host)).collect(),
            route: route(object),
        });
        OpaqueRoutes { by_name: named.collect(), otherwise: route("otherwise") }
    }

    #[test]
    fn the_most_specific_name_decides() {
        let closed = routes(&[
            ("wide", &["*.example"]),
            ("narrow", &["*.shop.example", "x.example"]),
            ("exact", &["a.shop.example"]),
        ]);
        let mut open = routes(&[("any", &[]), ("exact", &["a.shop.example"])]);
        for (name, expected) in [
            (Some("a.shop.example"), "exact"),
            (Some("b.shop.example"), "narrow"),
            (Some("c.b.shop.example"), "narrow"),
            (Some("shop.example"), "wide"),
            (Some("x.example"), "narrow"),
            (Some("y.x.example"), "wide"),
            (Some("example"), "otherwise"),
            (Some(".example"), "otherwise"),
            (Some("aexample"), "otherwise"),
            (Some("a.shop.example.org"), "otherwise"),
            (None, "otherwise"),
        ] {
            assert_eq!(&*closed.of_tls(name).object, expected, "{name:?}");
            let with_any = if expected == "exact" { "exact" } else { "any" };
            assert_eq!(&*open.of_tls(name).object, with_any, "{name:?}");
            open.by_name.reverse();
        }
    }
}
