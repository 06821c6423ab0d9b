//! YAML text changed in place: what is not touched stays as people wrote it, comments and order included.
//!
//! [`parts`] cuts a text into documents, [`rewrite`] makes one of them say something else, [`write`] is for what has no
//! text yet. A change is found by comparing the text's value with the one that is wanted ([`align`] for lists), and made
//! where the parser says that the parts of the text are ([`layout`]). The result is read again: what could not be done
//! in place is written anew as a whole.

use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::parse::yaml::{self, Unreadable};
use layout::{Entry, Layout, Shape};

mod layout;
mod write;

pub use write::write;

/// A part of a text that holds one document, or none. The parts together are the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<'t> {
    /// The text.
    pub text: &'t str,
    /// What it says; `Null` when it holds no document.
    pub value: Value,
}

/// A part of a text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotYaml {
    /// The line in the text, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for NotYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for NotYaml {}

/// A change that cannot be made in place.
#[derive(Debug)]
struct Elsewhere;

/// Where a value stands.
#[derive(Clone, Copy)]
enum Slot<'l> {
    /// It is the document, or an item of a list.
    Alone,
    /// It is the value of a key.
    Under(&'l Entry),
}

/// Changes of a text that are collected before any is made.
struct Editor<'t> {
    text: &'t str,
    changes: Vec<(Range<usize>, String)>,
}

/// The documents of a text.
///
/// # Errors
/// When one of them is not YAML.
pub fn parts(text: &str) -> Result<Vec<Part<'_>>, NotYaml> {
    let refused =
        |Unreadable { position, message }| NotYaml { line: position.line, column: position.column, message };
    let mut parts = Vec::new();
    for chunk in yaml::chunks(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let mut value = Value::Null;
        for document in chunk.read() {
            value = document.map_err(refused)?.root.to_value();
        }
        parts.push(Part { text: chunk.text, value });
    }
    Ok(parts)
}

/// A text that says `after`, and otherwise is like the one of `part`.
pub fn rewrite(part: &Part<'_>, after: &Value) -> String {
    if part.value == *after {
        return part.text.to_owned();
    }
    let edited = in_place(part, after).filter(|text| says(text, after));
    edited.unwrap_or_else(|| anew(part, after))
}

/// For each item of `after` the index of the item of `before` that it comes from; items are known by their `name`.
/// `None` when an item is gone or another order is wanted.
pub fn align(before: &[Value], after: &[Value]) -> Option<Vec<Option<usize>>> {
    let mut next = 0;
    let mut origin = |new: &Value| {
        let same = before.get(next).is_some_and(|old| is_same(old, new));
        next += usize::from(same);
        same.then(|| next - 1)
    };
    let origins = after.iter().map(&mut origin).collect();
    (next == before.len()).then_some(origins)
}

fn is_same(old: &Value, new: &Value) -> bool {
    let name = |value| Value::get(value, "name").and_then(Value::as_str);
    old == new || name(old).is_some_and(|old| name(new) == Some(old))
}

fn says(text: &str, after: &Value) -> bool {
    parts(text).is_ok_and(|parts| matches!(parts.as_slice(), [part] if part.value == *after))
}

fn in_place(part: &Part<'_>, after: &Value) -> Option<String> {
    let layout = layout::read(part.text)?;
    let mut editor = Editor { text: part.text, changes: Vec::new() };
    editor.value(&layout, Slot::Alone, (&part.value, after)).ok()?;
    editor.finish()
}

/// All of it, behind what stands before the document.
fn anew(part: &Part<'_>, after: &Value) -> String {
    let is_json = serde_json::from_str::<Value>(part.text).is_ok();
    if let (true, Ok(text)) = (is_json, serde_json::to_string_pretty(after)) {
        return text + "\n";
    }
    let is_before = |line: &&str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line.starts_with("--- #")
    };
    let before: String = part.text.split_inclusive('\n').take_while(is_before).collect();
    before + &write(after, 0)
}

/// What was, and what is to be.
type Change<'v> = (&'v Value, &'v Value);

