//! What a RoutePolicy makes of requests that fail or take too long: retries, hedging, deadlines and faults, with real sidecars.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode, Version};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use outrigger_tests::client::{Client, empty, full};
use outrigger_tests::eventually;
use outrigger_tests::origin::{Afterwards, Failure, Origin, Relay, ScriptedOrigin};
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{
    NAMESPACE, PATIENCE, PORT, Sidecar, Town, backend_policy, inbound, logged, meshed, metric, outbound,
    plain, service,
};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A RoutePolicy of a Service; `spec` is the rest of its spec, in YAML flow style without braces.
fn route_policy(service: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: RoutePolicy\n\
         metadata: {{name: {service}, namespace: {NAMESPACE}}}\n\
         spec: {{targetRefs: [{{group: \"\", kind: Service, name: {service}}}], {spec}}}\n"
    )
}

/// `web` dials the Service `shop`, which these servers are, outside of any sidecar.
async fn to(servers: &[SocketAddr], more: &str) -> (Town, Sidecar, SocketAddr) {
    let workloads = servers.iter().enumerate();
    let workloads: String =
        workloads.map(|(number, server)| plain(&format!("shop-{number}"), "shop", *server)).collect();
    let yaml = service("shop", "http") + &workloads + more;
    let town = Town::start(Subnet::claim(), &yaml).await.unwrap();
    let (web, entrance) = town.dialling(1, "shop").await.unwrap();
    (town, web, entrance)
}

/// `web` dials the Service `shop` through both sidecars.
async fn through_both(server: SocketAddr, more: &str) -> (Town, [Sidecar; 2], SocketAddr) {
    let subnet = Subnet::claim();
    let dialled = subnet.address(2, PORT);
    let yaml = service("shop", "http") + &meshed("shop-1", "shop", dialled) + more;
    let town = Town::start(subnet, &yaml).await.unwrap();
    let shop = town.sidecar("shop", &[inbound(dialled, server)]).await.unwrap();
    let (web, entrance) = town.dialling(1, "shop").await.unwrap();
    (town, [web, shop], entrance)
}

fn grpc(path: &str) -> http::request::Builder {
    Request::post(path).header("content-type", "application/grpc").header("te", "trailers")
}

#[tokio::test]
async fn answers_are_tried_again_as_the_policy_names_them() {
    let origin = Origin::start("shop", ANY).await.unwrap();
    let policy = route_policy("shop", "retry: {on: [gateway-error, retriable-4xx], attempts: 2}");
    let (_town, _web, entrance) = to(&[origin.address()], &policy).await;
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    let mut before = origin.arrived();
    for (status, times, answer, arrived) in
        [(503, 2, 200, 3), (503, 3, 503, 3), (409, 1, 200, 2), (500, 1, 500, 1), (429, 1, 429, 1)]
    {
        origin.fail_next(times, Failure::Status(StatusCode::from_u16(status).unwrap()));
        let answered = client.get("/").await.unwrap();
        assert_eq!(answered.status.as_u16(), answer, "{status}, {times} times");
        let tried_in_vain = if arrived == 3 && answer != 200 { "used" } else { "" };
        assert_eq!(answered.header("x-outrigger-retries"), tried_in_vain, "{status}, {times} times");
        assert_eq!(origin.arrived() - before, arrived, "{status}, {times} times");
        before = origin.arrived();
    }
}

#[tokio::test]
async fn a_body_is_sent_again_up_to_the_size_that_is_kept() {
    let origin = Origin::start("shop", ANY).await.unwrap();
    let policy = route_policy("shop", "retry: {on: [503], attempts: 1}");
    let (_town, _web, entrance) = to(&[origin.address()], &policy).await;
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    for (bytes, expected) in [(64 * 1024, StatusCode::OK), (64 * 1024 + 1, StatusCode::SERVICE_UNAVAILABLE)] {
        origin.fail_next(1, Failure::Status(StatusCode::SERVICE_UNAVAILABLE));
        let request = Request::post("/").body(full(vec![b'x'; bytes])).unwrap();
        assert_eq!(client.send(request).await.unwrap().status, expected, "{bytes} bytes");
    }
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_taken_at_its_word() {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let origin = ScriptedOrigin::start(ANY, answer, Afterwards::Close).await.unwrap();
    let policy = route_policy("shop", "retry: {on: [503], attempts: 1}");
    let (_town, _web, entrance) = to(&[origin.address()], &policy).await;
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    let began = Instant::now();
    let answered = client.get("/").await.unwrap();
    assert_eq!((answered.status.as_u16(), origin.heard().len()), (503, 2));
    assert!(began.elapsed() >= Duration::from_secs(1), "it came back after {:?}", began.elapsed());
    // A request that would be over by then gets the answer as it is.
    let request = Request::get("/").header("x-outrigger-timeout-ms", "900").body(empty()).unwrap();
    assert_eq!(client.send(request).await.unwrap().status.as_u16(), 503);
    assert_eq!(origin.heard().len(), 3);
}

#[tokio::test]
async fn a_call_whose_head_says_unavailable_is_made_again() {
    let head =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n";
    let origin = ScriptedOrigin::start(ANY, head, Afterwards::Close).await.unwrap();
    let policy = route_policy("shop", "retry: {on: [unavailable], attempts: 2}");
    let (_town, _web, entrance) = to(&[origin.address()], &policy).await;
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    let answered = client.send(grpc("/a.B/C").body(full("\0\0\0\0\0")).unwrap()).await.unwrap();
    assert_eq!((answered.header("grpc-status"), origin.heard().len()), ("14", 3));
}

#[tokio::test]
async fn faults_are_made_on_purpose_and_said_in_the_language_of_the_caller() {
    let origin = Origin::start("shop", ANY).await.unwrap();
    let policy = route_policy("shop", "fault: {delay: {fixed: 300ms}, abort: {httpStatus: 429}}");
    let (_town, web, entrance) = to(&[origin.address()], &policy).await;
    let mut client = Client::connect(entrance, Version::HTTP_2).await.unwrap();
    let began = Instant::now();
    let answered = client.get("/fault").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300), "after {:?}", began.elapsed());
    assert_eq!((answered.status.as_u16(), answered.reason()), (429, ""));
    let called = client.send(grpc("/a.B/C").body(empty()).unwrap()).await.unwrap();
    assert_eq!((called.status.as_u16(), called.header("grpc-status"), called.reason()), (200, "14", ""));
    assert_eq!(origin.arrived(), 0);
    let line = logged(&web, "/fault").await.unwrap();
    assert_eq!((&line["route.name"], &line["status"]), (&"Service/shop/shop".into(), &429.into()), "{line}");
}

#[tokio::test]
async fn a_share_of_requests_meets_a_fault() {
    let origin = Origin::start("shop", ANY).await.unwrap();
    let policy = route_policy("shop", "fault: {abort: {percent: 25, httpStatus: 500}}");
    let (_town, _web, entrance) = to(&[origin.address()], &policy).await;
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    let mut failed = 0;
    for _ in 0..400 {
        failed += u32::from(client.get("/").await.unwrap().status == StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert!((60..=140).contains(&failed), "{failed} of 400 failed where a quarter should");
}

#[tokio::test]
async fn what_is_left_of_a_deadline_goes_from_hop_to_hop() {
    let origin = Origin::start("shop", ANY).await.unwrap();
    let (_town, _sidecars, entrance) = through_both(origin.address(), "").await;
    let mut client = Client::connect(entrance, Version::HTTP_2).await.unwrap();
    let request = Request::get("/").header("x-outrigger-timeout-ms", "20000");
    client.send(request.body(empty()).unwrap()).await.unwrap();
    client
        .send(grpc("/a.B/C").header("grpc-timeout", "20S").body(full("\0\0\0\0\0")).unwrap())
        .await
        .unwrap();
    let seen = origin.seen();
    let field = |index: usize, name: &str| seen[index].headers[name].to_str().unwrap().to_owned();
    for left in
        [field(0, "x-outrigger-timeout-ms"), field(1, "grpc-timeout").trim_end_matches('m').to_owned()]
    {
        let left: u64 = left.parse().unwrap();
        assert!((10_000..=20_000).contains(&left), "{left} ms are left");
    }
    // What is over goes nowhere.
    let call = grpc("/a.B/C").header("grpc-timeout", "0m").body(empty()).unwrap();
    let called = client.send(call).await.unwrap();
    assert_eq!((called.header("grpc-status"), called.reason()), ("4", "timeout"));
    assert_eq!(origin.arrived(), 2);
}

/// An application that never answers, and counts the requests it works for.
struct Worker {
    address: SocketAddr,
    at_work: Arc<AtomicU64>,
    _accept: JoinSet<()>,
}

struct AtWork(Arc<AtomicU64>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    async fn start() -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let (address, at_work) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let mut accept = JoinSet::new();
        let counter = Arc::clone(&at_work);
        accept.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                let service = service_fn(move |_: Request<Incoming>| {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let held = AtWork(Arc::clone(&counter));
                    async move {
                        std::future::pending::<()>().await;
                        drop(held);
                        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                connections.spawn(async move {
                    let served = auto::Builder::new(TokioExecutor::new());
                    drop(served.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, at_work, _accept: accept }
    }

    async fn works_for(&self, requests: u64) {
        let reached =
            eventually(PATIENCE, async || (self.at_work.load(Ordering::Relaxed) == requests).then_some(()));
        let reached = reached.await;
        assert!(reached.is_some(), "works for {} of {requests}", self.at_work.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn nobody_works_for_a_caller_that_has_gone_or_whose_time_is_over() {
    let worker = Worker::start().await;
    let (_town, _sidecars, entrance) = through_both(worker.address, "").await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = Client::connect(entrance, version).await.unwrap();
        let asking: JoinHandle<()> = tokio::spawn(async move { drop(client.get("/").await) });
        worker.works_for(1).await;
        asking.abort();
        worker.works_for(0).await;

        let mut client = Client::connect(entrance, version).await.unwrap();
        let request = Request::get("/").header("x-outrigger-timeout-ms", "300").body(empty()).unwrap();
        let answered = client.send(request).await.unwrap();
        assert_eq!((answered.status.as_u16(), answered.reason()), (504, "timeout"), "{version:?}");
        worker.works_for(0).await;
    }
}

#[tokio::test]
async fn an_inner_proxy_leaves_retries_to_an_outer_one() {
    let origin = Origin::start("shop", ANY).await.unwrap();
    let policy = route_policy("shop", "retry: {on: [503], attempts: 2}");
    let (_town, web, entrance) = to(&[origin.address()], &policy).await;
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    origin.fail_next(1000, Failure::Status(StatusCode::SERVICE_UNAVAILABLE));
    client.get("/").await.unwrap();
    let first = origin.seen().first().map(|seen| seen.headers["tracestate"].clone());
    assert_eq!((origin.arrived(), first), (3, Some("outrigger=r".parse().unwrap())));

    let request = Request::get("/")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("tracestate", "vendor=1,outrigger=r");
    let answered = client.send(request.body(empty()).unwrap()).await.unwrap();
    assert_eq!((answered.status.as_u16(), answered.header("x-outrigger-retries")), (503, ""));
    assert_eq!(origin.arrived(), 4, "it was tried again, although somebody else will");
    let left =
        metric(&web, "/metrics", "outrigger_upstream_retries_total", &["left_to_caller"]).await.unwrap();
    assert_eq!(left, 1.0);
}

/// Four applications in a row, each retrying what the next answers; the last one always fails.
#[tokio::test]
async fn a_chain_of_retries_makes_no_storm() {
    const REQUESTS: u64 = 250;
    let subnet = Subnet::claim();
    let last = Origin::start("d", ANY).await.unwrap();
    last.fail_next(u32::MAX, Failure::Status(StatusCode::SERVICE_UNAVAILABLE));
    let dialled = |number: u8| subnet.address(number, PORT);
    let mut yaml = String::new();
    for (name, number) in [("b", 2), ("c", 3), ("d", 4)] {
        yaml += &service(name, "http");
        yaml += &meshed(&format!("{name}-1"), name, dialled(number));
        yaml += &route_policy(name, "retry: {on: [5xx], attempts: 3, backoff: {base: 1ms}}");
        yaml += &backend_policy(name, "retryBudget: {percent: 20, minRetriesPerSecond: 1, interval: 10s}");
    }
    let (to_c, to_d) = (subnet.address(2, 9001), subnet.address(3, 9001));
    let town = Town::start(subnet, &yaml).await.unwrap();
    let dialled = |number: u8| town.subnet.address(number, PORT);
    let (b, c) = (Relay::start(ANY, to_c).await.unwrap(), Relay::start(ANY, to_d).await.unwrap());
    let _d = town.sidecar("d", &[inbound(dialled(4), last.address())]).await.unwrap();
    let _c = town.sidecar("c", &[inbound(dialled(3), c.address()), outbound(to_d, "d")]).await.unwrap();
    let _b = town.sidecar("b", &[inbound(dialled(2), b.address()), outbound(to_c, "c")]).await.unwrap();
    let (_web, entrance) = town.dialling(1, "b").await.unwrap();

    let began = Instant::now();
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    }
    // One retry a second is always allowed; the window starts with ten.
    let floor = 10 + began.elapsed().as_secs() + 1;
    let most = REQUESTS * 12 / 10 + floor;
    let arrived = last.arrived();
    println!("{arrived} for {REQUESTS} in {:?}", began.elapsed());
    assert!(arrived > REQUESTS, "nobody retried: {arrived} of {REQUESTS}");
    assert!(arrived <= most, "{arrived} requests reached the last one, {most} is the most for {REQUESTS}");
}

/// One in so many answers is late.
const LATE_ONE_IN: u64 = 90;
const LATE: Duration = Duration::from_millis(500);

/// An application that is fast, but for some answers.
async fn fast_but_for_some(arrived: Arc<AtomicU64>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut accept = JoinSet::new();
    accept.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let arrived = Arc::clone(&arrived);
            let service = service_fn(move |_: Request<Incoming>| {
                let number = arrived.fetch_add(1, Ordering::Relaxed);
                async move {
                    if number % LATE_ONE_IN == LATE_ONE_IN / 2 {
                        tokio::time::sleep(LATE).await;
                    }
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                }
            });
            connections.spawn(async move {
                drop(
                    auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    (address, accept)
}

/// The 99th percentile of the times of so many requests.
async fn p99(entrance: SocketAddr, requests: usize) -> Duration {
    const CLIENTS: usize = 4;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
            let mut times = Vec::new();
            for _ in 0..requests / CLIENTS {
                let began = Instant::now();
                assert_eq!(client.get("/").await.unwrap().status, StatusCode::OK);
                times.push(began.elapsed());
            }
            times
        });
    }
    let mut times = clients.join_all().await.concat();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test]
async fn hedging_cuts_the_tail_for_little_more_load() {
    const REQUESTS: usize = 2700;
    let arrived = Arc::<AtomicU64>::default();
    let (one, _one) = fast_but_for_some(Arc::clone(&arrived)).await;
    let (other, _other) = fast_but_for_some(Arc::clone(&arrived)).await;
    let plain = to(&[one, other], "").await;
    let without = p99(plain.2, REQUESTS).await;
    drop(plain);

    let policy = route_policy("shop", "hedge: {delayPercentile: 95, maxExtraPercent: 4}");
    let (_town, web, entrance) = to(&[one, other], &policy).await;
    // What is slow is learnt first.
    p99(entrance, 400).await;
    let before = arrived.load(Ordering::Relaxed);
    let with = p99(entrance, REQUESTS).await;
    let extra = (arrived.load(Ordering::Relaxed) - before) as f64 / REQUESTS as f64 - 1.0;
    println!("p99 {without:?} without hedging, {with:?} with it, {:.1} % more load", extra * 100.0);
    assert!(without >= LATE, "p99 is {without:?} without hedging");
    assert!(with * 5 <= without, "p99 is {with:?} with hedging and {without:?} without");
    assert!(extra < 0.05, "{:.1} % more load", extra * 100.0);
    let won = metric(&web, "/metrics", "outrigger_upstream_retries_total", &["hedge_won"]).await.unwrap();
    assert!(won > 0.0);
}
