//! Routes: what a rule may say, and what a wrong one costs.

use std::time::Duration;

use super::*;
use crate::route::{Filter, GrpcMethodMatch, PathMatch, ValueMatch};

/// An HTTPRoute with these rules, the first of which starts in line 6.
fn http_route(rules: &str) -> String {
    let head = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec:\n  rules:\n";
    format!("{head}{rules}")
}

/// The problem with a rule of an HTTPRoute, without the place.
#[track_caller]
fn check_rule(rule: &str, expected: &str) {
    let parsed = parse_yaml("f", &http_route(&format!("  - {rule}\n")));
    let found: Vec<String> =
        parsed.problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
    let wanted: Vec<String> = Some(expected)
        .filter(|line| !line.is_empty())
        .into_iter()
        .map(|line| format!("spec.rules[0]{line}"))
        .collect();
    assert_eq!(found, wanted, "{rule}");
    let Object::HttpRoute(route) = &parsed.objects[0].object else { panic!("the route stays") };
    assert_eq!(route.spec.dropped_rules.len(), wanted.len(), "{rule}");
}

#[test]
fn a_wrong_rule_costs_only_itself() {
    let parsed = check(
        &http_route(
            "  - name: first
    backendRefs: [{name: a, port: 80}]
  - matches:
    - path: {type: PathPrefix, value: /b}
    timeouts:
      request: 5 parsecs
  - matches:
    - path:
        type: Prefix
  - name: last
    sneaky: true
  - name: twice
    name: once
  - name: good
",
        ),
        r#"f:18:5: HTTPRoute/shop/r: spec.rules[4].name: written twice, first in line 17; remove one
        f:11:7: HTTPRoute/shop/r: spec.rules[1].timeouts.request: not a duration: "5 parsecs"; write it like 500ms, 1s, 1m30s
        f:14:9: HTTPRoute/shop/r: spec.rules[2].matches[0].path.type: unknown value "Prefix"; write Exact, PathPrefix, RegularExpression
        f:16:5: HTTPRoute/shop/r: spec.rules[3].sneaky: unknown field; expected one of name, matches, filters, backendRefs, timeouts, retry, sessionPersistence"#,
    );
    let effects: Vec<Effect> = parsed.problems.iter().map(|problem| problem.effect).collect();
    assert_eq!(effects, [4, 1, 2, 3].map(Effect::RuleDropped));
    let Object::HttpRoute(route) = &parsed.objects[0].object else { panic!("a route") };
    assert_eq!(route.spec.rules.iter().map(|rule| rule.index).collect::<Vec<_>>(), [0, 5]);
    assert_eq!(route.spec.dropped_rules, [1, 2, 3, 4]);
    assert!(parsed.failed().is_empty());
}

#[test]
fn rules_are_judged_as_the_standard_asks() {
    for (rule, expected) in [
        ("{}", ""),
        ("{backendRefs: [{name: a, port: 80, weight: 0}]}", ""),
        (
            "{matches: [{path: {value: api}}]}",
            r#".matches[0].path.value: "api" is not a path; it starts with /"#,
        ),
        (
            "{matches: [{path: {value: /a//b}}]}",
            r#".matches[0].path.value: "/a//b" is never the path of a request; write it without //, /./, /../ and %2F"#,
        ),
        (
            "{matches: [{path: {type: Exact, value: '/a?b'}}]}",
            r#".matches[0].path.value: "/a?b" is not a path; encode other characters as in /caf%C3%A9, without ? and #"#,
        ),
        (
            "{matches: [{path: {type: RegularExpression, value: '/(a'}}]}",
            r#".matches[0].path.value: "/(a" is not a regular expression (RE2 syntax): unclosed group"#,
        ),
        (
            "{matches: [{method: get}]}",
            r#".matches[0].method: "get" is not a method to match; write one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH"#,
        ),
        (
            "{matches: [{headers: [{name: 'x y', value: a}]}]}",
            r#".matches[0].headers[0].name: "x y" is not a header name; write letters, digits and -, without spaces or a colon"#,
        ),
        (
            "{matches: [{headers: [{name: a, value: ''}]}]}",
            ".matches[0].headers[0].value: 0 bytes; write 1 to 4096",
        ),
        (
            "{matches: [{headers: [{name: a}]}]}",
            ".matches[0].headers[0].value: missing; it has to be written",
        ),
    ] {
        check_rule(rule, expected);
    }
}

