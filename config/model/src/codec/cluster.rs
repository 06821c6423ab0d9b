//! Clusters: the standard fields say as much as they can, our extension the rest. A cluster without the extension
//! comes from a control plane that is not ours and is read from the standard fields, with our defaults.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster as Wire};
use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};

use super::fault::{Decoded, Fault, refuse};
use super::wire::{self, ours};
use super::{Any, MAX_DNS_NAMES, endpoints, outlier};
use crate::cluster::{Cluster, Discovery, DnsName, ServiceRef};
use crate::name::Host;
use crate::policy::{ConnectionPolicy, Limits, RetryBudget};
use crate::upstream_tls::UpstreamTls;

mod balancing;
mod health;
mod protocol;
mod tls;

/// The kind of the service of a cluster whose control plane does not say.
const UNKNOWN_KIND: &str = "Address";

/// What is counted before anything is read into memory.
const BOUNDS: [(&str, &[u32], usize); 2] = [
    ("load_assignment.endpoints", &[33, 2], MAX_DNS_NAMES),
    ("load_assignment.endpoints.lb_endpoints", &[33, 2, 2], MAX_DNS_NAMES),
];

pub(super) fn encode(cluster: &Cluster) -> Wire {
    let (kind, eds, names) = match &cluster.discovery {
        Discovery::Eds => (DiscoveryType::Eds, Some(encode_eds(&cluster.name)), None),
        Discovery::Dns(names) => (DiscoveryType::StrictDns, None, Some(encode_dns(&cluster.name, names))),
    };
    let (key, options) = protocol::encode(cluster.protocol, &cluster.connection);
    let mut wire = Wire {
        name: cluster.name.as_ref().into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        eds_cluster_config: eds,
        load_assignment: names,
        connect_timeout: Some(wire::duration(cluster.connection.connect_timeout)),
        circuit_breakers: Some(encode_limits(&cluster.limits)),
        outlier_detection: cluster.outlier.as_ref().map(outlier::encode),
        typed_extension_protocol_options: HashMap::from([(key, options)]),
        health_checks: cluster
            .health_check
            .iter()
            .map(|check| health::encode(check, cluster.protocol))
            .collect(),
        transport_socket: cluster.tls.as_deref().map(tls::encode),
        metadata: Some(wire::metadata(&encode_extension(cluster))),
        ..Wire::default()
    };
    balancing::encode_standard(cluster, &mut wire);
    wire
}

pub(super) fn decode(any: &Any, name: &mut String) -> Decoded<Cluster> {
    wire::check_counts(any, &BOUNDS)?;
    let wire: Wire = wire::unpack(any)?;
    name.clone_from(&wire.name);
    wire::not_empty("name", &wire.name)?;
    refuse_unsupported(&wire)?;
    let extension: Option<ours::ClusterExtension> = wire::extension(wire.metadata.as_ref())?;
    let extension = extension.as_ref();
    let limits = default_thresholds(&wire)?;
    let exact = extension.and_then(|extension| extension.outlier_detection.as_ref());
    let outlier = wire.outlier_detection.as_ref().map(|outlier| outlier::decode(outlier, exact));
    Ok(Cluster {
        name: wire.name.as_str().into(),
        service: decode_service(&wire.name, extension),
        discovery: decode_discovery(&wire)?,
        protocol: protocol::decode(&wire)?,
        load_balancer: balancing::decode(&wire, extension)?,
        slow_start: balancing::decode_slow_start(&wire, extension)?,
        locality: balancing::decode_locality(extension)?,
        connection: decode_connection(&wire, extension)?,
        limits: decode_limits(limits)?,
        outlier: outlier.transpose().map_err(|fault| fault.within("outlier_detection"))?,
        retry_budget: decode_budget(limits, extension)?,
        health_check: health::decode(&wire.health_checks)?,
        tls: decode_tls(&wire, extension)?,
    })
}

/// Fields that would change where traffic goes, how it is protected, or how much of it there may be.
#[expect(deprecated, reason = "control planes still send the old spelling")]
fn refuse_unsupported(wire: &Wire) -> Decoded<()> {
    let common = wire.common_lb_config.as_ref();
    let by_locality = common.is_some_and(|common| common.locality_config_specifier.is_some());
    let per_host = wire.circuit_breakers.as_ref().is_some_and(|it| !it.per_host_thresholds.is_empty());
    refuse(&[
        ("transport_socket_matches", !wire.transport_socket_matches.is_empty()),
        ("transport_socket_matcher", wire.transport_socket_matcher.is_some()),
        ("lb_subset_config", wire.lb_subset_config.is_some()),
        ("common_lb_config.locality_config_specifier", by_locality),
        ("circuit_breakers.per_host_thresholds", per_host),
        ("upstream_bind_config", wire.upstream_bind_config.is_some()),
        ("upstream_config", wire.upstream_config.is_some()),
        ("filters", !wire.filters.is_empty()),
        ("queuing_policies", wire.queuing_policies.is_some()),
        ("max_requests_per_connection", wire.max_requests_per_connection.is_some()),
        ("connection_pool_per_downstream_connection", wire.connection_pool_per_downstream_connection),
    ])
}

