//! Reviews in, answers out: those that an API server sends, and those that nobody should.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use outrigger_base::telemetry::metrics::{Format, Registry};
use outrigger_resources::{Location, parse_value};
use serde_json::json;
use tower::ServiceExt;

use super::*;

const ROUTE: &str = "gateway.networking.k8s.io/v1";

/// A question, its answer's status and body, and what is counted.
struct Asked {
    status: StatusCode,
    text: String,
    metrics: String,
}

async fn ask_with(path: &str, media_type: &str, body: impl Into<axum::body::Body>) -> Asked {
    let registry = Registry::new();
    let router = router(Settings::default(), Meters::new(registry.clone()));
    let request = Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, media_type);
    let answer = router.oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let status = answer.status();
    let text = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Asked { status, text, metrics: registry.render(Format::Prometheus) }
}

async fn ask(path: &str, request: Value) -> Asked {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    ask_with(path, "application/json", review.to_string()).await
}

impl Asked {
    /// The answer of a review that could be answered.
    fn response(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let review: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(
            (&review["apiVersion"], &review["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        assert_eq!(review["response"]["uid"], "u1");
        review["response"].clone()
    }

    fn is_counted_as(&self, outcome: &str) -> bool {
        self.metrics.contains(&format!("outrigger_control_plane_injections_total{{outcome=\"{outcome}\"}} 1"))
    }
}

fn create(group: &str, kind: &str, object: Value) -> Value {
    json!({
        "uid": "u1", "operation": "CREATE", "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": "pods"},
        "namespace": "shop", "object": object, "oldObject": null, "dryRun": true,
        "userInfo": {"username": "system:admin"}, "options": {"kind": "CreateOptions"},
    })
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "web"}]}})
}

#[tokio::test]
async fn a_pod_gets_a_patch_that_makes_it_the_pod_that_inject_makes() {
    let asked = ask("/inject", create("", "Pod", pod())).await;
    let response = asked.response();
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &patch).unwrap();
    let facts = crate::injector::NamespaceFacts { name: "shop".into(), wish: crate::injector::Wish::Enabled };
    let injected = crate::injector::inject(&pod(), &Settings::default(), &facts);
    assert_eq!(injected, Ok(crate::injector::Outcome::Injected(patched)));
    assert!(asked.is_counted_as("injected"), "{}", asked.metrics);
}

#[tokio::test]
async fn what_is_not_injected_is_allowed_as_it_is() {
    let mut opted_out = pod();
    opted_out["metadata"]["annotations"] = json!({"outrigger.dev/inject": "disabled"});
    let mut update = create("", "Pod", pod());
    update["operation"] = "UPDATE".into();
    let mut system = create("", "Pod", pod());
    system["namespace"] = "kube-system".into();
    for request in [
        create("", "Pod", opted_out),
        update,
        system,
        create("apps", "Deployment", json!({})),
        create("example.org", "Unknown", Value::Null),
    ] {
        let asked = ask("/inject", request.clone()).await;
        let response = asked.response();
        assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None), "{request}");
        assert!(asked.is_counted_as("skipped"), "{request}");
    }
}

#[tokio::test]
async fn a_pod_whose_annotations_cannot_be_read_is_refused_with_the_fix() {
    let mut bad = pod();
    bad["metadata"]["annotations"] = json!({"outrigger.dev/proxy-cpu-request": "lots"});
    let asked = ask("/inject", create("", "Pod", bad)).await;
    let response = asked.response();
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("outrigger.dev/proxy-cpu-request") && message.contains("100m"), "{message}");
    assert!(asked.is_counted_as("refused"));
}

