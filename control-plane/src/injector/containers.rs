//! Our two containers, and the volumes that they need.

use serde_json::{Map, Value, json};

use super::annotations::{self, Wishes};
use super::environment::{Environment, STATE_DIR, TOKEN_DIR, TOKEN_FILE, TRUST_BUNDLE_DIR};
use super::probes::Probes;
use super::quantity::amount;
use super::{Mode, Refusal, Settings};
use crate::kubernetes::names;

/// How long a token lives, in seconds; the kubelet replaces it at four fifths of that.
const TOKEN_SECONDS: u32 = 3600;
/// Readable for the sidecar's user whatever the pod's `fsGroup` is; only our containers mount it.
const TOKEN_MODE: u32 = 0o644;
/// The most that the state of a sidecar takes in memory.
const STATE_SIZE: &str = "64Mi";
/// How often a sidecar that starts is asked whether it is ready, in seconds. Containers behind it wait for that.
const STARTUP_PERIOD_SECONDS: u32 = 1;
/// So many answers of "not yet" are taken before the sidecar is started anew: it waits for the control plane.
const STARTUP_FAILURES: u32 = 600;
/// The program in the image, for hooks; otherwise the image itself says what it runs.
const PROGRAM: &str = "outrigger-proxy";
/// How long containers behind a sidecar of `legacy` mode wait for it before it is started anew.
const START_WITHIN: &str = "600s";
/// How long a sidecar of `legacy` mode stays for an application that ends at the same time.
const STAY_FOR: &str = "5s";
/// How long the kubelet waits for an answer, in seconds.
const PROBE_TIMEOUT_SECONDS: u32 = 3;

/// Requests and limits of the sidecar.
struct Resources(Value);

/// The sidecar.
pub(super) fn proxy(
    pod: &Value,
    settings: &Settings,
    wishes: &Wishes,
    probes: &Probes,
) -> Result<Value, Refusal> {
    let resources = Resources::of(settings, wishes)?;
    let environment =
        Environment { pod, settings, wishes, probes, cpu_limit: resources.cpu_limit() }.variables();
    let mut container = json!({
        "name": names::PROXY_CONTAINER,
        "image": settings.image,
        "args": ["run"],
        "env": environment,
        "ports": [{"name": names::METRICS_PORT_NAME, "containerPort": names::PROXY_METRICS_PORT, "protocol": "TCP"}],
        "readinessProbe": probe("/healthz/ready", 2, 3),
        "livenessProbe": probe("/healthz/live", 10, 3),
        "resources": resources.0,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": names::PROXY_UID,
            "runAsNonRoot": true,
            "runAsUser": names::PROXY_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": names::TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": true},
            {"name": names::TRUST_BUNDLE_VOLUME, "mountPath": TRUST_BUNDLE_DIR, "readOnly": true},
            {"name": names::STATE_VOLUME, "mountPath": STATE_DIR},
        ],
    });
    container["startupProbe"] = probe("/healthz/ready", STARTUP_PERIOD_SECONDS, STARTUP_FAILURES);
    match settings.mode {
        Mode::Native => container["restartPolicy"] = "Always".into(),
        Mode::Legacy => container["lifecycle"] = hooks(),
    }
    pull_policy(&mut container, settings);
    Ok(container)
}

/// The step that redirects the pod's packets to the sidecar. It has no more rights than that takes.
pub(super) fn redirect(settings: &Settings, wishes: &Wishes) -> Result<Value, Refusal> {
    let mut args = vec!["redirect".to_owned()];
    let lists = [
        ("--skip-inbound-ports", &wishes.skip_inbound_ports),
        ("--skip-outbound-ports", &wishes.skip_outbound_ports),
        ("--skip-outbound-cidrs", &wishes.skip_outbound_cidrs),
    ];
    for (flag, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
        args.push(format!("{flag}={}", items.join(",")));
    }
    let mut container = json!({
        "name": names::REDIRECT_CONTAINER,
        "image": settings.image,
        "args": args,
        // The lock of iptables: its usual place is on the root file system, which is read-only.
        "env": [{"name": "XTABLES_LOCKFILE", "value": format!("{STATE_DIR}/xtables.lock")}],
        // It is over when the sidecar starts, so the same amounts cost the pod nothing more.
        "resources": Resources::of(settings, wishes)?.0,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": names::STATE_VOLUME, "mountPath": STATE_DIR}],
    });
    pull_policy(&mut container, settings);
    Ok(container)
}

