//! What cannot be honoured is refused, and the text names the resource, the field and the reason.

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, HealthCheck, TransportSocket,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::config::listener::v3::{
    ApiListener, FilterChain, FilterChainMatch, Listener, ListenerFilter,
};
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action as WireAction;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    WeightedCluster,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher;
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use prost::{Message, Name};

use crate::codec::endpoints::encode_address;
use crate::codec::wire::{self, ours};
use crate::codec::{
    Any, MAX_BACKENDS, MAX_ENDPOINTS, MAX_MATCHES, MAX_RESOURCE_BYTES, MAX_ROUTES, decode, encode,
};
use crate::inbound::{Inbound, MtlsMode};
use crate::listener::{Handling, OpaqueBackend, OpaqueRoute, OpaqueRoutes};
use crate::resource::{Resource, ResourceType};

/// Checks that reading fails and that the text has every part.
fn refused(any: &Any, parts: &[&str]) {
    let text = match decode(any) {
        Ok(resource) => panic!("{resource:?} was read, where {parts:?} was expected"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

pub(super) fn message<T: Message + Name>(message: &T, parts: &[&str]) {
    refused(&wire::pack(message), parts);
}

#[test]
fn a_resource_as_a_whole() {
    let any = |url: &str, value: Vec<u8>| Any { type_url: url.to_owned(), value };
    refused(&any("type.googleapis.com/x.Y", vec![]), &["resource: the type \"type.googleapis.com/x.Y\""]);
    let large = vec![0; MAX_RESOURCE_BYTES + 1];
    refused(&any(ResourceType::Cluster.url(), large), &["cluster: has 4194305 bytes, at most 4194304"]);
    refused(&any(ResourceType::Route.url(), vec![0xff]), &["route: cannot be read"]);
    for kind in ResourceType::ALL {
        refused(&any(kind.url(), vec![]), &[kind.word(), "name", "is empty"]);
    }
    // A text of any length is repeated in part only.
    let error = decode(&any(&"x".repeat(100_000), vec![])).unwrap_err();
    assert!(error.to_string().len() < 2_000);
}

fn cluster() -> Cluster {
    let eds = EdsClusterConfig { eds_config: Some(wire::ads()), service_name: String::new() };
    Cluster {
        name: "outbound|80|a".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(eds),
        ..Cluster::default()
    }
}

#[test]
fn clusters() {
    let name = "cluster \"outbound|80|a\", ";
    let with = |change: fn(&mut Cluster)| {
        let mut cluster = cluster();
        change(&mut cluster);
        cluster
    };
    assert!(decode(&wire::pack(&cluster())).is_ok());
    for (cluster, why) in [
        (with(|it| it.lb_policy = LbPolicy::Maglev.into()), "lb_policy: MAGLEV is not supported"),
        (with(|it| it.lb_policy = 99), "lb_policy: 99 is not known here"),
        (with(|it| it.cluster_discovery_type = None), "type: is none of EDS"),
        (with(|it| it.cluster_discovery_type = Some(ClusterDiscoveryType::Type(0))), "type: is none of EDS"),
        (with(|it| it.eds_cluster_config = None), "eds_cluster_config: is missing"),
        (with(|it| it.eds_cluster_config = Some(EdsClusterConfig::default())), "eds_config: names a source"),
        (
            with(|it| it.transport_socket = Some(TransportSocket::default())),
            "transport_socket: is not supported",
        ),
        (
            with(|it| it.health_checks = vec![HealthCheck::default()]),
            "health_checks[0].health_checker: is missing",
        ),
        (
            with(|it| it.connect_timeout = Some(WireDuration { seconds: -1, nanos: 0 })),
            "connect_timeout: is not a duration",
        ),
        (
            with(|it| it.connect_timeout = Some(WireDuration { seconds: i64::MAX, nanos: 0 })),
            "connect_timeout: is not a duration",
        ),
        (
            with(|it| {
                let outlier = OutlierDetection {
                    max_ejection_percent: wire::number(101),
                    ..OutlierDetection::default()
                };
                it.outlier_detection = Some(outlier);
            }),
            "outlier_detection.max_ejection_percent: is 101, above 100",
        ),
        (
            with(|it| {
                let budget = ours::RetryBudget { percent: f64::NAN, ..ours::RetryBudget::default() };
                let extension = ours::ClusterExtension {
                    retry_budget: Some(budget),
                    ..ours::ClusterExtension::default()
                };
                it.metadata = Some(wire::metadata(&extension));
            }),
            "retry_budget.percent: is NaN",
        ),
        (
            with(|it| it.metadata = Some(wire::metadata(&ours::EndpointExtension::default()))),
            "metadata.typed_filter_metadata[outrigger.dev]: is a",
        ),
    ] {
        message(&cluster, &[name, why]);
    }
}

fn endpoint(host: &str, identity: &str) -> LbEndpoint {
    let extension =
        ours::EndpointExtension { identity: identity.into(), ..ours::EndpointExtension::default() };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(encode_address(host, 80)),
            ..Endpoint::default()
        })),
        metadata: Some(wire::metadata(&extension)),
        ..LbEndpoint::default()
    }
}

