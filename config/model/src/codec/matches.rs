//! Which requests a route is for.
//!
//! Segment prefixes (`/a` for `/a` and `/a/b`) are two routes on the wire, `path: /a` and `prefix: /a/`: gRPC clients
//! refuse a whole configuration that says `path_separated_prefix`, and plain comparisons are the fastest for everyone.

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch as Wire};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use http::{HeaderName, Method};

use super::MAX_MATCHES;
use super::fault::{Decoded, Fault, at_most, refuse, shorten};
use super::wire;
use crate::route::{HeaderMatch, PathMatch, Pattern, QueryMatch, RouteMatch, ValueMatch};

const METHOD: &str = ":method";
/// An expression that matches the empty text only. The standard has no empty expression.
const EMPTY_PATTERN: &str = "(?:)";

/// A match on the wire.
pub(super) struct WireMatch {
    pub(super) first: Wire,
    /// The other half, when the match is a segment prefix.
    pub(super) tail: Option<Wire>,
}

pub(super) fn encode(matches: &RouteMatch) -> WireMatch {
    let method = matches.method.as_ref().map(|method| string_header(METHOD, exact(method.as_str())));
    let headers = matches.headers.iter().map(encode_header);
    let with_path = |path| Wire {
        path_specifier: Some(path),
        headers: method.iter().cloned().chain(headers.clone()).collect(),
        query_parameters: matches.query.iter().map(encode_query).collect(),
        ..Wire::default()
    };
    let (first, tail) = match &matches.path {
        PathMatch::Exact(path) => (PathSpecifier::Path(path.as_ref().into()), None),
        PathMatch::Regex(pattern) => (PathSpecifier::SafeRegex(regex(pattern)), None),
        PathMatch::Prefix(prefix) if prefix.is_empty() => (PathSpecifier::Prefix("/".to_owned()), None),
        PathMatch::Prefix(prefix) => {
            let (head, tail) = halves(prefix);
            (head, Some(tail))
        }
    };
    WireMatch { first: with_path(first), tail: tail.map(with_path) }
}

/// The two halves of a segment prefix.
pub(super) fn halves(prefix: &str) -> (PathSpecifier, PathSpecifier) {
    (PathSpecifier::Path(prefix.to_owned()), PathSpecifier::Prefix(format!("{prefix}/")))
}

pub(super) fn decode(wire: &Wire) -> Decoded<RouteMatch> {
    refuse(&[
        ("runtime_fraction", wire.runtime_fraction.is_some()),
        ("cookies", !wire.cookies.is_empty()),
        ("grpc", wire.grpc.is_some()),
        ("tls_context", wire.tls_context.is_some()),
        ("dynamic_metadata", !wire.dynamic_metadata.is_empty()),
        ("filter_state", !wire.filter_state.is_empty()),
    ])?;
    at_most("headers", wire.headers.len(), MAX_MATCHES + 1)?;
    at_most("query_parameters", wire.query_parameters.len(), MAX_MATCHES)?;
    let path = wire.path_specifier.as_ref().ok_or_else(|| Fault::new("path_specifier", "is missing"))?;
    let fold = wire.case_sensitive.as_ref().is_some_and(|on| !on.value);
    let mut matches = RouteMatch { path: decode_path(path, fold)?, ..RouteMatch::default() };
    for (at, header) in wire.headers.iter().enumerate() {
        decode_header(header, &mut matches).map_err(|fault| fault.within(format!("headers[{at}]")))?;
    }
    at_most("headers", matches.headers.len(), MAX_MATCHES)?;
    for (at, query) in wire.query_parameters.iter().enumerate() {
        let query = decode_query(query).map_err(|fault| fault.within(format!("query_parameters[{at}]")))?;
        matches.query.push(query);
    }
    Ok(matches)
}

/// How many regular expressions a match has.
pub(super) fn patterns(matches: &RouteMatch) -> usize {
    let values = matches.headers.iter().map(|header| &header.value);
    let values = values.chain(matches.query.iter().map(|query| &query.value));
    let path = usize::from(matches!(matches.path, PathMatch::Regex(_)));
    path + values.filter(|value| matches!(value, ValueMatch::Regex(_))).count()
}

