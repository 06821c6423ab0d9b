//! Tables of which requests a match takes, after the examples of Gateway API.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{RequestHead, decoded, select};
use crate::route::{HeaderMatch, PathMatch, Pattern, QueryMatch, RouteMatch, ValueMatch};

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.into())
}

fn regex(text: &str) -> ValueMatch {
    ValueMatch::Regex(Pattern::new(text).unwrap())
}

fn by_path(path: PathMatch) -> RouteMatch {
    RouteMatch { path, ..RouteMatch::default() }
}

fn by_header(name: &'static str, value: ValueMatch) -> RouteMatch {
    let header = HeaderMatch { name: HeaderName::from_static(name), value };
    RouteMatch { headers: vec![header], ..RouteMatch::default() }
}

fn by_query(name: &str, value: ValueMatch) -> RouteMatch {
    RouteMatch { query: vec![QueryMatch { name: name.into(), value }], ..RouteMatch::default() }
}

/// `target` is a path with or without a query; `fields` are header fields.
fn matches(wanted: &RouteMatch, method: &Method, target: &str, fields: &[(&str, &str)]) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers
            .append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    select([wanted], &RequestHead { method, path, query, headers: &headers }) == Some(0)
}

#[test]
fn paths_match_as_the_gateway_api_says() {
    let exact = |path: &str| PathMatch::Exact(path.into());
    let prefix = |path: &str| PathMatch::Prefix(path.into());
    let regex = |source: &str| PathMatch::Regex(Pattern::new(source).unwrap());
    for (wanted, path, expected) in [
        (prefix(""), "/", true),
        (prefix(""), "/foo/bar", true),
        (prefix(""), "*", true),
        (prefix("/foo"), "/foo", true),
        (prefix("/foo"), "/foo/", true),
        (prefix("/foo"), "/foo/bar", true),
        (prefix("/foo"), "/foobar", false),
        (prefix("/foo"), "/FOO", false),
        (prefix("/foo"), "/", false),
        (prefix("/foo"), "/fo", false),
        (prefix("/foo/bar"), "/foo/bar", true),
        (prefix("/foo/bar"), "/foo/barbaz", false),
        (prefix("/foo/bar"), "/foo", false),
        (exact("/foo"), "/foo", true),
        (exact("/foo"), "/foo/", false),
        (exact("/foo/"), "/foo/", true),
        (exact("/foo/"), "/foo", false),
        (exact("/foo"), "/foo/bar", false),
        (exact("/foo"), "/Foo", false),
        (exact("/"), "/", true),
        (exact("/"), "/foo", false),
        (regex("/a+"), "/aaa", true),
        (regex("/a+"), "/aaab", false),
        (regex("/a+"), "/x/aaa", false),
        (regex("/a|/b"), "/a", true),
        (regex("/a|/b"), "/ax", false),
    ] {
        let found = matches(&by_path(wanted.clone()), &Method::GET, path, &[]);
        assert_eq!(found, expected, "{wanted:?} on {path:?}");
    }
}

#[test]
fn headers_match_by_name_in_any_case_and_by_the_whole_value() {
    for (wanted, fields, expected) in [
        (exact("v2"), &[("X-Version", "v2")][..], true),
        (exact("v2"), &[("x-version", "V2")], false),
        (exact("v2"), &[("x-version", "v2 ")], false),
        (exact("v2"), &[("x-other", "v2")], false),
        (exact("v2"), &[], false),
        (exact(""), &[], false),
        (exact(""), &[("x-version", "")], true),
        (exact("a,b"), &[("x-version", "a"), ("x-version", "b")], true),
        (exact("a"), &[("x-version", "a"), ("x-version", "b")], false),
        (exact("ü"), &[("x-version", "ü")], true),
        (regex("v[0-9]"), &[("x-version", "v2")], true),
        (regex("v[0-9]"), &[("x-version", "v22")], false),
        (regex("v[0-9]"), &[], false),
        (regex(""), &[("x-version", "")], true),
        (regex(""), &[], false),
        (regex("a,.*"), &[("x-version", "a"), ("x-version", "b")], true),
        (ValueMatch::Present, &[("x-version", "")], true),
        (ValueMatch::Present, &[], false),
    ] {
        let found = matches(&by_header("x-version", wanted.clone()), &Method::GET, "/", fields);
        assert_eq!(found, expected, "{wanted:?} on {fields:?}");
    }
}

#[test]
fn query_parameters_match_by_their_first_value_decoded() {
    for (wanted, target, expected) in [
        (exact("2"), "/?v=2", true),
        (exact("2"), "/?a=1&v=2&b=3", true),
        (exact("2"), "/?v=1&v=2", false),
        (exact("1"), "/?v=1&v=2", true),
        (exact("2"), "/?V=2", false),
        (exact("2"), "/?vv=2", false),
        (exact("2"), "/", false),
        (exact("2"), "/?", false),
        (exact(""), "/?v=", true),
        (exact(""), "/?v", true),
        (exact(""), "/?&&v&", true),
        (exact(""), "/?w=", false),
        (exact("a b"), "/?v=a+b", true),
        (exact("a b"), "/?v=a%20b", true),
        (exact("a=b"), "/?v=a=b", true),
        (exact("2"), "/?%76=2", true),
        (exact("100%"), "/?v=100%", true),
        (exact("%zz"), "/?v=%zz", true),
        (regex("[0-9]+"), "/?v=123", true),
        (regex("[0-9]+"), "/?v=123x", false),
        (regex("é"), "/?v=%C3%A9", true),
        (regex(".*"), "/?v=%ff", false),
        (ValueMatch::Present, "/?v", true),
        (ValueMatch::Present, "/?w", false),
    ] {
        let found = matches(&by_query("v", wanted.clone()), &Method::GET, target, &[]);
        assert_eq!(found, expected, "{wanted:?} on {target:?}");
    }
}

#[test]
fn every_condition_has_to_hold_and_the_first_match_wins() {
    let get = RouteMatch { method: Some(Method::GET), ..by_path(PathMatch::Prefix("/a".into())) };
    let both = RouteMatch { headers: by_header("x-a", exact("1")).headers, ..by_query("q", exact("1")) };
    assert!(matches(&get, &Method::GET, "/a/b", &[]));
    assert!(!matches(&get, &Method::POST, "/a/b", &[]));
    assert!(matches(&both, &Method::GET, "/?q=1", &[("x-a", "1")]));
    assert!(!matches(&both, &Method::GET, "/?q=1", &[]));
    assert!(!matches(&both, &Method::GET, "/", &[("x-a", "1")]));

    let table = [both, get, RouteMatch::default(), by_path(PathMatch::Exact("/a".into()))];
    let headers = HeaderMap::new();
    let on = |path, count: usize| {
        let head = RequestHead { method: &Method::GET, path, query: None, headers: &headers };
        select(&table[..count], &head)
    };
    assert_eq!(on("/a", 4), Some(1));
    assert_eq!(on("/b", 4), Some(2));
    assert_eq!(on("/b", 2), None);
    assert_eq!(on("/b", 0), None);
}

#[test]
fn what_needs_no_decoding_is_borrowed() {
    assert!(matches!(decoded("plain"), std::borrow::Cow::Borrowed(_)));
    for (text, plain) in
        [("%", "%"), ("%4", "%4"), ("%41", "A"), ("%%41", "%A"), ("+%2B", " +"), ("%+1", "% 1")]
    {
        assert_eq!(*decoded(text), *plain.as_bytes(), "{text:?}");
    }
}
