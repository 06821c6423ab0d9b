//! Where an object is written: from the path of a field to line and column.

use std::sync::Arc;

use crate::parse::node::Position;
use crate::parse::path::FieldPath;
use crate::parse::yaml::{Document, Duplicate};
use crate::problem::Location;

/// An object within a document of a file, or a value that came from elsewhere.
pub(crate) struct Source<'a> {
    place: Place<'a>,
    /// The way from the root of the document to the object: into a list.
    base: FieldPath,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    File { file: &'a Arc<str>, document: &'a Document },
    Elsewhere(&'a Location),
}

impl<'a> Source<'a> {
    /// A document of a file.
    pub(crate) fn document(file: &'a Arc<str>, document: &'a Document) -> Self {
        Self { place: Place::File { file, document }, base: FieldPath::default() }
    }

    /// A value of which no more is known than where it came from.
    pub(crate) fn value(location: &'a Location) -> Self {
        Self { place: Place::Elsewhere(location), base: FieldPath::default() }
    }

    /// An item of this list.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self { place: self.place, base: self.base.key("items").index(index) }
    }

    /// Where the object starts.
    pub(crate) fn start(&self) -> Location {
        self.locate(&FieldPath::default())
    }

    /// Where a field of the object is, or would be.
    pub(crate) fn locate(&self, field: &FieldPath) -> Location {
        match self.place {
            Place::File { file, document } => location(file, document.root.position(&self.base.join(field))),
            Place::Elsewhere(location) => location.clone(),
        }
    }

    /// The keys of the object that are written twice.
    pub(crate) fn duplicates(&self) -> Vec<(FieldPath, &Duplicate)> {
        let Place::File { document, .. } = self.place else {
            return Vec::new();
        };
        let below = |duplicate: &'a Duplicate| Some((duplicate.path.below(&self.base)?, duplicate));
        document.duplicates.iter().filter_map(below).collect()
    }

    /// A position of the document as a place in the file.
    pub(crate) fn place_of(&self, position: Position) -> Location {
        match self.place {
            Place::File { file, .. } => location(file, position),
            Place::Elsewhere(location) => location.clone(),
        }
    }
}

/// A place in a file.
pub(crate) fn location(file: &Arc<str>, position: Position) -> Location {
    Location { file: file.clone(), line: position.line, column: position.column }
}
