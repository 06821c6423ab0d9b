//! The fields of an object by its kind. Kubernetes' kinds are read loosely, ours strictly, routes rule by rule.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::backend_policy::BackendPolicy;
use crate::backend_tls_policy::{BackendTlsPolicy, Targets};
use crate::external_service::ExternalService;
use crate::inbound_policy::InboundPolicy;
use crate::kubernetes::{
    ConfigData, ConfigMap, Contents, EndpointSlice, Namespace, Pod, Service, ServiceAccount,
};
use crate::mesh_config::MeshConfig;
use crate::object::{Kind, Meta, Object, ObjectRef};
use crate::parse::explain::explain;
use crate::parse::identity::Attributes;
use crate::parse::path::{FieldPath, Step};
use crate::parse::source::Source;
use crate::parse::strict::Strict;
use crate::problem::{Effect, Problem, Severity};
use crate::reference_grant::ReferenceGrant;
use crate::route_policy::RoutePolicy;
use crate::workload::Workload;
use crate::x_backend_traffic_policy::XBackendTrafficPolicy;

mod policies;
mod routes;

pub(crate) use policies::stand_in;

/// What the object says on its first level; anything else is unknown to our own kinds and to routes.
const FIRST_LEVEL: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Reads an object. It is absent when a problem says so.
pub(crate) fn read(
    source: &Source<'_>,
    reference: &ObjectRef,
    body: Map<String, Value>,
) -> (Option<Object>, Vec<Problem>) {
    let written = reference.kind.protects().then(|| body.clone());
    let mut draft = Draft { source, reference, body, problems: Vec::new(), repeating_rules: BTreeSet::new() };
    let object = draft.object();
    let mut problems = draft.problems;
    match object {
        Ok(object) => (Some(object), problems),
        Err(mut problem) => {
            let stand_in = written.and_then(|written| stand_in(reference, &written));
            if stand_in.is_some() {
                problem.stands_in();
            }
            problems.push(*problem);
            (stand_in, problems)
        }
    }
}

/// Why there is no object. Boxed because it travels beside small values.
type Refusal = Box<Problem>;

/// An object while it is read.
struct Draft<'a> {
    source: &'a Source<'a>,
    reference: &'a ObjectRef,
    body: Map<String, Value>,
    /// Problems that leave the object in force.
    problems: Vec<Problem>,
    /// Rules in which a key is written twice.
    repeating_rules: BTreeSet<usize>,
}

