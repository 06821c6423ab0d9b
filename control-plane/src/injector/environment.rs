//! How the sidecar is configured: the environment variables of its flags.

use serde_json::{Value, json};

use super::annotations::Wishes;
use super::probes::Probes;
use super::quantity::amount;
use super::{Settings, scrape};

/// Where the token of the workload is mounted; the file is [`TOKEN_FILE`].
pub(super) const TOKEN_DIR: &str = "/var/run/secrets/outrigger";
/// The name of the token's file.
pub(super) const TOKEN_FILE: &str = "token";
/// Where the roots of the mesh are mounted.
pub(super) const TRUST_BUNDLE_DIR: &str = "/var/run/outrigger/trust-bundle";
/// Where the volume in memory is mounted that outlives a restart of the sidecar, not its pod.
pub(super) const STATE_DIR: &str = "/var/lib/outrigger";
/// Where in it the sidecar keeps its last good configuration, and its certificate. The mount point itself is the kubelet's,
/// which lets everybody write there; this directory the sidecar makes for itself.
const STATE_OF_PROXY: &str = "/var/lib/outrigger/proxy";

/// Worker threads of a sidecar without a CPU limit: as many as a node has CPUs would be too many beside every pod.
const WORKERS_WITHOUT_LIMIT: u32 = 2;
/// The most worker threads, as the proxy has it.
const MAX_WORKERS: u32 = 256;

/// What the environment of a sidecar is made of.
pub(super) struct Environment<'a> {
    pub(super) pod: &'a Value,
    pub(super) settings: &'a Settings,
    pub(super) wishes: &'a Wishes,
    pub(super) probes: &'a Probes,
    pub(super) cpu_limit: Option<&'a str>,
}

impl Environment<'_> {
    /// The variables, in a fixed order.
    pub(super) fn variables(&self) -> Value {
        let mut variables = vec![
            plain("OUTRIGGER_CONTROL_PLANE", &self.settings.control_plane),
            from_pod("OUTRIGGER_NAMESPACE", "metadata.namespace"),
            from_pod("OUTRIGGER_SERVICE_ACCOUNT", "spec.serviceAccountName"),
            from_pod("OUTRIGGER_WORKLOAD", "metadata.name"),
            from_pod("OUTRIGGER_ADDRESS", "status.podIP"),
            plain("OUTRIGGER_TOKEN_FILE", &format!("{TOKEN_DIR}/{TOKEN_FILE}")),
            plain(
                "OUTRIGGER_TRUST_BUNDLE",
                &format!("{TRUST_BUNDLE_DIR}/{}", crate::kubernetes::names::AUTHORITIES_KEY),
            ),
            plain("OUTRIGGER_STATE_DIR", STATE_OF_PROXY),
            plain("OUTRIGGER_STATE_IDENTITY", "true"),
            plain("OUTRIGGER_WORKERS", &self.workers().to_string()),
        ];
        let labels = self.labels();
        let optional = [
            ("OUTRIGGER_LABEL", Some(labels).filter(|labels| !labels.is_empty())),
            (
                "OUTRIGGER_LOG_LEVEL",
                self.wishes.log_level.clone().or_else(|| self.settings.log_level.clone()),
            ),
            ("OUTRIGGER_PROBES", self.probes.to_json()),
            ("OUTRIGGER_APPLICATION_METRICS", scrape::application(self.pod)),
        ];
        let given = optional.into_iter().filter_map(|(name, value)| value.map(|value| plain(name, &value)));
        variables.extend(given);
        variables.into()
    }

    /// The labels of the pod, by which policies find it. Neither keys nor values of labels have commas.
    fn labels(&self) -> String {
        let labels = self.pod.pointer("/metadata/labels").and_then(Value::as_object);
        let pairs = labels.into_iter().flatten();
        let pairs = pairs.filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")));
        pairs.collect::<Vec<_>>().join(",")
    }

    fn workers(&self) -> u32 {
        let limit = self.cpu_limit.and_then(amount);
        limit.map_or(WORKERS_WITHOUT_LIMIT, |cpus| (cpus.ceil() as u32).clamp(1, MAX_WORKERS))
    }
}

/// A variable with a value as it is: `$(NAME)` would be replaced by Kubernetes, `$$` stands for `$`.
fn plain(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value.replace('$', "$$")})
}

fn from_pod(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
}
