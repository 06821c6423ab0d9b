//! Filters of routes through real sidecars: what the client is told, and what applications get to see.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Version};
use hyper::body::Frame;
use outrigger_tests::client::{Answer, Client, empty, fed, full};
use outrigger_tests::eventually;
use outrigger_tests::origin::{Afterwards, Origin, ScriptedOrigin, SeenBody};
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{PATIENCE, Sidecar, Town, http_route, metric, plain, service};
use tokio::net::TcpListener;

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
const TO_A: &str = "backendRefs: [{name: a, port: 9080}]";
/// No answer of a request waits so long, and every mirror that hangs does.
const SLOW: Duration = Duration::from_secs(5);

/// A sidecar that dials the Service `a`, whose rules a test writes, beside the Service `b`.
struct Shop {
    entrance: SocketAddr,
    web: Sidecar,
    town: Town,
}

impl Shop {
    async fn start(subnet: Subnet, [a, b]: [SocketAddr; 2], rules: &[String]) -> Self {
        let yaml = service("a", "http")
            + &plain("a-1", "a", a)
            + &service("b", "http")
            + &plain("b-1", "b", b)
            + &http_route("a", rules);
        let town = Town::start(subnet, &yaml).await.unwrap();
        let (web, entrance) = town.dialling(9, "a").await.unwrap();
        Self { entrance, web, town }
    }

    async fn send(&self, version: Version, request: http::request::Builder) -> Answer {
        let mut client = Client::connect(self.entrance, version).await.unwrap();
        client.send(request.body(empty()).unwrap()).await.unwrap()
    }

    async fn copies(&self, outcome: &str) -> f64 {
        let label = format!("outcome=\"{outcome}\"");
        metric(&self.web, "/metrics", "outrigger_mirrored_requests_total", &[&label]).await.unwrap()
    }

    /// Waits until so many copies have come to this end.
    async fn until_copies(&self, outcome: &str, number: f64) {
        let counted = eventually(PATIENCE, async || (self.copies(outcome).await >= number).then_some(()));
        assert!(counted.await.is_some(), "{} copies {outcome}", self.copies(outcome).await);
    }
}

/// Two origins that tell what they saw, in front of the shop.
async fn two_origins(rules: &[String]) -> (Shop, Origin, Origin) {
    let subnet = Subnet::claim();
    let a = Origin::start("a", subnet.address(1, 9080)).await.unwrap();
    let b = Origin::start("b", subnet.address(2, 9080)).await.unwrap();
    let addresses = [a.address(), b.address()];
    (Shop::start(subnet, addresses, rules).await, a, b)
}

fn rule(path: &str, rest: &str) -> String {
    format!("{{matches: [{{path: {{value: {path}}}}}], {rest}}}")
}

fn filters(filters: &str) -> String {
    format!("filters: [{filters}]")
}

