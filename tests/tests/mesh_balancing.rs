//! Who gets a request: by key, by session, by weight, by nearness, and by what servers say of themselves.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use hyper::body::Frame;
use outrigger_tests::client::{Answer, Client, empty, fed};
use outrigger_tests::eventually;
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{
    PATIENCE, PORT, Sidecar, Town, ask, backend_policy, http_route, outbound, plain, service,
};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// `web` dials the Service `a`, which has some instances named `a-0`, `a-1` and so on.
struct Crowd {
    entrance: SocketAddr,
    web: Sidecar,
    origins: Vec<Origin>,
    town: Town,
}

impl Crowd {
    /// `rest` is what each instance has in its spec beyond an address, in YAML flow style.
    async fn start(rest: &[&str], more: &str, flags: &[&str]) -> Self {
        let mut origins = Vec::new();
        for place in 0..rest.len() {
            origins.push(Origin::start(&format!("a-{place}"), ANY).await.unwrap());
        }
        let yaml = service("a", "http") + &instances(&origins, rest) + more;
        let town = Town::start(Subnet::claim(), &yaml).await.unwrap();
        let entrance = town.subnet.address(1, 9001);
        let mut flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        flags.push(outbound(entrance, "a"));
        let web = town.sidecar("web", &flags).await.unwrap();
        Self { entrance, web, origins, town }
    }

    /// `more` after the Service and the instances that are left.
    fn rewrite(&self, rest: &[&str], more: &str) {
        self.town.rewrite(&(service("a", "http") + &instances(&self.origins, rest) + more)).unwrap();
    }

    async fn client(&self) -> Client {
        Client::connect(self.entrance, Version::HTTP_11).await.unwrap()
    }

    /// Who answers so many requests, and how many of them.
    async fn counts(&self, requests: usize) -> BTreeMap<String, usize> {
        let mut client = self.client().await;
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            *counts.entry(client.get("/").await.unwrap().origin()).or_default() += 1;
        }
        counts
    }

    /// Waits until the sidecar has so many endpoints of the Service.
    async fn until_endpoints(&self, count: usize) {
        let seen = eventually(PATIENCE, async || {
            let clusters = ask(&self.web, "/admin", "/clusters").await.ok()?;
            let name = format!("outbound|{PORT}|a.shop.");
            let mut all = clusters.as_array()?.iter();
            let cluster = all.find(|it| it["name"].as_str().is_some_and(|it| it.starts_with(&name)))?;
            (cluster["endpoints"].as_array()?.len() == count).then_some(())
        });
        assert!(seen.await.is_some(), "never {count} endpoints");
    }
}

/// An instance for each of `rest` that is not empty text.
fn instances(origins: &[Origin], rest: &[&str]) -> String {
    let mut text = String::new();
    for (place, (origin, rest)) in origins.iter().zip(rest).enumerate() {
        if rest.is_empty() {
            continue;
        }
        let workload = plain(&format!("a-{place}"), "a", origin.address());
        let _ = write!(text, "{}", workload.replace("meshed: false}", &format!("{rest}}}")));
    }
    text
}