fn encode_extension(cluster: &Cluster) -> ours::ClusterExtension {
    let service = ours::Service {
        kind: cluster.service.kind.as_ref().into(),
        namespace: cluster.service.namespace.as_ref().into(),
        name: cluster.service.name.as_ref().into(),
    };
    let budget = ours::RetryBudget {
        percent: cluster.retry_budget.percent,
        min_retries_per_second: cluster.retry_budget.min_retries_per_second,
        interval: Some(wire::duration(cluster.retry_budget.interval)),
    };
    ours::ClusterExtension {
        service: Some(service),
        load_balancer: Some(balancing::encode(&cluster.load_balancer)),
        slow_start: cluster.slow_start.as_ref().map(balancing::encode_exact_slow_start),
        locality: balancing::encode_locality(cluster.locality).into(),
        outlier_detection: cluster.outlier.as_ref().map(outlier::encode_exact),
        retry_budget: Some(budget),
        tcp_user_timeout: Some(wire::duration(cluster.connection.tcp_user_timeout)),
        untrusted_server: cluster.tls.as_deref().and_then(tls::encode_untrusted),
    }
}

fn decode_tls(wire: &Wire, extension: Option<&ours::ClusterExtension>) -> Decoded<Option<Arc<UpstreamTls>>> {
    let untrusted = extension.and_then(|extension| extension.untrusted_server.as_ref());
    let tls = tls::decode(wire.transport_socket.as_ref(), untrusted);
    Ok(tls.map_err(|fault| fault.within("transport_socket"))?.map(Arc::new))
}

fn decode_service(name: &str, extension: Option<&ours::ClusterExtension>) -> ServiceRef {
    match extension.and_then(|extension| extension.service.as_ref()) {
        Some(service) => ServiceRef {
            kind: service.kind.as_str().into(),
            namespace: service.namespace.as_str().into(),
            name: service.name.as_str().into(),
        },
        None => ServiceRef { kind: UNKNOWN_KIND.into(), namespace: "".into(), name: name.into() },
    }
}

fn encode_eds(name: &str) -> EdsClusterConfig {
    EdsClusterConfig { eds_config: Some(wire::ads()), service_name: name.to_owned() }
}

fn encode_dns(name: &str, names: &[DnsName]) -> ClusterLoadAssignment {
    let endpoint = |name: &DnsName| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(endpoints::encode_address(&name.host, name.port)),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    let locality = LocalityLbEndpoints {
        lb_endpoints: names.iter().map(endpoint).collect(),
        ..LocalityLbEndpoints::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![locality],
        ..ClusterLoadAssignment::default()
    }
}

fn decode_discovery(wire: &Wire) -> Decoded<Discovery> {
    let kind = match wire.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).ok(),
        Some(ClusterDiscoveryType::ClusterType(_)) => {
            return Err(Fault::new("cluster_type", "is not supported"));
        }
        None => None,
    };
    match kind {
        Some(DiscoveryType::Eds) => decode_eds(wire).map_err(|fault| fault.within("eds_cluster_config")),
        Some(DiscoveryType::StrictDns | DiscoveryType::LogicalDns) => {
            let names = wire.load_assignment.as_ref();
            let names = names.ok_or_else(|| Fault::new("load_assignment", "is missing"))?;
            decode_dns(names).map(Discovery::Dns).map_err(|fault| fault.within("load_assignment"))
        }
        _ => Err(Fault::new("type", "is none of EDS, STRICT_DNS and LOGICAL_DNS")),
    }
}

fn decode_eds(wire: &Wire) -> Decoded<Discovery> {
    let eds = wire.eds_cluster_config.as_ref().ok_or_else(|| Fault::whole("is missing"))?;
    wire::check_ads("eds_config", eds.eds_config.as_ref())?;
    match eds.service_name.is_empty() || eds.service_name == wire.name {
        true => Ok(Discovery::Eds),
        false => Err(Fault::new("service_name", "is not the cluster's own name")),
    }
}

