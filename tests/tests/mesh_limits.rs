//! Limits through real sidecars: requests in time, requests at once, and what a rate limit service says.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;

use http::{Request, StatusCode, Version};
use outrigger_tests::client::{self, Answer, Client, empty, fed};
use outrigger_tests::eventually;
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{
    PATIENCE, Sidecar, Town, http_route, inbound, mesh_config, meshed, metric, outbound, service,
};

#[path = "mesh_limits/service.rs"]
mod service_of_limits;
#[path = "mesh_limits/storm.rs"]
mod storm;

/// Any port on loopback.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The sidecars of `web` and `files` with an application behind `files`.
struct Shop {
    town: Town,
    /// Where clients dial.
    entrance: SocketAddr,
    /// Where the sidecar of `files` is dialled.
    inbound: SocketAddr,
    files: Sidecar,
    web: Sidecar,
    origin: Origin,
    base: String,
}

impl Shop {
    async fn with(policies: &str) -> Self {
        Self::and(policies, |_| String::new()).await
    }

    /// `more` is YAML about further workloads, on other hosts of the subnet.
    async fn and(policies: &str, more: impl FnOnce(&Subnet) -> String) -> Self {
        let subnet = Subnet::claim();
        let (entrance, address) = (subnet.address(1, 9001), subnet.address(2, 9080));
        let base = service("files", "http") + &meshed("files-1", "files", address) + &more(&subnet);
        let town = Town::start(subnet, &(base.clone() + policies)).await.unwrap();
        let origin = Origin::start("files", ANY).await.unwrap();
        let files = town.sidecar("files", &[inbound(address, origin.address())]).await.unwrap();
        let web = town.sidecar("web", &[outbound(entrance, "files")]).await.unwrap();
        Self { town, entrance, inbound: address, files, web, origin, base }
    }

    /// Replaces the policies.
    fn rewrite(&self, policies: &str) {
        self.town.rewrite(&(self.base.clone() + policies)).unwrap();
    }

    async fn get(&self, path: &str) -> Answer {
        client::get(self.entrance, path).await.unwrap()
    }
}

fn inbound_policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: InboundPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{{spec}}}\n"
    )
}

fn route_policy(rate_limit: &str) -> String {
    let target = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: files}";
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: RoutePolicy\nmetadata: {{name: limits, namespace: shop}}\n\
         spec: {{targetRefs: [{target}], rateLimit: {{{rate_limit}}}}}\n"
    )
}

/// A route of all requests.
fn files_route() -> String {
    http_route("files", &["{backendRefs: [{name: files, port: 9080}]}".to_owned()])
}

const FILES: &str = "targetRefs: [{group: '', kind: Service, name: files}]";

/// Reason, object and the figures of a rate limit.
fn shown(answer: &Answer) -> String {
    let object = answer.header("x-outrigger-reason").rsplit("object=").next().unwrap_or_default().to_owned();
    let figures = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"]
        .map(|name| answer.header(name).to_owned());
    format!("{} {object} {}", answer.status.as_u16(), figures.join("/"))
}

#[tokio::test]
async fn a_route_lets_through_what_its_policy_says_and_says_so() {
    let limit = "local: {requests: 1, per: 1h, burst: 2}";
    let shop = Shop::with(&(files_route() + &route_policy(limit))).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(shown(&shop.get("/").await));
    }
    let refused = "429 RoutePolicy/shop/limits 2/0/7200/3600";
    // Some seconds may have passed meanwhile.
    let seconds = |text: &str| text.replace("7199", "7200").replace("3599", "3600");
    let answers: Vec<String> = answers.iter().map(|text| seconds(text)).collect();
    assert_eq!(answers, ["200  2/1/3600/", "200  2/0/7200/", refused]);
    assert_eq!(shop.origin.arrived(), 2);
    let mut grpc = Client::connect(shop.entrance, Version::HTTP_2).await.unwrap();
    let call = Request::post("/a.B/C").header("content-type", "application/grpc").body(empty()).unwrap();
    let answer = grpc.send(call).await.unwrap();
    assert_eq!((answer.header("grpc-status"), answer.header("ratelimit-remaining")), ("8", "0"));

    // What does not change the limit does not forget what was counted.
    let free = "{matches: [{path: {value: /free}}], backendRefs: [{name: files, port: 9080}]}".to_owned();
    let free = http_route("files", &[free]).replace("{name: files, namespace", "{name: free, namespace");
    shop.rewrite(&(files_route() + &free + &route_policy(limit)));
    let changed = async || (shop.get("/free").await.status == StatusCode::OK).then_some(());
    assert!(eventually(PATIENCE, changed).await.is_some(), "the change is in force");
    assert_eq!(shop.get("/").await.reason(), "rate_limited");

    shop.rewrite(&(files_route() + &route_policy("local: {requests: 1, per: 1h, burst: 3}")));
    let more = async || (shop.get("/").await.header("ratelimit-limit") == "3").then_some(());
    assert!(eventually(PATIENCE, more).await.is_some(), "another limit counts anew");
    let refusals = metric(&shop.web, "/metrics", "outrigger_requests_total", &["reason=\"rate_limited\""]);
    assert!(refusals.await.unwrap() >= 3.0);
}

