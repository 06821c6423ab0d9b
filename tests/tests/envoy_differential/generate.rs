//! Random rules and random requests that have a chance to match them.
//!
//! Both are made of the same few words, so that rules overlap and their order counts.

use fastrand::Rng;
use http::Request;
use outrigger_tests::client::{RequestBody, empty};

const SEGMENTS: [&str; 5] = ["a", "b", "ab", "c", "A"];
const EXPRESSIONS: [&str; 6] = ["/a/.*", "/[ab]+", "/(a|b)/c.*", "/.*c", "/a(/b)?", "/.{3,5}"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const QUERIES: [&str; 9] = ["", "?q=1", "?q=2", "?q=1&q=2", "?q", "?q=", "?p=x&q=12", "?Q=1", "?q=1?p=x"];
/// Those that a proxy has to decode first.
const ENCODED_QUERIES: [&str; 3] = ["?q=%31", "?%71=1", "?p=a+b"];
const PATHS: [&str; 6] = ["//", "/a//b", "/a/./b", "/a/../b", "/a%2Fb", "/%61"];

/// The rules of a route, each an item of a YAML list; the first answers whether the proxy is ready.
pub(crate) fn rules(rng: &mut Rng) -> Vec<String> {
    let ready = "{matches: [{path: {type: Exact, value: /ready}}], backendRefs: [{name: v1, port: 9080}]}";
    let number = rng.usize(4..10);
    std::iter::once(ready.to_owned()).chain((0..number).map(|_| rule(rng))).collect()
}

fn rule(rng: &mut Rng) -> String {
    let replaces_prefix = rng.u8(..3) == 0;
    let matches: Vec<_> = (0..rng.usize(1..4)).map(|_| matches(rng, replaces_prefix)).collect();
    let matches = matches.join(", ");
    let mut filters = modifiers(rng);
    let path = path_modifier(rng, replaces_prefix);
    let backends = match rng.u8(..10) {
        0 | 1 => {
            filters.push(redirect(rng, &path));
            String::new()
        }
        2..=4 => {
            filters.push(rewrite(rng, &path));
            format!(", {}", backends(rng))
        }
        5 => String::new(),
        _ => format!(", {}", backends(rng)),
    };
    format!("{{matches: [{matches}], filters: [{}]{backends}}}", filters.join(", "))
}

fn matches(rng: &mut Rng, only_prefix: bool) -> String {
    let mut parts = vec![match rng.u8(..5) {
        0 if !only_prefix => format!("path: {{type: Exact, value: '{}'}}", path(rng)),
        1 if !only_prefix => {
            format!("path: {{type: RegularExpression, value: '{}'}}", pick(rng, &EXPRESSIONS))
        }
        2 => "path: {type: PathPrefix, value: /}".to_owned(),
        3 => format!("path: {{type: PathPrefix, value: '{}/'}}", path(rng)),
        _ => format!("path: {{type: PathPrefix, value: '{}'}}", path(rng)),
    }];
    if rng.u8(..4) == 0 {
        parts.push(format!("method: {}", pick(rng, &METHODS)));
    }
    if rng.u8(..4) == 0 {
        let value = pick(rng, &["value: '1'", "value: '1,2'", "type: RegularExpression, value: '[12]+'"]);
        parts.push(format!("headers: [{{name: X-A, {value}}}]"));
    }
    if rng.u8(..4) == 0 {
        let value = pick(rng, &["value: '1'", "type: RegularExpression, value: '1.*'"]);
        parts.push(format!("queryParams: [{{name: q, {value}}}]"));
    }
    format!("{{{}}}", parts.join(", "))
}

fn modifiers(rng: &mut Rng) -> Vec<String> {
    let mut filters = Vec::new();
    for (kind, field) in [
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
    ] {
        if rng.u8(..3) == 0 {
            let change = pick(
                rng,
                &[
                    "set: [{name: X-S, value: '100%'}]",
                    "add: [{name: x-b, value: added}]",
                    "remove: [x-b]",
                    "set: [{name: x-s, value: s}], add: [{name: x-t, value: t}], remove: [X-B]",
                ],
            );
            filters.push(format!("{{type: {kind}, {field}: {{{change}}}}}"));
        }
    }
    filters
}

fn redirect(rng: &mut Rng, path: &str) -> String {
    let mut parts = vec![format!("statusCode: {}", pick(rng, &["301", "302", "303", "307", "308"]))];
    if rng.bool() {
        parts.push(format!("scheme: {}", pick(rng, &["http", "https"])));
    }
    if rng.bool() {
        parts.push("hostname: new.example".to_owned());
    }
    if rng.bool() {
        parts.push(format!("port: {}", pick(rng, &["80", "443", "8080"])));
    }
    if rng.bool() {
        parts.push(path.to_owned());
    }
    format!("{{type: RequestRedirect, requestRedirect: {{{}}}}}", parts.join(", "))
}

fn rewrite(rng: &mut Rng, path: &str) -> String {
    let parts = match rng.u8(..3) {
        0 => "hostname: new.example".to_owned(),
        1 => path.to_owned(),
        _ => format!("hostname: new.example, {path}"),
    };
    format!("{{type: URLRewrite, urlRewrite: {{{parts}}}}}")
}

fn path_modifier(rng: &mut Rng, replaces_prefix: bool) -> String {
    let to = pick(rng, &["/x", "/x/", "/", "", "/x/y"]);
    match replaces_prefix {
        true => format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{to}'}}"),
        false => format!("path: {{type: ReplaceFullPath, replaceFullPath: '{to}'}}"),
    }
}

/// One of them gets everything, so that chance has no part in it.
fn backends(rng: &mut Rng) -> String {
    let backends = pick(
        rng,
        &[
            "{name: v1, port: 9080}",
            "{name: v2, port: 9080}",
            "{name: v1, port: 9080, weight: 0}, {name: v2, port: 9080, weight: 3}",
            "{name: gone, port: 9080}",
            "{name: v1, port: 9080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-own, value: o}]}}]}",
            "{name: v2, port: 9080, filters: [{type: URLRewrite, urlRewrite: {hostname: own.example}}]}",
        ],
    );
    format!("backendRefs: [{backends}]")
}

/// A path without a slash at its end.
fn path(rng: &mut Rng) -> String {
    (0..rng.usize(1..4)).map(|_| format!("/{}", pick(rng, &SEGMENTS))).collect()
}

/// A request before it is sent; sent again it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    method: &'static str,
    path: String,
    query: String,
    host: &'static str,
    /// The fields of the name `x-a`.
    values: Vec<&'static str>,
    has_b: bool,
}