#[test]
fn backends_and_times_are_judged_as_the_standard_asks() {
    for (rule, expected) in [
        (
            "{backendRefs: [{name: a, port: 0}]}",
            ".backendRefs[0].port: 0 is not a whole number from 1 to 65535",
        ),
        (
            "{backendRefs: [{name: a, weight: 1000001}]}",
            ".backendRefs[0].weight: 1000001 is not a whole number from 0 to 1000000",
        ),
        ("{backendRefs: {name: a}}", ".backendRefs: a mapping where a list is expected"),
        ("{timeouts: [1s, 2s]}", ".timeouts: a list where a mapping is expected"),
        (
            "{matches: [{path: {type: {Exact: }}}]}",
            ".matches[0].path.type: a mapping where a text is expected",
        ),
        ("[a]", ": a list where a mapping is expected"),
        ("{backendRefs: }", ".backendRefs: nothing where a list is expected"),
        ("{retry: {codes: [200]}}", ".retry.codes[0]: 200 is not a status from 400 to 599"),
        ("{retry: {codes: [503], attempts: 2, backoff: 25ms}}", ""),
        (
            "{timeouts: {request: 1s, backendRequest: 2s}}",
            ".timeouts.backendRequest: longer than timeouts.request, of which it is a part; make it shorter",
        ),
        ("{timeouts: {request: 0s, backendRequest: 2s}}", ""),
        (
            "{sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}}",
            ".sessionPersistence.absoluteTimeout: missing; a permanent cookie needs one",
        ),
    ] {
        check_rule(rule, expected);
    }
}

#[test]
fn the_limits_of_a_route_are_named() {
    let many = |count: usize, item: &str| vec![item; count].join(", ");
    let refs = many(17, "{name: a, port: 80}");
    check_rule(
        &format!("{{backendRefs: [{refs}]}}"),
        ".backendRefs: 17 entries; at most 16 are allowed here",
    );
    let matches = many(65, "{method: GET}");
    check_rule(&format!("{{matches: [{matches}]}}"), ".matches: 65 entries; at most 64 are allowed here");
    let bomb = "{matches: [{path: {type: RegularExpression, value: '(a{1000}){1000}'}}]}";
    check_rule(
        bomb,
        r#".matches[0].path.value: "(a{1000}){1000}" is not a regular expression (RE2 syntax): Compiled regex exceeds size limit of 262144 bytes."#,
    );
    check(
        &http_route(&"  - {}\n".repeat(17)),
        "f:5:3: HTTPRoute/shop/r: spec.rules: 17 rules; at most 16 are allowed in a route",
    );
}

#[test]
fn filters_are_typed_and_never_half_read() {
    for (filters, expected) in [
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: b}], remove: [x-b]}}",
            "",
        ),
        ("{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-a, value: b}]}}", ""),
        ("{type: RequestRedirect, requestRedirect: {scheme: https, port: 443, statusCode: 301}}", ""),
        ("{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}", ""),
        ("{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 5}}", ""),
        ("{type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*'], maxAge: 10}}", ""),
        (
            "{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: a, port: 80}, grpc: {}}}",
            "",
        ),
        ("{type: ExtensionRef, extensionRef: {group: example.com, kind: Magic, name: x}}", ""),
        (
            "{type: Magic}",
            r#".filters[0].type: unknown value "Magic"; write RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite, RequestMirror, CORS, ExternalAuth, ExtensionRef"#,
        ),
        ("{type: URLRewrite}", ".filters[0].urlRewrite: missing; the type of the filter asks for it"),
        (
            "{type: URLRewrite, urlRewrite: {hostname: a.b}, cors: {}}",
            ".filters[0]: a filter has its type and the one field of that type; write two filters",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Content-Length]}}",
            r#".filters[0].requestHeaderModifier.remove[0]: "Content-Length" belongs to the connection and cannot be changed by a filter; remove it"#,
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}], remove: [x-a]}}",
            ".filters[0].requestHeaderModifier: x-a is named twice; a filter changes a header once",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: \"b\\n\"}]}}",
            r#".filters[0].requestHeaderModifier.set[0].value: "b\n" is not a header value; control characters are not allowed"#,
        ),
        (
            "{type: RequestRedirect, requestRedirect: {statusCode: 200}}",
            ".filters[0].requestRedirect.statusCode: 200 is not a redirect; write 301, 302, 303, 307 or 308",
        ),
        (
            "{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {hostname: a.b}}",
            ".filters: RequestRedirect and URLRewrite exclude each other; keep one",
        ),
        (
            "{type: CORS, cors: {}}, {type: CORS, cors: {}}",
            ".filters: two filters of type CORS; write them as one",
        ),
        (
            "{type: RequestMirror, requestMirror: {backendRef: {name: a}, fraction: {numerator: 3, denominator: 2}}}",
            ".filters[0].requestMirror.fraction.numerator: more than the denominator 2; make it smaller",
        ),
    ] {
        check_rule(&format!("{{filters: [{filters}]}}"), expected);
    }
    check_rule(
        "{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 80}]}",
        ".backendRefs: a rule that redirects sends nothing on; remove them or the redirect",
    );
    check_rule(
        "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}",
        ".filters: ReplacePrefixMatch needs path matches of type PathPrefix only",
    );
}

