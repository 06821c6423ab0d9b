//! InboundPolicies: which one counts for a workload, section by section.

use std::sync::Arc;

use outrigger_model::inbound::{Inbound, MtlsMode};
use outrigger_model::jwt::KeySet;

use super::*;
use crate::world::{Changed, Fact, Roots};

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: InboundPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{{spec}}}\n---\n"
    )
}

const REVIEWS: &str = "targetRefs: [{group: '', kind: Service, name: reviews}], ";
const LABELS: &str = "selector: {matchLabels: {app: reviews}}, ";

/// How the workload of a Service receives traffic.
fn inbound(yaml: &str, workload: &str) -> Inbound {
    let world = world(yaml);
    assert!(world.problems().is_empty(), "{:?}", world.problems());
    inbound_in(&world, workload)
}

fn inbound_in(world: &World, workload: &str) -> Inbound {
    let client = Client { name: workload.into(), ..client("shop") };
    match resource(world, &client, ResourceType::Listener, "inbound") {
        Some(Resource::Inbound(inbound)) => inbound,
        other => panic!("{other:?}"),
    }
}

/// The most requests at once: how a test tells which policy counts.
fn most(yaml: &str, workload: &str) -> Option<u32> {
    let limits = inbound(yaml, workload).limits;
    limits.and_then(|limits| limits.concurrency).map(|limit| limit.max)
}

#[test]
fn who_names_the_workload_counts_before_the_namespace_and_then_the_oldest() {
    let base = service("reviews", 1) + &service("ratings", 2);
    let namespace = policy("namespace", "concurrency: {max: 10}");
    let labels = policy("labels", &format!("{LABELS}concurrency: {{max: 20}}"));
    let service = policy("service", &format!("{REVIEWS}concurrency: {{max: 30}}"));
    for (policies, reviews, ratings) in [
        (String::new(), None, None),
        (namespace.clone(), Some(10), Some(10)),
        (namespace.clone() + &labels, Some(20), Some(10)),
        (namespace.clone() + &labels + &service, Some(20), Some(10)),
        (namespace + &service + &labels, Some(30), Some(10)),
        (service, Some(30), None),
    ] {
        let yaml = base.clone() + &policies;
        assert_eq!((most(&yaml, "reviews-1"), most(&yaml, "ratings-1")), (reviews, ratings), "{policies}");
    }
}

#[test]
fn each_section_comes_from_the_most_specific_policy_that_writes_it() {
    let yaml = service("reviews", 1)
        + &policy("all", "mtls: Strict, rateLimit: {requests: 5, key: [source.identity]}")
        + &policy(
            "own",
            &format!(
                "{REVIEWS}concurrency: {{adaptive: false, max: 7}}, priorities: {{header: x-p, levels: 3}}"
            ),
        );
    let found = inbound(&yaml, "reviews-1");
    assert_eq!(found.mtls, MtlsMode::Strict, "a policy that says nothing of it does not open the door");
    let limits = found.limits.unwrap();
    let rate = limits.rate.unwrap();
    assert_eq!((&*rate.name, rate.requests, rate.burst), ("InboundPolicy/shop/all", 5, 5));
    let concurrency = limits.concurrency.unwrap();
    assert_eq!((&*concurrency.name, concurrency.min, concurrency.max), ("InboundPolicy/shop/own", 7, 7));
    assert_eq!(limits.priorities.unwrap().classes, 3);
    assert_eq!(found.closed_by, None);
}

#[test]
fn a_workload_may_open_what_the_mesh_closes() {
    let mesh = "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\n\
                metadata: {name: mesh, namespace: outrigger-system}\nspec: {mtls: Strict}\n---\n";
    let yaml = service("reviews", 1)
        + &service("ratings", 2)
        + mesh
        + &policy("open", &format!("{REVIEWS}mtls: Permissive"));
    assert_eq!(inbound(&yaml, "reviews-1").mtls, MtlsMode::Permissive);
    assert_eq!(inbound(&yaml, "ratings-1").mtls, MtlsMode::Strict);
}

