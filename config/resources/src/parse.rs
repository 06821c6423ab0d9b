//! The way in: a text or a JSON value to objects and problems.
//!
//! Text becomes a tree with positions ([`yaml`]), the tree becomes JSON, and from there on files and an API server go
//! the same way: which object is it ([`identity`]), then its fields by kind ([`kinds`]). Errors of serde carry a path;
//! the path leads back into the tree and so to line and column ([`source`], [`explain`]).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::object::{Kind, Object, ObjectRef};
use crate::problem::{Effect, Location, Parsed, Problem, Severity, Sourced};

mod explain;
mod identity;
mod kinds;
mod node;
mod path;
mod source;
mod strict;
pub(crate) mod yaml;

use identity::{Identity, Recognised};
use path::FieldPath;
use source::Source;
use yaml::Unreadable;

pub use yaml::{MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_EXPANDED_BYTES};

/// So many problems of one text are reported; beyond that the text counts as broken.
pub const MAX_PROBLEMS: usize = 1000;

/// Reads a text of YAML documents (JSON is YAML). `file` is what problems call it.
pub fn parse_yaml(file: &str, text: &str) -> Parsed {
    let file: Arc<str> = file.into();
    let mut reader = Reader::default();
    for document in yaml::documents(text) {
        match document {
            Ok(document) => {
                let value = document.root.to_value();
                reader.document(&Source::document(&file, &document), value);
            }
            Err(unreadable) => reader.unreadable(&file, unreadable),
        }
    }
    reader.finish(&file)
}

/// The documents of a text as they are written, whatever they are; empty ones are left out.
///
/// # Errors
///
/// The first place that is not YAML, and why.
pub fn yaml_values(text: &str) -> Result<Vec<Value>, String> {
    let values = yaml::documents(text).map(|document| match document {
        Ok(document) => Ok(document.root.to_value()),
        Err(Unreadable { position, message }) => {
            Err(format!("{}:{}: {message}", position.line, position.column))
        }
    });
    values.filter(|value| !matches!(value, Ok(Value::Null))).collect()
}

/// Reads a JSON value, an object or a list of objects. `location` is what problems say for all of it.
pub fn parse_value(value: Value, location: &Location) -> Parsed {
    let mut reader = Reader::default();
    reader.document(&Source::value(location), value);
    reader.finish(&location.file)
}

/// Collects what is read.
#[derive(Default)]
struct Reader {
    parsed: Parsed,
    /// Problems beyond [`MAX_PROBLEMS`].
    untold: usize,
}

impl Reader {
    fn document(&mut self, source: &Source<'_>, value: Value) {
        match value {
            Value::Null => {}
            Value::Object(body) => self.object(source, body),
            _ => self.nameless(
                source,
                &FieldPath::default(),
                "not an object; every object starts with apiVersion and kind",
            ),
        }
    }

    fn object(&mut self, source: &Source<'_>, mut body: Map<String, Value>) {
        match identity::recognise(&mut body) {
            Recognised::List { items, api_version, kind } => self.list(source, items, (api_version, kind)),
            Recognised::Object(kind) => self.known(source, kind, body),
            Recognised::Unknown(unknown) => {
                let (severity, effect) = (unknown.severity, Effect::DocumentDropped);
                let location = source.locate(&FieldPath::default().key(unknown.field));
                let field = unknown.field.to_owned();
                self.report(Problem {
                    location: Some(location),
                    object: None,
                    field,
                    message: unknown.message,
                    severity,
                    effect,
                });
            }
            Recognised::Nothing { field, message } => {
                self.nameless(source, &FieldPath::default().key(field), message)
            }
        }
    }

    /// The items of a list; those of a typed list may leave out what the list says for all.
    fn list(&mut self, source: &Source<'_>, items: Vec<Value>, of: (String, Option<String>)) {
        let (api_version, kind) = of;
        for (index, mut item) in items.into_iter().enumerate() {
            if let (Value::Object(body), Some(kind)) = (&mut item, &kind) {
                body.entry("apiVersion").or_insert_with(|| api_version.clone().into());
                body.entry("kind").or_insert_with(|| kind.clone().into());
            }
            self.document(&source.item(index), item);
        }
    }

    fn known(&mut self, source: &Source<'_>, kind: Kind, body: Map<String, Value>) {
        let identity = match Identity::read(kind, &body) {
            Ok(identity) => identity,
            Err((field, message)) => return self.nameless(source, &field, &message),
        };
        let reference = identity.reference;
        let (object, problems) = match identity.wrong_version {
            Some(message) => wrong_version(source, &reference, &body, message),
            None => kinds::read(source, &reference, body),
        };
        problems.into_iter().for_each(|problem| self.report(problem));
        if let Some(object) = object {
            let order = self.parsed.objects.len();
            self.parsed.objects.push(Sourced { object, location: source.start(), order });
        }
    }

    /// Something that does not say which object it is.
    fn nameless(&mut self, source: &Source<'_>, field: &FieldPath, message: &str) {
        self.parsed.broken = true;
        self.report(Problem {
            location: Some(source.locate(field)),
            object: None,
            field: field.to_string(),
            message: message.to_owned(),
            severity: Severity::Error,
            effect: Effect::DocumentDropped,
        });
    }

    fn unreadable(&mut self, file: &Arc<str>, unreadable: Unreadable) {
        self.parsed.broken = true;
        let Unreadable { position, message } = unreadable;
        self.report(Problem {
            location: Some(source::location(file, position)),
            object: None,
            field: String::new(),
            message,
            severity: Severity::Error,
            effect: Effect::DocumentDropped,
        });
    }

    fn report(&mut self, problem: Problem) {
        match self.parsed.problems.len() < MAX_PROBLEMS {
            true => self.parsed.problems.push(problem),
            false => self.untold += 1,
        }
    }

    fn finish(mut self, file: &Arc<str>) -> Parsed {
        if self.untold > 0 {
            self.parsed.broken = true;
            self.parsed.problems.push(Problem {
                location: Some(Location { file: file.clone(), line: 0, column: 0 }),
                object: None,
                field: String::new(),
                message: format!("{} more problems are not listed; mend these first", self.untold),
                severity: Severity::Error,
                effect: Effect::DocumentDropped,
            });
        }
        self.parsed
    }
}

fn wrong_version(
    source: &Source<'_>,
    reference: &ObjectRef,
    body: &Map<String, Value>,
    message: String,
) -> (Option<Object>, Vec<Problem>) {
    let mut problem = Problem {
        location: Some(source.start()),
        object: Some(reference.clone()),
        field: String::new(),
        message,
        severity: Severity::Error,
        effect: Effect::ObjectDropped,
    };
    let stand_in = kinds::stand_in(reference, body);
    if stand_in.is_some() {
        problem.stands_in();
    }
    (stand_in, vec![problem])
}

#[cfg(test)]
mod tests;
