//! What comes out of reading: objects with the place they came from, and problems written for people.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::object::{Object, ObjectRef};

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file as the caller named it, or what stands for one (`kubernetes`).
    pub file: Arc<str>,
    /// The line, from 1; 0 when only the file is known.
    pub line: u32,
    /// The column in characters, from 1; 0 when only the file is known.
    pub column: u32,
}

/// An object and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Sourced {
    /// The object.
    pub object: Object,
    /// Where it starts.
    pub location: Location,
    /// Its place among the objects of the text, from 0.
    pub order: usize,
}

/// What reading a text gave.
///
/// Four degrees of damage ask for different care by a caller that holds the previous state of the same file:
/// * [`Parsed::broken`]: a document could not be read at all, so what it held is unknown. Keep the last good objects
///   of the file that `objects` does not replace.
/// * [`Parsed::failed`]: an object is named but cannot be used. Keep its last good version, or do without it; nothing
///   else is touched.
/// * [`Effect::StandIn`]: an object that protects cannot be used; what refuses everything that it is about is in `objects`.
///   Its last good version is better, where there is one.
/// * any other problem: the object is in `objects`, without the rule or field the problem names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// What could be read, in the order of the text.
    pub objects: Vec<Sourced>,
    /// What could not, in the order of the text.
    pub problems: Vec<Problem>,
    /// Whether a document could not be read (not YAML, cut off, too large) or does not say which object it is.
    pub broken: bool,
}

/// Something wrong in a text. Displayed on one line with the place in front.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Where.
    pub location: Option<Location>,
    /// In which object, where that is known.
    pub object: Option<ObjectRef>,
    /// The field, like `spec.rules[1].matches[0].path.type`; empty when the whole is meant.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is not in force because of it.
    pub effect: Effect,
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something was left out that the user may well live without.
    Warning,
    /// What was asked for is not in force.
    Error,
}

/// What is left out because of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The whole YAML document.
    DocumentDropped,
    /// The object.
    ObjectDropped,
    /// The object, whose kind protects: what refuses everything that it is about is in force instead.
    StandIn,
    /// One rule of a route or an AuthorizationPolicy, by its index; the object and its other rules are in force.
    RuleDropped(usize),
    /// One field; everything else is in force.
    FieldIgnored,
}

impl Parsed {
    /// The objects that are named in the text but cannot be used.
    pub fn failed(&self) -> BTreeSet<&ObjectRef> {
        let dropped = self.problems.iter().filter(|problem| problem.effect == Effect::ObjectDropped);
        dropped.filter_map(|problem| problem.object.as_ref()).collect()
    }
}

/// What a problem says of a stand-in.
const STANDS_IN: &str = "; until it is mended everything that it is about is refused";

impl Problem {
    /// Says that something stands in for the object.
    pub(crate) fn stands_in(&mut self) {
        self.effect = Effect::StandIn;
        self.message.push_str(STANDS_IN);
    }

    /// Says that what was read before stays in force, which takes nothing away, instead of nothing or of a stand-in.
    pub fn stays_in_force(&mut self) {
        if self.effect == Effect::StandIn {
            self.effect = Effect::ObjectDropped;
            let said = self.message.strip_suffix(STANDS_IN).map(str::len);
            self.message.truncate(said.unwrap_or(self.message.len()));
        }
        self.message.push_str("; what was read before stays in force");
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{}:{}", self.file, line, self.column),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
