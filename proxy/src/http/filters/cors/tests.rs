//! Requests of browsers in, what their answers say out.

use std::time::Duration;

use http::Request;

use super::*;

fn policy() -> Cors {
    Cors {
        allow_origins: vec![OriginMatch::of("https://*.example").unwrap()],
        allow_methods: AllowList::Only(vec![Method::GET, Method::PUT]),
        allow_headers: AllowList::Only(vec![HeaderName::from_static("x-a")]),
        expose_headers: AllowList::Only(vec![HeaderName::from_static("x-b"), HeaderName::from_static("x-c")]),
        max_age: Some(Duration::from_secs(5)),
        allow_credentials: false,
    }
}

fn open() -> Cors {
    Cors {
        allow_origins: vec![OriginMatch::Any],
        allow_methods: AllowList::Any,
        allow_headers: AllowList::Any,
        expose_headers: AllowList::Any,
        max_age: None,
        allow_credentials: false,
    }
}

/// Whether the proxy answers itself, and the fields of the answer, `access-control-` left away.
fn shown(policy: &Cors, method: Method, fields: &[(&str, &str)]) -> String {
    let mut request = Request::builder().method(method).uri("/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let mut answer = HeaderChanges::default();
    let answered = match cors(policy, &parts, &mut answer) {
        Ok(()) => "sent on",
        Err(Stop::Answered(response)) if response.status() == 200 => "200",
        Err(_) => "refused",
    };
    assert!(FIELDS.iter().all(|name| answer.remove.contains(name)), "the application has no word in it");
    let said = answer.set.iter().chain(&answer.add).map(|(name, value)| {
        let name = name.as_str().trim_start_matches("access-control-");
        format!(" {name}={}", value.to_str().unwrap())
    });
    format!("{answered}{}", said.collect::<String>())
}

const ORIGIN_A: (&str, &str) = ("origin", "https://a.example");
const PUT: (&str, &str) = ("access-control-request-method", "PUT");

#[test]
fn a_preflight_is_answered_with_leave_or_without() {
    let leave =
        "200 allow-origin=https://a.example allow-methods=GET, PUT allow-headers=x-a max-age=5 vary=Origin";
    assert_eq!(shown(&policy(), Method::OPTIONS, &[ORIGIN_A, PUT]), leave);
    assert_eq!(shown(&policy(), Method::OPTIONS, &[("origin", "https://evil.test"), PUT]), "200 vary=Origin");
    // Neither is a preflight.
    assert_eq!(
        shown(&policy(), Method::OPTIONS, &[ORIGIN_A]),
        "sent on allow-origin=https://a.example expose-headers=x-b, x-c vary=Origin"
    );
    assert_eq!(shown(&policy(), Method::OPTIONS, &[PUT]), "sent on vary=Origin");
}

#[test]
fn an_answer_names_the_origin_and_says_that_it_differs_by_it() {
    let leave = "sent on allow-origin=https://a.example expose-headers=x-b, x-c vary=Origin";
    assert_eq!(shown(&policy(), Method::GET, &[ORIGIN_A]), leave);
    assert_eq!(shown(&policy(), Method::GET, &[]), "sent on vary=Origin");
    assert_eq!(shown(&policy(), Method::GET, &[ORIGIN_A, ORIGIN_A]), "sent on vary=Origin");
}

#[test]
fn everything_is_a_star_until_credentials_are_allowed() {
    assert_eq!(shown(&open(), Method::GET, &[ORIGIN_A]), "sent on allow-origin=* expose-headers=*");
    let asked = [ORIGIN_A, PUT, ("access-control-request-headers", "authorization")];
    let plain = shown(&open(), Method::OPTIONS, &asked);
    assert_eq!(plain, "200 allow-origin=* allow-methods=PUT allow-headers=authorization");
    let secret = Cors { allow_credentials: true, ..open() };
    let named = "allow-origin=https://a.example allow-credentials=true";
    assert_eq!(shown(&secret, Method::GET, &[ORIGIN_A]), format!("sent on {named} vary=Origin"));
    assert_eq!(
        shown(&secret, Method::OPTIONS, &asked),
        format!("200 {named} allow-methods=PUT allow-headers=authorization vary=Origin")
    );
}

#[test]
fn the_last_policy_has_the_word() {
    let (parts, ()) = Request::get("/").header(ORIGIN, "https://a.example").body(()).unwrap().into_parts();
    let mut answer = HeaderChanges::default();
    let closed = Cors { allow_origins: Vec::new(), ..policy() };
    assert!(cors(&policy(), &parts, &mut answer).is_ok() && cors(&closed, &parts, &mut answer).is_ok());
    assert!(answer.set.is_empty(), "{:?}", answer.set);
}
