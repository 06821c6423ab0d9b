//! Filters of routes: what is done to a request or a response, or answered instead.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::field::Misfit;
use crate::route::BackendObject;

mod written;

/// What is done to a request or a response. Every filter the standard knows is here, whether or not it is applied:
/// a rule whose filter cannot be applied must answer 500 rather than go on without it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "written::Filter")]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::HeaderModifier")]
pub struct HeaderModifier {
    /// Fields replaced.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields added beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Fields taken away.
    pub remove: Vec<HeaderName>,
}

/// A redirect. What is `None` stays as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestRedirect {
    /// The scheme.
    pub scheme: Option<RedirectScheme>,
    /// The host.
    #[serde(default, deserialize_with = "written::hostname")]
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
    /// The port, never 0.
    #[serde(default, deserialize_with = "crate::field::some_port")]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308: 302 unless written.
    #[serde(
        rename = "statusCode",
        default = "written::found",
        deserialize_with = "written::redirect_status"
    )]
    pub status: StatusCode,
}

/// The scheme of a [`RequestRedirect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of Gateway API")]
pub enum RedirectScheme {
    Http,
    Https,
}

/// Host and path of a request are rewritten; one of them is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::UrlRewrite")]
pub struct UrlRewrite {
    /// The new host.
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathModifier>,
}

/// A new path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::PathModifier")]
pub enum PathModifier {
    /// Instead of all of it.
    ReplaceFullPath(Arc<str>),
    /// Instead of the prefix that matched.
    ReplacePrefixMatch(Arc<str>),
}

/// A copy of a request goes elsewhere; what comes back is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::RequestMirror")]
pub struct RequestMirror {
    /// Where to.
    pub backend: BackendObject,
    /// Which share of requests: all unless written.
    pub share: Fraction,
}

/// A share; never more than the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::Fraction")]
pub struct Fraction {
    /// So many
    pub numerator: u32,
    /// of so many, never 0.
    pub denominator: u32,
}

/// Cross-origin resource sharing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cors {
    /// Origins that may ask, `*` for all; `*` may stand for the host or for its first labels.
    #[serde(deserialize_with = "written::cors_origins")]
    pub allow_origins: Vec<String>,
    /// Whether credentials may be sent.
    pub allow_credentials: bool,
    /// Methods that may be used.
    #[serde(deserialize_with = "written::cors_methods")]
    pub allow_methods: CorsMethods,
    /// Request headers, `*` for all.
    #[serde(deserialize_with = "written::cors_headers")]
    pub allow_headers: Vec<String>,
    /// Response headers that scripts may see, `*` for all.
    #[serde(deserialize_with = "written::cors_headers")]
    pub expose_headers: Vec<String>,
    /// How long the answer to a preflight may be kept, in seconds: 5 unless written.
    #[serde(rename = "maxAge", deserialize_with = "crate::field::count")]
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

impl Filter {
    /// The type as it is written.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::RequestHeaderModifier(_) => "RequestHeaderModifier",
            Self::ResponseHeaderModifier(_) => "ResponseHeaderModifier",
            Self::RequestRedirect(_) => "RequestRedirect",
            Self::UrlRewrite(_) => "URLRewrite",
            Self::RequestMirror(_) => "RequestMirror",
            Self::Cors(_) => "CORS",
            Self::ExternalAuth { .. } => "ExternalAuth",
            Self::ExtensionRef { .. } => "ExtensionRef",
        }
    }

    /// What becomes of the path.
    pub(super) fn path_modifier(&self) -> Option<&PathModifier> {
        match self {
            Self::RequestRedirect(redirect) => redirect.path.as_ref(),
            Self::UrlRewrite(rewrite) => rewrite.path.as_ref(),
            _ => None,
        }
    }

    fn may_repeat(&self) -> bool {
        matches!(self, Self::RequestMirror(_) | Self::ExtensionRef { .. })
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            allow_origins: Vec::new(),
            allow_credentials: false,
            allow_methods: CorsMethods::Only(Vec::new()),
            allow_headers: Vec::new(),
            expose_headers: Vec::new(),
            max_age_seconds: 5,
        }
    }
}

/// What the filters of a list must be together.
pub(super) fn check_together(filters: &[Filter]) -> Result<(), Misfit> {
    for (index, filter) in filters.iter().enumerate() {
        let name = filter.type_name();
        let repeated = filters[..index].iter().any(|earlier| earlier.type_name() == name);
        if repeated && !filter.may_repeat() {
            return Err(Misfit::new("filters", format!("two filters of type {name}; write them as one")));
        }
    }
    let has = |wanted: &str| filters.iter().any(|filter| filter.type_name() == wanted);
    match has("RequestRedirect") && has("URLRewrite") {
        true => Err(Misfit::new("filters", "RequestRedirect and URLRewrite exclude each other; keep one")),
        false => Ok(()),
    }
}