#[tokio::test]
async fn a_redirect_says_where_to_go_whatever_host_the_client_named() {
    let redirect = |path, rest: &str| {
        rule(path, &filters(&format!("{{type: RequestRedirect, requestRedirect: {{{rest}}}}}")))
    };
    let (shop, origin, _b) = two_origins(&[
        redirect("/plain", ""),
        redirect("/tls", "scheme: https, statusCode: 301"),
        redirect("/tls-port", "scheme: https, port: 8443, statusCode: 303"),
        redirect("/host", "hostname: new.example, statusCode: 307"),
        redirect(
            "/full",
            "hostname: new.example, port: 80, path: {type: ReplaceFullPath, replaceFullPath: /x}",
        ),
        redirect("/old", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 308"),
        redirect("/cut", "path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}"),
    ])
    .await;
    for (path, expected) in [
        ("/plain/a?q=1", "302 http://lie.example:9080/plain/a?q=1"),
        ("/tls", "301 https://lie.example/tls"),
        ("/tls-port", "303 https://lie.example:8443/tls-port"),
        ("/host", "307 http://new.example:9080/host"),
        ("/full/a?q=1", "302 http://new.example/x?q=1"),
        ("/old", "308 http://lie.example:9080/new"),
        ("/old/a/", "308 http://lie.example:9080/new/a/"),
        ("/cut", "302 http://lie.example:9080/"),
        ("/cut/a", "302 http://lie.example:9080/a"),
    ] {
        let http1 = Request::get(path).header("host", "lie.example:1234");
        let http2 = Request::get(format!("http://lie.example:1234{path}"));
        for (version, request) in VERSIONS.into_iter().zip([http1, http2]) {
            let answer = shop.send(version, request).await;
            let shown = format!("{} {}", answer.status.as_u16(), answer.header("location"));
            assert_eq!(shown, expected, "{path} {version:?}");
        }
    }
    assert_eq!(origin.arrived(), 0, "nothing that is redirected is sent on");
}

#[tokio::test]
async fn an_application_sees_the_host_and_path_that_were_written_for_it() {
    let rewrite = |rest: &str| filters(&format!("{{type: URLRewrite, urlRewrite: {{{rest}}}}}"));
    let of_backend = rewrite("path: {type: ReplacePrefixMatch, replacePrefixMatch: /mine}");
    let (shop, a, _b) = two_origins(&[
        rule("/host", &format!("{}, {TO_A}", rewrite("hostname: new.example"))),
        rule("/full", &format!("{}, {TO_A}", rewrite("path: {type: ReplaceFullPath, replaceFullPath: /x}"))),
        rule(
            "/old",
            &format!("{}, {TO_A}", rewrite("path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}")),
        ),
        rule(
            "/cut",
            &format!("{}, {TO_A}", rewrite("path: {type: ReplacePrefixMatch, replacePrefixMatch: /}")),
        ),
        rule(
            "/own",
            &format!(
                "{}, backendRefs: [{{name: a, port: 9080, {of_backend}}}]",
                rewrite("hostname: r.example")
            ),
        ),
    ])
    .await;
    let mut expected = Vec::new();
    for (path, target, host) in [
        ("/host/a?q=1", "/host/a?q=1", "new.example"),
        ("/full/a?q=1", "/x?q=1", "own.example"),
        ("/old", "/new", "own.example"),
        ("/old/a?q=%20", "/new/a?q=%20", "own.example"),
        ("/cut", "/", "own.example"),
        ("/cut/", "/", "own.example"),
        ("/cut/a//b", "/a//b", "own.example"),
        ("/own/a", "/mine/a", "r.example"),
    ] {
        let http1 = Request::get(path).header("host", "own.example");
        let http2 = Request::get(format!("http://own.example{path}"));
        for (version, request) in VERSIONS.into_iter().zip([http1, http2]) {
            assert_eq!(shop.send(version, request).await.origin(), "a", "{path} {version:?}");
            expected.push(format!("{target} {host} {version:?}"));
        }
    }
    let shown = a.seen().into_iter().map(|seen| {
        let host = seen.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
        let host = host.or_else(|| Some(seen.uri.authority()?.to_string())).unwrap_or_default();
        format!("{} {host} {:?}", seen.uri.path_and_query().unwrap(), seen.version)
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

fn mirror(name: &str, rest: &str) -> String {
    format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 9080}}{rest}}}}}")
}

#[tokio::test]
async fn a_mirror_gets_the_whole_request_as_it_was_changed() {
    let modified = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: '1'}]}}";
    let rewritten =
        "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}";
    let all = filters(&format!("{}, {modified}, {rewritten}", mirror("b", "")));
    let (shop, a, b) = two_origins(&[rule("/old", &format!("{all}, {TO_A}"))]).await;
    for version in VERSIONS {
        let mut client = Client::connect(shop.entrance, version).await.unwrap();
        let (feed, body) = fed();
        let sending = client.send(Request::post("/old/x?q=1").body(body).unwrap());
        let (answer, ()) = tokio::join!(sending, async {
            for part in ["one ", "two"] {
                feed.send(Ok(Frame::data(part.into()))).await.unwrap();
            }
            drop(feed);
        });
        assert_eq!(answer.unwrap().origin(), "a");
        let known = client.send(Request::post("/old/y").body(full("known")).unwrap()).await.unwrap();
        assert_eq!(known.origin(), "a");
        assert_eq!(client.get("/old/z").await.unwrap().origin(), "a");
    }
    shop.until_copies("answered", 6.0).await;
    let shown = |origin: &Origin| {
        let mut lines: Vec<_> = origin
            .seen()
            .into_iter()
            .map(|seen| {
                let SeenBody::Complete(body) = &seen.body else { panic!("{seen:?}") };
                let path = seen.uri.path_and_query().unwrap();
                format!("{} {path} {:?} {:?} {body:?}", seen.method, seen.version, seen.headers.get("x-a"))
            })
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(shown(&b), shown(&a));
    assert!(shown(&b)[0].starts_with("GET /new/z"), "{:?}", shown(&b));
    assert!(shown(&b).iter().any(|line| line.contains("/new/x?q=1") && line.contains("one two")));
}