impl Draft<'_> {
    fn object(&mut self) -> Result<Object, Refusal> {
        self.refuse_repeated_keys()?;
        let meta = self.meta()?;
        Ok(match self.reference.kind {
            Kind::Namespace => Object::Namespace(Namespace { meta }),
            Kind::ServiceAccount => Object::ServiceAccount(ServiceAccount { meta }),
            Kind::Service => Object::Service(Service { meta, spec: self.loose("spec")? }),
            Kind::EndpointSlice => Object::EndpointSlice(self.endpoint_slice(meta)?),
            Kind::Pod => Object::Pod(Pod { meta, spec: self.loose("spec")?, status: self.loose("status")? }),
            Kind::Workload => Object::Workload(Workload { meta, spec: self.strict_spec()? }),
            Kind::ExternalService => {
                Object::ExternalService(ExternalService { meta, spec: self.strict_spec()? })
            }
            Kind::BackendPolicy => {
                Object::BackendPolicy(BackendPolicy { meta, spec: Box::new(self.strict_spec()?) })
            }
            Kind::ConfigMap => {
                let data: ConfigData = self.loose("data")?;
                Object::ConfigMap(ConfigMap { meta, authorities: data.authorities })
            }
            Kind::BackendTlsPolicy => Object::BackendTlsPolicy(self.backend_tls_policy(meta)?),
            Kind::XBackendTrafficPolicy => {
                Object::XBackendTrafficPolicy(XBackendTrafficPolicy { meta, spec: self.strict_spec()? })
            }
            Kind::RoutePolicy => {
                Object::RoutePolicy(RoutePolicy { meta, spec: Box::new(self.strict_spec()?) })
            }
            Kind::InboundPolicy => {
                let spec = Box::new(self.strict_spec()?);
                Object::InboundPolicy(InboundPolicy { meta, spec, is_stand_in: false })
            }
            Kind::MeshConfig => Object::MeshConfig(MeshConfig { meta, spec: self.strict_spec()? }),
            Kind::ReferenceGrant => {
                Object::ReferenceGrant(ReferenceGrant { meta, spec: self.strict_spec()? })
            }
            Kind::HttpRoute => Object::HttpRoute(self.http_route(meta)?),
            Kind::GrpcRoute => Object::GrpcRoute(self.grpc_route(meta)?),
            Kind::TcpRoute => Object::TcpRoute(self.tcp_route(meta)?),
            Kind::TlsRoute => Object::TlsRoute(self.tls_route(meta)?),
            Kind::AuthorizationPolicy => Object::AuthorizationPolicy(self.authorization_policy(meta)?),
        })
    }

    /// A key that is written twice is an error of YAML; which of the two was meant cannot be known.
    fn refuse_repeated_keys(&mut self) -> Result<(), Refusal> {
        for (path, duplicate) in self.source.duplicates() {
            let first = self.source.place_of(duplicate.first);
            let message = format!("written twice, first in line {}; remove one", first.line);
            let mut problem = self.problem(&path, message);
            problem.location = Some(self.source.place_of(duplicate.position));
            match routes::rule_of(self.reference.kind, &path) {
                None => return Err(Box::new(problem)),
                Some(rule) => {
                    problem.effect = Effect::RuleDropped(rule);
                    self.repeating_rules.insert(rule);
                    self.problems.push(problem);
                }
            }
        }
        Ok(())
    }

    fn meta(&mut self) -> Result<Meta, Refusal> {
        let attributes: Attributes = self.loose("metadata")?;
        Ok(meta(self.reference, attributes))
    }

    /// What cannot be understood of it below its targets leaves it an object that nobody can satisfy.
    fn backend_tls_policy(&mut self, meta: Meta) -> Result<BackendTlsPolicy, Refusal> {
        let path = FieldPath::default().key("spec");
        let Value::Object(mut spec) = self.take("spec") else {
            return Err(Box::new(self.problem(&path, "not a mapping".to_owned())));
        };
        let targets = spec.remove("targetRefs").unwrap_or(Value::Array(Vec::new()));
        let target_refs = self.read::<Targets>(&path.key("targetRefs"), targets)?.0;
        let written = spec.remove("validation").unwrap_or(Value::Null);
        let mut validation = self.read(&path.key("validation"), written);
        if let Some(unknown) = spec.keys().next() {
            let message = "not a field this version reads; write targetRefs and validation".to_owned();
            validation = validation.and(Err(Box::new(self.problem(&path.key(unknown), message))));
        }
        let validation = validation.map_err(|problem| {
            let why = format!("{}: {}", problem.field, problem.message);
            self.problems.push(Problem { effect: Effect::FieldIgnored, ..*problem });
            why.into()
        });
        Ok(BackendTlsPolicy { meta, target_refs, validation })
    }

    fn endpoint_slice(&mut self, meta: Meta) -> Result<EndpointSlice, Refusal> {
        let body = without_nulls(Value::Object(std::mem::take(&mut self.body)));
        let contents: Contents = self.read(&FieldPath::default(), body)?;
        Ok(EndpointSlice::new(meta, contents))
    }

    /// A part of which we read some fields; `null` is absence, as Kubernetes has it.
    fn loose<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, Refusal> {
        let value = self.take(key);
        self.read(&FieldPath::default().key(key), without_nulls(value))
    }

    /// The spec of one of our kinds, of which we know every field.
    fn strict_spec<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        if let Some(problem) = self.unknown_first_level().into_iter().next() {
            return Err(Box::new(problem));
        }
        let spec = self.take("spec");
        self.read(&FieldPath::default().key("spec"), spec)
    }

    /// A problem for each field on the first level that should not be there.
    fn unknown_first_level(&self) -> Vec<Problem> {
        let unknown = self.body.keys().filter(|key| !FIRST_LEVEL.contains(&key.as_str()));
        let problem = |key: &String| {
            let message = "unknown field; an object has apiVersion, kind, metadata and spec".to_owned();
            self.problem(&FieldPath::default().key(key), message)
        };
        unknown.map(problem).collect()
    }

    /// Takes a part of the object out; an absent one is empty.
    fn take(&mut self, key: &str) -> Value {
        match self.body.remove(key) {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(value) => value,
        }
    }

    fn read<T: DeserializeOwned>(&self, path: &FieldPath, value: Value) -> Result<T, Refusal> {
        serde_path_to_error::deserialize(Strict(value)).map_err(|error| {
            let (field, message) = explain(&error);
            Box::new(self.problem(&path.join(&field), message))
        })
    }

    /// A problem that costs the object.
    fn problem(&self, field: &FieldPath, message: String) -> Problem {
        Problem {
            location: Some(self.source.locate(field)),
            object: Some(self.reference.clone()),
            field: field.to_string(),
            message,
            severity: Severity::Error,
            effect: Effect::ObjectDropped,
        }
    }
}

fn meta(reference: &ObjectRef, attributes: Attributes) -> Meta {
    Meta {
        name: reference.name.clone(),
        namespace: reference.namespace.clone(),
        labels: attributes.labels,
        annotations: attributes.annotations,
        creation_timestamp: attributes.creation_timestamp,
        deletion_timestamp: attributes.deletion_timestamp,
        generation: attributes.generation,
    }
}

/// The value without keys that have none.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(entries.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

/// The keys a path starts with, if it is long enough.
fn starts_with_rule(path: &FieldPath) -> Option<usize> {
    match path.steps() {
        [Step::Key(spec), Step::Key(rules), Step::Index(rule), ..] if spec == "spec" && rules == "rules" => {
            Some(*rule)
        }
        _ => None,
    }
}
