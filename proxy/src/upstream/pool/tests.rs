//! Pools against real servers on loopback, in the same runtime.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_model::policy::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, LocalSet, yield_now};

use super::*;
use crate::http::Body;
use crate::reason::{Reason, Seen};
use crate::upstream::support::{cluster, metric, shared};
use crate::upstream::{LimitsView, Message, SendError};

/// A server that counts its connections. `/hang` never answers, `/body` answers with one, `/close` ends the connection after its answer.
struct Server {
    address: SocketAddr,
    open: Rc<Cell<usize>>,
    accepted: Rc<Cell<usize>>,
    /// Dropping it ends all connections.
    tasks: Rc<RefCell<JoinSet<()>>>,
}

struct Open(Rc<Cell<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Server {
    async fn start(version: HttpVersion, max_streams: u32) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            open: Rc::default(),
            accepted: Rc::default(),
            tasks: Rc::default(),
        };
        let (open, accepted, tasks) = (server.open.clone(), server.accepted.clone(), server.tasks.clone());
        tokio::task::spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                accepted.set(accepted.get() + 1);
                open.set(open.get() + 1);
                let guard = Open(open.clone());
                tasks.borrow_mut().spawn_local(async move {
                    let _guard = guard;
                    let service = service_fn(answer);
                    match version {
                        HttpVersion::Http1 => {
                            let server = hyper::server::conn::http1::Builder::new();
                            let _ = server.serve_connection(TokioIo::new(tcp), service).await;
                        }
                        HttpVersion::Http2 => {
                            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            server.max_concurrent_streams(max_streams);
                            let _ = server.serve_connection(TokioIo::new(tcp), service).await;
                        }
                    }
                });
            }
        });
        server
    }

    fn target(&self, version: HttpVersion) -> Target {
        Target { address: self.address, security: Security::Plaintext, version }
    }
}

async fn answer(request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        "/hang" => std::future::pending().await,
        "/close" => {
            Ok(Response::builder().header(header::CONNECTION, "close").body(Full::default()).expect("valid"))
        }
        "/body" => Ok(Response::new(Full::from("body"))),
        _ => Ok(Response::new(Full::default())),
    }
}

fn request(path: &str) -> Message {
    let uri = format!("http://reviews.shop{path}");
    let request = Request::builder().uri(uri).header(header::HOST, "reviews.shop").body(()).unwrap();
    Message::whole(request.into_parts().0, Bytes::new())
}

/// Waits for a value that other tasks of the runtime bring about.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1_000_000 {
        if condition() {
            return;
        }
        yield_now().await;
    }
    panic!("never came true: {what}");
}

struct Client {
    pools: Rc<Pools>,
    policy: ConnectionPolicy,
    cluster: Option<Arc<Cluster>>,
}

impl Client {
    fn new() -> Self {
        let pools = Rc::new(Pools::new(shared()));
        Self { pools, policy: ConnectionPolicy::default(), cluster: None }
    }

    fn limited(limits: Limits) -> Self {
        let client = Self::new();
        let cluster = cluster(&client.pools.shared.telemetry, |config| config.limits = limits, 0);
        Self { cluster: Some(cluster), ..client }
    }

    async fn connection(&self, target: &Target) -> Result<Connection, DialError> {
        self.pools.connection(target, &self.policy, self.cluster.as_ref()).await
    }

    /// A whole request; says whether its connection was used before.
    async fn get(&self, target: &Target, path: &str) -> Result<bool, SendError> {
        let connection = self.connection(target).await.expect("connects");
        let reused = connection.reused();
        let response = connection.send(&mut request(path)).await?;
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect("whole body");
        Ok(reused)
    }

    fn limits(&self) -> LimitsView {
        self.cluster.as_ref().unwrap().view(Instant::now()).limits
    }

    fn targets(&self) -> usize {
        self.pools.state.targets.borrow().len()
    }
}

const HTTP1: HttpVersion = HttpVersion::Http1;
const HTTP2: HttpVersion = HttpVersion::Http2;

