//! What differs between two values, as a JSON Patch (RFC 6902): for an API server, and for who edits a text in place.
//!
//! Operations come from the last place to the first, so that each may be read against the value as it was before: no
//! index in a list is moved by an operation that came earlier.

use outrigger_resources::edit::align;
use serde::Serialize;
use serde_json::{Map, Value};

/// One operation of a patch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
    /// Where (RFC 6901).
    pub path: String,
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Action {
    /// Puts a value under a new key, or before an item of a list.
    Add {
        /// The value.
        value: Value,
    },
    /// Puts a value in the place of another.
    Replace {
        /// The value.
        value: Value,
    },
    /// Takes a value away.
    Remove,
}

/// What was, and what is to be.
type Change<'v> = (&'v [Value], &'v [Value]);

/// What makes `before` into `after`.
pub fn diff(before: &Value, after: &Value) -> Vec<Operation> {
    let mut forwards = Vec::new();
    compare(before, after, "", &mut forwards);
    forwards.reverse();
    forwards
}

fn compare(before: &Value, after: &Value, path: &str, found: &mut Vec<Operation>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => mappings(before, after, path, found),
        (Value::Array(old), Value::Array(new)) => match align(old, new) {
            Some(origins) => lists((old, new), &origins, path, found),
            None => found.push(replace(after, path)),
        },
        _ => found.push(replace(after, path)),
    }
}

fn replace(value: &Value, path: &str) -> Operation {
    Operation { action: Action::Replace { value: value.clone() }, path: path.to_owned() }
}

fn mappings(before: &Map<String, Value>, after: &Map<String, Value>, path: &str, found: &mut Vec<Operation>) {
    for (key, old) in before {
        let path = below(path, key);
        match after.get(key) {
            Some(new) => compare(old, new, &path, found),
            None => found.push(Operation { action: Action::Remove, path }),
        }
    }
    for (key, new) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        found.push(Operation { action: Action::Add { value: new.clone() }, path: below(path, key) });
    }
}

/// Puts new items before the next one that was there.
fn lists(change: Change<'_>, origins: &[Option<usize>], path: &str, found: &mut Vec<Operation>) {
    let (before, after) = change;
    let mut next = 0;
    for (new, origin) in after.iter().zip(origins) {
        match origin {
            Some(index) => {
                compare(&before[*index], new, &below(path, &index.to_string()), found);
                next = index + 1;
            }
            None => {
                let path = below(path, &next.to_string());
                found.push(Operation { action: Action::Add { value: new.clone() }, path });
            }
        }
    }
}

fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn apply(mut value: Value, operations: &[Operation]) -> Value {
        let patch: json_patch::Patch =
            serde_json::from_value(serde_json::to_value(operations).unwrap()).unwrap();
        json_patch::patch(&mut value, &patch).unwrap();
        value
    }

    #[test]
    fn only_what_differs_is_in_a_patch() {
        let before = json!({"a": [{"name": "x", "v": 1}, {"name": "y"}], "b/c": 1, "d": {}, "e": [1, 2]});
        let after = json!({
            "a": [{"name": "n"}, {"name": "x", "v": 2}, {"name": "y"}, {"name": "z"}], "d": {"~": 1}, "e": [2, 1],
        });
        let operations = diff(&before, &after);
        let paths: Vec<_> = operations.iter().map(|operation| operation.path.as_str()).collect();
        assert_eq!(paths, ["/e", "/d/~0", "/b~1c", "/a/2", "/a/0/v", "/a/0"]);
        assert_eq!(
            serde_json::to_value(&operations[2..4]).unwrap(),
            json!([{"op": "remove", "path": "/b~1c"}, {"op": "add", "path": "/a/2", "value": {"name": "z"}}])
        );
        assert_eq!(apply(before.clone(), &operations), after);
        assert_eq!(diff(&before, &before), []);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..3).prop_map(Value::from)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let keys = prop_oneof![Just("name"), Just("a/b"), Just("~"), Just("c")].prop_map(str::to_owned);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_one_into_the_other(before in values(), after in values()) {
            prop_assert_eq!(apply(before.clone(), &diff(&before, &after)), after);
        }
    }
}
