//! Ways of opaque connections: TCPRoutes, and TLSRoutes by the name that a client asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use outrigger_model::codec::MAX_SERVER_NAMES;
use outrigger_model::listener::{NamedRoute, OpaqueBackend, OpaqueRoute, OpaqueRoutes};
use outrigger_resources::route::{BackendRef, TcpRoute, TcpRule, TlsRoute};
use outrigger_resources::{Kind, Meta, ObjectRef};

use super::backend::cluster;
use super::target::PortOf;
use crate::world::World;

/// The way of a TCPRoute.
pub(super) fn of_tcp_route(world: &World, route: &TcpRoute) -> OpaqueRoute {
    of_rules(world, Kind::TcpRoute, &route.meta, &route.spec.rules)
}

/// The ways of some TLSRoutes, which come oldest first. What asks for no name of theirs is closed, and so is what is not TLS.
pub(super) fn by_name(world: &World, port: PortOf<'_>, routes: &[&TlsRoute]) -> OpaqueRoutes {
    let mut names = Names::default();
    let mut by_name = Vec::new();
    for route in routes {
        if let Some(hosts) = names.take(&route.spec.hostnames) {
            let route = of_rules(world, Kind::TlsRoute, &route.meta, &route.spec.rules);
            by_name.push(NamedRoute { hosts, route });
        }
    }
    let otherwise = OpaqueRoute { object: port.reference().to_string().into(), backends: Vec::new() };
    OpaqueRoutes { by_name, otherwise }
}

/// The names of a route that are those of an older one, too.
pub(crate) fn taken_names<'r>(route: &'r TlsRoute, older: &[&TlsRoute]) -> Vec<&'r str> {
    let taken: BTreeSet<&str> =
        older.iter().flat_map(|older| &older.spec.hostnames).map(|host| &**host).collect();
    let own = route.spec.hostnames.iter().map(|host| &**host);
    let any = older.iter().any(|older| older.spec.hostnames.is_empty());
    match route.spec.hostnames.is_empty() && any {
        true => vec!["(no hostnames)"],
        false => own.filter(|host| taken.contains(host)).collect(),
    }
}

/// All connections to one cluster.
pub(super) fn to_cluster(object: String, cluster: String) -> OpaqueRoute {
    let backends = vec![OpaqueBackend { cluster: cluster.into(), weight: 1 }];
    OpaqueRoute { object: object.into(), backends }
}

/// Names that are given away, each once: the first who asks has it.
#[derive(Default)]
pub(super) struct Names {
    given: BTreeSet<Arc<str>>,
    any: bool,
}

impl Names {
    /// Those of the names that are still there; without names, all that nobody names. `None` when nothing is left, or
    /// when a proxy would refuse more.
    pub(super) fn take(&mut self, hosts: &[Arc<str>]) -> Option<Vec<Arc<str>>> {
        if hosts.is_empty() {
            return (!std::mem::replace(&mut self.any, true)).then(Vec::new);
        }
        let mut own = Vec::new();
        for host in hosts {
            // One less than a proxy reads: the way without names counts as well.
            if self.given.len() < MAX_SERVER_NAMES - 1 && self.given.insert(host.clone()) {
                own.push(host.clone());
            }
        }
        (!own.is_empty()).then_some(own)
    }
}

/// Only the first rule counts: there is nothing in bytes by which another one could be chosen.
fn of_rules(world: &World, kind: Kind, meta: &Meta, rules: &[TcpRule]) -> OpaqueRoute {
    let object = ObjectRef { kind, namespace: meta.namespace.clone(), name: meta.name.clone() };
    let refs = rules.first().map(|rule| rule.backend_refs.as_slice()).unwrap_or_default();
    let weighted = refs.iter().filter(|backend| backend.weight > 0);
    let backends = weighted.map(|backend| share(world, backend, &object));
    let backends = backends.collect();
    OpaqueRoute { object: object.to_string().into(), backends }
}

/// A backend that cannot be used takes its share with it: as there is no answer to give, the connection is closed.
fn share(world: &World, backend: &BackendRef, route: &ObjectRef) -> OpaqueBackend {
    let cluster = cluster(world, &backend.object, route);
    let cluster = cluster.unwrap_or_else(|fault| invalid_cluster(&fault.message));
    OpaqueBackend { cluster, weight: backend.weight }
}

fn invalid_cluster(why: &str) -> Arc<str> {
    format!("{}{why}", outrigger_model::name::INVALID_CLUSTER).into()
}
