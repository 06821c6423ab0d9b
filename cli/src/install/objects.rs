//! The objects of an installation, in the order in which they are applied.

use outrigger_control_plane::kubernetes::names;
use outrigger_resources::mesh_config::MESH_CONFIG_NAME;
use serde_json::{Map, Value, json};

use super::{Availability, Extra, Mtls, Settings, deployment, metadata, monitoring, rights, webhooks};

/// The CustomResourceDefinitions of our kinds.
pub(crate) fn definitions() -> Vec<Value> {
    outrigger_resources::crd::definitions()
        .into_iter()
        .map(|mut definition| {
            definition["metadata"]["labels"] = metadata::labels();
            definition
        })
        .collect()
}

/// Everything of an installation but the CustomResourceDefinitions. A MeshConfig comes before the webhook that would
/// judge it, and what opens pods to the injector comes last.
pub(crate) fn objects(settings: &Settings) -> Vec<Value> {
    let namespace = settings.namespace.as_str();
    let mut objects = vec![namespace_object(namespace), service_account(namespace)];
    objects.extend(rights::objects(namespace));
    objects.push(service(namespace));
    objects.push(deployment::deployment(settings));
    if settings.availability == Availability::High {
        objects.push(deployment::disruption_budget(namespace));
    }
    objects.extend(settings.extras.iter().map(|extra| match extra {
        Extra::NetworkPolicy => network_policy(namespace),
        Extra::ServiceMonitor => monitoring::service_monitor(namespace),
        Extra::PodMonitor => monitoring::pod_monitor(namespace),
    }));
    objects.extend(mesh_config(settings));
    objects.extend([webhooks::validator(namespace), webhooks::injector(namespace)]);
    objects
}

fn namespace_object(name: &str) -> Value {
    let mut metadata = metadata::cluster(name);
    metadata["labels"]["pod-security.kubernetes.io/enforce"] = "restricted".into();
    metadata["labels"][names::INJECT] = "disabled".into();
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

fn service_account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata::control_plane(namespace),
        "automountServiceAccountToken": false,
    })
}

fn service(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata::control_plane(namespace),
        "spec": {
            "selector": metadata::selector(),
            "ports": [
                {"name": "tls-xds", "port": names::XDS_TLS_PORT, "targetPort": "tls-xds", "protocol": "TCP"},
                {"name": "http", "port": names::HTTP_PORT, "targetPort": "http", "protocol": "TCP"},
                {
                    "name": "https-webhook",
                    "port": webhooks::SERVICE_PORT,
                    "targetPort": "https-webhook",
                    "protocol": "TCP",
                },
            ],
        },
    })
}

/// Nodes probe and the API server calls from addresses that a NetworkPolicy cannot name, so ports are what is limited.
fn network_policy(namespace: &str) -> Value {
    let port = |port: u16| json!({"port": port, "protocol": "TCP"});
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata::control_plane(namespace),
        "spec": {
            "podSelector": {"matchLabels": metadata::selector()},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "ports": [port(names::XDS_TLS_PORT), port(names::HTTP_PORT), port(names::WEBHOOK_PORT)],
            }],
        },
    })
}

fn mesh_config(settings: &Settings) -> Option<Value> {
    let mtls = settings.mtls.map(|mtls| match mtls {
        Mtls::Strict => "Strict",
        Mtls::Permissive => "Permissive",
    });
    let written = [("mtls", mtls), ("trustDomain", settings.trust_domain.as_deref())];
    let spec: Map<String, Value> = written
        .into_iter()
        .filter_map(|(field, value)| Some((field.to_owned(), Value::from(value?))))
        .collect();
    settings.has_mesh_config().then(|| {
        json!({
            "apiVersion": "outrigger.dev/v1alpha1",
            "kind": "MeshConfig",
            "metadata": metadata::namespaced(MESH_CONFIG_NAME, &settings.namespace),
            "spec": spec,
        })
    })
}
