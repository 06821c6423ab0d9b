//! What `outrigger explain` says and what a live sidecar does are the same, for random routes and random requests.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use fastrand::Rng;
use http::{HeaderMap, Method, Request, Version};
use outrigger_control_plane::explain::{Backend, Explanation, Outcome, Question, Transport, explain};
use outrigger_control_plane::translate::Client as Asker;
use outrigger_control_plane::world::{Change, World};
use outrigger_resources::parse_yaml;
use outrigger_tests::client::{Answer, Client, empty};
use outrigger_tests::eventually;
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{PATIENCE, PORT, Town, http_route, plain, service};

/// Sets of routes, and requests to each.
const ROUNDS: u64 = 8;
const REQUESTS: usize = 80;
/// What paths, headers and queries are made of: so few that they meet.
const SEGMENTS: [&str; 4] = ["a", "b", "ab", "c.d"];
const USERS: [&str; 3] = ["beta", "gamma-ray", "x,y"];
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[tokio::test]
async fn explain_and_a_live_proxy_agree() {
    let a = Origin::start("a", ANY).await.unwrap();
    let b = Origin::start("b", ANY).await.unwrap();
    let services = service("a", "http")
        + &service("b", "http")
        + &service("empty", "http")
        + &plain("a-1", "a", a.address())
        + &plain("b-1", "b", b.address());
    let town = Town::start(Subnet::claim(), &services).await.unwrap();
    let (_web, entrance) = town.dialling(1, "a").await.unwrap();
    for seed in 0..ROUNDS {
        let mut rng = Rng::with_seed(seed);
        let yaml = services.clone() + &routes(&mut rng, seed);
        town.rewrite(&yaml).unwrap();
        let world = read(&yaml);
        let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
        let path = format!("/round-{seed}");
        let in_force = eventually(PATIENCE, async || {
            let answer = client.get(&path).await.ok()?;
            (answer.header("x-rule") == "marker").then_some(())
        });
        assert!(in_force.await.is_some(), "round {seed} is never in force: {}", town.control_plane.stderr());
        for _ in 0..REQUESTS {
            let (method, target, user) = request(&mut rng);
            let explanation = explain(&world, &question(&method, &target, user));
            let mut request =
                Request::builder().method(method.clone()).uri(&target).header("host", "a.shop:9080");
            if let Some(user) = user {
                request = request.header("x-user", user);
            }
            let answer = client.send(request.body(empty()).unwrap()).await.unwrap();
            if let Err(why) = agree(&explanation, &answer) {
                panic!(
                    "seed {seed}: {method} {target} x-user {user:?}: {why}\n{explanation:#?}\n{answer:?}\n{yaml}"
                );
            }
        }
    }
}

fn read(yaml: &str) -> World {
    let parsed = parse_yaml("town.yaml", yaml);
    assert!(!parsed.broken, "{:?}", parsed.problems);
    World::default().apply(parsed.objects.into_iter().map(Change::from).collect()).0
}

fn question(method: &Method, target: &str, user: Option<&str>) -> Question {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    if let Some(user) = user {
        headers.insert("x-user", user.parse().unwrap());
    }
    Question {
        client: Asker { namespace: "shop".into(), name: "web".into(), ..Asker::default() },
        destination: format!("a.shop:{PORT}").parse().unwrap(),
        method: method.clone(),
        host: "a.shop:9080".to_owned(),
        path: path.to_owned(),
        query: query.map(str::to_owned),
        headers,
        transport: Transport::Plain,
    }
}

/// Whether an answer is one of those that were explained.
fn agree(explanation: &Explanation, answer: &Answer) -> Result<(), String> {
    let status = answer.status.as_u16();
    match &explanation.outcome {
        Outcome::Answered(told) if (told.status, told.reason) == (status, answer.reason()) => Ok(()),
        Outcome::Redirected { status: told, location, .. }
            if (*told, location.as_str()) == (status, answer.header("location")) =>
        {
            Ok(())
        }
        Outcome::Forwarded(forwarded) => {
            let fits = |backend: &&Backend| match &backend.answer {
                Some(told) => (told.status, told.reason) == (status, answer.reason()),
                None => backend.service.ends_with(&format!("/{}", answer.origin())),
            };
            forwarded.backends.iter().find(fits).ok_or("no share has such an answer")?;
            let target = answer.json()["target"].as_str().unwrap_or_default().to_owned();
            if answer.reason().is_empty() && target.split('?').next() != Some(&forwarded.path) {
                return Err(format!("the origin saw {target}"));
            }
            let rule = format!("set response header x-rule: {}", answer.header("x-rule"));
            match answer.reason().is_empty() && !forwarded.steps.contains(&rule) {
                true => Err(format!("rule {} answered", answer.header("x-rule"))),
                false => Ok(()),
            }
        }
        _ => Err("another outcome".to_owned()),
    }
}