fn decode_path(path: &PathSpecifier, fold: bool) -> Decoded<PathMatch> {
    let fault = |field: &'static str| move |fault: Fault| fault.within(field);
    match path {
        PathSpecifier::Prefix(prefix) if prefix.is_empty() || prefix == "/" => Ok(PathMatch::default()),
        // Anyone else's plain prefix is not a match of whole segments, and is kept as what it is.
        PathSpecifier::Prefix(prefix) => {
            let text = literal(prefix, fold);
            pattern(&format!("{text}.*")).map(PathMatch::Regex).map_err(fault("prefix"))
        }
        PathSpecifier::Path(path) if fold => {
            pattern(&literal(path, fold)).map(PathMatch::Regex).map_err(fault("path"))
        }
        PathSpecifier::Path(path) => Ok(PathMatch::Exact(path.as_str().into())),
        PathSpecifier::PathSeparatedPrefix(prefix) if fold => {
            let text = literal(prefix, fold);
            pattern(&format!("{text}(?:/.*)?")).map(PathMatch::Regex).map_err(fault("path_separated_prefix"))
        }
        PathSpecifier::PathSeparatedPrefix(prefix) => {
            Ok(PathMatch::Prefix(prefix.trim_end_matches('/').into()))
        }
        PathSpecifier::SafeRegex(regex) => {
            decode_regex(regex).map(PathMatch::Regex).map_err(fault("safe_regex"))
        }
        PathSpecifier::ConnectMatcher(_) => Err(Fault::new("connect_matcher", "is not supported")),
        PathSpecifier::PathMatchPolicy(_) => Err(Fault::new("path_match_policy", "is not supported")),
    }
}

fn encode_header(header: &HeaderMatch) -> HeaderMatcher {
    match &header.value {
        ValueMatch::Exact(text) => string_header(header.name.as_str(), exact(text)),
        ValueMatch::Regex(pattern) => string_header(header.name.as_str(), by_regex(pattern)),
        ValueMatch::Present => HeaderMatcher {
            name: header.name.as_str().to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
            ..HeaderMatcher::default()
        },
    }
}

fn string_header(name: &str, matcher: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..HeaderMatcher::default()
    }
}

fn decode_header(wire: &HeaderMatcher, matches: &mut RouteMatch) -> Decoded<()> {
    refuse(&[
        ("invert_match", wire.invert_match),
        ("treat_missing_header_as_empty", wire.treat_missing_header_as_empty),
    ])?;
    let specifier = wire.header_match_specifier.as_ref();
    let specifier = specifier.ok_or_else(|| Fault::new("header_match_specifier", "is missing"))?;
    let value = decode_specifier(specifier)?;
    if wire.name == METHOD {
        return decode_method(&value, matches);
    }
    let name: HeaderName = wire.name.parse().map_err(|_| {
        Fault::new("name", format!("{:?} is not the name of a header field", shorten(&wire.name)))
    })?;
    matches.headers.push(HeaderMatch { name, value });
    Ok(())
}

fn decode_method(value: &ValueMatch, matches: &mut RouteMatch) -> Decoded<()> {
    let ValueMatch::Exact(text) = value else {
        return Err(Fault::new("string_match", "of :method is not an exact one"));
    };
    let method: Method = text
        .parse()
        .map_err(|_| Fault::new("string_match", format!("{:?} is not a method", shorten(text))))?;
    match matches.method.replace(method) {
        None => Ok(()),
        Some(_) => Err(Fault::new("name", ":method comes twice")),
    }
}

