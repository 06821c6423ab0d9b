//! Pieces of OpenAPI v3 schemas, in the shape that Kubernetes calls structural.

use serde_json::{Map, Value, json};

/// A duration of GEP-2257, as `field::duration` reads it.
const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A field of an object: its name and its schema.
pub(super) type Field = (&'static str, Value);

/// Any text.
pub(super) fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// A text that is not empty.
pub(super) fn name(description: &str) -> Value {
    json!({"type": "string", "description": description, "minLength": 1})
}

/// One of these words.
pub(super) fn word(description: &str, words: &[&str]) -> Value {
    json!({"type": "string", "description": description, "enum": words})
}

/// A duration.
pub(super) fn duration(description: &str) -> Value {
    json!({"type": "string", "description": description, "pattern": DURATION})
}

/// `true` or `false`.
pub(super) fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

/// A whole number from `low` to `high`.
pub(super) fn whole(description: &str, low: u32, high: u32) -> Value {
    json!({"type": "integer", "format": "int64", "description": description, "minimum": low, "maximum": high})
}

/// A count of at least 1.
pub(super) fn count(description: &str) -> Value {
    whole(description, 1, u32::MAX)
}

/// A port.
pub(super) fn port(description: &str) -> Value {
    whole(description, 1, u32::from(u16::MAX))
}

/// A share in percent, fractions allowed.
pub(super) fn percent(description: &str) -> Value {
    json!({"type": "number", "description": description, "minimum": 0, "maximum": 100})
}

/// A number or a text.
pub(super) fn number_or_text(description: &str) -> Value {
    json!({"x-kubernetes-int-or-string": true, "description": description})
}

/// A value of more than one shape, which a structural schema cannot tell apart; the parser does.
pub(super) fn mixed(description: &str) -> Value {
    json!({"x-kubernetes-preserve-unknown-fields": true, "description": description})
}

/// A list of at most `most` entries.
pub(super) fn list(description: &str, most: usize, item: Value) -> Value {
    json!({"type": "array", "description": description, "maxItems": most, "items": item})
}

/// A list of 1 to `most` entries.
pub(super) fn some(description: &str, most: usize, item: Value) -> Value {
    let mut schema = list(description, most, item);
    schema["minItems"] = 1.into();
    schema
}

/// A mapping from any key to values of one kind.
pub(super) fn map(description: &str, value: Value) -> Value {
    json!({"type": "object", "description": description, "additionalProperties": value})
}

/// A mapping with these fields.
///
/// Unknown fields are kept, not pruned: an AuthorizationPolicy whose misspelt `identities` were silently removed would let
/// everybody in. Kept, they reach the validating webhook, which refuses them in any client, and the control plane, which
/// does not apply them and says so.
pub(super) fn object(description: &str, required: &[&str], fields: Vec<Field>) -> Value {
    let properties: Map<String, Value> =
        fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let mut schema = json!({
        "type": "object", "description": description, "properties": properties,
        "x-kubernetes-preserve-unknown-fields": true,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}
