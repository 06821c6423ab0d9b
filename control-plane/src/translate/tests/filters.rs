//! What filters of rules and of backendRefs become.

use super::*;

const TO: &str = "outbound|80|reviews.shop.svc.cluster.local x1";

#[track_caller]
fn check_rules(rules: &str, expected: &str) {
    let yaml = service("reviews", 1) + &service("copy", 2) + &http_route(rules);
    check(&yaml, "route reviews.shop:80", &format!("reviews.shop:80\n{}", expected.replace("TO", TO)));
}

#[test]
fn a_redirect_says_the_port_wherever_a_client_would_write_another() {
    check_rules(
        "  rules:
  - matches: [{path: {value: /a}}]
    filters: [{type: RequestRedirect, requestRedirect: {}}]
  - matches: [{path: {value: /b}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example, statusCode: 308}}]
  - matches: [{path: {value: /c}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
  - matches: [{path: {value: /d}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: a.example, port: 8080}}]
  - matches: [{path: {value: /e}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}, statusCode: 301}
  - matches: [{path: {value: /f}}]
    filters:
    - {type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: ''}}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-a, value: '1'}]}}",
        "HTTPRoute/shop/r: /a/* -> 302 -://-:80 -
         HTTPRoute/shop/r: /b/* -> 308 https://a.example:- -
         HTTPRoute/shop/r: /c/* -> 302 https://-:443 -
         HTTPRoute/shop/r: /d/* -> 302 -://a.example:8080 -
         HTTPRoute/shop/r: /e/* -> 301 -://-:80 /new/*
         HTTPRoute/shop/r: /f/* -> 302 -://-:80 =/ response(x-a=1)",
    );
}

#[test]
fn the_port_of_a_redirect_is_that_of_the_service_not_of_the_route() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n\
                spec: {ports: [{name: http, port: 9080}, {name: http-admin, port: 80}]}\n---\n"
        .to_owned()
        + &http_route(
            "  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: a.example}}]}]",
        );
    for (port, expected) in [(9080, "302 -://a.example:9080 -"), (80, "302 -://a.example:- -")] {
        let name = format!("reviews.shop:{port}");
        check(&yaml, &format!("route {name}"), &format!("{name}\nHTTPRoute/shop/r: /* -> {expected}"));
    }
    // A port that is written stays, also where another scheme or port would imply it.
    let written = yaml.replace("hostname: a.example", "hostname: a.example, port: 80");
    check(
        &written,
        "route reviews.shop:9080",
        "reviews.shop:9080\nHTTPRoute/shop/r: /* -> 302 -://a.example:80 -",
    );
}

#[test]
fn requests_are_rewritten_and_copied_for_a_rule_or_for_one_backend() {
    check_rules(
        "  rules:
  - matches: [{path: {value: /a}}]
    filters:
    - {type: URLRewrite, urlRewrite: {hostname: a.example, path: {type: ReplaceFullPath, replaceFullPath: /x}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}, percent: 5}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 80}, fraction: {numerator: 1, denominator: 3}}}
    backendRefs: [{name: reviews, port: 80}]
  - matches: [{path: {value: /b}}]
    backendRefs:
    - name: reviews
      port: 80
      filters:
      - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}
      - {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}
    - name: reviews
      port: 80
      filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
  - matches: [{path: {value: /c}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}]",
        "HTTPRoute/shop/r: /a/* -> TO rewrite(a.example =/x) mirror(outbound|80|copy.shop.svc.cluster.local 100/100) \
         mirror(outbound|80|copy.shop.svc.cluster.local 5/100) mirror(invalid(Service/shop/gone is not there) \
         333333/1000000)
         HTTPRoute/shop/r: /b/* -> TO rewrite(- /*) mirror(outbound|80|copy.shop.svc.cluster.local 100/100), \
         invalid(filter RequestRedirect cannot be applied to one backendRef; give it a rule) x1
         HTTPRoute/shop/r: /c/* -> 500 the rule has no backendRef with a weight",
    );
}

#[test]
fn a_host_of_one_backend_is_not_overruled_by_that_of_the_rule() {
    check_rules(
        "  rules:
  - filters:
    - {type: URLRewrite, urlRewrite: {hostname: rule.example, path: {type: ReplaceFullPath, replaceFullPath: /x}}}
    backendRefs:
    - {name: reviews, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: own.example}}]}
    - {name: reviews, port: 80}",
        "HTTPRoute/shop/r: /* -> TO rewrite(own.example -), TO rewrite(rule.example -) rewrite(- =/x)",
    );
}

#[test]
fn cors_stands_beside_a_redirect_as_well() {
    check_rules(
        "  rules:
  - filters:
    - type: CORS
      cors:
        allowOrigins: ['HTTPS://a.Example:443', 'https://*.b.example']
        allowMethods: [GET, PUT]
        allowHeaders: ['*']
        exposeHeaders: [X-A]
        allowCredentials: true
    - {type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example}}",
        "HTTPRoute/shop/r: /* -> 302 https://a.example:- - Cors { allow_origins: [Exact(\"https://a.example\"), \
         Regex(Pattern { source: \"https://[^/:]+\\\\.b\\\\.example\", regex: \
         Regex(\"^(?:https://[^/:]+\\\\.b\\\\.example)$\") })], allow_methods: Only([GET, PUT]), allow_headers: Any, \
         expose_headers: Only([\"x-a\"]), max_age: Some(5s), allow_credentials: true }",
    );
}

#[test]
fn a_grpc_call_is_copied() {
    let yaml = service("reviews", 1)
        + &service("copy", 2)
        + &http_route(
            "  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}]
    backendRefs: [{name: reviews, port: 80}]",
        )
        .replace("HTTPRoute", "GRPCRoute");
    let expected =
        format!("GRPCRoute/shop/r: /* -> {TO} mirror(outbound|80|copy.shop.svc.cluster.local 100/100)");
    check(&yaml, "route reviews.shop:80", &format!("reviews.shop:80\n{expected}"));
}
