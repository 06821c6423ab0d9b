//! Which route is for a request: the first whose every condition holds, as the Gateway API defines them.
//!
//! The control plane has put routes in order of precedence already. Nothing is allocated unless a header comes more
//! than once or a query parameter is percent-encoded; both are bounded by the head they come from.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName, Method};

use super::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};

/// What of a request decides its route.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it was sent, without the query.
    pub path: &'a str,
    /// The query as it was sent, without the question mark.
    pub query: Option<&'a str>,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// The position of the first match that a request fulfils.
pub fn select<'m>(
    matches: impl IntoIterator<Item = &'m RouteMatch>,
    head: &RequestHead<'_>,
) -> Option<usize> {
    matches.into_iter().position(|matches| matches.holds(head))
}

impl RouteMatch {
    /// Whether a request fulfils every condition.
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        self.mismatch(head).is_none()
    }

    /// The first condition that a request does not fulfil.
    pub fn mismatch(&self, head: &RequestHead<'_>) -> Option<Mismatch<'_>> {
        if !self.path.holds(head.path) {
            return Some(Mismatch::Path(&self.path));
        }
        if let Some(method) = self.method.as_ref().filter(|method| *method != head.method) {
            return Some(Mismatch::Method(method));
        }
        let header = self.headers.iter().find(|header| !header.holds(head.headers));
        let query = || self.query.iter().find(|query| !query.holds(head.query)).map(Mismatch::Query);
        header.map(Mismatch::Header).or_else(query)
    }
}

/// A condition that a request does not fulfil. Displayed as `the path is not /a or below it`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mismatch<'m> {
    /// Of the path.
    Path(&'m PathMatch),
    /// Of the method.
    Method(&'m Method),
    /// Of a header.
    Header(&'m HeaderMatch),
    /// Of a query parameter.
    Query(&'m QueryMatch),
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(PathMatch::Exact(path)) => write!(f, "the path is not {path}"),
            Self::Path(PathMatch::Prefix(prefix)) => write!(f, "the path is not {prefix} or below it"),
            Self::Path(PathMatch::Regex(pattern)) => {
                write!(f, "the path does not match {}", pattern.source())
            }
            Self::Method(method) => write!(f, "the method is not {method}"),
            Self::Header(header) => write!(f, "header {} {}", header.name, NotSo(&header.value)),
            Self::Query(query) => write!(f, "query parameter {} {}", query.name, NotSo(&query.value)),
        }
    }
}

/// What a value is not.
struct NotSo<'m>(&'m ValueMatch);

impl fmt::Display for NotSo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ValueMatch::Exact(text) => write!(f, "is not {text:?}"),
            ValueMatch::Regex(pattern) => write!(f, "does not match {}", pattern.source()),
            ValueMatch::Present => write!(f, "is missing"),
        }
    }
}

impl PathMatch {
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    || prefix.is_empty()
            }
            Self::Regex(pattern) => pattern.matches(path),
        }
    }
}

impl HeaderMatch {
    fn holds(&self, headers: &HeaderMap) -> bool {
        match &self.value {
            ValueMatch::Present => headers.contains_key(&self.name),
            ValueMatch::Exact(exact) => {
                joined(headers, &self.name).is_some_and(|value| *value == *exact.as_bytes())
            }
            ValueMatch::Regex(pattern) => joined(headers, &self.name)
                .is_some_and(|value| std::str::from_utf8(&value).is_ok_and(|text| pattern.matches(text))),
        }
    }
}

impl QueryMatch {
    fn holds(&self, query: Option<&str>) -> bool {
        let Some(value) = query.and_then(|query| first_value(query, &self.name)) else { return false };
        match &self.value {
            ValueMatch::Present => true,
            ValueMatch::Exact(exact) => *value == *exact.as_bytes(),
            ValueMatch::Regex(pattern) => std::str::from_utf8(&value).is_ok_and(|text| pattern.matches(text)),
        }
    }
}

/// The value of a field; several fields of one name count as one, joined by commas (RFC 9110, section 5.3).
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let mut all = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(all))
}

/// The first value of a parameter, decoded; a parameter without `=` has the empty value.
fn first_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *decoded(key) == *name.as_bytes()).map(|(_, value)| decoded(value))
}

/// The text that a part of a query stands for. A percent sign without two digits behind it stands for itself (WHATWG
/// URL, section 1.3).
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = if *byte == b'%' { escape(&bytes[at + 1..]) } else { None };
        match (byte, escaped) {
            (_, Some(value)) => {
                plain.push(value);
                at += 2;
            }
            (b'+', None) => plain.push(b' '),
            (other, None) => plain.push(*other),
        }
        at += 1;
    }
    Cow::Owned(plain)
}

fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests;
