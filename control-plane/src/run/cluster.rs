//! The way to a Kubernetes cluster: who we are there and which part of it is ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use outrigger_base::lifecycle::exit::ExitError;
use tokio::sync::watch;

use super::options::ClusterOptions;
use crate::ca::place::Place;
use crate::ca::secret::RootSecret;
use crate::kubernetes::calls;
use crate::kubernetes::names::{self, INJECTOR_WEBHOOK};
use crate::token::gate::Verifier;
use crate::token::review::Reviewer;
use crate::writer::{Installation, Writer};
use crate::xds::Hub;

/// How long a connection to the API may be silent. Longer than a watch, which the API ends by itself, so that an API
/// that vanished without a word is noticed.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster that the control plane is part of.
#[derive(Clone)]
pub(super) struct Cluster {
    /// Its API.
    pub(super) client: Client,
    /// The namespace of the control plane.
    pub(super) namespace: Arc<str>,
}

impl Cluster {
    /// Reads who we are and prepares to call the API; nothing is called yet.
    pub(super) async fn open(options: &ClusterOptions) -> Result<Self, ExitError> {
        let mut config = match &options.kubeconfig {
            Some(file) => from_file(file).await?,
            None => of_pod_or_user().await?,
        };
        config.read_timeout = Some(SILENCE_TIMEOUT);
        let client = Client::try_from(config).map_err(|error| {
            ExitError::failure(format_args!("the Kubernetes API cannot be called: {error}"))
        })?;
        let namespace: Arc<str> = options.mesh_namespace.as_str().into();
        Ok(Self { client, namespace })
    }

    /// Where all replicas find the root key.
    pub(super) fn root(&self) -> Place {
        Place::Secret(Box::new(RootSecret::new(self.client.clone(), &self.namespace)))
    }

    /// The API server's word for workloads.
    pub(super) fn verifier(&self) -> Verifier {
        Verifier::Cluster(Arc::new(Reviewer::new(self.client.clone())))
    }

    /// What writes into the cluster, once this replica is elected to. `authorities` is what workloads trust, as PEM.
    pub(super) fn writer(&self, hub: Arc<Hub>, authorities: watch::Receiver<Arc<str>>) -> Writer {
        // Kubernetes gives a pod's containers its name.
        let replica = std::env::var("HOSTNAME").unwrap_or_else(|_| names::CONTROL_PLANE.to_owned());
        let installation =
            Installation { namespace: self.namespace.clone(), replica: replica.into(), authorities };
        Writer::new(self.client.clone(), hub, installation)
    }

    /// Refuses to be the second control plane of a cluster: both would inject, and write the same status.
    /// Waits for an API that is away.
    pub(super) async fn is_the_only_one(&self) -> Result<(), ExitError> {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let found =
            calls::patiently("the injector's webhook", || configurations.get_opt(INJECTOR_WEBHOOK)).await;
        match found.map_err(ExitError::failure)?.and_then(|found| namespace_of(&found)) {
            Some(other) if other != *self.namespace => Err(ExitError::failure(format_args!(
                "MutatingWebhookConfiguration/{INJECTOR_WEBHOOK} belongs to the control plane in namespace {other}, this one \
                 is for {}: a cluster has one; uninstall one of both, or say --mesh-namespace {other}",
                self.namespace
            ))),
            _ => Ok(()),
        }
    }
}

/// The namespace of the Service that a webhook calls.
fn namespace_of(configuration: &MutatingWebhookConfiguration) -> Option<String> {
    let mut webhooks = configuration.webhooks.iter().flatten();
    webhooks.find_map(|webhook| Some(webhook.client_config.service.as_ref()?.namespace.clone()))
}

async fn from_file(file: &Path) -> Result<Config, ExitError> {
    let unusable = |error: &dyn std::fmt::Display| {
        let path = PathBuf::from(file);
        ExitError::failure(format_args!(
            "--kubeconfig {}: cannot be used: {error}; name a file that kubectl --kubeconfig takes",
            path.display()
        ))
    };
    let read = Kubeconfig::read_from(file).map_err(|error| unusable(&error))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    config.map_err(|error| unusable(&error))
}

/// The service account of the pod that this runs in; outside of pods, what kubectl would use.
async fn of_pod_or_user() -> Result<Config, ExitError> {
    if let Ok(config) = Config::incluster() {
        return Ok(config);
    }
    Config::infer().await.map_err(|error| {
        ExitError::failure(format_args!(
            "--kubernetes: no cluster is known: {error}; run in a pod, or name a file with --kubeconfig FILE"
        ))
    })
}
