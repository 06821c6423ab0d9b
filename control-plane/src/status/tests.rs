//! Conditions and the journal: YAML in, what is told about it out.

use super::*;
use crate::world::samples::{service, world};

/// Everything that is wrong, one line each.
fn problems(yaml: &str) -> Vec<String> {
    let statuses = evaluate(&world(yaml));
    let lines = statuses.iter().flat_map(|status| {
        let parent = status.parent.as_ref().map(|parent| format!(" on {}", parent.name)).unwrap_or_default();
        let bad = status.conditions.iter().filter(|condition| condition.is_problem());
        bad.map(move |condition| {
            format!(
                "{}{parent}: {:?} {}: {}",
                status.object.name, condition.type_, condition.reason, condition.message
            )
        })
    });
    lines.collect()
}

#[track_caller]
fn check(yaml: &str, expected: &[&str]) {
    assert_eq!(problems(yaml), expected);
}

fn route(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n"
    )
}

fn own(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n"
    )
}

const PARENT: &str = "parentRefs: [{group: '', kind: Service, name: reviews}]";
const BACKEND: &str = "backendRefs: [{name: reviews, port: 80}]";

#[test]
fn what_is_well_has_conditions_that_say_so() {
    let yaml =
        service("reviews", 1) + &route("HTTPRoute", "r", &format!("{{{PARENT}, rules: [{{{BACKEND}}}]}}"));
    check(&yaml, &[]);
    let statuses = evaluate(&world(&yaml));
    let of_route = statuses.iter().find(|status| status.object.name.as_ref() == "r").unwrap();
    let json = serde_json::to_value(of_route).unwrap();
    let condition = |type_: &str| serde_json::json!({"type": type_, "status": true, "reason": type_, "message": "", "observedGeneration": 0});
    assert_eq!(
        json,
        serde_json::json!({
            "object": {"kind": "HTTPRoute", "namespace": "shop", "name": "r"},
            "location": json["location"],
            "parent": {"kind": "Service", "namespace": "shop", "name": "reviews"},
            "controllerName": "outrigger.dev/mesh-controller",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        })
    );
    assert_eq!(json["location"]["file"], "test.yaml");
}

#[test]
fn a_route_says_why_a_parent_does_not_take_it() {
    let base = service("reviews", 1);
    let with = |parent: &str| {
        base.clone()
            + &route("HTTPRoute", "r", &format!("{{parentRefs: [{parent}], rules: [{{{BACKEND}}}]}}"))
    };
    for (parent, expected) in [
        (
            "{group: '', kind: Service, name: gone}",
            "r on gone: Accepted NoMatchingParent: Service/shop/gone is not there",
        ),
        (
            "{group: '', kind: Service, name: reviews, port: 81}",
            "r on reviews: Accepted NoMatchingParent: Service/shop/reviews has no such TCP port; it has 80",
        ),
        (
            "{name: gateway}",
            "r: Accepted NoMatchingParent: parentRefs: a Gateway is not served by this version; name a Service",
        ),
    ] {
        check(&with(parent), &[expected]);
    }
    let tcp = base.replace("name: http", "name: tcp");
    let http = route("HTTPRoute", "r", &format!("{{{PARENT}, rules: [{{{BACKEND}}}]}}"));
    let why = "port 80 of Service/shop/reviews is declared as something a HTTPRoute is not for";
    check(&(tcp + &http), &[&format!("r on reviews: Accepted NotAllowedByListeners: {why}")]);
}

#[test]
fn a_tls_route_says_which_of_its_names_are_taken() {
    let tls = |name: &str, hosts: &str| {
        route("TLSRoute", name, &format!("{{{PARENT}, hostnames: [{hosts}], rules: [{{{BACKEND}}}]}}"))
    };
    let yaml = service("reviews", 1).replace("name: http", "name: tls")
        + &tls("a", "x.example")
        + &tls("b", "x.example, y.example")
        + &tls("c", "x.example")
        + &tls("d", "")
        + &tls("e", "");
    let taken = |names: &str| {
        format!("spec.hostnames: {names} on port 80 are those of an older TLSRoute, which counts")
    };
    check(
        &yaml,
        &[
            &format!("b on reviews: PartiallyInvalid Conflicted: {}", taken("x.example")),
            &format!("c on reviews: Accepted Conflicted: {}", taken("x.example")),
            &format!("e on reviews: Accepted Conflicted: {}", taken("(no hostnames)")),
        ],
    );
    let tcp = route("TCPRoute", "t", &format!("{{{PARENT}, rules: [{{{BACKEND}}}, {{{BACKEND}}}]}}"));
    let yaml = service("reviews", 1).replace("name: http", "name: tls") + &tcp + &tls("a", "x.example");
    check(
        &yaml,
        &[
            "t on reviews: Accepted Conflicted: on port 80 TLSRoute/shop/a is of a kind that comes first and counts instead",
            "t on reviews: PartiallyInvalid UnsupportedValue: spec.rules[1]: only the first rule of a TCPRoute counts",
        ],
    );
}

