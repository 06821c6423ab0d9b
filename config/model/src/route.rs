//! Routes: which request goes where, with what changed on the way.
//!
//! The control plane orders routes by Gateway API precedence, so that the first match wins here, in Envoy and in
//! gRPC clients alike. [`select`] is pure: a table and a request head in, a route out.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;

use crate::filter::{Filters, Redirect};
use crate::policy::{Hedge, RetryPolicy};
use crate::session::SessionAffinity;

mod matcher;

pub use matcher::{Mismatch, RequestHead, select};

/// The routes of one destination, in order of precedence. On the wire: a `RouteConfiguration` with one virtual host.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// `host:port` or `ip:port`.
    pub name: Arc<str>,
    /// First match wins; no match answers `no_route`.
    pub routes: Vec<Route>,
}

/// One way through a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// For people, logs and the `route` label: `HTTPRoute/shop/reviews`, or `Service/shop/reviews` where no route object is.
    pub object: Arc<str>,
    /// Which requests.
    pub matches: RouteMatch,
    /// What becomes of them.
    pub action: Action,
    /// Changes to the request head.
    pub request_headers: HeaderChanges,
    /// Changes to the response head.
    pub response_headers: HeaderChanges,
    /// Everything else that is done with requests; `None` on most routes.
    pub filters: Option<Box<Filters>>,
}

/// All conditions hold for a request that matches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteMatch {
    /// The path, without the query.
    pub path: PathMatch,
    /// The method, any if absent.
    pub method: Option<Method>,
    /// Header conditions.
    pub headers: Vec<HeaderMatch>,
    /// Query parameter conditions; of a repeated parameter the first value counts (Gateway API).
    pub query: Vec<QueryMatch>,
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// Whole segments from the start: `/a` matches `/a` and `/a/b`, not `/ab`. Kept without a trailing slash; empty matches all.
    Prefix(Arc<str>),
    /// The whole path matches the expression.
    Regex(Pattern),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("".into())
    }
}

/// A condition on a header. Several fields of the name count as one value joined by commas (RFC 9110, section 5.3).
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMatch {
    /// The field name.
    pub name: HeaderName,
    /// Its value.
    pub value: ValueMatch,
}

/// A condition on a query parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryMatch {
    /// The parameter name, compared as it stands.
    pub name: Arc<str>,
    /// Its value.
    pub value: ValueMatch,
}

/// A condition on a text.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueMatch {
    /// Equal, byte for byte.
    Exact(Arc<str>),
    /// The whole value matches the expression.
    Regex(Pattern),
    /// The field is there, whatever it says.
    Present,
}

/// The largest compiled size of a regular expression, in bytes; matching is linear in the input (design, decision 8).
pub const MAX_REGEX_BYTES: usize = 256 * 1024;

/// A compiled regular expression that must match a whole text. Equality is equality of the source.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: Arc<str>,
    regex: Regex,
}

impl Pattern {
    /// Compiles an expression (RE2 syntax). The error says what is wrong with it.
    pub fn new(source: &str) -> Result<Self, String> {
        let anchored = format!("^(?:{source})$");
        let built = regex::RegexBuilder::new(&anchored).size_limit(MAX_REGEX_BYTES).build();
        built.map(|regex| Self { source: source.into(), regex }).map_err(|error| error.to_string())
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// What becomes of a request that matched.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Sent on.
    Forward(Forward),
    /// Answered by the proxy itself: the client is to ask elsewhere.
    Redirect(Redirect),
    /// Answered by the proxy itself, because no backend of the rule can be used.
    NoBackend {
        /// What is wrong, for people; goes to the log, not to the client.
        why: Arc<str>,
    },
}

/// Where requests go and how they are tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// At least one; chosen by weight.
    pub backends: Vec<Backend>,
    /// From the whole request received to the whole response; `None` is no limit.
    pub timeout: Option<Duration>,
    /// What is retried beyond what is always safe to retry; `None` is only that.
    pub retry: Option<RetryPolicy>,
    /// Whether clients stay with their endpoints.
    pub session: Option<SessionAffinity>,
    /// A second try beside one that is slow; `None` is none.
    pub hedge: Option<Hedge>,
}

/// A share of a [`Forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Where to.
    pub target: BackendTarget,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// Changes to the request head for this backend only, after those of the route.
    pub request_headers: HeaderChanges,
    /// Changes to the response head for this backend only, before those of the route.
    pub response_headers: HeaderChanges,
    /// Everything else that is done for this backend only, after that of the route.
    pub filters: Option<Box<Filters>>,
}

impl Route {
    /// A route that changes nothing about its requests.
    pub fn plain(object: Arc<str>, matches: RouteMatch, action: Action) -> Self {
        let (request_headers, response_headers) = (HeaderChanges::default(), HeaderChanges::default());
        Self { object, matches, action, request_headers, response_headers, filters: None }
    }
}

impl Forward {
    /// To these backends, without a limit of time and without retries that anybody asked for.
    pub fn to(backends: Vec<Backend>) -> Self {
        Self { backends, timeout: None, retry: None, session: None, hedge: None }
    }
}

impl Backend {
    /// A share that gets requests as they are.
    pub fn plain(target: BackendTarget, weight: u32) -> Self {
        let (request_headers, response_headers) = (HeaderChanges::default(), HeaderChanges::default());
        Self { target, weight, request_headers, response_headers, filters: None }
    }
}

/// What a [`Backend`] points at.
#[derive(Debug, Clone, PartialEq)]
pub enum BackendTarget {
    /// A cluster by name.
    Cluster(Arc<str>),
    /// A backendRef that is missing, of an unknown kind or not permitted: its share is answered with `no_backend`.
    Invalid(Arc<str>),
}

impl BackendTarget {
    /// The cluster, if there is one.
    pub fn cluster(&self) -> Option<&Arc<str>> {
        match self {
            Self::Cluster(name) => Some(name),
            Self::Invalid(_) => None,
        }
    }
}

/// Changes to a head, applied in the order remove, set, add. Framing and hop-by-hop fields cannot be named.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeaderChanges {
    /// Fields taken away.
    pub remove: Vec<HeaderName>,
    /// Fields replaced.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields added beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderChanges {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// The status of answers for [`Action::NoBackend`] on the wire, for clients that are not ours.
pub const NO_BACKEND_STATUS: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