fn assignment(priority: u32, lb_endpoints: Vec<LbEndpoint>) -> ClusterLoadAssignment {
    let locality = LocalityLbEndpoints { priority, lb_endpoints, ..LocalityLbEndpoints::default() };
    ClusterLoadAssignment {
        cluster_name: "c".into(),
        endpoints: vec![locality],
        ..ClusterLoadAssignment::default()
    }
}

#[test]
fn endpoints() {
    let at = "endpoints \"c\", endpoints[0].lb_endpoints[0]";
    let good = "spiffe://cluster.local/ns/shop/sa/web";
    assert!(decode(&wire::pack(&assignment(0, vec![endpoint("10.0.0.1", good)]))).is_ok());
    let one = |endpoint| assignment(0, vec![endpoint]);
    message(&one(endpoint("10.0.0.1", "spiffe://x")), &[at, "identity: of 10.0.0.1:80: not of the form"]);
    message(&one(endpoint("host.example", good)), &[at, "\"host.example\" is not an IP address"]);
    message(&one(LbEndpoint::default()), &[at, "endpoint: is missing"]);
    let none = LbEndpoint { load_balancing_weight: wire::number(0), ..endpoint("10.0.0.1", good) };
    message(&one(none), &[at, "load_balancing_weight: of 10.0.0.1:80 is 0"]);
    message(&assignment(1, vec![]), &["endpoints[0].priority: is not supported"]);
    let many = assignment(0, vec![endpoint("10.0.0.1", good); MAX_ENDPOINTS + 1]);
    message(&many, &["endpoints.lb_endpoints: has 10001 entries, at most 10000"]);
    // Empty parts weigh two bytes each on the wire and hundreds in memory.
    let empty = assignment(0, vec![LbEndpoint::default(); 1_000_000]);
    message(&empty, &["endpoints.lb_endpoints: has 1000000 entries"]);
}

/// A filter chain for some names that sends to one cluster.
fn named(names: &[&str]) -> FilterChain {
    let route = OpaqueRoute {
        object: "TLSRoute/shop/a".into(),
        backends: vec![OpaqueBackend { cluster: "a".into(), weight: 1 }],
    };
    let listener = crate::listener::Listener {
        name: "a:80".into(),
        handling: Handling::Opaque(OpaqueRoutes { by_name: Vec::new(), otherwise: route }),
    };
    let any = encode(&Resource::Listener(listener));
    let chain = Listener::decode(any.value.as_slice()).unwrap().default_filter_chain.unwrap();
    let server_names = names.iter().map(|name| (*name).to_owned()).collect();
    let condition = FilterChainMatch { server_names, ..FilterChainMatch::default() };
    FilterChain { filter_chain_match: Some(condition), ..chain }
}

