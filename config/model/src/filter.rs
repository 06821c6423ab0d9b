//! What a route does with a request beyond matching it, sending it on and changing its head.
//!
//! Most routes have none of this, so a [`crate::route::Route`] keeps all of it behind one pointer. The proxy works in a
//! fixed order: fault, rate limits, CORS, (redirect), rewrite, mirror.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::route::{BackendTarget, PathMatch, Pattern};

/// The filters of a route, or of one backend of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filters {
    /// Failures made on purpose.
    pub fault: Option<Fault>,
    /// A limit that each proxy keeps for itself.
    pub local_rate_limit: Option<RateLimit>,
    /// A limit that a rate limit service keeps for all.
    pub global_rate_limit: Option<GlobalRateLimit>,
    /// What browsers of other origins may do.
    pub cors: Option<Cors>,
    /// Another host or path for the backend.
    pub rewrite: Option<Rewrite>,
    /// Who gets a copy.
    pub mirrors: Vec<Mirror>,
}

impl Filters {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The clusters they point at.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        let mirrors = self.mirrors.iter().filter_map(|mirror| mirror.target.cluster());
        mirrors.chain(self.global_rate_limit.as_ref().map(|limit| &limit.cluster))
    }
}

/// A share of requests: `numerator` of `denominator`, which is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub numerator: u32,
    /// Of how many.
    pub denominator: u32,
}

impl Share {
    /// Every request.
    pub const ALL: Self = Self { numerator: 100, denominator: 100 };

    /// So many of so many; `None` for what is not a part of a whole.
    pub fn new(numerator: u32, denominator: u32) -> Option<Self> {
        (denominator > 0 && numerator <= denominator).then_some(Self { numerator, denominator })
    }

    /// The nearest share that is counted in hundreds, ten thousands or millions, as xDS counts; more than nothing stays so.
    pub fn standard(self) -> Self {
        match self.denominator {
            100 | 10_000 | 1_000_000 => self,
            _ => Self { numerator: self.in_millionths(), denominator: 1_000_000 },
        }
    }

    /// How many of a million requests, to the nearest; at least one if there are any.
    pub fn in_millionths(self) -> u32 {
        let (numerator, denominator) = (u64::from(self.numerator), u64::from(self.denominator.max(1)));
        let nearest = ((numerator * 1_000_000 + denominator / 2) / denominator).min(1_000_000);
        nearest.max(u64::from(numerator > 0)) as u32
    }

    /// Whether a request is one of the share that drew this number, which is random and below the denominator.
    pub fn has(self, point: u32) -> bool {
        point < self.numerator
    }
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathChange {
    /// In place of the whole path; the query stays.
    Full(Arc<str>),
    /// In place of the prefix that the route matched.
    Prefix(Arc<str>),
}

impl PathChange {
    /// The changed path of a request that matched; the query is not part of it. Whole segments are replaced, and what
    /// comes out starts with one slash (Gateway API, `HTTPPathModifier`).
    pub fn applied(&self, path: &str, matched: &PathMatch) -> String {
        let (replacement, rest) = match self {
            Self::Full(full) => return full.as_ref().to_owned(),
            Self::Prefix(replacement) => (replacement.trim_end_matches('/'), rest_of(path, matched)),
        };
        match (
            replacement.starts_with('/') || replacement.is_empty(),
            replacement.is_empty() && rest.is_empty(),
        ) {
            (_, true) => "/".to_owned(),
            (true, _) => format!("{replacement}{rest}"),
            (false, _) => format!("/{replacement}{rest}"),
        }
    }
}

/// What stands behind the prefix that matched; nothing for a path that matched as a whole.
fn rest_of<'p>(path: &'p str, matched: &PathMatch) -> &'p str {
    match matched {
        PathMatch::Prefix(prefix) => path.strip_prefix(&**prefix).unwrap_or_default(),
        PathMatch::Exact(_) | PathMatch::Regex(_) => "",
    }
}

