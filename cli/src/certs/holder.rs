//! Where the root is kept, and whom to ask how far the mesh is: a data directory with its control plane, or a Secret and the
//! replicas that share it.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use k8s_openapi::api::core::v1::Secret;
use outrigger_control_plane::ca::rotation::{RotationError, State};
use outrigger_control_plane::ca::secret::{data_of, state_of};
use outrigger_control_plane::ca::store::Store;
use outrigger_control_plane::ca::{kept, root};
use outrigger_control_plane::http::trust::TrustAnswer;
use outrigger_control_plane::kubernetes::names;
use outrigger_control_plane::run::data_dir;
use serde_json::Value;

use super::Mesh;
use super::wait::View;
use crate::cluster::{Cluster, items, text};
use crate::status;

/// Objects with an annotation that begins so are written by cert-manager.
const CERT_MANAGER: &str = "cert-manager.io/";
/// How often a write is tried when somebody else has changed the Secret meanwhile.
const MAX_WRITES: usize = 5;

/// A step of a rotation.
pub(super) type Step = fn(State, SystemTime) -> Result<State, RotationError>;

/// Where the root is kept.
pub(super) enum Holder {
    /// In a data directory.
    Data { dir: PathBuf, http: String },
    /// In a Secret.
    Secret(Box<Cluster>),
}

impl Holder {
    /// Finds it; nothing is changed.
    pub(super) async fn open(mesh: &Mesh) -> anyhow::Result<Self> {
        if mesh.kubernetes {
            return Ok(Self::Secret(Box::new(Cluster::connect(&mesh.cluster).await?)));
        }
        Ok(Self::Data { dir: data_dir(mesh.data.clone())?, http: mesh.http.clone() })
    }

    /// What every replica of the control plane says, by its name.
    pub(super) async fn ask(&self) -> anyhow::Result<Vec<(String, TrustAnswer)>> {
        match self {
            Self::Data { http, .. } => {
                let answer = status::get(http, "/api/v1/trust").await?;
                Ok(vec![(format!("the control plane at {http}"), read(answer)?)])
            }
            Self::Secret(cluster) => {
                let token = cluster.api_token().await?;
                let mut answers = Vec::new();
                for pod in cluster.control_planes().await? {
                    let answer = cluster.ask_control_plane(&pod, "/api/v1/trust", &token).await?;
                    answers.push((format!("pod {pod}"), read(answer)?));
                }
                match answers.is_empty() {
                    true => bail!("no pod of the control plane runs in namespace {}", cluster.namespace),
                    false => Ok(answers),
                }
            }
        }
    }

    /// Everything that a decision needs.
    pub(super) async fn view(&self) -> anyhow::Result<View> {
        let replicas = self.ask().await?;
        let state = self.state().await?;
        let lagging = match (self, &state.bundle) {
            (Self::Secret(cluster), Some(bundle)) => lagging(cluster, bundle).await?,
            _ => Vec::new(),
        };
        let has_replicas = matches!(self, Self::Secret(_));
        Ok(View { journal: state.journal, replicas, lagging, has_replicas, force: false })
    }

    /// What is kept.
    pub(super) async fn state(&self) -> anyhow::Result<State> {
        match self {
            Self::Data { dir, .. } => {
                if !dir.is_dir() {
                    bail!(
                        "{} is not there; name the control plane's data directory with --data",
                        dir.display()
                    );
                }
                let state = kept::read(&Store::open(dir)?)?;
                state.with_context(|| {
                    format!(
                        "{} holds no root; name the control plane's data directory with --data",
                        dir.display()
                    )
                })
            }
            Self::Secret(cluster) => Ok(state_of(&secret(cluster).await?)?),
        }
    }

    /// Refuses an authority that is not ours to exchange, or that this control plane does not use.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        let answers = self.ask().await?;
        if answers.iter().any(|(_, answer)| answer.source == "files") {
            return Err(RotationError::Given.into());
        }
        if let Self::Secret(cluster) = self {
            let written_by = secret(cluster).await?.metadata.annotations.unwrap_or_default();
            if written_by.keys().any(|key| key.starts_with(CERT_MANAGER)) {
                return Err(anyhow!(RotationError::Given).context("Secret outrigger-ca is cert-manager's"));
            }
        }
        let now = SystemTime::now();
        let authority =
            self.state().await?.authority(now).map_err(|flaw| anyhow!("the root {}", flaw.why()))?;
        let kept: Vec<String> = authority.authorities().iter().map(root::fingerprint_text).collect();
        let stranger = answers.iter().find(|(_, answer)| !kept.contains(&answer.signer));
        match stranger {
            None => Ok(()),
            Some((name, _)) => bail!(
                "{name} signs with a root that is not the one kept here; name its data directory with --data, and its address \
                 with --http"
            ),
        }
    }

    /// Takes a step and keeps what comes of it.
    pub(super) async fn take(&self, step: Step) -> anyhow::Result<State> {
        match self {
            Self::Data { dir, .. } => {
                let store = Store::open(dir)?;
                let state = kept::read(&store)?.context("the root is gone from the data directory")?;
                let state = step(state, SystemTime::now())?;
                kept::write(&store, &state)?;
                Ok(state)
            }
            Self::Secret(cluster) => {
                for _ in 0..MAX_WRITES {
                    let mut secret = secret(cluster).await?;
                    let state = step(state_of(&secret)?, SystemTime::now())?;
                    secret.data = Some(data_of(&state));
                    // The version that was read is in it: a change by somebody else in between is not overwritten.
                    let answer = cluster.put(&path(cluster), &serde_json::to_value(&secret)?).await?;
                    match answer.status {
                        200..300 => return Ok(state),
                        409 => {}
                        other => bail!(
                            "Secret {} cannot be written ({other}): {}",
                            names::ROOT_SECRET,
                            answer.said()
                        ),
                    }
                }
                bail!("Secret {} is changed by somebody else all the time; try again", names::ROOT_SECRET)
            }
        }
    }
}

fn path(cluster: &Cluster) -> String {
    format!("/api/v1/namespaces/{}/secrets/{}", cluster.namespace, names::ROOT_SECRET)
}

async fn secret(cluster: &Cluster) -> anyhow::Result<Secret> {
    let found = cluster.find(&path(cluster)).await?;
    let found = found
        .with_context(|| format!("there is no Secret {} in {}", names::ROOT_SECRET, cluster.namespace))?;
    serde_json::from_value(found).with_context(|| format!("Secret {} cannot be read", names::ROOT_SECRET))
}

fn read(answer: Value) -> anyhow::Result<TrustAnswer> {
    serde_json::from_value(answer).context("the control plane is of another version than this command")
}

/// What else has to hold the roots before one of them signs: sidecars mount the ConfigMaps, API servers verify webhooks.
async fn lagging(cluster: &Cluster, bundle: &str) -> anyhow::Result<Vec<String>> {
    let all = format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{}", names::TRUST_BUNDLE);
    let maps = cluster.get(&all).await?.body;
    let stale =
        items(&maps).iter().filter(|map| map["data"][names::AUTHORITIES_KEY].as_str() != Some(bundle));
    let named =
        |map: &Value| format!("ConfigMap {}/{}", text(map, "/metadata/namespace"), names::TRUST_BUNDLE);
    Ok(stale.map(named).collect())
}
