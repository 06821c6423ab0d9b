//! HTTPRoute: rules for HTTP requests.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, Method, StatusCode};
use serde::{Deserialize, Deserializer};

use crate::field;
use crate::object::Meta;
use crate::route::{
    BackendRef, Expression, Filter, MAX_BACKEND_REFS, MAX_FILTERS, MAX_MATCHES, ParentRef, SessionPersistence,
};

mod written;

pub(super) use written::header_matches;

/// Rules for HTTP requests.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRoute {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: HttpRouteSpec,
}

/// `HTTPRoute.spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// Host names it is for; not looked at for a Service parent, as GAMMA says.
    pub hostnames: Vec<String>,
    /// The rules that can be used, in the order written.
    pub rules: Vec<HttpRule>,
    /// The indexes of the rules that cannot; each has a problem that says why.
    pub dropped_rules: Vec<usize>,
}

/// One rule of an [`HttpRoute`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct HttpRule {
    /// Its place in `spec.rules` as written, dropped rules counted.
    #[serde(skip)]
    pub index: usize,
    /// Its name.
    pub name: Option<String>,
    /// Any of these; never empty, since a rule without matches matches everything.
    #[serde(default, deserialize_with = "field::up_to::<MAX_MATCHES, _, _>")]
    pub matches: Vec<HttpMatch>,
    /// What is done, in the order written.
    #[serde(default, deserialize_with = "field::up_to::<MAX_FILTERS, _, _>")]
    pub filters: Vec<Filter>,
    /// Where it goes; empty answers 500 unless a filter answers.
    #[serde(default, deserialize_with = "field::up_to::<MAX_BACKEND_REFS, _, _>")]
    pub backend_refs: Vec<BackendRef>,
    /// How long it may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// Whether clients stay with an endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// All conditions hold for a request that matches.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpMatch {
    /// The path; everything unless written.
    pub path: PathMatch,
    /// The method, any if absent.
    #[serde(deserialize_with = "written::method")]
    pub method: Option<Method>,
    /// Headers, one condition a name: of two on one name the first counts, as the standard says.
    #[serde(deserialize_with = "header_matches")]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters, likewise.
    #[serde(deserialize_with = "written::query_matches")]
    pub query_params: Vec<QueryMatch>,
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::PathMatch")]
pub enum PathMatch {
    /// The whole path; starts with `/`.
    Exact(Arc<str>),
    /// Whole segments from the start; starts with `/`.
    Prefix(Arc<str>),
    /// The whole path by an expression.
    Regex(Expression),
}

/// A condition on a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::Condition")]
pub struct HeaderMatch {
    /// The field name.
    pub name: HeaderName,
    /// Its value.
    pub value: ValueMatch,
}

/// A condition on a query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::Condition")]
pub struct QueryMatch {
    /// The name, compared as it stands.
    pub name: Arc<str>,
    /// Its value.
    pub value: ValueMatch,
}

/// A condition on a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// Equal.
    Exact(Arc<str>),
    /// The whole value by an expression.
    Regex(Expression),
}

/// How long a request may take. `0s` in the standard means no limit, and so does `None` here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::Timeouts")]
pub struct Timeouts {
    /// From the whole request received to the whole response.
    pub request: Option<Duration>,
    /// For one try; never longer than `request`.
    pub backend_request: Option<Duration>,
}

/// What is tried again (GEP-1731).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Response statuses, 400 to 599.
    #[serde(default, deserialize_with = "written::codes")]
    pub codes: Vec<StatusCode>,
    /// Tries after the first; `None` leaves it to the mesh.
    #[serde(default, deserialize_with = "field::some_number")]
    pub attempts: Option<u32>,
    /// The shortest wait before a retry; `None` leaves it to the mesh.
    #[serde(default, deserialize_with = "field::duration")]
    pub backoff: Option<Duration>,
}

impl Default for HttpRule {
    fn default() -> Self {
        Self {
            index: 0,
            name: None,
            matches: vec![HttpMatch::default()],
            filters: Vec::new(),
            backend_refs: Vec::new(),
            timeouts: Timeouts::default(),
            retry: None,
            session_persistence: None,
        }
    }
}

impl Default for HttpMatch {
    fn default() -> Self {
        Self {
            path: PathMatch::Prefix("/".into()),
            method: None,
            headers: Vec::new(),
            query_params: Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for HttpRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        // The derive with `remote` reads the fields; what they must be together is checked here.
        let mut rule = Self::deserialize(deserializer)?;
        if rule.matches.is_empty() {
            rule.matches.push(HttpMatch::default());
        }
        written::check_rule(&rule).map_err(D::Error::custom)?;
        Ok(rule)
    }
}