#[test]
fn listeners() {
    let listener = |change: fn(&mut Listener)| {
        let mut listener = Listener { name: "a:80".into(), ..Listener::default() };
        change(&mut listener);
        listener
    };
    for (listener, why) in [
        (listener(|_| ()), "api_listener: is missing, and so is default_filter_chain"),
        (
            listener(|it| it.filter_chains = vec![FilterChain::default()]),
            "filter_chains[0].filter_chain_match: is missing",
        ),
        (
            listener(|it| it.api_listener = Some(ApiListener::default())),
            "api_listener.api_listener: is missing",
        ),
        (
            listener(|it| {
                it.api_listener = Some(ApiListener { api_listener: Some(wire::pack(&Cluster::default())) });
            }),
            "api_listener.api_listener: is a \"type.googleapis.com/envoy.config.cluster.v3.Cluster\"",
        ),
        (
            listener(|it| it.default_filter_chain = Some(FilterChain::default())),
            "default_filter_chain.filters: has 0 entries, exactly one",
        ),
        (
            listener(|it| it.filter_chains = vec![named(&["*.a"]), named(&["B.a"])]),
            "filter_chains[1].filter_chain_match.server_names: has \"B.a\", which is no host name in lower case",
        ),
        (
            listener(|it| it.filter_chains = vec![named(&["10.0.0.1"])]),
            "filter_chains[0].filter_chain_match.server_names: has \"10.0.0.1\"",
        ),
        (
            listener(|it| it.filter_chains = vec![named(&[])]),
            "filter_chains[0].filter_chain_match.server_names: is empty, and so is transport_protocol",
        ),
        (
            listener(|it| it.filter_chains = vec![named(&["a", "*.a"]), named(&["b", "*.a"])]),
            "filter_chains[1]: is for \"*.a\", as another one is",
        ),
        (
            listener(|it| it.filter_chains = vec![named(&["a"])]),
            "default_filter_chain: is missing beside filter_chains",
        ),
        (
            listener(|it| {
                it.filter_chains = vec![FilterChain::default(); crate::codec::MAX_SERVER_NAMES + 1]
            }),
            "filter_chains: has 1001 entries",
        ),
        (
            listener(|it| it.listener_filters = vec![ListenerFilter::default()]),
            "listener_filters[0].typed_config: is missing",
        ),
    ] {
        message(&listener, &[if why.contains("1001") { "" } else { "listener \"a:80\", " }, why]);
    }
}

#[test]
fn an_inbound_listener_that_says_less_than_it_must() {
    let bare = Listener { name: "inbound".into(), ..Listener::default() };
    message(&bare, &["listener \"inbound\", metadata: says nothing"]);
    let inbound = Inbound::plain(MtlsMode::Strict);
    let good = encode(&Resource::Inbound(inbound));
    let changed = |change: fn(&mut ours::InboundListener)| {
        let listener = Listener::decode(good.value.as_slice()).unwrap();
        let extension: Option<ours::InboundListener> = wire::extension(listener.metadata.as_ref()).unwrap();
        let mut extension = extension.unwrap();
        change(&mut extension);
        Listener { metadata: Some(wire::metadata(&extension)), ..listener }
    };
    for (listener, why) in [
        (changed(|it| it.mtls = 0), "mtls: has the value 0, which is not known here"),
        (changed(|it| it.mtls = 9), "mtls: has the value 9, which is not known here"),
        (changed(|it| it.mesh = None), "mesh: is missing"),
        (changed(|it| it.ports = vec![ours::InboundPort::default()]), "ports[0].protocol: has the value 0"),
        (changed(|it| it.mesh.as_mut().unwrap().egress = 7), "mesh.egress: has the value 7"),
        (changed(|it| it.mesh.as_mut().unwrap().trust_domain.clear()), "mesh.trust_domain: the trust domain"),
        (changed(|it| it.mesh.as_mut().unwrap().opaque_ports = vec![70_000]), "mesh.opaque_ports: is 70000"),
        (changed(|it| it.mesh.as_mut().unwrap().opaque_ports = vec![2, 1]), "is not in ascending order"),
    ] {
        message(&listener, &["listener \"inbound\", ", why]);
    }
}

pub(super) fn good_route() -> Route {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster("c".into())),
        ..RouteAction::default()
    };
    let matches =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..RouteMatch::default() };
    Route { r#match: Some(matches), action: Some(WireAction::Route(action)), ..Route::default() }
}

pub(super) fn config(routes: Vec<Route>) -> RouteConfiguration {
    let host = VirtualHost { name: "h".into(), domains: vec!["*".into()], routes, ..VirtualHost::default() };
    RouteConfiguration { name: "a:80".into(), virtual_hosts: vec![host], ..RouteConfiguration::default() }
}