fn decode_dns(assignment: &ClusterLoadAssignment) -> Decoded<Vec<DnsName>> {
    let endpoints = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    let spill = assignment.endpoints.iter().any(|locality| locality.priority != 0);
    refuse(&[("endpoints.priority", spill)])?;
    let names = endpoints.enumerate().map(|(at, endpoint)| {
        decode_name(endpoint).map_err(|fault| fault.within(format!("endpoints.lb_endpoints[{at}]")))
    });
    names.collect()
}

fn decode_name(endpoint: &LbEndpoint) -> Decoded<DnsName> {
    refuse(&[("load_balancing_weight", endpoint.load_balancing_weight.is_some_and(|it| it.value != 1))])?;
    let (host, port) = endpoints::decode_address(endpoint)?;
    let host =
        Host::parse(host).map_err(|error| Fault::new("endpoint.address.socket_address.address", error))?;
    Ok(DnsName { host: host.to_string().into(), port })
}

fn encode_limits(limits: &Limits) -> CircuitBreakers {
    let thresholds = Thresholds {
        max_connections: wire::number(limits.max_connections),
        max_pending_requests: wire::number(limits.max_pending_requests),
        max_requests: wire::number(limits.max_requests),
        max_retries: wire::number(limits.max_retries),
        ..Thresholds::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], per_host_thresholds: Vec::new() }
}

/// The thresholds of the priority that all our traffic has.
fn default_thresholds(wire: &Wire) -> Decoded<Option<&Thresholds>> {
    let breakers = wire.circuit_breakers.as_ref();
    let mut thresholds = breakers.into_iter().flat_map(|breakers| &breakers.thresholds);
    let found = thresholds.find(|thresholds| thresholds.priority() == RoutingPriority::Default);
    let pools = found.is_some_and(|thresholds| thresholds.max_connection_pools.is_some());
    refuse(&[("circuit_breakers.thresholds.max_connection_pools", pools)])?;
    Ok(found)
}

fn decode_limits(thresholds: Option<&Thresholds>) -> Decoded<Limits> {
    let standard = Limits::default();
    let Some(found) = thresholds else { return Ok(standard) };
    Ok(Limits {
        max_connections: found.max_connections.map_or(standard.max_connections, |it| it.value),
        max_pending_requests: found.max_pending_requests.map_or(standard.max_pending_requests, |it| it.value),
        max_requests: found.max_requests.map_or(standard.max_requests, |it| it.value),
        max_retries: found.max_retries.map_or(standard.max_retries, |it| it.value),
    })
}

fn decode_budget(
    thresholds: Option<&Thresholds>,
    extension: Option<&ours::ClusterExtension>,
) -> Decoded<RetryBudget> {
    let standard = RetryBudget::default();
    if let Some(budget) = extension.and_then(|extension| extension.retry_budget.as_ref()) {
        let interval = wire::optional_duration("retry_budget.interval", budget.interval.as_ref())?;
        return Ok(RetryBudget {
            percent: wire::percent("retry_budget.percent", budget.percent)?,
            min_retries_per_second: budget.min_retries_per_second,
            interval: interval.unwrap_or(standard.interval),
        });
    }
    let Some(budget) = thresholds.and_then(|thresholds| thresholds.retry_budget.as_ref()) else {
        return Ok(standard);
    };
    let field = "circuit_breakers.thresholds.retry_budget.budget_percent";
    let percent =
        budget.budget_percent.as_ref().map_or(Ok(standard.percent), |it| wire::percent(field, it.value));
    Ok(RetryBudget { percent: percent?, ..standard })
}

fn decode_connection(wire: &Wire, extension: Option<&ours::ClusterExtension>) -> Decoded<ConnectionPolicy> {
    let standard = ConnectionPolicy::default();
    let connect = wire::optional_duration("connect_timeout", wire.connect_timeout.as_ref())?;
    let user = extension.and_then(|extension| extension.tcp_user_timeout.as_ref());
    let user = wire::optional_duration("tcp_user_timeout", user)?;
    let ages = protocol::decode_ages(wire)?;
    Ok(ConnectionPolicy {
        connect_timeout: connect.unwrap_or(standard.connect_timeout),
        idle_timeout: ages.idle_timeout.unwrap_or(standard.idle_timeout),
        max_lifetime: ages.max_lifetime.unwrap_or(standard.max_lifetime),
        tcp_user_timeout: user.unwrap_or(standard.tcp_user_timeout),
    })
}
