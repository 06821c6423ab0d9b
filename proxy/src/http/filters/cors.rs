//! What browsers of other origins may do (Fetch, section 3.3, "CORS protocol"; Gateway API, `HTTPCORSFilter`).
//!
//! The answer to a preflight is the proxy's own: 200, with leave or without it. What an application says of the matter
//! itself is taken out of its answers, so that there is one who decides.

use std::fmt::Display;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use outrigger_model::filter::{AllowList, Cors, OriginMatch};
use outrigger_model::route::HeaderChanges;

use crate::http::Body;
use crate::http::answer::Stop;

/// What answers say of the matter.
const FIELDS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

const STAR: HeaderValue = HeaderValue::from_static("*");

/// Puts what a policy says of a request into the head of its answer. A preflight is answered.
pub(super) fn cors(policy: &Cors, parts: &Parts, answer: &mut HeaderChanges) -> Result<(), Stop> {
    // The policy of a backend replaces what the route's has said.
    answer.set.retain(|(name, _)| !FIELDS.contains(name));
    answer.add.retain(|(name, value)| *name != VARY || *value != "Origin");
    answer.remove.extend(FIELDS);
    if names_origin(policy) {
        answer.add.push((VARY, HeaderValue::from_static("Origin")));
    }
    let preflight = parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if let Some(origin) = allowed_origin(policy, &parts.headers) {
        answer.set.push((ACCESS_CONTROL_ALLOW_ORIGIN, if names_origin(policy) { origin } else { STAR }));
        if policy.allow_credentials {
            answer.set.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        match preflight {
            true => allow(policy, &parts.headers, answer),
            false => expose(policy, answer),
        }
    }
    match preflight {
        true => Err(Stop::Answered(Box::new(Response::new(Body::Empty)))),
        false => Ok(()),
    }
}

/// Whether answers differ by origin. A `*` is no answer to who sends credentials.
fn names_origin(policy: &Cors) -> bool {
    let any = policy.allow_origins.iter().any(|origin| matches!(origin, OriginMatch::Any));
    !any || policy.allow_credentials
}

fn allowed_origin(policy: &Cors, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let (origin, None) = (origins.next()?, origins.next()) else { return None };
    let text = origin.to_str().ok()?;
    policy.allow_origins.iter().any(|allowed| allowed.allows(text)).then(|| origin.clone())
}

/// The leave of a preflight. Where everything is allowed, what was asked for is: a `*` would leave Authorization out, and
/// everything from who sends credentials.
fn allow(policy: &Cors, headers: &HeaderMap, answer: &mut HeaderChanges) {
    let asked = |name: HeaderName| headers.get(name).cloned();
    let methods = match &policy.allow_methods {
        AllowList::Any => asked(ACCESS_CONTROL_REQUEST_METHOD),
        AllowList::Only(methods) => joined(methods),
    };
    let names = match &policy.allow_headers {
        AllowList::Any => asked(ACCESS_CONTROL_REQUEST_HEADERS),
        AllowList::Only(names) => joined(names),
    };
    let age = policy.max_age.map(|age| HeaderValue::from(age.as_secs()));
    let fields = [
        (ACCESS_CONTROL_ALLOW_METHODS, methods),
        (ACCESS_CONTROL_ALLOW_HEADERS, names),
        (ACCESS_CONTROL_MAX_AGE, age),
    ];
    answer.set.extend(fields.into_iter().filter_map(|(name, value)| Some((name, value?))));
}

/// Everything is said by `*`, which is the name of a field to who sends credentials, and so is left away.
fn expose(policy: &Cors, answer: &mut HeaderChanges) {
    let names = match &policy.expose_headers {
        AllowList::Any => (!policy.allow_credentials).then_some(STAR),
        AllowList::Only(names) => joined(names),
    };
    answer.set.extend(names.map(|names| (ACCESS_CONTROL_EXPOSE_HEADERS, names)));
}

fn joined<T: Display>(words: &[T]) -> Option<HeaderValue> {
    let words: Vec<_> = words.iter().map(ToString::to_string).collect();
    HeaderValue::try_from(words.join(", ")).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
