//! Every file of `deploy/examples/tasks` does what its first line promises, as far as that shows without traffic; the
//! whole-mesh tests named in `docs/features.md` show the rest.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use http::HeaderMap;
use outrigger_control_plane::explain::{Backend, Explanation, Outcome, Question, Transport, explain};
use outrigger_control_plane::status::evaluate;
use outrigger_control_plane::translate::Client;
use outrigger_control_plane::world::{Change, World};
use outrigger_resources::{Kind, parse_yaml};

/// Who asks and what (`namespace: METHOD host:port/path name:value`, or `https://SNI@host:port`), and what is to come of it.
const ASKED: [(&str, &str, &str); 40] = [
    ("affinity", "shop: GET carts.shop:9080/cart", "/cart to 100% carts: keep to an endpoint by cookie cart"),
    ("affinity", "shop: GET reviews.shop:9080/", "/ to 100% reviews: keep to an endpoint by cookie session"),
    ("affinity", "shop: GET cache.shop:9080/", "/ to 100% cache (Maglev)"),
    ("authorization", "shop: GET reviews.shop:9080/api/1", "/api/1 to 100% reviews"),
    ("authorization-audit", "shop: GET reviews.shop:9080/", "/ to 100% reviews"),
    ("authorization-audit", "shop: GET db.shop:5432/", "bytes to 100% db"),
    ("backend-tls", "shop: GET legacy.shop:9080/", "passed through"),
    ("backend-tls", "shop: GET legacy.shop:8443/", "/ to 100% legacy (TLS to legacy.internal)"),
    ("canary", "shop: GET reviews.shop:9080/", "/ to 95% reviews-v1, 5% reviews-v2"),
    ("canary", "shop: GET reviews.shop:9080/ x-version:v2", "/ to 100% reviews-v2"),
    ("circuit-breaker", "shop: GET reviews.shop:9080/", "/ to 100% reviews"),
    ("consumer-route", "mobile: GET reviews.shop:9080/", "/ to 100% reviews: time out after 30s"),
    ("consumer-route", "shop: GET reviews.shop:9080/", "/ to 100% reviews"),
    ("cors", "shop: GET reviews.shop:9080/", "/ to 100% reviews: answer preflights and allow origins (CORS)"),
    ("cross-namespace", "shop: GET reviews.shop:9080/ratings/1", "/ratings/1 to 100% ratings"),
    ("egress", "shop: GET api.payments.example:443/", "bytes to 100% payments"),
    ("egress", "shop: GET warehouse.example:8080/", "/ to 100% warehouse"),
    ("egress", "shop: GET elsewhere.example:80/", "closed"),
    (
        "fault",
        "shop: GET reviews.shop:9080/",
        "/ to 100% reviews: delay 10 % of requests by 500ms, answer 1 % of requests with 503",
    ),
    (
        "global-rate-limit",
        "shop: GET reviews.shop:9080/",
        "/ to 100% reviews: ask the rate limit service outbound|8081|ratelimit.shop.svc.cluster.local (shop: destination, user)",
    ),
    ("grpc", "shop: POST ratings.shop:9080/shop.Ratings/Get", "/shop.Ratings/Get to 100% ratings-v2"),
    ("grpc", "shop: POST ratings.shop:9080/shop.Ratings/List", "/shop.Ratings/List to 100% ratings-v1"),
    (
        "headers",
        "shop: GET reviews.shop:9080/",
        "/ to 90% reviews-v1, 10% reviews-v2: remove request header x-debug, set request header x-client: web, add response header x-served-by: the mesh",
    ),
    (
        "health-check",
        "shop: GET reviews.shop:9080/",
        "/ to 100% reviews (new endpoints start with 10 % of their share, all of it after 30s, checked by GET /healthz every 5s)",
    ),
    (
        "hedge",
        "shop: GET reviews.shop:9080/",
        "/ to 100% reviews: send a second time what is slower than 95 % (at most 5 % more)",
    ),
    ("jwt", "shop: GET reviews.shop:9080/", "/ to 100% reviews"),
    ("locality", "shop: GET reviews.shop:9080/", "/ to 100% reviews (locality PreferLocal)"),
    (
        "mirror",
        "shop: GET reviews.shop:9080/",
        "/ to 100% reviews-v1: copy 10 % of requests to outbound|9080|reviews-v2.shop.svc.cluster.local",
    ),
    ("priorities", "shop: GET reviews.shop:9080/", "/ to 100% reviews"),
    ("rate-limit", "shop: GET reviews.shop:9080/", "/ to 100% reviews: let 100 through per 1s, 50 at once"),
    (
        "redirect-and-rewrite",
        "shop: GET reviews.shop:9080/old/a?b=c",
        "308 http://reviews.shop:9080/new/a?b=c",
    ),
    (
        "redirect-and-rewrite",
        "shop: GET reviews.shop:9080/api/v1/a",
        "/v1/a to 100% reviews: write reviews.internal as the host, write \"/v1\" in place of the prefix",
    ),
    ("redirect-and-rewrite", "shop: GET reviews.shop:9080/elsewhere", "404 no_route"),
    (
        "retry",
        "shop: GET reviews.shop:9080/",
        "/ to 100% reviews: time out after 5s, try up to 2 times more on 500-599, reset, each try within 1s",
    ),
    ("retry", "shop: POST reviews.shop:9080/", "/ to 100% reviews: time out after 5s"),
    ("retry-budget", "shop: GET reviews.shop:9080/", "/ to 100% reviews"),
    ("tcp", "shop: GET db.shop:5432/", "bytes to 90% db-1, 10% db-2"),
    ("tls", "shop: GET https://one.tenants.example@tenants.shop:443/", "bytes to 100% tenant-one"),
    ("tls", "shop: GET https://two.tenants.example@tenants.shop:443/", "bytes to 100% tenant-others"),
    ("tls", "shop: GET https://elsewhere.example@tenants.shop:443/", "closed"),
];

