//! Probes of the application. The kubelet speaks plaintext and is no workload of the mesh, so under `mtls: Strict` it
//! could not ask the application; it asks the sidecar instead, which asks the application on its behalf.

use serde_json::{Map, Value, json};

use super::list;
use crate::kubernetes::names;

/// The fields of a container with probes, and what they are called in the path that the kubelet asks for.
const KINDS: [(&str, &str); 3] =
    [("startupProbe", "startup"), ("livenessProbe", "liveness"), ("readinessProbe", "readiness")];

/// What each replaced probe asked for, by `<container>/<startup|liveness|readiness>`.
#[derive(Debug, Default)]
pub(super) struct Probes(Map<String, Value>);

impl Probes {
    /// Replaces the probes of a container by ones that ask the sidecar.
    pub(super) fn replace(&mut self, container: &mut Value) {
        let Some(name) = container.get("name").and_then(Value::as_str).map(str::to_owned) else { return };
        for (field, word) in KINDS {
            let Some(question) = container.get(field).and_then(|probe| question(container, probe)) else {
                continue;
            };
            let key = format!("{name}/{word}");
            if let Some(probe) = container.get_mut(field).and_then(Value::as_object_mut) {
                probe.retain(|key, _| !matches!(key.as_str(), "httpGet" | "tcpSocket" | "grpc"));
                let path = format!("/app-health/{key}");
                probe.insert("httpGet".to_owned(), json!({"path": path, "port": names::PROXY_HEALTH_PORT}));
            }
            self.0.insert(key, question);
        }
    }

    /// As the sidecar reads it; `None` when there is nothing to ask.
    pub(super) fn to_json(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| Value::Object(self.0.clone()).to_string())
    }
}

/// What a probe asks for, with its port as a number. `None` when it does not ask over this pod's network, or for a port
/// that the container does not name: such a probe stays as it is.
fn question(container: &Value, probe: &Value) -> Option<Value> {
    let (how, asked) = ["httpGet", "tcpSocket", "grpc"].into_iter().find_map(|how| {
        let asked = probe.get(how).filter(|asked| asked.is_object())?;
        Some((how, asked))
    })?;
    let field = |name: &str, otherwise: Value| asked.get(name).cloned().unwrap_or(otherwise);
    // Another host is dialled from the node, past the sidecar.
    if field("host", "".into()) != "" {
        return None;
    }
    let port = number(container, asked.get("port")?)?;
    let asked = match how {
        "httpGet" => json!({
            "port": port, "host": "",
            "path": field("path", "/".into()), "scheme": field("scheme", "HTTP".into()),
            "httpHeaders": field("httpHeaders", json!([])),
        }),
        "tcpSocket" => json!({"port": port}),
        _ => json!({"port": port, "service": field("service", "".into())}),
    };
    let timeout = probe.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(1);
    Some(json!({how: asked, "timeoutSeconds": timeout}))
}

/// The port, looked up among the container's own when it is written as a name.
fn number(container: &Value, port: &Value) -> Option<u16> {
    let named = |name: &str| {
        let mut ports = list(container, "/ports");
        ports.find(|port| port.get("name").and_then(Value::as_str) == Some(name))?.get("containerPort")
    };
    let port = match port.as_str() {
        // A port that is written as digits in quotes is a number to the kubelet.
        Some(text) => text.parse().ok().or_else(|| named(text)?.as_u64()),
        None => port.as_u64(),
    };
    port.and_then(|port| port.try_into().ok()).filter(|port: &u16| *port > 0)
}
