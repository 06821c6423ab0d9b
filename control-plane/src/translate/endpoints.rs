//! Endpoints: the addresses behind a destination, from selectors and from EndpointSlices.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use outrigger_model::codec::{MAX_ENDPOINTS, MAX_HINT_ZONES};
use outrigger_model::endpoint::{Endpoint, Endpoints, Health, Locality, WorkloadRef};
use outrigger_resources::kubernetes::{EndpointSlice, ServicePort, SliceEndpoint, TargetPort, Transport};
use outrigger_resources::{Kind, Object, ObjectRef};

use super::member::Member;
use super::target::{PortOf, Target};
use crate::world::{Term, World};

/// The endpoints of a destination, by address.
pub(super) fn endpoints(world: &World, target: &Target<'_>, name: &str) -> Endpoints {
    let trust_domain = world.trust_domain();
    let mut endpoints: Vec<Endpoint> = match target {
        Target::Service(port) => of_service(world, *port).into_values().collect(),
        Target::External(port) => {
            let addresses = port.external.spec.endpoints.iter();
            addresses
                .map(|address| unknown(SocketAddr::new(*address, port.port.port), Health::Healthy))
                .collect()
        }
        Target::Outside(outside) => vec![unknown(outside.address, Health::Healthy)],
        Target::Workload(at) => {
            let health = at.member.health(true).unwrap_or(Health::Healthy);
            at.member.endpoint(at.address, health, &trust_domain).into_iter().collect()
        }
    };
    // Beyond this a proxy refuses the cluster as a whole.
    endpoints.truncate(MAX_ENDPOINTS);
    Endpoints { cluster: name.into(), endpoints }
}

/// The endpoints of a port of a Service. What its selector picks is known better than what a slice lists, so it counts
/// where both name an address.
fn of_service(world: &World, port: PortOf<'_>) -> BTreeMap<SocketAddr, Endpoint> {
    let trust_domain = world.trust_domain();
    let mut endpoints = BTreeMap::new();
    for member in Member::picked_by(world, port.service) {
        let found = picked(member, port, &trust_domain);
        endpoints.extend(found.map(|endpoint| (endpoint.address, endpoint)));
    }
    for held in world.find(&Term::SliceOf(port.reference())) {
        let Object::EndpointSlice(slice) = &held.object else { continue };
        for listed in &slice.endpoints {
            let Some(address) = listed_address(slice, listed, port.port) else { continue };
            if endpoints.contains_key(&address) {
                continue;
            }
            let found = listed_endpoint(&Listed { world, port, slice, listed }, address, &trust_domain);
            endpoints.extend(found.map(|endpoint| (address, endpoint)));
        }
    }
    endpoints
}

/// Whether a port of a Service has an endpoint.
pub(crate) fn has_any(world: &World, port: PortOf<'_>) -> bool {
    let trust_domain = world.trust_domain();
    Member::picked_by(world, port.service).any(|member| picked(member, port, &trust_domain).is_some())
        || !of_service(world, port).is_empty()
}

fn picked(member: Member<'_>, port: PortOf<'_>, trust_domain: &str) -> Option<Endpoint> {
    let health = member.health(port.service.spec.publish_not_ready_addresses)?;
    let address = SocketAddr::new(member.address()?, member.port_behind(port.port)?);
    member.endpoint(address, health, trust_domain)
}

struct Listed<'w> {
    world: &'w World,
    port: PortOf<'w>,
    slice: &'w EndpointSlice,
    listed: &'w SliceEndpoint,
}

fn listed_address(slice: &EndpointSlice, listed: &SliceEndpoint, port: &ServicePort) -> Option<SocketAddr> {
    let mut ports = slice.ports.iter().filter(|known| known.protocol == Transport::Tcp);
    let known = ports.find(|known| known.name == port.name)?;
    let number = known.port.unwrap_or(match port.target_port {
        TargetPort::Number(number) => number,
        TargetPort::Name(_) => port.port,
    });
    listed.addresses.first().map(|address: &IpAddr| SocketAddr::new(*address, number))
}

fn listed_endpoint(at: &Listed<'_>, address: SocketAddr, trust_domain: &str) -> Option<Endpoint> {
    let health = listed_health(at.listed, at.port.service.spec.publish_not_ready_addresses)?;
    let Some(member) = behind(at, address) else {
        let zone = at.listed.zone.as_deref().unwrap_or_default();
        let locality = Locality { region: Arc::from(""), zone: zone.into() };
        return Some(Endpoint { locality, hint_zones: hints(at.listed), ..unknown(address, health) });
    };
    let mut endpoint = member.endpoint(address, health, trust_domain)?;
    if let Some(zone) = at.listed.zone.as_deref().filter(|_| endpoint.locality.zone.is_empty()) {
        endpoint.locality.zone = zone.into();
    }
    endpoint.hint_zones = hints(at.listed);
    Some(endpoint)
}

/// The zones whose clients should use an endpoint. Beyond the bound a proxy would refuse the cluster as a whole.
fn hints(listed: &SliceEndpoint) -> Vec<Arc<str>> {
    listed.hint_zones.iter().take(MAX_HINT_ZONES).map(|zone| zone.as_str().into()).collect()
}

fn listed_health(listed: &SliceEndpoint, count_not_ready: bool) -> Option<Health> {
    match (listed.ready || count_not_ready, listed.terminating) {
        (true, false) => Some(Health::Healthy),
        (_, true) if listed.serving => Some(Health::Draining),
        (true, true) => Some(Health::Draining),
        (false, _) => None,
    }
}

/// The Pod or Workload behind a listed endpoint: the one it names, else the one at its address.
fn behind<'w>(at: &Listed<'w>, address: SocketAddr) -> Option<Member<'w>> {
    let named = at.listed.target_ref.as_ref().filter(|target| target.kind == Kind::Pod.name());
    let pod = named.and_then(|target| {
        let namespace = target.namespace.as_ref().unwrap_or(&at.slice.meta.namespace).clone();
        let pod = ObjectRef { kind: Kind::Pod, namespace, name: target.name.clone() };
        at.world.get(&pod).and_then(|held| Member::of(held))
    });
    pod.or_else(|| Member::at(at.world, address))
}

fn unknown(address: SocketAddr, health: Health) -> Endpoint {
    Endpoint {
        address,
        weight: 1,
        health,
        locality: Locality::default(),
        hint_zones: Vec::new(),
        workload: WorkloadRef::default(),
        identity: None,
    }
}
