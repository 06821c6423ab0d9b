//! Puts the sidecar into pods: the webhook does it to pods as they are made, `outrigger inject` to files.
//!
//! The decision and the result are pure: [`inject`] takes what is written of a pod, [`Settings`] and what is known of
//! its namespace, and gives the pod with a sidecar, or why it stays as it is ([`decision`]), or what is wrong with its
//! annotations ([`annotations`]). Everything is JSON as the API has it, because fields that this version does not know
//! must come out as they went in. [`containers`] makes our containers, [`probes`] and [`scrape`] keep those working
//! that ask the application how it is, [`patch`] says what differs. It must not know who asks.

use serde_json::Value;

pub mod annotations;
mod containers;
mod decision;
mod environment;
mod options;
pub mod patch;
mod pod;
mod probes;
mod quantity;
mod scrape;
mod settings;
pub mod template;

pub use decision::{SYSTEM_NAMESPACES, Skip, Wish, decide};
pub use options::InjectorOptions;
pub use settings::{Mode, ProxyResources, Settings};

/// What is known of the namespace of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: String,
    /// What its label says.
    pub wish: Wish,
}

/// What became of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The pod with a sidecar: the same value with `metadata` and `spec` changed.
    Injected(Value),
    /// The pod stays as it is.
    Skipped(Skip),
}

/// Why a pod cannot get the sidecar it asks for: making it without one would be worse than not making it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Refusal {
    /// The field, as people write it: `spec.containers[web].securityContext.runAsUser`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refusal {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Puts the sidecar into `pod`: a Pod, or the template of one, anything with `metadata` and `spec`.
///
/// Injecting twice is injecting once.
///
/// # Errors
/// When an annotation of ours cannot be read, or when the traffic of a container would bypass the sidecar.
pub fn inject(pod: &Value, settings: &Settings, namespace: &NamespaceFacts) -> Result<Outcome, Refusal> {
    if let Some(skip) = decide(pod, settings, namespace)? {
        return Ok(Outcome::Skipped(skip));
    }
    pod::check(pod)?;
    let wishes = annotations::read(pod)?;
    pod::with_sidecar(pod, settings, &wishes).map(Outcome::Injected)
}

/// The items of a list somewhere below `value`; none when it is not there.
fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A text somewhere below `value`.
fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// What a pod is annotated with under a key.
fn annotation<'v>(pod: &'v Value, key: &str) -> Option<&'v str> {
    pod.pointer("/metadata/annotations")?.get(key)?.as_str()
}

#[cfg(test)]
mod tests;
