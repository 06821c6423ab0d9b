//! What a person would type: kubectl, and waiting for what it shows.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::eventually;

use super::{Cluster, GatewayApi};

/// How long a command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// How long something may take that the cluster is bound to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// The pause between two looks, which cost a process each.
const PAUSE: Duration = Duration::from_millis(100);

impl Cluster {
    /// Runs kubectl as somebody who may do everything; what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.program("kubectl").args(args).output(COMMAND_WITHIN).await
    }

    /// Runs kubectl as a service account.
    ///
    /// # Errors
    /// When it fails, with what it said; when the service account is not there.
    pub async fn kubectl_as(&self, namespace: &str, service_account: &str, args: &[&str]) -> Result<String> {
        let kubeconfig = self.kubeconfig_for(namespace, service_account).await?;
        let program = self.program("kubectl").env("KUBECONFIG", kubeconfig);
        program.args(args).output(COMMAND_WITHIN).await
    }

    /// Applies YAML, as the server sees it; objects of others are taken over.
    ///
    /// # Errors
    /// When the API server refuses it, with its words.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile_in(self.path())?;
        fs::write(file.path(), yaml)?;
        self.apply_files(&file.path().display().to_string()).await
    }

    /// Applies the CRDs of the Gateway API, and waits until they can be used.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn apply_gateway_api(&self, channel: GatewayApi) -> Result<()> {
        let dir = self.gateway_api(channel).display().to_string();
        self.apply_files(&dir).await?;
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", &dir];
        self.kubectl(&wait).await.map(drop)
    }

    /// The directory with the CRDs of the Gateway API.
    #[must_use]
    pub fn gateway_api(&self, channel: GatewayApi) -> PathBuf {
        self.servers.gateway_api().join(match channel {
            GatewayApi::Standard => "standard",
            GatewayApi::Experimental => "experimental",
        })
    }

    /// An object; the namespace of what has none is "".
    ///
    /// # Errors
    /// When it is not there.
    pub async fn get_json(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        let text = self.kubectl(&["get", kind, name, "-n", namespace, "-o", "json"]).await?;
        serde_json::from_str(&text).context("kubectl did not print JSON")
    }

    /// The objects of a kind in a namespace, or of all when it is "", that have these labels (`app=web`).
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn list_json(&self, kind: &str, namespace: &str, labels: &str) -> Result<Vec<Value>> {
        let mut args = vec!["get", kind, "-l", labels, "-o", "json"];
        if namespace.is_empty() {
            args.push("--all-namespaces");
        } else {
            args.extend(["-n", namespace]);
        }
        let mut list: Value = serde_json::from_str(&self.kubectl(&args).await?)?;
        let Value::Array(items) = list["items"].take() else { return Ok(Vec::new()) };
        Ok(items)
    }

    /// Waits until an object is there and is as the predicate wants it.
    ///
    /// # Errors
    /// When that does not happen, with what was there last.
    pub async fn wait_for(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Err(anyhow!("nobody has looked"));
        let found = eventually(PATIENCE, async || {
            last = self.get_json(kind, namespace, name).await;
            let wanted = last.as_ref().ok().filter(|found| is_wanted(found)).cloned();
            if wanted.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
            wanted
        });
        found.await.with_context(|| format!("{kind} {namespace}/{name} is not as wanted: {last:#?}"))
    }

    /// Waits until the objects of a kind that have these labels are as the predicate wants them.
    ///
    /// # Errors
    /// When that does not happen, with what was there last.
    pub async fn wait_for_list(
        &self,
        kind: &str,
        namespace: &str,
        labels: &str,
        are_wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>> {
        let mut last = Err(anyhow!("nobody has looked"));
        let found = eventually(PATIENCE, async || {
            last = self.list_json(kind, namespace, labels).await;
            let wanted = last.as_ref().ok().filter(|found| are_wanted(found)).cloned();
            if wanted.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
            wanted
        });
        found
            .await
            .with_context(|| format!("{kind} in {namespace} with {labels} are not as wanted: {last:#?}"))
    }

    /// A token of a service account for an audience, or for the API server when that is "". It lives for an hour.
    ///
    /// # Errors
    /// When the service account is not there.
    pub async fn token(&self, namespace: &str, service_account: &str, audience: &str) -> Result<String> {
        let audience = format!("--audience={audience}");
        let mut args = vec!["create", "token", service_account, "-n", namespace];
        if !audience.ends_with('=') {
            args.push(&audience);
        }
        Ok(self.kubectl(&args).await?.trim().to_owned())
    }

    /// As [`Cluster::token`], bound to a pod, as the kubelet projects it into one.
    ///
    /// # Errors
    /// When the service account or the pod is not there.
    pub async fn token_of_pod(&self, namespace: &str, pod: &str, audience: &str) -> Result<String> {
        let found = self.get_json("pod", namespace, pod).await?;
        let service_account = found["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let (audience, pod) = (format!("--audience={audience}"), format!("--bound-object-name={pod}"));
        let args = ["create", "token", service_account, "-n", namespace, &audience];
        let bound = ["--bound-object-kind=Pod", &pod];
        Ok(self.kubectl(&[&args[..], &bound[..]].concat()).await?.trim().to_owned())
    }

    async fn apply_files(&self, path: &str) -> Result<String> {
        let how = ["apply", "--server-side", "--force-conflicts", "--field-manager=outrigger-tests"];
        self.kubectl(&[&how[..], &["-f", path]].concat()).await
    }
}