/// What the backend gets to see in place of what the client wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The host.
    pub host: Option<Arc<str>>,
    /// The path.
    pub path: Option<PathChange>,
}

/// The client is sent elsewhere. What is absent stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Scheme>,
    /// The host.
    pub host: Option<Arc<str>>,
    /// The port; absent, the well-known one of a scheme that is written, else the port of the Service that was dialled.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathChange>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// The request that a redirect answers.
#[derive(Debug, Clone, Copy)]
pub struct RedirectedFrom<'a> {
    /// The port of the Service that was dialled.
    pub port: u16,
    /// The host as the client wrote it, perhaps with a port.
    pub host: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without the question mark.
    pub query: Option<&'a str>,
    /// How the path was matched.
    pub matched: &'a PathMatch,
}

impl Redirect {
    /// What `Location` says (Gateway API, `HTTPRequestRedirectFilter`). Between an application and its sidecar the
    /// scheme is always `http`. A port that its scheme implies is not written; the query stays.
    pub fn location(&self, from: &RedirectedFrom<'_>) -> String {
        let (word, known_port) = match self.scheme.unwrap_or(Scheme::Http) {
            Scheme::Http => ("http", 80),
            Scheme::Https => ("https", 443),
        };
        let implied = if self.scheme.is_some() { known_port } else { from.port };
        let port = self.port.unwrap_or(implied);
        let host = self.host.as_deref().unwrap_or_else(|| without_port(from.host));
        let path = match &self.path {
            None => Cow::Borrowed(from.path),
            Some(change) => Cow::Owned(change.applied(from.path, from.matched)),
        };
        let port = if port == known_port { String::new() } else { format!(":{port}") };
        let query = from.query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{word}://{host}{port}{path}{query}")
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The scheme of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words themselves")]
pub enum Scheme {
    Http,
    Https,
}

/// A copy of requests whose answers nobody waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// Who gets it.
    pub target: BackendTarget,
    /// How many of the requests.
    pub share: Share,
}

/// What browsers of other origins may do (Fetch, section 3.3, "CORS protocol").
#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    /// Origins that may call.
    pub allow_origins: Vec<OriginMatch>,
    /// Methods beyond the simple ones.
    pub allow_methods: AllowList<Method>,
    /// Request headers beyond the simple ones.
    pub allow_headers: AllowList<HeaderName>,
    /// Response headers that scripts may read.
    pub expose_headers: AllowList<HeaderName>,
    /// How long browsers may remember a preflight.
    pub max_age: Option<Duration>,
    /// Whether cookies may be sent.
    pub allow_credentials: bool,
}

/// Everything, or what is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowList<T> {
    /// `*`
    Any,
    /// These.
    Only(Vec<T>),
}

impl<T: FromStr> AllowList<T> {
    /// The list of some words, of which `*` is everything. The error names the word that is no name.
    pub fn of(words: &[String]) -> Result<Self, String> {
        if words.iter().any(|word| word == "*") {
            return Ok(Self::Any);
        }
        let read = |word: &String| word.parse().map_err(|_| format!("{word:?} is not a name"));
        words.iter().map(read).collect::<Result<_, _>>().map(Self::Only)
    }
}

/// An origin that may call.
#[derive(Debug, Clone, PartialEq)]
pub enum OriginMatch {
    /// `*`
    Any,
    /// Equal.
    Exact(Arc<str>),
    /// Of the whole origin, where a wildcard was written.
    Regex(Pattern),
}

impl OriginMatch {
    /// The match of an origin. `*` alone is all of them; else it stands for the host, or for any labels in front of the
    /// written ones, and never for a port (Gateway API, `HTTPCORSFilter.allowOrigins`).
    pub fn of(text: &str) -> Result<Self, String> {
        match text.split_once('*') {
            None => Ok(Self::Exact(text.into())),
            Some(("", "")) => Ok(Self::Any),
            Some((before, after)) => {
                let (before, after) = (regex::escape(before), regex::escape(after));
                Pattern::new(&format!("{before}[^/:]+{after}")).map(Self::Regex)
            }
        }
    }

