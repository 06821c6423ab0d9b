//! Answers that send the client elsewhere (Gateway API, `HTTPRequestRedirectFilter`; RFC 9110, section 15.4).

use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Response};
use outrigger_model::filter::{Redirect, RedirectedFrom};

use super::Matched;
use crate::http::Body;
use crate::http::answer::Stop;
use crate::http::headers::apply;
use crate::reason::Reason;

/// The answer of a redirect.
pub(crate) fn redirect(redirect: &Redirect, matched: Matched<'_>, parts: &Parts) -> Stop {
    // What came in and configuration are both texts that a field may hold, so this does not fail in practice.
    let Ok(location) = HeaderValue::try_from(location(redirect, matched, parts)) else {
        return Reason::BadRequest.into();
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, location);
    apply(&matched.route.response_headers, response.headers_mut());
    Stop::Answered(Box::new(response))
}

fn location(redirect: &Redirect, matched: Matched<'_>, parts: &Parts) -> String {
    redirect.location(&RedirectedFrom {
        port: matched.port,
        host: host_of(parts),
        path: parts.uri.path(),
        query: parts.uri.query(),
        matched: &matched.route.matches.path,
    })
}

/// The host that the client named.
fn host_of(parts: &Parts) -> &str {
    let named = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    parts.uri.authority().map(Authority::as_str).or(named).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode};
    use outrigger_model::filter::{PathChange, Scheme};
    use outrigger_model::route::{PathMatch, RouteMatch};

    use super::*;
    use crate::snapshot::{Action, Route};

    fn plain() -> Redirect {
        Redirect { scheme: None, host: None, port: None, path: None, status: StatusCode::FOUND }
    }

    fn shown(config: &Redirect, host: &str, uri: &str) -> String {
        let matches = RouteMatch { path: PathMatch::Prefix("/old".into()), ..RouteMatch::default() };
        let route = Route {
            object: "HTTPRoute/shop/web".into(),
            label: 0,
            matches,
            action: Action::NoBackend,
            request_headers: Default::default(),
            response_headers: Default::default(),
            filters: None,
        };
        let (parts, ()) = Request::get(uri).header(HOST, host).body(()).unwrap().into_parts();
        let Stop::Answered(response) = redirect(config, Matched { route: &route, port: 9080 }, &parts) else {
            panic!("refused")
        };
        format!("{} {}", response.status().as_u16(), response.headers()[LOCATION].to_str().unwrap())
    }

    #[test]
    fn what_is_not_written_stays_as_the_client_wrote_it() {
        let https = Redirect { scheme: Some(Scheme::Https), ..plain() };
        let table = [
            (plain(), "302 http://web.shop:9080/old/a?q=1"),
            (https.clone(), "302 https://web.shop/old/a?q=1"),
            (Redirect { port: Some(8443), ..https }, "302 https://web.shop:8443/old/a?q=1"),
            (Redirect { port: Some(80), ..plain() }, "302 http://web.shop/old/a?q=1"),
            (
                Redirect { host: Some("new.example".into()), ..plain() },
                "302 http://new.example:9080/old/a?q=1",
            ),
            (
                Redirect { path: Some(PathChange::Prefix("/new".into())), ..plain() },
                "302 http://web.shop:9080/new/a?q=1",
            ),
            (
                Redirect {
                    path: Some(PathChange::Full("/".into())),
                    status: StatusCode::SEE_OTHER,
                    ..plain()
                },
                "303 http://web.shop:9080/?q=1",
            ),
        ];
        for (config, expected) in table {
            assert_eq!(shown(&config, "web.shop:1234", "/old/a?q=1"), expected);
        }
        assert_eq!(shown(&plain(), "[::1]:1234", "/old"), "302 http://[::1]:9080/old");
        assert_eq!(shown(&plain(), "[::1]", "/old"), "302 http://[::1]:9080/old");
    }
}
