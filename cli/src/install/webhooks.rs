//! The configurations that make the API server ask the control plane. `caBundle` is not here: the control plane writes
//! it, and until then the API server refuses what it would ask about.

use outrigger_control_plane::injector::SYSTEM_NAMESPACES;
use outrigger_control_plane::kubernetes::names;
use serde_json::{Value, json};

use super::metadata;

/// The port of the Service that has the webhooks: the one that an API server uses unless told otherwise.
pub(super) const SERVICE_PORT: u16 = 443;
/// The label that every namespace has with its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// A pod waits for its sidecar so long, in seconds.
const INJECT_TIMEOUT_SECONDS: u32 = 10;
/// Who applies an object waits so long, in seconds.
const VALIDATE_TIMEOUT_SECONDS: u32 = 5;
/// Our kind that is applied while there is no control plane yet.
const MESH_CONFIGS: &str = "meshconfigs";

pub(super) fn injector(namespace: &str) -> Value {
    let label = |operator: &str, values: &[&str]| json!({"key": names::INJECT, "operator": operator, "values": values});
    let annotations = "object.metadata.annotations";
    let annotated =
        format!("has({annotations}) && '{0}' in {annotations} && {annotations}['{0}']", names::INJECT);
    let not_disabled = format!("!({annotated} == 'disabled')");
    let enabled = format!("{annotated} == 'enabled'");
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": metadata::cluster(names::INJECTOR_WEBHOOK),
        "webhooks": [
            inject(namespace, names::INJECT_NAMESPACE_WEBHOOK, label("In", &["enabled"]), &not_disabled),
            inject(namespace, names::INJECT_POD_WEBHOOK, label("NotIn", &["disabled", "enabled"]), &enabled),
        ],
    })
}

/// A webhook for pods of namespaces that `label` selects, those excepted that must never wait for us.
fn inject(namespace: &str, name: &str, label: Value, condition: &str) -> Value {
    let never: Vec<&str> = SYSTEM_NAMESPACES.into_iter().chain([namespace]).collect();
    json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": client_config(namespace, "/inject"),
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
        "timeoutSeconds": INJECT_TIMEOUT_SECONDS,
        "rules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            "scope": "Namespaced",
        }],
        "namespaceSelector": {
            "matchExpressions": [label, {"key": NAMESPACE_NAME, "operator": "NotIn", "values": never}],
        },
        "objectSelector": {},
        "matchConditions": [{"name": "annotation", "expression": condition}],
    })
}

pub(super) fn validator(namespace: &str) -> Value {
    let mesh_config = |operator: &str| format!("request.resource.resource {operator} '{MESH_CONFIGS}'");
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata::cluster(names::VALIDATOR_WEBHOOK),
        "webhooks": [
            validate(namespace, names::VALIDATE_WEBHOOK, "Fail", &mesh_config("!=")),
            // The chart applies a MeshConfig before its control plane runs, which must not be refused for that.
            validate(namespace, names::VALIDATE_MESH_CONFIG_WEBHOOK, "Ignore", &mesh_config("==")),
        ],
    })
}

fn validate(namespace: &str, name: &str, failure_policy: &str, condition: &str) -> Value {
    json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": client_config(namespace, "/validate"),
        "failurePolicy": failure_policy,
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": VALIDATE_TIMEOUT_SECONDS,
        "rules": [{
            "apiGroups": ["outrigger.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
            "resources": ["*"], "scope": "Namespaced",
        }],
        "namespaceSelector": {},
        "objectSelector": {},
        "matchConditions": [{"name": "kind", "expression": condition}],
    })
}

fn client_config(namespace: &str, path: &str) -> Value {
    json!({
        "service": {
            "name": names::CONTROL_PLANE, "namespace": namespace, "path": path, "port": SERVICE_PORT,
        },
    })
}
