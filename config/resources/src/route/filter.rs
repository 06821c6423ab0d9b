//! Filters of routes: what is done to a request or a response, or answered instead.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::route::BackendObject;

/// What is done to a request or a response. Every filter the standard knows is here, whether or not it is applied:
/// a rule whose filter cannot be applied must answer 500 rather than go on without it.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Changes to the request head.
    RequestHeaderModifier(HeaderModifier),
    /// Changes to the response head.
    ResponseHeaderModifier(HeaderModifier),
    /// Answered with a redirect.
    RequestRedirect(RequestRedirect),
    /// Host and path are rewritten.
    UrlRewrite(UrlRewrite),
    /// A copy goes elsewhere.
    RequestMirror(RequestMirror),
    /// Cross-origin requests are judged.
    Cors(Cors),
    /// Somebody else is asked first.
    ExternalAuth {
        /// Who is asked.
        backend: BackendObject,
    },
    /// A filter of an implementation.
    ExtensionRef {
        /// Its API group.
        group: String,
        /// Its kind.
        kind: String,
        /// Its name.
        name: Arc<str>,
    },
}

/// Changes to a head, applied in the order set, add, remove as written; a name occurs once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderModifier {
    /// Fields replaced.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields added beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Fields taken away.
    pub remove: Vec<HeaderName>,
}

/// A redirect. What is `None` stays as it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRedirect {
    /// The scheme.
    pub scheme: Option<RedirectScheme>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
    /// The port, never 0.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308: 302 unless written.
    pub status: StatusCode,
}

/// The scheme of a [`RequestRedirect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of Gateway API")]
pub enum RedirectScheme {
    Http,
    Https,
}

/// Host and path of a request are rewritten; one of them is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlRewrite {
    /// The new host.
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathModifier>,
}

/// A new path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathModifier {
    /// Instead of all of it.
    ReplaceFullPath(Arc<str>),
    /// Instead of the prefix that matched.
    ReplacePrefixMatch(Arc<str>),
}

/// A copy of a request goes elsewhere; what comes back is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestMirror {
    /// Where to.
    pub backend: BackendObject,
    /// Which share of requests: all unless written.
    pub share: Fraction,
}

/// A share; never more than the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// So many
    pub numerator: u32,
    /// of so many, never 0.
    pub denominator: u32,
}

/// Cross-origin resource sharing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Origins that may ask, `*` for all.
    pub allow_origins: Vec<String>,
    /// Whether credentials may be sent.
    pub allow_credentials: bool,
    /// Methods, `None` in the list of the standard is `*`: all.
    pub allow_methods: CorsMethods,
    /// Request headers, `*` for all.
    pub allow_headers: Vec<String>,
    /// Response headers that scripts may see, `*` for all.
    pub expose_headers: Vec<String>,
    /// How long the answer to a preflight may be kept, in seconds: 5 unless written.
    pub max_age_seconds: u32,
}

/// The methods of [`Cors`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsMethods {
    /// `*`.
    Any,
    /// These.
    Only(Vec<Method>),
}
