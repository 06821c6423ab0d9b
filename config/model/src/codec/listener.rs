//! Listeners: the HTTP side is an `api_listener`, the opaque side a default filter chain with one TCP proxy.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Filter, FilterChain, Listener as Wire, filter};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use prost::Name;

use super::fault::{Decoded, Fault, at_most, refuse, shorten};
use super::{Any, MAX_BACKENDS, inbound, wire};
use crate::listener::{Handling, Listener, OpaqueBackend, OpaqueRoute};
use crate::name::{INBOUND, INVALID_CLUSTER};
use crate::resource::Resource;

const ROUTER: &str = "envoy.filters.http.router";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

pub(super) fn encode(listener: &Listener) -> Wire {
    let http = listener.route_config().map(|routes| encode_http(&listener.name, routes));
    Wire {
        name: listener.name.as_ref().into(),
        traffic_direction: TrafficDirection::Outbound.into(),
        api_listener: http.map(|http| ApiListener { api_listener: Some(wire::pack(&http)) }),
        default_filter_chain: listener.opaque().map(|route| encode_opaque(&listener.name, route)),
        ..Wire::default()
    }
}

pub(super) fn decode(any: &Any, name: &mut String) -> Decoded<Resource> {
    let listener: Wire = wire::unpack(any)?;
    name.clone_from(&listener.name);
    wire::not_empty("name", &listener.name)?;
    match listener.name == INBOUND {
        true => inbound::decode(&listener).map(Resource::Inbound),
        false => decode_outbound(&listener).map(Resource::Listener),
    }
}

fn decode_outbound(listener: &Wire) -> Decoded<Listener> {
    refuse(&[
        ("filter_chains", !listener.filter_chains.is_empty()),
        ("filter_chain_matcher", listener.filter_chain_matcher.is_some()),
        ("fcds_config", listener.fcds_config.is_some()),
        ("listener_filters", !listener.listener_filters.is_empty()),
        ("udp_listener_config", listener.udp_listener_config.is_some()),
    ])?;
    let api = listener.api_listener.as_ref();
    let route_config = api.map(|api| decode_http(api).map_err(|fault| fault.within("api_listener")));
    let chain = listener.default_filter_chain.as_ref();
    let opaque =
        chain.map(|chain| decode_opaque(chain).map_err(|fault| fault.within("default_filter_chain")));
    let handling = match (route_config.transpose()?, opaque.transpose()?) {
        (Some(route_config), Some(opaque)) => Handling::Detect { route_config: route_config.into(), opaque },
        (Some(route_config), None) => Handling::Http { route_config: route_config.into() },
        (None, Some(opaque)) => Handling::Opaque(opaque),
        (None, None) => return Err(Fault::new("api_listener", "is missing, and so is default_filter_chain")),
    };
    Ok(Listener { name: listener.name.as_str().into(), handling })
}

fn encode_http(name: &str, route_config: &str) -> HttpConnectionManager {
    let rds = Rds { config_source: Some(wire::ads()), route_config_name: route_config.to_owned() };
    // gRPC clients refuse a listener whose last filter is not the router (gRFC A39).
    let router = HttpFilter {
        name: ROUTER.to_owned(),
        config_type: Some(ConfigType::TypedConfig(wire::pack(&Router::default()))),
        ..HttpFilter::default()
    };
    HttpConnectionManager {
        stat_prefix: name.to_owned(),
        http_filters: vec![router],
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        ..HttpConnectionManager::default()
    }
}

/// Reads the name of the route configuration.
fn decode_http(api: &ApiListener) -> Decoded<String> {
    let any = api.api_listener.as_ref().ok_or_else(|| Fault::new("api_listener", "is missing"))?;
    let http: HttpConnectionManager = wire::unpack(any).map_err(|fault| fault.within("api_listener"))?;
    let common = http.common_http_protocol_options.as_ref();
    refuse(&[
        ("codec_type", http.codec_type() == CodecType::Http3),
        ("common_http_protocol_options.max_stream_duration", {
            common.is_some_and(|common| wire::limits(common.max_stream_duration.as_ref()))
        }),
        ("request_timeout", wire::limits(http.request_timeout.as_ref())),
        ("early_header_mutation_extensions", !http.early_header_mutation_extensions.is_empty()),
        ("local_reply_config", http.local_reply_config.is_some()),
        ("merge_slashes", http.merge_slashes),
        ("normalize_path", http.normalize_path.as_ref().is_some_and(|on| on.value)),
        ("path_normalization_options", http.path_normalization_options.is_some()),
    ])?;
    for (at, filter) in http.http_filters.iter().enumerate() {
        check_filter(filter).map_err(|fault| fault.within(format!("http_filters[{at}]")))?;
    }
    match http.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => {
            wire::check_ads("rds.config_source", rds.config_source.as_ref())?;
            wire::not_empty("rds.route_config_name", &rds.route_config_name)?;
            Ok(rds.route_config_name)
        }
        Some(RouteSpecifier::RouteConfig(_)) => Err(Fault::new("route_config", "is not supported")),
        Some(RouteSpecifier::ScopedRoutes(_)) => Err(Fault::new("scoped_routes", "is not supported")),
        None => Err(Fault::new("rds", "is missing")),
    }
}

/// Lets through the router, what is optional, and a fault filter that injects nothing by itself: control planes for
/// gRPC clients put one there for the sake of routes that configure it.
fn check_filter(filter: &HttpFilter) -> Decoded<()> {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        return refuse(&[("config_discovery", !filter.is_optional && !filter.disabled)]);
    };
    let fault = any.type_url == HttpFault::type_url() && any.value.is_empty();
    let harmless = any.type_url == Router::type_url() || fault || filter.is_optional || filter.disabled;
    match harmless {
        true => Ok(()),
        false => Err(Fault::whole(format!("the filter {:?} is not supported", shorten(&filter.name)))),
    }
}

fn encode_opaque(name: &str, route: &OpaqueRoute) -> FilterChain {
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

fn decode_opaque(chain: &FilterChain) -> Decoded<OpaqueRoute> {
    refuse(&[
        ("filter_chain_match", chain.filter_chain_match.is_some()),
        ("transport_socket", chain.transport_socket.is_some()),
    ])?;
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
