//! The authority of our webhooks: the API server trusts who serves them by `caBundle`, which is our root.
//!
//! The certificate that a replica serves with is signed by the root in its memory, so only a new root needs a write.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::Installation;
use crate::kubernetes::names::{FIELD_MANAGER, INJECTOR_WEBHOOK, VALIDATOR_WEBHOOK};
use crate::kubernetes::timed::{CallError, call};

/// How often the configurations are looked at. One that was just installed answers nothing until it was seen.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps `caBundle` as it should be.
pub(super) struct Webhooks<'a> {
    installation: &'a Installation,
    configurations: [Configuration; 2],
}

struct Configuration {
    api: Api<DynamicObject>,
    resource: ApiResource,
    name: &'static str,
    /// What is wrong and was logged.
    told: Option<String>,
}

/// What to do about a configuration.
#[derive(Debug, PartialEq)]
enum Correction {
    /// It is as it should be.
    None,
    /// These webhooks need the authority: a body for server-side apply.
    Apply(Value),
    /// It calls the Service of another namespace.
    Foreign(String),
}

/// What has to be written into a configuration so that all its webhooks trust `authorities`, which is base64.
fn correction(resource: &ApiResource, found: &DynamicObject, own: &str, authorities: &str) -> Correction {
    let none = Vec::new();
    let webhooks = found.data.get("webhooks").and_then(Value::as_array).unwrap_or(&none);
    let foreign = webhooks.iter().find_map(|webhook| {
        webhook.pointer("/clientConfig/service/namespace").and_then(Value::as_str).filter(|it| *it != own)
    });
    if let Some(namespace) = foreign {
        return Correction::Foreign(namespace.to_owned());
    }
    let trusts = |webhook: &Value| {
        webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str) == Some(authorities)
    };
    if webhooks.iter().all(trusts) {
        return Correction::None;
    }
    // All of them, for what an applied body leaves out is taken away.
    let names = webhooks.iter().filter_map(|webhook| webhook.get("name"));
    let webhooks: Vec<_> =
        names.map(|name| json!({"name": name, "clientConfig": {"caBundle": authorities}})).collect();
    Correction::Apply(json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": found.metadata.name, "resourceVersion": found.metadata.resource_version},
        "webhooks": webhooks,
    }))
}

impl<'a> Webhooks<'a> {
    pub(super) fn new(client: &Client, installation: &'a Installation) -> Self {
        let configuration = |resource: ApiResource, name| Configuration {
            api: Api::all_with(client.clone(), &resource),
            resource,
            name,
            told: None,
        };
        let injector = ApiResource::erase::<MutatingWebhookConfiguration>(&());
        let validator = ApiResource::erase::<ValidatingWebhookConfiguration>(&());
        let configurations =
            [configuration(injector, INJECTOR_WEBHOOK), configuration(validator, VALIDATOR_WEBHOOK)];
        Self { installation, configurations }
    }

    /// Keeps them as they should be, for ever.
    pub(super) async fn run(mut self) {
        let mut authorities = self.installation.authorities.clone();
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                Ok(()) = authorities.changed() => {}
            }
            let encoded = STANDARD.encode(authorities.borrow_and_update().as_bytes());
            for configuration in &mut self.configurations {
                configuration.look(&self.installation.namespace, &encoded).await;
            }
        }
    }
}

impl Configuration {
    /// Looks at it once; says what is wrong, once.
    async fn look(&mut self, own: &str, authorities: &str) {
        let (kind, name) = (&self.resource.kind, self.name);
        let problem = match self.correct(own, authorities).await {
            Ok(Correction::None) => None,
            Ok(Correction::Apply(_)) => {
                tracing::info!("wrote our authority into {kind}/{name}");
                None
            }
            Ok(Correction::Foreign(namespace)) => Some(format!(
                "{kind}/{name} calls the namespace {namespace}, not {own}: it belongs to another installation and is left \
                 alone; remove one of the two installations (`outrigger uninstall`)"
            )),
            Err(error) if error.is_missing() => Some(format!(
                "{kind}/{name} is not there, so that no webhook is called; install it (`outrigger install | kubectl \
                 apply -f -`)"
            )),
            // It was changed meanwhile, and is looked at again.
            Err(error) if error.is_conflict() => return,
            Err(error) => Some(format!("our authority cannot be written into {kind}/{name}: {error}")),
        };
        if let Some(problem) = &problem
            && self.told.as_ref() != Some(problem)
        {
            tracing::warn!("{problem}");
        }
        self.told = problem;
    }

    async fn correct(&self, own: &str, authorities: &str) -> Result<Correction, CallError> {
        let found = call(self.api.get(self.name)).await?;
        let correction = correction(&self.resource, &found, own, authorities);
        if let Correction::Apply(body) = &correction {
            let params = PatchParams::apply(FIELD_MANAGER).force();
            call(self.api.patch(self.name, &params, &Patch::Apply(body))).await?;
        }
        Ok(correction)
    }
}

#[cfg(test)]
mod tests;
