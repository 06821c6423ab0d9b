//! How endpoints share requests: what policies, Services, slices and routes say of it.

use std::time::Duration;

use outrigger_model::cluster::Cluster;
use outrigger_model::endpoint::Endpoints;
use outrigger_model::policy::{HashCookie, HashOn, LoadBalancer, LocalityMode, SlowStart};
use outrigger_model::resource::Resource;
use outrigger_model::route::Action;
use outrigger_model::session::{SessionAffinity, SessionCarrier};

use super::*;

const CLUSTER: &str = "outbound|80|reviews.shop.svc.cluster.local";

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {{name: p, namespace: shop}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, name: reviews}}], {spec}}}\n---\n"
    )
}

fn cluster(yaml: &str) -> Cluster {
    match resource(&world(yaml), &client("shop"), ResourceType::Cluster, CLUSTER) {
        Some(Resource::Cluster(cluster)) => cluster,
        other => panic!("no cluster: {other:?}"),
    }
}

fn endpoints(yaml: &str) -> Endpoints {
    match resource(&world(yaml), &client("shop"), ResourceType::Endpoints, CLUSTER) {
        Some(Resource::Endpoints(endpoints)) => endpoints,
        other => panic!("no endpoints: {other:?}"),
    }
}

fn sessions(yaml: &str) -> Vec<Option<SessionAffinity>> {
    let Some(Resource::Route(routes)) =
        resource(&world(yaml), &client("shop"), ResourceType::Route, "reviews.shop:80")
    else {
        panic!("no routes")
    };
    let actions = routes.routes.into_iter().map(|route| match route.action {
        Action::Forward(forward) => forward.session,
        other => panic!("{other:?}"),
    });
    actions.collect()
}

#[test]
fn every_algorithm_is_what_the_policy_says() {
    let (seconds, header) = (Duration::from_secs, ::http::HeaderName::from_static("x-user"));
    let cookie = |ttl| HashOn::Cookie(HashCookie { name: "u".into(), ttl });
    let peak = |default_round_trip, decay| LoadBalancer::PeakEwma { default_round_trip, decay };
    let default = LoadBalancer::default();
    for (written, expected) in [
        ("{}", default.clone()),
        ("{peakEwma: {defaultRoundTrip: 2s, decay: 5s}}", peak(seconds(2), seconds(5))),
        ("{algorithm: PeakEwma, peakEwma: {decay: 5s}}", peak(Duration::from_millis(30), seconds(5))),
        ("{algorithm: LeastRequest}", LoadBalancer::LeastRequest),
        ("{algorithm: RoundRobin}", LoadBalancer::RoundRobin),
        ("{algorithm: Random}", LoadBalancer::Random),
        ("{algorithm: RingHash, hashOn: {header: X-User}}", LoadBalancer::RingHash(HashOn::Header(header))),
        ("{algorithm: Maglev, hashOn: {cookie: {name: u}}}", LoadBalancer::Maglev(cookie(None))),
        (
            "{algorithm: Maglev, hashOn: {cookie: {name: u, ttl: 1m}}}",
            LoadBalancer::Maglev(cookie(Some(seconds(60)))),
        ),
        ("{algorithm: RingHash, hashOn: {sourceIp: true}}", LoadBalancer::RingHash(HashOn::SourceIp)),
    ] {
        let yaml = service("reviews", 1) + &policy(&format!("loadBalancer: {written}"));
        assert_eq!(cluster(&yaml).load_balancer, expected, "{written}");
    }
    let slow = cluster(&(service("reviews", 1) + &policy("slowStart: {window: 30s}"))).slow_start;
    assert_eq!(slow, Some(SlowStart { window: seconds(30), min_weight_percent: 10 }));
}

