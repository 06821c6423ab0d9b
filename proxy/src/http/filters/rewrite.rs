//! Another host or path for the backend (Gateway API, `HTTPURLRewriteFilter`).

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Uri};
use outrigger_model::filter::{PathChange, Rewrite};
use outrigger_model::route::PathMatch;

use crate::reason::Reason;

/// Changes host and path. What the backend's own rewrite says counts before what the route's says, and both are about the
/// path that matched.
pub(super) fn rewrite(
    (of_route, of_backend): (Option<&Rewrite>, Option<&Rewrite>),
    matched: &PathMatch,
    parts: &mut Parts,
) -> Result<(), Reason> {
    let both = || [of_backend, of_route].into_iter().flatten();
    // A tunnel has no path, and its host is its target.
    if parts.method == Method::CONNECT {
        return Ok(());
    }
    if let Some(path) = both().find_map(|rewrite| rewrite.path.as_ref()) {
        change_path(path, matched, parts).ok_or(Reason::BadRequest)?;
    }
    if let Some(host) = both().find_map(|rewrite| rewrite.host.as_deref()) {
        change_host(host, parts).ok_or(Reason::BadRequest)?;
    }
    Ok(())
}

/// `None` for what no request line can hold, as a target that has become too long.
fn change_path(change: &PathChange, matched: &PathMatch, parts: &mut Parts) -> Option<()> {
    let path = parts.uri.path();
    // `OPTIONS *` is about the server and not about a path.
    if !path.starts_with('/') {
        return Some(());
    }
    let mut target = change.applied(path, matched);
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(())
}

/// The host stands in `:authority` in HTTP/2 and in Host in HTTP/1, never in both here.
fn change_host(host: &str, parts: &mut Parts) -> Option<()> {
    if parts.uri.authority().is_none() {
        parts.headers.insert(HOST, HeaderValue::from_str(host).ok()?);
        return Some(());
    }
    let mut uri = parts.uri.clone().into_parts();
    uri.authority = Some(host.parse::<Authority>().ok()?);
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;

    fn to(host: Option<&str>, path: Option<PathChange>) -> Rewrite {
        Rewrite { host: host.map(Into::into), path }
    }

    /// The target and the Host of a request to `/a/b?q=1` of `a.example` after rewrites.
    fn shown(request: http::request::Builder, rewrites: (Option<&Rewrite>, Option<&Rewrite>)) -> String {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        rewrite(rewrites, &PathMatch::Prefix("/a".into()), &mut parts).unwrap();
        let host = parts.headers.get(HOST).map_or("-", |host| host.to_str().unwrap());
        format!("{} {host}", parts.uri)
    }

    #[test]
    fn host_and_path_are_rewritten_where_each_version_has_them() {
        let http1 = || Request::get("/a/b?q=1").header(HOST, "a.example");
        let http2 = || Request::get("http://a.example/a/b?q=1").version(Version::HTTP_2);
        let all = to(Some("new.example"), Some(PathChange::Prefix("/x".into())));
        assert_eq!(shown(http1(), (Some(&all), None)), "/x/b?q=1 new.example");
        assert_eq!(shown(http2(), (Some(&all), None)), "http://new.example/x/b?q=1 -");
        let path = to(None, Some(PathChange::Full("/y".into())));
        assert_eq!(shown(http1(), (Some(&path), None)), "/y?q=1 a.example");
        let host = to(Some("new.example:8080"), None);
        assert_eq!(shown(http2(), (Some(&host), None)), "http://new.example:8080/a/b?q=1 -");
    }

    #[test]
    fn what_a_backend_says_counts_before_what_the_route_says() {
        let http1 = || Request::get("/a/b").header(HOST, "a.example");
        let of_route = to(Some("route.example"), Some(PathChange::Prefix("/route".into())));
        let of_backend = to(None, Some(PathChange::Prefix("/backend".into())));
        assert_eq!(shown(http1(), (Some(&of_route), Some(&of_backend))), "/backend/b route.example");
    }

    #[test]
    fn a_tunnel_and_a_question_about_the_server_stay_as_they_are() {
        let all = to(Some("new.example"), Some(PathChange::Full("/x".into())));
        let connect = Request::connect("db.example:5432");
        assert_eq!(shown(connect, (Some(&all), None)), "db.example:5432 -");
        let star = Request::options("*").header(HOST, "a.example");
        assert_eq!(shown(star, (Some(&all), None)), "* new.example");
    }
}
