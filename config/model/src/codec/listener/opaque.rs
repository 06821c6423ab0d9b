//! The opaque side of a listener: filter chains with one TCP proxy each.

use std::collections::BTreeSet;
use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener as Wire, ListenerFilter, filter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};

use super::super::fault::{Decoded, Fault, at_most, refuse, shorten};
use super::super::{MAX_BACKENDS, wire};
use crate::listener::{NamedRoute, OpaqueBackend, OpaqueRoute, OpaqueRoutes};
use crate::name::{Host, INVALID_CLUSTER};

const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
const TLS_INSPECTOR: &str = "envoy.filters.listener.tls_inspector";
/// How a filter chain says that it is for TLS, whatever name is asked for.
const TLS: &str = "tls";

/// What others need so that they look for names; ours look without being told.
pub(super) fn encode_inspector(by_name: &[NamedRoute]) -> Vec<ListenerFilter> {
    let inspector = || ListenerFilter {
        name: TLS_INSPECTOR.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(wire::pack(&TlsInspector::default()))),
        ..ListenerFilter::default()
    };
    if by_name.is_empty() { Vec::new() } else { vec![inspector()] }
}

pub(super) fn encode_named(name: &str, named: &NamedRoute) -> FilterChain {
    let condition = FilterChainMatch {
        server_names: named.hosts.iter().map(|host| host.as_ref().into()).collect(),
        transport_protocol: TLS.to_owned(),
        ..FilterChainMatch::default()
    };
    FilterChain { filter_chain_match: Some(condition), ..encode(name, &named.route) }
}

/// The opaque side, `None` when there is none.
pub(super) fn decode(listener: &Wire) -> Decoded<Option<OpaqueRoutes>> {
    for (at, filter) in listener.listener_filters.iter().enumerate() {
        check_inspector(filter).map_err(|fault| fault.within(format!("listener_filters[{at}]")))?;
    }
    let chains = listener.filter_chains.iter().enumerate();
    let by_name = chains
        .map(|(at, chain)| decode_named(chain).map_err(|fault| fault.within(format!("filter_chains[{at}]"))));
    let by_name = by_name.collect::<Decoded<Vec<_>>>()?;
    check_names(&by_name)?;
    let chain = listener.default_filter_chain.as_ref();
    let otherwise = chain.map(|chain| decode_otherwise(chain).map_err(|f| f.within("default_filter_chain")));
    match otherwise.transpose()? {
        Some(otherwise) => Ok(Some(OpaqueRoutes { by_name, otherwise })),
        None if by_name.is_empty() => Ok(None),
        None => Err(Fault::new("default_filter_chain", "is missing beside filter_chains")),
    }
}

/// Looking for names is what we do anyway; anything else would change bytes or addresses.
fn check_inspector(filter: &ListenerFilter) -> Decoded<()> {
    let Some(listener_filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        return Err(Fault::new("typed_config", "is missing"));
    };
    wire::unpack::<TlsInspector>(any).map(drop).map_err(|fault| fault.within("typed_config"))
}

fn decode_named(chain: &FilterChain) -> Decoded<NamedRoute> {
    let missing = || Fault::new("filter_chain_match", "is missing; only the default chain is without one");
    let condition = chain.filter_chain_match.as_ref().ok_or_else(missing)?;
    let within = |fault: Fault| fault.within("filter_chain_match");
    check_match(condition).map_err(within)?;
    let hosts = condition.server_names.iter().map(|name| server_name(name).map_err(within));
    Ok(NamedRoute { hosts: hosts.collect::<Decoded<_>>()?, route: decode_chain(chain)? })
}

fn check_match(condition: &FilterChainMatch) -> Decoded<()> {
    let source_type = condition.source_type != 0;
    refuse(&[
        ("destination_port", condition.destination_port.is_some()),
        ("prefix_ranges", !condition.prefix_ranges.is_empty()),
        ("direct_source_prefix_ranges", !condition.direct_source_prefix_ranges.is_empty()),
        ("source_type", source_type),
        ("source_prefix_ranges", !condition.source_prefix_ranges.is_empty()),
        ("source_ports", !condition.source_ports.is_empty()),
        ("application_protocols", !condition.application_protocols.is_empty()),
    ])?;
    match (condition.transport_protocol.as_str(), condition.server_names.is_empty()) {
        (TLS, _) | ("", false) => Ok(()),
        ("", true) => Err(Fault::new("server_names", "is empty, and so is transport_protocol")),
        (other, _) => Err(Fault::new(
            "transport_protocol",
            format!("is {:?}, where \"tls\" is understood", shorten(other)),
        )),
    }
}

fn server_name(text: &str) -> Decoded<Arc<str>> {
    let host = text.strip_prefix("*.").unwrap_or(text);
    match Host::parse(host) {
        Ok(Host::Name(parsed)) if *parsed == *host => Ok(text.into()),
        _ => {
            let found = shorten(text);
            Err(Fault::new("server_names", format!("has {found:?}, which is no host name in lower case")))
        }
    }
}

