//! What is written in YAML happens to traffic, at once, and what is written wrongly does no harm to the rest.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode, Version};
use outrigger_tests::client::{self, Answer, Client, empty};
use outrigger_tests::eventually;
use outrigger_tests::origin::{Failure, Origin};
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{
    PATIENCE, PORT, Sidecar, Town, ask, backend_policy, http_route, inbound, logged, mesh_config, meshed,
    metric, outbound, plain, service,
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A change is in force within this (contracts; issue 2 measures it in the demo).
const IN_FORCE: Duration = Duration::from_secs(1);
/// Three versions of one application, each a Service of its own.
const NAMES: [&str; 3] = ["a", "b", "c"];
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// `web` dials the Service `a`; what a test writes sends its requests elsewhere.
struct Fork {
    entrance: SocketAddr,
    web: Sidecar,
    origins: Vec<Origin>,
    town: Town,
}

impl Fork {
    /// With more YAML, after that of the three Services.
    async fn start(more: &str) -> Self {
        let mut origins = Vec::new();
        for name in NAMES {
            origins.push(Origin::start(name, ANY).await.unwrap());
        }
        let town = Town::start(Subnet::claim(), &(services(&origins) + more)).await.unwrap();
        let (web, entrance) = town.dialling(1, "a").await.unwrap();
        Self { entrance, web, origins, town }
    }

    fn rewrite(&self, more: &str) {
        self.town.rewrite(&(services(&self.origins) + more)).unwrap();
    }

    /// Which version answers a request like this.
    async fn answers(&self, request: http::request::Builder) -> String {
        self.send(request).await.origin()
    }

    async fn send(&self, request: http::request::Builder) -> Answer {
        let mut client = Client::connect(self.entrance, Version::HTTP_11).await.unwrap();
        client.send(request.body(empty()).unwrap()).await.unwrap()
    }

    /// How long it takes until this version answers.
    async fn time_until(&self, name: &str) -> Duration {
        let began = Instant::now();
        let mut client = Client::connect(self.entrance, Version::HTTP_11).await.unwrap();
        let answered = eventually(PATIENCE, async || {
            let answer = client.get("/").await.ok()?;
            (answer.origin() == name).then_some(())
        });
        assert!(answered.await.is_some(), "{name} never answers: {}", self.town.control_plane.stderr());
        began.elapsed()
    }

    /// The endpoints of a Service as the sidecar sees them, by address.
    async fn endpoints(&self, service: &str) -> BTreeMap<String, Value> {
        let clusters = ask(&self.web, "/admin", "/clusters").await.unwrap();
        let name = format!("outbound|{PORT}|{service}.shop.");
        let clusters = clusters.as_array().unwrap();
        let cluster = clusters.iter().find(|cluster| cluster["name"].as_str().unwrap().starts_with(&name));
        let endpoints =
            cluster.map(|cluster| cluster["endpoints"].as_array().unwrap().clone()).unwrap_or_default();
        endpoints
            .into_iter()
            .map(|endpoint| (endpoint["address"].as_str().unwrap().to_owned(), endpoint))
            .collect()
    }
}

/// The Services `a`, `b` and `c`, with an instance each.
fn services(origins: &[Origin]) -> String {
    let each = NAMES.iter().zip(origins);
    each.map(|(name, origin)| service(name, "http") + &plain(&format!("{name}-1"), name, origin.address()))
        .collect()
}

fn to(name: &str) -> String {
    format!("backendRefs: [{{name: {name}, port: {PORT}}}]")
}

/// A rule: a match in YAML flow style, and where it goes.
fn rule(matches: &str, name: &str) -> String {
    format!("{{matches: [{{{matches}}}], {}}}", to(name))
}

fn shares(b: u32, c: u32) -> String {
    let backends =
        format!("[{{name: b, port: {PORT}, weight: {b}}}, {{name: c, port: {PORT}, weight: {c}}}]");
    http_route("a", &[format!("{{backendRefs: {backends}}}")])
}

#[tokio::test]
async fn requests_go_where_the_best_match_sends_them() {
    let fork = Fork::start(&http_route(
        "a",
        &[
            rule("path: {type: PathPrefix, value: /}", "a"),
            rule("path: {type: Exact, value: /exact}", "b"),
            rule("path: {type: PathPrefix, value: /prefix}", "b"),
            rule("path: {type: PathPrefix, value: /prefix/longer}", "c"),
            rule("path: {type: RegularExpression, value: '/r/[0-9]+'}", "c"),
            rule("method: DELETE", "b"),
            rule("headers: [{name: X-User, value: beta}]", "c"),
            rule("headers: [{name: x-user, type: RegularExpression, value: 'gamma-[a-z]+'}]", "b"),
            rule("queryParams: [{name: version, value: b}]", "b"),
            rule("path: {type: PathPrefix, value: /both}, headers: [{name: x-user, value: beta}]", "b"),
        ],
    ))
    .await;
    for (method, target, user, expected) in [
        (Method::GET, "/", "", "a"),
        (Method::GET, "/exact", "", "b"),
        (Method::GET, "/exact?x=y", "", "b"),
        (Method::GET, "/exact/not", "", "a"),
        (Method::GET, "/prefix", "", "b"),
        (Method::GET, "/prefix/", "", "b"),
        (Method::GET, "/prefix/more", "", "b"),
        (Method::GET, "/prefixes", "", "a"),
        (Method::GET, "/prefix/longer/x", "", "c"),
        (Method::GET, "/r/42", "", "c"),
        (Method::GET, "/r/42x", "", "a"),
        (Method::DELETE, "/any", "", "b"),
        (Method::GET, "/any", "beta", "c"),
        (Method::GET, "/any", "beta2", "a"),
        (Method::GET, "/any", "gamma-ray", "b"),
        (Method::GET, "/any?version=b", "", "b"),
        (Method::GET, "/any?version=bb", "", "a"),
        (Method::GET, "/both", "beta", "b"),
    ] {
        let mut request = Request::builder().method(&method).uri(target);
        if !user.is_empty() {
            request = request.header("x-user", user);
        }
        assert_eq!(fork.answers(request).await, expected, "{method} {target} of {user:?}");
    }
}

#[tokio::test]
async fn weights_are_shares_and_a_change_is_in_force_at_once() {
    let fork = Fork::start(&shares(80, 20)).await;
    let mut client = Client::connect(fork.entrance, Version::HTTP_11).await.unwrap();
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..500 {
        *counts.entry(client.get("/").await.unwrap().origin()).or_default() += 1;
    }
    // 20 % of 500; six standard deviations to each side.
    let share = counts.get("c").copied().unwrap_or_default();
    assert!((47..=153).contains(&share) && counts.len() == 2, "{counts:?}");

    fork.rewrite("");
    fork.time_until("a").await;
    let mut times = Vec::new();
    for (b, c, expected) in [(0, 100, "c"), (100, 0, "b"), (0, 100, "c"), (100, 0, "b"), (0, 1, "c")] {
        fork.rewrite(&shares(b, c));
        times.push(fork.time_until(expected).await);
        for _ in 0..20 {
            assert_eq!(client.get("/").await.unwrap().origin(), expected, "a weight of 0 gets nothing");
        }
    }
    times.sort();
    assert!(times[2] < IN_FORCE, "changes took {times:?}");
}

#[tokio::test]
async fn header_filters_change_requests_and_answers() {
    let filters = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: new}], \
                   add: [{name: x-add, value: two}], remove: [x-secret]}}, \
                   {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-via, value: mesh}], \
                   remove: [content-type]}}]";
    let fork = Fork::start(&http_route("a", &[format!("{{{filters}, {}}}", to("a"))])).await;
    let request = Request::get("/").header("x-set", "old").header("x-add", "one").header("x-secret", "s");
    let answer = fork.send(request).await;
    let seen = &fork.origins[0].seen()[0].headers;
    let values = |name: &str| {
        seen.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(",")
    };
    assert_eq!(
        (values("x-set"), values("x-add"), values("x-secret")),
        ("new".into(), "one,two".into(), String::new())
    );
    assert_eq!((answer.header("x-via"), answer.header("content-type")), ("mesh", ""));
}

