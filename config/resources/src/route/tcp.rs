//! TCPRoute: where opaque connections go.

use crate::object::Meta;
use crate::route::{BackendRef, ParentRef};

/// Where opaque connections go.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpRoute {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: TcpRouteSpec,
}

/// `TCPRoute.spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// The rules that can be used, in the order written; the first is the one that counts.
    pub rules: Vec<TcpRule>,
    /// The indexes of the rules that cannot; each has a problem that says why.
    pub dropped_rules: Vec<usize>,
}

/// One rule of a [`TcpRoute`].
#[derive(Debug, Clone, PartialEq)]
pub struct TcpRule {
    /// Its place in `spec.rules` as written, dropped rules counted.
    pub index: usize,
    /// Its name.
    pub name: Option<String>,
    /// Where connections go; they have no filters.
    pub backend_refs: Vec<BackendRef>,
}
