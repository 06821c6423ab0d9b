//! Which routes are in force on a port of a Service for a client.

use std::sync::Arc;

use outrigger_resources::route::{GrpcRoute, HttpRoute, ParentRef, TcpRoute, TlsRoute};
use outrigger_resources::{Kind, Object};

use super::protocol::Declared;
use super::target::PortOf;
use crate::world::{Held, Term, World, parent_service, route_parents};

/// The routes in force, all of one kind, the oldest first.
#[derive(Debug, Clone)]
pub(crate) enum Attached<'w> {
    /// None.
    Nothing,
    /// For gRPC calls.
    Grpc(Vec<&'w GrpcRoute>),
    /// For HTTP requests.
    Http(Vec<&'w HttpRoute>),
    /// For TLS connections, by name.
    Tls(Vec<&'w TlsRoute>),
    /// For bytes; the oldest alone counts.
    Tcp(&'w TcpRoute),
}

impl<'w> Attached<'w> {
    /// The routes in force for clients of a namespace.
    ///
    /// Routes of the client's own namespace (consumer routes) replace those of the Service's (producer routes), and
    /// GRPCRoute stands before HTTPRoute before TLSRoute before TCPRoute (Gateway API, GEP-1426).
    pub(crate) fn find(world: &'w World, port: PortOf<'w>, client_namespace: &str) -> Self {
        let routes = routes_on(world, port);
        let of = |namespace: &str| -> Vec<&'w Arc<Held>> {
            routes.iter().copied().filter(|held| *held.object.meta().namespace == *namespace).collect()
        };
        let consumer = of(client_namespace);
        match consumer.is_empty() {
            false => Self::highest(&consumer),
            true => Self::highest(&of(&port.service.meta.namespace)),
        }
    }

    fn highest(routes: &[&'w Arc<Held>]) -> Self {
        let grpc: Vec<_> = routes.iter().filter_map(|held| grpc_route(held)).collect();
        if !grpc.is_empty() {
            return Self::Grpc(grpc);
        }
        let http: Vec<_> = routes.iter().filter_map(|held| http_route(held)).collect();
        if !http.is_empty() {
            return Self::Http(http);
        }
        let tls: Vec<_> = routes.iter().filter_map(|held| tls_route(held)).collect();
        if !tls.is_empty() {
            return Self::Tls(tls);
        }
        routes.iter().find_map(|held| tcp_route(held)).map_or(Self::Nothing, Self::Tcp)
    }
}

/// All routes that are attached to a port and can be used there, of any namespace, the oldest first.
pub(crate) fn routes_on<'w>(world: &'w World, port: PortOf<'w>) -> Vec<&'w Arc<Held>> {
    let declared = Declared::of(port.port);
    let found = world.find(&Term::RouteOf(port.reference()));
    let mut routes: Vec<_> = found.filter(|held| fits(held, port, declared)).collect();
    routes.sort_by(|a, b| a.age.cmp(&b.age));
    routes
}

/// Whether a parentRef of a route means this port.
pub(crate) fn means(parent: &ParentRef, route_namespace: &Arc<str>, port: PortOf<'_>) -> bool {
    parent_service(parent, route_namespace).is_some_and(|service| service == port.reference())
        && parent.port.is_none_or(|number| number == port.port.port)
        && parent.section_name.as_ref().is_none_or(|name| *name == port.port.name)
}

/// Whether a kind of route can be in force on a port that is declared so.
pub(crate) fn suits(kind: Kind, declared: Declared) -> bool {
    match kind {
        Kind::TcpRoute | Kind::TlsRoute => declared.allows_opaque(),
        _ => declared.allows_http(),
    }
}

/// Whether a route has a rule left; one whose rules were all dropped takes no traffic away from anybody.
pub(crate) fn has_rules(object: &Object) -> bool {
    match object {
        Object::HttpRoute(route) => !route.spec.rules.is_empty(),
        Object::GrpcRoute(route) => !route.spec.rules.is_empty(),
        Object::TcpRoute(route) => !route.spec.rules.is_empty(),
        Object::TlsRoute(route) => !route.spec.rules.is_empty(),
        _ => false,
    }
}

fn fits(held: &Held, port: PortOf<'_>, declared: Declared) -> bool {
    let namespace = &held.object.meta().namespace;
    let meant = route_parents(&held.object).iter().any(|parent| means(parent, namespace, port));
    meant && suits(held.object.kind(), declared) && has_rules(&held.object)
}

fn grpc_route(held: &Held) -> Option<&GrpcRoute> {
    match &held.object {
        Object::GrpcRoute(route) => Some(route),
        _ => None,
    }
}

fn http_route(held: &Held) -> Option<&HttpRoute> {
    match &held.object {
        Object::HttpRoute(route) => Some(route),
        _ => None,
    }
}

fn tls_route(held: &Held) -> Option<&TlsRoute> {
    match &held.object {
        Object::TlsRoute(route) => Some(route),
        _ => None,
    }
}

fn tcp_route(held: &Held) -> Option<&TcpRoute> {
    match &held.object {
        Object::TcpRoute(route) => Some(route),
        _ => None,
    }
}
