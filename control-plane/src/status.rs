//! What became of what users wrote: conditions of every object, as Gateway API defines them.
//!
//! A pure function of the world, problems of reading included. It explains what `translate` does and asks the same
//! questions of the same code; it decides nothing.

use outrigger_resources::{Effect, Location, Object, ObjectRef, Problem};
use serde::Serialize;

use crate::world::{Held, World};

mod authorization_policies;
mod inbound_policies;
mod journal;
mod json;
mod policies;
mod route_policies;
mod routes;
mod services;

pub use journal::{Journal, MAX_REMEMBERED, News};

/// The name of this controller in the status of Gateway API objects.
pub const CONTROLLER_NAME: &str = "outrigger.dev/mesh-controller";

/// What became of one object, or of one attachment of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectStatus {
    /// The object.
    #[serde(serialize_with = "json::reference")]
    pub object: ObjectRef,
    /// Where it was written.
    #[serde(serialize_with = "json::location")]
    pub location: Option<Location>,
    /// What the conditions are about: a parent of a route, a target of a policy; `None` is the object itself.
    #[serde(serialize_with = "json::optional_reference")]
    pub parent: Option<ObjectRef>,
    /// Who judged, as `status.parents` of a route tells it.
    #[serde(rename = "controllerName")]
    pub controller_name: &'static str,
    /// Sorted by type.
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: bool,
    /// One word for programs.
    pub reason: &'static str,
    /// One sentence for people; empty when all is well.
    pub message: String,
    /// The generation of the object that was judged.
    pub observed_generation: i64,
}

/// The types of conditions of Gateway API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ConditionType {
    /// It is in force.
    Accepted,
    /// Everything it refers to is there and may be used.
    ResolvedRefs,
    /// Part of it is not in force.
    PartiallyInvalid,
}

impl Condition {
    /// Whether somebody should look at it.
    pub fn is_problem(&self) -> bool {
        self.status == (self.type_ == ConditionType::PartiallyInvalid)
    }
}

/// What became of every object, by object and parent.
pub fn evaluate(world: &World) -> Vec<ObjectStatus> {
    let mut statuses = findings(world);
    for problem in world.problems() {
        if let Some(object) = &problem.object {
            take_in(&mut statuses, world, object, problem);
        }
    }
    statuses.sort_by(|a, b| (&a.object, &a.parent).cmp(&(&b.object, &b.parent)));
    statuses
}

/// What the objects of the world say about each other, in no useful order; problems of reading apart. It looks at every
/// object after every change, so questions are asked in their cheapest form.
fn findings(world: &World) -> Vec<ObjectStatus> {
    let mut statuses = Vec::new();
    let trust_domain = world.trust_domain();
    for held in world.objects() {
        match &held.object {
            Object::HttpRoute(_) | Object::GrpcRoute(_) | Object::TcpRoute(_) | Object::TlsRoute(_) => {
                statuses.extend(routes::statuses(world, held));
            }
            Object::BackendPolicy(_) | Object::BackendTlsPolicy(_) | Object::XBackendTrafficPolicy(_) => {
                statuses.extend(policies::statuses(world, held));
            }
            Object::RoutePolicy(policy) => statuses.extend(route_policies::statuses(world, held, policy)),
            Object::InboundPolicy(policy) => {
                statuses.extend(inbound_policies::statuses(world, held, policy));
            }
            Object::AuthorizationPolicy(policy) => {
                statuses.extend(authorization_policies::statuses(world, held, policy));
            }
            Object::Service(service) => statuses.push(services::service(world, held, service)),
            Object::ExternalService(external) => statuses.push(services::external(world, held, external)),
            Object::EndpointSlice(slice) => statuses.extend(services::slice(world, held, slice)),
            Object::Workload(workload) => {
                statuses.push(services::workload(
                    world,
                    held,
                    &services::Described { workload, trust_domain: &trust_domain },
                ));
            }
            Object::MeshConfig(mesh) => statuses.push(policies::mesh_config(world, held, mesh)),
            Object::Namespace(_) | Object::Pod(_) => {}
            Object::ServiceAccount(_) | Object::ConfigMap(_) | Object::ReferenceGrant(_) => {}
        }
    }
    statuses
}

/// Adds what reading found to the conditions of an object, of each of its parents alike.
fn take_in(statuses: &mut Vec<ObjectStatus>, world: &World, object: &ObjectRef, problem: &Problem) {
    let held = world.get(object);
    if !statuses.iter().any(|status| status.object == *object) {
        let mut verdict = Verdict::of(object, held.map(|held| held.as_ref()));
        verdict.location = verdict.location.or_else(|| problem.location.clone());
        statuses.push(verdict.done());
    }
    for status in statuses.iter_mut().filter(|status| status.object == *object) {
        let dropped = match problem.effect {
            Effect::ObjectDropped | Effect::DocumentDropped | Effect::StandIn => true,
            Effect::RuleDropped(_) | Effect::FieldIgnored => false,
        };
        let generation = held.map_or(0, |held| held.object.meta().generation);
        let message = match problem.field.is_empty() {
            true => problem.message.clone(),
            false => format!("{}: {}", problem.field, problem.message),
        };
        let (type_, bad) = match dropped {
            true => (ConditionType::Accepted, false),
            false => (ConditionType::PartiallyInvalid, true),
        };
        status.add(Condition {
            type_,
            status: bad,
            reason: reason::UNSUPPORTED_VALUE,
            message,
            observed_generation: generation,
        });
    }
}

