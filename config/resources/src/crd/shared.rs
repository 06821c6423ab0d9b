//! Schemas that more than one kind has.

use serde_json::{Value, json};

use super::schema::{Field, count, duration, list, map, mixed, name, object, some, text, word};

/// At most so many targets (Gateway API's bound for policies).
const MAX_TARGETS: usize = 16;
/// At most so many parts of a limit's key.
const MAX_KEYS: usize = 8;

/// What a policy is about, none included.
pub(super) fn targets(description: &str) -> Value {
    list(description, MAX_TARGETS, target())
}

/// What a policy is about, at least one.
pub(super) fn some_targets(description: &str) -> Value {
    some(description, MAX_TARGETS, target())
}

/// Services as a whole, at least one: what is about workloads is not about one of their ports.
pub(super) fn some_services(description: &str) -> Value {
    some(
        description,
        MAX_TARGETS,
        object("A Service in the policy's own namespace.", &["kind", "name"], whole_object()),
    )
}

fn target() -> Value {
    let mut fields = whole_object();
    let section = "A section of it: of a Service the name of a port, of a route the name of a rule.";
    fields.push(("sectionName", text(section)));
    object("An object in the policy's own namespace.", &["kind", "name"], fields)
}

fn whole_object() -> Vec<Field> {
    vec![
        ("group", text("The API group, empty for a Service.")),
        ("kind", name("The kind.")),
        ("name", name("The name.")),
    ]
}

/// Workloads by their labels.
pub(super) fn selector() -> Value {
    object(
        "Workloads of the namespace by their labels, instead of targetRefs.",
        &["matchLabels"],
        vec![("matchLabels", map("The labels, at least one.", json!({"type": "string"})))],
    )
}

/// Whether plaintext is let in.
pub(super) fn mtls() -> Value {
    word("Whether plaintext is let in: Permissive lets it, Strict does not.", &["Strict", "Permissive"])
}

/// A limit that each proxy keeps for itself.
pub(super) fn local_limit(description: &str) -> Value {
    object(
        description,
        &["requests"],
        vec![
            ("requests", count("Requests that `per` lets through in the long run.")),
            ("per", duration("The time they are counted over: 1s unless written.")),
            ("burst", count("Requests that may come at once: as many as `requests` unless written.")),
            ("key", list("What is counted apart; empty counts everything together.", MAX_KEYS, limit_key())),
        ],
    )
}

/// What a limit counts apart.
pub(super) fn limit_key() -> Value {
    mixed("source.identity, source.address, header:NAME, {header: NAME}, method, path or route.")
}

/// A cookie.
pub(super) fn cookie(description: &str) -> Value {
    object(
        description,
        &["name"],
        vec![("name", name("Its name.")), ("ttl", duration("How long a cookie lives that the proxy makes."))],
    )
}
