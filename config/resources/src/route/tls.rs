//! TLSRoute: where TLS connections go by the name that the client asks for (SNI). They are never opened.

use std::sync::Arc;

use serde::Deserialize;

use crate::field;
use crate::object::Meta;
use crate::route::{ParentRef, TcpRule};

/// Where TLS connections go.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsRoute {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: TlsRouteSpec,
}

/// `TLSRoute.spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// Names in lower case, or `*.` and the end of them. Empty: any TLS connection that no name of another is for.
    pub hostnames: Vec<Arc<str>>,
    /// The rules that can be used, in the order written; the first is the one that counts.
    pub rules: Vec<TcpRule>,
    /// The indexes of the rules that cannot; each has a problem that says why.
    pub dropped_rules: Vec<usize>,
}

/// At most so many names (Gateway API).
const MAX_HOSTNAMES: usize = 16;

/// `spec.hostnames` of a [`TlsRoute`].
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct ServerNames(
    #[serde(deserialize_with = "field::up_to::<MAX_HOSTNAMES, _, _>")] Vec<ServerName>,
);

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct ServerName(Arc<str>);

impl TryFrom<String> for ServerName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        field::parse_host_pattern(&text).map(Self)
    }
}

impl From<ServerNames> for Vec<Arc<str>> {
    fn from(names: ServerNames) -> Self {
        names.0.into_iter().map(|name| name.0).collect()
    }
}
