//! Names and labels that the objects of an installation share.

use outrigger_control_plane::kubernetes::names;
use serde_json::{Value, json};

use super::VERSION;

/// What the Service and the Deployment find the pods of the control plane by. It never changes: a Deployment cannot change it.
pub(super) fn selector() -> Value {
    json!({"app.kubernetes.io/name": "outrigger", "app.kubernetes.io/component": "control-plane"})
}

/// The labels of every object.
pub(super) fn labels() -> Value {
    let mut labels = selector();
    labels["app.kubernetes.io/part-of"] = "outrigger".into();
    labels["app.kubernetes.io/version"] = VERSION.into();
    labels
}

/// The metadata of an object of the whole cluster.
pub(super) fn cluster(name: &str) -> Value {
    json!({"name": name, "labels": labels()})
}

/// The metadata of an object in the namespace of the installation.
pub(super) fn namespaced(name: &str, namespace: &str) -> Value {
    json!({"name": name, "namespace": namespace, "labels": labels()})
}

/// The metadata of what is called as the control plane is.
pub(super) fn control_plane(namespace: &str) -> Value {
    namespaced(names::CONTROL_PLANE, namespace)
}
