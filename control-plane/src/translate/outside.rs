//! Addresses that nobody in the mesh has, at ports of ExternalServices: what is said there decides, because the address says
//! nothing. TLS goes by the name that it asks for, HTTP by the host of each request; everything else is egress.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::HOST;
use outrigger_model::cluster::ServiceRef;
use outrigger_model::codec::MAX_PATTERNS;
use outrigger_model::listener::{Handling, NamedRoute, OpaqueRoute, OpaqueRoutes};
use outrigger_model::name::{Destination, Host};
use outrigger_model::route::{
    Action, Backend, BackendTarget, Forward, HeaderMatch, Pattern, Route, RouteMatch, ValueMatch,
};
use outrigger_resources::external_service::{ExternalPort, ExternalProtocol, ExternalService, Resolution};
use outrigger_resources::mesh_config::{Egress, MESH_CONFIG_NAME};
use outrigger_resources::{Object, ObjectRef};

use super::cluster::service_ref;
use super::opaque::{Names, to_cluster};
use super::policy::Treatment;
use super::protocol::Declared;
use super::target::ExternalPortOf;
use crate::world::{Term, World};

/// What stands for all addresses outside the mesh in telemetry: each of them as a label would be without bound.
const NOBODY: &str = "outside";

/// An address outside the mesh, with the ExternalServices that have its port, the oldest first.
#[derive(Debug, Clone)]
pub(crate) struct OutsideAt<'w> {
    pub(crate) address: SocketAddr,
    services: Vec<At<'w>>,
}

/// An ExternalService and its port.
#[derive(Debug, Clone, Copy)]
struct At<'w> {
    external: &'w ExternalService,
    port: &'w ExternalPort,
}

impl<'w> OutsideAt<'w> {
    /// The address, if an ExternalService has its port.
    pub(super) fn find(world: &'w World, address: SocketAddr) -> Option<Self> {
        let mut held: Vec<_> = world.find(&Term::ExternalPort(address.port())).collect();
        held.sort_by(|a, b| a.age.cmp(&b.age));
        let services: Vec<_> = held.into_iter().filter_map(|held| at(&held.object, address.port())).collect();
        (!services.is_empty()).then_some(Self { address, services })
    }

    /// How its connections are handled.
    pub(super) fn handling(&self, world: &World, name: &str) -> Handling {
        let opaque = OpaqueRoutes { by_name: self.by_name(), otherwise: self.otherwise(world) };
        match self.services.iter().any(|at| at.speaks_http()) {
            true => Handling::Detect { route_config: name.into(), opaque },
            false => Handling::Opaque(opaque),
        }
    }

    /// HTTP by the host of a request: whole names, then longer ends of names before shorter ones, then egress.
    pub(super) fn routes(&self, world: &World) -> Vec<Route> {
        let http = self.services.iter().filter(|at| at.speaks_http());
        let hosts = http.flat_map(|at| at.external.spec.hosts.iter().map(move |host| (host, at)));
        let mut hosts: Vec<_> = hosts.collect();
        // The order of age stays among equals.
        hosts.sort_by_key(|(host, _)| (host.starts_with('*'), std::cmp::Reverse(host.len())));
        hosts.truncate(MAX_PATTERNS);
        let routes = hosts.into_iter().filter_map(|(host, at)| {
            let matches = RouteMatch { headers: vec![host_is(host)?], ..RouteMatch::default() };
            Some(to(at.object(), matches, self.cluster_of(*at, host)))
        });
        let otherwise = self.otherwise(world);
        let allowed = otherwise
            .backends
            .first()
            .map(|backend| to(otherwise.object.clone(), RouteMatch::default(), backend.cluster.clone()));
        routes.chain(allowed).collect()
    }

    /// Whose it is and how it is treated: as the oldest says that passes connections through.
    pub(super) fn reference_and_treatment(&self, world: &World) -> (ServiceRef, Treatment) {
        match self.services.iter().find(|at| at.passes()) {
            Some(at) => {
                let reference = at.of_host(Arc::default()).reference();
                let treatment = Treatment::of(world, &reference, &at.port.name);
                (service_ref(&reference), treatment)
            }
            None => {
                let (kind, name) = ("Address".into(), NOBODY.into());
                (ServiceRef { kind, namespace: Arc::default(), name }, Treatment::default())
            }
        }
    }

    /// Whose HTTP goes to the address itself, and the name of its port: a policy may want TLS for that.
    pub(super) fn passed_http(&self) -> Option<(ObjectRef, &'w String)> {
        let at = self.services.iter().find(|at| at.passes() && at.speaks_http())?;
        Some((at.of_host(Arc::default()).reference(), &at.port.name))
    }

