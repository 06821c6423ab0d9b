//! Tables of what is let through and what is not.

use http::{Request, Response};

use super::*;

fn parts(version: Version, method: &str, uri: &str, headers: &[(&'static str, &str)]) -> RequestParts {
    let mut builder = Request::builder().version(version).method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn shown(headers: &HeaderMap) -> String {
    let mut all: Vec<String> =
        headers.iter().map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes()))).collect();
    all.sort();
    all.join(", ")
}

fn check(version: Version, method: &str, uri: &str, headers: &[(&'static str, &str)]) -> String {
    let mut parts = parts(version, method, uri, headers);
    match checked(&mut parts) {
        Err(reason) => reason.word().to_owned(),
        Ok(_) => format!("{} {}", parts.uri, shown(&parts.headers)),
    }
}

fn checked(parts: &mut RequestParts) -> Result<Checked, Reason> {
    let fields = Fields::of(&parts.headers);
    check_request(parts, fields)
}

#[test]
fn one_valid_host_and_nothing_else() {
    let v11 = Version::HTTP_11;
    for (host, good) in [
        ("reviews", true),
        ("reviews.shop:9080", true),
        ("127.0.0.1", true),
        ("[::1]:80", true),
        ("a_b~c", true),
        ("", false),
        ("a, b", false),
        ("a,b", false),
        ("user@host", false),
        ("host/path", false),
        ("host?x", false),
        ("a b", false),
        ("host:", false),
        ("host:65536", false),
        ("host:80:80", false),
        ("host:+80", false),
        ("%61", false),
        ("[::1", false),
        ("[zz]", false),
        ("[]", false),
        ("[::1]x", false),
        (":80", false),
        ("h\u{e4}", false),
    ] {
        let answer = check(v11, "GET", "/", &[("host", host)]);
        assert_eq!(answer != "bad_request", good, "{host:?} gave {answer}");
    }
    assert_eq!(check(v11, "GET", "/", &[]), "bad_request");
    assert_eq!(check(v11, "GET", "/", &[("host", "a"), ("host", "a")]), "bad_request");
    assert_eq!(check(Version::HTTP_10, "GET", "/", &[]), "/ ");
}

#[test]
fn the_absolute_form_wins_over_host() {
    assert_eq!(check(Version::HTTP_11, "GET", "http://b/x?y=1", &[("host", "a")]), "/x?y=1 host: b");
    assert_eq!(check(Version::HTTP_11, "GET", "http://b", &[("host", "a")]), "/ host: b");
    assert_eq!(check(Version::HTTP_11, "GET", "http://u@b/", &[("host", "a")]), "bad_request");
}

#[test]
fn http2_has_one_authority() {
    let v2 = Version::HTTP_2;
    assert_eq!(check(v2, "GET", "http://a/x", &[]), "http://a/x ");
    assert_eq!(check(v2, "GET", "http://a/x", &[("host", "a")]), "http://a/x ");
    assert_eq!(check(v2, "GET", "http://a/x", &[("host", "b")]), "bad_request");
    assert_eq!(check(v2, "GET", "/x", &[("host", "b")]), "/x host: b");
    assert_eq!(check(v2, "GET", "/x", &[]), "bad_request");
}

#[test]
fn the_target_has_a_path() {
    let host = [("host", "a")];
    assert_eq!(check(Version::HTTP_11, "OPTIONS", "*", &host), "* host: a");
    assert_eq!(check(Version::HTTP_11, "GET", "*", &host), "bad_request");
    assert_eq!(check(Version::HTTP_11, "GET", "a:80", &host), "bad_request");
    assert_eq!(check(Version::HTTP_11, "CONNECT", "a:80", &host), "a:80 ");
    assert_eq!(check(Version::HTTP_11, "CONNECT", "a", &host), "bad_request");
}

#[test]
fn transfer_encoding_is_chunked_once_or_absent() {
    let te = |value| check(Version::HTTP_11, "POST", "/", &[("host", "a"), ("transfer-encoding", value)]);
    assert_eq!(te("chunked"), "/ host: a, transfer-encoding: chunked");
    assert_eq!(te("Chunked"), "/ host: a, transfer-encoding: chunked");
    for value in ["gzip, chunked", "chunked, chunked", "chunked,", "identity", "xchunked", ""] {
        assert_eq!(te(value), "bad_request", "{value}");
    }
    let both = [("host", "a"), ("content-length", "5"), ("transfer-encoding", "chunked")];
    assert_eq!(check(Version::HTTP_11, "POST", "/", &both), "/ host: a, transfer-encoding: chunked");
    let twice = [("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
    assert_eq!(check(Version::HTTP_11, "POST", "/", &twice), "bad_request");
    assert_eq!(check(Version::HTTP_10, "POST", "/", &both), "bad_request");
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let given = [
        ("host", "a"),
        ("connection", "close, X-Secret, content-length, Host"),
        ("connection", "keep-alive"),
        ("x-secret", "1"),
        ("content-length", "0"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("te", "gzip, trailers"),
        ("x-kept", "1"),
    ];
    assert_eq!(
        check(Version::HTTP_11, "POST", "/", &given),
        "/ content-length: 0, host: a, te: trailers, x-kept: 1"
    );
}

#[test]
fn only_a_switch_that_is_understood_is_passed_on() {
    for (connection, upgrade, expected) in [
        ("Upgrade", "websocket", Checked::Upgrade(HeaderValue::from_static("websocket"))),
        ("keep-alive, upgrade", "WebSocket", Checked::Upgrade(HeaderValue::from_static("WebSocket"))),
        ("keep-alive", "websocket", Checked::Plain),
        ("upgrade", "h2c", Checked::Plain),
        ("upgrade, http2-settings", "H2C", Checked::Plain),
        ("upgrade", "websocket, h2c", Checked::Plain),
    ] {
        let headers =
            [("host", "a"), ("connection", connection), ("upgrade", upgrade), ("http2-settings", "AA")];
        let mut parts = parts(Version::HTTP_11, "GET", "/", &headers);
        assert_eq!(checked(&mut parts), Ok(expected), "{connection} {upgrade}");
        assert!(!parts.headers.contains_key("upgrade") && !parts.headers.contains_key("connection"));
        assert!(!parts.headers.contains_key("http2-settings") || !connection.contains("http2"));
    }
}

#[test]
fn too_many_fields_are_refused() {
    let mut parts = parts(Version::HTTP_2, "GET", "http://a/", &[]);
    for i in 0..=MAX_FIELDS {
        parts.headers.insert(HeaderName::try_from(format!("x-{i}")).unwrap(), HeaderValue::from_static("1"));
    }
    assert_eq!(checked(&mut parts), Err(Reason::HeadersTooLarge));
}

#[test]
fn impossible_answers_become_502() {
    let websocket = Checked::Upgrade(HeaderValue::from_static("websocket"));
    let answer = |status: u16, upgrade: &'static str, asked: &Checked| {
        let mut response = Response::builder().status(status).header("upgrade", upgrade).body(()).unwrap();
        check_response(&mut response, asked).map(|_| shown(response.headers()))
    };
    assert_eq!(answer(200, "h2c", &Checked::Plain), Ok(String::new()));
    assert_eq!(answer(101, "websocket", &Checked::Plain), Err(Reason::UpstreamProtocol));
    assert_eq!(answer(101, "h2c", &websocket), Err(Reason::UpstreamProtocol));
    assert_eq!(
        answer(101, "websocket", &websocket),
        Ok("connection: upgrade, upgrade: websocket".to_owned())
    );
    assert_eq!(answer(600, "", &Checked::Plain), Err(Reason::UpstreamProtocol));
    assert_eq!(answer(103, "", &Checked::Plain), Err(Reason::UpstreamProtocol));
}

#[test]
fn a_body_has_one_end() {
    let answer = |headers: &[(&'static str, &'static str)]| {
        let mut builder = Response::builder();
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        check_response(&mut builder.body(()).unwrap(), &Checked::Plain).map(|_| ())
    };
    let (chunked, length) = (("transfer-encoding", "chunked"), ("content-length", "5"));
    assert_eq!(answer(&[chunked]), Ok(()));
    assert_eq!(answer(&[length]), Ok(()));
    assert_eq!(answer(&[chunked, length]), Err(Reason::UpstreamProtocol));
    assert_eq!(answer(&[chunked, chunked]), Err(Reason::UpstreamProtocol));
    assert_eq!(answer(&[("transfer-encoding", "gzip, chunked")]), Err(Reason::UpstreamProtocol));
    assert_eq!(check(Version::HTTP_11, "CONNECT", "a:80", &[length]), "bad_request");
    assert_eq!(check(Version::HTTP_11, "CONNECT", "a:80", &[chunked]), "bad_request");
}

#[test]
fn a_large_head_of_http2_is_refused() {
    let value = "a".repeat(MAX_HEAD_BYTES);
    assert_eq!(check(Version::HTTP_2, "GET", "http://a/", &[("x", &value)]), "headers_too_large");
}

#[test]
fn an_authority_is_where_the_upstream_version_looks_for_it() {
    let mut by_host = parts(Version::HTTP_2, "GET", "/x", &[("host", "a")]);
    fit_version(&mut by_host, HttpVersion::Http2, "fallback", BodyLength::Exact(0));
    assert_eq!(format!("{} {}", by_host.uri, shown(&by_host.headers)), "http://a/x ");
    let mut connect = parts(Version::HTTP_11, "CONNECT", "a:80", &[]);
    fit_version(&mut connect, HttpVersion::Http1, "fallback", BodyLength::Exact(0));
    assert_eq!(format!("{} {}", connect.uri, shown(&connect.headers)), "a:80 host: a:80");
}

#[test]
fn a_request_is_rewritten_for_the_version_upstream() {
    let mut to_1 = parts(Version::HTTP_2, "POST", "http://a:1/x?y", &[("cookie", "a=1"), ("cookie", "b=2")]);
    fit_version(&mut to_1, HttpVersion::Http1, "fallback", BodyLength::Unknown);
    assert_eq!(format!("{:?} {}", to_1.version, to_1.uri), "HTTP/1.1 /x?y");
    assert_eq!(shown(&to_1.headers), "cookie: a=1; b=2, host: a:1, transfer-encoding: chunked");

    let mut to_2 =
        parts(Version::HTTP_11, "POST", "/x?y", &[("host", "a:1"), ("transfer-encoding", "chunked")]);
    fit_version(&mut to_2, HttpVersion::Http2, "fallback", BodyLength::Unknown);
    assert_eq!(
        format!("{:?} {} {}", to_2.version, to_2.uri, shown(&to_2.headers)),
        "HTTP/2.0 http://a:1/x?y "
    );

    let mut old = parts(Version::HTTP_10, "GET", "/", &[]);
    fit_version(&mut old, HttpVersion::Http1, "fallback", BodyLength::Exact(0));
    assert_eq!(shown(&old.headers), "host: fallback");
}