#[tokio::test]
async fn a_request_never_waits_for_a_mirror_nor_fails_with_it() {
    let subnet = Subnet::claim();
    let a = Origin::start("a", subnet.address(1, 9080)).await.unwrap();
    // It accepts, in the listen queue, and says nothing, ever.
    let hanging = TcpListener::bind(subnet.address(2, 9080)).await.unwrap();
    let mirrors = filters(&[mirror("b", ""), mirror("nobody", ""), mirror("gone", "")].join(", "));
    let rules = [format!("{{{mirrors}, {TO_A}}}")];
    let addresses = [a.address(), hanging.local_addr().unwrap()];
    let refusing = service("nobody", "http") + &plain("nobody-1", "nobody", subnet.address(3, 9080));
    let shop = Shop::start(subnet, addresses, &rules).await;
    let yaml = service("a", "http")
        + &plain("a-1", "a", addresses[0])
        + &service("b", "http")
        + &plain("b-1", "b", addresses[1])
        + &refusing
        + &http_route("a", &rules);
    shop.town.rewrite(&yaml).unwrap();
    let mut client = Client::connect(shop.entrance, Version::HTTP_11).await.unwrap();
    // Once the second mirror is there, its copies fail one after the other.
    let begun = Instant::now();
    let refused = eventually(PATIENCE, async || {
        assert_eq!(client.get("/").await.unwrap().origin(), "a");
        (shop.copies("failed").await >= 3.0).then_some(())
    });
    assert!(refused.await.is_some(), "no copy is refused");
    let before = Instant::now();
    for _ in 0..20 {
        let sent = client.send(Request::post("/").body(full("x".repeat(1000))).unwrap()).await.unwrap();
        assert_eq!((sent.status.as_u16(), sent.json()["body_bytes"].as_u64()), (200, Some(1000)));
    }
    assert!(before.elapsed() < SLOW, "{:?} after {:?}", before.elapsed(), begun.elapsed());
    let status = shop.town.status().await.unwrap().to_string();
    assert!(status.contains("spec.rules[0].filters[2].requestMirror.backendRef"), "{status}");
    drop(hanging);
}

#[tokio::test]
async fn a_mirror_that_reads_too_slowly_loses_its_copy() {
    let subnet = Subnet::claim();
    let a = Origin::start("a", subnet.address(1, 9080)).await.unwrap();
    let hanging = TcpListener::bind(subnet.address(2, 9080)).await.unwrap();
    let rules = [format!("{{{}, {TO_A}}}", filters(&mirror("b", "")))];
    let shop = Shop::start(subnet, [a.address(), hanging.local_addr().unwrap()], &rules).await;
    let mut client = Client::connect(shop.entrance, Version::HTTP_11).await.unwrap();
    let (feed, body) = fed();
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    // More than the buffers of the sockets on the way to the mirror; the origin gives back all of it.
    let pieces = 512;
    let opening = client.open(Request::post("/echo").body(body).unwrap());
    let (answer, ()) = tokio::join!(
        async { outrigger_tests::client::collect(opening.await.unwrap()).await.unwrap() },
        async {
            for _ in 0..pieces {
                feed.send(Ok(Frame::data(piece.clone()))).await.unwrap();
            }
            drop(feed);
        }
    );
    assert_eq!(answer.body.len(), pieces * piece.len());
    shop.until_copies("lost", 1.0).await;
}

