//! `/validate`: an object of ours is read as the control plane would read it, and `outrigger validate`.

use outrigger_resources::{Location, Problem, Severity, parse_value};
use serde_json::Value;

use super::review::{Answer, Question};

/// Allows what can be in force as it is written. What only other objects could tell is left to conditions: they may come later.
pub(super) fn answer(question: &Question) -> Answer {
    let is_change = matches!(question.operation.as_str(), "CREATE" | "UPDATE");
    if !is_change || !question.sub_resource.is_empty() || is_leaving(&question.object) {
        return Answer::allow(question);
    }
    let (errors, warnings) = judge(&question.object);
    // Whoever labels an object or takes a finalizer away need not mend what was wrong before.
    let is_old =
        question.operation == "UPDATE" && question.object.get("spec") == question.old_object.get("spec");
    match errors.is_empty() || is_old {
        true => Answer::allow(question).with_warnings(errors.into_iter().chain(warnings).collect()),
        false => Answer::refuse(question, errors.join("; ")).with_warnings(warnings),
    }
}

/// An object that is being deleted must be able to go.
fn is_leaving(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
}

/// Errors and warnings, one line each.
fn judge(object: &Value) -> (Vec<String>, Vec<String>) {
    let location = Location { file: "the object".into(), line: 0, column: 0 };
    let parsed = parse_value(named(object), &location);
    let line = |problem: Problem| Problem { location: None, ..problem }.to_string();
    let (errors, warnings): (Vec<_>, Vec<_>) =
        parsed.problems.into_iter().partition(|problem| problem.severity == Severity::Error);
    (errors.into_iter().map(line).collect(), warnings.into_iter().map(line).collect())
}

/// An API server gives a name to an object with `generateName` only after it asked.
fn named(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && !metadata.contains_key("name")
        && let Some(start) = metadata.get("generateName").and_then(Value::as_str)
    {
        let name = format!("{start}0");
        metadata.insert("name".to_owned(), name.into());
    }
    object
}
