//! From what users wrote to what proxies run on: pure functions of a world and of who asks.
//!
//! The only place where the words of Gateway API and those of xDS meet. The same world and client give the same
//! resource, byte for byte; nothing here does I/O, keeps state or reads a clock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::name::{Destination, INBOUND, INVALID_CLUSTER};
use outrigger_model::resource::{Resource, ResourceType};
use outrigger_resources::Object;

mod annotated;
mod attached;
mod authorization;
mod backend;
mod cluster;
mod endpoints;
mod filters;
mod grpc;
mod http;
mod inbound;
mod inbound_policy;
mod limit;
mod listener;
mod member;
mod opaque;
mod order;
mod outside;
mod policy;
mod protocol;
mod route_policy;
mod session;
mod routes;
mod target;
mod upstream_tls;

pub(crate) use attached::{has_rules, means, routes_on, suits};
pub(crate) use authorization::is_about_the_mesh;
pub(crate) use backend::cluster as backend_cluster;
pub(crate) use endpoints::has_any as has_endpoints;
pub(crate) use filters::Applied;
pub(crate) use inbound::inbound as inbound_of;
pub(crate) use inbound_policy::{InboundSection, inbound_policies, inbound_policy};
pub(crate) use listener::declared_or_opaque;
pub(crate) use member::Member;
pub(crate) use opaque::taken_names;
pub(crate) use policy::{
    in_force as policy_in_force, not_applied as policy_not_applied, says_budget as policy_says_budget,
};
pub(crate) use protocol::Declared;
pub(crate) use route_policy::{RuleSite, Section, Site, missing as missing_route_policy, rule_sites};
pub(crate) use target::PortOf;
pub(crate) use upstream_tls::{authority_faults, has_usable_authority};

use target::{ExternalPortOf, Target};

use crate::world::{DestinationKey, World};

/// Who asks for a resource. Routes and listeners differ by `namespace` (consumer routes), `inbound` by all of it,
/// clusters and endpoints by nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Client {
    /// The namespace it runs in; empty when unknown.
    pub namespace: Arc<str>,
    /// The name of its Workload or Pod; empty when unknown.
    pub name: Arc<str>,
    /// The address others dial it at.
    pub address: Option<IpAddr>,
    /// Its labels, for a workload that no object describes.
    pub labels: BTreeMap<String, String>,
}

/// The resource of a name, as this client should see it; `None` when there is no such thing.
///
/// The answer carries the name that was asked for, whichever spelling of a host it is.
pub fn resource(world: &World, client: &Client, kind: ResourceType, name: &str) -> Option<Resource> {
    if kind == ResourceType::Listener && name == INBOUND {
        return Some(Resource::Inbound(inbound::inbound(world, client)));
    }
    if name.starts_with(INVALID_CLUSTER) {
        return cluster::invalid(kind, name);
    }
    let target = Target::find(world, &destination(kind, name)?)?;
    Some(match kind {
        ResourceType::Listener => {
            Resource::Listener(listener::listener(world, &client.namespace, &target, name))
        }
        ResourceType::Route => Resource::Route(routes::route_config(world, &client.namespace, &target, name)),
        ResourceType::Cluster => Resource::Cluster(cluster::cluster(world, &target, name)),
        ResourceType::Endpoints if cluster::is_eds(&target) => {
            Resource::Endpoints(endpoints::endpoints(world, &target, name))
        }
        ResourceType::Endpoints => return None,
    })
}

/// All names of a type that a client gets which asks for everything, in order: the clusters of all Services and
/// ExternalServices. Everything else is asked for by name only.
pub fn wildcard(world: &World, kind: ResourceType) -> Vec<Arc<str>> {
    if kind != ResourceType::Cluster {
        return Vec::new();
    }
    let objects = world.sorted().map(|(_, held)| &held.object);
    let mut names: Vec<Arc<str>> = objects.flat_map(clusters_of).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What the resource of a name follows from, as this client sees it: unless one of these changes, it is as it was.
pub fn follows(client: &Client, kind: ResourceType, name: &str) -> Vec<DestinationKey> {
    if kind == ResourceType::Listener && name == INBOUND {
        return vec![DestinationKey::Inbound(client.namespace.clone())];
    }
    destination(kind, name).map(|destination| DestinationKey::all_of(&destination)).unwrap_or_default()
}

fn destination(kind: ResourceType, name: &str) -> Option<Destination> {
    match kind {
        ResourceType::Listener | ResourceType::Route => name.parse().ok(),
        ResourceType::Cluster | ResourceType::Endpoints => Destination::from_cluster_name(name),
    }
}

fn clusters_of(object: &Object) -> Vec<Arc<str>> {
    let destinations: Vec<Destination> = match object {
        Object::Service(service) => PortOf::all(service).map(|port| port.destination()).collect(),
        Object::ExternalService(external) => {
            let ports = external.spec.ports.iter();
            let hosts = |port: u16| external.spec.hosts.iter().map(move |host| (host.clone(), port));
            let all = ports.flat_map(|port| hosts(port.port));
            all.filter_map(|(host, port)| ExternalPortOf::find(external, host, port))
                .map(|port| port.destination())
                .collect()
        }
        _ => Vec::new(),
    };
    destinations.iter().map(|destination| destination.cluster_name().into()).collect()
}

#[cfg(test)]
mod tests;