#[test]
fn a_policy_says_how_near_counts_before_the_service_does() {
    let distributed = |word: &str| {
        service("reviews", 1).replacen("spec: {", &format!("spec: {{trafficDistribution: {word}, "), 1)
    };
    let near = Some(LocalityMode::PreferLocal);
    for (yaml, expected) in [
        (service("reviews", 1), None),
        (distributed("PreferClose"), near),
        (distributed("PreferSameZone"), near),
        (distributed("PreferSameNode"), near),
        (distributed("Elsewhere"), None),
        (distributed("PreferClose") + &policy("slowStart: {window: 1s}"), near),
        (distributed("PreferClose") + &policy("locality: {mode: Strict}"), Some(LocalityMode::Strict)),
        (distributed("PreferClose") + &policy("locality: {mode: Off}"), Some(LocalityMode::Off)),
    ] {
        assert_eq!(cluster(&yaml).locality, expected, "{yaml}");
    }
}

#[test]
fn hints_of_slices_travel_with_their_endpoints() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: reviews}}\n\
                 addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n\
                 - {addresses: [10.9.0.1], zone: a, hints: {forZones: [{name: a}, {name: b}]}}\n\
                 - {addresses: [10.9.0.2], zone: b}\n---\n";
    let endpoints = endpoints(&(service("reviews", 1) + slice)).endpoints;
    let hints = |ip: &str| -> Vec<String> {
        let found = endpoints.iter().find(|endpoint| endpoint.address.ip().to_string() == ip);
        found.expect("it is listed").hint_zones.iter().map(ToString::to_string).collect()
    };
    assert_eq!((hints("10.9.0.1"), hints("10.9.0.2")), (vec!["a".to_owned(), "b".to_owned()], Vec::new()));
}

#[test]
fn sessions_are_those_of_the_rule_or_of_its_policy() {
    let route = |persistence: &str| {
        let rule = format!("{{name: all, backendRefs: [{{name: reviews, port: 80}}]{persistence}}}");
        service("reviews", 1) + &http_route(&format!("  rules: [{rule}]"))
    };
    let hour = Some(Duration::from_secs(3600));
    let cookie = |name: &str, max_age| SessionCarrier::Cookie { name: name.into(), max_age };
    let session = |carrier, absolute_timeout, idle_timeout| {
        Some(SessionAffinity { carrier, absolute_timeout, idle_timeout })
    };
    let header = SessionCarrier::Header(::http::HeaderName::from_static("x-s"));
    for (written, expected) in [
        ("", None),
        (", sessionPersistence: {}", session(cookie("outrigger-session-shop-r-0", None), None, None)),
        (
            ", sessionPersistence: {sessionName: s, absoluteTimeout: 1h}",
            session(cookie("s", None), hour, None),
        ),
        (
            ", sessionPersistence: {sessionName: s, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}",
            session(cookie("s", hour), hour, None),
        ),
        (
            ", sessionPersistence: {sessionName: X-S, type: Header, idleTimeout: 1h}",
            session(header.clone(), None, hour),
        ),
    ] {
        assert_eq!(sessions(&route(written)), [expected], "{written}");
    }
    let policy = |affinity: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: RoutePolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}}], \
             sessionAffinity: {affinity}}}\n---\n"
        )
    };
    let over = route(", sessionPersistence: {sessionName: s}") + &policy("{cookie: {name: t, ttl: 1h}}");
    assert_eq!(sessions(&over), [session(cookie("t", hour), None, None)]);
    assert_eq!(sessions(&(route("") + &policy("{header: X-S}"))), [session(header, None, None)]);
    let service_says = "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
                        metadata: {name: x, namespace: shop}\nspec: {targetRefs: [{group: '', kind: Service, name: reviews}], \
                        sessionPersistence: {sessionName: of-service}}\n---\n";
    let of_service = session(cookie("of-service", None), None, None);
    for yaml in [service("reviews", 1), route("")] {
        assert_eq!(sessions(&(yaml + service_says)), std::slice::from_ref(&of_service));
    }
    let of_rule = route(", sessionPersistence: {sessionName: s}") + service_says;
    assert_eq!(sessions(&of_rule), [session(cookie("s", None), None, None)]);
}
