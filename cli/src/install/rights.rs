//! What the control plane may do, as RBAC objects made of its own rules.

use outrigger_control_plane::kubernetes::{names, rbac};
use serde_json::{Value, json};

use super::metadata;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The roles and their bindings. Those for the whole cluster are called after the namespace only where they refer to it:
/// one cluster has one mesh.
pub(super) fn objects(namespace: &str) -> Vec<Value> {
    vec![
        role("ClusterRole", metadata::cluster(names::CONTROL_PLANE), rbac::CLUSTER),
        binding("ClusterRole", metadata::cluster(names::CONTROL_PLANE), namespace),
        role("Role", metadata::control_plane(namespace), rbac::OWN_NAMESPACE),
        binding("Role", metadata::control_plane(namespace), namespace),
    ]
}

fn role(kind: &str, metadata: Value, rules: &[rbac::Rule]) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata, "rules": rules})
}

fn binding(role: &str, metadata: Value, namespace: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": format!("{role}Binding"),
        "metadata": metadata,
        "roleRef": {"apiGroup": GROUP, "kind": role, "name": names::CONTROL_PLANE},
        "subjects": [{"kind": "ServiceAccount", "name": names::CONTROL_PLANE, "namespace": namespace}],
    })
}