#[tokio::test]
async fn a_share_of_the_requests_is_copied() {
    let third = mirror("b", ", fraction: {numerator: 1, denominator: 3}");
    let none = mirror("b", ", percent: 0");
    let (shop, a, b) = two_origins(&[
        rule("/third", &format!("{}, {TO_A}", filters(&third))),
        rule("/none", &format!("{}, {TO_A}", filters(&none))),
    ])
    .await;
    let mut client = Client::connect(shop.entrance, Version::HTTP_11).await.unwrap();
    for _ in 0..450 {
        client.get("/third").await.unwrap();
    }
    for _ in 0..50 {
        client.get("/none").await.unwrap();
    }
    let copies = b.arrived() as f64;
    shop.until_copies("answered", copies).await;
    assert_eq!(a.arrived(), 500);
    // 150 of 450; six standard deviations to each side.
    assert!((90..=210).contains(&b.arrived()), "{}", b.arrived());
    assert!(b.seen().iter().all(|seen| seen.uri.path() == "/third"));
}

#[tokio::test]
async fn browsers_get_leave_from_the_route_and_not_from_the_application() {
    let subnet = Subnet::claim();
    let said = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\naccess-control-max-age: 9999\r\n\
                vary: accept\r\ncontent-length: 2\r\n\r\nok";
    let a = ScriptedOrigin::start(subnet.address(1, 9080), said.as_bytes(), Afterwards::Close).await.unwrap();
    let b = Origin::start("b", subnet.address(2, 9080)).await.unwrap();
    let policy = |more: &str| {
        format!(
            "{{type: CORS, cors: {{allowOrigins: ['https://*.example'], allowMethods: [PUT], maxAge: 60{more}}}}}"
        )
    };
    let redirect = "{type: RequestRedirect, requestRedirect: {hostname: new.example}}";
    let rules = [
        rule("/r", &filters(&format!("{}, {redirect}", policy("")))),
        rule("/b", &format!("backendRefs: [{{name: b, port: 9080, {}}}]", filters(&policy("")))),
        rule("/", &format!("{}, {TO_A}", filters(&policy(", exposeHeaders: [x-b], allowCredentials: true")))),
    ];
    let shop = Shop::start(subnet, [a.address(), b.address()], &rules).await;
    let preflight = |path: &str, origin: &str| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri(path)
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
    };
    for version in VERSIONS {
        for path in ["/", "/r", "/b"] {
            let allowed = shop.send(version, preflight(path, "https://a.example")).await;
            assert_eq!(allowed.status, 200, "{path}");
            assert_eq!(allowed.header("access-control-allow-origin"), "https://a.example", "{path}");
            assert_eq!(allowed.header("access-control-allow-methods"), "PUT", "{path}");
            assert_eq!(allowed.header("access-control-max-age"), "60", "{path}");
            let denied = shop.send(version, preflight(path, "https://evil.test")).await;
            assert_eq!(
                (denied.status.as_u16(), denied.header("access-control-allow-origin")),
                (200, ""),
                "{path}"
            );
        }
    }
    assert!(a.heard().is_empty() && b.arrived() == 0, "a preflight is not sent on");
    let get = |path: &str| Request::get(path).header("origin", "https://a.example");
    let actual = shop.send(Version::HTTP_11, get("/")).await;
    assert_eq!(actual.body, "ok");
    let vary: Vec<_> = actual.headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
    let shown = ["allow-origin", "allow-credentials", "expose-headers", "max-age"]
        .map(|name| actual.header(&format!("access-control-{name}")).to_owned());
    assert_eq!(
        (shown, vary),
        (["https://a.example", "true", "x-b", ""].map(str::to_owned), vec!["accept", "Origin"])
    );
    let other = shop.send(Version::HTTP_11, Request::get("/").header("origin", "https://evil.test")).await;
    assert_eq!((other.status.as_u16(), other.header("access-control-allow-origin")), (200, ""));
    let sent = shop.send(Version::HTTP_11, get("/r")).await;
    assert_eq!(
        (sent.status.as_u16(), sent.header("access-control-allow-origin")),
        (302, "https://a.example")
    );
}
