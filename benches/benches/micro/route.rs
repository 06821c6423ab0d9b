//! Route match: the first of a table whose conditions hold.

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use outrigger_model::route::{HeaderMatch, PathMatch, RequestHead, RouteMatch, ValueMatch, select};

const ROUTES: [usize; 3] = [1, 10, 100];

#[divan::bench(args = ROUTES)]
fn first(bencher: Bencher<'_, '_>, routes: usize) {
    matches(bencher, routes, "/service-0/items/42");
}

#[divan::bench(args = ROUTES)]
fn last(bencher: Bencher<'_, '_>, routes: usize) {
    matches(bencher, routes, &format!("/service-{}/items/42", routes - 1));
}

#[divan::bench(args = ROUTES)]
fn none(bencher: Bencher<'_, '_>, routes: usize) {
    matches(bencher, routes, "/elsewhere/items/42");
}

fn matches(bencher: Bencher<'_, '_>, routes: usize, path: &str) {
    let table = table(routes);
    let headers = headers();
    bencher.bench_local(|| {
        let head = RequestHead {
            method: &Method::GET,
            path: black_box(path),
            query: Some("view=full"),
            headers: &headers,
        };
        select(black_box(&table), &head)
    });
}

/// A prefix each; every other one wants a method too, every third a header.
fn table(routes: usize) -> Vec<RouteMatch> {
    let version =
        HeaderMatch { name: HeaderName::from_static("x-api-version"), value: ValueMatch::Exact("2".into()) };
    let route = |place: usize| RouteMatch {
        path: PathMatch::Prefix(format!("/service-{place}").into()),
        method: (place.is_multiple_of(2)).then_some(Method::GET),
        headers: if place.is_multiple_of(3) { vec![version.clone()] } else { Vec::new() },
        query: Vec::new(),
    };
    (0..routes).map(route).collect()
}

/// What a browser or another service sends.
fn headers() -> HeaderMap {
    [
        ("host", "shop.example:9080"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, br"),
        ("x-api-version", "2"),
        ("x-request-id", "0b9df0a1-4a4b-4b8e-9d1c-6f2d3e4a5b6c"),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect()
}
