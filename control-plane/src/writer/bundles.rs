//! The roots that workloads trust, as a ConfigMap in every namespace with meshed pods: their sidecars mount it.
//!
//! What is there is watched, so that one that somebody changed or deleted is written again. A namespace that has no
//! meshed pod any more keeps its ConfigMap, which does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use outrigger_resources::Object;
use outrigger_resources::kubernetes::Pod;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Installation, PACE, until};
use crate::kubernetes::names::{AUTHORITIES_KEY, FIELD_MANAGER, INJECT, TRUST_BUNDLE};
use crate::kubernetes::timed::{CallError, call};
use crate::world::World;
use crate::xds::Hub;

/// How soon a ConfigMap that could not be written is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long a change of the world waits for others that come with it.
const SETTLE: Duration = Duration::from_millis(100);
/// The value of the label and annotation [`INJECT`] that asks for a sidecar.
const ENABLED: &str = "enabled";

type Namespaces = BTreeSet<Arc<str>>;

/// Writes the roots into namespaces.
pub(super) struct Bundles<'a> {
    client: &'a Client,
    hub: &'a Hub,
    installation: &'a Installation,
    present: Present,
    wanted: Namespaces,
    /// When to look at a world that was announced.
    look_at: Option<Instant>,
    /// When to try again what failed.
    retry_at: Option<Instant>,
    /// Whether a failure was logged that is not over.
    failing: bool,
}

/// The contents that are there, by namespace; `None` until all are known.
#[derive(Default)]
struct Present {
    known: Option<BTreeMap<Arc<str>, String>>,
    listed: BTreeMap<Arc<str>, String>,
}

/// The namespaces whose pods need the roots: those that are labelled, and those with a pod that asks for a sidecar or has
/// one. A namespace on its way out takes nothing new.
fn namespaces(world: &World) -> Namespaces {
    let (mut wanted, mut leaving) = (Namespaces::new(), Namespaces::new());
    for held in world.objects() {
        let meta = held.object.meta();
        match &held.object {
            Object::Namespace(_) if meta.deletion_timestamp.is_some() => {
                leaving.insert(meta.name.clone());
            }
            Object::Namespace(_) if meta.labels.get(INJECT).is_some_and(|said| said == ENABLED) => {
                wanted.insert(meta.name.clone());
            }
            Object::Pod(pod) if is_meshed(pod) => {
                wanted.insert(meta.namespace.clone());
            }
            _ => {}
        }
    }
    &wanted - &leaving
}

fn is_meshed(pod: &Pod) -> bool {
    pod.spec.meshed || pod.meta.annotations.get(INJECT).is_some_and(|said| said == ENABLED)
}

/// The namespaces whose ConfigMap is not as it should be.
fn due(wanted: &Namespaces, present: &BTreeMap<Arc<str>, String>, authorities: &str) -> Vec<Arc<str>> {
    let is_due = |namespace: &&Arc<str>| present.get(*namespace).is_none_or(|found| found != authorities);
    wanted.iter().filter(is_due).cloned().collect()
}

impl Present {
    /// Takes in what the watch tells.
    fn take_in(&mut self, event: Event<ConfigMap>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(found) => insert(&mut self.listed, &found),
            Event::InitDone => self.known = Some(std::mem::take(&mut self.listed)),
            Event::Apply(found) => insert(self.known.get_or_insert_default(), &found),
            Event::Delete(gone) => {
                if let (Some(known), Some(namespace)) = (&mut self.known, gone.namespace()) {
                    known.remove(namespace.as_str());
                }
            }
        }
    }
}

fn insert(contents: &mut BTreeMap<Arc<str>, String>, found: &ConfigMap) {
    let Some(namespace) = found.namespace() else { return };
    let text = found.data.as_ref().and_then(|data| data.get(AUTHORITIES_KEY)).cloned().unwrap_or_default();
    contents.insert(namespace.into(), text);
}

impl<'a> Bundles<'a> {
    pub(super) fn new(client: &'a Client, hub: &'a Hub, installation: &'a Installation) -> Self {
        Self {
            client,
            hub,
            installation,
            present: Present::default(),
            wanted: Namespaces::new(),
            look_at: None,
            retry_at: None,
            failing: false,
        }
    }

    /// Keeps them as they should be, for ever.
    pub(super) async fn run(mut self) {
        let config = watcher::Config::default().fields(&format!("metadata.name={TRUST_BUNDLE}"));
        let all: Api<ConfigMap> = Api::all(self.client.clone());
        let mut events = watcher::watcher(all, config).default_backoff().boxed();
        let mut generations = self.hub.generations();
        let mut authorities = self.installation.authorities.clone();
        self.wanted = namespaces(&self.hub.world());
        loop {
            let (look_at, retry_at) = (self.look_at, self.retry_at);
            tokio::select! {
                Some(event) = events.next() => match event {
                    Ok(event) => self.present.take_in(event),
                    Err(error) => self.report(format_args!("cannot be watched: {error}")),
                },
                Ok(()) = generations.changed() => {
                    self.look_at.get_or_insert_with(|| Instant::now() + SETTLE);
                }
                Ok(()) = authorities.changed() => {}
                () = until(look_at) => {
                    self.look_at = None;
                    self.wanted = namespaces(&self.hub.world());
                }
                () = until(retry_at) => self.retry_at = None,
            }
            self.write().await;
        }
    }

    /// Writes what is due, unless that was tried a moment ago.
    async fn write(&mut self) {
        let Some(known) = &self.present.known else { return };
        if self.retry_at.is_some() {
            return;
        }
        let authorities = self.installation.authorities.borrow().clone();
        for namespace in due(&self.wanted, known, &authorities) {
            match self.apply(&namespace, &authorities).await {
                Ok(()) => {
                    self.present.known.get_or_insert_default().insert(namespace, authorities.to_string());
                    self.failing = false;
                }
                // The namespace is gone, and the world will say so.
                Err(error) if error.is_missing() => self.retry_at = Some(Instant::now() + RETRY_INTERVAL),
                Err(error) => {
                    self.report(format_args!("cannot be written in namespace {namespace}: {error}"));
                    self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
                }
            }
            sleep(PACE).await;
        }
    }

    async fn apply(&self, namespace: &str, authorities: &str) -> Result<(), CallError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let wanted = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": TRUST_BUNDLE,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
            },
            "data": {AUTHORITIES_KEY: authorities},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        call(api.patch(TRUST_BUNDLE, &params, &Patch::Apply(wanted))).await?;
        tracing::info!(namespace, "wrote the ConfigMap {TRUST_BUNDLE}");
        Ok(())
    }

    fn report(&mut self, what: std::fmt::Arguments<'_>) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!("the ConfigMap {TRUST_BUNDLE}, which sidecars mount, {what}; it is tried again");
        }
    }
}

#[cfg(test)]
mod tests;
