//! Tables: YAML and a name in, a resource out.

use outrigger_model::resource::ResourceType;

use super::*;
use crate::world::samples::{service, world};

mod affects;
mod authorization;
mod balancing;
mod destinations;
mod discovery;
mod filters;
mod grants;
mod inbound_policies;
mod order;
mod outside;
mod route_policies;
mod services;
mod show;
mod upstream_tls;

fn client(namespace: &str) -> Client {
    Client { namespace: namespace.into(), ..Client::default() }
}

/// `listener reviews.shop:80`, `route …`, `cluster …`, `endpoints …`; `route@other …` asks from another namespace.
fn ask(world: &World, question: &str) -> String {
    let (word, name) = question.split_once(' ').unwrap();
    let (word, namespace) = word.split_once('@').unwrap_or((word, "shop"));
    let kind = ResourceType::ALL.into_iter().find(|kind| kind.word() == word).unwrap();
    let found = resource(world, &client(namespace), kind, name);
    found.map_or("none".to_owned(), |found| show::show(&found))
}

#[track_caller]
fn check(yaml: &str, question: &str, expected: &str) {
    let expected = expected.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    assert_eq!(ask(&world(yaml), question), expected, "{question}");
}

fn http_route(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: reviews}}]\n{spec}\n---\n"
    )
}

#[test]
fn a_service_without_routes_is_one_way_to_itself() {
    let yaml = service("reviews", 1);
    check(&yaml, "listener reviews.shop:80", "reviews.shop:80: http reviews.shop.svc.cluster.local:80");
    check(&yaml, "listener 10.96.0.1:80", "10.96.0.1:80: http reviews.shop.svc.cluster.local:80");
    for name in
        ["reviews.shop:80", "reviews.shop.svc:80", "reviews.shop.svc.cluster.local:80", "10.96.0.1:80"]
    {
        let way = "Service/shop/reviews: /* -> outbound|80|reviews.shop.svc.cluster.local x1";
        check(&yaml, &format!("route {name}"), &format!("{name}\n{way}"));
    }
    check(
        &yaml,
        "endpoints outbound|80|reviews.shop.svc.cluster.local",
        "outbound|80|reviews.shop.svc.cluster.local
         10.0.0.1:8080 healthy shop/reviews-1 spiffe://cluster.local/ns/shop/sa/reviews",
    );
    for nothing in
        ["listener reviews.shop:81", "route other.shop:80", "listener 10.96.0.9:80", "listener garbage"]
    {
        check(&yaml, nothing, "none");
    }
}