#[test]
fn requests_must_carry_tokens_whether_the_keys_are_known_or_not() {
    let jwt = "jwt: {issuer: https://i.example, jwksUri: https://i.example/jwks, audiences: [shop]}";
    let yaml = service("reviews", 1) + &service("ratings", 2) + &policy("tokens", &format!("{REVIEWS}{jwt}"));
    let rule = inbound(&yaml, "reviews-1").jwt.unwrap();
    assert_eq!((&*rule.name, &*rule.issuer), ("InboundPolicy/shop/tokens", "https://i.example"));
    assert_eq!((rule.audiences, rule.keys), (vec!["shop".into()], None));
    assert_eq!(inbound(&yaml, "ratings-1").jwt, None);

    let keys = KeySet { json: "{}".into(), usable_until: Some(7) };
    let (learned, changed) =
        world(&yaml).learn(Fact::Keys("https://i.example/jwks".into(), Some(keys.clone())));
    assert_eq!(inbound_in(&learned, "reviews-1").jwt.unwrap().keys, Some(keys));
    let shop = Changed::Destinations([DestinationKey::Inbound("shop".into())].into());
    assert_eq!(changed, shop, "nobody else is concerned");

    let key = r#"{"keys": [{"kty": "EC"}]}"#;
    let here = format!("{REVIEWS}jwt: {{issuer: i, jwks: '{key}'}}");
    let rule = inbound(&(service("reviews", 1) + &policy("tokens", &here)), "reviews-1").jwt.unwrap();
    assert_eq!(rule.keys, Some(KeySet { json: key.into(), usable_until: None }));
}

#[test]
fn limits_of_routes_share_their_counts_unless_their_key_says_otherwise() {
    let limit = |key: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: RoutePolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}}], rateLimit: {{\
             local: {{requests: 9, burst: 2, key: [{key}]}}, global: {{service: {{name: limits, port: 8081}}, \
             domain: d, descriptors: [{{key: a, value: b}}, {{key: r, from: route}}, {{key: m, from: method}}]}}}}}}\n---\n"
        )
    };
    let rules = "  rules:\n  - {name: one, matches: [{path: {value: /one}}], backendRefs: [{name: reviews, port: 80}]}\n  \
                 - {matches: [{path: {value: /two}}], backendRefs: [{name: reviews, port: 80}]}";
    let names = |key: &str| -> Vec<String> {
        let yaml = service("reviews", 1) + &http_route(rules) + &limit(key);
        let found = resource(&world(&yaml), &client("shop"), ResourceType::Route, "reviews.shop:80");
        let Some(Resource::Route(config)) = found else { panic!("{found:?}") };
        let filters = config.routes.into_iter().map(|route| route.filters.expect("filters"));
        filters
            .map(|filters| {
                let (local, global) = (filters.local_rate_limit.unwrap(), filters.global_rate_limit.unwrap());
                assert_eq!((local.requests, local.burst), (9, 2));
                assert_eq!(&*global.cluster, "outbound|8081|limits.shop.svc.cluster.local");
                format!("{} {:?}", local.name, global.descriptor[1])
            })
            .collect()
    };
    let fixed = |value: &str| format!("Fixed {{ key: \"r\", value: \"{value}\" }}");
    let (one, two) = (fixed("HTTPRoute/shop/r/one"), fixed("HTTPRoute/shop/r"));
    let name = "RoutePolicy/shop/p";
    assert_eq!(names("method"), [format!("{name} {one}"), format!("{name} {two}")]);
    assert_eq!(
        names("route"),
        [format!("{name}#HTTPRoute/shop/r/one {one}"), format!("{name}#HTTPRoute/shop/r {two}")]
    );
}

#[test]
fn a_pod_is_told_the_zone_of_its_node() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1, namespace: shop, labels: {app: web, \
               topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: eu-a}}\n\
               spec: {containers: [{name: app}]}\nstatus: {podIP: 10.0.0.7}\n";
    let told = inbound(pod, "web-1").locality;
    assert_eq!((&*told.region, &*told.zone), ("eu", "eu-a"));
    let unknown = inbound("", "web-1").locality;
    assert_eq!((&*unknown.region, &*unknown.zone), ("", ""));
}

/// A root in PEM, indented as a block of YAML.
fn pem() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    root.pem().lines().map(|line| format!("      {line}\n")).collect()
}

#[test]
fn a_proxy_believes_the_own_roots_first_and_those_of_other_trust_domains() {
    let bundle = |domain: &str| format!("  - trustDomain: {domain}\n    certificates: |\n{}", pem());
    let yaml = format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: mesh, namespace: outrigger-system}}\n\
         spec:\n  trustBundles:\n{}{}",
        bundle("other.example"),
        bundle("cluster.local")
    );
    let ours = Fact::Roots(Roots { certificates: vec![Arc::from([1u8].as_slice())], signer: [7; 32] });
    let (world, _) = world(&yaml).learn(ours);
    let Some(Resource::Inbound(inbound)) =
        resource(&world, &client("shop"), ResourceType::Listener, "inbound")
    else {
        panic!("no settings")
    };
    let trust = inbound.trust.unwrap();
    let shown: Vec<_> =
        trust.bundles.iter().map(|bundle| (&*bundle.trust_domain, bundle.roots.len())).collect();
    assert_eq!(shown, [("cluster.local", 2), ("other.example", 1)], "SPIRE's root stands beside ours");
    assert_eq!((&*trust.bundles[0].roots[0], trust.signer), ([1u8].as_slice(), Some([7; 32])));
}
