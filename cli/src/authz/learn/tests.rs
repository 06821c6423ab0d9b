//! Lines in, policies out; and whatever was learned passes under what was made of it.

use outrigger_control_plane::explain::receiving::receivers;
use outrigger_control_plane::world::{Change, World};
use outrigger_proxy::authorization::{Authorizer, Call, Caller};
use outrigger_resources::{Kind, ObjectRef, parse_yaml};
use serde_json::{Value, json};

use super::*;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const APP: &str = "spiffe://cluster.local/ns/mobile/sa/app";
const SERVICE: &str = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n\
                       spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 8080}]}\n";

fn line(identity: &str, method: &str, path: &str) -> Value {
    json!({
        "time": "2026-01-01T00:00:00.000Z", "log": "access", "direction": "inbound", "workload": "reviews-1",
        "namespace": "shop", "service": "reviews.shop", "method": method, "path": path, "status": 200,
        "peer.identity": identity, "security": "mtls",
    })
}

fn observed(lines: &[Value]) -> Observed {
    let mut observed = Observed::default();
    lines.iter().for_each(|line| observed.take_line(line.to_string().as_bytes()));
    observed
}

fn learned(observed: &Observed) -> String {
    write::yaml(observed, &policies::learn(observed, 10))
}

/// Whether the learned YAML lets a request in.
fn passes(yaml: &str, identity: &str, request: (&str, &str)) -> bool {
    let parsed = parse_yaml("learned.yaml", &(yaml.to_owned() + SERVICE));
    assert_eq!(parsed.problems, [], "{yaml}");
    let world = World::default().apply(parsed.objects.into_iter().map(Change::from).collect()).0;
    let to = ObjectRef { kind: Kind::Service, namespace: "shop".into(), name: "reviews".into() };
    let receiver = receivers(&world, &to, None).unwrap().remove(0);
    let authorizer = Authorizer::compile(receiver.inbound.authorization.as_ref().unwrap(), "cluster.local");
    let identity = identity.parse().unwrap();
    let caller = Caller { identity: Some(&identity), source: [127, 0, 0, 1].into(), port: receiver.port };
    let headers = http::HeaderMap::new();
    let call = Call {
        method: request.0,
        path: Some(request.1),
        authority: "reviews.shop",
        headers: &headers,
        claims: None,
    };
    authorizer.decide(&authorizer.standing(&caller), Some(&call)).is_allowed()
}

#[test]
fn callers_that_ask_for_the_same_share_a_rule_and_nothing_else_passes() {
    let mut refused = line(APP, "DELETE", "/admin");
    refused["reason"] = "denied".into();
    let mut outbound = line(APP, "GET", "/outbound");
    outbound["direction"] = "outbound".into();
    let mut probing = line(APP, "GET", "/.env");
    probing["status"] = 404.into();
    let seen = observed(&[
        line(WEB, "GET", "/reviews/1"),
        line(WEB, "GET", "/reviews/2"),
        line(APP, "GET", "/reviews/7"),
        line(WEB, "GET", "/healthz"),
        line(APP, "GET", "/healthz"),
        line("", "GET", "/plain"),
        line(WEB, "GET", "/a%2Fb"),
        refused,
        outbound,
        probing,
    ]);
    let yaml = learned(&seen);
    let rules = "  rules:\n  # 5 requests and connections\n  - from:\n    - identities: \
                 [\"spiffe://cluster.local/ns/mobile/sa/app\", \"spiffe://cluster.local/ns/shop/sa/web\"]\n    to:\n    \
                 - methods: [\"GET\"]\n      paths: [\"/healthz\", \"/reviews/*\"]\n";
    assert!(yaml.ends_with(rules), "{yaml}");
    for comment in [
        "# Seen from 2026-01-01T00:00:00.000Z",
        "#   left out: 2 requests that were refused or not found",
        "#   left out, servers may read it differently: GET /a%2Fb (1)",
        "#   in plaintext, without an identity: GET /plain (1); it will be refused",
    ] {
        assert!(yaml.contains(comment), "{yaml}");
    }
    for (identity, request, expected) in [
        (WEB, ("GET", "/reviews/99"), true),
        (APP, ("GET", "/healthz"), true),
        (WEB, ("POST", "/reviews/1"), false),
        (APP, ("DELETE", "/admin"), false),
        (WEB, ("GET", "/plain"), false),
        ("spiffe://cluster.local/ns/shop/sa/other", ("GET", "/healthz"), false),
    ] {
        assert_eq!(passes(&yaml, identity, request), expected, "{identity} {request:?}");
    }
}