/// A configuration with one route that differs from a good one.
pub(super) fn route(change: impl FnOnce(&mut RouteMatch, &mut RouteAction)) -> RouteConfiguration {
    let mut route = good_route();
    let Some(WireAction::Route(action)) = &mut route.action else { panic!("no route") };
    change(route.r#match.as_mut().unwrap(), action);
    config(vec![route])
}

fn header(name: &str, specifier: Option<HeaderMatchSpecifier>) -> HeaderMatcher {
    HeaderMatcher { name: name.into(), header_match_specifier: specifier, ..HeaderMatcher::default() }
}

#[test]
fn route_matches() {
    let at = "route \"a:80\", virtual_hosts[h].routes[0].match";
    assert!(decode(&wire::pack(&config(vec![good_route()]))).is_ok());
    let present = || Some(HeaderMatchSpecifier::PresentMatch(true));
    let inverted = HeaderMatcher { invert_match: true, ..header("x", present()) };
    let regex =
        |source: &str| PathSpecifier::SafeRegex(RegexMatcher { regex: source.into(), engine_type: None });
    for (config, why) in [
        (route(|matches, _| matches.path_specifier = None), ".path_specifier: is missing"),
        (
            route(|matches, _| matches.path_specifier = Some(regex("("))),
            ".safe_regex.regex: is not an expression",
        ),
        (route(|matches, _| matches.path_specifier = Some(regex(""))), ".safe_regex.regex: is empty"),
        (
            route(|matches, _| matches.path_specifier = Some(regex("\\pL{9999}"))),
            "is not an expression we can use",
        ),
        (route(|matches, _| matches.headers = vec![inverted]), ".headers[0].invert_match: is not supported"),
        (route(|matches, _| matches.headers = vec![header("x", None)]), "header_match_specifier: is missing"),
        (route(|matches, _| matches.headers = vec![header(":path", present())]), "\":path\" is not the name"),
        (
            route(|matches, _| matches.headers = vec![header(":method", present())]),
            "of :method is not an exact one",
        ),
        (
            route(|matches, _| matches.headers = vec![header("x", present()); MAX_MATCHES + 1]),
            ".headers: has 65 entries, at most 64",
        ),
        (route(|matches, _| matches.grpc = Some(Default::default())), ".grpc: is not supported"),
        (
            route(|matches, _| matches.runtime_fraction = Some(Default::default())),
            ".runtime_fraction: is not supported",
        ),
    ] {
        message(&config, &[at, why]);
    }
}

#[test]
fn route_actions() {
    let at = "route \"a:80\", virtual_hosts[h].routes[0].route.";
    let share = |weight| ClusterWeight { name: "c".into(), weight, ..ClusterWeight::default() };
    let split = |clusters| {
        let split = WeightedCluster { clusters, ..WeightedCluster::default() };
        route(|_, action| action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(split)))
    };
    let retry = |policy| route(|_, action| action.retry_policy = Some(policy));
    let on = |words: &str| RetryPolicy { retry_on: words.into(), ..RetryPolicy::default() };
    for (config, why) in [
        (route(|_, action| action.cluster_specifier = None), "cluster_specifier: is missing"),
        (
            route(|_, action| action.cluster_specifier = Some(ClusterSpecifier::ClusterHeader("x".into()))),
            "cluster_header: is not supported",
        ),
        (
            route(|_, action| action.timeout = Some(WireDuration { seconds: 0, nanos: -1 })),
            "timeout: is not a duration",
        ),
        (split(vec![]), "weighted_clusters.clusters: has no weight above 0"),
        (split(vec![share(None)]), "weighted_clusters.clusters[0].weight: is missing"),
        (split(vec![share(wire::number(u32::MAX)); 2]), "add up to 8589934590"),
        (split(vec![share(wire::number(1)); MAX_BACKENDS + 1]), "clusters: has 101 entries, at most 100"),
        (retry(on("envoy-ratelimited")), "retry_policy.retry_on: \"envoy-ratelimited\" is not supported"),
        (
            retry(RetryPolicy { retriable_status_codes: vec![7], ..on("retriable-status-codes") }),
            "retry_policy.retriable_status_codes: 7 is not an HTTP status",
        ),
    ] {
        message(&config, &[at, why]);
    }
    let action = |action| config(vec![Route { action, ..good_route() }]);
    message(&action(None), &["routes[0].action: is missing"]);
    let direct = WireAction::DirectResponse(Default::default());
    message(&action(Some(direct)), &["routes[0].direct_response: is not supported"]);
}