    /// TLS by the name that it asks for.
    fn by_name(&self) -> Vec<NamedRoute> {
        let mut names = Names::default();
        let mut routes = Vec::new();
        for at in self.services.iter().filter(|at| at.speaks_tls()) {
            for host in &at.external.spec.hosts {
                if let Some(hosts) = names.take(std::slice::from_ref(host)) {
                    let route = to_cluster(at.object().to_string(), self.cluster_of(*at, host).to_string());
                    routes.push(NamedRoute { hosts, route });
                }
            }
        }
        routes
    }

    /// Where bytes without a name go: to the ExternalService that lists the address or passes everything on its port
    /// through, else to the address itself if egress is allowed.
    fn otherwise(&self, world: &World) -> OpaqueRoute {
        // Where a sidecar starts TLS itself, only HTTP may go: bytes might be TLS already.
        let lists = |at: &&At<'_>| {
            at.port.protocol != ExternalProtocol::Https
                && at.external.spec.endpoints.contains(&self.address.ip())
        };
        let passes = |at: &&At<'_>| at.port.protocol == ExternalProtocol::Tcp && at.passes();
        let known = self.services.iter().find(lists).or_else(|| self.services.iter().find(passes));
        if let Some(at) = known {
            let host = at.external.spec.hosts.first().cloned().unwrap_or_default();
            return to_cluster(at.object().to_string(), self.cluster_of(*at, &host).to_string());
        }
        let object = format!("MeshConfig/{}/{MESH_CONFIG_NAME}", world.mesh_namespace());
        match world.mesh().egress {
            Egress::Allow => to_cluster(object, self.own_cluster().to_string()),
            Egress::Deny => OpaqueRoute { object: object.into(), backends: Vec::new() },
        }
    }

    /// Where an ExternalService has the connections to one of its hosts go.
    fn cluster_of(&self, at: At<'_>, host: &Arc<str>) -> Arc<str> {
        match at.external.spec.resolution {
            Resolution::Passthrough => self.own_cluster(),
            Resolution::Dns | Resolution::Static => {
                at.of_host(host.clone()).destination().cluster_name().into()
            }
        }
    }

    /// The cluster of the address itself, with that one endpoint.
    fn own_cluster(&self) -> Arc<str> {
        let destination = Destination { host: Host::Address(self.address.ip()), port: self.address.port() };
        destination.cluster_name().into()
    }
}

impl<'w> At<'w> {
    fn of_host(self, host: Arc<str>) -> ExternalPortOf<'w> {
        ExternalPortOf { external: self.external, port: self.port, host }
    }

    fn object(self) -> Arc<str> {
        self.of_host(Arc::default()).reference().to_string().into()
    }

    fn passes(self) -> bool {
        self.external.spec.resolution == Resolution::Passthrough
    }

    /// HTTPS is HTTP for which a sidecar starts TLS, for which it needs to know the name.
    fn speaks_http(self) -> bool {
        match self.port.protocol {
            ExternalProtocol::Https => !self.passes(),
            protocol => Declared::of_external(protocol).allows_http(),
        }
    }

    /// TLS that the application starts, and HTTPS where nobody else can.
    fn speaks_tls(self) -> bool {
        match self.port.protocol {
            ExternalProtocol::Https => self.passes(),
            protocol => protocol == ExternalProtocol::Tls,
        }
    }
}

fn at(object: &Object, port: u16) -> Option<At<'_>> {
    let Object::ExternalService(external) = object else { return None };
    let port = external.spec.ports.iter().find(|known| known.port == port)?;
    Some(At { external, port })
}

/// Whether a request names a host, with or without a port, in whatever case (RFC 9110, section 4.2.3) of ASCII: cases of
/// Unicode would make the expression a hundred times as large.
fn host_is(host: &str) -> Option<HeaderMatch> {
    let name = match host.strip_prefix('*') {
        Some(end) => format!("[-_.a-z0-9]+{}", escaped(end)),
        None => escaped(host),
    };
    let pattern = Pattern::new(&format!("(?i-u:{name})(?::[0-9]+)?")).ok()?;
    Some(HeaderMatch { name: HOST, value: ValueMatch::Regex(pattern) })
}

/// A host has no character that means something in an expression but the dot.
fn escaped(host: &str) -> String {
    host.replace('.', "\\.")
}

fn to(object: Arc<str>, matches: RouteMatch, cluster: Arc<str>) -> Route {
    let backend = Backend::plain(BackendTarget::Cluster(cluster), 1);
    Route::plain(object, matches, Action::Forward(Forward::to(vec![backend])))
}
