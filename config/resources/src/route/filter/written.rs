//! Filters as they are written: a `type` and the one field that belongs to it.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
use crate::route::{BackendObject, Cors, CorsMethods, RequestRedirect};

/// At most so many headers in a list of a modifier (Gateway API).
const MAX_HEADERS: usize = 16;
/// At most so many entries in a list of a CORS filter (Gateway API).
const MAX_CORS_ENTRIES: usize = 64;

/// [`super::Filter`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(rename = "type")]
    type_: FilterType,
    request_header_modifier: Option<super::HeaderModifier>,
    response_header_modifier: Option<super::HeaderModifier>,
    request_redirect: Option<RequestRedirect>,
    url_rewrite: Option<super::UrlRewrite>,
    request_mirror: Option<super::RequestMirror>,
    cors: Option<Cors>,
    external_auth: Option<ExternalAuth>,
    extension_ref: Option<ExtensionRef>,
}

#[derive(Deserialize, Clone, Copy)]
enum FilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    RequestMirror,
    #[serde(rename = "CORS")]
    Cors,
    ExternalAuth,
    ExtensionRef,
}

/// Who is asked; the rest of the filter is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalAuth {
    backend_ref: BackendObject,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtensionRef {
    group: String,
    kind: String,
    name: Arc<str>,
}

impl TryFrom<Filter> for super::Filter {
    type Error = Misfit;

    fn try_from(written: Filter) -> Result<Self, Misfit> {
        written.check_one()?;
        match written.type_ {
            FilterType::RequestHeaderModifier => {
                needed(written.request_header_modifier, "requestHeaderModifier")
                    .map(Self::RequestHeaderModifier)
            }
            FilterType::ResponseHeaderModifier => {
                needed(written.response_header_modifier, "responseHeaderModifier")
                    .map(Self::ResponseHeaderModifier)
            }
            FilterType::RequestRedirect => {
                needed(written.request_redirect, "requestRedirect").map(Self::RequestRedirect)
            }
            FilterType::UrlRewrite => needed(written.url_rewrite, "urlRewrite").map(Self::UrlRewrite),
            FilterType::RequestMirror => {
                needed(written.request_mirror, "requestMirror").map(Self::RequestMirror)
            }
            FilterType::Cors => needed(written.cors, "cors").map(Self::Cors),
            FilterType::ExternalAuth => {
                let ExternalAuth { backend_ref } = needed(written.external_auth, "externalAuth")?;
                Ok(Self::ExternalAuth { backend: backend_ref })
            }
            FilterType::ExtensionRef => {
                let ExtensionRef { group, kind, name } = needed(written.extension_ref, "extensionRef")?;
                Ok(Self::ExtensionRef { group, kind, name })
            }
        }
    }
}

impl Filter {
    /// A filter does one thing; which one would not be clear with two.
    fn check_one(&self) -> Result<(), Misfit> {
        let there = [
            self.request_header_modifier.is_some(),
            self.response_header_modifier.is_some(),
            self.request_redirect.is_some(),
            self.url_rewrite.is_some(),
            self.request_mirror.is_some(),
            self.cors.is_some(),
            self.external_auth.is_some(),
            self.extension_ref.is_some(),
        ];
        match there.into_iter().filter(|there| *there).count() {
            0 | 1 => Ok(()),
            _ => Err(Misfit::new(
                "",
                "a filter has its type and the one field of that type; write two filters",
            )),
        }
    }
}

fn needed<T>(value: Option<T>, field: &'static str) -> Result<T, Misfit> {
    value.ok_or_else(|| Misfit::new(field, "missing; the type of the filter asks for it"))
}

/// [`super::HeaderModifier`] as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HeaderModifier {
    #[serde(deserialize_with = "field::up_to::<MAX_HEADERS, _, _>")]
    set: Vec<Header>,
    #[serde(deserialize_with = "field::up_to::<MAX_HEADERS, _, _>")]
    add: Vec<Header>,
    #[serde(deserialize_with = "field::up_to::<MAX_HEADERS, _, _>")]
    remove: Vec<Name>,
}

/// A header with its value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: Name,
    #[serde(deserialize_with = "header_value")]
    value: HeaderValue,
}

