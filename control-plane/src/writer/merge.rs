//! From what the status of an object says and what it should say to what has to be written, if anything.
//!
//! `status.parents` and `status.ancestors` are one field for server-side apply, so what other controllers wrote there
//! is part of what we write: their entries stay as they are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use outrigger_resources::Kind;
use serde_json::{Value, json};

use super::wanted::{Entry, Shape, Wanted};
use crate::status::{CONTROLLER_NAME, Condition};

/// Entries that `status.parents` has room for, by its schema.
const MAX_PARENTS: usize = 32;
/// Entries that `status.ancestors` has room for, by its schema.
const MAX_ANCESTORS: usize = 16;
/// The longest message of a condition. Its schema has room for 32 KiB; nobody reads that much.
const MAX_MESSAGE_BYTES: usize = 4096;

/// A status to write, and what a person should hear of it.
#[derive(Debug, PartialEq)]
pub(super) struct Update {
    /// The whole `status` that we apply.
    pub(super) status: Value,
    /// Problems that the status did not tell before.
    pub(super) news: Vec<Condition>,
}

/// What has to be written into the status of `object`; `None` when it says what it should.
pub(super) fn merge(object: &Value, wanted: &Wanted, now: &Timestamp) -> Option<Update> {
    match wanted.shape {
        Shape::Conditions => merge_conditions(object, wanted, now),
        Shape::Parents => merge_entries(object, wanted, &PARENTS, now),
        Shape::Ancestors => merge_entries(object, wanted, &ANCESTORS, now),
    }
}

/// The names of one of the lists that controllers share, and its bound.
struct Shared {
    list: &'static str,
    reference: &'static str,
    /// Where the object itself names what the entries are about.
    named: &'static str,
    max: usize,
}

const PARENTS: Shared =
    Shared { list: "parents", reference: "parentRef", named: "/spec/parentRefs", max: MAX_PARENTS };
const ANCESTORS: Shared =
    Shared { list: "ancestors", reference: "ancestorRef", named: "/spec/targetRefs", max: MAX_ANCESTORS };

fn merge_entries(object: &Value, wanted: &Wanted, shared: &Shared, now: &Timestamp) -> Option<Update> {
    let is_ours = |entry: &Value| entry["controllerName"] == CONTROLLER_NAME;
    let present = list(object.pointer(&format!("/status/{}", shared.list)));
    let (ours, others): (Vec<_>, Vec<_>) = present.iter().partition(|entry| is_ours(entry));
    let mut news = Vec::new();
    let mut entries = Vec::new();
    for (about, conditions) in resolved(object, &wanted.entries, shared) {
        let known = ours.iter().find(|entry| entry[shared.reference] == about);
        let known = list(known.and_then(|entry| entry.get("conditions")));
        news.extend(conditions.iter().filter(|condition| is_news(known, condition)).cloned());
        entries.push(json!({
            shared.reference: about,
            "controllerName": CONTROLLER_NAME,
            "conditions": conditions.iter().map(|it| written(known, it, now)).collect::<Vec<_>>(),
        }));
    }
    entries.truncate(shared.max.saturating_sub(others.len()));
    if ours.into_iter().eq(&entries) {
        return None;
    }
    let all: Vec<_> = others.into_iter().cloned().chain(entries).collect();
    Some(Update { status: json!({ shared.list: all }), news })
}

/// Entries with what they are about; of an object that could not be read, each Service that it names.
fn resolved<'a>(object: &Value, entries: &'a [Entry], shared: &Shared) -> Vec<(Value, &'a [Condition])> {
    let is_destination = |named: &&Value| {
        let text = |key| named.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = Kind::find(text("group"), text("kind"));
        matches!(kind, Some(Kind::Service | Kind::ExternalService))
    };
    let named: Vec<_> = list(object.pointer(shared.named)).iter().filter(is_destination).collect();
    let mut all = Vec::new();
    for Entry { about, conditions } in entries {
        match about {
            Some(about) => all.push((about.clone(), conditions.as_slice())),
            None => all.extend(named.iter().map(|named| ((*named).clone(), conditions.as_slice()))),
        }
    }
    all
}

fn merge_conditions(object: &Value, wanted: &Wanted, now: &Timestamp) -> Option<Update> {
    let present = list(object.pointer("/status/conditions"));
    let conditions: Vec<_> = wanted.entries.iter().flat_map(|entry| &entry.conditions).collect();
    let written: Vec<_> = conditions.iter().map(|condition| written(present, condition, now)).collect();
    if present == written {
        return None;
    }
    let news = conditions.into_iter().filter(|condition| is_news(present, condition)).cloned().collect();
    Some(Update { status: json!({ "conditions": written }), news })
}

/// A condition as it is written. Its time is that of the last change of `status`.
fn written(known: &[Value], condition: &Condition, now: &Timestamp) -> Value {
    let status = if condition.status { "True" } else { "False" };
    let since = find(known, condition).filter(|it| it["status"] == status);
    let since = since.and_then(|it| it.get("lastTransitionTime")).cloned();
    let mut written = json!({
        "type": condition.type_,
        "status": status,
        "reason": condition.reason,
        "message": bounded(&condition.message, MAX_MESSAGE_BYTES),
        "lastTransitionTime": since.unwrap_or_else(|| json!(Time(*now))),
    });
    // Nobody counted the generations of what could not be read.
    if condition.observed_generation > 0 {
        written["observedGeneration"] = json!(condition.observed_generation);
    }
    written
}

/// Whether a condition is a problem that is not told yet.
fn is_news(known: &[Value], condition: &Condition) -> bool {
    let is_told = |known: &Value| {
        let was = known["status"] == "True";
        let message = bounded(&condition.message, MAX_MESSAGE_BYTES);
        was == condition.status && known["reason"] == condition.reason && known["message"] == message
    };
    condition.is_problem() && !find(known, condition).is_some_and(is_told)
}

fn find<'v>(known: &'v [Value], condition: &Condition) -> Option<&'v Value> {
    let type_ = json!(condition.type_);
    known.iter().find(|known| known["type"] == type_)
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The start of a text, up to a number of bytes.
pub(super) fn bounded(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests;
