//! RoutePolicies: which one counts, and what becomes of a rule by it.

use std::time::Duration;

use outrigger_model::filter::Share;
use outrigger_model::route::{Action, Route};

use super::*;

/// A policy `name` with these targets; `rest` are its sections.
fn policy(name: &str, targets: &str, rest: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: RoutePolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{targets}], {rest}}}\n---\n"
    )
}

const ROUTE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}";
const RULE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r, sectionName: one}";
const SERVICE: &str = "{group: '', kind: Service, name: reviews}";
const PORT: &str = "{group: '', kind: Service, name: reviews, sectionName: http}";

/// A route with the rules `one` (`/one`) and one without a name (`/two`), which names `by-filter` if it is said.
fn route(filters: &str) -> String {
    http_route(&format!(
        "  rules:\n  - {{name: one, matches: [{{path: {{value: /one}}}}], backendRefs: [{{name: reviews, port: 80}}]}}\n\
         \x20 - {{matches: [{{path: {{value: /two}}}}], {filters} backendRefs: [{{name: reviews, port: 80}}]}}"
    ))
}

const BY_FILTER: &str = "filters: [{type: ExtensionRef, extensionRef: {group: outrigger.dev, kind: RoutePolicy, name: by-filter}}],";

fn routes(yaml: &str) -> Vec<Route> {
    let world = world(yaml);
    assert!(world.problems().is_empty(), "{:?}", world.problems());
    let found = resource(&world, &client("shop"), ResourceType::Route, "reviews.shop:80");
    match found {
        Some(Resource::Route(config)) => config.routes,
        other => panic!("{other:?}"),
    }
}

/// The attempts of each route: how a test tells which policy counts.
fn attempts(yaml: &str) -> Vec<Option<u32>> {
    let of = |route: &Route| match &route.action {
        Action::Forward(forward) => forward.retry.as_ref().map(|retry| retry.attempts),
        _ => None,
    };
    routes(yaml).iter().map(of).collect()
}

#[test]
fn the_most_specific_policy_counts_and_then_the_oldest() {
    let retries = |name: &str, targets: &str, attempts: u32| {
        policy(name, targets, &format!("retry: {{on: [5xx], attempts: {attempts}}}"))
    };
    let all = [
        retries("service", SERVICE, 1),
        retries("port", PORT, 2),
        retries("whole", ROUTE, 3),
        retries("younger", ROUTE, 4),
        retries("rule", RULE, 5),
        retries("by-filter", "", 6),
    ];
    let base = |filters: &str| service("reviews", 1) + &route(filters);
    for (count, expected) in [
        (1, [Some(1), Some(1)]),
        (2, [Some(2), Some(2)]),
        (3, [Some(3), Some(3)]),
        (4, [Some(3), Some(3)]),
        (5, [Some(5), Some(3)]),
    ] {
        assert_eq!(attempts(&(base("") + &all[..count].concat())), expected, "the first {count}");
    }
    assert_eq!(attempts(&(base(BY_FILTER) + &all.concat())), [Some(5), Some(6)]);
    // Without a route the Service itself is what a policy is about.
    assert_eq!(attempts(&(service("reviews", 1) + &all[..2].concat())), [Some(2)]);
    let other = all[0].replace("namespace: shop", "namespace: other");
    assert_eq!(attempts(&(base("") + &other)), [None, None], "a policy is for its own namespace");
}

#[test]
fn each_section_comes_from_the_most_specific_policy_that_writes_it() {
    let yaml = service("reviews", 1)
        + &route("")
        + &policy("service", SERVICE, "retry: {attempts: 4}, fault: {abort: {httpStatus: 500}}")
        + &policy("rule", RULE, "fault: {delay: {percent: 12.5, fixed: 2s}}");
    let routes = routes(&yaml);
    assert_eq!(attempts(&yaml), [Some(4), Some(4)]);
    let fault = |index: usize| routes[index].filters.as_ref().and_then(|filters| filters.fault).unwrap();
    let eighth = Share { numerator: 125_000, denominator: 1_000_000 };
    assert_eq!((fault(0).delay, fault(0).abort), (Some((eighth, Duration::from_secs(2))), None));
    let always = Share { numerator: 1_000_000, denominator: 1_000_000 };
    assert_eq!(fault(1).abort.map(|(share, status)| (share, status.as_u16())), Some((always, 500)));
}

#[test]
fn what_a_policy_does_not_write_stays_as_the_rule_says() {
    let rule = http_route(
        "  rules:\n  - {backendRefs: [{name: reviews, port: 80}], timeouts: {request: 5s, backendRequest: 1s}, \
         retry: {codes: [500], attempts: 3, backoff: 50ms}}",
    );
    for (retry, expected) in [
        ("attempts: 7", "retry=7x[500] reset=true backoff=50ms..500ms try=1s"),
        ("on: [409, gateway-error]", "retry=3x[409,502,503,504] reset=false backoff=50ms..500ms try=1s"),
        ("perTryTimeout: 2s, backoff: {base: 1ms}", "retry=3x[500] reset=true backoff=1ms..10ms try=2s"),
        ("backoff: {max: 20ms}", "retry=3x[500] reset=true backoff=20ms..20ms try=1s"),
    ] {
        let yaml = service("reviews", 1) + &rule + &policy("p", ROUTE, &format!("retry: {{{retry}}}"));
        let way = "reviews.shop:80\nHTTPRoute/shop/r: /* -> outbound|80|reviews.shop.svc.cluster.local x1";
        check(&yaml, "route reviews.shop:80", &format!("{way} timeout=5s {expected}"));
    }
    let only_a_timeout = rule.replace("retry: {codes: [500], attempts: 3, backoff: 50ms}", "");
    let yaml = service("reviews", 1) + &only_a_timeout + &policy("p", ROUTE, "retry: {}");
    assert!(
        ask(&world(&yaml), "route reviews.shop:80")
            .ends_with("retry=1x[] reset=true backoff=25ms..250ms try=1s")
    );
}

#[test]
fn a_policy_that_a_rule_names_and_that_is_not_there_is_never_skipped() {
    let yaml = service("reviews", 1) + &route(BY_FILTER);
    let Action::NoBackend { why } = &routes(&yaml)[1].action else { panic!("it goes on without its filter") };
    assert_eq!(&**why, "filter ExtensionRef names RoutePolicy/shop/by-filter, which is not there");
    let backend = "[{name: reviews, port: 80, filters: [{type: ExtensionRef, \
                   extensionRef: {group: outrigger.dev, kind: RoutePolicy, name: p}}]}]";
    let yaml = service("reviews", 1)
        + &http_route(&format!("  rules:\n  - {{backendRefs: {backend}}}"))
        + &policy("p", "", "retry: {}");
    let Action::NoBackend { why } = &routes(&yaml)[0].action else { panic!("a backend has a policy") };
    assert_eq!(&**why, "filter ExtensionRef names RoutePolicy p, which is for whole rules");
}

#[test]
fn a_grpc_route_has_policies_too() {
    let yaml = service("reviews", 1)
        .replace("name: http, port: 80", "name: http, port: 80, appProtocol: grpc")
        + &http_route("  rules: [{name: one, backendRefs: [{name: reviews, port: 80}]}]")
            .replace("HTTPRoute", "GRPCRoute")
        + &policy("p", &RULE.replace("HTTPRoute", "GRPCRoute"), "retry: {attempts: 2}");
    assert_eq!(attempts(&yaml), [Some(2)]);
}