#[test]
fn rules_of_one_name_are_told_and_a_backend_without_weight_need_not_be_there() {
    let rules = format!(
        "{{name: a, {BACKEND}}}, {{{BACKEND}, matches: [{{path: {{value: /b}}}}]}}, {{name: a, matches: [{{path: {{value: /c}}}}], {BACKEND}}}"
    );
    let twice = route("HTTPRoute", "r", &format!("{{{PARENT}, rules: [{rules}]}}"));
    let message = "spec.rules[2].name: \"a\" is the name of spec.rules[0] already; give each its own";
    check(
        &(service("reviews", 1) + &twice),
        &[&format!("r on reviews: PartiallyInvalid UnsupportedValue: {message}")],
    );
    let unused = "backendRefs: [{name: reviews, port: 80}, {name: gone, port: 80, weight: 0}]";
    check(
        &(service("reviews", 1) + &route("HTTPRoute", "r", &format!("{{{PARENT}, rules: [{{{unused}}}]}}"))),
        &[],
    );
}

#[test]
fn routes_that_contradict_each_other_are_told() {
    let rules = format!("{{{PARENT}, rules: [{{{BACKEND}}}]}}");
    let yaml = service("reviews", 1) + &route("HTTPRoute", "a", &rules) + &route("HTTPRoute", "b", &rules);
    let repeated =
        "spec.rules[0].matches[0] is a match of HTTPRoute/shop/a as well, which is older and counts";
    check(&yaml, &[&format!("b on reviews: PartiallyInvalid Conflicted: {repeated}")]);
    let mixed = service("reviews", 1) + &route("HTTPRoute", "h", &rules) + &route("GRPCRoute", "g", &rules);
    let beaten = "on port 80 GRPCRoute/shop/g is of a kind that comes first and counts instead";
    check(&mixed, &[&format!("h on reviews: Accepted Conflicted: {beaten}")]);
}

#[test]
fn backends_filters_and_dropped_rules_are_told_by_field() {
    let yaml = service("reviews", 1)
        + &route(
            "HTTPRoute",
            "r",
            &format!(
                "{{{PARENT}, rules: [{{backendRefs: [{{name: gone, port: 80}}]}}, \
                 {{matches: [{{path: {{value: /x}}}}], filters: [{{type: ExtensionRef, extensionRef: {{group: a.b, kind: C, name: d}}}}]}}, \
                 {{matches: [{{path: {{value: /y}}}}], filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: lost, port: 80}}}}}}], \
                 backendRefs: [{{name: reviews, port: 80, filters: [{{type: RequestRedirect, requestRedirect: {{}}}}]}}]}}]}}"
            ),
        );
    check(
        &yaml,
        &[
            "r on reviews: ResolvedRefs BackendNotFound: spec.rules[0].backendRefs[0]: Service/shop/gone is not there; \
             spec.rules[2].filters[0].requestMirror.backendRef: Service/shop/lost is not there; nothing is copied",
            "r on reviews: PartiallyInvalid UnsupportedValue: spec.rules[1].filters: filter ExtensionRef: C d of group \
             \"a.b\" is not there; the rule answers 500; spec.rules[2].backendRefs[0].filters: filter RequestRedirect \
             cannot be applied to one backendRef; give it a rule; its share answers 500",
        ],
    );
    let half = format!("{{{PARENT}, rules: [{{{BACKEND}}}, {{nonsense: 1}}]}}");
    let told = problems(&(service("reviews", 1) + &route("HTTPRoute", "r", &half)));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("r on reviews: PartiallyInvalid UnsupportedValue: spec.rules[1]"),
        "{told:?}"
    );
    let all = problems(
        &(service("reviews", 1)
            + &route("HTTPRoute", "r", &format!("{{{PARENT}, rules: [{{nonsense: 1}}]}}"))),
    );
    assert!(
        all[0].starts_with("r on reviews: Accepted UnsupportedValue: no rule of it can be used"),
        "{all:?}"
    );
}

