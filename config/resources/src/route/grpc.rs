//! GRPCRoute: rules for gRPC calls.

use std::sync::Arc;

use crate::object::Meta;
use crate::route::{BackendRef, Expression, Filter, HeaderMatch, ParentRef, SessionPersistence};

/// Rules for gRPC calls.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcRoute {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: GrpcRouteSpec,
}

/// `GRPCRoute.spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// Host names it is for; not looked at for a Service parent, as GAMMA says.
    pub hostnames: Vec<String>,
    /// The rules that can be used, in the order written.
    pub rules: Vec<GrpcRule>,
    /// The indexes of the rules that cannot; each has a problem that says why.
    pub dropped_rules: Vec<usize>,
}

/// One rule of a [`GrpcRoute`].
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcRule {
    /// Its place in `spec.rules` as written, dropped rules counted.
    pub index: usize,
    /// Its name.
    pub name: Option<String>,
    /// Any of these; never empty, since a rule without matches matches everything.
    pub matches: Vec<GrpcMatch>,
    /// What is done: header modifiers, mirrors and extensions only.
    pub filters: Vec<Filter>,
    /// Where it goes; empty answers UNAVAILABLE.
    pub backend_refs: Vec<BackendRef>,
    /// Whether clients stay with an endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// All conditions hold for a call that matches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GrpcMatch {
    /// The method, any if absent.
    pub method: Option<GrpcMethodMatch>,
    /// Headers, one condition a name.
    pub headers: Vec<HeaderMatch>,
}

/// A condition on service and method; at least one of them is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcMethodMatch {
    /// Equal, byte for byte.
    Exact {
        /// The service with its package.
        service: Option<Arc<str>>,
        /// The method.
        method: Option<Arc<str>>,
    },
    /// Each by an expression for the whole of it.
    Regex {
        /// The service with its package.
        service: Option<Expression>,
        /// The method.
        method: Option<Expression>,
    },
}
