//! Tables: YAML and a request in, one line out.

use super::*;
use crate::world::samples::{service, world};

fn ask(yaml: &str, request: &str) -> Explanation {
    let (method, rest) = request.split_once(' ').unwrap();
    let (url, header) = rest.split_once(' ').unwrap_or((rest, ""));
    let (destination, path) = url.split_once('/').unwrap();
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = header.split_once(':') {
        headers.insert(name.parse::<::http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let question = Question {
        client: Client { namespace: "shop".into(), name: "web".into(), ..Client::default() },
        destination: destination.parse().unwrap(),
        method: method.parse().unwrap(),
        host: destination.to_owned(),
        path: format!("/{path}"),
        query: query.map(str::to_owned),
        headers,
        transport: Transport::Plain,
    };
    explain(&world(yaml), &question)
}

fn shown(outcome: &Outcome) -> String {
    let share = |backend: &Backend| match &backend.answer {
        Some(answer) => format!("{}% {} {}", backend.percent, answer.status, answer.reason),
        None => format!("{}% {}", backend.percent, backend.service),
    };
    let shares = |backends: &[Backend]| backends.iter().map(share).collect::<Vec<_>>().join(", ");
    match outcome {
        Outcome::Forwarded(forwarded) => {
            format!("{} {}: {}", forwarded.object, forwarded.path, shares(&forwarded.backends))
        }
        Outcome::Redirected { status, location, .. } => format!("{status} {location}"),
        Outcome::Answered(answer) => format!("{} {}", answer.status, answer.reason),
        Outcome::Bytes { object, backends } => format!("bytes {object}: {}", shares(backends)),
        Outcome::PassedThrough { .. } => "passed through".to_owned(),
        Outcome::Closed { .. } => "closed".to_owned(),
    }
}

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - matches: [{path: {value: /api}, headers: [{name: x-user, value: beta}]}]
    backendRefs: [{name: reviews, port: 80, weight: 3}, {name: gone, port: 80, weight: 1}]
  - matches: [{path: {value: /empty}}]
    backendRefs: [{name: empty, port: 80}]
  - matches: [{path: {value: /wrong}}]
    backendRefs: [{name: gone, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: reviews}, ports: [{port: 5432, targetPort: web, appProtocol: tcp}]}
---
";

#[test]
fn every_way_a_request_can_end_is_told() {
    let yaml = service("reviews", 1) + ROUTE;
    for (request, expected) in [
        (
            "GET reviews.shop:80/api/x x-user:beta",
            "HTTPRoute/shop/r /api/x: 75% Service/shop/reviews, 25% 500 no_backend",
        ),
        (
            "GET 10.96.0.1:80/api/x x-user:beta",
            "HTTPRoute/shop/r /api/x: 75% Service/shop/reviews, 25% 500 no_backend",
        ),
        ("GET reviews.shop:80/api/x x-user:alpha", "404 no_route"),
        ("GET reviews.shop:80/empty", "HTTPRoute/shop/r /empty: 100% 503 no_endpoint"),
        ("GET reviews.shop:80/wrong", "500 no_backend"),
        ("GET db.shop:5432/", "bytes Service/shop/db: 100% Service/shop/db"),
        ("GET nowhere.example:80/", "passed through"),
    ] {
        assert_eq!(shown(&ask(&yaml, request).outcome), expected, "{request}");
    }
}

#[test]
fn a_destination_the_mesh_does_not_know_is_closed_when_egress_is_denied() {
    let mesh = "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\n\
                metadata: {name: mesh, namespace: outrigger-system}\nspec: {egress: Deny}\n";
    assert_eq!(shown(&ask(mesh, "GET nowhere.example:80/").outcome), "closed");
}

#[test]
fn each_route_that_is_passed_over_says_which_condition_failed() {
    let explanation = ask(&(service("reviews", 1) + ROUTE), "GET reviews.shop:80/wrong/x");
    let tried: Vec<_> = explanation.routes.iter().map(|tried| tried.mismatch.as_deref()).collect();
    assert_eq!(tried, [Some("the path is not /empty or below it"), None]);
    let explanation = ask(&(service("reviews", 1) + ROUTE), "GET reviews.shop:80/api x-user:alpha");
    let told = explanation.routes.iter().find(|tried| tried.matches.starts_with("/api"));
    let mismatch = told.and_then(|tried| tried.mismatch.as_deref());
    assert_eq!(mismatch, Some("header x-user is not \"beta\""));
}