#[tokio::test]
async fn a_timeout_ends_the_requests_of_its_rule_only() {
    let short = "{path: {value: /short}}, {path: {value: /stream}}";
    let short = format!("{{matches: [{short}], timeouts: {{request: 200ms}}, {}}}", to("a"));
    let fork = Fork::start(&http_route("a", &[short, format!("{{{}}}", to("a"))])).await;
    fork.origins[0].delay(Duration::from_millis(600));
    let began = Instant::now();
    let answer = fork.send(Request::get("/short")).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (504, "timeout"));
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert_eq!(fork.send(Request::get("/long")).await.status, StatusCode::OK);
    // The time is that of the whole answer: a body that takes longer is cut.
    fork.origins[0].delay(Duration::ZERO);
    let mut client = Client::connect(fork.entrance, Version::HTTP_11).await.unwrap();
    let cut = client.get("/stream?chunks=200&bytes=10&pause_ms=20").await;
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(logged(&fork.web, "/stream").await.unwrap()["reason"], "timeout");
}

#[tokio::test]
async fn grpc_calls_go_by_service_and_method() {
    let route = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: a, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: a}}]\n  rules:\n\
         \x20 - {{matches: [{{method: {{service: shop.Reviews, method: Get}}}}], {}}}\n\
         \x20 - {{matches: [{{method: {{service: shop.Reviews}}}}], {}}}\n\
         \x20 - {{matches: [{{headers: [{{name: x-user, value: beta}}]}}], {}}}\n",
        to("b"),
        to("c"),
        to("a"),
    );
    let fork = Fork::start(&route).await;
    let mut client = Client::connect(fork.entrance, Version::HTTP_2).await.unwrap();
    for (path, user, expected) in [
        ("/shop.Reviews/Get", "", Some(1)),
        ("/shop.Reviews/List", "", Some(2)),
        ("/shop.Other/Get", "beta", Some(0)),
        ("/shop.Other/Get", "", None),
    ] {
        let before: Vec<u64> = fork.origins.iter().map(Origin::arrived).collect();
        let request = Request::post(path).header("content-type", "application/grpc").header("x-user", user);
        let answer = client.send(request.body(empty()).unwrap()).await.unwrap();
        let moved = (0..3).find(|at| fork.origins[*at].arrived() > before[*at]);
        assert_eq!(moved, expected, "{path} of {user:?}");
        let status =
            if expected.is_some() { answer.trailer("grpc-status") } else { answer.header("grpc-status") };
        assert_eq!(status, if expected.is_some() { "0" } else { "12" }, "{path}");
    }
}

