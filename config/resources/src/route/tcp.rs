//! TCPRoute: where opaque connections go.

use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
use crate::object::Meta;
use crate::route::{BackendRef, MAX_BACKEND_REFS, ParentRef};

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

/// One rule of a [`TcpRoute`] or of a [`crate::route::TlsRoute`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRule {
    /// Its place in `spec.rules` as written, dropped rules counted.
    #[serde(skip)]
    pub index: usize,
    /// Its name.
    pub name: Option<String>,
    /// Where connections go; they have no filters. Empty closes connections at once.
    #[serde(default, deserialize_with = "backend_refs")]
    pub backend_refs: Vec<BackendRef>,
}

fn backend_refs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BackendRef>, D::Error> {
    use serde::de::Error;
    let backend_refs: Vec<BackendRef> = field::up_to::<MAX_BACKEND_REFS, _, _>(deserializer)?;
    match backend_refs.iter().all(|backend| backend.filters.is_empty()) {
        true => Ok(backend_refs),
        false => Err(D::Error::custom(Misfit::new(
            "filters",
            "a TCPRoute or TLSRoute has no filters; remove them",
        ))),
    }
}
