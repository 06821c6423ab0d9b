//! What the status of each object should say, in the shape of its kind; a pure function of the world.
//!
//! Routes say it for each parent and the policies of Gateway API for each ancestor, which other controllers do beside
//! us. Our own kinds have one list of conditions. Kinds of Kubernetes itself have no room for what we would say.

use std::collections::BTreeMap;
use std::time::SystemTime;

use outrigger_resources::route::{ParentRef, TargetRef};
use outrigger_resources::{Kind, Object, ObjectRef};
use serde_json::{Map, Value, json};

use crate::status::{Condition, ConditionType, ObjectStatus, evaluate};
use crate::world::{Held, World, parent_service, policy_target, policy_targets, route_parents};

/// The kinds whose status is written.
pub(super) const KINDS: [Kind; 13] = [
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::TcpRoute,
    Kind::TlsRoute,
    Kind::BackendTlsPolicy,
    Kind::XBackendTrafficPolicy,
    Kind::Workload,
    Kind::ExternalService,
    Kind::BackendPolicy,
    Kind::RoutePolicy,
    Kind::InboundPolicy,
    Kind::AuthorizationPolicy,
    Kind::MeshConfig,
];

/// What the status of an object should say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// When the object was made: one that is made anew under the name has no status yet.
    pub(super) made: Option<SystemTime>,
    /// Where the status has it.
    pub(super) shape: Shape,
    /// What it says.
    pub(super) entries: Vec<Entry>,
}

/// Where a status has its conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `status.parents[].conditions`: routes.
    Parents,
    /// `status.ancestors[].conditions`: policies of Gateway API.
    Ancestors,
    /// `status.conditions`: our own kinds.
    Conditions,
}

/// Conditions, and what they are about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The parent or ancestor, as Gateway API refers to it. `None` in such a shape is each Service that the object itself
    /// names: it could not be read, so we do not know them.
    pub(super) about: Option<Value>,
    /// Sorted by type.
    pub(super) conditions: Vec<Condition>,
}

/// What every status should say.
pub(super) fn wanted(world: &World) -> BTreeMap<ObjectRef, Wanted> {
    let mut all = BTreeMap::new();
    let statuses: Vec<_> =
        evaluate(world).into_iter().filter(|status| KINDS.contains(&status.object.kind)).collect();
    for of_object in statuses.chunk_by(|a, b| a.object == b.object) {
        let Some(first) = of_object.first() else { continue };
        all.insert(first.object.clone(), of(world.get(&first.object).map(|held| &**held), of_object));
    }
    all
}

/// What the status of one object should say, from what was found about it.
fn of(held: Option<&Held>, statuses: &[ObjectStatus]) -> Wanted {
    let made = held.and_then(|held| held.object.meta().creation_timestamp);
    let shape = statuses.first().map_or(Shape::Conditions, |status| shape(status.object.kind));
    let entries = match (shape, held) {
        (Shape::Conditions, _) => vec![Entry { about: None, conditions: merged(statuses) }],
        (_, Some(held)) => entries(&held.object, statuses),
        (_, None) => {
            let entry = |status: &ObjectStatus| Entry { about: None, conditions: status.conditions.clone() };
            statuses.iter().map(entry).collect()
        }
    };
    Wanted { made, shape, entries }
}

fn shape(kind: Kind) -> Shape {
    match kind {
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute | Kind::TlsRoute => Shape::Parents,
        Kind::BackendTlsPolicy | Kind::XBackendTrafficPolicy => Shape::Ancestors,
        _ => Shape::Conditions,
    }
}

/// One entry for each parent or target that is ours to judge. Statuses of one Service come in the order in which the
/// object names it.
fn entries(object: &Object, statuses: &[ObjectStatus]) -> Vec<Entry> {
    let namespace = &object.meta().namespace;
    let parents = route_parents(object).iter();
    let parents =
        parents.filter_map(|parent| Some((parent_service(parent, namespace)?, parent_json(parent))));
    let targets = policy_targets(object).iter();
    let targets = targets.filter_map(|target| {
        let reference = policy_target(target, namespace)?;
        let json = target_json(target, &reference);
        Some((reference, json))
    });
    let mut unused: Vec<_> = statuses.iter().filter(|status| status.parent.is_some()).collect();
    let mut entries = Vec::new();
    for (reference, about) in parents.chain(targets) {
        let Some(at) = unused.iter().position(|status| status.parent.as_ref() == Some(&reference)) else {
            continue;
        };
        entries.push(Entry { about: Some(about), conditions: unused.remove(at).conditions.clone() });
    }
    entries
}

/// A parentRef as the user wrote it, defaults filled in.
fn parent_json(parent: &ParentRef) -> Value {
    let mut json = Map::new();
    json.insert("group".to_owned(), json!(parent.group));
    json.insert("kind".to_owned(), json!(parent.kind));
    json.insert("name".to_owned(), json!(parent.name));
    let optional = [
        ("namespace", parent.namespace.as_deref().map(Value::from)),
        ("sectionName", parent.section_name.as_deref().map(Value::from)),
        ("port", parent.port.map(Value::from)),
    ];
    json.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    Value::Object(json)
}

/// A target as an ancestorRef.
fn target_json(target: &TargetRef, reference: &ObjectRef) -> Value {
    let mut json = json!({
        "group": target.group, "kind": target.kind, "name": target.name, "namespace": reference.namespace,
    });
    if let Some(section) = &target.section_name {
        json["sectionName"] = json!(section);
    }
    json
}

/// One list of conditions for all targets of an object. It is in force when it is so anywhere; what is not in force
/// elsewhere is part of it.
fn merged(statuses: &[ObjectStatus]) -> Vec<Condition> {
    let of = |type_| {
        statuses.iter().flat_map(move |status| {
            status.conditions.iter().filter(move |it| it.type_ == type_).map(move |it| told(status, it))
        })
    };
    let accepted: Vec<_> = of(ConditionType::Accepted).collect();
    let refused = accepted.iter().filter(|condition| condition.is_problem()).count();
    let mut partly: Vec<_> = of(ConditionType::PartiallyInvalid).collect();
    let (mut good, bad): (Vec<_>, Vec<_>) =
        accepted.into_iter().partition(|condition| !condition.is_problem());
    if refused > 0 && !good.is_empty() {
        let part =
            |condition| Condition { type_: ConditionType::PartiallyInvalid, status: true, ..condition };
        partly.splice(0..0, bad.into_iter().map(part));
    } else {
        good.extend(bad);
    }
    [good, of(ConditionType::ResolvedRefs).collect(), partly].into_iter().filter_map(joined).collect()
}

/// The condition with what it is about in its message.
fn told(status: &ObjectStatus, condition: &Condition) -> Condition {
    let mut condition = condition.clone();
    if let Some(parent) = &status.parent
        && !condition.message.is_empty()
    {
        condition.message = format!("{parent}: {}", condition.message);
    }
    condition
}

/// Several conditions of one type as one: problems count before what is well, the first reason counts, every message is
/// told once.
fn joined(conditions: Vec<Condition>) -> Option<Condition> {
    let (bad, good): (Vec<_>, Vec<_>) = conditions.into_iter().partition(Condition::is_problem);
    let mut all = if bad.is_empty() { good } else { bad }.into_iter();
    let mut first = all.next()?;
    for other in all {
        if first.message.is_empty() {
            first.message = other.message;
        } else if !first.message.contains(&other.message) {
            first.message = format!("{}; {}", first.message, other.message);
        }
    }
    Some(first)
}

#[cfg(test)]
mod tests;