#[tokio::test]
async fn what_is_no_review_is_answered_with_a_sentence() {
    let review = |version: &str, kind: &str, request: Value| {
        json!({"apiVersion": version, "kind": kind, "request": request}).to_string()
    };
    let v1 = |request: Value| review("admission.k8s.io/v1", "AdmissionReview", request);
    let (json_type, bad) = ("application/json", StatusCode::BAD_REQUEST);
    for (media_type, body, status, part) in [
        ("text/plain", v1(create("", "Pod", pod())), StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json"),
        ("", String::new(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json"),
        (json_type, String::new(), bad, "not JSON"),
        (json_type, "{".repeat(10_000), bad, "not JSON"),
        (json_type, "[".repeat(100_000), bad, "not JSON"),
        (json_type, "[]".to_owned(), bad, "the kind is \"\""),
        (
            json_type,
            review("admission.k8s.io/v1beta1", "AdmissionReview", json!({})),
            bad,
            "speaks admission.k8s.io/v1",
        ),
        (json_type, review("v1", "Pod", json!({})), bad, "the kind is \"Pod\""),
        (json_type, v1(Value::Null), bad, "has no request"),
        (json_type, v1(json!({})), bad, "uid"),
        (json_type, v1(json!({"uid": "", "operation": "CREATE", "kind": {"kind": "Pod"}})), bad, "no uid"),
        (
            json_type,
            v1(json!({"uid": 1, "operation": "CREATE", "kind": {"kind": "Pod"}})),
            bad,
            "cannot be read",
        ),
        (json_type, " ".repeat(MAX_REVIEW_BYTES + 1), StatusCode::PAYLOAD_TOO_LARGE, "8388608 bytes"),
    ] {
        for path in ["/inject", "/validate"] {
            let asked = ask_with(path, media_type, body.clone()).await;
            assert_eq!(asked.status, status, "{}: {:.100}", asked.text, body);
            assert!(asked.text.contains(part) && asked.text.lines().count() == 1, "{}", asked.text);
            assert_eq!(asked.is_counted_as("malformed"), path == "/inject");
        }
    }
    let asked = ask_with("/inject", "application/json; charset=utf-8", v1(create("", "Pod", pod()))).await;
    assert_eq!(asked.response()["allowed"], true);
}

#[tokio::test(start_paused = true)]
async fn a_review_that_does_not_come_is_given_up() {
    let never =
        axum::body::Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let asked = ask_with("/inject", "application/json", never).await;
    assert_eq!(asked.status, StatusCode::REQUEST_TIMEOUT);
}

/// A RoutePolicy with a spec.
fn policy(spec: Value) -> Value {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "RoutePolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec,
    })
}

fn good() -> Value {
    json!({
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "reviews"}],
        "retry": {"on": ["5xx"], "attempts": 2},
    })
}

fn bad() -> Value {
    let mut spec = good();
    spec["retry"]["attempts"] = "two".into();
    spec
}

#[tokio::test]
async fn an_object_of_ours_is_judged_as_outrigger_validate_does() {
    let judged = |object: Value| async {
        ask("/validate", create("outrigger.dev", "RoutePolicy", object)).await.response()
    };
    assert_eq!(judged(policy(good())).await, json!({"uid": "u1", "allowed": true}));
    let response = judged(policy(bad())).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    let location = Location { file: "a".into(), line: 0, column: 0 };
    let said = parse_value(policy(bad()), &location).problems[0].to_string();
    assert_eq!(format!("a: {message}"), said);
    assert!(message.starts_with("RoutePolicy/shop/p: spec.retry.attempts: "), "{message}");
    let mut generated = policy(good());
    generated["metadata"] = json!({"generateName": "p-", "namespace": "shop"});
    assert_eq!(judged(generated).await["allowed"], true);
    let route = json!({"apiVersion": ROUTE, "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "shop"}, "spec": {"rules": 1}});
    assert_eq!(judged(route).await["allowed"], false);
    assert_eq!(judged(Value::Null).await["allowed"], true);
}

#[tokio::test]
async fn what_was_wrong_before_does_not_hold_up_other_changes() {
    let changed = |operation: &str, old: Value, object: Value| {
        let mut request = create("outrigger.dev", "RoutePolicy", object);
        request["operation"] = operation.into();
        request["oldObject"] = old;
        async move { ask("/validate", request).await.response() }
    };
    let labelled = changed("UPDATE", policy(bad()), policy(bad())).await;
    assert_eq!(labelled["allowed"], true);
    assert!(labelled["warnings"][0].as_str().unwrap().contains("spec.retry.attempts"));
    assert_eq!(changed("UPDATE", policy(good()), policy(bad())).await["allowed"], false);
    assert_eq!(changed("DELETE", policy(bad()), Value::Null).await["allowed"], true);
    let mut leaving = policy(bad());
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(changed("UPDATE", policy(good()), leaving).await["allowed"], true);
    let mut status = create("outrigger.dev", "RoutePolicy", policy(bad()));
    status["subResource"] = "status".into();
    assert_eq!(ask("/validate", status).await.response()["allowed"], true);
}