    /// Whether an origin, as a browser writes it, may call.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *origin,
            Self::Regex(pattern) => pattern.matches(origin),
        }
    }
}

/// Failures made on purpose, to see how callers take them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// Requests that wait first.
    pub delay: Option<(Share, Duration)>,
    /// Requests that are answered with this status and go nowhere.
    pub abort: Option<(Share, StatusCode)>,
}

/// So many requests in so much time, for each key apart.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Where it was written, and what is counted together: all limits of one name in a proxy share their counts.
    pub name: Arc<str>,
    /// Requests that `per` lets through in the long run, at least 1.
    pub requests: u32,
    /// The time they are counted over.
    pub per: Duration,
    /// Requests that may come at once, at least 1.
    pub burst: u32,
    /// What is counted apart; empty counts everything together.
    pub key: Vec<LimitKey>,
}

/// What a limit counts apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    /// The verified identity of the caller.
    SourceIdentity,
    /// The address of the caller.
    SourceAddress,
    /// A request header.
    Header(HeaderName),
    /// The method.
    Method,
    /// The path.
    Path,
}

/// A limit that a service of `envoy.service.ratelimit.v3` keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalRateLimit {
    /// Where it was written.
    pub name: Arc<str>,
    /// The cluster of the service.
    pub cluster: Arc<str>,
    /// What the service knows the limit's owner by.
    pub domain: Arc<str>,
    /// What it is told: each entry a key with its value.
    pub descriptor: Vec<Descriptor>,
    /// How long it is waited for.
    pub timeout: Duration,
    /// Whether requests are refused while the service cannot be asked.
    pub fail_closed: bool,
}

/// An entry of a descriptor.
#[derive(Debug, Clone, PartialEq)]
pub enum Descriptor {
    /// The same for every request.
    Fixed {
        /// Its key.
        key: Arc<str>,
        /// Its value.
        value: HeaderValue,
    },
    /// What the request says.
    FromRequest {
        /// Its key.
        key: Arc<str>,
        /// Where the value comes from.
        value: LimitKey,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_an_origin_stands_for_labels_and_never_for_a_port() {
        for (written, origin, expected) in [
            ("*", "https://anything.example:1", true),
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "http://a.example", false),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://example", false),
            ("https://*.example", "https://axexample", false),
            ("https://*.example", "https://evil.test/.example", false),
            ("https://*.example:8443", "https://a.example:8443", true),
            ("https://*", "https://a.example", true),
            ("https://*", "https://a.example:1", false),
        ] {
            assert_eq!(OriginMatch::of(written).unwrap().allows(origin), expected, "{written} {origin}");
        }
    }

    #[test]
    fn shares_are_counted_as_the_standard_counts() {
        for (numerator, denominator, expected) in [
            (5, 100, (5, 100)),
            (1, 3, (333_333, 1_000_000)),
            (1, u32::MAX, (1, 1_000_000)),
            (0, 7, (0, 1_000_000)),
        ] {
            let share = Share::new(numerator, denominator).unwrap().standard();
            assert_eq!((share.numerator, share.denominator), expected);
        }
        assert!(Share::new(2, 1).is_none() && Share::new(0, 0).is_none());
        assert!(Share::ALL.has(99) && !Share { numerator: 5, denominator: 100 }.has(5));
    }

    /// The table of `HTTPPathModifier.replacePrefixMatch` in Gateway API.
    #[test]
    fn a_prefix_is_replaced_as_the_standard_says() {
        let table = [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/a/b", "", "/v2", "/v2/a/b"),
        ];
        for (path, prefix, replacement, expected) in table {
            let change = PathChange::Prefix(replacement.into());
            let changed = change.applied(path, &PathMatch::Prefix(prefix.into()));
            assert_eq!(changed, expected, "{path} with {prefix} replaced by {replacement:?}");
        }
        let full = PathChange::Full("/other".into());
        assert_eq!(full.applied("/foo/bar", &PathMatch::default()), "/other");
    }
}
