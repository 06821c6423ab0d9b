//! Errors of serde in the words of people who write YAML.

use serde_path_to_error::Error;

use crate::field::Misfit;
use crate::parse::path::FieldPath;

/// The longest message, in characters: a wrong value may be a whole file.
const MAX_MESSAGE_CHARS: usize = 400;

/// The field that is wrong and what is wrong with it.
pub(crate) fn explain(error: &Error<serde_json::Error>) -> (FieldPath, String) {
    let path = FieldPath::from(error.path());
    let text = error.inner().to_string();
    if let Some((field, message)) = Misfit::split(&text) {
        let path = if field.is_empty() { path } else { path.key(field) };
        return (path, bounded(message));
    }
    if let Some(field) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return (path.key(field), "missing; it has to be written".to_owned());
    }
    (path, bounded(&reworded(&text)))
}

fn reworded(text: &str) -> String {
    if let Some((_, expected)) = after(text, "unknown field `").and_then(|rest| rest.split_once("`, ")) {
        return format!("unknown field; {}", expected.replace('`', ""));
    }
    if let Some((value, expected)) = after(text, "unknown variant `").and_then(|rest| rest.split_once("`, "))
    {
        let choice = expected.trim_start_matches("expected ").trim_start_matches("one of ").replace('`', "");
        return format!("unknown value {value:?}; write {choice}");
    }
    let mismatch = after(text, "invalid type: ").or_else(|| after(text, "invalid value: "));
    if let Some((found, expected)) = mismatch.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!("{} where {} is expected{}", thing(found), thing(expected), hint(found, expected));
    }
    text.to_owned()
}

fn after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)
}

/// The words of YAML for the words of serde.
fn thing(word: &str) -> String {
    match word {
        "map" | "a map" => "a mapping".to_owned(),
        "sequence" | "a sequence" => "a list".to_owned(),
        "null" | "unit value" => "nothing".to_owned(),
        "a string" | "string" | "string or map" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        word if word.starts_with("struct ") => "a mapping".to_owned(),
        word if word.starts_with("enum ") => "a text".to_owned(),
        word => word.replace('`', ""),
    }
}

fn hint(found: &str, expected: &str) -> &'static str {
    let scalar = ["integer", "floating point", "boolean"].iter().any(|kind| found.starts_with(kind));
    match scalar && expected.contains("string") {
        true => "; put it in quotes",
        false => "",
    }
}

fn bounded(message: &str) -> String {
    let flat = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = message.chars().take(MAX_MESSAGE_CHARS).map(flat).collect();
    if message.chars().nth(MAX_MESSAGE_CHARS).is_some() {
        short.push_str("...");
    }
    short
}
