//! What a token says, once it is known to be true.

use std::sync::Arc;

use serde_json::{Map, Value};

/// The claims of a verified token (RFC 7519, section 4).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Claims that somebody has verified.
    pub fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// Whether the claim under these names, the outermost first, has a value that `is_wanted` finds right. A list has each of
    /// its values; numbers and booleans are compared as JSON writes them. `scope` is a list of words (RFC 8693, section 4.2).
    pub fn any(&self, names: &[Arc<str>], is_wanted: impl Fn(&str) -> bool) -> bool {
        let Some((first, rest)) = names.split_first() else { return false };
        let inner = self.0.get(&**first);
        let found = rest.iter().try_fold(inner, |value, name| Some(value?.get(&**name)));
        let Some(Some(value)) = found else { return false };
        match value {
            Value::Array(values) => values.iter().any(|value| is_value(value, &is_wanted)),
            Value::String(words) if rest.is_empty() && **first == *"scope" => {
                words.split_ascii_whitespace().any(is_wanted)
            }
            value => is_value(value, &is_wanted),
        }
    }
}

fn is_value(value: &Value, is_wanted: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_wanted(text),
        Value::Bool(_) | Value::Number(_) => is_wanted(&value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_found_by_its_names_and_one_of_its_values() {
        let Value::Object(claims) = json!({
            "sub": "ann", "groups": ["admin", "dev"], "level": 3, "scope": "read write",
            "realm": {"roles": ["editor"], "scope": "a b"}, "none": null
        }) else {
            unreachable!()
        };
        let claims = Claims::new(claims);
        for (names, value, expected) in [
            ("sub", "ann", true),
            ("sub", "an", false),
            ("groups", "dev", true),
            ("groups", "ops", false),
            ("level", "3", true),
            ("scope", "write", true),
            ("scope", "read write", false),
            ("realm.roles", "editor", true),
            ("realm.scope", "a b", true),
            ("realm", "editor", false),
            ("none", "null", false),
            ("sub.x", "ann", false),
            ("absent", "", false),
        ] {
            let names: Vec<Arc<str>> = names.split('.').map(Arc::from).collect();
            assert_eq!(claims.any(&names, |found| found == value), expected, "{names:?} {value}");
        }
        assert!(!claims.any(&[], |_| true));
    }
}
