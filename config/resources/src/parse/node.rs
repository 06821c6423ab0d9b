//! A document as a tree in which every part knows where it was written.

use serde_json::{Map, Number, Value};

use crate::parse::path::{FieldPath, Step};

/// A place in a text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A part of a document.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) start: Position,
    pub(crate) content: Content,
}

/// What a [`Node`] is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of their keys, each once.
    Mapping(Vec<Entry>),
}

/// What stands under a key.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key is.
    pub(crate) key_start: Position,
    pub(crate) value: Node,
}

impl Node {
    /// The same without positions.
    pub(crate) fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Mapping(entries) => {
                let pair = |entry: &Entry| (entry.key.clone(), entry.value.to_value());
                Value::Object(entries.iter().map(pair).collect::<Map<_, _>>())
            }
        }
    }

    /// Where a field is: its key in a mapping, its start in a list, or as near as the document comes to it.
    pub(crate) fn position(&self, path: &FieldPath) -> Position {
        let mut node = self;
        let mut position = self.start;
        for step in path.steps() {
            match (step, &node.content) {
                (Step::Key(key), Content::Mapping(entries)) => match find(entries, key) {
                    Some(entry) => (node, position) = (&entry.value, entry.key_start),
                    None => break,
                },
                (Step::Index(index), Content::List(items)) => match items.get(*index) {
                    Some(item) => (node, position) = (item, item.start),
                    None => break,
                },
                _ => break,
            }
        }
        position
    }

    /// How many levels it has, itself included.
    pub(crate) fn depth(&self) -> usize {
        let below = match &self.content {
            Content::List(items) => items.iter().map(Self::depth).max(),
            Content::Mapping(entries) => entries.iter().map(|entry| entry.value.depth()).max(),
            _ => None,
        };
        1 + below.unwrap_or(0)
    }

    /// About how much memory it takes as a tree and as JSON, in bytes.
    pub(crate) fn weight_bytes(&self) -> usize {
        match &self.content {
            Content::Text(text) => NODE_WEIGHT_BYTES + text.len(),
            Content::List(items) => NODE_WEIGHT_BYTES + items.iter().map(Self::weight_bytes).sum::<usize>(),
            Content::Mapping(entries) => {
                let entry = |entry: &Entry| NODE_WEIGHT_BYTES + entry.key.len() + entry.value.weight_bytes();
                MAPPING_WEIGHT_BYTES + entries.iter().map(entry).sum::<usize>()
            }
            Content::Null | Content::Bool(_) | Content::Number(_) => NODE_WEIGHT_BYTES,
        }
    }
}

/// What a node without text or children counts, in bytes.
pub(crate) const NODE_WEIGHT_BYTES: usize = 64;
/// What a mapping without entries counts, in bytes: a JSON mapping takes room for several at once.
pub(crate) const MAPPING_WEIGHT_BYTES: usize = 512;

/// The entry of a key among sorted ones.
pub(crate) fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.binary_search_by(|entry| entry.key.as_str().cmp(key)).ok().map(|index| &entries[index])
}

/// What a plain scalar means (YAML 1.2, section 10.3.2: the core schema).
pub(crate) fn plain(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Bool(true),
        "false" | "False" | "FALSE" => Content::Bool(false),
        _ => number(text).map_or_else(|| Content::Text(text.to_owned()), Content::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8).map(Number::from);
    }
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return digits(hexadecimal, 16).map(Number::from);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let starts_like_one = unsigned.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    let made_of = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    if !starts_like_one || !unsigned.bytes().all(made_of) {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let whole = text.strip_prefix('+').unwrap_or(text);
        let exact =
            whole.parse::<i64>().map(Number::from).or_else(|_| whole.parse::<u64>().map(Number::from));
        if let Ok(number) = exact {
            return Some(number);
        }
    }
    text.parse().ok().and_then(Number::from_f64)
}

fn digits(text: &str, radix: u32) -> Option<u64> {
    let first = text.chars().next().filter(|digit| digit.is_digit(radix));
    first.and_then(|_| u64::from_str_radix(text, radix).ok())
}