/// Any request.
pub(crate) fn asked(rng: &mut Rng) -> Asked {
    let path = match rng.u8(..8) {
        0 => "/".to_owned(),
        1 => format!("{}/", path(rng)),
        2 => pick(rng, &PATHS).to_owned(),
        _ => path(rng),
    };
    let query = if rng.u8(..12) == 0 { pick(rng, &ENCODED_QUERIES) } else { pick(rng, &QUERIES) };
    let values = pick::<&[&str]>(rng, &[&[], &["1"], &["2"], &["1", "2"], &["12"], &["3"]]);
    Asked {
        method: pick(rng, &METHODS),
        path,
        query: query.to_owned(),
        host: pick(rng, &["web.example", "web.example:8080", "web.example:80"]),
        values: values.to_vec(),
        has_b: rng.bool(),
    }
}

impl Asked {
    pub(crate) fn request(&self) -> Request<RequestBody> {
        let target = format!("{}{}", self.path, self.query);
        let mut request = Request::builder().method(self.method).uri(target).header("host", self.host);
        for value in &self.values {
            request = request.header("x-a", *value);
        }
        if self.has_b {
            request = request.header("x-b", "own");
        }
        request.body(empty()).expect("words that a request may have")
    }

    /// The same with its query decoded, unless it is.
    pub(crate) fn decoded(&self) -> Option<Self> {
        let query = self.query.replace("%31", "1").replace("%71", "q");
        (query != self.query).then(|| Self { query, ..self.clone() })
    }

    /// The same with the values of several fields in one, unless there is one at most.
    pub(crate) fn joined(&self) -> Option<Self> {
        (self.values == ["1", "2"]).then(|| Self { values: vec!["1,2"], ..self.clone() })
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}
