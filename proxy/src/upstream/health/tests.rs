//! Real servers on loopback are asked, and what they answer decides who is chosen.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_base::tls::MeshTls;
use outrigger_model::endpoint::{Endpoint as EndpointConfig, Endpoints};
use outrigger_model::health_check::Probe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::upstream::support::{self, Ca, config, endpoints, metric};
use crate::upstream::{Affinity, EndpointStateView, PickContext};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const REVIEWS: &str = "spiffe://cluster.local/ns/shop/sa/reviews";

fn policy(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(10),
        healthy_threshold: 2,
        unhealthy_threshold: 3,
    }
}

fn http_probe() -> Probe {
    Probe::Http { path: "/healthz?x".into(), statuses: vec![200..=299] }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    listener().await.1
}

/// Checks of a cluster with these endpoints.
fn checks(shared: &Arc<Shared>, probe: Probe, members: Vec<EndpointConfig>) -> Checks {
    let check = policy(probe);
    let config = config(|config| config.health_check = Some(check.clone()));
    let cluster = Cluster::new(config, None, &shared.telemetry);
    cluster.set_endpoints(&endpoints(members), &shared.telemetry);
    Checks { shared: shared.clone(), cluster, check }
}

impl Checks {
    fn endpoint(&self, place: usize) -> Arc<Endpoint> {
        self.cluster.live().endpoints.load().all()[place].clone()
    }

    /// So many checks of an endpoint; the state after each.
    async fn times(&self, times: usize, place: usize) -> Vec<EndpointStateView> {
        let mut states = Vec::new();
        for _ in 0..times {
            self.once(self.endpoint(place), Arc::new(Semaphore::new(1))).await;
            states.push(self.cluster.view(Instant::now()).endpoints[place].state);
        }
        states
    }

    /// The addresses that many requests go to, each once.
    fn chosen(&self) -> Vec<SocketAddr> {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut chosen: Vec<_> = (0..200)
            .map(|_| {
                let mut context = PickContext {
                    now: Instant::now(),
                    rng: &mut rng,
                    tried: &[],
                    affinity: Affinity::default(),
                };
                self.cluster.lease(&mut context).unwrap().endpoint().config().address
            })
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}

const HEALTHY: EndpointStateView = EndpointStateView::Healthy;
const UNHEALTHY: EndpointStateView = EndpointStateView::Unhealthy;

/// Answers each connection with the next status, and keeps what it was asked.
async fn http_server(statuses: &[u16]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let (listener, address) = listener().await;
    let mut statuses: VecDeque<u16> = statuses.iter().copied().collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut head = vec![0; 1024];
            let read = tcp.read(&mut head).await.unwrap_or(0);
            kept.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).into_owned());
            let status = statuses.pop_front().unwrap_or(500);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
            tcp.write_all(answer.as_bytes()).await.ok();
        }
    });
    (address, asked)
}

#[tokio::test]
async fn http_statuses_decide_who_is_chosen() {
    let shared = support::shared();
    let (flaky, asked) = http_server(&[200, 503, 404, 503, 204, 200]).await;
    let (steady, _) = http_server(&[]).await;
    let checks = checks(&shared, http_probe(), vec![support::at(flaky), support::at(steady)]);
    assert_eq!(checks.chosen().len(), 2);
    assert_eq!(checks.times(4, 0).await, [HEALTHY, HEALTHY, HEALTHY, UNHEALTHY]);
    assert_eq!(checks.chosen(), [steady]);
    let state = |state| metric(&shared.telemetry, "outrigger_upstream_endpoints", state);
    assert_eq!((state("\"unhealthy\""), state("\"healthy\"")), (1.0, 1.0));
    assert_eq!(checks.times(2, 0).await, [UNHEALTHY, HEALTHY]);
    assert_eq!(checks.chosen().len(), 2);
    let head = asked.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /healthz?x http/1.1\r\n"), "{head}");
    assert!(head.contains("host: reviews.shop:9080\r\n"), "{head}");
}

/// A gRPC server whose health service answers with a serving status, or with a gRPC status.
async fn grpc_server(answer: Result<u8, &'static str>) -> (SocketAddr, Arc<Mutex<Vec<Bytes>>>) {
    use http_body_util::BodyExt;
    let (listener, address) = listener().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let kept = kept.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = kept.clone();
                async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    assert_eq!(request.headers()["content-type"], "application/grpc");
                    let question = request.collect().await.unwrap().to_bytes();
                    kept.lock().unwrap().push(question);
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", answer.err().unwrap_or("0").parse().unwrap());
                    let message = answer.ok().map(|status| {
                        Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status])))
                    });
                    let frames = message.into_iter().chain([Ok(Frame::trailers(trailers))]);
                    let body = StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>()));
                    let response = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(response.body(body).unwrap())
                }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(tcp), service));
        }
    });
    (address, asked)
}

