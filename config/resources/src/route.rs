//! Routes of Gateway API with a Service as parent (GAMMA): what all kinds of them share.
//!
//! Defaults of the standard are filled in, so that a reader of these types never asks what absence means.

mod filter;
mod grpc;
mod http;
mod tcp;

use std::sync::Arc;

pub use filter::{
    Cors, Filter, Fraction, HeaderModifier, PathModifier, RedirectScheme, RequestMirror, RequestRedirect,
    UrlRewrite,
};
pub use grpc::{GrpcMatch, GrpcMethodMatch, GrpcRoute, GrpcRouteSpec, GrpcRule};
pub use http::{
    HeaderMatch, HttpMatch, HttpRoute, HttpRouteSpec, HttpRule, PathMatch, QueryMatch, Retry, Timeouts,
    ValueMatch,
};
pub use tcp::{TcpRoute, TcpRouteSpec, TcpRule};

/// What a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ParentRef {
    /// The API group: empty for a Service, Gateway API's unless written.
    pub group: String,
    /// The kind: `Gateway` unless written.
    pub kind: String,
    /// The namespace; `None` is that of the route.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
    /// A section of the parent: of a Service, the name of a port.
    pub section_name: Option<String>,
    /// A port of the parent, never 0; `None` is all of them.
    pub port: Option<u16>,
}

/// What a policy is about, in its own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetRef {
    /// The API group, empty for a Service.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: Arc<str>,
    /// A section of it: of a Service the name of a port, of a route the name of a rule.
    pub section_name: Option<String>,
}

/// Which object traffic goes to. Whether there is one, and whether it may be used, is decided later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendObject {
    /// The API group, empty unless written.
    pub group: String,
    /// The kind: `Service` unless written.
    pub kind: String,
    /// The namespace; `None` is that of the route.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
    /// The port, never 0; needed for a Service.
    pub port: Option<u16>,
}

/// A share of the traffic of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendRef {
    /// Where it goes.
    pub object: BackendObject,
    /// Its share of the sum of weights: 1 unless written, 0 to 1,000,000; 0 is no traffic.
    pub weight: u32,
    /// What is done to this share only; always empty in a TCPRoute.
    pub filters: Vec<Filter>,
}

/// A regular expression that compiles within [`MAX_REGEX_BYTES`], kept as it was written. It matches whole values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expression(Arc<str>);

/// The largest compiled size of a regular expression, in bytes.
pub const MAX_REGEX_BYTES: usize = 256 * 1024;

/// A client stays with its endpoint for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPersistence {
    /// The name of the cookie or header; chosen by the proxy unless written.
    pub session_name: Option<String>,
    /// The session ends so long after it began.
    pub absolute_timeout: Option<std::time::Duration>,
    /// The session ends after so long without a request.
    pub idle_timeout: Option<std::time::Duration>,
    /// What carries the session: a cookie unless written.
    pub type_: SessionType,
    /// Whether the cookie outlives the client; a session cookie unless written.
    pub cookie_lifetime: CookieLifetime,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of Gateway API")]
pub enum SessionType {
    #[default]
    Cookie,
    Header,
}

/// How long a session cookie lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CookieLifetime {
    /// As long as the client runs.
    #[default]
    Session,
    /// Until the absolute timeout.
    Permanent,
}

impl Expression {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