#[tokio::test]
async fn a_connection_is_used_again_once_it_was_released() {
    LocalSet::new()
        .run_until(async {
            for version in [HTTP1, HTTP2] {
                let (server, client) = (Server::start(version, 100).await, Client::new());
                let target = server.target(version);
                assert!(!client.get(&target, "/").await.unwrap());
                for _ in 0..5 {
                    assert!(client.get(&target, "/").await.unwrap(), "{version:?}");
                }
                assert_eq!(server.accepted.get(), 1, "{version:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn an_http1_connection_that_is_dropped_is_closed() {
    LocalSet::new()
        .run_until(async {
            let (server, client) = (Server::start(HTTP1, 100).await, Client::new());
            let target = server.target(HTTP1);
            let connection = client.connection(&target).await.unwrap();
            let response = connection.send(&mut request("/body")).await.unwrap();
            drop(response);
            until("closed", || server.open.get() == 0).await;
            assert!(!client.get(&target, "/").await.unwrap());
        })
        .await;
}

#[tokio::test]
async fn a_connection_the_peer_says_it_closes_is_not_kept() {
    LocalSet::new()
        .run_until(async {
            let (server, client) = (Server::start(HTTP1, 100).await, Client::new());
            let target = server.target(HTTP1);
            client.get(&target, "/close").await.unwrap();
            assert!(!client.get(&target, "/").await.unwrap());
            assert_eq!(server.accepted.get(), 2);
        })
        .await;
}

#[tokio::test]
async fn an_idle_connection_that_the_peer_closed_is_noticed_and_skipped() {
    LocalSet::new()
        .run_until(async {
            for version in [HTTP1, HTTP2] {
                let (server, client) = (Server::start(version, 100).await, Client::new());
                let target = server.target(version);
                client.get(&target, "/").await.unwrap();
                server.tasks.borrow_mut().abort_all();
                until("the pool notices", || {
                    client.pools.state.sweep(Instant::now());
                    client.targets() == 0
                })
                .await;
                assert!(!client.get(&target, "/").await.unwrap(), "{version:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_request_on_a_connection_just_closed_comes_back_unsent() {
    LocalSet::new()
        .run_until(async {
            let (server, client) = (Server::start(HTTP1, 100).await, Client::new());
            let target = server.target(HTTP1);
            client.get(&target, "/").await.unwrap();
            let connection = client.connection(&target).await.unwrap();
            assert!(connection.reused());
            server.tasks.borrow_mut().abort_all();
            until("closed", || server.open.get() == 0).await;
            let mut again = request("/again");
            let error = connection.send(&mut again).await.unwrap_err();
            assert_eq!((error.seen, again.can_be_sent()), (Seen::Never, true));
            let fresh = client.connection(&target).await.unwrap();
            assert!(!fresh.reused() && fresh.send(&mut again).await.is_ok());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn connections_end_by_idleness_and_by_age() {
    LocalSet::new()
        .run_until(async {
            for version in [HTTP1, HTTP2] {
                let server = Server::start(version, 100).await;
                let target = server.target(version);
                let mut client = Client::new();
                client.policy.idle_timeout = Duration::from_secs(60);
                client.policy.max_lifetime = Duration::from_secs(100);
                client.get(&target, "/").await.unwrap();
                tokio::time::advance(Duration::from_secs(59)).await;
                assert!(client.get(&target, "/").await.unwrap(), "{version:?}: not idle for long");
                tokio::time::advance(Duration::from_secs(42)).await;
                assert!(!client.get(&target, "/").await.unwrap(), "{version:?}: too old");
                tokio::time::advance(Duration::from_secs(61)).await;
                until("swept without being asked for", || server.open.get() == 0 && client.targets() == 0)
                    .await;
                until("and the sweeper rests", || !client.pools.state.sweeping.get()).await;
                assert!(!client.get(&target, "/").await.unwrap(), "{version:?}: idle for too long");
            }
        })
        .await;
}

#[tokio::test]
async fn at_the_limit_a_request_waits_for_a_connection_to_come_back() {
    LocalSet::new()
        .run_until(async {
            let client = Client::limited(Limits { max_connections: 1, ..Limits::default() });
            let server = Server::start(HTTP1, 100).await;
            let target = server.target(HTTP1);
            let first = client.connection(&target).await.unwrap();
            let mut asked = request("/body");
            let first = first.send(&mut asked).await.unwrap();
            let second = async {
                let connection = client.connection(&target).await.unwrap();
                assert!(connection.reused(), "the one that came back");
                connection
            };
            let release = async {
                until("it waits", || client.limits().pending_requests.current == 1).await;
                assert_eq!(client.limits().connections.current, 1);
                first.into_body().collect().await.unwrap();
            };
            let (second, ()) = tokio::join!(second, release);
            assert_eq!(client.limits().pending_requests.current, 0);
            drop(second);
            until("the place is free", || client.limits().connections.current == 0).await;
            let telemetry = &client.pools.shared.telemetry;
            assert_eq!(metric(telemetry, "outrigger_upstream_overflow_total", "limit=\"connections\""), 1.0);
            assert_eq!(metric(telemetry, "outrigger_upstream_connections", "reviews"), 0.0);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_an_idle_connection_to_another_endpoint_makes_place() {
    LocalSet::new()
        .run_until(async {
            for version in [HTTP1, HTTP2] {
                let client = Client::limited(Limits { max_connections: 1, ..Limits::default() });
                let (one, other) = (Server::start(version, 100).await, Server::start(version, 100).await);
                client.get(&one.target(version), "/").await.unwrap();
                let start = Instant::now();
                client.get(&other.target(version), "/").await.unwrap();
                assert_eq!(start.elapsed(), Duration::ZERO, "{version:?}: at once, not with the next sweep");
                assert_eq!(client.limits().connections.current, 1, "{version:?}");
                until("closed", || one.open.get() == 0).await;
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn another_worker_gets_an_idle_place_within_a_sweep() {
    LocalSet::new()
        .run_until(async {
            let client = Client::limited(Limits { max_connections: 1, ..Limits::default() });
            let server = Server::start(HTTP1, 100).await;
            client.get(&server.target(HTTP1), "/").await.unwrap();
            let other_worker = Client { cluster: client.cluster.clone(), ..Client::new() };
            let start = Instant::now();
            assert!(!other_worker.get(&server.target(HTTP1), "/").await.unwrap());
            assert!(start.elapsed() <= SWEEP_INTERVAL);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn waiting_has_an_end_and_a_bound() {
    LocalSet::new()
        .run_until(async {
            let limits = Limits { max_connections: 1, max_pending_requests: 1, ..Limits::default() };
            let client = Client::limited(limits);
            let server = Server::start(HTTP1, 100).await;
            let target = server.target(HTTP1);
            let _held = client.connection(&target).await.unwrap();
            let start = Instant::now();
            let third = async {
                until("the second waits", || client.limits().pending_requests.current == 1).await;
                client.connection(&target).await
            };
            let (second, third) = tokio::join!(client.connection(&target), third);
            let third = third.unwrap_err();
            assert_eq!(third.reason, Reason::Overflow);
            assert!(
                third.to_string().contains("pending_requests of cluster outbound|9080|reviews.shop"),
                "{third}"
            );
            assert_eq!(second.unwrap_err().reason, Reason::Overflow);
            assert_eq!(start.elapsed(), MAX_CONNECTION_WAIT);
            let given_up = tokio::time::timeout(Duration::from_secs(1), client.connection(&target)).await;
            assert!(given_up.is_err());
            assert_eq!(
                client.limits().pending_requests.current,
                0,
                "a future dropped while waiting gives back"
            );
            assert!(!client.cluster.as_ref().unwrap().live().counts.somebody_waits());
        })
        .await;
}

#[tokio::test]
async fn requests_that_come_together_share_an_http2_connection() {
    LocalSet::new()
        .run_until(async {
            let (server, client) = (Server::start(HTTP2, 1000).await, Client::new());
            let target = server.target(HTTP2);
            let all = (0..250).map(|_| client.connection(&target));
            let held = futures_util::future::join_all(all).await;
            assert!(held.iter().all(Result::is_ok));
            assert_eq!(server.accepted.get(), 3, "100 streams each");
            let one_more = client.connection(&target).await.unwrap();
            assert!(one_more.reused());
            drop(held);
            drop(one_more);
            assert!(client.get(&target, "/").await.unwrap());
        })
        .await;
}

#[tokio::test]
async fn the_peers_bound_on_streams_is_kept() {
    LocalSet::new()
        .run_until(async {
            let (server, client) = (Server::start(HTTP2, 10).await, Client::new());
            let target = server.target(HTTP2);
            client.get(&target, "/").await.unwrap();
            let mut held = Vec::new();
            for _ in 0..10 {
                held.push(client.connection(&target).await.unwrap());
            }
            assert!(!client.connection(&target).await.unwrap().reused());
            assert_eq!(server.accepted.get(), 2);
        })
        .await;
}

#[tokio::test]
async fn at_the_limit_a_stream_that_ends_makes_place() {
    LocalSet::new()
        .run_until(async {
            let client = Client::limited(Limits { max_connections: 1, ..Limits::default() });
            let server = Server::start(HTTP2, 1000).await;
            let target = server.target(HTTP2);
            let mut held = Vec::new();
            for _ in 0..http2::MAX_STREAMS {
                held.push(client.connection(&target).await.unwrap());
            }
            let end_one = async {
                until("the next waits", || client.limits().pending_requests.current == 1).await;
                held.pop();
            };
            let (next, ()) = tokio::join!(client.connection(&target), end_one);
            assert!(next.is_ok());
            assert_eq!(server.accepted.get(), 1);
        })
        .await;
}

#[tokio::test]
async fn who_waits_for_a_connection_that_fails_is_told_why() {
    LocalSet::new()
        .run_until(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let client = Client::limited(Limits::default());
            for version in [HTTP1, HTTP2] {
                let target = Target { address, security: Security::Plaintext, version };
                let all = (0..3).map(|_| client.connection(&target));
                for failed in futures_util::future::join_all(all).await {
                    let error = failed.unwrap_err();
                    assert_eq!(error.reason, Reason::ConnectFailed);
                    assert_eq!(error.to_string(), format!("no connection to {address}: TCP connect failed"));
                }
                let limits = client.limits();
                assert_eq!((limits.connections.current, limits.pending_requests.current), (0, 0));
            }
        })
        .await;
}

#[tokio::test]
async fn giving_up_a_request_closes_http1_and_resets_only_the_stream_of_http2() {
    LocalSet::new()
        .run_until(async {
            for (version, open_after) in [(HTTP1, 0), (HTTP2, 1)] {
                let client = Client::limited(Limits::default());
                let server = Server::start(version, 100).await;
                let target = server.target(version);
                client.get(&target, "/").await.unwrap();
                let connection = client.connection(&target).await.unwrap();
                {
                    let mut hanging = request("/hang");
                    let mut sending = pin!(connection.send(&mut hanging));
                    for _ in 0..10 {
                        assert!(futures_util::poll!(sending.as_mut()).is_pending());
                        yield_now().await;
                    }
                }
                until("settled", || server.open.get() == open_after).await;
                until("counted", || client.limits().connections.current == open_after as u32).await;
            }
        })
        .await;
}

/// An HTTP/2 peer made of bytes: `answer` is written once a request head has come.
async fn raw_http2(answer: &'static [u8]) -> SocketAddr {
    const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut preface = [0; 24];
        tcp.read_exact(&mut preface).await.unwrap();
        tcp.write_all(EMPTY_SETTINGS).await.unwrap();
        loop {
            let mut head = [0; 9];
            tcp.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            tcp.read_exact(&mut vec![0; length]).await.unwrap();
            if head[3] == HEADERS {
                break;
            }
        }
        tcp.write_all(answer).await.unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    });
    address
}

#[tokio::test]
async fn what_the_peer_says_it_did_not_process_is_never_seen() {
    const REFUSED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    const CANCELLED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    const GOAWAY_BEFORE: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const NO_FRAME: &[u8] = &[0, 0, 5, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    LocalSet::new()
        .run_until(async {
            for (answer, reason, seen) in [
                (REFUSED, Reason::UpstreamReset, Seen::Never),
                (CANCELLED, Reason::UpstreamReset, Seen::Perhaps),
                (GOAWAY_BEFORE, Reason::UpstreamReset, Seen::Never),
                (NO_FRAME, Reason::UpstreamProtocol, Seen::Perhaps),
            ] {
                let address = raw_http2(answer).await;
                let target = Target { address, security: Security::Plaintext, version: HTTP2 };
                let error = Client::new().get(&target, "/").await.unwrap_err();
                assert_eq!((error.reason, error.seen), (reason, seen), "{answer:?}: {error:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn many_idle_connections_that_were_closed_are_all_passed_over() {
    LocalSet::new()
        .run_until(async {
            let (server, client) = (Server::start(HTTP1, 100).await, Client::new());
            let target = server.target(HTTP1);
            // More than tokio lets one task look at in one turn.
            let mut answers = Vec::new();
            for _ in 0..200 {
                let connection = client.connection(&target).await.unwrap();
                answers.push(connection.send(&mut request("/body")).await.unwrap());
            }
            for answer in answers {
                answer.into_body().collect().await.unwrap();
            }
            server.tasks.borrow_mut().abort_all();
            until("closed", || server.open.get() == 0).await;
            yield_now().await;
            assert!(!client.get(&target, "/").await.unwrap());
        })
        .await;
}

#[tokio::test]
async fn interim_answers_are_passed_over_up_to_a_bound() {
    LocalSet::new()
        .run_until(async {
            for (count, fits) in [(1, true), (16, true), (17, false), (500, false)] {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                let address = listener.local_addr().unwrap();
                let answer = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
                let answer = answer + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                tokio::task::spawn_local(async move {
                    let (mut tcp, _) = listener.accept().await.unwrap();
                    let _ = tcp.read(&mut [0; 1024]).await.unwrap();
                    tcp.write_all(answer.as_bytes()).await.unwrap();
                    let _ = tcp.read_to_end(&mut Vec::new()).await;
                });
                let target = Target { address, security: Security::Plaintext, version: HTTP1 };
                let got = Client::new().get(&target, "/").await;
                assert_eq!(got.is_ok(), fits, "{count}: {got:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn what_is_not_http_is_told_from_a_connection_that_ends() {
    LocalSet::new()
        .run_until(async {
            for (answer, reason) in
                [(&b"SSH-2.0-OpenSSH_9\r\n\r\n"[..], Reason::UpstreamProtocol), (b"", Reason::UpstreamReset)]
            {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::task::spawn_local(async move {
                    let (mut tcp, _) = listener.accept().await.unwrap();
                    let mut head = [0; 1024];
                    let _ = tcp.read(&mut head).await.unwrap();
                    tcp.write_all(answer).await.unwrap();
                });
                let target = Target { address, security: Security::Plaintext, version: HTTP1 };
                let error = Client::new().get(&target, "/").await.unwrap_err();
                assert_eq!((error.reason, error.seen), (reason, Seen::Perhaps), "{error:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_its_bytes_end() {
    LocalSet::new()
        .run_until(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::task::spawn_local(async move {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let _ = tcp.read(&mut head).await.unwrap();
                let switch =
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nearly";
                tcp.write_all(switch).await.unwrap();
                let _ = tcp.read_to_end(&mut Vec::new()).await;
            });
            let client = Client::limited(Limits::default());
            let target = Target { address, security: Security::Plaintext, version: HTTP1 };
            let connection = client.connection(&target).await.unwrap();
            let upgrade = Request::builder().uri("/").header(header::UPGRADE, "x");
            let upgrade = upgrade.header(header::CONNECTION, "upgrade").body(Body::Empty).unwrap();
            let response = connection.send(&mut Message::once(upgrade)).await.unwrap();
            let (mut head, received) = response.into_parts();
            let mut switched = received.switch(&mut head.extensions).done().await.unwrap();
            let mut first = [0; 5];
            switched.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"early", "what came with the head is read first");
            for _ in 0..100 {
                yield_now().await;
            }
            assert_eq!(client.limits().connections.current, 1);
            drop(switched);
            assert_eq!(client.limits().connections.current, 0);
        })
        .await;
}