/// One to three HTTPRoutes of one to four rules each, and one rule that says which round it is.
fn routes(rng: &mut Rng, round: u64) -> String {
    let marker = format!(
        "{{matches: [{{path: {{type: Exact, value: /round-{round}}}}}], {}, backendRefs: [{{name: a, port: {PORT}}}]}}",
        mark("marker")
    );
    let mut text = http_route("a", &[marker]);
    for route in 0..rng.u32(1..4) {
        let rules: Vec<_> =
            (0..rng.u32(1..5)).map(|rule| any_rule(rng, &format!("{route}-{rule}"))).collect();
        text +=
            &http_route("a", &rules).replace("{name: a, namespace", &format!("{{name: r{route}, namespace"));
    }
    text
}

fn mark(name: &str) -> String {
    format!("filters: [{}]", marking(name))
}

fn marking(name: &str) -> String {
    format!(
        "{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: '{name}'}}]}}}}"
    )
}

fn any_rule(rng: &mut Rng, name: &str) -> String {
    let mut filters = vec![marking(name)];
    let kind = rng.u32(..10);
    if kind == 0 {
        let path = any_path_change(rng);
        let status = [301, 302, 303, 307, 308][rng.usize(..5)];
        filters.push(format!(
            "{{type: RequestRedirect, requestRedirect: {{hostname: elsewhere.example, statusCode: {status}{path}}}}}"
        ));
    } else if kind < 4 {
        let path = any_path_change(rng);
        filters.push(format!("{{type: URLRewrite, urlRewrite: {{hostname: new.example{path}}}}}"));
    }
    let backends = if kind == 0 { String::new() } else { format!(", backendRefs: [{}]", any_backends(rng)) };
    let matches: Vec<_> = (0..rng.u32(1..3)).map(|_| any_match(rng)).collect();
    format!("{{matches: [{}], filters: [{}]{backends}}}", matches.join(", "), filters.join(", "))
}

fn any_path_change(rng: &mut Rng) -> &'static str {
    [
        "",
        ", path: {type: ReplaceFullPath, replaceFullPath: /full}",
        ", path: {type: ReplaceFullPath, replaceFullPath: /}",
    ][rng.usize(..3)]
}

fn any_backends(rng: &mut Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.u32(1..4) {
        let name = ["a", "b", "b", "gone", "empty"][rng.usize(..5)];
        let _ = write!(text, "{{name: {name}, port: {PORT}, weight: {}}}, ", rng.u32(..3));
    }
    text
}

fn any_match(rng: &mut Rng) -> String {
    let mut parts = Vec::new();
    let path = any_path(rng);
    match rng.u32(..4) {
        0 => parts.push(format!("path: {{type: Exact, value: {path}}}")),
        1 | 2 => parts.push(format!("path: {{type: PathPrefix, value: {path}}}")),
        _ => parts.push("path: {type: RegularExpression, value: '/a.*|/b/[a-b]+'}".to_owned()),
    }
    if rng.u32(..4) == 0 {
        parts.push("method: POST".to_owned());
    }
    match rng.u32(..5) {
        0 => parts.push(format!("headers: [{{name: x-user, value: '{}'}}]", USERS[rng.usize(..3)])),
        1 => {
            parts.push("headers: [{name: x-user, type: RegularExpression, value: 'gamma-[a-z]+'}]".to_owned())
        }
        _ => {}
    }
    if rng.u32(..5) == 0 {
        parts.push("queryParams: [{name: v, value: '1'}]".to_owned());
    }
    format!("{{{}}}", parts.join(", "))
}

fn any_path(rng: &mut Rng) -> String {
    let segments: Vec<_> = (0..rng.u32(..3)).map(|_| SEGMENTS[rng.usize(..4)]).collect();
    format!("/{}", segments.join("/"))
}

/// A method, a path with a query, and what the header `x-user` says.
fn request(rng: &mut Rng) -> (Method, String, Option<&'static str>) {
    let method = if rng.u32(..4) == 0 { Method::POST } else { Method::GET };
    let slash = ["", "", "/"][rng.usize(..3)];
    let query = ["", "", "?v=1", "?w=2&v=1", "?v=%31"][rng.usize(..5)];
    let user = [None, Some(USERS[rng.usize(..3)])][rng.usize(..2)];
    (method, format!("{}{slash}{query}", any_path(rng)).replace("//", "/"), user)
}