#[test]
fn filters_that_are_applied_are_not_told() {
    let filters = "filters: [{type: RequestRedirect, requestRedirect: {hostname: a.example}}, \
                   {type: CORS, cors: {allowOrigins: ['*']}}]";
    let rewrites = "filters: [{type: URLRewrite, urlRewrite: {hostname: a.example}}, \
                    {type: RequestMirror, requestMirror: {backendRef: {name: reviews, port: 80}}}]";
    let rules = format!(
        "{{{PARENT}, rules: [{{matches: [{{path: {{value: /x}}}}], {filters}}}, {{{rewrites}, {BACKEND}}}]}}"
    );
    check(&(service("reviews", 1) + &route("HTTPRoute", "r", &rules)), &[]);
}

#[test]
fn policies_say_what_is_not_in_force() {
    let target = |name: &str| format!("targetRefs: [{{group: '', kind: Service, name: {name}}}]");
    let yaml = service("reviews", 1)
        + &own("BackendPolicy", "a", &format!("{{{}}}", target("reviews")))
        + &own("BackendPolicy", "b", &format!("{{{}}}", target("reviews")))
        + &own("BackendPolicy", "c", &format!("{{{}}}", target("gone")))
        + &own(
            "BackendPolicy",
            "d",
            &format!(
                "{{{}, loadBalancer: {{algorithm: Maglev, hashOn: {{sourceIp: true}}}}, slowStart: {{window: 30s}}}}",
                target("gone")
            ),
        );
    check(
        &yaml,
        &[
            "b on reviews: Accepted Conflicted: BackendPolicy/shop/a is older or names the port, and counts instead",
            "c on gone: Accepted TargetNotFound: Service/shop/gone is not there",
            "d on gone: Accepted TargetNotFound: Service/shop/gone is not there",
            "d on gone: PartiallyInvalid UnsupportedValue: spec.slowStart is not applied by this version; the default stays in force",
        ],
    );
    check(
        &own("MeshConfig", "mesh", "{tracing: {otlpEndpoint: 'http://otel:4317'}}"),
        &[
            "mesh: Accepted Conflicted: only MeshConfig/outrigger-system/mesh counts; give it this name and namespace",
            "mesh: PartiallyInvalid UnsupportedValue: spec.tracing is not applied by this version",
        ],
    );
}

#[test]
fn route_policies_say_what_they_are_about_and_which_others_count() {
    let http = |name: &str| format!("{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}");
    let policy = |name: &str, targets: &str, rest: &str| {
        own("RoutePolicy", name, &format!("{{targetRefs: [{targets}], {rest}}}"))
    };
    let extension = "filters: [{type: ExtensionRef, extensionRef: {group: outrigger.dev, kind: RoutePolicy, name: gone}}]";
    let rules = format!(
        "[{{name: one, {BACKEND}}}, {{matches: [{{path: {{value: /two}}}}], {BACKEND}, {extension}}}]"
    );
    let yaml = service("reviews", 1)
        + &route("HTTPRoute", "r", &format!("{{{PARENT}, rules: {rules}}}"))
        + &policy("a", &http("r"), "retry: {attempts: 1}")
        + &policy("b", &http("r"), "retry: {attempts: 2}")
        + &policy("c", &http("r").replace("name: r", "name: r, sectionName: one"), "retry: {attempts: 3}")
        + &policy("d", &http("gone"), "retry: {}")
        + &policy("e", &http("r").replace("name: r", "name: r, sectionName: three"), "retry: {}")
        + &policy("f", "{group: apps, kind: Deployment, name: x}", "retry: {}")
        + &policy("g", "", "retry: {}")
        + &policy("h", "{kind: Service, name: reviews}", "retry: {}, fault: {abort: {httpStatus: 503}}");
    check(
        &yaml,
        &[
            "r on reviews: ResolvedRefs InvalidFilter: spec.rules[1].filters: filter ExtensionRef names \
             RoutePolicy/shop/gone, which is not there; the rule answers 500",
            "a on r: PartiallyInvalid Conflicted: spec.retry: on some rules RoutePolicy/shop/c is more specific or older, \
             and counts instead",
            "b on r: Accepted Conflicted: RoutePolicy/shop/c is more specific or older, and counts instead (spec.retry)",
            "d on gone: Accepted TargetNotFound: HTTPRoute/shop/gone is not there",
            "e on r: Accepted TargetNotFound: HTTPRoute/shop/r has no rule with the name \"three\"",
            "f: Accepted TargetNotFound: targetRefs: apps/Deployment cannot be a target; use an HTTPRoute or GRPCRoute \
             (group gateway.networking.k8s.io) or a Service",
            "g: Accepted TargetNotFound: targetRefs is empty, and no rule names it by an ExtensionRef filter",
            "h on reviews: PartiallyInvalid Conflicted: spec.retry: on some rules RoutePolicy/shop/c is more specific or older, \
             and counts instead",
        ],
    );
}

