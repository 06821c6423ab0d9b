//! What becomes of a request whose route is known.

use std::sync::Arc;

use outrigger_model::filter::{PathChange, RedirectedFrom, Rewrite};
use outrigger_model::name::Destination;
use outrigger_model::route::{Action, Forward, Route};
use serde::Serialize;

use super::backends::{self, Backend};
use super::{Asking, words};

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Outcome {
    /// It is sent on.
    Forwarded(Box<Forwarded>),
    /// The client is told to ask elsewhere.
    Redirected {
        /// The object that says so.
        object: Arc<str>,
        /// The status.
        status: u16,
        /// The field `Location`.
        location: String,
    },
    /// The proxy answers itself, because it cannot be sent on.
    Answered(Answer),
    /// It is no HTTP to the mesh: its bytes are sent on.
    Bytes {
        /// The object that says so.
        object: Arc<str>,
        /// Where to.
        backends: Vec<Backend>,
    },
    /// The connection goes where it was dialled, untouched.
    PassedThrough {
        /// Why.
        why: String,
    },
    /// The connection is closed.
    Closed {
        /// Why.
        why: String,
    },
}

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The word of `x-outrigger-reason`.
    pub reason: &'static str,
    /// What is wrong, for people.
    pub why: String,
}

/// How a request is sent on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarded {
    /// The object that says so.
    pub object: Arc<str>,
    /// The path that backends see, without the query, where every backend sees the same.
    pub path: String,
    /// The host that backends see, where it is not what the client wrote.
    pub host: Option<Arc<str>>,
    /// What happens on the way, in order, for people.
    pub steps: Vec<String>,
    /// Where to.
    pub backends: Vec<Backend>,
}

impl Answer {
    /// No route of the destination is for the request.
    pub(super) fn no_route(why: String) -> Self {
        Self { status: 404, reason: "no_route", why }
    }

    /// The backend cannot be used.
    pub(super) fn no_backend(why: String) -> Self {
        Self { status: 500, reason: "no_backend", why }
    }

    /// The backend has nobody to serve it.
    pub(super) fn no_endpoint(why: String) -> Self {
        Self { status: 503, reason: "no_endpoint", why }
    }
}

/// No route is for the request.
pub(super) fn unmatched(destination: &Destination, routes: usize) -> Outcome {
    let why = match routes {
        0 => format!("there is no route at {destination}"),
        count => format!("none of the {count} routes at {destination} is for such a request"),
    };
    Outcome::Answered(Answer::no_route(why))
}

/// What becomes of a request that matched a route.
pub(super) fn of(asking: Asking<'_>, route: &Route) -> Outcome {
    let question = asking.question;
    match &route.action {
        Action::NoBackend { why } => Outcome::Answered(Answer::no_backend(why.to_string())),
        Action::Redirect(redirect) => Outcome::Redirected {
            object: route.object.clone(),
            status: redirect.status.as_u16(),
            location: redirect.location(&RedirectedFrom {
                port: question.destination.port,
                host: &question.host,
                path: &question.path,
                query: question.query.as_deref(),
                matched: &route.matches.path,
            }),
        },
        Action::Forward(forward) => Outcome::Forwarded(Box::new(forwarded(asking, route, forward))),
    }
}

fn forwarded(asking: Asking<'_>, route: &Route, forward: &Forward) -> Forwarded {
    let rewrite = route.filters.as_ref().and_then(|filters| filters.rewrite.as_ref());
    Forwarded {
        object: route.object.clone(),
        path: rewritten(asking, rewrite.and_then(|rewrite| rewrite.path.as_ref()), route),
        host: rewrite.and_then(|Rewrite { host, .. }| host.clone()),
        steps: words::steps(route, forward),
        backends: backends::http(asking, forward),
    }
}

fn rewritten(asking: Asking<'_>, change: Option<&PathChange>, route: &Route) -> String {
    let path = &asking.question.path;
    change.map_or_else(|| path.clone(), |change| change.applied(path, &route.matches.path))
}
