//! What the Prometheus Operator scrapes.

use outrigger_control_plane::kubernetes::names;
use serde_json::{Value, json};

use super::metadata;

const API_VERSION: &str = "monitoring.coreos.com/v1";

pub(super) fn service_monitor(namespace: &str) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "ServiceMonitor",
        "metadata": metadata::control_plane(namespace),
        "spec": {
            "selector": {"matchLabels": metadata::selector()},
            "endpoints": [{"port": "http", "path": "/metrics"}],
        },
    })
}

/// Sidecars of all namespaces, by the name of their port.
pub(super) fn pod_monitor(namespace: &str) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "PodMonitor",
        "metadata": metadata::namespaced("outrigger-proxies", namespace),
        "spec": {
            "namespaceSelector": {"any": true},
            "selector": {},
            "podMetricsEndpoints": [{"port": names::METRICS_PORT_NAME, "path": "/metrics"}],
        },
    })
}