impl Editor<'_> {
    fn value(&mut self, layout: &Layout, slot: Slot<'_>, change: Change<'_>) -> Result<(), Elsewhere> {
        let (before, after) = change;
        match (&layout.shape, before, after) {
            _ if before == after => Ok(()),
            (Shape::Mapping(entries), Value::Object(before), Value::Object(after)) if !after.is_empty() => {
                self.mapping(entries, layout.end, (before, after))
            }
            (Shape::List(items), Value::Array(before), Value::Array(after)) => {
                let origins = align(before, after).ok_or(Elsewhere)?;
                self.list(items, slot, &origins, (before, after))
            }
            (Shape::Scalar | Shape::Flow, _, _) => self.replace(layout, slot, change),
            _ => Err(Elsewhere),
        }
    }

    fn mapping(
        &mut self,
        entries: &[Entry],
        end: usize,
        (before, after): (&Map<String, Value>, &Map<String, Value>),
    ) -> Result<(), Elsewhere> {
        for (key, old) in before {
            let new = after.get(key);
            if new == Some(old) {
                continue;
            }
            // What came by a merge key has no place here.
            let entry = entries.iter().find(|entry| entry.key == *key).ok_or(Elsewhere)?;
            match new {
                Some(new) => self.value(&entry.value, Slot::Under(entry), (old, new))?,
                None => self.remove(entry)?,
            }
        }
        let added: Map<String, Value> = after
            .iter()
            .filter(|(key, _)| !before.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !added.is_empty() {
            let column = entries.first().ok_or(Elsewhere)?.column;
            self.insert_behind(end, write(&Value::Object(added), column));
        }
        Ok(())
    }

    fn list(
        &mut self,
        items: &[Layout],
        slot: Slot<'_>,
        origins: &[Option<usize>],
        (before, after): (&[Value], &[Value]),
    ) -> Result<(), Elsewhere> {
        let column = self.dash_column(items.first().ok_or(Elsewhere)?)?;
        // Behind the key, before comments on the first item, which belong to it.
        let mut last = match slot {
            Slot::Under(entry) => Some(entry.colon),
            Slot::Alone => None,
        };
        for (new, origin) in after.iter().zip(origins) {
            match origin {
                Some(index) => {
                    let item = items.get(*index).ok_or(Elsewhere)?;
                    self.value(item, Slot::Alone, (&before[*index], new))?;
                    last = Some(item.end);
                }
                None => {
                    let text = write(&Value::Array(vec![new.clone()]), column);
                    self.insert_behind(last.ok_or(Elsewhere)?, text);
                }
            }
        }
        Ok(())
    }

    /// A value on one line; what was empty grows lines of its own.
    fn replace(
        &mut self,
        layout: &Layout,
        slot: Slot<'_>,
        (before, after): Change<'_>,
    ) -> Result<(), Elsewhere> {
        let is_one_line = !self.text[layout.start..layout.end].contains('\n');
        match slot {
            Slot::Under(entry)
                if is_empty(before) && !is_empty(after) && is_one_line && !is_scalar(after) =>
            {
                self.changes.push((entry.colon..layout.end, String::new()));
                self.insert_behind(layout.end, write(after, entry.column + 2));
            }
            _ if layout.start == layout.end => {
                self.changes.push((layout.start..layout.end, format!(" {}", write::inline(after))));
            }
            _ => self.changes.push((layout.start..layout.end, write::inline(after))),
        }
        Ok(())
    }

    /// Takes the lines of a key and its value away, but for comments that have a line of their own.
    fn remove(&mut self, entry: &Entry) -> Result<(), Elsewhere> {
        let start = self.line_start(entry.start);
        if !self.text[start..entry.start].trim().is_empty() {
            return Err(Elsewhere);
        }
        let end = self.line_end(entry.value.end);
        let lines = self.text[start..end].split_inclusive('\n');
        let comments = lines.filter(|line| line.trim_start().starts_with('#')).collect();
        self.changes.push((start..end, comments));
        Ok(())
    }

    /// The column of the dash before an item that stands on the dash's line.
    fn dash_column(&self, item: &Layout) -> Result<usize, Elsewhere> {
        let start = self.line_start(item.start);
        let before = &self.text[start..item.start];
        let column = before.find('-').filter(|dash| before[..*dash].trim().is_empty());
        column.filter(|dash| before[dash + 1..].trim().is_empty()).ok_or(Elsewhere)
    }

    /// Inserts whole lines behind the line of a place.
    fn insert_behind(&mut self, place: usize, lines: String) {
        let end = self.line_end(place);
        let is_cut_off = !self.text[..end].ends_with('\n');
        let lines = if is_cut_off { format!("\n{lines}") } else { lines };
        self.changes.push((end..end, lines));
    }

    fn line_start(&self, place: usize) -> usize {
        self.text[..place].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Behind the end of the line.
    fn line_end(&self, place: usize) -> usize {
        self.text[place..].find('\n').map_or(self.text.len(), |newline| place + newline + 1)
    }

    fn finish(mut self) -> Option<String> {
        // What was collected for one place stays in its order: inner before outer.
        self.changes.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut text, mut done) = (String::new(), 0);
        for (range, replacement) in self.changes {
            text.push_str(self.text.get(done..range.start)?);
            text.push_str(&replacement);
            done = range.end;
        }
        text.push_str(&self.text[done..]);
        Some(text)
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