#[test]
fn metrics_say_who_and_not_what() {
    let mut seen = observed(&[line(WEB, "GET", "/a")]);
    let labels = |caller: &str, reason: &str| {
        format!(
            "direction=\"inbound\",source_identity=\"{caller}\",destination_service=\"reviews\",\
             destination_workload=\"reviews-1\",destination_namespace=\"shop\",reason=\"{reason}\""
        )
    };
    let text = format!(
        "# HELP x\noutrigger_requests_total{{{}}} 3\noutrigger_requests_total{{{}}} 7\noutrigger_requests_total{{{}}} 2\n",
        labels(WEB, ""),
        labels(APP, ""),
        labels("spiffe://cluster.local/ns/shop/sa/evil", "denied"),
    );
    metrics::take(&text, &mut seen);
    let yaml = learned(&seen);
    assert!(yaml.contains("# What they ask for is not known"), "{yaml}");
    assert!(passes(&yaml, APP, ("PUT", "/anything")));
    assert!(
        passes(&yaml, WEB, ("GET", "/a")) && !passes(&yaml, WEB, ("GET", "/b")),
        "a log says more than a count"
    );
    assert!(!passes(&yaml, "spiffe://cluster.local/ns/shop/sa/evil", ("GET", "/a")));
}

#[test]
fn a_destination_without_a_service_and_lines_of_others_make_no_policy() {
    let mut alone = line(WEB, "GET", "/a");
    alone["service"] = "".into();
    let seen = observed(&[alone, json!({"log": "other"}), json!(7)]);
    let yaml = learned(&seen);
    assert!(yaml.contains("# workload reviews-1 in shop") && !yaml.contains("kind:"), "{yaml}");
    let mut seen = Observed::default();
    read_lines(&b"plain text\n{\n\xff\n"[..], &mut seen).unwrap();
    assert!(seen.is_empty());
}

#[test]
fn whatever_was_learned_passes() {
    // A walk over many shapes of paths rather than random ones, so that every run is the same.
    let names = [
        "a",
        "1",
        "x-1",
        "é",
        "%C3%A9",
        "a%20b",
        "a:b",
        "c@d",
        "~",
        "a*b",
        "deadbeef00",
        ".well-known",
        "a;b",
        "%2e",
        "",
        "\"q",
        "{t}",
        "'",
    ];
    let mut lines = Vec::new();
    for (at, first) in names.iter().enumerate() {
        for second in names {
            let method = ["GET", "POST", "M-SEARCH"][at % 3];
            lines.push(line([WEB, APP][at % 2], method, &format!("/{first}/{second}")));
            lines.push(line(WEB, method, &format!("/{first}")));
        }
    }
    let seen = observed(&lines);
    let yaml = learned(&seen);
    let mut checked = 0;
    for (identity, calls) in &seen.destinations.values().next().unwrap().requests {
        for request in calls.keys() {
            // What is kept is decoded; it is sent with what a URL cannot have encoded again.
            let sent: String = request
                .path
                .chars()
                .map(|c| if "% ".contains(c) { format!("%{:02X}", c as u32) } else { c.to_string() })
                .collect();
            if checked % 7 == 0 {
                assert!(passes(&yaml, identity, (&request.method, &sent)), "{request:?}\n{yaml}");
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}
