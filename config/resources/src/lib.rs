//! Gateway API, Kubernetes and Outrigger objects, read from YAML or JSON into types that cannot be wrong.
//!
//! One way in: text of a file or a JSON value of an API server. Two ways out, together in [`Parsed`]: typed objects,
//! and [`Problem`]s that say what was wrong, where and what to do. Nothing here does I/O, reads a clock or is async,
//! and nothing here knows xDS or how traffic flows: `translate` of the control plane is where these types meet those.

pub mod authorization_policy;
pub mod backend_policy;
pub mod backend_tls_policy;
pub mod crd;
pub mod edit;
pub mod external_service;
mod field;
pub mod inbound_policy;
pub mod kubernetes;
pub mod mesh_config;
pub mod object;
pub mod parse;
pub mod problem;
pub mod reference_grant;
pub mod route;
pub mod route_policy;
mod scope;
pub mod workload;
pub mod x_backend_traffic_policy;

pub use object::{Kind, Meta, Object, ObjectRef, select};
pub use parse::{parse_value, parse_yaml, yaml_values};
pub use problem::{Effect, Location, Parsed, Problem, Severity, Sourced};
