//! Events for what needs a person: a problem that the status of an object did not tell before.
//!
//! What repeats within a few minutes counts up the event that is there, and there are only so many a minute: the status
//! tells everything anyway.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::merge::bounded;
use crate::kubernetes::names::FIELD_MANAGER;
use crate::kubernetes::timed::{CallError, call};
use crate::status::{CONTROLLER_NAME, Condition, ConditionType};

/// How long the same news counts up one event.
const SERIES_LIFE: Duration = Duration::from_secs(6 * 60);
/// Events that are remembered to be counted up.
const MAX_SERIES: usize = 1024;
/// Events of one [`PERIOD`].
const MAX_EVENTS: usize = 100;
const PERIOD: Duration = Duration::from_secs(60);
/// The longest note, by the schema of events.
const MAX_NOTE_BYTES: usize = 1024;
/// The longest part of an object's name in the name of an event, which has room for 253 bytes in all.
const MAX_NAME_BYTES: usize = 200;

/// Tells people.
pub(super) struct Events {
    client: Client,
    replica: String,
    bounds: Bounds,
}

/// The object and the condition that an event is about.
type Key = (String, ConditionType);

/// What was told lately.
#[derive(Debug)]
struct Bounds {
    series: BTreeMap<Key, Series>,
    period: Instant,
    told: usize,
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    note: String,
    count: i32,
    at: Instant,
}

/// How to tell something.
#[derive(Debug, PartialEq)]
enum Telling {
    /// By an event of this name.
    Anew(String),
    /// By counting up the event of this name.
    Again { name: String, count: i32 },
    /// Not at all: too much is told already.
    Not,
}

impl Bounds {
    fn new(now: Instant) -> Self {
        Self { series: BTreeMap::new(), period: now, told: 0 }
    }

    /// Decides how to tell a note. `name` is that of a new event.
    fn tell(&mut self, key: Key, note: &str, name: String, now: Instant) -> Telling {
        if now.saturating_duration_since(self.period) >= PERIOD {
            (self.period, self.told) = (now, 0);
        }
        if self.told >= MAX_EVENTS {
            return Telling::Not;
        }
        self.told += 1;
        self.series.retain(|_, series| now.saturating_duration_since(series.at) < SERIES_LIFE);
        if let Some(known) = self.series.get_mut(&key).filter(|known| known.note == note) {
            known.count = known.count.saturating_add(1);
            known.at = now;
            return Telling::Again { name: known.name.clone(), count: known.count };
        }
        if self.series.len() < MAX_SERIES || self.series.contains_key(&key) {
            let series = Series { name: name.clone(), note: note.to_owned(), count: 1, at: now };
            self.series.insert(key, series);
        }
        Telling::Anew(name)
    }
}

impl Events {
    pub(super) fn new(client: Client, replica: &str) -> Self {
        Self { client, replica: replica.to_owned(), bounds: Bounds::new(Instant::now()) }
    }

    /// Tells the problems of an object. What cannot be told is logged; nobody waits for it.
    pub(super) async fn tell(&mut self, about: &DynamicObject, news: &[Condition]) {
        for condition in news {
            if let Err(error) = self.tell_one(about, condition).await {
                let name = about.metadata.name.as_deref().unwrap_or_default();
                tracing::warn!("no event can be written about {name}: {error}");
            }
        }
    }

    async fn tell_one(&mut self, about: &DynamicObject, condition: &Condition) -> Result<(), CallError> {
        let now = Timestamp::now();
        let object = about.metadata.name.as_deref().unwrap_or_default();
        let name = format!("{}.{:x}", bounded(object, MAX_NAME_BYTES), now.as_nanosecond());
        let key = (about.metadata.uid.clone().unwrap_or_else(|| object.to_owned()), condition.type_);
        let note = note(condition);
        let namespace = about.metadata.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match self.bounds.tell(key, &note, name, Instant::now()) {
            Telling::Not => Ok(()),
            Telling::Again { name, count } => {
                let series = json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}});
                let params =
                    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
                match call(api.patch(&name, &params, &Patch::Merge(series))).await {
                    // Events do not live long; the status still tells it.
                    Err(error) if error.is_missing() => Ok(()),
                    outcome => outcome.map(drop),
                }
            }
            Telling::Anew(name) => {
                let event = self.event(about, condition, Told { name, note, now });
                call(api.create(&PostParams::default(), &event)).await.map(drop)
            }
        }
    }

    fn event(&self, about: &DynamicObject, condition: &Condition, told: Told) -> Event {
        let types = about.types.clone().unwrap_or_default();
        Event {
            action: Some("Evaluate".to_owned()),
            event_time: Some(MicroTime(told.now)),
            metadata: ObjectMeta {
                name: Some(told.name),
                namespace: about.metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            note: Some(told.note),
            reason: Some(condition.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(types.api_version),
                kind: Some(types.kind),
                name: about.metadata.name.clone(),
                namespace: about.metadata.namespace.clone(),
                uid: about.metadata.uid.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER_NAME.to_owned()),
            reporting_instance: Some(self.replica.clone()),
            type_: Some("Warning".to_owned()),
            ..Event::default()
        }
    }
}

/// What is new about an event.
struct Told {
    name: String,
    note: String,
    now: Timestamp,
}

/// The sentence of an event.
fn note(condition: &Condition) -> String {
    let what = match condition.type_ {
        ConditionType::Accepted => "not in force",
        ConditionType::ResolvedRefs => "something it refers to cannot be used",
        ConditionType::PartiallyInvalid => "part of it is not in force",
    };
    bounded(&format!("{what}: {}", condition.message), MAX_NOTE_BYTES).to_owned()
}

#[cfg(test)]
mod tests;
