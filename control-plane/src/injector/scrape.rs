//! Metrics of the application: who scrapes the pod by its `prometheus.io` annotations finds them beside the sidecar's.
//!
//! Under `mtls: Strict` a scraper outside of the mesh could not reach the application's port; the sidecar's it can.

use serde_json::{Map, Value};

use super::{annotation, list};
use crate::kubernetes::names;

const SCRAPE: &str = "prometheus.io/scrape";
const PORT: &str = "prometheus.io/port";
const PATH: &str = "prometheus.io/path";
const SCHEME: &str = "prometheus.io/scheme";

/// Where the application serves its metrics, if it says so: a URL that the sidecar reads.
pub(super) fn application(pod: &Value) -> Option<String> {
    let wanted = annotation(pod, SCRAPE) == Some("true");
    let plaintext = annotation(pod, SCHEME).is_none_or(|scheme| scheme == "http");
    if !wanted || !plaintext {
        return None;
    }
    let port = match annotation(pod, PORT) {
        Some(written) => written.parse().ok().filter(|port: &u16| *port > 0)?,
        None => only_port(pod)?,
    };
    // Somebody who asks for the sidecar's own metrics has them.
    (port != names::PROXY_METRICS_PORT).then(|| {
        let path = annotation(pod, PATH).unwrap_or("/metrics");
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("http://127.0.0.1:{port}{slash}{path}")
    })
}

/// Leads scrapers to the sidecar.
pub(super) fn redirect(annotations: &mut Map<String, Value>) {
    annotations.insert(PORT.to_owned(), names::PROXY_METRICS_PORT.to_string().into());
    annotations.insert(PATH.to_owned(), "/metrics".into());
}

/// Without the annotation scrapers try every port; of a single one it is clear which is meant.
fn only_port(pod: &Value) -> Option<u16> {
    let mut ports = list(pod, "/spec/containers").flat_map(|container| list(container, "/ports"));
    let number = |port: &Value| port.get("containerPort")?.as_u64()?.try_into().ok();
    match (ports.next(), ports.next()) {
        (Some(port), None) => number(port),
        _ => None,
    }
}
