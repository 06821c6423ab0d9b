//! Evicts pods that missed injection, so that their owners make new ones. PodDisruptionBudgets are kept by the API server.

use serde_json::{Value, json};

use super::Finding;
use super::control_plane::first_few;
use super::workloads::name;
use crate::cluster::{Cluster, text};

/// What the API server answers when a budget would be broken.
const HELD_BACK: u16 = 429;

pub(super) async fn evict(cluster: &Cluster, pods: &[&Value]) -> Vec<Finding> {
    let check = "evictions";
    let (mut evicted, mut held, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    for pod in pods {
        if !has_owner(pod) {
            findings.push(Finding::warning(
                check,
                format!("{} has no owner that would make it anew", name(pod)),
                "delete it and make it again yourself",
            ));
            continue;
        }
        match ask(cluster, pod).await {
            Ok(status) if status < 300 => evicted.push(name(pod)),
            Ok(HELD_BACK) => held.push(name(pod)),
            Ok(status) => findings.push(Finding::failed(
                check,
                format!("{}: the API server answered {status}", name(pod)),
                "see whether you may create pods/eviction there",
            )),
            Err(error) => {
                findings.push(Finding::failed(check, format!("{}: {error:#}", name(pod)), "try again"))
            }
        }
    }
    if !evicted.is_empty() {
        findings.push(Finding::ok(check, format!("evicted {}", first_few(&evicted))));
    }
    if !held.is_empty() {
        let message = format!("held back by their PodDisruptionBudgets: {}", first_few(&held));
        findings.push(Finding::warning(check, message, "run this again when the new pods are ready"));
    }
    findings
}

fn has_owner(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    owners.iter().any(|owner| owner["controller"] == true)
}

async fn ask(cluster: &Cluster, pod: &Value) -> anyhow::Result<u16> {
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        // Another pod of the same name may have taken its place.
        "deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    Ok(cluster.post(&path, &eviction).await?.status)
}