impl ObjectStatus {
    /// Adds a condition. One that is worse replaces one of its type that says all is well, or joins its message.
    fn add(&mut self, condition: Condition) {
        match self.conditions.iter_mut().find(|known| known.type_ == condition.type_) {
            Some(known) if known.is_problem() && condition.is_problem() => {
                if !known.message.contains(&condition.message) {
                    known.message = format!("{}; {}", known.message, condition.message);
                }
            }
            Some(known) if condition.is_problem() => *known = condition,
            Some(_) => {}
            None => self.conditions.push(condition),
        }
        self.conditions.sort_by_key(|condition| condition.type_);
    }
}

/// The words of Gateway API for why a condition is as it is.
mod reason {
    pub(super) const ACCEPTED: &str = "Accepted";
    pub(super) const RESOLVED_REFS: &str = "ResolvedRefs";
    pub(super) const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    pub(super) const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
    pub(super) const NO_MATCHING_PARENT: &str = "NoMatchingParent";
    pub(super) const NOT_ALLOWED_BY_LISTENERS: &str = "NotAllowedByListeners";
    pub(super) const INVALID_FILTER: &str = "InvalidFilter";
    pub(super) const CONFLICTED: &str = "Conflicted";
    pub(super) const TARGET_NOT_FOUND: &str = "TargetNotFound";
    pub(super) const NO_ENDPOINTS: &str = "NoEndpoints";
    pub(super) const INVALID: &str = "Invalid";
    pub(super) const NO_VALID_CA_CERTIFICATE: &str = "NoValidCACertificate";
    pub(super) const INVALID_IDENTITY: &str = "InvalidIdentity";
}

/// A status in the making: all is well until something is said.
struct Verdict {
    object: ObjectRef,
    location: Option<Location>,
    parent: Option<ObjectRef>,
    generation: i64,
    refused: Option<(&'static str, String)>,
    unresolved: Option<(&'static str, String)>,
    invalid: Vec<(&'static str, String)>,
    note: String,
}

impl Verdict {
    fn of(object: &ObjectRef, held: Option<&Held>) -> Self {
        Self {
            object: object.clone(),
            location: held.map(|held| held.location.clone()),
            parent: None,
            generation: held.map_or(0, |held| held.object.meta().generation),
            refused: None,
            unresolved: None,
            invalid: Vec::new(),
            note: String::new(),
        }
    }

    fn about(held: &Held) -> Self {
        Self::of(&held.object.reference(), Some(held))
    }

    fn with_parent(mut self, parent: ObjectRef) -> Self {
        self.parent = Some(parent);
        self
    }

    /// It is not in force. The first reason counts.
    fn refuse(&mut self, reason: &'static str, message: String) {
        self.refused.get_or_insert((reason, message));
    }

    /// Something it refers to cannot be used. The first reason counts, all messages are told.
    fn unresolve(&mut self, reason: &'static str, message: String) {
        match &mut self.unresolved {
            Some((_, known)) => *known = format!("{known}; {message}"),
            none => *none = Some((reason, message)),
        }
    }

    /// Part of it is not in force.
    fn invalidate(&mut self, reason: &'static str, message: String) {
        self.invalid.push((reason, message));
    }

    /// Something worth knowing that is no problem.
    fn note(&mut self, message: &str) {
        self.note = message.to_owned();
    }

    fn done(self) -> ObjectStatus {
        let generation = self.generation;
        let condition = |type_, status, (reason, message): (&'static str, String)| Condition {
            type_,
            status,
            reason,
            message,
            observed_generation: generation,
        };
        let accepted = self.refused.is_none();
        let resolved = self.unresolved.is_none();
        let mut conditions = vec![
            condition(
                ConditionType::Accepted,
                accepted,
                self.refused.unwrap_or((reason::ACCEPTED, self.note)),
            ),
            condition(
                ConditionType::ResolvedRefs,
                resolved,
                self.unresolved.unwrap_or((reason::RESOLVED_REFS, String::new())),
            ),
        ];
        if let Some((reason, _)) = self.invalid.first() {
            let messages: Vec<_> = self.invalid.iter().map(|(_, message)| message.as_str()).collect();
            conditions.push(condition(ConditionType::PartiallyInvalid, true, (*reason, messages.join("; "))));
        }
        ObjectStatus {
            object: self.object,
            location: self.location,
            parent: self.parent,
            controller_name: CONTROLLER_NAME,
            conditions,
        }
    }
}

#[cfg(test)]
mod tests;
