//! Reading as tables: a text in, problems or objects out.

use super::*;
use crate::object::Object;

mod authorization_policy;
mod hostile;
mod inbound_policy;
mod kinds;
mod route_policy;
mod routes;

/// Reads a text and compares its problems, one a line.
#[track_caller]
fn check(text: &str, expected: &str) -> Parsed {
    let parsed = parse_yaml("f", text);
    let found: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    let wanted: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(found, wanted, "\n{}", found.join("\n"));
    crate::crd::tests::check_accepts(text);
    parsed
}

/// Reads a text that has one object and no problem.
#[track_caller]
fn only(text: &str) -> Object {
    let mut parsed = check(text, "");
    assert_eq!(parsed.objects.len(), 1);
    parsed.objects.remove(0).object
}

/// What the objects of a text are called.
fn names(parsed: &Parsed) -> Vec<String> {
    parsed.objects.iter().map(|sourced| sourced.object.reference().to_string()).collect()
}

#[test]
fn problems_name_line_field_and_remedy() {
    let parsed = check(
        "apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: a, namespace: shop}
spec: {ports: {http: 80}}
---
apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: b, namespace: shop}
spec:
  address: reviews.example
---
apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: c, namespace: shop}
spec:
  address: 10.0.0.1
  adress: 10.0.0.1
---
apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: d, namespace: shop}
spec:
  address: 10.0.0.1
  ports:
    http: 70000
---
apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata:
  name: e
  labels:
    version: 1
spec: {address: 10.0.0.1}
---
apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: good}
spec: {address: 10.0.0.1}
",
        r#"f:4:1: Workload/shop/a: spec.address: missing; it has to be written
        f:10:3: Workload/shop/b: spec.address: "reviews.example" is not an IP address; write one like 10.0.0.7 or fd00::7; for a host name use an ExternalService
        f:17:3: Workload/shop/c: spec.adress: unknown field; expected one of address, ports, serviceAccount, meshed, locality, weight
        f:25:5: Workload/shop/d: spec.ports.http: 70000 is not a whole number from 1 to 65535
        f:32:5: Workload/default/e: metadata.labels.version: integer 1 where a text is expected; put it in quotes"#,
    );
    assert_eq!(names(&parsed), ["Workload/default/good"]);
    assert_eq!(parsed.objects[0].location.line, 35);
    assert!(!parsed.broken);
    let failed: Vec<String> = parsed.failed().into_iter().map(ToString::to_string).collect();
    let expected =
        ["Workload/default/e", "Workload/shop/a", "Workload/shop/b", "Workload/shop/c", "Workload/shop/d"];
    assert_eq!(failed, expected);
}

#[test]
fn an_object_that_is_not_for_us_is_mentioned() {
    let parsed = check(
        "{apiVersion: v1, kind: Secret, metadata: {name: a}}
---
{apiVersion: outrigger.dev/v1alpha1, kind: AuthorisationPolicy, metadata: {name: a}}
---
{apiVersion: v1, kind: HTTPRoute, metadata: {name: a}}
---
{apiVersion: gateway.networking.k8s.io/v9, kind: HTTPRoute, metadata: {name: a}}
---
{apiVersion: outrigger.dev/v1, kind: AuthorizationPolicy, metadata: {name: a}}
---
{apiVersion: outrigger.dev/v1alpha1, kind: MeshConfig, metadata: {name: other}}
",
        r#"f:1:18: kind: Secret of v1 is not a kind the mesh reads; it is ignored
        f:3:38: kind: AuthorisationPolicy of outrigger.dev/v1alpha1 is not a kind the mesh reads; it is ignored
        f:5:2: apiVersion: "v1" has no HTTPRoute that we know; write gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1 or gateway.networking.k8s.io/v1alpha2 or gateway.networking.k8s.io/v1alpha3
        f:7:1: HTTPRoute/default/a: gateway.networking.k8s.io/v9 is a version we do not read; write gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1 or gateway.networking.k8s.io/v1alpha2 or gateway.networking.k8s.io/v1alpha3
        f:9:1: AuthorizationPolicy/default/a: outrigger.dev/v1 is a version we do not read; write outrigger.dev/v1alpha1; until it is mended everything that it is about is refused
        f:11:1: MeshConfig/default/a: x"#.replace("f:11:1: MeshConfig/default/a: x", r#"f:11:1: MeshConfig/default/other: there is one MeshConfig and its name is "mesh"; this one is ignored"#).as_str(),
    );
    let severities: Vec<Severity> = parsed.problems.iter().map(|problem| problem.severity).collect();
    let (error, warning) = (Severity::Error, Severity::Warning);
    assert_eq!(severities, [warning, error, error, error, error, error]);
    assert_eq!(names(&parsed), ["AuthorizationPolicy/default/a"]);
    assert!(parsed.objects[0].object.is_stand_in() && !parsed.broken);
}

#[test]
fn an_object_without_a_name_leaves_the_text_broken() {
    for (text, expected) in [
        ("kind: Service", "f:1:1: apiVersion: missing; every object starts with apiVersion and kind"),
        ("apiVersion: v1", "f:1:1: kind: missing; every object starts with apiVersion and kind"),
        ("apiVersion: v1\nkind: Service", "f:1:1: metadata.name: missing; which Service is it?"),
        ("hello", "f:1:1: not an object; every object starts with apiVersion and kind"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a.b}",
            r#"f:3:12: metadata.name: "a.b" is not a name; write 1 to 63 of a-z, 0-9 and -, with no - at either end"#,
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: 7}",
            "f:3:12: metadata.name: 7 where a text is expected; put it in quotes",
        ),
    ] {
        let parsed = check(text, expected);
        assert!(parsed.broken, "{text}");
        assert_eq!(parsed.problems[0].effect, Effect::DocumentDropped);
    }
}

#[test]
fn lists_are_expanded_and_their_items_found_again() {
    let parsed = check(
        "apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- apiVersion: outrigger.dev/v1alpha1
  kind: Workload
  metadata: {name: a}
  spec:
    address: nowhere
---
apiVersion: v1
kind: ServiceAccountList
items:
- metadata: {name: web, namespace: shop}
",
        r#"f:9:5: Workload/default/a: spec.address: "nowhere" is not an IP address; write one like 10.0.0.7 or fd00::7; for a host name use an ExternalService"#,
    );
    assert_eq!(names(&parsed), ["Namespace/shop", "ServiceAccount/shop/web"]);
    assert_eq!(parsed.objects[1].location.line, 14);
    assert_eq!(parsed.objects[1].order, 1);
}

#[test]
fn values_of_an_api_server_go_the_same_way() {
    let location = Location { file: "kubernetes".into(), line: 0, column: 0 };
    let value = serde_json::json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": null, "labels": null, "managedFields": []},
        "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "selector": null, "ports": [{"port": 80}]},
    });
    let parsed = parse_value(value, &location);
    assert_eq!(parsed.problems, []);
    assert_eq!(names(&parsed), ["Service/shop/web"]);
    let bad = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": []});
    let problem = parse_value(bad, &location).problems.remove(0).to_string();
    assert_eq!(problem, "kubernetes: Pod/default/p: spec: a list where a mapping is expected");
}

#[test]
fn problems_are_bounded() {
    let text = "---\nkind: x\n".repeat(MAX_PROBLEMS + 5);
    let parsed = parse_yaml("f", &text);
    assert_eq!(parsed.problems.len(), MAX_PROBLEMS + 1);
    assert_eq!(
        parsed.problems[MAX_PROBLEMS].to_string(),
        "f: 5 more problems are not listed; mend these first"
    );
    assert!(parsed.broken);
}
