//! Which object is it: `apiVersion`, `kind`, name and namespace; and its metadata.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::{Map, Value};

use crate::field::{check_label, check_subdomain};
use crate::mesh_config::MESH_CONFIG_NAME;
use crate::object::{Kind, OUTRIGGER_GROUP, ObjectRef};
use crate::parse::path::FieldPath;
use crate::problem::Severity;

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// What a mapping turned out to be.
pub(crate) enum Recognised {
    /// Objects in a list; of one kind, if the list says so.
    List { items: Vec<Value>, api_version: String, kind: Option<String> },
    /// An object of a kind we know.
    Object(Kind),
    /// An object that is not for us.
    Unknown(Unknown),
    /// Not an object.
    Nothing { field: &'static str, message: &'static str },
}

/// An object that is not for us.
pub(crate) struct Unknown {
    pub(crate) field: &'static str,
    pub(crate) message: String,
    pub(crate) severity: Severity,
}

/// Which object it is.
pub(crate) struct Identity {
    pub(crate) reference: ObjectRef,
    /// Why its version cannot be read.
    pub(crate) wrong_version: Option<String>,
}

/// Recognises a mapping; the items of a list are taken out of it.
pub(crate) fn recognise(body: &mut Map<String, Value>) -> Recognised {
    let text =
        |key: &str| body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let Some(api_version) = text("apiVersion") else {
        let message = "missing; every object starts with apiVersion and kind";
        return Recognised::Nothing { field: "apiVersion", message };
    };
    let Some(kind) = text("kind") else {
        return Recognised::Nothing {
            field: "kind",
            message: "missing; every object starts with apiVersion and kind",
        };
    };
    if let Some(of) = kind.strip_suffix("List") {
        return match body.remove("items") {
            Some(Value::Array(items)) => {
                let of = Some(of.to_owned()).filter(|of| !of.is_empty());
                Recognised::List { items, api_version, kind: of }
            }
            None | Some(Value::Null) => Recognised::List { items: Vec::new(), api_version, kind: None },
            Some(_) => {
                Recognised::Nothing { field: "items", message: "not a list; write one item after the other" }
            }
        };
    }
    let (group, _) = split_version(&api_version);
    match Kind::find(group, &kind) {
        Some(kind) => Recognised::Object(kind),
        None => Recognised::Unknown(unknown(&api_version, group, &kind)),
    }
}

fn unknown(api_version: &str, group: &str, kind: &str) -> Unknown {
    if let Some(known) = Kind::ALL.into_iter().find(|known| known.name() == kind) {
        let message = format!("{api_version:?} has no {kind} that we know; write {}", api_versions(known));
        return Unknown { field: "apiVersion", message, severity: Severity::Error };
    }
    let message = format!("{kind} of {api_version} is not a kind the mesh reads; it is ignored");
    // A kind of our own group is a misspelt one, and may well be a policy.
    let severity = if group == OUTRIGGER_GROUP { Severity::Error } else { Severity::Warning };
    Unknown { field: "kind", message, severity }
}

fn split_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn api_versions(kind: Kind) -> String {
    let full = |version: &&str| match kind.group() {
        "" => (*version).to_owned(),
        group => format!("{group}/{version}"),
    };
    kind.versions().iter().map(full).collect::<Vec<_>>().join(" or ")
}

impl Identity {
    /// Reads name and namespace. The error is a field and a message: without a name no object can be spoken of.
    pub(crate) fn read(kind: Kind, body: &Map<String, Value>) -> Result<Self, (FieldPath, String)> {
        let metadata = FieldPath::default().key("metadata");
        let text = |key: &str| match body.get("metadata").and_then(|metadata| metadata.get(key)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => {
                Err((metadata.key(key), format!("{other} where a text is expected; put it in quotes")))
            }
        };
        let checked =
            |key: &str, check: Result<(), String>| check.map_err(|message| (metadata.key(key), message));
        let name =
            text("name")?.ok_or_else(|| (metadata.key("name"), format!("missing; which {kind} is it?")))?;
        let check =
            if matches!(kind, Kind::Namespace | Kind::Service) { check_label } else { check_subdomain };
        checked("name", check(name))?;
        let namespace = match kind.is_namespaced() {
            true => text("namespace")?.unwrap_or(DEFAULT_NAMESPACE),
            false => "",
        };
        if kind.is_namespaced() {
            checked("namespace", check_label(namespace))?;
        }
        let reference = ObjectRef { kind, namespace: namespace.into(), name: name.into() };
        Ok(Self { reference, wrong_version: wrong_version(kind, body) })
    }
}

fn wrong_version(kind: Kind, body: &Map<String, Value>) -> Option<String> {
    let api_version = body.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let (_, version) = split_version(api_version);
    if !kind.versions().contains(&version) {
        return Some(format!("{api_version} is a version we do not read; write {}", api_versions(kind)));
    }
    let name = body.get("metadata").and_then(|metadata| metadata.get("name"));
    if kind == Kind::MeshConfig && name.and_then(Value::as_str) != Some(MESH_CONFIG_NAME) {
        return Some(format!(
            "there is one MeshConfig and its name is {MESH_CONFIG_NAME:?}; this one is ignored"
        ));
    }
    None
}

/// `metadata` without name and namespace, which [`Identity`] has read.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Attributes {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "timestamp")]
    pub(crate) creation_timestamp: Option<SystemTime>,
    #[serde(deserialize_with = "timestamp")]
    pub(crate) deletion_timestamp: Option<SystemTime>,
    pub(crate) generation: i64,
}

fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = Arc::<str>::deserialize(deserializer)?;
    let parsed = humantime::parse_rfc3339(&text).map(Some);
    parsed.map_err(|_| {
        D::Error::custom(format!("{text:?} is not a time; write it in UTC like 2026-01-31T12:00:00Z"))
    })
}
