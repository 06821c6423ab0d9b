//! GRPCRoute: rules for gRPC calls.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
use crate::object::Meta;
use crate::route::http::header_matches;
use crate::route::{
    BackendRef, Expression, Filter, HeaderMatch, MAX_BACKEND_REFS, MAX_FILTERS, MAX_MATCHES, ParentRef,
    SessionPersistence,
};

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
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct GrpcRule {
    /// Its place in `spec.rules` as written, dropped rules counted.
    #[serde(skip)]
    pub index: usize,
    /// Its name.
    pub name: Option<String>,
    /// Any of these; never empty, since a rule without matches matches everything.
    #[serde(default, deserialize_with = "field::up_to::<MAX_MATCHES, _, _>")]
    pub matches: Vec<GrpcMatch>,
    /// What is done: header modifiers, mirrors and extensions only.
    #[serde(default, deserialize_with = "field::up_to::<MAX_FILTERS, _, _>")]
    pub filters: Vec<Filter>,
    /// Where it goes; empty answers UNAVAILABLE.
    #[serde(default, deserialize_with = "field::up_to::<MAX_BACKEND_REFS, _, _>")]
    pub backend_refs: Vec<BackendRef>,
    /// Whether clients stay with an endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// All conditions hold for a call that matches.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcMatch {
    /// The method, any if absent.
    pub method: Option<GrpcMethodMatch>,
    /// Headers, one condition a name.
    #[serde(deserialize_with = "header_matches")]
    pub headers: Vec<HeaderMatch>,
}

/// A condition on service and method; at least one of them is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenMethodMatch")]
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

impl<'de> Deserialize<'de> for GrpcRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        // The derive with `remote` reads the fields; what they must be together is checked here.
        let mut rule = Self::deserialize(deserializer)?;
        check_filters(&rule.filters).map_err(D::Error::custom)?;
        rule.backend_refs
            .iter()
            .try_for_each(|backend| check_filters(&backend.filters))
            .map_err(D::Error::custom)?;
        if rule.matches.is_empty() {
            rule.matches.push(GrpcMatch::default());
        }
        Ok(rule)
    }
}

/// The standard gives gRPC fewer filters than HTTP.
fn check_filters(filters: &[Filter]) -> Result<(), Misfit> {
    let allowed = |filter: &Filter| {
        matches!(
            filter,
            Filter::RequestHeaderModifier(_)
                | Filter::ResponseHeaderModifier(_)
                | Filter::RequestMirror(_)
                | Filter::ExtensionRef { .. }
        )
    };
    match filters.iter().find(|filter| !allowed(filter)) {
        Some(filter) => {
            Err(Misfit::new("filters", format!("{} is not a filter of a GRPCRoute", filter.type_name())))
        }
        None => crate::route::filter::check_together(filters),
    }
}

/// [`GrpcMethodMatch`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMethodMatch {
    #[serde(default, rename = "type")]
    type_: MethodMatchType,
    service: Option<String>,
    method: Option<String>,
}

#[derive(Deserialize, Default)]
enum MethodMatchType {
    #[default]
    Exact,
    RegularExpression,
}

impl TryFrom<WrittenMethodMatch> for GrpcMethodMatch {
    type Error = Misfit;

    fn try_from(written: WrittenMethodMatch) -> Result<Self, Misfit> {
        let WrittenMethodMatch { type_, service, method } = written;
        if service.is_none() && method.is_none() {
            return Err(Misfit::new("", "write service, method or both"));
        }
        match type_ {
            MethodMatchType::Exact => {
                check_name("service", service.as_deref(), |name| {
                    name.trim_start_matches('.').split('.').all(is_identifier)
                })?;
                check_name("method", method.as_deref(), is_identifier)?;
                Ok(Self::Exact { service: service.map(Arc::from), method: method.map(Arc::from) })
            }
            MethodMatchType::RegularExpression => Ok(Self::Regex {
                service: expression("service", service)?,
                method: expression("method", method)?,
            }),
        }
    }
}

fn check_name(field: &'static str, name: Option<&str>, good: impl Fn(&str) -> bool) -> Result<(), Misfit> {
    match name.filter(|name| !good(name)) {
        Some(name) => {
            Err(Misfit::new(field, format!("{name:?} is not a gRPC {field}; write it as in the .proto file")))
        }
        None => Ok(()),
    }
}

fn is_identifier(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn expression(field: &'static str, source: Option<String>) -> Result<Option<Expression>, Misfit> {
    source.map(Expression::try_from).transpose().map_err(|message| Misfit::new(field, message))
}