#[test]
fn header_changes() {
    let add = |key: &str, value: &str| {
        let header = HeaderValue { key: key.into(), value: value.into(), raw_value: Vec::new() };
        HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
    };
    let at = "routes[0].request_headers_to_add[0]";
    for (option, why) in [
        (add("x y", "1"), "header.key: \"x y\" is not a field name"),
        (add(":path", "1"), "header.key: \":path\" is not a field name"),
        (add("Transfer-Encoding", "chunked"), "frames messages and cannot be changed"),
        (add("x", "a\r\nb: c"), "header.value: has a character"),
        (add("x", "%DOWNSTREAM_REMOTE_ADDRESS%"), "has a command in it"),
        (add("x", "50%"), "has a command in it"),
        (
            HeaderValueOption { append_action: 1, ..add("x", "1") },
            "append_action: ADD_IF_ABSENT is not supported",
        ),
        (HeaderValueOption { append_action: 9, ..add("x", "1") }, "append_action: 9 is not known"),
        (HeaderValueOption::default(), "header: is missing"),
    ] {
        let changed = Route { request_headers_to_add: vec![option], ..good_route() };
        message(&config(vec![changed]), &[at, why]);
    }
    let removed = Route { response_headers_to_remove: vec!["Connection".into()], ..good_route() };
    message(&config(vec![removed]), &["response_headers_to_remove[0]: \"Connection\" frames messages"]);
    // Of a field that both change, the route's own change would win.
    let share = ClusterWeight {
        name: "c".into(),
        weight: wire::number(1),
        request_headers_to_remove: vec!["x-a".into()],
        ..ClusterWeight::default()
    };
    let split = WeightedCluster { clusters: vec![share], ..WeightedCluster::default() };
    let mut both =
        route(|_, action| action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(split)));
    both.virtual_hosts[0].routes[0].request_headers_to_add = vec![add("x-a", "1")];
    message(&both, &["x-a is changed by a cluster too"]);
    both.most_specific_header_mutations_wins = true;
    assert!(decode(&wire::pack(&both)).is_ok());
}

#[test]
fn route_configurations() {
    let named = |name: &str, domains: &[&str]| {
        let mut config = config(vec![good_route()]);
        config.name = name.into();
        config.virtual_hosts[0].domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        config
    };
    message(&named("a:80", &["b", "*.a"]), &["route \"a:80\", virtual_hosts: has none for the destination"]);
    assert!(decode(&wire::pack(&named("a:80", &["b", "A"]))).is_ok());
    let many = config(vec![good_route(); MAX_ROUTES + 1]);
    message(&many, &["routes: has 1001 entries, at most 1000"]);
    message(&config(vec![Route::default(); 1_000_000]), &["virtual_hosts.routes: has 1000000 entries"]);
    let regex = PathSpecifier::SafeRegex(RegexMatcher { regex: "a".into(), engine_type: None });
    let by_regex = RouteMatch { path_specifier: Some(regex), ..RouteMatch::default() };
    let header = header("x", Some(HeaderMatchSpecifier::StringMatch(Default::default())));
    message(&route(|matches, _| matches.headers = vec![header]), &["headers[0].string_match: says nothing"]);
    let routes = vec![Route { r#match: Some(by_regex), ..good_route() }; MAX_ROUTES];
    assert!(decode(&wire::pack(&config(routes))).is_ok());
}

#[test]
fn too_many_expressions() {
    let regex = RegexMatcher { regex: "a".into(), engine_type: None };
    let by_regex =
        HeaderMatchSpecifier::StringMatch(envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher {
            match_pattern: Some(
                envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern::SafeRegex(regex),
            ),
            ignore_case: false,
        });
    let mut heavy = good_route();
    heavy.r#match.as_mut().unwrap().headers = vec![header("x", Some(by_regex)); MAX_MATCHES];
    message(&config(vec![heavy; 16]), &["routes.match.safe_regex: has 1024 entries, at most 1000"]);
}

#[test]
fn half_a_prefix() {
    let head = |path: &str, prefix_head| {
        let extension = ours::RouteExtension { prefix_head, ..ours::RouteExtension::default() };
        let mut route = good_route();
        route.r#match.as_mut().unwrap().path_specifier = Some(PathSpecifier::Path(path.into()));
        Route { metadata: Some(wire::metadata(&extension)), ..route }
    };
    let torn = "routes[0].metadata: says that the next route is the other half";
    message(&config(vec![head("/a", true)]), &[torn]);
    message(&config(vec![head("/a", true), head("/a/", false)]), &[torn]);
    message(&config(vec![head("/a", true), good_route()]), &[torn]);
}
