//! Three times the load that an application can take, through two sidecars.
//!
//! What 100 requests a second make of the limit, to the percent and without a clock, is a test of the proxy's own. Here the
//! whole way is there, and a machine that may be busy with other things: so the load is small, what can be done is measured
//! first, and the margins are wide.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::*;

/// What the application works on at once, and for how long: 40 requests a second.
const WORKERS: usize = 4;
const WORK: Duration = Duration::from_millis(100);
/// What is sent a second.
const PER_SECOND: u32 = 120;
/// For so long it is seen what can be done here and now; the limit finds its place meanwhile.
const WARM_UP: Duration = Duration::from_secs(4);
const LASTS: Duration = Duration::from_secs(10);
/// HTTP/2 connections of the client.
const CONNECTIONS: usize = 4;
/// One request in so many is of the first class.
const FIRST_CLASS_EVERY: u32 = 6;

/// An application that makes requests wait when there are too many.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let places = Arc::new(Semaphore::new(WORKERS));
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let places = places.clone();
            let service = service_fn(move |_| {
                let places = places.clone();
                async move {
                    let _place = places.acquire().await?;
                    tokio::time::sleep(WORK).await;
                    anyhow::Ok(Response::new(Full::new(Bytes::from_static(b"done"))))
                }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            connections.spawn(async move {
                let served = builder.serve_connection(TokioIo::new(stream), service).await;
                drop(served);
            });
        }
    });
    address
}

#[derive(Debug, Default)]
struct Counts {
    sent: [AtomicU32; 2],
    served: [AtomicU32; 2],
}

async fn connect(address: SocketAddr) -> http2::SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

/// How many requests a second are answered when as many as the application works on are always under way.
async fn capacity(entrance: SocketAddr) -> f64 {
    let end = Instant::now() + WARM_UP;
    let sender = connect(entrance).await;
    let mut callers = JoinSet::new();
    for _ in 0..WORKERS {
        let mut sender = sender.clone();
        callers.spawn(async move {
            let mut served = 0;
            while Instant::now() < end {
                let request = Request::get(format!("http://{entrance}/")).body(Empty::new()).unwrap();
                let answer = sender.send_request(request).await.unwrap();
                served += u32::from(answer.status().is_success());
                answer.into_body().collect().await.unwrap();
            }
            served
        });
    }
    f64::from(callers.join_all().await.into_iter().sum::<u32>()) / WARM_UP.as_secs_f64()
}

/// Sends at an even rate, whatever becomes of the answers.
async fn send_for(entrance: SocketAddr, lasts: Duration) -> Arc<Counts> {
    let mut senders = Vec::new();
    for _ in 0..CONNECTIONS {
        senders.push(connect(entrance).await);
    }
    let counts = Arc::new(Counts::default());
    let mut requests = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + lasts;
    for number in 0_u32.. {
        if tick.tick().await >= end {
            break;
        }
        let class = usize::from(!number.is_multiple_of(FIRST_CLASS_EVERY));
        let request = Request::get(format!("http://{entrance}/")).header("x-priority", class);
        let request = request.body(Empty::new()).unwrap();
        let mut sender = senders[number as usize % CONNECTIONS].clone();
        let counts = counts.clone();
        requests.spawn(async move {
            counts.sent[class].fetch_add(1, Relaxed);
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            counts.served[class].fetch_add(u32::from(status.is_success()), Relaxed);
            anyhow::Ok(())
        });
    }
    while requests.join_next().await.is_some() {}
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_three_times_the_load_what_can_be_done_is_done() {
    let subnet = Subnet::claim();
    let (entrance, address) = (subnet.address(1, 9001), subnet.address(2, 9080));
    let policy =
        inbound_policy("storm", &format!("{FILES}, concurrency: {{}}, priorities: {{header: x-priority}}"));
    let yaml = service("files", "http") + &meshed("files-1", "files", address) + &policy;
    let town = Town::start(subnet, &yaml).await.unwrap();
    let application = application().await;
    let files = town.sidecar("files", &[inbound(address, application)]).await.unwrap();
    let _web = town.sidecar("web", &[outbound(entrance, "files")]).await.unwrap();

    town.mesh.write("mesh.yaml", &mesh_config("Strict").replace("enabled: true", "enabled: false")).unwrap();
    let capacity = capacity(entrance).await;
    let counts = send_for(entrance, LASTS).await;
    let [first, other] = [0, 1].map(|class| f64::from(counts.served[class].load(Relaxed)));
    let goodput = (first + other) * 100.0 / (capacity * LASTS.as_secs_f64());
    let served = |class: usize, served: f64| served * 100.0 / f64::from(counts.sent[class].load(Relaxed));
    let (first_class, others) = (served(0, first), served(1, other));
    let limit = metric(&files, "/metrics", "outrigger_inbound_concurrency_limit", &[]).await.unwrap();
    let figures = format!(
        "{capacity:.1}/s can be done: goodput {goodput:.1} % of it, {first_class:.1} % of the first class served, \
         {others:.1} % of the others, limit {limit}"
    );
    println!("{figures}");
    assert!(goodput >= 60.0, "{figures}");
    assert!(first_class >= 1.5 * others, "{figures}");
    assert!(limit < 200.0, "a limit that everything fits into is none: {figures}");
}