#[tokio::test]
async fn a_broken_file_keeps_what_it_said_before_and_is_told_by_line() {
    let fork = Fork::start(&http_route("a", &[format!("{{{}}}", to("b"))])).await;
    assert_eq!(fork.answers(Request::get("/")).await, "b");
    let good = services(&fork.origins);
    let broken_at = good.lines().count() + 3;
    fork.town.rewrite(&format!("{good}---\nkind: HTTPRoute\nspec: [never, closed\n")).unwrap();
    let told = eventually(PATIENCE, async || {
        let status = fork.town.status().await.ok()?;
        let problems = status["status"]["problems"].as_array()?.clone();
        problems.into_iter().find(|problem| problem["is_error"] == true)
    });
    let problem = told.await.expect("status tells of a file that cannot be read");
    let location = problem["location"].as_str().unwrap();
    let line: usize = location.rsplit(':').nth(1).and_then(|line| line.parse().ok()).unwrap_or_default();
    assert!(
        location.contains("town.yaml:") && (broken_at..=broken_at + 2).contains(&line),
        "{broken_at}: {problem}"
    );
    assert_eq!(fork.answers(Request::get("/")).await, "b", "the last good route stays in force");

    fork.rewrite(&http_route("a", &[format!("{{{}}}", to("c"))]));
    fork.time_until("c").await;
    let well = eventually(PATIENCE, async || {
        let status = fork.town.status().await.ok()?;
        status["status"]["problems"].as_array()?.is_empty().then_some(())
    });
    assert!(well.await.is_some(), "the problem is still told: {}", fork.town.status().await.unwrap());
}