#[test]
fn paths_origins_and_names_in_filters_are_ones() {
    for (filters, expected) in [
        (
            "{type: CORS, cors: {allowOrigins: ['https://*.a.example', 'HTTP://b.example:8080', 'https://*']}}",
            "",
        ),
        (
            "{type: CORS, cors: {allowOrigins: ['https://a.*.example']}}",
            r#".filters[0].cors.allowOrigins: "https://a.*.example" is not an origin; write * or http(s)://host(:port), where the host may start with *"#,
        ),
        (
            "{type: CORS, cors: {allowHeaders: ['a b']}}",
            r#".filters[0].cors.allowHeaders: "a b" is not the name of a header; write one, or *"#,
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a}]}}",
            r#".filters[0].requestHeaderModifier.set[0].name: "Host" is changed by a filter of type URLRewrite; write its hostname there"#,
        ),
        (
            "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/a?b'}}}",
            r#".filters[0].urlRewrite.path.replaceFullPath: "/a?b" is not a path; it starts with /, has no ? and #, other characters are encoded as in /caf%C3%A9, and it has at most 1024 bytes"#,
        ),
    ] {
        check_rule(&format!("{{filters: [{filters}]}}"), expected);
    }
}

#[test]
fn defaults_of_the_standard_are_filled_in() {
    let route = only(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {parentRefs: [{name: gate}]}}",
    );
    let Object::HttpRoute(route) = route else { panic!("a route") };
    assert_eq!(route.spec.parent_refs[0].kind, "Gateway");
    assert_eq!(route.spec.rules.len(), 1);
    assert_eq!(route.spec.rules[0].matches[0].path, PathMatch::Prefix("/".into()));

    let route = only(&http_route(
        "  - matches: [{headers: [{name: X-User, value: a}, {name: x-user, value: b}]}, {queryParams: [{name: q, type: RegularExpression, value: 'a+'}]}]
    timeouts: {request: 0s, backendRequest: 250ms}
    backendRefs: [{name: a, port: 80}, {group: outrigger.dev, kind: ExternalService, name: b, namespace: other}]
",
    ));
    let Object::HttpRoute(route) = route else { panic!("a route") };
    let rule = &route.spec.rules[0];
    assert_eq!(rule.matches[0].headers.len(), 1);
    assert_eq!(rule.matches[0].headers[0].value, ValueMatch::Exact("a".into()));
    assert_eq!(
        (rule.timeouts.request, rule.timeouts.backend_request),
        (None, Some(Duration::from_millis(250)))
    );
    assert_eq!((rule.backend_refs[0].weight, rule.backend_refs[0].object.kind.as_str()), (1, "Service"));
    assert_eq!(rule.backend_refs[1].object.namespace.as_deref(), Some("other"));
}

