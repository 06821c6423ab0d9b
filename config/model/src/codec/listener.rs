//! Listeners: the HTTP side is an `api_listener`, the opaque side a default filter chain with one TCP proxy, and a filter
//! chain for each way that a name in TLS decides.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Listener as Wire};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use prost::Name;

use super::fault::{Decoded, Fault, refuse, shorten};
use super::{Any, MAX_SERVER_NAMES, inbound, wire};
use crate::listener::{Handling, Listener};
use crate::name::INBOUND;
use crate::resource::Resource;

mod opaque;

const ROUTER: &str = "envoy.filters.http.router";

/// What is counted before anything is read into memory.
const BOUNDS: [(&str, &[u32], usize); 2] = [
    ("filter_chains", &[3], MAX_SERVER_NAMES),
    ("filter_chains.filter_chain_match.server_names", &[3, 1, 11], MAX_SERVER_NAMES),
];

pub(super) fn encode(listener: &Listener) -> Wire {
    let http = listener.route_config().map(|routes| encode_http(&listener.name, routes));
    let by_name = listener.opaque().map(|opaque| opaque.by_name.as_slice()).unwrap_or_default();
    Wire {
        name: listener.name.as_ref().into(),
        traffic_direction: TrafficDirection::Outbound.into(),
        api_listener: http.map(|http| ApiListener { api_listener: Some(wire::pack(&http)) }),
        listener_filters: opaque::encode_inspector(by_name),
        filter_chains: by_name.iter().map(|named| opaque::encode_named(&listener.name, named)).collect(),
        default_filter_chain: listener
            .opaque()
            .map(|opaque| opaque::encode(&listener.name, &opaque.otherwise)),
        ..Wire::default()
    }
}

pub(super) fn decode(any: &Any, name: &mut String) -> Decoded<Resource> {
    wire::check_counts(any, &BOUNDS)?;
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
        ("filter_chain_matcher", listener.filter_chain_matcher.is_some()),
        ("fcds_config", listener.fcds_config.is_some()),
        ("udp_listener_config", listener.udp_listener_config.is_some()),
    ])?;
    let api = listener.api_listener.as_ref();
    let route_config = api.map(|api| decode_http(api).map_err(|fault| fault.within("api_listener")));
    let opaque = opaque::decode(listener)?;
    let handling = match (route_config.transpose()?, opaque) {
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