/// The name of a header that a filter may change.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Name(HeaderName);

impl TryFrom<String> for Name {
    type Error = String;

    /// Framing and hop-by-hop fields belong to the connection (RFC 9110, section 7.6.1; RFC 9112, section 6).
    fn try_from(text: String) -> Result<Self, String> {
        let name = field::parse_header_name(&text)?;
        if name == HOST {
            return Err(format!(
                "{text:?} is changed by a filter of type URLRewrite; write its hostname there"
            ));
        }
        let framing = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
        match framing.contains(&name) || matches!(name.as_str(), "keep-alive" | "proxy-connection") {
            true => Err(format!(
                "{text:?} belongs to the connection and cannot be changed by a filter; remove it"
            )),
            false => Ok(Self(name)),
        }
    }
}

impl TryFrom<HeaderModifier> for super::HeaderModifier {
    type Error = Misfit;

    fn try_from(written: HeaderModifier) -> Result<Self, Misfit> {
        let pairs =
            |headers: Vec<Header>| headers.into_iter().map(|header| (header.name.0, header.value)).collect();
        let modifier = Self {
            set: pairs(written.set),
            add: pairs(written.add),
            remove: written.remove.into_iter().map(|name| name.0).collect(),
        };
        let named = modifier.set.iter().chain(&modifier.add).map(|(name, _)| name).chain(&modifier.remove);
        let mut seen = Vec::new();
        for name in named {
            if seen.contains(&name) {
                return Err(Misfit::new(
                    "",
                    format!("{name} is named twice; a filter changes a header once"),
                ));
            }
            seen.push(name);
        }
        Ok(modifier)
    }
}

/// [`super::UrlRewrite`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlRewrite {
    #[serde(default, deserialize_with = "hostname")]
    hostname: Option<String>,
    path: Option<super::PathModifier>,
}

impl TryFrom<UrlRewrite> for super::UrlRewrite {
    type Error = Misfit;

    fn try_from(written: UrlRewrite) -> Result<Self, Misfit> {
        let UrlRewrite { hostname, path } = written;
        match hostname.is_none() && path.is_none() {
            true => Err(Misfit::new("", "nothing to rewrite; write hostname or path")),
            false => Ok(Self { hostname, path }),
        }
    }
}

/// [`super::PathModifier`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PathModifier {
    #[serde(rename = "type")]
    type_: PathModifierType,
    replace_full_path: Option<Arc<str>>,
    replace_prefix_match: Option<Arc<str>>,
}

#[derive(Deserialize)]
enum PathModifierType {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

impl TryFrom<PathModifier> for super::PathModifier {
    type Error = Misfit;

    fn try_from(written: PathModifier) -> Result<Self, Misfit> {
        match (written.type_, written.replace_full_path, written.replace_prefix_match) {
            (PathModifierType::ReplaceFullPath, Some(path), None) => {
                check_path(&path).map_err(|message| Misfit::new("replaceFullPath", message))?;
                Ok(Self::ReplaceFullPath(path))
            }
            (PathModifierType::ReplacePrefixMatch, None, Some(path)) => {
                check_path(&path).map_err(|message| Misfit::new("replacePrefixMatch", message))?;
                Ok(Self::ReplacePrefixMatch(path))
            }
            (PathModifierType::ReplaceFullPath, ..) => {
                Err(Misfit::new("replaceFullPath", "the type asks for this field and no other"))
            }
            (PathModifierType::ReplacePrefixMatch, ..) => {
                Err(Misfit::new("replacePrefixMatch", "the type asks for this field and no other"))
            }
        }
    }
}

/// The longest path that is written, in bytes (Gateway API).
const MAX_PATH_BYTES: usize = 1024;

/// What a request line can hold (RFC 3986, section 3.3); nothing at all stands for `/`.
fn check_path(path: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte);
    let rooted = path.is_empty() || path.starts_with('/');
    match rooted && path.len() <= MAX_PATH_BYTES && path.bytes().all(allowed) {
        true => Ok(()),
        false => Err(format!(
            "{path:?} is not a path; it starts with /, has no ? and #, other characters are encoded as in \
             /caf%C3%A9, and it has at most {MAX_PATH_BYTES} bytes"
        )),
    }
}

