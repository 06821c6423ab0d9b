//! Endpoints: one locality after the other, in the order in which each is first met.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthStatus, Locality as WireLocality, SocketAddress,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as WireEndpoint, LbEndpoint, LocalityLbEndpoints,
};

use super::fault::{Decoded, Fault, at_most, refuse, shorten};
use super::wire::{self, ours};
use super::{Any, MAX_ENDPOINTS, MAX_HINT_ZONES};
use crate::endpoint::{Endpoint, Endpoints, Health, Locality, WorkloadRef};

/// What is counted before anything is read into memory.
const BOUNDS: [(&str, &[u32], usize); 2] =
    [("endpoints", &[2], MAX_ENDPOINTS), ("endpoints.lb_endpoints", &[2, 2], MAX_ENDPOINTS)];

pub(super) fn encode(endpoints: &Endpoints) -> ClusterLoadAssignment {
    let groups = by_locality(&endpoints.endpoints);
    let total = |group: &[&Endpoint]| group.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    // A locality without a weight gets no traffic from gRPC clients, and the sum has to fit 32 bits (gRFC A27).
    let weights = wire::fit(&groups.iter().map(|(_, group)| total(group)).collect::<Vec<_>>());
    let localities = groups.iter().zip(weights).map(|((locality, group), weight)| LocalityLbEndpoints {
        locality: Some(WireLocality {
            region: locality.region.as_ref().into(),
            zone: locality.zone.as_ref().into(),
            sub_zone: String::new(),
        }),
        lb_endpoints: group.iter().map(|endpoint| encode_endpoint(endpoint)).collect(),
        load_balancing_weight: wire::number(weight.max(1)),
        ..LocalityLbEndpoints::default()
    });
    ClusterLoadAssignment {
        cluster_name: endpoints.cluster.as_ref().into(),
        endpoints: localities.collect(),
        ..ClusterLoadAssignment::default()
    }
}

pub(super) fn decode(any: &Any, name: &mut String) -> Decoded<Endpoints> {
    wire::check_counts(any, &BOUNDS)?;
    let assignment: ClusterLoadAssignment = wire::unpack(any)?;
    name.clone_from(&assignment.cluster_name);
    wire::not_empty("cluster_name", &assignment.cluster_name)?;
    let drops = assignment.policy.as_ref().is_some_and(|policy| !policy.drop_overloads.is_empty());
    refuse(&[("policy.drop_overloads", drops)])?;
    let mut endpoints = Vec::new();
    for (at, locality) in assignment.endpoints.iter().enumerate() {
        decode_locality(locality, &mut endpoints)
            .map_err(|fault| fault.within(format!("endpoints[{at}]")))?;
    }
    Ok(Endpoints { cluster: assignment.cluster_name.as_str().into(), endpoints })
}

/// Writes an address and a port.
pub(super) fn encode_address(host: &str, port: u16) -> Address {
    let address = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..SocketAddress::default()
    };
    Address { address: Some(AddressKind::SocketAddress(address)) }
}

/// Reads the host and the port of an endpoint.
pub(super) fn decode_address(endpoint: &LbEndpoint) -> Decoded<(&str, u16)> {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
        return Err(Fault::new("endpoint", "is missing"));
    };
    let Some(AddressKind::SocketAddress(address)) =
        endpoint.address.as_ref().and_then(|it| it.address.as_ref())
    else {
        return Err(Fault::new("endpoint.address.socket_address", "is missing"));
    };
    if address.protocol() != Protocol::Tcp {
        return Err(Fault::new("endpoint.address.socket_address.protocol", "is not TCP"));
    }
    let port = match address.port_specifier {
        Some(PortSpecifier::PortValue(port)) => port,
        _ => 0,
    };
    Ok((&address.address, wire::port("endpoint.address.socket_address.port_value", port)?))
}

