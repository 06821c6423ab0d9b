//! Reads what a running installation is. It decides nothing.

use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use outrigger_control_plane::kubernetes::names;

use super::judge::Found;
use super::sidecars::Sidecar;
use crate::install;

/// Pods that one answer of the API server holds.
const PAGE_PODS: u32 = 500;
/// Where a version is written, on every object of an installation.
const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// A client for the cluster that kubectl would talk to, or the one of `kubeconfig`.
pub(super) async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let unknown = "no cluster is known; give --kubeconfig FILE, or set KUBECONFIG";
    let config = match (kubeconfig, context) {
        (Some(path), _) => {
            let file =
                Kubeconfig::read_from(path).with_context(|| format!("cannot use {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &options).await.context(unknown)?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.context(unknown)?,
        (None, None) => Config::infer().await.context(unknown)?,
    };
    Client::try_from(config).context("the cluster's credentials cannot be used")
}

/// Looks at the installation in `namespace`, and at every pod with a sidecar.
pub(super) async fn look(client: &Client, namespace: &str) -> Result<Found> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deployment = deployments.get_opt(names::CONTROL_PLANE).await.context("cannot read the Deployment")?;
    let label = |deployment: &Deployment| deployment.metadata.labels.as_ref()?.get(VERSION_LABEL).cloned();
    Ok(Found {
        control_plane: deployment.as_ref().map(|found| label(found).unwrap_or_default()),
        replicas: deployment.and_then(|found| found.spec?.replicas).unwrap_or_default(),
        webhook_namespaces: webhook_namespaces(client).await?,
        stored: stored_versions(client).await?,
        sidecars: sidecars(client).await?,
    })
}

async fn webhook_namespaces(client: &Client) -> Result<Vec<String>> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let found = configurations.get_opt(names::INJECTOR_WEBHOOK).await;
    let webhooks = found.context("cannot read the webhooks")?.and_then(|found| found.webhooks);
    let services = webhooks.into_iter().flatten().filter_map(|webhook| webhook.client_config.service);
    let mut namespaces: Vec<String> = services.map(|service| service.namespace).collect();
    namespaces.sort();
    namespaces.dedup();
    Ok(namespaces)
}

async fn stored_versions(client: &Client) -> Result<Vec<(String, Vec<String>)>> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut stored = Vec::new();
    for ours in install::definitions() {
        let Some(name) = ours["metadata"]["name"].as_str() else { continue };
        let found = definitions.get_opt(name).await.with_context(|| format!("cannot read {name}"))?;
        let versions = found.and_then(|found| found.status?.stored_versions);
        stored.extend(versions.map(|versions| (name.to_owned(), versions)));
    }
    Ok(stored)
}

/// Page by page, and of every pod only what counts, so that a large cluster costs little.
async fn sidecars(client: &Client) -> Result<Vec<Sidecar>> {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE_PODS);
    let mut found = Vec::new();
    loop {
        let list = pods.list(&page).await.context("cannot list pods")?;
        found.extend(list.items.iter().filter_map(Sidecar::of));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}