/// [`super::RequestMirror`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RequestMirror {
    backend_ref: BackendObject,
    #[serde(default, deserialize_with = "field::some_whole_percent")]
    percent: Option<u32>,
    fraction: Option<super::Fraction>,
}

impl TryFrom<RequestMirror> for super::RequestMirror {
    type Error = Misfit;

    fn try_from(written: RequestMirror) -> Result<Self, Misfit> {
        let share = match (written.percent, written.fraction) {
            (None, None) => super::Fraction { numerator: 100, denominator: 100 },
            (Some(percent), None) => super::Fraction { numerator: percent, denominator: 100 },
            (None, Some(fraction)) => fraction,
            (Some(_), Some(_)) => {
                return Err(Misfit::new("fraction", "percent says the same; write one of them"));
            }
        };
        Ok(Self { backend: written.backend_ref, share })
    }
}

/// [`super::Fraction`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fraction {
    numerator: u32,
    #[serde(default = "hundred", deserialize_with = "field::count")]
    denominator: u32,
}

impl TryFrom<Fraction> for super::Fraction {
    type Error = Misfit;

    fn try_from(written: Fraction) -> Result<Self, Misfit> {
        let Fraction { numerator, denominator } = written;
        match numerator <= denominator {
            true => Ok(Self { numerator, denominator }),
            false => Err(Misfit::new(
                "numerator",
                format!("more than the denominator {denominator}; make it smaller"),
            )),
        }
    }
}

fn header_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderValue, D::Error> {
    field::parse_header_value(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(super) fn hostname<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    field::parse_host(&text).map(|host| Some(host.to_string())).map_err(D::Error::custom)
}

pub(super) fn redirect_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    let status = number.filter(|number| matches!(number, 301 | 302 | 303 | 307 | 308));
    let status = status.and_then(|number| StatusCode::from_u16(number).ok());
    status.ok_or_else(|| {
        D::Error::custom(format!("{value} is not a redirect; write 301, 302, 303, 307 or 308"))
    })
}

pub(super) fn found() -> StatusCode {
    StatusCode::FOUND
}

/// Origins (RFC 6454, section 6.2) in lower case and without the port that their scheme implies, as browsers write them.
pub(super) fn cors_origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let origins: Vec<String> = field::up_to::<MAX_CORS_ENTRIES, _, _>(deserializer)?;
    let read = |origin: &String| {
        origin_of(&origin.to_ascii_lowercase()).ok_or_else(|| {
            D::Error::custom(format!(
                "{origin:?} is not an origin; write * or http(s)://host(:port), where the host may start with *"
            ))
        })
    };
    origins.iter().map(read).collect()
}

fn origin_of(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|port| *port != 0)?)),
        None => (rest, None),
    };
    let labels = host.strip_prefix("*.").unwrap_or(host);
    let plain = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if host != "*" && !labels.split('.').all(plain) {
        return None;
    }
    let implied = if scheme == "http" { 80 } else { 443 };
    Some(match port.filter(|port| *port != implied) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// Names of headers, or `*`.
pub(super) fn cors_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names: Vec<String> = field::up_to::<MAX_CORS_ENTRIES, _, _>(deserializer)?;
    let unusable = |name: &&String| *name != "*" && field::parse_header_name(name).is_err();
    match names.iter().find(unusable) {
        Some(name) => Err(D::Error::custom(format!("{name:?} is not the name of a header; write one, or *"))),
        None => Ok(names),
    }
}

pub(super) fn cors_methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CorsMethods, D::Error> {
    let names: Vec<String> = field::up_to::<MAX_CORS_ENTRIES, _, _>(deserializer)?;
    if names.iter().any(|name| name == "*") {
        return Ok(CorsMethods::Any);
    }
    let method = |name: String| {
        Method::from_bytes(name.as_bytes()).map_err(|_| D::Error::custom(format!("{name:?} is not a method")))
    };
    names.into_iter().map(method).collect::<Result<_, _>>().map(CorsMethods::Only)
}

fn hundred() -> u32 {
    100
}
