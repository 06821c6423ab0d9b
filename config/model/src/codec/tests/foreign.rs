//! What control planes that are not ours send, in their own shapes.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, HealthStatus, Locality};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Listener};
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action as WireAction;
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, MaxStreamDuration};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster,
};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use http::{HeaderMap, Method};
use prost::{Message, Name};

use crate::cluster::{Discovery, UpstreamProtocol};
use crate::codec::endpoints::encode_address;
use crate::codec::{decode, wire};
use crate::endpoint::Health;
use crate::listener::Handling;
use crate::policy::{ConnectionPolicy, Limits, LoadBalancer, RetryBudget};
use crate::resource::Resource;
use crate::route::{Action, RequestHead, RouteConfig, select};

fn read<T: Message + Name>(message: &T) -> Resource {
    decode(&wire::pack(message)).unwrap_or_else(|error| panic!("{error}"))
}

fn filter<T: Message + Name>(name: &str, config: &T) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(wire::pack(config))),
        ..HttpFilter::default()
    }
}

#[test]
fn an_api_listener_for_grpc_clients() {
    let rds = Rds { config_source: Some(wire::ads()), route_config_name: "reviews.shop:9080".into() };
    let http = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: vec![
            filter("envoy.filters.http.fault", &HttpFault::default()),
            HttpFilter { is_optional: true, ..filter("td.filter", &WireDuration::default()) },
            filter("envoy.filters.http.router", &Router::default()),
        ],
        ..HttpConnectionManager::default()
    };
    let listener = Listener {
        name: "reviews.shop:9080".into(),
        api_listener: Some(ApiListener { api_listener: Some(wire::pack(&http)) }),
        ..Listener::default()
    };
    let Resource::Listener(listener) = read(&listener) else { panic!("no listener") };
    assert_eq!(listener.handling, Handling::Http { route_config: "reviews.shop:9080".into() });
}

fn route(path: PathSpecifier, headers: Vec<HeaderMatcher>, action: RouteAction) -> Route {
    Route {
        r#match: Some(RouteMatch { path_specifier: Some(path), headers, ..RouteMatch::default() }),
        action: Some(WireAction::Route(action)),
        ..Route::default()
    }
}

fn to(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..RouteAction::default()
    }
}

/// The sort of configuration that istiod makes of a VirtualService.
fn istio_routes() -> RouteConfiguration {
    let prefix_header = HeaderMatcher {
        name: "end-user".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Prefix("Jas".into())),
            ignore_case: true,
        })),
        ..HeaderMatcher::default()
    };
    let share = |name: &str, weight| ClusterWeight {
        name: name.into(),
        weight: wire::number(weight),
        request_headers_to_add: vec![HeaderValueOption {
            header: Some(HeaderValue { key: "x-side".into(), value: "100%%".into(), raw_value: Vec::new() }),
            ..HeaderValueOption::default()
        }],
        ..ClusterWeight::default()
    };
    let zero = Some(WireDuration::default());
    let split = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: vec![share("v1", 90), share("v2", 10)],
            ..WeightedCluster::default()
        })),
        timeout: zero,
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: zero,
            grpc_timeout_header_max: zero,
            grpc_timeout_header_offset: None,
        }),
        retry_policy: Some(RetryPolicy {
            retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes".into(),
            num_retries: wire::number(2),
            retriable_status_codes: vec![503],
            ..RetryPolicy::default()
        }),
        ..RouteAction::default()
    };
    let host = VirtualHost {
        name: "reviews.shop.svc.cluster.local:9080".into(),
        domains: vec!["reviews.shop.svc.cluster.local".into(), "reviews".into()],
        routes: vec![
            route(PathSpecifier::PathSeparatedPrefix("/api".into()), vec![prefix_header], to("jason")),
            route(PathSpecifier::Prefix("/static".into()), Vec::new(), to("static")),
            route(PathSpecifier::Prefix("/".into()), Vec::new(), split),
        ],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    };
    let other = VirtualHost { name: "allow_any".into(), domains: vec!["*".into()], ..VirtualHost::default() };
    RouteConfiguration {
        name: "reviews.shop.svc.cluster.local:9080".into(),
        virtual_hosts: vec![other, host],
        ..RouteConfiguration::default()
    }
}

fn cluster_of(routes: &RouteConfig, path: &str, user: Option<&'static str>) -> String {
    let headers: HeaderMap =
        user.into_iter().map(|user| ("end-user".parse().unwrap(), user.parse().unwrap())).collect();
    let head = RequestHead { method: &Method::GET, path, query: None, headers: &headers };
    let at = select(routes.routes.iter().map(|route| &route.matches), &head).expect("a route");
    let Action::Forward(forward) = &routes.routes[at].action else { panic!("no forward") };
    format!("{:?}", forward.backends[0].target)
}