async fn send(client: &mut Client, fields: &[(&str, &str)]) -> Answer {
    let mut request = Request::get("/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request.body(empty()).unwrap()).await.unwrap()
}

/// The name and value of a cookie that an answer sets.
fn cookie_of(answer: &Answer) -> &str {
    answer.header("set-cookie").split(';').next().unwrap_or_default()
}

const FOUR: [&str; 4] = ["weight: 1"; 4];

#[tokio::test]
async fn a_key_finds_the_same_endpoint_through_every_proxy() {
    for algorithm in ["RingHash", "Maglev"] {
        let policy = format!("loadBalancer: {{algorithm: {algorithm}, hashOn: {{header: x-user}}}}");
        let crowd = Crowd::start(&FOUR, &backend_policy("a", &policy), &[]).await;
        let entrance = crowd.town.subnet.address(2, 9001);
        let _other = crowd.town.sidecar("shop", &[outbound(entrance, "a")]).await.unwrap();
        let mut one = crowd.client().await;
        let mut other = Client::connect(entrance, Version::HTTP_2).await.unwrap();
        let mut owners = BTreeMap::new();
        for user in 0..40 {
            let user = format!("user-{user}");
            let owner = send(&mut one, &[("x-user", &user)]).await.origin();
            assert_eq!(send(&mut other, &[("x-user", &user)]).await.origin(), owner, "{algorithm}, {user}");
            owners.insert(user, owner);
        }
        let used: BTreeSet<_> = owners.values().collect();
        assert_eq!(used.len(), 4, "{algorithm}: {owners:?}");

        crowd.rewrite(&["weight: 1", "weight: 1", "", "weight: 1"], &backend_policy("a", &policy));
        crowd.until_endpoints(3).await;
        let (mut kept, mut moved) = (0, 0);
        for (user, owner) in owners.iter().filter(|(_, owner)| *owner != "a-2") {
            let now = send(&mut one, &[("x-user", user)]).await.origin();
            *(if now == *owner { &mut kept } else { &mut moved }) += 1;
        }
        assert!(
            moved == 0 || (algorithm == "Maglev" && moved * 4 < kept),
            "{algorithm}: {moved} moved, {kept} did not"
        );
    }
}

#[tokio::test]
async fn a_cookie_is_made_for_who_has_none_and_hashed_from_then_on() {
    let policy = "loadBalancer: {algorithm: Maglev, hashOn: {cookie: {name: user, ttl: 1h}}}";
    let crowd = Crowd::start(&FOUR, &backend_policy("a", policy), &[]).await;
    let mut client = crowd.client().await;
    for _ in 0..10 {
        let first = send(&mut client, &[]).await;
        let set = first.header("set-cookie");
        assert!(
            set.starts_with("user=") && set.ends_with("; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax"),
            "{set}"
        );
        for _ in 0..3 {
            let next = send(&mut client, &[("cookie", cookie_of(&first))]).await;
            assert_eq!((next.origin(), next.header("set-cookie")), (first.origin(), ""));
        }
    }
}

#[tokio::test]
async fn a_session_stays_with_its_endpoint_as_long_as_that_is_there() {
    let rule =
        format!("{{backendRefs: [{{name: a, port: {PORT}}}], sessionPersistence: {{sessionName: s}}}}");
    let route = http_route("a", &[rule]);
    let crowd = Crowd::start(&FOUR, &route, &[]).await;
    let mut client = crowd.client().await;
    let first = send(&mut client, &[]).await;
    let (cookie, owner) = (cookie_of(&first).to_owned(), first.origin());
    assert!(
        first.header("set-cookie").ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{}",
        first.header("set-cookie")
    );
    let place: usize = owner.trim_start_matches("a-").parse().unwrap();
    let address = crowd.origins[place].address();
    assert!(!cookie.contains(&address.port().to_string()), "{cookie} tells {address}");
    for _ in 0..20 {
        let next = send(&mut client, &[("cookie", &cookie)]).await;
        assert_eq!((next.origin(), next.header("set-cookie")), (owner.clone(), ""));
    }
    let strangers = [("cookie", "s=nonsense"), ("cookie", "t=1")];
    for fields in strangers {
        assert!(cookie_of(&send(&mut client, &[fields]).await).starts_with("s="), "{fields:?}");
    }

    let mut left = FOUR;
    left[place] = "";
    crowd.rewrite(&left, &route);
    crowd.until_endpoints(3).await;
    let moved = send(&mut client, &[("cookie", &cookie)]).await;
    assert_ne!(moved.origin(), owner);
    let again = send(&mut client, &[("cookie", cookie_of(&moved))]).await;
    assert_eq!((again.origin(), again.header("set-cookie")), (moved.origin(), ""));
}

#[tokio::test]
async fn a_session_stays_with_its_share_of_a_split_and_may_travel_in_a_header() {
    let b = Origin::start("b", ANY).await.unwrap();
    let backends = format!("[{{name: a, port: {PORT}, weight: 1}}, {{name: b, port: {PORT}, weight: 1}}]");
    let more = service("b", "http")
        + &plain("b-0", "b", b.address())
        + &http_route("a", &[format!("{{backendRefs: {backends}}}")])
        + "---\napiVersion: outrigger.dev/v1alpha1\nkind: RoutePolicy\nmetadata: {name: a, namespace: shop}\n\
           spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a}], \
           sessionAffinity: {header: x-session}}\n";
    let crowd = Crowd::start(&["weight: 1", "weight: 1"], &more, &[]).await;
    let mut client = crowd.client().await;
    let mut origins = BTreeSet::new();
    for _ in 0..20 {
        let first = send(&mut client, &[]).await;
        origins.insert(first.origin());
        for _ in 0..5 {
            let next = send(&mut client, &[("x-session", first.header("x-session"))]).await;
            assert_eq!((next.origin(), next.header("x-session")), (first.origin(), ""));
        }
    }
    assert_eq!(origins.len(), 3, "both shares and both endpoints of one: {origins:?}");
}

#[tokio::test]
async fn weights_of_instances_are_kept_within_five_points() {
    for algorithm in ["PeakEwma", "LeastRequest", "RoundRobin", "Random"] {
        let policy = backend_policy("a", &format!("loadBalancer: {{algorithm: {algorithm}}}"));
        let crowd = Crowd::start(&["weight: 7", "weight: 3"], &policy, &[]).await;
        let counts = crowd.counts(500).await;
        let percent = counts["a-0"] as f64 / 5.0;
        // What is faster by chance gets more where latency counts, whatever the weights.
        let within = if algorithm == "PeakEwma" { 30.0 } else { 5.0 };
        assert!((percent - 70.0).abs() <= within, "{algorithm}: {counts:?}");
    }
}

#[tokio::test]
async fn near_endpoints_are_preferred_or_used_alone() {
    let zones = ["locality: {region: eu, zone: a}", "locality: {region: eu, zone: b}"];
    let here = ["--locality", "eu/b"];
    let near = backend_policy("a", "locality: {mode: PreferLocal}");
    let crowd = Crowd::start(&zones, &near, &here).await;
    let counts = crowd.counts(300).await;
    assert!(counts["a-1"] > 270, "nearly all stay: {counts:?}");

    crowd.rewrite(&[zones[0], ""], &near);
    crowd.until_endpoints(1).await;
    assert_eq!(crowd.counts(5).await["a-0"], 5, "another zone is better than none");

    let strict = backend_policy("a", "locality: {mode: Strict}");
    crowd.rewrite(&[zones[0], ""], &strict);
    let mut client = crowd.client().await;
    let refused = eventually(PATIENCE, async || {
        let answer = client.get("/").await.ok()?;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then(|| answer.reason().to_owned())
    });
    assert_eq!(refused.await.unwrap(), "no_endpoint");
    crowd.rewrite(&zones, &strict);
    let back =
        eventually(PATIENCE, async || (client.get("/").await.ok()?.status == StatusCode::OK).then_some(()));
    assert!(back.await.is_some());
    assert_eq!(crowd.counts(50).await, BTreeMap::from([("a-1".to_owned(), 50)]));
}

#[tokio::test]
async fn what_servers_say_of_their_load_is_seen_in_trailers_and_goes_on_to_the_client() {
    let crowd = Crowd::start(&["weight: 1"], "", &[]).await;
    let mut client = Client::connect(crowd.entrance, Version::HTTP_2).await.unwrap();
    let (feed, body) = fed();
    let report = HeaderValue::from_static("TEXT cpu_utilization=0.25,named_metrics.queue=3");
    let trailers: HeaderMap = HeaderMap::from_iter([("endpoint-load-metrics".parse().unwrap(), report)]);
    // The origin gives back what it gets, trailers included.
    let feeding = async {
        feed.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
        feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(feed);
    };
    let request = Request::post("/echo").header("te", "trailers").body(body).unwrap();
    let (answer, ()) = tokio::join!(client.send(request), feeding);
    assert!(answer.unwrap().trailer("endpoint-load-metrics").starts_with("TEXT "), "passed on");
    let seen = eventually(PATIENCE, async || {
        let clusters = ask(&crowd.web, "/admin", "/clusters").await.ok()?;
        let mut all = clusters.as_array()?.iter().flat_map(|cluster| cluster["endpoints"].as_array());
        all.find_map(|endpoints| endpoints[0]["utilisation"].as_f64())
    });
    assert_eq!(seen.await, Some(0.25));
}