#[test]
fn a_cluster_has_the_defaults_of_the_contract_until_a_policy_says_otherwise() {
    let policy = "apiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {name: p, namespace: shop}\n\
                  spec:\n  targetRefs: [{group: '', kind: Service, name: reviews}]\n\
                  \x20 loadBalancer: {algorithm: RoundRobin}\n  circuitBreaker: {maxRequests: 7}\n\
                  \x20 outlierDetection: {enabled: false}\n  connection: {connectTimeout: 250ms}\n---\n";
    let name = "cluster outbound|80|reviews.shop.svc.cluster.local";
    let connection = "idle_timeout: 60s, max_lifetime: 3600s, tcp_user_timeout: 30s }";
    let limits = "Limits { max_connections: 1024, max_pending_requests: 1024,";
    let budget = "RetryBudget { percent: 20.0, min_retries_per_second: 10, interval: 10s }";
    let head = "outbound|80|reviews.shop.svc.cluster.local Service/shop/reviews Eds AsDownstream";
    check(
        &service("reviews", 1),
        name,
        &format!(
            "{head}\nPeakEwma {{ default_round_trip: 30ms, decay: 10s }}\n{limits} max_requests: 1024, max_retries: 3 }}
             Some(OutlierDetection {{ consecutive_errors: 7, success_rate_percent: 80.0, minimum_requests: 5, \
             window: 10s, base_ejection_time: 1s, max_ejection_time: 60s, max_ejection_percent: 50 }})
             {budget}\nConnectionPolicy {{ connect_timeout: 1s, {connection}"
        ),
    );
    check(
        &(service("reviews", 1) + policy),
        name,
        &format!(
            "{head}\nRoundRobin\n{limits} max_requests: 7, max_retries: 3 }}\nNone
             {budget}\nConnectionPolicy {{ connect_timeout: 250ms, {connection}"
        ),
    );
}

#[test]
fn shares_that_cannot_be_used_answer_500_for_their_weight() {
    let yaml = service("reviews", 1)
        + &service("v1", 2)
        + &http_route(
            "  rules:
  - matches: [{path: {value: /mixed}}]
    backendRefs:
    - {name: v1, port: 80, weight: 3}
    - {name: gone, port: 80, weight: 1}
    - {name: v1, port: 81}
    - {name: v1}
    - {name: v1, port: 80, namespace: other}
    - {name: v1, kind: Bucket, group: example.com, port: 80}
    - {name: v1, port: 80, weight: 0}
  - matches: [{path: {value: /bad}}]
    backendRefs: [{name: gone, port: 80}]
  - matches: [{path: {value: /none}}]
  - matches: [{path: {value: /zero}}]
    backendRefs: [{name: v1, port: 80, weight: 0}]",
        );
    check(
        &yaml,
        "route reviews.shop:80",
        "reviews.shop:80
         HTTPRoute/shop/r: /mixed/* -> outbound|80|v1.shop.svc.cluster.local x3, \
         invalid(Service/shop/gone is not there) x1, invalid(Service/shop/v1 has no TCP port 81) x1, \
         invalid(Service/shop/v1 needs a port in the backendRef) x1, \
         invalid(Service/other/v1 is in another namespace and no ReferenceGrant there lets HTTPRoute of shop refer \
         to it) x1, \
         invalid(Bucket/v1 is not a kind that takes traffic; use a Service) x1
         HTTPRoute/shop/r: /none/* -> 500 the rule has no backendRef with a weight
         HTTPRoute/shop/r: /zero/* -> 500 the rule has no backendRef with a weight
         HTTPRoute/shop/r: /bad/* -> 500 Service/shop/gone is not there",
    );
}

#[test]
fn filters_are_applied_or_their_rule_answers_500() {
    let yaml = service("reviews", 1)
        + &http_route(
            "  rules:
  - matches: [{path: {value: /a}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-a, value: '1'}], add: [{name: x-b, value: '2'}], remove: [x-c]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {remove: [server]}
    backendRefs:
    - name: reviews
      port: 80
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-d, value: '4'}]}}]
  - matches: [{path: {value: /b}}]
    filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: a, port: 80}, grpc: {}}}]
  - matches: [{path: {value: /c}}]
    filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Magic, name: x}}]",
        );
    check(
        &yaml,
        "route reviews.shop:80",
        "reviews.shop:80
         HTTPRoute/shop/r: /a/* -> outbound|80|reviews.shop.svc.cluster.local x1 request(x-d=4) \
         request(-x-c x-a=1 +x-b=2) response(-server)
         HTTPRoute/shop/r: /b/* -> 500 filter ExternalAuth is not applied by this version
         HTTPRoute/shop/r: /c/* -> 500 filter ExtensionRef: Magic x of group \"example.com\" is not there",
    );
}

#[test]
fn timeouts_and_retries_are_taken_over() {
    let yaml = service("reviews", 1)
        + &http_route(
            "  rules:
  - matches: [{path: {value: /a}}]
    timeouts: {request: 5s, backendRequest: 1s}
    backendRefs: [{name: reviews, port: 80}]
  - matches: [{path: {value: /b}}]
    retry: {codes: [503, 504], attempts: 3, backoff: 100ms}
    backendRefs: [{name: reviews, port: 80}]",
        );
    let to = "outbound|80|reviews.shop.svc.cluster.local x1";
    check(
        &yaml,
        "route reviews.shop:80",
        &format!(
            "reviews.shop:80
             HTTPRoute/shop/r: /a/* -> {to} timeout=5s retry=0x[] reset=false backoff=25ms..250ms try=1s
             HTTPRoute/shop/r: /b/* -> {to} retry=3x[503,504] reset=true backoff=100ms..1s"
        ),
    );
}

#[test]
fn asking_for_everything_gives_the_clusters_that_there_are() {
    let yaml = service("reviews", 1)
        + "apiVersion: outrigger.dev/v1alpha1\nkind: ExternalService\nmetadata: {name: e, namespace: shop}\n\
           spec: {hosts: [b.example, a.example], ports: [{name: h, port: 443, protocol: TLS}], resolution: DNS}\n";
    let world = world(&yaml);
    let names = wildcard(&world, ResourceType::Cluster);
    let expected =
        ["outbound|443|a.example", "outbound|443|b.example", "outbound|80|reviews.shop.svc.cluster.local"];
    assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
    for name in names {
        assert_eq!(resource(&world, &client(""), ResourceType::Cluster, &name).unwrap().name(), name);
    }
    assert!(wildcard(&world, ResourceType::Listener).is_empty());
}
