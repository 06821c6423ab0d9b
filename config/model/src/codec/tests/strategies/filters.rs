//! Any filters of routes and backends.

use super::*;
use crate::filter::{
    AllowList, Cors, Fault, Mirror, OriginMatch, PathChange, Redirect, Rewrite, Scheme, Share,
};

pub(super) fn filters(is_prefix: bool) -> impl Strategy<Value = Filters> {
    let mirror = (target(), share()).prop_map(|(target, share)| Mirror { target, share });
    (option::of(fault()), option::of(cors()), option::of(rewrite(is_prefix)), vec(mirror, 0..3)).prop_map(
        |(fault, cors, rewrite, mirrors)| Filters { fault, cors, rewrite, mirrors, ..Filters::default() },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    let status = (200u16..600).prop_map(|code| StatusCode::from_u16(code).unwrap());
    (option::of((share(), duration())), option::of((share(), status)))
        .prop_map(|(delay, abort)| Fault { delay, abort })
}

pub(super) fn cors_only(cors: Option<Cors>) -> Filters {
    Filters { cors, ..Filters::default() }
}

pub(super) fn redirect(is_prefix: bool) -> impl Strategy<Value = Redirect> {
    let scheme = option::of(select(vec![Scheme::Http, Scheme::Https]));
    let status = select(vec![301u16, 302, 303, 307, 308]);
    (scheme, option::of(host()), option::of(1u16..), option::of(path_change(is_prefix)), status).prop_map(
        |(scheme, host, port, path, status)| Redirect {
            scheme,
            host,
            port,
            path,
            status: StatusCode::from_u16(status).unwrap(),
        },
    )
}

fn rewrite(is_prefix: bool) -> impl Strategy<Value = Rewrite> {
    let host_and_path = (host(), option::of(path_change(is_prefix)));
    prop_oneof![
        host_and_path.prop_map(|(host, path)| Rewrite { host: Some(host), path }),
        path_change(is_prefix).prop_map(|path| Rewrite { host: None, path: Some(path) }),
    ]
}

fn host() -> impl Strategy<Value = Arc<str>> {
    "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}(:[1-9][0-9]{0,3})?".prop_map(Arc::from)
}

/// Only what matched as a prefix can be replaced as one.
fn path_change(is_prefix: bool) -> BoxedStrategy<PathChange> {
    let full = "/[a-z\\\\0-9/%]{0,6}".prop_map(|path| PathChange::Full(path.into()));
    let prefix = "(/[a-z]{1,4}){0,3}".prop_map(|prefix| PathChange::Prefix(prefix.into()));
    if is_prefix { prop_oneof![full, prefix].boxed() } else { full.boxed() }
}

/// Shares as the standard counts them.
fn share() -> impl Strategy<Value = Share> {
    select(vec![100u32, 10_000, 1_000_000]).prop_flat_map(|denominator| {
        (0..=denominator).prop_map(move |numerator| Share { numerator, denominator })
    })
}

pub(super) fn cors() -> impl Strategy<Value = Cors> {
    let origin = prop_oneof![
        Just(OriginMatch::Any),
        "https?://[a-z]{1,5}".prop_map(|origin| OriginMatch::Exact(origin.into())),
        pattern().prop_map(OriginMatch::Regex),
    ];
    let methods = list(select(vec![Method::GET, Method::PUT, Method::from_bytes(b"PURGE").unwrap()]).boxed());
    let headers = || list(header_name().boxed());
    let age = option::of(any::<u32>().prop_map(|seconds| Duration::from_secs(seconds.into())));
    (vec(origin, 0..3), methods, headers(), headers(), age, any::<bool>()).prop_map(
        |(allow_origins, allow_methods, allow_headers, expose_headers, max_age, allow_credentials)| Cors {
            allow_origins,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            allow_credentials,
        },
    )
}

fn list<T: Clone + std::fmt::Debug + 'static>(
    entry: BoxedStrategy<T>,
) -> impl Strategy<Value = AllowList<T>> {
    prop_oneof![Just(AllowList::Any), vec(entry, 0..3).prop_map(AllowList::Only)]
}