#[tokio::test]
async fn grpc_servers_say_whether_they_serve() {
    let shared = support::shared();
    for (answer, expected) in
        [(Ok(1), HEALTHY), (Ok(2), UNHEALTHY), (Ok(3), UNHEALTHY), (Err("12"), UNHEALTHY)]
    {
        let (address, asked) = grpc_server(answer).await;
        let probe = Probe::Grpc { service: "shop".into() };
        let checks = checks(&shared, probe, vec![support::at(address)]);
        assert_eq!(checks.times(3, 0).await[2], expected, "{answer:?}");
        let expected: &[u8] = b"\0\0\0\0\x06\x0a\x04shop";
        assert_eq!(asked.lock().unwrap()[0], expected);
    }
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let shared = support::shared();
    let (_kept, open) = listener().await;
    let checks = checks(&shared, Probe::Tcp, vec![support::at(open), support::at(nobody().await)]);
    assert_eq!(checks.times(3, 0).await[2], HEALTHY);
    assert_eq!(checks.times(3, 1).await[2], UNHEALTHY);
}

/// A sidecar; behind it the application takes connections, or refuses them.
async fn sidecar(tls: Arc<MeshTls>, application_is_up: bool) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(tls.server());
        let mut kept = Vec::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            match application_is_up {
                true => kept.push(tls),
                false => tls.shutdown().await.unwrap_or(()),
            }
        }
    });
    address
}

#[tokio::test]
async fn behind_a_sidecar_it_is_the_application_that_counts() {
    let (ca, shared) = (Ca::new(), support::shared());
    shared.tls.store(Some(ca.member(WEB)));
    let meshed = |address, identity: &str| EndpointConfig {
        identity: Some(identity.parse().unwrap()),
        ..support::at(address)
    };
    let up = meshed(sidecar(ca.member(REVIEWS), true).await, REVIEWS);
    let down = meshed(sidecar(ca.member(REVIEWS), false).await, REVIEWS);
    let stranger = meshed(sidecar(ca.member(WEB), true).await, REVIEWS);
    let mut checks = checks(&shared, Probe::Tcp, vec![up, down, stranger]);
    checks.check.timeout = Duration::from_millis(400);
    assert_eq!(checks.times(3, 0).await[2], HEALTHY);
    checks.check.timeout = Duration::from_secs(10);
    assert_eq!(checks.times(3, 1).await[2], UNHEALTHY, "the application refuses");
    assert_eq!(checks.times(3, 2).await[2], UNHEALTHY, "another identity answers");
}

#[test]
fn below_half_all_are_used() {
    for (total, unhealthy, expected) in
        [(1, 0, true), (1, 1, false), (2, 1, true), (3, 2, false), (4, 2, true), (10, 6, false), (0, 0, true)]
    {
        assert_eq!(leaves_out(total, unhealthy), expected, "{unhealthy} of {total}");
    }
}

#[tokio::test]
async fn when_too_many_fail_all_are_used_and_shown() {
    let shared = support::shared();
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(support::at(nobody().await));
    }
    let checks = checks(&shared, Probe::Tcp, members);
    checks.times(3, 0).await;
    assert_eq!(checks.chosen().len(), 2);
    checks.times(3, 1).await;
    assert_eq!(checks.chosen().len(), 3, "two of three fail: that says nothing about endpoints");
    let states: Vec<_> = checks.cluster.view(Instant::now()).endpoints.iter().map(|it| it.state).collect();
    assert_eq!(states, [UNHEALTHY, UNHEALTHY, HEALTHY]);
}

#[tokio::test]
async fn what_is_known_stays_when_endpoints_change_and_goes_with_the_checks() {
    let shared = support::shared();
    let (bad, good) = (support::at(nobody().await), support::at(nobody().await));
    let checks = checks(&shared, Probe::Tcp, vec![bad.clone(), good.clone()]);
    checks.times(3, 0).await;
    let newcomer = support::at(nobody().await);
    let all = Endpoints {
        cluster: checks.cluster.config().name.clone(),
        endpoints: vec![EndpointConfig { weight: 2, ..bad.clone() }, good.clone(), newcomer.clone()],
    };
    checks.cluster.set_endpoints(&all, &shared.telemetry);
    let mut expected = vec![good.address, newcomer.address];
    expected.sort_unstable();
    assert_eq!(checks.chosen(), expected);
    let unchecked = Cluster::new(config(|_| {}), Some(&checks.cluster), &shared.telemetry);
    let view = unchecked.view(Instant::now());
    assert!(view.endpoints.iter().all(|endpoint| endpoint.state == HEALTHY), "{view:?}");
}

#[tokio::test]
async fn clusters_in_use_are_checked_and_no_others() {
    let shared = support::shared();
    let checks = checks(&shared, Probe::Tcp, vec![support::at(nobody().await)]);
    let cluster = checks.cluster.clone();
    let (sender, receiver) = watch::channel(vec![cluster.clone()]);
    let running = tokio::spawn(run(shared.clone(), receiver));
    let is_unhealthy = || cluster.view(Instant::now()).endpoints[0].state == UNHEALTHY;
    let found = async {
        while !is_unhealthy() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), found).await.expect("the endpoint was never checked");
    sender.send(Vec::new()).unwrap();
    // The cluster is held by the test and, until it is let go, by its task.
    drop(checks);
    let let_go = async {
        while Arc::strong_count(&cluster) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), let_go).await.expect("a cluster that is gone is still checked");
    running.abort();
}
