//! Which route comes first, and which are in force at all.

use super::*;

fn grpc_route(rules: &str) -> String {
    http_route(rules).replace("HTTPRoute", "GRPCRoute")
}

fn named(route: &str, name: &str, created: &str) -> String {
    let created =
        if created.is_empty() { String::new() } else { format!(", creationTimestamp: '{created}'") };
    route.replace("{name: r, namespace: shop}", &format!("{{name: {name}, namespace: shop{created}}}"))
}

/// The matches of the routes of `reviews.shop:80`, with the object in front.
fn order(yaml: &str, question: &str) -> Vec<String> {
    let text = ask(&world(yaml), question);
    text.lines().skip(1).map(|line| line.split(" -> ").next().unwrap().to_owned()).collect()
}

const TO: &str = "backendRefs: [{name: reviews, port: 80}]";

#[test]
fn http_matches_are_ordered_as_gateway_api_says() {
    let rules = format!(
        "  rules:
  - matches:
    - {{path: {{type: PathPrefix, value: /}}}}
    - {{path: {{type: PathPrefix, value: /api/}}}}
    - {{path: {{type: PathPrefix, value: /api/v1}}}}
    {TO}
  - matches:
    - {{path: {{type: PathPrefix, value: /api}}, headers: [{{name: x-a, value: '1'}}]}}
    - {{path: {{type: PathPrefix, value: /api}}, headers: [{{name: x-a, value: '1'}}, {{name: x-b, value: '2'}}]}}
    - {{path: {{type: PathPrefix, value: /api}}, queryParams: [{{name: q, value: '1'}}]}}
    - {{path: {{type: PathPrefix, value: /api}}, method: GET}}
    {TO}
  - matches:
    - {{path: {{type: RegularExpression, value: /a.*}}}}
    - {{path: {{type: RegularExpression, value: /api/.*}}}}
    - {{path: {{type: Exact, value: /api}}}}
    - {{path: {{type: Exact, value: /api}}, method: POST}}
    {TO}"
    );
    let expected = [
        "POST =/api",
        "=/api",
        "~/api/.*",
        "~/a.*",
        "/api/v1/*",
        "GET /api/*",
        "/api/* x-a=1 x-b=2",
        "/api/* x-a=1",
        "/api/* ?q=1",
        "/api/*",
        "/*",
    ];
    let expected: Vec<_> = expected.iter().map(|text| format!("HTTPRoute/shop/r: {text}")).collect();
    assert_eq!(order(&(service("reviews", 1) + &http_route(&rules)), "route reviews.shop:80"), expected);
}

#[test]
fn equal_matches_are_ordered_by_age_then_by_name_then_as_written() {
    let route = http_route(&format!("  rules: [{{{TO}}}]"));
    let yaml = service("reviews", 1)
        + &named(&route, "first-in-file", "")
        + &named(&route, "a-second-in-file", "")
        + &named(&route, "young", "2026-02-01T00:00:00Z")
        + &named(&route, "b-old", "2026-01-01T00:00:00Z")
        + &named(&route, "a-old", "2026-01-01T00:00:00Z");
    let names = ["a-old", "b-old", "young", "first-in-file", "a-second-in-file"];
    let expected: Vec<_> = names.iter().map(|name| format!("HTTPRoute/shop/{name}: /*")).collect();
    assert_eq!(order(&yaml, "route reviews.shop:80"), expected);
}

#[test]
fn grpc_matches_are_ordered_by_service_then_method_then_headers() {
    let rules = format!(
        "  rules:
  - {{{TO}}}
  - matches:
    - {{method: {{service: a.B}}}}
    - {{method: {{service: a.B, method: Get}}}}
    - {{method: {{service: a.B}}, headers: [{{name: x-a, value: '1'}}]}}
    - {{method: {{service: a.Longer}}}}
    - {{method: {{method: Get}}}}
    - {{method: {{type: RegularExpression, service: 'a\\..*'}}}}
    {TO}"
    );
    let expected = [
        "/a.Longer/*",
        "=/a.B/Get",
        "/a.B/* x-a=1",
        "/a.B/*",
        "~/(?:[^/]+)/(?:Get)",
        "~/(?:a\\..*)/(?:[^/]+)",
        "/*",
    ];
    let expected: Vec<_> = expected.iter().map(|text| format!("GRPCRoute/shop/r: {text}")).collect();
    assert_eq!(order(&(service("reviews", 1) + &grpc_route(&rules)), "route reviews.shop:80"), expected);
}

#[test]
fn a_higher_kind_of_route_leaves_no_place_for_a_lower_one() {
    let rules = format!("  rules: [{{{TO}}}]");
    let http = named(&http_route(&rules), "h", "2020-01-01T00:00:00Z");
    let yaml = service("reviews", 1) + &http + &named(&grpc_route(&rules), "g", "");
    assert_eq!(order(&yaml, "route reviews.shop:80"), ["GRPCRoute/shop/g: /*"]);
}

#[test]
fn a_route_for_one_port_leaves_the_others_alone() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n\
                spec: {ports: [{name: http, port: 80}, {name: http-admin, port: 81}]}\n---\n"
        .to_owned()
        + &http_route(&format!("  rules: [{{{TO}}}]")).replace("name: reviews}", "name: reviews, port: 81}");
    assert_eq!(order(&yaml, "route reviews.shop:80"), ["Service/shop/reviews: /*"]);
    assert_eq!(order(&yaml, "route reviews.shop:81"), ["HTTPRoute/shop/r: /*"]);
}

#[test]
fn a_consumer_route_is_for_clients_of_its_namespace_only_and_replaces_the_producers() {
    let producer = http_route(&format!("  rules: [{{{TO}}}]"));
    let consumer = producer
        .replace("{name: r, namespace: shop}", "{name: c, namespace: other}")
        .replace("kind: Service, name: reviews", "kind: Service, name: reviews, namespace: shop");
    let yaml = service("reviews", 1) + &producer + &consumer;
    assert_eq!(order(&yaml, "route reviews.shop:80"), ["HTTPRoute/shop/r: /*"]);
    assert_eq!(order(&yaml, "route@third reviews.shop:80"), ["HTTPRoute/shop/r: /*"]);
    assert_eq!(order(&yaml, "route@other reviews.shop:80"), ["HTTPRoute/other/c: /*"]);
    let alone = service("reviews", 1) + &consumer;
    assert_eq!(order(&alone, "route reviews.shop:80"), ["Service/shop/reviews: /*"]);
}

#[test]
fn a_route_whose_rules_were_all_dropped_takes_no_traffic_away() {
    let bad = http_route("  rules: [{unknownField: 1, backendRefs: [{name: gone, port: 80}]}]");
    assert_eq!(order(&(service("reviews", 1) + &bad), "route reviews.shop:80"), ["Service/shop/reviews: /*"]);
    let half = http_route(&format!(
        "  rules:\n  - {{unknownField: 1}}\n  - matches: [{{path: {{value: /a}}}}]\n    {TO}"
    ));
    assert_eq!(order(&(service("reviews", 1) + &half), "route reviews.shop:80"), ["HTTPRoute/shop/r: /a/*"]);
}