#[test]
fn every_example_is_in_force_and_does_what_it_says() {
    let examples = examples();
    let asked: BTreeSet<_> = ASKED.iter().map(|(file, ..)| (*file).to_owned()).collect();
    assert_eq!(
        asked,
        examples.keys().cloned().collect(),
        "every example has a row, and every row an example"
    );
    let mut wrong: Vec<String> = examples.iter().flat_map(|(file, world)| problems(file, world)).collect();
    for (file, question, expected) in ASKED {
        let told = told(&explain(&examples[file], &read_question(question)));
        if told != expected {
            wrong.push(format!("{file}: {question}\n  is {told}\n not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_that_is_applied_has_an_example() {
    let mut seen = BTreeSet::new();
    for world in examples().values() {
        seen.extend(world.counts().into_keys());
    }
    // Made by Kubernetes rather than by people, or shown in the bookstore.
    let elsewhere = [Kind::ConfigMap, Kind::Namespace, Kind::EndpointSlice, Kind::Pod, Kind::ServiceAccount];
    let missing: Vec<_> =
        Kind::ALL.into_iter().filter(|kind| !seen.contains(kind) && !elsewhere.contains(kind)).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}

/// The world of each example, by the name of its file.
fn examples() -> BTreeMap<String, World> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/tasks");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), read(&path))).collect()
}

fn read(path: &PathBuf) -> World {
    let parsed = parse_yaml(path.to_str().unwrap(), &std::fs::read_to_string(path).unwrap());
    let changes = parsed.objects.into_iter().map(Change::from).collect();
    World::default().apply(changes).0.with_problems(parsed.problems)
}

/// What of an example is not in force.
fn problems(file: &str, world: &World) -> Vec<String> {
    let mut problems = Vec::new();
    for status in evaluate(world) {
        let found = status.conditions.iter().filter(|condition| condition.is_problem());
        problems.extend(found.map(|it| format!("{file}: {}: {:?} {}", status.object, it.type_, it.message)));
    }
    problems
}

fn read_question(text: &str) -> Question {
    let (namespace, request) = text.split_once(": ").unwrap();
    let mut words = request.split(' ');
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let secured = url.strip_prefix("https://");
    let (host, target) = secured.unwrap_or(url).split_once('/').unwrap();
    let (host, server_name) = host.split_once('@').map_or((host, None), |(name, host)| (host, Some(name)));
    let server_name = server_name.map(str::to_owned);
    let transport = secured.map_or(Transport::Plain, |_| Transport::Tls { server_name });
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = words.next().and_then(|field| field.split_once(':')) {
        headers.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    Question {
        client: Client { namespace: namespace.into(), name: "web".into(), ..Client::default() },
        destination: host.parse().unwrap(),
        method: method.parse().unwrap(),
        host: host.to_owned(),
        path: format!("/{path}"),
        query: query.map(str::to_owned),
        headers,
        transport,
    }
}

fn told(explanation: &Explanation) -> String {
    let share = |backend: &Backend| {
        let name = backend.service.rsplit('/').next().unwrap_or_default();
        let settings = backend.settings.as_ref();
        let balancer = settings.map(|settings| settings.load_balancer.clone());
        let more = settings.map(|settings| settings.more.clone()).unwrap_or_default();
        let special: Vec<_> = balancer.into_iter().filter(|word| word != "PeakEwma").chain(more).collect();
        let special = if special.is_empty() { String::new() } else { format!(" ({})", special.join(", ")) };
        format!("{}% {name}{special}", backend.percent)
    };
    let shares = |backends: &[Backend]| backends.iter().map(share).collect::<Vec<_>>().join(", ");
    match &explanation.outcome {
        Outcome::Forwarded(forwarded) => {
            let steps = forwarded.steps.join(", ");
            let steps = if steps.is_empty() { steps } else { format!(": {steps}") };
            format!("{} to {}{steps}", forwarded.path, shares(&forwarded.backends))
        }
        Outcome::Redirected { status, location, .. } => format!("{status} {location}"),
        Outcome::Answered(answer) => format!("{} {}", answer.status, answer.reason),
        Outcome::Bytes { backends, .. } => format!("bytes to {}", shares(backends)),
        Outcome::PassedThrough { .. } => "passed through".to_owned(),
        Outcome::Closed { .. } => "closed".to_owned(),
    }
}