#[expect(deprecated, reason = "control planes still send the old spelling")]
fn decode_specifier(specifier: &HeaderMatchSpecifier) -> Decoded<ValueMatch> {
    let part = |kind: fn(String) -> MatchPattern, text: &str| {
        decode_string(&StringMatcher { match_pattern: Some(kind(text.to_owned())), ignore_case: false })
    };
    match specifier {
        HeaderMatchSpecifier::StringMatch(matcher) => {
            decode_string(matcher).map_err(|fault| fault.within("string_match"))
        }
        HeaderMatchSpecifier::PresentMatch(true) => Ok(ValueMatch::Present),
        HeaderMatchSpecifier::PresentMatch(false) => {
            Err(Fault::new("present_match", "false is not supported"))
        }
        HeaderMatchSpecifier::ExactMatch(text) => part(MatchPattern::Exact, text),
        HeaderMatchSpecifier::PrefixMatch(text) => part(MatchPattern::Prefix, text),
        HeaderMatchSpecifier::SuffixMatch(text) => part(MatchPattern::Suffix, text),
        HeaderMatchSpecifier::ContainsMatch(text) => part(MatchPattern::Contains, text),
        HeaderMatchSpecifier::SafeRegexMatch(regex) => {
            decode_regex(regex).map(ValueMatch::Regex).map_err(|fault| fault.within("safe_regex_match"))
        }
        HeaderMatchSpecifier::RangeMatch(_) => Err(Fault::new("range_match", "is not supported")),
    }
}

fn encode_query(query: &QueryMatch) -> QueryParameterMatcher {
    let specifier = match &query.value {
        ValueMatch::Exact(text) => QueryParameterMatchSpecifier::StringMatch(exact(text)),
        ValueMatch::Regex(pattern) => QueryParameterMatchSpecifier::StringMatch(by_regex(pattern)),
        ValueMatch::Present => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    QueryParameterMatcher {
        name: query.name.as_ref().into(),
        query_parameter_match_specifier: Some(specifier),
    }
}

fn decode_query(wire: &QueryParameterMatcher) -> Decoded<QueryMatch> {
    wire::not_empty("name", &wire.name)?;
    let value = match &wire.query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
            decode_string(matcher).map_err(|fault| fault.within("string_match"))?
        }
        Some(QueryParameterMatchSpecifier::PresentMatch(true)) | None => ValueMatch::Present,
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return Err(Fault::new("present_match", "false is not supported"));
        }
    };
    Ok(QueryMatch { name: wire.name.as_str().into(), value })
}

pub(super) fn exact(text: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(text.to_owned())), ignore_case: false }
}

pub(super) fn by_regex(pattern: &Pattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex(pattern))), ignore_case: false }
}

pub(super) fn decode_string(matcher: &StringMatcher) -> Decoded<ValueMatch> {
    let fold = matcher.ignore_case;
    let text = match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) if !fold => return Ok(ValueMatch::Exact(text.as_str().into())),
        Some(MatchPattern::SafeRegex(regex)) => return decode_regex(regex).map(ValueMatch::Regex),
        Some(MatchPattern::Exact(text)) => literal(text, fold),
        Some(MatchPattern::Prefix(text)) => format!("{}.*", literal(text, fold)),
        Some(MatchPattern::Suffix(text)) => format!(".*{}", literal(text, fold)),
        Some(MatchPattern::Contains(text)) => format!(".*{}.*", literal(text, fold)),
        Some(MatchPattern::Custom(_)) => return Err(Fault::new("custom", "is not supported")),
        None => return Err(Fault::whole("says nothing")),
    };
    pattern(&text).map(ValueMatch::Regex)
}

fn regex(pattern: &Pattern) -> RegexMatcher {
    let source = match pattern.source() {
        "" => EMPTY_PATTERN,
        source => source,
    };
    RegexMatcher { regex: source.to_owned(), engine_type: None }
}

fn decode_regex(regex: &RegexMatcher) -> Decoded<Pattern> {
    match regex.regex.as_str() {
        EMPTY_PATTERN => pattern(""),
        "" => Err(Fault::new("regex", "is empty")),
        source => pattern(source).map_err(|fault| fault.within("regex")),
    }
}

fn pattern(source: &str) -> Decoded<Pattern> {
    Pattern::new(source).map_err(|error| Fault::whole(format!("is not an expression we can use: {error}")))
}

/// An expression that matches a text as it stands, or in any case of its ASCII letters.
fn literal(text: &str, fold: bool) -> String {
    let escaped = regex::escape(text);
    if fold { format!("(?i-u:{escaped})") } else { escaped }
}
