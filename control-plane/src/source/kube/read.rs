//! From an object of the API to a typed one. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::kube::core::{ApiResource, DynamicObject, ObjectMeta};
use outrigger_resources::{Kind, Location, ObjectRef, Problem, Sourced, parse_value};
use serde_json::{Map, Value};

use super::Watched;

/// What problems call the place that objects come from.
const PLACE: &str = "kubernetes";
/// Annotations that mean something to the mesh start so; others are not kept.
const OUR_ANNOTATIONS: &str = "outrigger.dev/";
/// Labels of a node, and of its pods, that say where it is.
pub(super) const REGION_LABEL: &str = "topology.kubernetes.io/region";
pub(super) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Object(ObjectRef),
    Node(Arc<str>),
}

/// An object as it was read.
#[derive(Debug)]
pub(super) enum Reading {
    /// One of the mesh's kinds.
    Object(Box<ObjectReading>),
    /// A node and where it is.
    Node(Arc<str>, Place),
}

/// What reading one object gave.
#[derive(Debug)]
pub(super) struct ObjectReading {
    pub(super) reference: ObjectRef,
    /// The object; `None` when it cannot be used or does not matter.
    pub(super) object: Option<Sourced>,
    pub(super) problems: Vec<Problem>,
}

/// Where a node is; empty where nobody says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) region: Option<String>,
    pub(super) zone: Option<String>,
}

impl Name {
    pub(super) fn watched(&self) -> Watched {
        match self {
            Self::Object(reference) => Watched::Objects(reference.kind),
            Self::Node(_) => Watched::Nodes,
        }
    }

    /// The name of an object of a kind.
    pub(super) fn of(kind: Kind, meta: &ObjectMeta) -> ObjectRef {
        let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
        ObjectRef { kind, namespace: text(&meta.namespace), name: text(&meta.name) }
    }
}

impl Reading {
    pub(super) fn name(&self) -> Name {
        match self {
            Self::Object(reading) => Name::Object(reading.reference.clone()),
            Self::Node(name, _) => Name::Node(name.clone()),
        }
    }
}

/// Reads an object of a kind, which the API serves as `resource`.
pub(super) fn object(kind: Kind, resource: &ApiResource, object: DynamicObject) -> Box<ObjectReading> {
    let reference = Name::of(kind, &object.metadata);
    let location = Location { file: PLACE.into(), line: 0, column: 0 };
    let parsed = parse_value(value(kind, resource, object), &location);
    Box::new(ObjectReading {
        reference,
        object: parsed.objects.into_iter().next(),
        problems: parsed.problems,
    })
}

/// Reads where a node is.
pub(super) fn node(meta: &ObjectMeta) -> Reading {
    let label = |key: &str| meta.labels.as_ref()?.get(key).filter(|value| !value.is_empty()).cloned();
    let place = Place { region: label(REGION_LABEL), zone: label(ZONE_LABEL) };
    Reading::Node(meta.name.as_deref().unwrap_or_default().into(), place)
}

/// The object as a file would have it, without what the API server and others note in it.
fn value(kind: Kind, resource: &ApiResource, object: DynamicObject) -> Value {
    let mut body = match object.data {
        Value::Object(body) => body,
        _ => Map::new(),
    };
    if kind != Kind::Pod {
        body.remove("status");
    }
    body.insert("apiVersion".to_owned(), resource.api_version.clone().into());
    body.insert("kind".to_owned(), resource.kind.clone().into());
    body.insert("metadata".to_owned(), metadata(object.metadata).into());
    body.into()
}

fn metadata(meta: ObjectMeta) -> Map<String, Value> {
    let texts = |map: BTreeMap<String, String>| -> Value {
        Value::Object(map.into_iter().map(|(key, value)| (key, value.into())).collect())
    };
    let ours = |mut annotations: BTreeMap<String, String>| {
        annotations.retain(|key, _| key.starts_with(OUR_ANNOTATIONS));
        annotations
    };
    let fields = [
        ("name", meta.name.map(Value::from)),
        ("namespace", meta.namespace.map(Value::from)),
        ("labels", meta.labels.map(texts)),
        ("annotations", meta.annotations.map(ours).filter(|left| !left.is_empty()).map(texts)),
        ("creationTimestamp", meta.creation_timestamp.map(|time| time.0.to_string().into())),
        ("deletionTimestamp", meta.deletion_timestamp.map(|time| time.0.to_string().into())),
        ("generation", meta.generation.map(Value::from)),
    ];
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}