#[test]
fn services_say_what_nobody_serves_or_knows() {
    let plain = |name: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n"
        )
    };
    check(
        &plain("a", "{selector: {app: x}, ports: [{port: 80}, {port: 53, protocol: UDP, name: dns}]}"),
        &[
            "a: ResolvedRefs NoEndpoints: port 80 has no endpoint: spec.selector picks no Workload and no Pod",
            "a: PartiallyInvalid UnsupportedProtocol: spec.ports[1]: Udp is not carried by the mesh",
        ],
    );
    check(
        &service("a", 1).replace("targetPort: web", "targetPort: other"),
        &[
            "a: ResolvedRefs NoEndpoints: port 80 has no endpoint: no picked workload is ready and has a port named \"other\"",
        ],
    );
    check(
        &(service("a", 1) + &service("b", 2).replace("10.96.0.2", "10.96.0.1")),
        &["b: PartiallyInvalid Conflicted: spec.clusterIP: 10.96.0.1 is that of Service/shop/a already"],
    );
    let passed = "{hosts: ['*.example'], ports: [{port: 80}], resolution: Passthrough}";
    check(&own("ExternalService", "e", passed), &[]);
}

#[test]
fn a_service_that_only_renames_says_what_it_needs() {
    let renames = |spec: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: shop}}\nspec: {{type: ExternalName, {spec}}}\n"
        )
    };
    check(&renames("externalName: db.example, ports: [{port: 80}]"), &[]);
    for (spec, why) in [
        (
            "ports: [{port: 80}]",
            "spec.externalName: missing or not a host name; write the name that it stands for",
        ),
        (
            "externalName: 'a b', ports: [{port: 80}]",
            "spec.externalName: missing or not a host name; write the name that it stands for",
        ),
        (
            "externalName: db.example",
            "spec.ports: empty, so that the mesh does not know what can be dialled; name the ports",
        ),
    ] {
        check(&renames(spec), &[&format!("a: Accepted UnsupportedValue: {why}")]);
    }
}

#[test]
fn the_journal_tells_a_problem_once_and_its_solution_once() {
    let bad = world(&service("a", 1).replace("targetPort: web", "targetPort: other"));
    let good = world(&service("a", 1));
    let mut journal = Journal::default();
    let first = journal.update(&bad);
    assert_eq!((first.appeared.len(), first.solved.len()), (1, 0));
    assert!(
        first.appeared[0].contains("Service/shop/a: not ResolvedRefs (NoEndpoints)"),
        "{:?}",
        first.appeared
    );
    assert_eq!(journal.update(&bad), News::default());
    assert_eq!(journal.update(&good).solved, first.appeared);
    assert_eq!(journal.update(&good), News::default());
}

#[test]
fn inbound_policies_say_what_does_not_count() {
    let on = |name: &str| format!("targetRefs: [{{group: '', kind: Service, name: {name}}}]");
    let jwt = "jwt: {issuer: i, jwksUri: 'https://i.example/keys'}";
    let yaml = service("reviews", 1)
        + &own("InboundPolicy", "a", &format!("{{{}, mtls: Strict}}", on("reviews")))
        + &own("InboundPolicy", "b", &format!("{{{}, mtls: Permissive, concurrency: {{}}}}", on("reviews")))
        + &own("InboundPolicy", "c", &format!("{{{}}}", on("gone")))
        + &own(
            "InboundPolicy",
            "d",
            "{targetRefs: [{group: outrigger.dev, kind: Workload, name: reviews-1}]}",
        )
        + &own("InboundPolicy", "e", "{mtls: Strict}")
        + &own("InboundPolicy", "f", &format!("{{mtls: Strict, {jwt}}}"));
    check(
        &yaml,
        &[
            "b on reviews: PartiallyInvalid Conflicted: spec.mtls: InboundPolicy/shop/a is older, and counts instead",
            "c on gone: Accepted TargetNotFound: Service/shop/gone is not there",
            "d: Accepted TargetNotFound: targetRefs: a Workload cannot be a target; use a Service",
            "f: ResolvedRefs Invalid: spec.jwt.jwksUri: the keys of https://i.example/keys are not fetched yet; until \
             then every request is refused (unauthenticated)",
            "f: PartiallyInvalid Conflicted: spec.mtls: InboundPolicy/shop/e is older, and counts instead",
        ],
    );
}

