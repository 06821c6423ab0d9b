//! What other clients see of what we write.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as WireCluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action as WireAction;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use prost::Message;

use crate::cluster::{Cluster, Discovery, ServiceRef, UpstreamProtocol};
use crate::codec::{decode, encode};
use crate::endpoint::{Endpoint, Endpoints, Health, Locality, WorkloadRef};
use crate::policy::{ConnectionPolicy, Limits, LoadBalancer, OutlierDetection, RetryBudget, RetryPolicy};
use crate::resource::Resource;
use crate::route::{Action, Backend, BackendTarget, Forward, PathMatch, Route, RouteConfig, RouteMatch};

fn backend(cluster: &str, weight: u32) -> Backend {
    Backend::plain(BackendTarget::Cluster(cluster.into()), weight)
}

fn config(path: PathMatch, backends: Vec<Backend>, retry: Option<RetryPolicy>) -> Resource {
    let matches = RouteMatch { path, ..RouteMatch::default() };
    let forward = Forward { retry, ..Forward::to(backends) };
    let route = Route::plain("HTTPRoute/shop/reviews".into(), matches, Action::Forward(forward));
    Resource::Route(RouteConfig { name: "reviews.shop:9080".into(), routes: vec![route] })
}

fn wire_routes(resource: &Resource) -> RouteConfiguration {
    RouteConfiguration::decode(encode(resource).value.as_slice()).unwrap()
}

#[test]
fn a_segment_prefix_is_two_routes_that_every_client_knows() {
    let wire = wire_routes(&config(PathMatch::Prefix("/a".into()), vec![backend("c", 1)], None));
    let paths: Vec<_> = wire.virtual_hosts[0]
        .routes
        .iter()
        .map(|route| route.r#match.clone().unwrap().path_specifier.unwrap())
        .collect();
    assert_eq!(paths, [PathSpecifier::Path("/a".into()), PathSpecifier::Prefix("/a/".into())]);
    let wire = wire_routes(&config(PathMatch::default(), vec![backend("c", 1)], None));
    let path = wire.virtual_hosts[0].routes[0].r#match.clone().unwrap().path_specifier;
    assert_eq!(path, Some(PathSpecifier::Prefix("/".into())));
}

#[test]
fn a_route_without_a_timeout_says_so() {
    let wire = wire_routes(&config(PathMatch::default(), vec![backend("c", 1)], None));
    let Some(WireAction::Route(action)) = &wire.virtual_hosts[0].routes[0].action else { panic!("no route") };
    assert_eq!(action.timeout.map(|timeout| (timeout.seconds, timeout.nanos)), Some((0, 0)));
}

#[test]
fn retries_that_others_would_refuse_are_ours_alone() {
    let none = RetryPolicy { attempts: 0, ..RetryPolicy::default() };
    let at_once = RetryPolicy { backoff_base: Duration::ZERO, backoff_max: Duration::ZERO, ..none.clone() };
    let at_once = RetryPolicy { attempts: 2, ..at_once };
    for (policy, standard) in [(none, false), (at_once, true), (RetryPolicy::default(), true)] {
        let resource = config(PathMatch::default(), vec![backend("c", 1)], Some(policy.clone()));
        let wire = wire_routes(&resource);
        let Some(WireAction::Route(action)) = &wire.virtual_hosts[0].routes[0].action else {
            panic!("no route")
        };
        assert_eq!(action.retry_policy.is_some(), standard, "{policy:?}");
        let base = action.retry_policy.as_ref().and_then(|it| it.retry_back_off.as_ref()?.base_interval);
        assert!(base.is_none_or(|base| base.nanos > 0), "{policy:?}");
        assert_eq!(decode(&encode(&resource)).unwrap(), resource);
    }
}

#[test]
fn a_split_without_weight_has_no_backend() {
    let decoded = decode(&encode(&config(PathMatch::default(), vec![backend("c", 0)], None))).unwrap();
    let Resource::Route(routes) = decoded else { panic!("no routes") };
    assert_eq!(routes.routes[0].action, Action::NoBackend { why: "no backend has a weight above 0".into() });
}

#[test]
fn weights_beyond_32_bits_keep_their_proportion() {
    let heavy = vec![backend("a", u32::MAX), backend("b", u32::MAX), backend("c", 1), backend("d", 0)];
    let decoded = decode(&encode(&config(PathMatch::default(), heavy, None))).unwrap();
    let Resource::Route(routes) = decoded else { panic!("no routes") };
    let Action::Forward(forward) = &routes.routes[0].action else { panic!("no forward") };
    let weights: Vec<_> = forward.backends.iter().map(|backend| backend.weight).collect();
    assert_eq!((weights[0], weights[2], weights[3]), (weights[1], 1, 0));
    assert!(weights[0] > u32::MAX / 3);
}

fn endpoint(port: u16, zone: &str) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, 1], port).into(),
        weight: u32::MAX,
        health: Health::Healthy,
        locality: Locality { region: "eu".into(), zone: zone.into() },
        hint_zones: Vec::new(),
        workload: WorkloadRef::default(),
        identity: None,
    }
}

#[test]
fn localities_and_addresses_come_once_and_have_weights_that_fit() {
    let endpoints = vec![endpoint(1, "a"), endpoint(2, "b"), endpoint(3, "a"), endpoint(1, "b")];
    let resource = Resource::Endpoints(Endpoints { cluster: "c".into(), endpoints });
    let wire = ClusterLoadAssignment::decode(encode(&resource).value.as_slice()).unwrap();
    let zones: Vec<_> =
        wire.endpoints.iter().map(|it| (it.locality.clone().unwrap().zone, it.lb_endpoints.len())).collect();
    assert_eq!(zones, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    let weights = wire.endpoints.iter().map(|it| u64::from(it.load_balancing_weight.unwrap().value));
    assert!(weights.clone().all(|weight| weight > 0) && weights.sum::<u64>() <= u64::from(u32::MAX));
}

#[test]
fn a_cluster_says_round_robin_and_keeps_to_the_bounds_of_the_standard() {
    let cluster = Cluster {
        name: "outbound|9080|reviews.shop".into(),
        service: ServiceRef { kind: "Service".into(), namespace: "shop".into(), name: "reviews".into() },
        discovery: Discovery::Eds,
        protocol: UpstreamProtocol::AsDownstream,
        load_balancer: LoadBalancer::default(),
        slow_start: None,
        locality: None,
        connection: ConnectionPolicy::default(),
        limits: Limits::default(),
        outlier: Some(OutlierDetection { success_rate_percent: 100.0, ..OutlierDetection::default() }),
        retry_budget: RetryBudget::default(),
        health_check: None,
        tls: None,
    };
    let wire = WireCluster::decode(encode(&Resource::Cluster(cluster)).value.as_slice()).unwrap();
    assert_eq!(wire.lb_policy, 0);
    // A threshold of 0 would eject endpoints that never failed.
    assert_eq!(wire.outlier_detection.unwrap().failure_percentage_threshold.unwrap().value, 1);
    assert_eq!(wire.eds_cluster_config.unwrap().service_name, "outbound|9080|reviews.shop");
}