#[test]
fn unknown_fields_around_the_rules_are_mentioned_only() {
    let parsed = check(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  useDefaultGateways: All
  rules: []
speck: {}
",
        "f:5:3: HTTPRoute/default/r: spec.useDefaultGateways: not a field this version reads; it is ignored
        f:7:1: HTTPRoute/default/r: speck: unknown field; an object has apiVersion, kind, metadata and spec",
    );
    assert!(parsed.problems.iter().all(|problem| problem.effect == Effect::FieldIgnored));
    assert_eq!(parsed.objects.len(), 1);
}

#[test]
fn grpc_and_tcp_routes_have_their_own_rules() {
    let parsed = check(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: g}
spec:
  rules:
  - matches: [{method: {service: shop.v1.Reviews, method: List}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{method: {type: RegularExpression, service: 'shop\\..*'}, headers: [{name: a, value: b}]}]
  - matches: [{method: {service: 'shop/Reviews'}}]
  - matches: [{method: {}}]
  - filters: [{type: CORS, cors: {}}]
  - {}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: t}
spec:
  rules:
  - backendRefs: [{name: a, port: 80}]
  - backendRefs: [{name: a, filters: [{type: CORS, cors: {}}]}]
---
{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TCPRoute, metadata: {name: u}, spec: {}}
",
        r#"f:9:25: GRPCRoute/default/g: spec.rules[2].matches[0].method.service: "shop/Reviews" is not a gRPC service; write it as in the .proto file
        f:10:16: GRPCRoute/default/g: spec.rules[3].matches[0].method: write service, method or both
        f:11:5: GRPCRoute/default/g: spec.rules[4].filters: CORS is not a filter of a GRPCRoute
        f:20:5: TCPRoute/default/t: spec.rules[1].backendRefs.filters: a TCPRoute or TLSRoute has no filters; remove them
        f:22:87: TCPRoute/default/u: spec.rules: missing; write at least one rule with backendRefs"#,
    );
    let Object::GrpcRoute(route) = &parsed.objects[0].object else { panic!("a route") };
    assert_eq!(route.spec.rules.iter().map(|rule| rule.index).collect::<Vec<_>>(), [0, 1, 5]);
    let method =
        GrpcMethodMatch::Exact { service: Some("shop.v1.Reviews".into()), method: Some("List".into()) };
    assert_eq!(route.spec.rules[0].matches[0].method, Some(method));
    assert_eq!(route.spec.rules[2].matches.len(), 1);
    let Object::TcpRoute(route) = &parsed.objects[1].object else { panic!("a route") };
    assert_eq!(route.spec.dropped_rules, [1]);
}

#[test]
fn a_tls_route_has_names_with_or_without_a_star() {
    let tls = |version: &str, hostnames: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/{version}, kind: TLSRoute, metadata: {{name: t}}, \
             spec: {{hostnames: [{hostnames}], rules: [{{name: r, backendRefs: [{{name: a, port: 443}}]}}]}}}}"
        )
    };
    for version in ["v1", "v1alpha2", "v1alpha3"] {
        let Object::TlsRoute(route) = only(&tls(version, "A.example., '*.b.example'")) else {
            panic!("a route")
        };
        let names: Vec<_> = route.spec.hostnames.iter().map(|name| &**name).collect();
        assert_eq!((names, route.spec.rules.len()), (vec!["a.example", "*.b.example"], 1));
    }
    for (name, why) in [
        ("'*'", "spec.hostnames[0]: \"*\" is not a host name"),
        ("'a.*.b'", "spec.hostnames[0]: \"a.*.b\" is not a host name"),
        ("'*.*.b'", "spec.hostnames[0]: \"*.b\" is not a host name"),
        ("a.example, 'https://b'", "spec.hostnames[1]: \"https://b\" is not a host name"),
    ] {
        let parsed = parse_yaml("f", &tls("v1", name));
        assert!(
            parsed.objects.is_empty() && parsed.problems[0].to_string().contains(why),
            "{:?}",
            parsed.problems
        );
    }
}

#[test]
fn a_mirror_without_a_share_copies_everything() {
    let route = only(&http_route(
        "  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}]\n",
    ));
    let Object::HttpRoute(route) = route else { panic!("a route") };
    let Filter::RequestMirror(mirror) = &route.spec.rules[0].filters[0] else { panic!("a mirror") };
    assert_eq!((mirror.share.numerator, mirror.share.denominator), (100, 100));
}