/// The volumes of both.
pub(super) fn volumes() -> [Value; 3] {
    let token = json!({
        "audience": names::TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": TOKEN_FILE,
    });
    [
        json!({
            "name": names::TOKEN_VOLUME,
            "projected": {"defaultMode": TOKEN_MODE, "sources": [{"serviceAccountToken": token}]},
        }),
        // A pod waits until it is there; events of the pod say so.
        json!({"name": names::TRUST_BUNDLE_VOLUME, "configMap": {"name": names::TRUST_BUNDLE}}),
        json!({"name": names::STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": STATE_SIZE}}),
    ]
}

fn probe(path: &str, period_seconds: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": names::PROXY_HEALTH_PORT},
        "periodSeconds": period_seconds,
        "failureThreshold": failures,
        "timeoutSeconds": PROBE_TIMEOUT_SECONDS,
    })
}

/// What Kubernetes does for native sidecars: the containers behind it wait until it is ready, and it goes after them.
fn hooks() -> Value {
    let wait = |flag: &str, time: &str| json!({"exec": {"command": [PROGRAM, "wait", flag, time]}});
    json!({"postStart": wait("--timeout", START_WITHIN), "preStop": wait("--for", STAY_FOR)})
}

fn pull_policy(container: &mut Value, settings: &Settings) {
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
}

impl Resources {
    fn of(settings: &Settings, wishes: &Wishes) -> Result<Self, Refusal> {
        let (mut requests, mut limits) = (Map::new(), Map::new());
        let usual = &settings.resources;
        let cpu = Amounts {
            name: "cpu",
            key: annotations::CPU_REQUEST,
            request: wishes.cpu_request.as_deref(),
            usual_request: &usual.cpu_request,
            limit: wishes.cpu_limit.as_deref(),
            usual_limit: usual.cpu_limit.as_deref(),
        };
        let memory = Amounts {
            name: "memory",
            key: annotations::MEMORY_REQUEST,
            request: wishes.memory_request.as_deref(),
            usual_request: &usual.memory_request,
            limit: wishes.memory_limit.as_deref(),
            usual_limit: usual.memory_limit.as_deref(),
        };
        for kind in [cpu, memory] {
            let limit = kind.limit();
            requests.insert(kind.name.to_owned(), kind.request(limit)?.into());
            if let Some(limit) = limit {
                limits.insert(kind.name.to_owned(), limit.into());
            }
        }
        let mut resources = json!({"requests": requests});
        if !limits.is_empty() {
            resources["limits"] = limits.into();
        }
        Ok(Self(resources))
    }

    fn cpu_limit(&self) -> Option<&str> {
        self.0.pointer("/limits/cpu").and_then(Value::as_str)
    }
}

/// What a pod and an installation say about one resource.
struct Amounts<'a> {
    name: &'a str,
    /// The annotation of the request.
    key: &'a str,
    request: Option<&'a str>,
    usual_request: &'a str,
    limit: Option<&'a str>,
    usual_limit: Option<&'a str>,
}

impl<'a> Amounts<'a> {
    /// The usual limit does not hold a pod that asks for more than that.
    fn limit(&self) -> Option<&'a str> {
        let enough = |limit: &&str| self.request.is_none_or(|request| amount(request) <= amount(limit));
        self.limit.or_else(|| self.usual_limit.filter(enough))
    }

    /// The usual request gives way to a lower limit.
    fn request(&self, limit: Option<&'a str>) -> Result<&'a str, Refusal> {
        let request = self.request.unwrap_or(self.usual_request);
        match limit.filter(|limit| amount(request) > amount(limit)) {
            None => Ok(request),
            Some(limit) if self.request.is_none() => Ok(limit),
            Some(limit) => {
                let message =
                    format!("{request} is more than the limit of {limit}; ask for less or raise the limit");
                Err(Refusal::new(annotations::field(self.key), message))
            }
        }
    }
}