#[tokio::test]
async fn a_workload_counts_its_callers_apart_by_who_they_are() {
    let policy = inbound_policy(
        "callers",
        &format!("{FILES}, rateLimit: {{requests: 1, per: 1h, burst: 1, key: [source.identity]}}"),
    );
    let shop = Shop::with(&policy).await;
    let other = shop.town.subnet.address(3, 9001);
    let _batch = shop.town.sidecar("batch", &[outbound(other, "files")]).await.unwrap();
    assert_eq!(shop.get("/").await.status, StatusCode::OK);
    let refused = shop.get("/").await;
    assert_eq!((refused.status, refused.reason()), (StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
    assert!(shown(&refused).contains("InboundPolicy/shop/callers 1/0/3"), "{}", shown(&refused));
    assert_eq!(client::get(other, "/").await.unwrap().status, StatusCode::OK, "somebody else");
    assert_eq!(client::get(other, "/").await.unwrap().reason(), "rate_limited");
}

#[tokio::test]
async fn a_workload_opens_and_closes_itself() {
    let shop = Shop::with(&inbound_policy("open", &format!("{FILES}, mtls: Permissive"))).await;
    let plain = client::get(shop.inbound, "/").await.unwrap();
    assert_eq!(plain.status, StatusCode::OK, "the mesh is Strict, the workload is not");
    shop.rewrite(&inbound_policy("shut", &format!("{FILES}, mtls: Strict")));
    let shut = async || {
        let answer = client::get(shop.inbound, "/").await.ok()?;
        (answer.reason() == "unauthenticated").then_some(())
    };
    assert!(eventually(PATIENCE, shut).await.is_some());
    assert_eq!(shop.get("/").await.status, StatusCode::OK, "the mesh's own is let in");
    shop.town.mesh.write("mesh.yaml", &mesh_config("Permissive")).unwrap();
    // Nothing listens there.
    let jwt = "jwt: {issuer: https://i.example, jwksUri: 'http://127.0.0.1:1/jwks'}";
    shop.rewrite(&inbound_policy("tokens", &format!("{FILES}, {jwt}")));
    let closed = async || {
        let answer = client::get(shop.inbound, "/").await.ok()?;
        shown(&answer).starts_with("401 InboundPolicy/shop/tokens").then_some(())
    };
    assert!(eventually(PATIENCE, closed).await.is_some(), "no token can be checked: nobody is let in");
    assert_eq!(shop.get("/").await.status, StatusCode::UNAUTHORIZED);
    let status = shop.town.status().await.unwrap().to_string();
    assert!(
        status.contains("no keys from http://127.0.0.1:1/jwks") || status.contains("not fetched yet"),
        "{status}"
    );
}

#[tokio::test]
async fn the_last_places_are_for_the_first_class() {
    let spec = format!(
        "{FILES}, concurrency: {{adaptive: false, max: 4}}, priorities: {{header: x-priority, default: 2}}"
    );
    let shop = Shop::with(&inbound_policy("places", &spec)).await;
    let mut held = Vec::new();
    let mut hold = async |class: &str| {
        let mut client = Client::connect(shop.entrance, Version::HTTP_11).await.unwrap();
        let (feed, body) = fed();
        let request = Request::post("/echo").header("x-priority", class).body(body).unwrap();
        let response = client.open(request).await.unwrap();
        let refused = response.headers().get("retry-after").is_some_and(|after| after == "1");
        let status = response.status().as_u16();
        held.push((client, feed, response));
        (status, refused)
    };
    // Of four places the second class leaves two free, and the third all but one.
    assert_eq!(hold("1").await, (200, false));
    assert_eq!(hold("7").await, (503, true));
    assert_eq!(hold("1").await, (200, false));
    assert_eq!(hold("1").await, (503, true));
    assert_eq!(hold("0").await, (200, false));
    assert_eq!(hold("0").await, (200, false));
    assert_eq!(hold("0").await, (503, true));
    let shed = shop.get("/").await;
    assert_eq!(shown(&shed), "503 InboundPolicy/shop/places ///1");
    let limit = metric(&shop.files, "/metrics", "outrigger_inbound_concurrency_limit", &[]).await.unwrap();
    assert!((limit - 4.0).abs() < 0.1, "{limit}");

    // An answer that is over, or that nobody waits for any more, makes place.
    drop(held);
    let free = async || (shop.get("/").await.status == StatusCode::OK).then_some(());
    assert!(eventually(PATIENCE, free).await.is_some(), "places come back");
}