/// A name in two chains would leave it to chance which one counts.
fn check_names(by_name: &[NamedRoute]) -> Decoded<()> {
    let mut seen = BTreeSet::new();
    for (at, named) in by_name.iter().enumerate() {
        let any = named.hosts.is_empty().then_some("any name");
        for host in named.hosts.iter().map(AsRef::as_ref).chain(any) {
            if !seen.insert(host) {
                return Err(Fault::new(
                    format!("filter_chains[{at}]"),
                    format!("is for {host:?}, as another one is"),
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn encode(name: &str, route: &OpaqueRoute) -> FilterChain {
    let proxy = TcpProxy {
        stat_prefix: name.to_owned(),
        cluster_specifier: Some(encode_backends(route)),
        ..TcpProxy::default()
    };
    let filter = Filter {
        name: TCP_PROXY.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(wire::pack(&proxy))),
    };
    FilterChain { name: route.object.as_ref().into(), filters: vec![filter], ..FilterChain::default() }
}

/// Shares of weight 0 are left out, because the standard has none; without a share that is left, a cluster that does
/// not exist stands for "refused".
fn encode_backends(route: &OpaqueRoute) -> ClusterSpecifier {
    let usable: Vec<_> = route.backends.iter().filter(|backend| backend.weight > 0).collect();
    match usable.as_slice() {
        [] => ClusterSpecifier::Cluster(nowhere(&route.object)),
        [only] if only.weight == 1 => ClusterSpecifier::Cluster(only.cluster.as_ref().into()),
        several => {
            let weights: Vec<_> = several.iter().map(|backend| u64::from(backend.weight)).collect();
            let shares = several.iter().zip(wire::fit(&weights));
            let clusters = shares.map(|(backend, weight)| ClusterWeight {
                name: backend.cluster.as_ref().into(),
                weight,
                ..ClusterWeight::default()
            });
            ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: clusters.collect() })
        }
    }
}

fn nowhere(object: &str) -> String {
    format!("{INVALID_CLUSTER}{object}")
}

fn decode_otherwise(chain: &FilterChain) -> Decoded<OpaqueRoute> {
    refuse(&[("filter_chain_match", chain.filter_chain_match.is_some())])?;
    decode_chain(chain)
}

fn decode_chain(chain: &FilterChain) -> Decoded<OpaqueRoute> {
    refuse(&[("transport_socket", chain.transport_socket.is_some())])?;
    let [filter] = chain.filters.as_slice() else {
        let found = chain.filters.len();
        return Err(Fault::new("filters", format!("has {found} entries, exactly one is understood")));
    };
    let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        return Err(Fault::new("filters[0].typed_config", "is missing"));
    };
    let within = |fault: Fault| fault.within("filters[0].typed_config");
    let proxy: TcpProxy = wire::unpack(any).map_err(within)?;
    let backends = decode_backends(&chain.name, &proxy).map_err(within)?;
    Ok(OpaqueRoute { object: chain.name.as_str().into(), backends })
}

fn decode_backends(object: &str, proxy: &TcpProxy) -> Decoded<Vec<OpaqueBackend>> {
    refuse(&[
        ("metadata_match", proxy.metadata_match.is_some()),
        ("on_demand", proxy.on_demand.is_some()),
        ("tunneling_config", proxy.tunneling_config.is_some()),
        (
            "max_downstream_connection_duration",
            wire::limits(proxy.max_downstream_connection_duration.as_ref()),
        ),
        ("proxy_protocol_tlvs", !proxy.proxy_protocol_tlvs.is_empty()),
    ])?;
    match &proxy.cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) if *cluster == nowhere(object) => Ok(Vec::new()),
        Some(ClusterSpecifier::Cluster(cluster)) => {
            wire::not_empty("cluster", cluster)?;
            Ok(vec![OpaqueBackend { cluster: cluster.as_str().into(), weight: 1 }])
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => decode_weighted(&weighted.clusters),
        None => Err(Fault::new("cluster", "is missing")),
    }
}

fn decode_weighted(clusters: &[ClusterWeight]) -> Decoded<Vec<OpaqueBackend>> {
    at_most("weighted_clusters.clusters", clusters.len(), MAX_BACKENDS)?;
    let read = |(at, share): (usize, &ClusterWeight)| {
        let within = |fault: Fault| fault.within(format!("weighted_clusters.clusters[{at}]"));
        wire::not_empty("name", &share.name).map_err(within)?;
        refuse(&[("metadata_match", share.metadata_match.is_some())]).map_err(within)?;
        match share.weight {
            0 => Err(within(Fault::new("weight", "is 0"))),
            weight => Ok(OpaqueBackend { cluster: share.name.as_str().into(), weight }),
        }
    };
    clusters.iter().enumerate().map(read).collect()
}
