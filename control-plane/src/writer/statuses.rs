//! Writes the status of routes and policies, one after the other, and only what differs from what is there.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use outrigger_resources::{Kind, ObjectRef};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::agenda::{Agenda, Attempt};
use super::events::Events;
use super::merge::merge;
use super::served::Served;
use super::wanted::{KINDS, Wanted, wanted};
use super::{Installation, PACE, until};
use crate::kubernetes::names::FIELD_MANAGER;
use crate::kubernetes::timed::{CallError, call};
use crate::xds::Hub;

/// How long a change waits before it is judged: proxies come first, and changes come in groups.
const SETTLE: Duration = Duration::from_millis(500);
/// How often all statuses are read again, for what somebody else may have written over ours.
const SURVEY_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How soon a survey that failed is made again.
const SURVEY_RETRY: Duration = Duration::from_secs(15);
/// Objects that one call lists.
const PAGE_OBJECTS: u32 = 500;

/// Writes statuses.
pub(super) struct Statuses<'a> {
    client: &'a Client,
    hub: &'a Arc<Hub>,
    served: Served,
    agenda: Agenda,
    events: Events,
    pace: Interval,
    /// When to judge a change that was announced.
    judge_at: Option<Instant>,
    survey_at: Instant,
    /// Whether a failure was logged that is not over.
    failing: bool,
}

impl<'a> Statuses<'a> {
    pub(super) fn new(client: &'a Client, hub: &'a Arc<Hub>, installation: &Installation) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            client,
            hub,
            served: Served::default(),
            agenda: Agenda::default(),
            events: Events::new(client.clone(), &installation.replica),
            pace,
            judge_at: None,
            survey_at: Instant::now() + SURVEY_INTERVAL,
            failing: false,
        }
    }

    /// Keeps them as they should be, for ever.
    pub(super) async fn run(mut self) {
        let mut generations = self.hub.generations();
        self.judge().await;
        self.survey().await;
        loop {
            let (judge_at, write_at) = (self.judge_at, self.agenda.next_at());
            tokio::select! {
                Ok(()) = generations.changed() => {
                    self.judge_at.get_or_insert_with(|| Instant::now() + SETTLE);
                }
                () = until(judge_at) => self.judge().await,
                () = sleep_until(self.survey_at) => self.survey().await,
                () = until(write_at) => {
                    self.pace.tick().await;
                    self.write_next().await;
                }
            }
        }
    }

    /// Asks what should be said of the world as it is. On a thread of its own, for it looks at every object.
    async fn judge(&mut self) {
        self.judge_at = None;
        let hub = self.hub.clone();
        let judged = tokio::task::spawn_blocking(move || wanted(&hub.world())).await;
        match judged {
            Ok(wanted) => self.agenda.take_in(wanted, Instant::now()),
            Err(error) => tracing::error!("what became of the objects cannot be told: {error}"),
        }
    }

    /// Reads all statuses, so that what is as it should be is not written, and what somebody changed is.
    async fn survey(&mut self) {
        self.served.forget();
        self.survey_at = Instant::now() + SURVEY_INTERVAL;
        for kind in KINDS {
            if let Err(error) = self.survey_kind(kind).await {
                self.report(format_args!("statuses of {kind} cannot be read: {error}"));
                self.survey_at = Instant::now() + SURVEY_RETRY;
                return;
            }
        }
    }

    async fn survey_kind(&mut self, kind: Kind) -> Result<(), CallError> {
        let Some(resource) = self.served.resource(self.client, kind).await? else { return Ok(()) };
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let mut params = ListParams::default().limit(PAGE_OBJECTS);
        loop {
            let page = call(api.list(&params)).await?;
            for found in &page.items {
                self.compare(kind, found);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    fn compare(&mut self, kind: Kind, found: &DynamicObject) {
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        let (namespace, name) = (text(&found.metadata.namespace), text(&found.metadata.name));
        let object = ObjectRef { kind, namespace, name };
        let Some(wanted) = self.agenda.wanted(&object) else { return };
        match merge(&found.data, wanted, &Timestamp::now()) {
            Some(_) => self.agenda.differs(&object, Instant::now()),
            None => self.agenda.done(&object),
        }
    }

    async fn write_next(&mut self) {
        let Some((object, wanted)) = self.agenda.next(Instant::now()) else { return };
        match self.write(&object, &wanted).await {
            Ok(()) => {
                self.failing = false;
                self.agenda.done(&object);
            }
            // The world will say so, too.
            Err(error) if error.is_missing() => self.agenda.done(&object),
            Err(error) => {
                let attempt = self.agenda.failed(&object, Instant::now(), fastrand::f64());
                // It was changed meanwhile, by the user or another controller.
                if attempt == Attempt::First && !error.is_conflict() {
                    self.report(format_args!("the status of {object} cannot be written: {error}"));
                }
            }
        }
    }

    /// Writes one status where it differs. What others wrote since we read it makes the server refuse.
    async fn write(&mut self, object: &ObjectRef, wanted: &Wanted) -> Result<(), CallError> {
        let Some(resource) = self.served.resource(self.client, object.kind).await? else { return Ok(()) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &object.namespace, &resource);
        let found = call(api.get(&object.name)).await?;
        let Some(update) = merge(&found.data, wanted, &Timestamp::now()) else { return Ok(()) };
        let body: Value = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": object.name, "namespace": object.namespace,
                "resourceVersion": found.metadata.resource_version,
            },
            "status": update.status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        call(api.patch_status(&object.name, &params, &Patch::Apply(body))).await?;
        tracing::debug!("wrote the status of {object}");
        self.events.tell(&found, &update.news).await;
        Ok(())
    }

    /// Says a failure unless one was said that is not over: an API server that is away fails every write.
    fn report(&mut self, what: std::fmt::Arguments<'_>) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!("{what}; it is tried again");
        }
    }
}
