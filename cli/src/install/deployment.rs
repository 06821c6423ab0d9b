//! The Deployment of the control plane, and what makes it survive the loss of a host.

use std::net::SocketAddr;

use outrigger_control_plane::injector::Mode;
use outrigger_control_plane::kubernetes::names;
use serde_json::{Value, json};

use super::{Availability, Settings, metadata};

/// The user and group of the control plane: `nonroot` of distroless images.
const USER_ID: u32 = 65_532;
/// Plaintext discovery is for its own host only.
const PLAINTEXT_XDS: &str = "127.0.0.1:15010";
/// How long a start may take, objects of a large cluster included, in periods of two seconds.
const MAX_START_PERIODS: u32 = 150;
/// Streams are given ten seconds to end; this is when the node ends what is left.
const TERMINATION_SECONDS: u32 = 30;
const HIGHLY_AVAILABLE_REPLICAS: u32 = 3;
const REPLICAS_THAT_STAY: u32 = 2;

pub(super) fn deployment(settings: &Settings) -> Value {
    let mut deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata::control_plane(&settings.namespace),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": metadata::selector()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": metadata::labels(), "annotations": annotations()},
                "spec": pod(settings),
            },
        },
    });
    if settings.availability == Availability::High {
        merge(&mut deployment, high_availability());
    }
    if let Some(class) = &settings.priority_class {
        deployment["spec"]["template"]["spec"]["priorityClassName"] = class.as_str().into();
    }
    deployment
}

fn annotations() -> Value {
    json!({
        names::INJECT: "disabled",
        "prometheus.io/scrape": "true",
        "prometheus.io/port": names::HTTP_PORT.to_string(),
        "prometheus.io/path": "/metrics",
    })
}

fn pod(settings: &Settings) -> Value {
    json!({
        "serviceAccountName": names::CONTROL_PLANE,
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(settings)],
    })
}

fn container(settings: &Settings) -> Value {
    let address = |port: u16| SocketAddr::new(settings.listen, port).to_string();
    let port = |name: &str, port: u16| json!({"name": name, "containerPort": port, "protocol": "TCP"});
    json!({
        "name": "control-plane",
        "image": settings.control_plane_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--kubernetes",
            "--xds", PLAINTEXT_XDS,
            "--xds-tls", address(names::XDS_TLS_PORT),
            "--http", address(names::HTTP_PORT),
            "--webhook", address(names::WEBHOOK_PORT),
        ],
        "env": environment(settings),
        "ports": [
            port("tls-xds", names::XDS_TLS_PORT),
            port("http", names::HTTP_PORT),
            port("https-webhook", names::WEBHOOK_PORT),
        ],
        "startupProbe": probe("/healthz/live", 2, MAX_START_PERIODS),
        "readinessProbe": probe("/healthz/ready", 5, 2),
        "livenessProbe": probe("/healthz/live", 10, 3),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    })
}

/// What the injector is told goes by the variables of its flags.
fn environment(settings: &Settings) -> Vec<Value> {
    let field = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    let told = &settings.injector;
    let mode = match told.injection_mode {
        Mode::Native => "native",
        Mode::Legacy => "legacy",
    };
    let variables = [
        ("PROXY_IMAGE", &told.proxy_image),
        ("INJECTION_MODE", &Some(mode.to_owned())),
        ("PROXY_CONTROL_PLANE", &told.proxy_control_plane),
        ("PROXY_CPU_LIMIT", &told.proxy_cpu_limit),
        ("PROXY_CPU_REQUEST", &told.proxy_cpu_request),
        ("PROXY_IMAGE_PULL_POLICY", &told.proxy_image_pull_policy),
        ("PROXY_LOG_LEVEL", &told.proxy_log_level),
        ("PROXY_MEMORY_LIMIT", &told.proxy_memory_limit),
        ("PROXY_MEMORY_REQUEST", &told.proxy_memory_request),
    ];
    let variables = variables.into_iter().filter_map(|(name, value)| {
        Some(json!({"name": format!("OUTRIGGER_{name}"), "value": value.as_ref()?}))
    });
    std::iter::once(json!({"name": "OUTRIGGER_MESH_NAMESPACE", "valueFrom": field}))
        .chain(variables)
        .collect()
}

fn probe(path: &str, period_seconds: u32, failure_threshold: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 2,
        "failureThreshold": failure_threshold,
    })
}

/// What the Deployment of a highly available installation says more. The overlay of kustomize is this and its name.
pub(super) fn high_availability() -> Value {
    let selector = json!({"matchLabels": metadata::selector()});
    json!({
        "spec": {
            "replicas": HIGHLY_AVAILABLE_REPLICAS,
            "template": {
                "spec": {
                    "affinity": {
                        "podAntiAffinity": {
                            "preferredDuringSchedulingIgnoredDuringExecution": [{
                                "weight": 100,
                                "podAffinityTerm": {
                                    "topologyKey": "kubernetes.io/hostname",
                                    "labelSelector": selector,
                                },
                            }],
                        },
                    },
                    "topologySpreadConstraints": [{
                        "maxSkew": 1,
                        "topologyKey": "topology.kubernetes.io/zone",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": selector,
                    }],
                },
            },
        },
    })
}

pub(super) fn disruption_budget(namespace: &str) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata::control_plane(namespace),
        "spec": {
            "minAvailable": REPLICAS_THAT_STAY,
            "selector": {"matchLabels": metadata::selector()},
        },
    })
}

/// Lays mappings over mappings; everything else replaces what was there.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