#[test]
fn routes_as_istio_makes_them() {
    let Resource::Route(routes) = read(&istio_routes()) else { panic!("no routes") };
    assert_eq!(routes.routes.len(), 3);
    for (path, user, expected) in [
        ("/api", Some("jason"), "jason"),
        ("/api/x", Some("JASON"), "jason"),
        ("/apix", Some("jason"), "v1"),
        ("/api", Some("bob"), "v1"),
        ("/static", None, "static"),
        ("/staticfile", None, "static"),
        ("/", None, "v1"),
    ] {
        assert_eq!(cluster_of(&routes, path, user), format!("Cluster({expected:?})"), "{path} {user:?}");
    }
    let Action::Forward(split) = &routes.routes[2].action else { panic!("no forward") };
    assert_eq!(split.timeout, None);
    let retry = split.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.statuses.len(), retry.on_reset), (2, 1, false));
    assert_eq!(split.backends[1].request_headers.add[0].1, "100%");
    let Action::Forward(jason) = &routes.routes[0].action else { panic!("no forward") };
    assert_eq!(jason.timeout, Some(Duration::from_secs(15)), "the standard's own timeout");
}

#[test]
fn a_cluster_without_our_extension_has_our_defaults() {
    let eds = EdsClusterConfig { eds_config: Some(wire::ads()), service_name: String::new() };
    let bare = Cluster {
        name: "outbound|9080||reviews".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(eds),
        ..Cluster::default()
    };
    let Resource::Cluster(cluster) = read(&bare) else { panic!("no cluster") };
    assert_eq!(cluster.discovery, Discovery::Eds);
    assert_eq!(cluster.load_balancer, LoadBalancer::RoundRobin);
    assert_eq!(cluster.protocol, UpstreamProtocol::Http1);
    assert_eq!(cluster.connection, ConnectionPolicy::default());
    assert_eq!((cluster.limits, cluster.retry_budget), (Limits::default(), RetryBudget::default()));
    assert_eq!(cluster.outlier, None);

    let full = Cluster {
        connect_timeout: Some(WireDuration { seconds: 10, nanos: 0 }),
        lb_policy: 1,
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_requests: wire::number(7),
                track_remaining: true,
                ..Thresholds::default()
            }],
            per_host_thresholds: Vec::new(),
        }),
        outlier_detection: Some(OutlierDetection {
            consecutive_gateway_failure: wire::number(3),
            enforcing_consecutive_gateway_failure: wire::number(100),
            enforcing_consecutive_5xx: wire::number(0),
            enforcing_success_rate: wire::number(0),
            ..OutlierDetection::default()
        }),
        ..bare
    };
    let Resource::Cluster(cluster) = read(&full) else { panic!("no cluster") };
    assert_eq!(cluster.load_balancer, LoadBalancer::LeastRequest);
    assert_eq!(cluster.connection.connect_timeout, Duration::from_secs(10));
    assert_eq!((cluster.limits.max_requests, cluster.limits.max_connections), (7, 1024));
    let outlier = cluster.outlier.unwrap();
    assert_eq!((outlier.consecutive_errors, outlier.success_rate_percent), (3, 0.0));
}

#[test]
fn endpoints_without_our_extension_are_plain_and_sick_ones_are_left_out() {
    let endpoint = |port, health: HealthStatus| LbEndpoint {
        health_status: health.into(),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(encode_address("10.0.0.1", port)),
            hostname: "ignored".into(),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    let locality = LocalityLbEndpoints {
        locality: Some(Locality { region: "eu".into(), zone: "a".into(), sub_zone: "rack".into() }),
        lb_endpoints: vec![
            endpoint(1, HealthStatus::Unknown),
            endpoint(2, HealthStatus::Unhealthy),
            endpoint(3, HealthStatus::Timeout),
            endpoint(4, HealthStatus::Degraded),
        ],
        ..LocalityLbEndpoints::default()
    };
    let assignment = ClusterLoadAssignment {
        cluster_name: "c".into(),
        endpoints: vec![locality],
        named_endpoints: HashMap::new(),
        policy: None,
    };
    let Resource::Endpoints(endpoints) = read(&assignment) else { panic!("no endpoints") };
    let seen: Vec<_> =
        endpoints.endpoints.iter().map(|it| (it.address.port(), it.health, it.weight)).collect();
    assert_eq!(seen, [(1, Health::Healthy, 1), (4, Health::Draining, 1)]);
    assert!(endpoints.endpoints.iter().all(|it| it.identity.is_none() && &*it.locality.zone == "a"));
}