/// Groups endpoints by locality. gRPC clients refuse a locality or an address that comes twice, so each locality is
/// one group, and of several endpoints with one address the first stands.
fn by_locality(endpoints: &[Endpoint]) -> Vec<(&Locality, Vec<&Endpoint>)> {
    let mut groups: Vec<(&Locality, Vec<&Endpoint>)> = Vec::new();
    let mut seen = HashSet::with_capacity(endpoints.len());
    for endpoint in endpoints.iter().filter(|endpoint| seen.insert(endpoint.address)) {
        match groups.iter_mut().find(|(locality, _)| **locality == endpoint.locality) {
            Some((_, group)) => group.push(endpoint),
            None => groups.push((&endpoint.locality, vec![endpoint])),
        }
    }
    groups
}

fn encode_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let health = match endpoint.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Draining => HealthStatus::Draining,
    };
    let extension = ours::EndpointExtension {
        workload_name: endpoint.workload.name.as_ref().into(),
        workload_namespace: endpoint.workload.namespace.as_ref().into(),
        identity: endpoint.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        hint_zones: endpoint.hint_zones.iter().map(ToString::to_string).collect(),
    };
    let known = extension != ours::EndpointExtension::default();
    let address = encode_address(&endpoint.address.ip().to_string(), endpoint.address.port());
    let wire_endpoint = WireEndpoint { address: Some(address), ..WireEndpoint::default() };
    LbEndpoint {
        health_status: health.into(),
        metadata: known.then(|| wire::metadata(&extension)),
        load_balancing_weight: wire::number(endpoint.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(wire_endpoint)),
    }
}

fn decode_locality(wire: &LocalityLbEndpoints, endpoints: &mut Vec<Endpoint>) -> Decoded<()> {
    refuse(&[("priority", wire.priority != 0), ("leds_cluster_locality_config", wire.lb_config.is_some())])?;
    let place = wire.locality.as_ref();
    let locality = Locality {
        region: place.map_or("", |place| &place.region).into(),
        zone: place.map_or("", |place| &place.zone).into(),
    };
    for (at, endpoint) in wire.lb_endpoints.iter().enumerate() {
        let endpoint = decode_endpoint(endpoint, &locality)
            .map_err(|fault| fault.within(format!("lb_endpoints[{at}]")))?;
        endpoints.extend(endpoint);
    }
    Ok(())
}

/// Reads an endpoint; `None` is one that must not be used.
fn decode_endpoint(wire: &LbEndpoint, locality: &Locality) -> Decoded<Option<Endpoint>> {
    let (host, port) = decode_address(wire)?;
    let ip: IpAddr = host.parse().map_err(|_| {
        let host = shorten(host);
        Fault::new("endpoint.address.socket_address.address", format!("{host:?} is not an IP address"))
    })?;
    let address = SocketAddr::new(ip, port);
    let health = match wire.health_status() {
        HealthStatus::Unknown | HealthStatus::Healthy => Health::Healthy,
        // Degraded is used when nothing else is left, which is what draining means to us.
        HealthStatus::Draining | HealthStatus::Degraded => Health::Draining,
        HealthStatus::Unhealthy | HealthStatus::Timeout => return Ok(None),
    };
    let weight = wire.load_balancing_weight.map_or(1, |weight| weight.value);
    if weight == 0 {
        return Err(Fault::new("load_balancing_weight", format!("of {address} is 0")));
    }
    let extension: ours::EndpointExtension = wire::extension(wire.metadata.as_ref())?.unwrap_or_default();
    let identity = match extension.identity.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| Fault::new("identity", format!("of {address}: {error}")))?),
    };
    at_most("hint_zones", extension.hint_zones.len(), MAX_HINT_ZONES)?;
    let hint_zones = extension.hint_zones.into_iter().map(Into::into).collect();
    let workload =
        WorkloadRef { namespace: extension.workload_namespace.into(), name: extension.workload_name.into() };
    Ok(Some(Endpoint { address, weight, health, locality: locality.clone(), hint_zones, workload, identity }))
}
