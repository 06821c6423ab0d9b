//! The JSON of references and places; its keys are stable (contracts, section 1).

use outrigger_resources::{Location, ObjectRef};
use serde::Serializer;
use serde::ser::SerializeStruct;

pub(super) fn reference<S: Serializer>(reference: &ObjectRef, serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_struct("ObjectRef", 3)?;
    object.serialize_field("kind", reference.kind.name())?;
    object.serialize_field("namespace", &*reference.namespace)?;
    object.serialize_field("name", &*reference.name)?;
    object.end()
}

pub(super) fn optional_reference<S: Serializer>(
    optional: &Option<ObjectRef>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match optional {
        Some(object) => reference(object, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn location<S: Serializer>(location: &Option<Location>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(location) = location else { return serializer.serialize_none() };
    let mut object = serializer.serialize_struct("Location", 3)?;
    object.serialize_field("file", &*location.file)?;
    object.serialize_field("line", &location.line)?;
    object.serialize_field("column", &location.column)?;
    object.end()
}