/// What is worth knowing of a policy, though all is well.
fn note(yaml: &str) -> String {
    let statuses = evaluate(&world(yaml));
    let status = statuses.iter().find(|status| status.object.name.as_ref() == "p").unwrap();
    assert!(status.conditions.iter().all(|condition| !condition.is_problem()), "{status:?}");
    status.conditions[0].message.clone()
}

#[test]
fn authorization_policies_say_what_is_not_there_and_what_does_not_count() {
    let on = |kind: &str, name: &str| format!("targetRefs: [{{kind: {kind}, name: {name}}}]");
    let yaml = service("reviews", 1)
        + &own("AuthorizationPolicy", "a", &format!("{{{}, rules: [{{}}]}}", on("Service", "reviews")))
        + &own("AuthorizationPolicy", "b", &format!("{{{}}}", on("Service", "gone")))
        + &own("AuthorizationPolicy", "c", &format!("{{{}}}", on("Workload", "reviews-1")))
        + &own("AuthorizationPolicy", "d", "{rule: []}")
        + &own("AuthorizationPolicy", "e", "{action: Deny, rules: [{to: [{ports: [0]}]}]}");
    check(
        &yaml,
        &[
            "b on gone: Accepted TargetNotFound: Service/shop/gone is not there",
            "b on gone: ResolvedRefs TargetNotFound: Service/shop/gone is not there",
            "c: Accepted TargetNotFound: targetRefs: a Workload cannot be a target; use a Service",
            "c: ResolvedRefs TargetNotFound: targetRefs: a Workload cannot be a target; use a Service",
            "d: Accepted UnsupportedValue: spec.rule: unknown field; expected one of targetRefs, selector, action, rules; \
             until it is mended everything that it is about is refused",
            "e: PartiallyInvalid UnsupportedValue: spec.rules[0].to[0].ports[0]: 0 is not a whole number from 1 to 65535; \
             the rule denies everything until it is mended",
        ],
    );
}

#[test]
fn authorization_policies_say_which_rules_do_not_do_what_they_seem_to() {
    let policy = |spec: &str| own("AuthorizationPolicy", "p", spec);
    let strict = own("InboundPolicy", "strict", "{mtls: Strict}");
    let tokens = own("InboundPolicy", "tokens", "{jwt: {issuer: i, jwksUri: 'https://j'}}");
    let claim = policy("{rules: [{}, {when: [{claim: a}]}]}");
    let told = "spec.rules[1].when asks for a claim, and no InboundPolicy of the namespace has jwt: no request has claims";
    assert_eq!((note(&claim).as_str(), note(&(claim.clone() + &tokens)).as_str()), (told, ""));
    let identity = policy("{action: Deny, rules: [{from: [{namespaces: [a]}]}]}");
    let told = "spec.rules[0].from asks for an identity, and plaintext is let in (mtls: Permissive): it has none, and the \
                rule does not match it";
    assert_eq!((note(&identity).as_str(), note(&(identity.clone() + &strict)).as_str()), (told, ""));
    assert_eq!(note(&policy("{action: Deny}")), "without rules it matches nothing");
    assert_eq!(
        note(&policy("{}")),
        "no rule allows anything, so that what no other policy allows is refused"
    );
    let bytes = service("db", 1)
        .replace("name: http, port: 80", "name: tcp, port: 5432")
        .replace("targetPort: web", "targetPort: 5433");
    let on =
        |to: &str| policy(&format!("{{targetRefs: [{{kind: Service, name: db}}], rules: [{{to: [{to}]}}]}}"));
    let told = "spec.rules[0] asks for what only HTTP has, and port 5432 carries bytes: there it allows no connection";
    for (to, expected) in [
        ("{methods: [GET]}", told),
        ("{paths: [/a], ports: [5433]}", told),
        ("{ports: [5433]}", ""),
        ("{paths: [/a], ports: [1]}", ""),
    ] {
        assert_eq!(note(&(bytes.clone() + &on(to))), expected, "{to}");
    }
}
