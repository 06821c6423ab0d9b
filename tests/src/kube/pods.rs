//! What a scheduler and a kubelet write of nodes and pods.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Cluster;

/// The label of a node that says where it stands.
const ZONE: &str = "topology.kubernetes.io/zone";

impl Cluster {
    /// Adds a node that is ready, in a zone.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn add_node(&self, name: &str, zone: &str) -> Result<()> {
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {ZONE: zone}}});
        self.apply(&node.to_string()).await?;
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}).to_string();
        self.kubectl(&["patch", "node", name, "--subresource=status", "-p", &status]).await.map(drop)
    }

    /// Binds a pod to a node, as a scheduler does. A Service has the endpoints of pods that are on a node, and of no
    /// others.
    ///
    /// # Errors
    /// When the pod is not there, or bound already.
    pub async fn bind_pod(&self, namespace: &str, pod: &str, node: &str) -> Result<()> {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding");
        let request = http::Request::post(path).header("content-type", "application/json");
        let client = self.client().await?;
        let answer = client.request::<Value>(request.body(binding.to_string().into_bytes())?).await;
        answer.map(drop).with_context(|| format!("cannot bind the pod {namespace}/{pod} to {node}"))
    }

    /// Says that a pod is ready at an address, as a kubelet does.
    ///
    /// # Errors
    /// When the pod is not there.
    pub async fn set_pod_ready(&self, namespace: &str, pod: &str, address: &str) -> Result<()> {
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        let patch = ["patch", "pod", pod, "-n", namespace, "--subresource=status", "-p", &status.to_string()];
        self.kubectl(&patch).await.map(drop)
    }
}
