//! Routes of Gateway API with a Service as parent (GAMMA): what all kinds of them share.
//!
//! Defaults of the standard are filled in, so that a reader of these types never asks what absence means.

mod filter;
mod grpc;
mod http;
mod tcp;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::field::{self, Misfit};

pub use filter::{
    Cors, CorsMethods, Filter, Fraction, HeaderModifier, PathModifier, RedirectScheme, RequestMirror,
    RequestRedirect, UrlRewrite,
};
pub use grpc::{GrpcMatch, GrpcMethodMatch, GrpcRoute, GrpcRouteSpec, GrpcRule};
pub use http::{
    HeaderMatch, HttpMatch, HttpRoute, HttpRouteSpec, HttpRule, PathMatch, QueryMatch, Retry, Timeouts,
    ValueMatch,
};
pub use tcp::{TcpRoute, TcpRouteSpec, TcpRule};
pub(crate) use tls::ServerNames;
pub use tls::{TlsRoute, TlsRouteSpec};

/// What a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// The API group: empty for a Service, Gateway API's unless written.
    #[serde(default = "default_parent_group")]
    pub group: String,
    /// The kind: `Gateway` unless written.
    #[serde(default = "default_parent_kind")]
    pub kind: String,
    /// The namespace; `None` is that of the route.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
    /// A section of the parent: of a Service, the name of a port.
    pub section_name: Option<String>,
    /// A port of the parent, never 0; `None` is all of them.
    #[serde(default, deserialize_with = "field::some_port")]
    pub port: Option<u16>,
}

/// What a policy is about, in its own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// The API group, empty for a Service.
    #[serde(default)]
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: Arc<str>,
    /// A section of it: of a Service the name of a port, of a route the name of a rule.
    pub section_name: Option<String>,
}

/// Which object traffic goes to. Whether there is one, and whether it may be used, is decided later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendObject {
    /// The API group, empty unless written.
    #[serde(default)]
    pub group: String,
    /// The kind: `Service` unless written.
    #[serde(default = "default_backend_kind")]
    pub kind: String,
    /// The namespace; `None` is that of the route.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
    /// The port, never 0; needed for a Service.
    #[serde(default, deserialize_with = "field::some_port")]
    pub port: Option<u16>,
}

/// A share of the traffic of a rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "WrittenBackendRef")]
pub struct BackendRef {
    /// Where it goes.
    pub object: BackendObject,
    /// Its share of the sum of weights: 1 unless written, 0 to 1,000,000; 0 is no traffic.
    pub weight: u32,
    /// What is done to this share only; always empty in a TCPRoute and in a TLSRoute.
    pub filters: Vec<Filter>,
}

/// A regular expression that compiles within [`MAX_REGEX_BYTES`], kept as it was written. It matches whole values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Expression(Arc<str>);

/// The largest compiled size of a regular expression, in bytes.
pub const MAX_REGEX_BYTES: usize = 256 * 1024;

/// A client stays with its endpoint for a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenSessionPersistence")]
pub struct SessionPersistence {
    /// The name of the cookie or header; chosen by the proxy unless written.
    pub session_name: Option<String>,
    /// The session ends so long after it began.
    pub absolute_timeout: Option<Duration>,
    /// The session ends after so long without a request.
    pub idle_timeout: Option<Duration>,
    /// What carries the session: a cookie unless written.
    pub type_: SessionType,
    /// Whether the cookie outlives the client; a session cookie unless written.
    pub cookie_lifetime: CookieLifetime,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the words of Gateway API")]
pub enum SessionType {
    #[default]
    Cookie,
    Header,
}

/// How long a session cookie lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
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

impl TryFrom<String> for Expression {
    type Error = String;

    fn try_from(source: String) -> Result<Self, String> {
        let anchored = format!("^(?:{source})$");
        let built = regex::RegexBuilder::new(&anchored).size_limit(MAX_REGEX_BYTES).build();
        match built {
            Ok(_) => Ok(Self(source.into())),
            Err(error) => {
                // The crate draws the expression with a marker below it; its last line says what is wrong.
                let text = error.to_string();
                let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(format!("{source:?} is not a regular expression (RE2 syntax): {why}"))
            }
        }
    }
}

/// At most so many parents (Gateway API).
const MAX_PARENT_REFS: usize = 32;
/// At most so many filters (Gateway API).
const MAX_FILTERS: usize = 16;
/// At most so many backends of a rule (Gateway API).
const MAX_BACKEND_REFS: usize = 16;
/// At most so many matches of a rule (Gateway API).
const MAX_MATCHES: usize = 64;
/// At most so many conditions on headers, and on query parameters, of a match (Gateway API).
const MAX_CONDITIONS: usize = 16;

/// `spec.parentRefs` of any route.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct ParentRefs(
    #[serde(deserialize_with = "field::up_to::<MAX_PARENT_REFS, _, _>")] pub(crate) Vec<ParentRef>,
);

/// [`BackendRef`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenBackendRef {
    #[serde(default)]
    group: String,
    #[serde(default = "default_backend_kind")]
    kind: String,
    namespace: Option<Arc<str>>,
    name: Arc<str>,
    #[serde(default, deserialize_with = "field::some_port")]
    port: Option<u16>,
    #[serde(default = "default_weight", deserialize_with = "field::weight")]
    weight: u32,
    #[serde(default, deserialize_with = "field::up_to::<MAX_FILTERS, _, _>")]
    filters: Vec<Filter>,
}

impl From<WrittenBackendRef> for BackendRef {
    fn from(written: WrittenBackendRef) -> Self {
        let WrittenBackendRef { group, kind, namespace, name, port, weight, filters } = written;
        Self { object: BackendObject { group, kind, namespace, name, port }, weight, filters }
    }
}

/// [`SessionPersistence`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenSessionPersistence {
    session_name: Option<String>,
    #[serde(default, deserialize_with = "field::some_positive")]
    absolute_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "field::some_positive")]
    idle_timeout: Option<Duration>,
    #[serde(default, rename = "type")]
    type_: SessionType,
    #[serde(default)]
    cookie_config: WrittenCookieConfig,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WrittenCookieConfig {
    lifetime_type: CookieLifetime,
}

impl TryFrom<WrittenSessionPersistence> for SessionPersistence {
    type Error = Misfit;

    fn try_from(written: WrittenSessionPersistence) -> Result<Self, Misfit> {
        let cookie_lifetime = written.cookie_config.lifetime_type;
        if cookie_lifetime == CookieLifetime::Permanent && written.absolute_timeout.is_none() {
            return Err(Misfit::new("absoluteTimeout", "missing; a permanent cookie needs one"));
        }
        if let Some(name) = &written.session_name {
            field::parse_header_name(name).map_err(|message| Misfit::new("sessionName", message))?;
        }
        Ok(Self {
            session_name: written.session_name,
            absolute_timeout: written.absolute_timeout,
            idle_timeout: written.idle_timeout,
            type_: written.type_,
            cookie_lifetime,
        })
    }
}

fn default_parent_group() -> String {
    crate::object::GATEWAY_GROUP.to_owned()
}

fn default_parent_kind() -> String {
    "Gateway".to_owned()
}

fn default_backend_kind() -> String {
    "Service".to_owned()
}

fn default_weight() -> u32 {
    1
}