#[tokio::test]
async fn a_rule_with_an_unknown_field_is_dropped_and_the_others_go_on() {
    let misspelt = format!("{{matches: [{{path: {{value: /x}}}}], timeout: 1s, {}}}", to("c"));
    let fork = Fork::start(&http_route("a", &[misspelt, rule("path: {value: /y}", "b")])).await;
    assert_eq!(fork.answers(Request::get("/y")).await, "b");
    let dropped = fork.send(Request::get("/x")).await;
    assert_eq!((dropped.status.as_u16(), dropped.reason()), (404, "no_route"));
    let status = fork.town.status().await.unwrap();
    let objects = status["status"]["objects"].as_array().unwrap();
    let route = objects.iter().find(|object| object["object"]["kind"] == "HTTPRoute").unwrap();
    let conditions = route["conditions"].as_array().unwrap();
    let invalid = conditions.iter().find(|condition| condition["type"] == "PartiallyInvalid").unwrap();
    assert_eq!(invalid["status"], true, "{route}");
    let message = invalid["message"].as_str().unwrap();
    assert!(message.contains("spec.rules[0]") && message.contains("timeout"), "{message}");
}

#[tokio::test]
async fn strict_and_permissive_take_effect_while_traffic_runs() {
    let origin = Origin::start("files", ANY).await.unwrap();
    let subnet = Subnet::claim();
    let address = subnet.address(2, PORT);
    let town = Town::start(subnet, &(service("files", "http") + &meshed("files-1", "files", address)))
        .await
        .unwrap();
    let _files = town.sidecar("files", &[inbound(address, origin.address())]).await.unwrap();
    let (_web, entrance) = town.dialling(1, "files").await.unwrap();
    let mut insider = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    for (mtls, expected) in [("Strict", 401), ("Permissive", 200), ("Strict", 401)] {
        town.mesh.write("mesh.yaml", &mesh_config(mtls)).unwrap();
        let changed = eventually(PATIENCE, async || {
            assert_eq!(insider.get("/").await.unwrap().status, 200, "mutual TLS is always let in");
            let outsider = client::get(address, "/").await.ok()?;
            (outsider.status.as_u16() == expected).then_some(())
        });
        assert!(changed.await.is_some(), "{mtls} does not take effect");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_taken_out_and_comes_back() {
    let policy = backend_policy(
        "a",
        "loadBalancer: {algorithm: RoundRobin}, outlierDetection: {consecutiveErrors: 3}",
    );
    let mut origins = Vec::new();
    for name in NAMES {
        origins.push(Origin::start(name, ANY).await.unwrap());
    }
    let instances = |of: &[Origin]| -> String {
        of.iter()
            .zip(NAMES)
            .map(|(origin, name)| plain(&format!("a-{name}"), "a", origin.address()))
            .collect()
    };
    let yaml = service("a", "http") + &instances(&origins) + &policy;
    let town = Town::start(Subnet::claim(), &yaml).await.unwrap();
    let (web, entrance) = town.dialling(1, "a").await.unwrap();
    let fork = Fork { entrance, web, origins, town };
    let bad = fork.origins[1].address().to_string();

    fork.origins[1].fail_next(u32::MAX, Failure::Status(StatusCode::INTERNAL_SERVER_ERROR));
    let ejected = eventually(PATIENCE, async || {
        fork.send(Request::get("/")).await;
        Some(fork.endpoints("a").await).filter(|endpoints| endpoints[&bad]["state"] == "ejected")
    });
    let before = ejected.await.expect("an endpoint that always fails is ejected");
    assert!(
        before.iter().all(|(address, endpoint)| *address == bad || endpoint["state"] == "healthy"),
        "{before:?}"
    );
    assert_eq!(metric(&fork.web, "/metrics", "outrigger_upstream_ejections_total", &[]).await.unwrap(), 1.0);

    // What has nothing to do with it changes nothing: neither counts nor the ejection.
    fork.town.rewrite(&(yaml.clone() + &service("other", "http"))).unwrap();
    fork.town.mesh.write("mesh.yaml", &mesh_config("Permissive")).unwrap();
    let in_force = eventually(PATIENCE, async || {
        let dump = ask(&fork.web, "/admin", "/config_dump").await.ok()?;
        (dump["inbound"]["mtls"] == "Permissive").then_some(())
    });
    assert!(in_force.await.is_some(), "the change never arrives");
    let after = fork.endpoints("a").await;
    for (address, endpoint) in &before {
        assert_eq!(after[address]["requests_total"], endpoint["requests_total"], "{after:?}");
        assert_eq!(after[address]["requests_failed"], endpoint["requests_failed"], "{after:?}");
    }

    fork.origins[1].fail_next(0, Failure::Reset);
    let back = eventually(PATIENCE, async || {
        assert_eq!(
            fork.send(Request::get("/")).await.status,
            200,
            "one probe at a time, and it succeeds now"
        );
        (fork.endpoints("a").await[&bad]["state"] == "healthy").then_some(())
    });
    assert!(back.await.is_some(), "it never comes back: {:?}", fork.endpoints("a").await);
}

#[tokio::test]
async fn a_limit_that_is_raised_lets_the_next_request_in() {
    let limit = |requests: u32| backend_policy("a", &format!("circuitBreaker: {{maxRequests: {requests}}}"));
    let fork = Fork::start(&limit(1)).await;
    fork.origins[0].delay(Duration::from_secs(300));
    let entrance = fork.entrance;
    let first = tokio::spawn(async move { client::get(entrance, "/held").await });
    let held = eventually(PATIENCE, async || (fork.origins[0].arrived() == 1).then_some(())).await;
    assert!(held.is_some());
    fork.origins[0].delay(Duration::ZERO);
    let full = fork.send(Request::get("/")).await;
    assert_eq!((full.status.as_u16(), full.reason()), (503, "overflow"));
    fork.rewrite(&limit(2));
    fork.time_until("a").await;
    first.abort();
}

#[tokio::test]
async fn an_instance_that_dies_costs_no_request() {
    let mut origins = vec![Origin::start("a", ANY).await.unwrap(), Origin::start("b", ANY).await.unwrap()];
    let instances: String = ["a-1", "a-2"]
        .iter()
        .zip(&origins)
        .map(|(name, origin)| plain(name, "a", origin.address()))
        .collect();
    // In turn: peak EWMA might never come back to the instance that dies, when it was the slower one.
    let in_turn = backend_policy("a", "loadBalancer: {algorithm: RoundRobin}");
    let town = Town::start(Subnet::claim(), &(service("a", "http") + &instances + &in_turn)).await.unwrap();
    let (web, entrance) = town.dialling(1, "a").await.unwrap();
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    let mut names = BTreeMap::<String, u32>::new();
    for number in 0..300 {
        if number == 100 {
            let dead = origins.remove(0);
            let address = dead.address();
            drop(dead);
            let gone = eventually(PATIENCE, async || TcpStream::connect(address).await.err());
            assert!(gone.await.is_some(), "the instance lives on");
        }
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.status, 200, "request {number}: {}", answer.reason());
        *names.entry(answer.origin()).or_default() += 1;
    }
    assert!(names["a"] > 0 && names["b"] > 200, "{names:?}");
    let retries =
        metric(&web, "/metrics", "outrigger_upstream_retries_total", &["outcome=\"allowed\""]).await.unwrap();
    assert!(retries > 0.0, "{retries}");
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let route =
        http_route("a", &[format!("{{retry: {{codes: [503], attempts: 5, backoff: 1ms}}, {}}}", to("a"))]);
    let policy = backend_policy(
        "a",
        "retryBudget: {percent: 20, minRetriesPerSecond: 0, interval: 60s}, outlierDetection: {enabled: false}",
    );
    let fork = Fork::start(&(route + &policy)).await;
    fork.origins[0].fail_next(u32::MAX, Failure::Status(StatusCode::SERVICE_UNAVAILABLE));
    for _ in 0..100 {
        let answer = fork.send(Request::get("/")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (503, ""),
            "the application's own answer in the end"
        );
    }
    let arrived = fork.origins[0].arrived();
    assert!((115..=120).contains(&arrived), "100 requests and at most 20 retries, not {arrived}");

    fork.origins[0].fail_next(0, Failure::Reset);
    for _ in 0..10 {
        fork.send(Request::get("/")).await;
    }
    fork.origins[0].fail_next(1, Failure::Status(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(fork.send(Request::get("/")).await.status, 200, "ten more requests allow another retry");
    assert_eq!(fork.origins[0].arrived() - arrived, 10 + 2);
}

#[tokio::test]
async fn services_outside_the_mesh_are_reached_by_address_and_by_name() {
    let subnet = Subnet::claim();
    let fixed = Origin::start("static", subnet.address(7, 8080)).await.unwrap();
    let named = Origin::start("dns", ANY).await.unwrap();
    let external = |name: &str, host: &str, port: u16, how: &str| {
        format!(
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: ExternalService\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{hosts: [{host}], ports: [{{name: http, port: {port}, protocol: HTTP}}], {how}}}\n"
        )
    };
    let how = format!("resolution: Static, endpoints: [{}]", fixed.address().ip());
    let yaml = external("payments", "api.payments.example", 8080, &how)
        + &external("local", "localhost", named.address().port(), "resolution: DNS");
    let town = Town::start(subnet, &yaml).await.unwrap();
    let (to_static, to_dns) = (town.subnet.address(1, 9001), town.subnet.address(1, 9002));
    let flags = [
        format!("--outbound={to_static}=api.payments.example:8080"),
        format!("--outbound={to_dns}=localhost:{}", named.address().port()),
    ];
    let _web = town.sidecar("web", &flags).await.unwrap();
    assert_eq!(client::get(to_static, "/").await.unwrap().origin(), "static");
    let resolved = eventually(PATIENCE, async || {
        let answer = client::get(to_dns, "/").await.ok()?;
        (answer.origin() == "dns").then_some(())
    });
    assert!(resolved.await.is_some(), "{:?}", client::get(to_dns, "/").await);
}

#[tokio::test]
async fn two_destinations_of_one_sidecar_have_routes_of_their_own() {
    let fork = Fork::start(&http_route("b", &[format!("{{{}}}", to("c"))])).await;
    let second = fork.town.subnet.address(2, 9001);
    let _other = fork.town.sidecar("other", &[outbound(second, "b")]).await.unwrap();
    assert_eq!(fork.answers(Request::get("/")).await, "a");
    assert_eq!(client::get(second, "/").await.unwrap().origin(), "c");
}

#[tokio::test]
async fn changes_under_load_cost_no_request() {
    let fork = Fork::start(&shares(50, 50)).await;
    let entrance = fork.entrance;
    let second = Origin::start("c", ANY).await.unwrap();
    let mut clients = JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    for version in [Version::HTTP_11, Version::HTTP_11, Version::HTTP_2, Version::HTTP_2] {
        let stop = Arc::clone(&stop);
        clients.spawn(async move {
            let mut client = Client::connect(entrance, version).await.unwrap();
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get("/").await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.header("x-outrigger-reason"));
                answered += 1;
            }
            answered
        });
    }
    for round in 0..30 {
        // A second instance of c comes and goes, shares move, and a limit changes.
        let more = if round % 2 == 0 { plain("c-2", "c", second.address()) } else { String::new() };
        let policy = backend_policy("c", &format!("circuitBreaker: {{maxRequests: {}}}", 100 + round));
        fork.rewrite(&(shares(100 - round, round) + &more + &policy));
        let in_force = eventually(PATIENCE, async || {
            let expected = 1 + usize::from(round % 2 == 0);
            (round == 0 || fork.endpoints("c").await.len() == expected).then_some(())
        });
        assert!(in_force.await.is_some(), "round {round}: {:?}", fork.endpoints("c").await);
    }
    stop.store(true, Ordering::Relaxed);
    let answered: Vec<u32> = clients.join_all().await;
    assert!(answered.iter().all(|count| *count > 20), "{answered:?}");
    assert!(second.arrived() > 0);
}

#[tokio::test]
async fn a_service_that_goes_away_and_comes_back_is_followed() {
    let fork = Fork::start("").await;
    assert_eq!(fork.answers(Request::get("/")).await, "a");
    // An empty file would be taken for one that is being written.
    fork.town.rewrite(&service("other", "http")).unwrap();
    let gone = eventually(PATIENCE, async || {
        let answer = client::get(fork.entrance, "/").await.ok()?;
        (answer.reason() == "no_route").then_some(answer.status.as_u16())
    });
    assert_eq!(gone.await, Some(404));
    fork.rewrite("");
    fork.time_until("a").await;
}
