//! The parts of an HTTPRoute rule as they are written, and what the standard asks of them.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
use crate::route::filter::{Filter, PathModifier, check_together};
use crate::route::{Expression, HeaderMatch, HttpRule, MAX_CONDITIONS, QueryMatch, ValueMatch};

/// The longest path to match, in bytes (Gateway API).
const MAX_PATH_BYTES: usize = 1024;
/// The longest value to match, in bytes (Gateway API).
const MAX_VALUE_BYTES: usize = 4096;
/// The methods the standard names.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// [`super::PathMatch`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathMatch {
    #[serde(default, rename = "type")]
    type_: PathType,
    #[serde(default = "root")]
    value: String,
}

#[derive(Deserialize, Default)]
enum PathType {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

/// A condition on a header or a query parameter as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Condition {
    #[serde(default, rename = "type")]
    type_: ConditionType,
    name: String,
    value: String,
}

#[derive(Deserialize, Default)]
enum ConditionType {
    #[default]
    Exact,
    RegularExpression,
}

/// [`super::Timeouts`] as they are written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Timeouts {
    #[serde(default, deserialize_with = "field::timeout")]
    request: Option<Duration>,
    #[serde(default, deserialize_with = "field::timeout")]
    backend_request: Option<Duration>,
}

impl TryFrom<PathMatch> for super::PathMatch {
    type Error = Misfit;

    fn try_from(written: PathMatch) -> Result<Self, Misfit> {
        let PathMatch { type_, value } = written;
        let misfit = |message| Misfit::new("value", message);
        match type_ {
            PathType::RegularExpression => Expression::try_from(value).map(Self::Regex).map_err(misfit),
            PathType::Exact => check_path(&value).map(|()| Self::Exact(value.into())).map_err(misfit),
            PathType::PathPrefix => check_path(&value).map(|()| Self::Prefix(value.into())).map_err(misfit),
        }
    }
}

/// What the standard asks of a path: absolute, normalised, and without what a path cannot hold (RFC 3986, section 3.3).
fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("{path:?} is not a path; it starts with /"));
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("a path of {} bytes; at most {MAX_PATH_BYTES} are allowed", path.len()));
    }
    let folded = path.to_ascii_lowercase();
    let parts = ["//", "/./", "/../", "%2f"];
    let ends = ["/.", "/.."];
    if parts.iter().any(|part| folded.contains(part)) || ends.iter().any(|end| folded.ends_with(end)) {
        return Err(format!(
            "{path:?} is never the path of a request; write it without //, /./, /../ and %2F"
        ));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte);
    match path.bytes().all(allowed) {
        true => Ok(()),
        false => {
            Err(format!("{path:?} is not a path; encode other characters as in /caf%C3%A9, without ? and #"))
        }
    }
}

impl TryFrom<Condition> for HeaderMatch {
    type Error = Misfit;

    fn try_from(written: Condition) -> Result<Self, Misfit> {
        let name = field::parse_header_name(&written.name).map_err(|message| Misfit::new("name", message))?;
        Ok(Self { name, value: value_match(written.type_, written.value)? })
    }
}

impl TryFrom<Condition> for QueryMatch {
    type Error = Misfit;

    fn try_from(written: Condition) -> Result<Self, Misfit> {
        if written.name.is_empty() {
            return Err(Misfit::new("name", "empty; write the name of a query parameter"));
        }
        Ok(Self { name: written.name.into(), value: value_match(written.type_, written.value)? })
    }
}

fn value_match(type_: ConditionType, value: String) -> Result<ValueMatch, Misfit> {
    if value.is_empty() || value.len() > MAX_VALUE_BYTES {
        return Err(Misfit::new("value", format!("{} bytes; write 1 to {MAX_VALUE_BYTES}", value.len())));
    }
    match type_ {
        ConditionType::Exact => Ok(ValueMatch::Exact(value.into())),
        ConditionType::RegularExpression => {
            let expression = Expression::try_from(value).map_err(|message| Misfit::new("value", message))?;
            Ok(ValueMatch::Regex(expression))
        }
    }
}

/// Conditions on headers; of two on one name the first counts (Gateway API).
pub(crate) fn header_matches<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<HeaderMatch>, D::Error> {
    let mut matches: Vec<HeaderMatch> = field::up_to::<MAX_CONDITIONS, _, _>(deserializer)?;
    let mut seen = Vec::new();
    matches.retain(|condition| is_new(&mut seen, condition.name.clone()));
    Ok(matches)
}

/// Conditions on query parameters; of two on one name the first counts (Gateway API).
pub(super) fn query_matches<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<QueryMatch>, D::Error> {
    let mut matches: Vec<QueryMatch> = field::up_to::<MAX_CONDITIONS, _, _>(deserializer)?;
    let mut seen: Vec<Arc<str>> = Vec::new();
    matches.retain(|condition| is_new(&mut seen, condition.name.clone()));
    Ok(matches)
}

fn is_new<T: PartialEq>(seen: &mut Vec<T>, name: T) -> bool {
    let new = !seen.contains(&name);
    seen.push(name);
    new
}

/// A method by its name.
pub(super) fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Method>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = METHODS.into_iter().find(|method| method.as_str() == name);
    let names = || METHODS.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    known.map(Some).ok_or_else(|| {
        D::Error::custom(format!("{name:?} is not a method to match; write one of {}", names()))
    })
}

/// Response statuses that may be tried again.
pub(super) fn codes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<StatusCode>, D::Error> {
    Vec::<Code>::deserialize(deserializer).map(|codes| codes.into_iter().map(|code| code.0).collect())
}

struct Code(StatusCode);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let status = number
            .filter(|number| (400..=599).contains(number))
            .and_then(|number| StatusCode::from_u16(number).ok());
        status.map(Self).ok_or_else(|| D::Error::custom(format!("{value} is not a status from 400 to 599")))
    }
}

impl TryFrom<Timeouts> for super::Timeouts {
    type Error = Misfit;

    fn try_from(written: Timeouts) -> Result<Self, Misfit> {
        let Timeouts { request, backend_request } = written;
        match (request, backend_request) {
            (Some(all), Some(one)) if one > all => Err(Misfit::new(
                "backendRequest",
                "longer than timeouts.request, of which it is a part; make it shorter",
            )),
            _ => Ok(Self { request, backend_request }),
        }
    }
}

/// What the parts of a rule must be together.
pub(super) fn check_rule(rule: &HttpRule) -> Result<(), Misfit> {
    check_together(&rule.filters)?;
    rule.backend_refs.iter().try_for_each(|backend| check_together(&backend.filters))?;
    let redirects = rule.filters.iter().any(|filter| matches!(filter, Filter::RequestRedirect(_)));
    if redirects && !rule.backend_refs.is_empty() {
        return Err(Misfit::new(
            "backendRefs",
            "a rule that redirects sends nothing on; remove them or the redirect",
        ));
    }
    let all_prefixes =
        rule.matches.iter().all(|condition| matches!(condition.path, super::PathMatch::Prefix(_)));
    let replaces_prefix =
        |filter: &Filter| matches!(filter.path_modifier(), Some(PathModifier::ReplacePrefixMatch(_)));
    let backend_filters = rule.backend_refs.iter().flat_map(|backend| &backend.filters);
    match rule.filters.iter().chain(backend_filters).any(replaces_prefix) && !all_prefixes {
        true => Err(Misfit::new("filters", "ReplacePrefixMatch needs path matches of type PathPrefix only")),
        false => Ok(()),
    }
}

fn root() -> String {
    "/".to_owned()
}
