//! Where the pods are in an object: a Pod is one, a Deployment has the template of one, a List has objects.

use serde_json::Value;

use super::{list, text};

/// The most levels of Lists in Lists; what is deeper is left alone.
const MAX_LISTS: usize = 4;

/// A Pod, or the template of one, in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Where it is in the object (RFC 6901); empty when it is the object.
    pub pointer: String,
    /// The object that has it: `Deployment/shop/web`.
    pub object: String,
    /// The namespace that the object says.
    pub namespace: Option<String>,
}

/// All Pods and templates in an object.
pub fn find(object: &Value) -> Vec<Template> {
    let mut found = Vec::new();
    collect(object, "", MAX_LISTS, &mut found);
    found
}

fn collect(object: &Value, at: &str, lists: usize, found: &mut Vec<Template>) {
    let kind = text(object, "/kind").unwrap_or_default();
    let group = text(object, "/apiVersion").and_then(|version| version.split_once('/')).map_or("", |it| it.0);
    if kind.ends_with("List") && object.get("items").is_some() {
        if lists > 0 {
            for (index, item) in list(object, "/items").enumerate() {
                collect(item, &format!("{at}/items/{index}"), lists - 1, found);
            }
        }
        return;
    }
    let Some(below) = place(group, kind) else { return };
    if object.pointer(below).is_some() {
        let namespace = text(object, "/metadata/namespace").map(str::to_owned);
        let pointer = format!("{at}{below}");
        found.push(Template { pointer, object: reference(object, kind), namespace });
    }
}

fn place(group: &str, kind: &str) -> Option<&'static str> {
    match (group, kind) {
        ("", "Pod") => Some(""),
        ("", "PodTemplate") => Some("/template"),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// What an object is called, as our messages have it.
pub fn reference(object: &Value, kind: &str) -> String {
    let generated = || text(object, "/metadata/generateName").map(|name| format!("{name}*"));
    let name = text(object, "/metadata/name").map(str::to_owned).or_else(generated);
    let name = name.unwrap_or_else(|| "(no name)".to_owned());
    match text(object, "/metadata/namespace") {
        Some(namespace) => format!("{kind}/{namespace}/{name}"),
        None => format!("{kind}/{name}"),
    }
}
