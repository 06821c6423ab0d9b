//! The CustomResourceDefinitions of our kinds: what an API server accepts as one of them.
//!
//! Types, words and ranges are here, so that `kubectl explain` tells them and a wrong type is refused before anything of
//! ours runs. What one schema cannot say (one of two fields, a name that must parse) stays with the parser, which the
//! validating webhook asks. A test holds that whatever the parser accepts is valid here.

use serde_json::{Value, json};

use crate::object::{Kind, OUTRIGGER_GROUP};

mod authorization_policy;
mod backend_policy;
mod external_service;
mod inbound_policy;
mod mesh_config;
mod route_policy;
mod schema;
mod shared;
mod workload;

/// The one version there is of our kinds.
pub const VERSION: &str = "v1alpha1";

/// How one of our kinds is called on the command line, and what its spec is.
struct Definition {
    kind: Kind,
    plural: &'static str,
    short_name: &'static str,
    description: &'static str,
    spec: Value,
}

/// The CustomResourceDefinitions of all of our kinds, in a fixed order.
pub fn definitions() -> Vec<Value> {
    all().iter().map(Definition::manifest).collect()
}

fn all() -> Vec<Definition> {
    vec![
        Definition {
            kind: Kind::AuthorizationPolicy,
            plural: "authorizationpolicies",
            short_name: "authz",
            description: "Who may call a workload.",
            spec: authorization_policy::spec(),
        },
        Definition {
            kind: Kind::BackendPolicy,
            plural: "backendpolicies",
            short_name: "bpol",
            description: "How clients treat a destination.",
            spec: backend_policy::spec(),
        },
        Definition {
            kind: Kind::ExternalService,
            plural: "externalservices",
            short_name: "extsvc",
            description: "A destination outside the mesh.",
            spec: external_service::spec(),
        },
        Definition {
            kind: Kind::InboundPolicy,
            plural: "inboundpolicies",
            short_name: "inpol",
            description: "How a workload receives traffic.",
            spec: inbound_policy::spec(),
        },
        Definition {
            kind: Kind::MeshConfig,
            plural: "meshconfigs",
            short_name: "mesh",
            description: "What the whole mesh agrees on: one, named mesh, in the namespace of the control plane.",
            spec: mesh_config::spec(),
        },
        Definition {
            kind: Kind::RoutePolicy,
            plural: "routepolicies",
            short_name: "rpol",
            description: "What Gateway API routes cannot say yet.",
            spec: route_policy::spec(),
        },
        Definition {
            kind: Kind::Workload,
            plural: "workloads",
            short_name: "wl",
            description: "A process that is not a pod; the selector of a Service picks it by its labels.",
            spec: workload::spec(),
        },
    ]
}

impl Definition {
    fn manifest(&self) -> Value {
        let kind = self.kind.name();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{OUTRIGGER_GROUP}", self.plural)},
            "spec": {
                "group": OUTRIGGER_GROUP,
                "names": {
                    "kind": kind,
                    "listKind": format!("{kind}List"),
                    "plural": self.plural,
                    "singular": kind.to_ascii_lowercase(),
                    "shortNames": [self.short_name],
                    "categories": ["outrigger"],
                },
                "scope": "Namespaced",
                "versions": [{
                    "name": VERSION,
                    "served": true,
                    "storage": true,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns(),
                    "schema": {"openAPIV3Schema": self.schema()},
                }],
            },
        })
    }

    fn schema(&self) -> Value {
        // An absent spec is an empty one, which some kinds can make sense of.
        let required: &[&str] = if self.spec["required"].is_null() { &[] } else { &["spec"] };
        let mut schema = json!({
            "type": "object",
            "description": self.description,
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": self.spec,
                "status": {
                    "type": "object",
                    "description": "What became of it, as the control plane tells it.",
                    "x-kubernetes-preserve-unknown-fields": true,
                },
            },
        });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }
}

/// What `kubectl get` shows beside the name.
fn columns() -> Value {
    json!([
        {
            "name": "Accepted",
            "type": "string",
            "description": "Whether it is in force.",
            "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status",
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ])
}

#[cfg(test)]
pub(crate) mod tests;
